// SPDX-License-Identifier: Apache-2.0
//! The two processes of a container: its first one, and `lxc-start`, which stands beside it, outlives the agent, and writes
//! down how the first one ended.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_model::WaitStatus;
use berth_record::Process;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// A container's first process.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    pub(crate) process: Process,
    pub(crate) fd: Arc<OwnedFd>,
}

/// Opens a process, if it is still the one that is meant.
pub(crate) fn open(process: Process) -> Option<OwnedFd> {
    let fd = pidfd_open(pid(process.pid)?, PidfdFlags::empty()).ok()?;
    // Looked at after it was opened: the descriptor is of whoever had the pid then.
    process.exists().unwrap_or(false).then_some(fd)
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

/// lxc-start.
#[derive(Debug)]
pub(crate) struct Monitor {
    child: Option<Child>,
    pub(crate) fd: OwnedFd,
    pid: u32,
}

impl Monitor {
    /// One that this process has started.
    pub(crate) fn started(child: Child) -> std::io::Result<Monitor> {
        let id = child.id();
        let fd = pid(id).ok_or_else(|| std::io::Error::other("a process without a pid"))?;
        let fd = pidfd_open(fd, PidfdFlags::empty())?;
        Ok(Monitor { child: Some(child), fd, pid: id })
    }

    /// One that an earlier agent has started; none if it has ended.
    pub(crate) fn adopted(process: Process) -> Option<Monitor> {
        Some(Monitor { child: None, fd: open(process)?, pid: process.pid })
    }

    pub(crate) fn process(&self) -> Option<Process> {
        Process::of(self.pid).ok().flatten()
    }

    pub(crate) fn is_over(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(Some(_)) | Err(_)),
            None => is_readable(&self.fd),
        }
    }

    /// How one ended that this process has started.
    pub(crate) fn code(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(status.into_raw())
    }

    /// Waits for its end, so long.
    pub(crate) fn wait(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            if self.is_over() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let left = Timespec::try_from(left).ok();
            let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], left.as_ref());
        }
    }

    /// Ends it and its session. Its container ends with it.
    pub(crate) fn kill(&mut self) {
        if self.is_over() {
            return;
        }
        let _ = berth_sys::signal::send(self.fd.as_fd(), 9);
        // It leads a session and a group of its own, with what it runs for hooks.
        if let Some(group) = pid(self.pid) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

pub(crate) fn is_readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
}

/// The processes `lxc-start` that work on a container of this path: for what a killed agent had no time to write down.
pub(crate) fn monitors(lxcpath: &Path) -> Vec<(Process, String)> {
    let name = |words: &[&str]| words.iter().find_map(|word| word.strip_prefix("--name=")).map(str::to_owned);
    let of = |(process, words): (Process, Vec<u8>)| Some((process, name(&split(&words))?));
    tools_at_work("lxc-start", lxcpath).into_iter().filter_map(of).collect()
}

/// The processes of one of LXC's tools that work on a container of this path, with their words.
pub(crate) fn tools_at_work(program: &str, lxcpath: &Path) -> Vec<(Process, Vec<u8>)> {
    let path = format!("--lxcpath={}", lxcpath.display());
    let own = fs::read_link("/proc/self/ns/pid").ok();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            if !split(&line).contains(&path.as_str()) {
                return None;
            }
            let process = Process::of(pid).ok()??;
            // What a container says of itself is not believed: only LXC's own program, in our pid namespace, counts.
            let tool = fs::read_link(entry.path().join("exe")).ok()?;
            // Or its copy in memory, which is what lxc-attach executes.
            let copy = format!("/memfd:{program} (deleted)");
            let is_lxc = tool.file_name().is_some_and(|name| name == program) || tool == Path::new(&copy);
            (is_lxc && fs::read_link(entry.path().join("ns/pid")).ok() == own).then_some((process, line))
        })
        .collect()
}

/// The words of a command line.
pub(crate) fn split(line: &[u8]) -> Vec<&str> {
    line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect()
}

/// How the first process ended, by lxc-start's log: None if it does not say, because lxc-start was killed.
pub(crate) fn status_in(log: &[u8], init: u32) -> Option<WaitStatus> {
    let text = String::from_utf8_lossy(log);
    let (signal, error) =
        (format!("Child <{init}> ended on signal "), format!("Child <{init}> ended on error ("));
    let exited = format!("Container init process {init} exited");
    let began = format!("with pid \"{init}\"");
    let (mut has_begun, mut ended) = (false, None);
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once(&signal) {
            let number = rest.rsplit_once('(')?.1.trim_end_matches(')').parse().ok()?;
            return Some(WaitStatus(number));
        }
        if let Some((_, rest)) = line.split_once(&error) {
            let code: i32 = rest.split(')').next()?.parse().ok()?;
            return Some(WaitStatus(code << 8));
        }
        // Of a status of 0 nothing more is said; and not even that it ended, if another child of lxc-start ended in the same
        // moment. But that lxc-start went on to take down what the container had; which it does as well after a start that
        // failed, and of such a one nobody saw how it ended.
        has_begun |= line.contains("Started \"") && line.ends_with(&began);
        if line.contains(&exited) || has_begun && line.contains("lxc_delete_network") {
            ended = Some(WaitStatus(0));
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_how_the_first_process_ended() {
        let log = |line: &str| {
            format!(
                "lxc-start a 20261126104311.235 DEBUG    start - ../src/lxc/start.c:signal_handler:464 - Container init process 7 exited\n\
                 lxc-start a 20261126104311.237 INFO     error - ../src/lxc/error.c:lxc_error_set_and_log:31 - {line}\n"
            )
        };
        let status = |line: &str| status_in(log(line).as_bytes(), 7).map(|status| status.0);
        assert_eq!(status("Child <7> ended on error (42)"), Some(42 << 8));
        assert_eq!(status("Child <7> ended on error (137)"), Some(137 << 8));
        assert_eq!(status("Child <7> ended on signal Killed(9)"), Some(9));
        assert_eq!(status("Child <7> ended on signal Real-time signal 1(35)"), Some(35));
        assert_eq!(status("nothing"), Some(0));
        assert_eq!(status("Child <8> ended on error (1)"), Some(0));
        let began = "lxc-start t1 20261126202101.347 NOTICE   start - ../src/lxc/start.c:post_start:2205 - Started \"/bin/true\" with pid \"7\"\n";
        let over = "lxc-start t1 20261126202101.348 DEBUG    network - ../src/lxc/network.c:lxc_delete_network:4173 - Deleted network devices\n";
        assert_eq!(status_in(format!("{began}{over}").as_bytes(), 7), Some(WaitStatus(0)));
        assert_eq!(status_in(over.as_bytes(), 7), None, "a start that failed");
        assert_eq!(status_in(b"lxc-start a INFO - Started \"x\" with pid \"7\"\n", 7), None);
    }
}
