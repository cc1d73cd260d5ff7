// SPDX-License-Identifier: Apache-2.0
//! Starts an agent under ptrace(2), and kills it at the N-th system call that any of its threads makes from a given
//! moment on.
//!
//! ```text
//! berth-agent-sweep N program arguments…
//! ```
//! With an N other than 0 calls are counted from the program's execution on. Each line on stdin is another N, counted
//! from when it is read, which is told by a line `counting` on stdout; the line `end` kills the program wherever it is. At the entry to call N the whole program gets
//! SIGKILL, so that call is not made. The processes that it starts run free.
//!
//! On stdout, at the end, one line of JSON: `killed`, `calls` (counted), `call` (the number of the one not made), and `exit_code` or
//! `signal` of the program. A tracer is a thread: one traces, and another only reads stdin.

use berth_sys::ptrace::{self, Call};
use berth_sys::rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use std::collections::BTreeSet;
use std::error::Error;
use std::io::{BufRead, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SIGTRAP: i32 = 5;
/// Marks a stop at a system call, with PTRACE_O_TRACESYSGOOD.
const AT_CALL: i32 = SIGTRAP | 0x80;
/// Of events (ptrace(2)): an exec; the first stop of a new thread or process.
const EXEC: i32 = 4;
const STOP: i32 = 128;
/// Wait for children whatever signal their end sends.
const WALL: u32 = 0x4000_0000;

struct Sweep {
    agent: Pid,
    /// The program itself was executed; before that it is a shell that waits for us.
    executed: bool,
    threads: BTreeSet<i32>,
    /// How many more calls until the kill; none are counted at 0.
    left: Arc<AtomicU64>,
    calls: u64,
    killed: Option<u64>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("berth-agent-sweep: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let at: u64 =
        args.next().and_then(|a| a.into_string().ok()).ok_or("the first argument is a number")?.parse()?;
    // Waits until it is traced, then becomes the program.
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "read go && exec \"$@\"", "sh"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let agent = Pid::from_child(&shell);
    ptrace::seize(agent)?;
    shell.stdin.take().ok_or("no pipe")?.write_all(b"\n")?;
    let left = Arc::new(AtomicU64::new(at));
    let told = Arc::clone(&left);
    std::thread::spawn(move || listen(agent, &told));
    let threads = [agent.as_raw_nonzero().get()].into();
    let sweep = Sweep { agent, executed: false, threads, left, calls: 0, killed: None };
    let (sweep, status) = sweep.follow()?;
    println!(
        "{}",
        serde_json::json!({
            "killed": sweep.killed.is_some(), "calls": sweep.calls, "call": sweep.killed,
            "exit_code": status.exit_status(), "signal": status.terminating_signal(),
        })
    );
    Ok(())
}

/// The program is not reaped before we end, so its number is its own.
fn listen(agent: Pid, left: &AtomicU64) {
    for line in std::io::stdin().lock().lines() {
        match line.as_deref().map(str::trim) {
            Ok("end") => drop(kill_process(agent, Signal::KILL)),
            Ok(number) => {
                left.store(number.parse().unwrap_or(0), Ordering::SeqCst);
                println!("counting");
            }
            Err(_) => return,
        }
    }
}

impl Sweep {
    /// Until the program ended.
    fn follow(mut self) -> Result<(Sweep, WaitStatus), Box<dyn Error>> {
        loop {
            let Some((pid, status)) = wait(WaitOptions::from_bits_retain(WALL))? else { continue };
            match status.stopping_signal() {
                None if pid == self.agent => return Ok((self, status)),
                None => drop(self.threads.remove(&pid.as_raw_nonzero().get())),
                // One that was killed while it was stopped is gone, and its end is told next.
                Some(signal) => match self.stopped(pid, signal, status.as_raw() >> 16) {
                    Ok(()) | Err(berth_sys::Errno::SRCH) => {}
                    Err(e) => return Err(e.into()),
                },
            }
        }
    }

    fn stopped(&mut self, pid: Pid, signal: i32, event: i32) -> berth_sys::Result<()> {
        match event {
            EXEC if pid == self.agent => self.executed = true,
            STOP if !self.threads.contains(&pid.as_raw_nonzero().get()) => {
                // The first stop of what one of the threads made.
                if !self.is_thread(pid) {
                    return ptrace::detach(pid);
                }
                self.threads.insert(pid.as_raw_nonzero().get());
            }
            _ => {}
        }
        if !self.executed {
            return ptrace::go_on(pid, if event == 0 { signal } else { 0 });
        }
        if signal == AT_CALL {
            if let Call::Entry(number) = ptrace::at_call(pid)?
                && self.counts()
            {
                self.killed = Some(number);
                return kill_process(self.agent, Signal::KILL);
            }
            return ptrace::to_next_call(pid, 0);
        }
        ptrace::to_next_call(pid, if event == 0 { signal } else { 0 })
    }

    fn is_thread(&self, pid: Pid) -> bool {
        let (agent, pid) = (self.agent.as_raw_nonzero(), pid.as_raw_nonzero());
        std::path::Path::new(&format!("/proc/{agent}/task/{pid}")).exists()
    }

    /// Counts a call; whether it is the one.
    fn counts(&mut self) -> bool {
        match self.left.load(Ordering::SeqCst) {
            0 => false,
            left => {
                // Another number may have been told meanwhile: then that one holds.
                let _ = self.left.compare_exchange(left, left - 1, Ordering::SeqCst, Ordering::SeqCst);
                self.calls += 1;
                left == 1 && self.killed.is_none()
            }
        }
    }
}
