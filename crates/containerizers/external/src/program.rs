// SPDX-License-Identifier: Apache-2.0
//! Calling the operator's program: `sh -c "<containerizer_path> <subcommand>"` in a session of its own, told what to do
//! through a pipe.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use berth_contract::Variables;
use berth_sys::rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use berth_sys::rustix::pipe::{PipeFlags, pipe_with};
use berth_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::call::{Call, Parts, Words};
use crate::error::CallError;
use crate::frame::Reader;
use crate::sandbox::Sandbox;
use crate::settings::Settings;

/// A larger record is refused.
const RECORD: usize = 64 << 20;

/// What to ask of the program.
pub(crate) struct Ask<'a> {
    pub(crate) subcommand: &'static str,
    /// The record for its stdin.
    pub(crate) message: Vec<u8>,
    /// Whether it writes a record.
    pub(crate) reads: bool,
    /// None for what has no sandbox: recovery, and containers that nobody knows.
    pub(crate) sandbox: Option<&'a Sandbox>,
    /// Variables on top of those that every call gets.
    pub(crate) environment: Variables,
    pub(crate) deadline: Option<Duration>,
    /// Whether what it leaves behind may go on writing to the sandbox's stderr.
    pub(crate) leaves: bool,
}

impl<'a> Ask<'a> {
    /// With no sandbox, no result and nothing to say.
    pub(crate) fn new(subcommand: &'static str, deadline: Option<Duration>) -> Ask<'a> {
        Ask {
            subcommand,
            message: Vec::new(),
            reads: false,
            sandbox: None,
            environment: Variables::new(),
            deadline,
            leaves: false,
        }
    }
}

/// The program.
#[derive(Debug)]
pub(crate) struct Program {
    path: Option<String>,
    environment: BTreeMap<OsString, OsString>,
    pub(crate) health: Arc<Health>,
}

/// How its calls went, for the operator.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Whether the last call that ended did so by itself, with a program that there is.
    up: AtomicBool,
    calls: AtomicU64,
    failed: AtomicU64,
    late: AtomicU64,
}

impl Health {
    /// A call has ended; `failure` says why it was none, if so.
    pub(crate) fn heard(&self, failure: Option<&CallError>) {
        let up = match failure {
            None => true,
            // Its time was not over when it was ended.
            Some(CallError::Cancelled) => return,
            Some(CallError::Late(..)) => {
                self.late.fetch_add(1, Ordering::Relaxed);
                false
            }
            // What the shell says of a program that is not there, or can not be run.
            Some(CallError::Status(status)) => !matches!(status.0 >> 8, 126 | 127),
            Some(CallError::Spawn(_) | CallError::NoPath | CallError::NoStatus) => false,
            Some(_) => true,
        };
        self.up.store(up, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(failure.is_some()), Ordering::Relaxed);
    }

    /// By their names in the metrics.
    pub(crate) fn metrics(&self) -> Vec<(String, f64)> {
        let count = |name: &str, value: &AtomicU64| (name.to_owned(), value.load(Ordering::Relaxed) as f64);
        vec![
            ("program_up".to_owned(), f64::from(u8::from(self.up.load(Ordering::Relaxed)))),
            count("calls", &self.calls),
            count("calls_failed", &self.failed),
            count("calls_late", &self.late),
        ]
    }
}

impl Program {
    pub(crate) fn new(settings: &Settings) -> Program {
        let mut environment: BTreeMap<OsString, OsString> = settings.environment.iter().cloned().collect();
        environment.insert("MESOS_LIBEXEC_DIRECTORY".into(), settings.launcher_dir.clone().into());
        environment.insert("MESOS_WORK_DIRECTORY".into(), settings.work_dir.clone().into());
        Program { path: settings.path.clone(), environment, health: Arc::default() }
    }

    /// Starts a call and tells it its message.
    pub(crate) fn call(&self, ask: Ask<'_>) -> Result<Call, CallError> {
        self.call_after(ask, |_| Ok(()))
    }

    /// The same; `before` gets the pid, and the program learns nothing until that is done.
    pub(crate) fn call_after(
        &self,
        ask: Ask<'_>,
        before: impl FnOnce(u32) -> Result<(), CallError>,
    ) -> Result<Call, CallError> {
        let call = self.start(ask, before);
        if let Err(error) = &call {
            self.health.heard(Some(error));
        }
        call
    }

    fn start(
        &self,
        ask: Ask<'_>,
        before: impl FnOnce(u32) -> Result<(), CallError>,
    ) -> Result<Call, CallError> {
        let path = self.path.as_ref().ok_or(CallError::NoPath)?;
        let flags = PipeFlags::CLOEXEC;
        let spawn = |errno: berth_sys::Errno| CallError::Spawn(errno.into());
        let (stdin, to) = pipe_with(flags).map_err(spawn)?;
        let (from, stdout) = pipe_with(flags).map_err(spawn)?;
        // Only our ends: the flag belongs to each end by itself.
        nonblocking(&to).map_err(CallError::Spawn)?;
        nonblocking(&from).map_err(CallError::Spawn)?;
        let (words, stderr) = words(&ask)?;
        let mut command = Command::new("/bin/sh");
        command.arg0("sh").arg("-c").arg(format!("{path} {}", ask.subcommand));
        command.env_clear().envs(&self.environment).envs(&ask.environment);
        if let Some(sandbox) = ask.sandbox {
            command.current_dir(&sandbox.directory);
        }
        let held = stdin.try_clone().map_err(CallError::Spawn)?;
        command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(stderr);
        let mut child = berth_sys::session::lead(&mut command).spawn().map_err(CallError::Spawn)?;
        // Its copies of the program's ends would hide that those were closed.
        drop(command);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(pidfd)) => pidfd,
            other => {
                let error =
                    other.and_then(Result::err).map_or(io::ErrorKind::InvalidData.into(), io::Error::from);
                let _ = child.kill();
                let _ = child.wait();
                return Err(CallError::Spawn(error));
            }
        };
        let mut call = Call::new(Parts {
            subcommand: ask.subcommand,
            child,
            pidfd,
            stdin: to,
            stdout: from,
            reader: ask.reads.then(|| Reader::new(RECORD)),
            words,
            deadline: ask.deadline,
            health: Arc::clone(&self.health),
        });
        before(call.pid())?;
        call.tell(ask.message, held);
        Ok(call)
    }
}

/// Where what it says goes, at our end and at its own.
fn words(ask: &Ask<'_>) -> Result<(Words, Stdio), CallError> {
    let file = ask.sandbox.map(Sandbox::stderr).transpose()?.flatten();
    if ask.sandbox.is_some() && ask.leaves {
        return Ok(match file {
            Some(file) => {
                let length = file.metadata().map_err(CallError::Spawn)?.len();
                let theirs = file.try_clone().map_err(CallError::Spawn)?;
                (Words::Kept(Some(file), length), Stdio::from(theirs))
            }
            None => (Words::Kept(None, 0), Stdio::null()),
        });
    }
    piped(file).map_err(CallError::Spawn)
}

fn piped(file: Option<File>) -> io::Result<(Words, Stdio)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    nonblocking(&ours)?;
    Ok((Words::Piped(Some(ours), file), Stdio::from(theirs)))
}

fn nonblocking(end: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?)
}
