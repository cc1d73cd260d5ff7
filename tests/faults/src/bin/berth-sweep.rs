// SPDX-License-Identifier: Apache-2.0
//! Starts a command under ptrace(2), and kills one process of it at its N-th system call.
//!
//! ```text
//! berth-sweep owner|supervisor|container|both N program arguments…
//! ```
//! *owner* is the program itself, *supervisor* the first child that it makes, *container* the first of that; calls are
//! counted from the program's execution, or the child's making, on. At the entry to call N the process gets SIGKILL, so that call is not made;
//! with *both* the owner's calls are counted, and the supervisor is killed with it. All other processes run free.
//!
//! On stdout, one line of JSON: `killed`, `calls` (made until then), `call` (the number of the one not made), and
//! `exit_code` or `signal` of the program. One thread: a tracer is a thread, and wait(2) must see all it traces.

use berth_sys::ptrace::{self, Call};
use berth_sys::rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open, pidfd_send_signal, wait,
};
use std::error::Error;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode, Stdio};

const SIGTRAP: i32 = 5;
/// Marks a stop at a system call, with PTRACE_O_TRACESYSGOOD.
const AT_CALL: i32 = SIGTRAP | 0x80;
/// Of events (ptrace(2)): a fork, vfork or clone; an exec; any other stop of a seized process.
const NEW_PROCESS: [i32; 3] = [1, 2, 3];
const EXEC: i32 = 4;
const STOP: i32 = 128;
/// Wait for children whatever signal their end sends.
const WALL: u32 = 0x4000_0000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Owner,
    Supervisor,
    Container,
    Both,
}

struct Sweep {
    target: Target,
    at: u64,
    owner: Pid,
    /// The program itself was executed; before that it is a shell that waits for us.
    executed: bool,
    supervisor: Option<(Pid, Option<OwnedFd>)>,
    container: Option<Pid>,
    /// Whose making we were told of.
    announced: Vec<Pid>,
    /// Stopped at its start before we were.
    unknown: Vec<Pid>,
    calls: u64,
    killed: Option<u64>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("berth-sweep: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let target = match args.next().and_then(|a| a.into_string().ok()).as_deref() {
        Some("owner") => Target::Owner,
        Some("supervisor") => Target::Supervisor,
        Some("container") => Target::Container,
        Some("both") => Target::Both,
        _ => return Err("the first argument is owner, supervisor, container or both".into()),
    };
    let at =
        args.next().and_then(|a| a.into_string().ok()).ok_or("the second argument is a number")?.parse()?;
    // Waits until it is traced, then becomes the program.
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "read go && exec \"$@\"", "sh"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let owner = Pid::from_child(&shell);
    ptrace::seize(owner)?;
    shell.stdin.take().ok_or("no pipe")?.write_all(b"\n")?;
    let sweep = Sweep {
        target,
        at,
        owner,
        executed: false,
        supervisor: None,
        container: None,
        announced: Vec::new(),
        unknown: Vec::new(),
        calls: 0,
        killed: None,
    };
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

impl Sweep {
    /// Until the program ended.
    fn follow(mut self) -> Result<(Sweep, WaitStatus), Box<dyn Error>> {
        loop {
            let Some((pid, status)) = wait(WaitOptions::from_bits_retain(WALL))? else { continue };
            match status.stopping_signal() {
                None if pid == self.owner => return Ok((self, status)),
                None => {}
                // One that was killed while it was stopped is gone, and its end is told next.
                Some(signal) => match self.stopped(pid, signal, status.as_raw() >> 16) {
                    Ok(()) | Err(berth_sys::Errno::SRCH) => {}
                    Err(e) => return Err(e.into()),
                },
            }
        }
    }

    fn stopped(&mut self, pid: Pid, signal: i32, event: i32) -> berth_sys::Result<()> {
        if NEW_PROCESS.contains(&event) {
            return self.new_process(pid);
        }
        if event == EXEC && pid == self.owner {
            self.executed = true;
            return self.go_on(pid, 0);
        }
        if event == STOP && pid != self.owner {
            if self.announced.contains(&pid) {
                return self.started(pid);
            }
            // Its parent's stop is still to tell who it is.
            self.unknown.push(pid);
            return Ok(());
        }
        if signal == AT_CALL {
            if let Call::Entry(number) = ptrace::at_call(pid)? {
                self.calls += 1;
                if self.calls == self.at {
                    return self.kill(pid, number);
                }
            }
            return ptrace::to_next_call(pid, 0);
        }
        let deliver = if event == 0 { signal } else { 0 };
        self.go_on(pid, deliver)
    }

    fn is_target(&self, pid: Pid) -> bool {
        match self.target {
            Target::Owner | Target::Both => pid == self.owner && self.executed,
            Target::Supervisor => self.is_supervisor(pid),
            Target::Container => self.container == Some(pid),
        }
    }

    fn is_supervisor(&self, pid: Pid) -> bool {
        self.supervisor.as_ref().is_some_and(|s| s.0 == pid)
    }

    /// A process that we follow made another.
    fn new_process(&mut self, parent: Pid) -> berth_sys::Result<()> {
        let Some(child) = Pid::from_raw(ptrace::event_message(parent)?) else { return Ok(()) };
        if parent == self.owner && self.supervisor.is_none() {
            // It can not have been reaped: its parent is stopped.
            self.supervisor = Some((child, pidfd_open(child, PidfdFlags::empty()).ok()));
        } else if self.is_supervisor(parent) && self.container.is_none() {
            self.container = Some(child);
        }
        self.announced.push(child);
        if let Some(known) = self.unknown.iter().position(|p| *p == child) {
            self.unknown.swap_remove(known);
            self.started(child)?;
        }
        self.go_on(parent, 0)
    }

    /// A child is stopped at its start: one that we want, or whose child we want, or one that runs free.
    fn started(&mut self, pid: Pid) -> berth_sys::Result<()> {
        let on_the_way = self.target == Target::Container && self.is_supervisor(pid);
        if self.is_target(pid) || on_the_way { self.go_on(pid, 0) } else { ptrace::detach(pid) }
    }

    /// To its next call if it is the target; else until it makes a child or ends.
    fn go_on(&self, pid: Pid, deliver: i32) -> berth_sys::Result<()> {
        if self.is_target(pid) { ptrace::to_next_call(pid, deliver) } else { ptrace::go_on(pid, deliver) }
    }

    fn kill(&mut self, pid: Pid, number: u64) -> berth_sys::Result<()> {
        self.killed = Some(number);
        self.calls -= 1;
        kill_process(pid, Signal::KILL)?;
        if let (Target::Both, Some((_, Some(supervisor)))) = (self.target, &self.supervisor) {
            // It may have ended by itself.
            let _ = pidfd_send_signal(supervisor, Signal::KILL);
        }
        Ok(())
    }
}
