// SPDX-License-Identifier: Apache-2.0
//! The agent's end of a fetching child.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_model::Class;
use berth_sys::spawn::{Spawn, Spawned, spawn};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid};

use crate::stop::{Bell, wait_for};
use crate::wire::{self, FromChild, Setup, ToChild};

/// The program that fetching children execute: it must call [`crate::role`] when it has these arguments.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program's file. `/proc/self/exe` is the agent itself.
    pub path: std::path::PathBuf,
    /// What tells it to be a fetching child.
    pub argument: CString,
}

impl Default for Program {
    /// The running program, with the argument `fetch-role`.
    fn default() -> Program {
        Program { path: "/proc/self/exe".into(), argument: c"fetch-role".into() }
    }
}

/// A child. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    spawned: Spawned<2, 4>,
    control: OwnedFd,
    /// Silence for this long is not one of the stalls that the child reports itself.
    patience: Duration,
    reaped: bool,
}

/// Why a child did not answer.
#[derive(Debug)]
pub(crate) enum Silence {
    Stopped,
    Stuck(Duration),
    Died(String),
    Io(io::Error),
}

impl Worker {
    /// Starts a child and waits until it has confined itself. Its words go to the two streams.
    pub(crate) fn start(
        program: &Program,
        streams: [BorrowedFd<'_>; 2],
        setup: &Setup,
        sandbox: Option<BorrowedFd<'_>>,
        stop: &Bell,
    ) -> Result<Worker, StartError> {
        let open = |path: &std::path::Path, flags| -> io::Result<OwnedFd> {
            Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
        };
        let (control, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| StartError::io("make a socket for the fetching process", error))?;
        let exe = open(&program.path, OFlags::PATH)
            .map_err(|error| StartError::io("open the program of the fetching process", error))?;
        let null = open("/dev/null".as_ref(), OFlags::RDONLY)
            .map_err(|error| StartError::io("open /dev/null", error))?;
        let [stdout, stderr] = streams.map(|fd| fd.try_clone_to_owned());
        let failed = |error| StartError::io("hold the streams of the fetching process", error);
        let descriptors = [null, stdout.map_err(failed)?, stderr.map_err(failed)?, theirs];
        let argv = [c"berth".to_owned(), program.argument.clone()];
        let failed = |error: rustix::io::Errno| StartError::io("start the fetching process", error);
        let spawned = spawn(Spawn { program: exe, argv, descriptors }).map_err(failed)?;
        let patience = Duration::from_millis(setup.stall_ms).saturating_mul(2) + Duration::from_secs(30);
        let mut worker = Worker { spawned, control, patience, reaped: false };
        worker.spawned.executed().map_err(failed)?;
        wire::send(&worker.control, setup, sandbox)
            .map_err(|error| StartError::io("speak to the fetching process", error))?;
        match worker.hear(stop) {
            Ok(FromChild::Ready { .. }) => Ok(worker),
            Ok(FromChild::Failed { class, text }) => Err(StartError::Refused { class: class.into(), text }),
            Ok(_) => Err(StartError::Silent(Silence::Died("spoke out of turn".into()))),
            Err(silence) => Err(StartError::Silent(silence)),
        }
    }

    pub(crate) fn say(&self, message: &ToChild, fd: Option<&File>) -> io::Result<()> {
        wire::send(&self.control, message, fd.map(AsFd::as_fd))
    }

    /// The next thing it says.
    pub(crate) fn hear(&mut self, stop: &Bell) -> Result<FromChild, Silence> {
        let deadline = Instant::now() + self.patience;
        let fds = [stop.as_fd(), self.control.as_fd(), self.spawned.pidfd()];
        match wait_for(&fds, Some(deadline)) {
            Ok(Some(0)) => {
                self.end();
                Err(Silence::Stopped)
            }
            Ok(Some(1)) => match wire::receive(&self.control) {
                Ok(Some((message, _))) => Ok(message),
                Ok(None) => Err(Silence::Died(self.end())),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.end();
                    Err(Silence::Died(format!("said what makes no sense ({error})")))
                }
                Err(error) => Err(Silence::Io(error)),
            },
            Ok(Some(_)) => Err(Silence::Died(self.end())),
            Ok(None) => {
                self.end();
                Err(Silence::Stuck(self.patience))
            }
            Err(error) => Err(Silence::Io(error)),
        }
    }

    /// Kills it and all that it started, and says how it ended.
    fn end(&mut self) -> String {
        if self.reaped {
            return "was killed".into();
        }
        // It leads a session of its own. Not reaped, so the number is still its own. What it started goes with it; it
        // may have ended by itself a moment ago, and then this changes nothing about how.
        if let Some(pid) = Pid::from_raw(self.spawned.pid()) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        self.reaped = true;
        loop {
            match waitid(WaitId::PidFd(self.spawned.pidfd()), WaitIdOptions::EXITED) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(Some(status)) => return how(&status),
                _ => return "was killed".into(),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

fn how(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".into(),
    }
}

/// Why there is no child.
#[derive(Debug)]
pub(crate) enum StartError {
    Io { what: &'static str, source: io::Error },
    Refused { class: Class, text: String },
    Silent(Silence),
}

impl StartError {
    fn io(what: &'static str, source: impl Into<io::Error>) -> StartError {
        StartError::Io { what, source: source.into() }
    }
}
