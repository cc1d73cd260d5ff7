// SPDX-License-Identifier: Apache-2.0
//! Runs one program within its deadline.
//!
//! One thread talks to all of its streams at once, and to its pidfd: a hook that does not read, floods either of its
//! outputs, closes them and stays, or leaves somebody behind who keeps them open, costs its deadline and no more.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// The most that it may answer.
const OUTPUT: usize = 64 << 10;
/// So much of what it complains is told.
const COMPLAINT: usize = 512;
/// What it finds its programs by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs it to its end; what it answered.
pub(crate) fn run(
    program: &Path,
    point: &str,
    question: &[u8],
    deadline: Duration,
) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command
        .arg(point)
        .env_clear()
        .env("PATH", PATH)
        .env("BERTH_HOOK", point)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = berth_sys::session::unblock(&mut command)
        .spawn()
        .map_err(|error| format!("does not start: {error}"))?;
    let talked = talk(&mut child, question, deadline);
    // Whatever it left in its group goes with it, before it is reaped: its number is its own until then.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let status = child.wait().map_err(|error| format!("can not be waited for: {error}"))?;
    let (output, complaint) = talked?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        let said = match complaint.trim() {
            "" => String::new(),
            text => format!(": {}", text.escape_debug()),
        };
        return Err(format!("failed ({status}){said}"));
    }
    Ok(output)
}

fn io(what: &'static str) -> impl Fn(rustix::io::Errno) -> String {
    move |error| format!("can not be talked to: {what}: {error}")
}

/// Until it exits: what it answered, and what it complained.
fn talk(child: &mut Child, question: &[u8], deadline: Duration) -> Result<(Vec<u8>, Vec<u8>), String> {
    let end = Instant::now() + deadline;
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).map_err(io("open its pidfd"))?;
    let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    for stream in
        [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)]
            .into_iter()
            .flatten()
    {
        let flags = fcntl_getfl(stream).map_err(io("read a pipe's flags"))?;
        fcntl_setfl(stream, flags | OFlags::NONBLOCK).map_err(io("set a pipe's flags"))?;
    }
    let (mut left, mut output, mut complaint) = (question, Vec::new(), Vec::new());
    loop {
        let exited = {
            let mut all = vec![PollFd::new(&pidfd, PollFlags::IN)];
            all.extend(stdin.as_ref().map(|stream| PollFd::new(stream, PollFlags::OUT)));
            all.extend(stdout.as_ref().map(|stream| PollFd::new(stream, PollFlags::IN)));
            all.extend(stderr.as_ref().map(|stream| PollFd::new(stream, PollFlags::IN)));
            let remaining = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(remaining).ok();
            let none = match poll(&mut all, timeout.as_ref()) {
                Ok(0) => true,
                Ok(_) | Err(rustix::io::Errno::INTR) => false,
                Err(error) => return Err(io("poll its streams")(error)),
            };
            if none || remaining.is_zero() {
                return Err(format!("did not end within {} s, and was killed", deadline.as_secs_f32()));
            }
            !all[0].revents().is_empty()
        };
        if let Some(stream) = &mut stdin
            && give(stream, &mut left)
        {
            stdin = None;
        }
        if take(&mut stdout, &mut output, OUTPUT + 1) {
            stdout = None;
        }
        if output.len() > OUTPUT {
            return Err(format!("answered more than {OUTPUT} bytes, and was killed"));
        }
        if take(&mut stderr, &mut complaint, COMPLAINT) {
            stderr = None;
        }
        // All that it wrote was there before it exited, and has been read.
        if exited {
            return Ok((output, complaint));
        }
    }
}

/// Writes what it takes now; whether that was all, or it takes no more.
fn give(stream: &mut impl Write, left: &mut &[u8]) -> bool {
    while !left.is_empty() {
        match stream.write(left) {
            Ok(count) => *left = &left[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // One that does not want the question may still answer.
            Err(_) => return true,
        }
    }
    true
}

/// Reads what is there, and keeps so much of it; whether it was the end. A pipe holds 64 KiB, and a flood is looked at
/// again after the deadline.
fn take(stream: &mut Option<impl Read>, kept: &mut Vec<u8>, most: usize) -> bool {
    let Some(stream) = stream else { return false };
    let mut piece = [0; 8192];
    for _ in 0..16 {
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(count) => {
                let room = most.saturating_sub(kept.len()).min(count);
                kept.extend_from_slice(&piece[..room]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
    false
}
