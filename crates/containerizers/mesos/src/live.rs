// SPDX-License-Identifier: Apache-2.0
//! A container that runs, as its owner holds it.

use crate::collect::Keep;
use crate::native::{self, Native};
use crate::record::{UNKNOWN, Unknown};
use crate::request::{Output, Timings};
use crate::{Error, Result, fault};
use berth_launcher::{Encoded, Event, Places, Supervisor};
use berth_logger::{Piece, Reader};
use berth_model::{ContainerId, WaitStatus};
use berth_record::{Lock, Sync};
use berth_sys::rustix::event::{PollFd, PollFlags, poll};
use berth_sys::rustix::fs::{Mode, OFlags, openat};
use berth_sys::rustix::process::{Pid, WaitOptions, waitpid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What a container writes, for who reads it while it runs.
#[derive(Debug)]
pub enum Written {
    /// In one file.
    File(OwnedFd),
    /// In files that are rotated.
    Log(Box<Reader>),
}

impl Written {
    /// Reads what is there; nothing when no more is there now.
    pub fn read(&mut self, room: &mut [u8]) -> usize {
        match self {
            Written::File(file) => berth_sys::rustix::io::read(&*file, room).unwrap_or(0),
            Written::Log(reader) => loop {
                match reader.read(room) {
                    Ok(Piece::Data { length, .. }) => break length,
                    Ok(Piece::Missed(_)) => {}
                    Ok(Piece::Nothing) | Err(_) => break 0,
                }
            },
        }
    }

    /// The file that is written to now, to be watched.
    pub fn file_in_use(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Written::File(file) => Some(file.as_fd()),
            Written::Log(reader) => reader.file_in_use(),
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this wait status.
    Status(WaitStatus),
    /// Nobody can say how.
    Unknown(String),
}

/// How a container ended, and what went wrong when it was cleaned up.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// What is left on the host, and why.
    pub left: Vec<String>,
}

/// A container that this process launched. Dropping it leaves the container running; the next command collects it.
#[derive(Debug)]
pub struct Live {
    id: ContainerId,
    places: Places,
    supervisor: Supervisor,
    pid: i32,
    pidfd: Arc<OwnedFd>,
    /// What its failures mean; none once the program was executed, after which nothing of it can fail.
    plan: Option<Encoded>,
    dir: OwnedFd,
    lock: Lock,
    output: Option<(OwnedFd, OwnedFd)>,
    logged: bool,
    remove: bool,
    phases: Vec<(&'static str, Duration)>,
    /// Its owner killed all of it for lack of memory.
    pub(crate) together: AtomicBool,
}

impl Live {
    pub(crate) fn new(
        id: ContainerId,
        places: Places,
        supervisor: Supervisor,
        made: crate::launch::Made,
        remove: bool,
    ) -> Live {
        let crate::launch::Made { mut plan, pid, pidfd, dir, lock, output, logged } = made;
        // The child has its copies: what stays open here would keep its mounts alive after it.
        plan.close();
        let (pidfd, plan) = (Arc::new(pidfd), Some(plan));
        Live {
            id,
            places,
            supervisor,
            pid,
            pidfd,
            plan,
            dir,
            lock,
            output,
            logged,
            remove,
            phases: Vec::new(),
            together: AtomicBool::new(false),
        }
    }

    pub(crate) fn timings(&mut self, timings: &Timings) {
        self.phases = timings.phases().to_vec();
    }

    /// The program was executed, and nobody will ask how long that took: what was needed until then goes.
    pub(crate) fn runs(&mut self) {
        (self.plan, self.phases, self.output) = (None, Vec::new(), None);
    }

    /// How long each phase of its launch took.
    pub fn phases(&self) -> &[(&'static str, Duration)] {
        &self.phases
    }

    /// Its id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Its places.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Its first process's pid on the host.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its first process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The same descriptor, for others too.
    pub(crate) fn shared_pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
    }

    /// Its supervisor.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// One of its streams of output, for reading as it is written.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn reader(&self, output: Output) -> Result<Written> {
        if self.logged {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = openat(berth_sys::rustix::fs::CWD, &self.places.work, flags, Mode::empty())
                .map_err(Error::directory("open the output of", &self.places.work))?;
            return Ok(Written::Log(Box::new(Reader::new(dir, None, output.name()))));
        }
        self.file(output).map(Written::File)
    }

    /// An output file, opened anew through our own descriptor of it.
    fn file(&self, output: Output) -> Result<OwnedFd> {
        let none = || Error::directory("open the output of", &self.places.work)(berth_sys::Errno::NOENT);
        let (stdout, stderr) = self.output.as_ref().ok_or_else(none)?;
        let file = match output {
            Output::Stdout => stdout,
            Output::Stderr => stderr,
        };
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        openat(berth_sys::rustix::fs::CWD, path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::directory("open the output of", &self.places.work))
    }

    /// Sends a signal to its first process.
    ///
    /// # Errors
    /// It ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        berth_sys::signal::send(&*self.pidfd, signal).map_err(|e| {
            berth_launcher::Error::io(format!("Unable to send signal to container: {}", self.id), e).into()
        })
    }

    /// Kills it.
    pub fn kill(&self) {
        let _ = berth_sys::signal::send(&*self.pidfd, 9);
    }

    /// What an event of the supervisor means: `Ok(None)` to go on waiting.
    ///
    /// # Errors
    /// The program could not be executed, or a step failed.
    pub fn judge(&self, event: Event) -> std::result::Result<Option<Ending>, Error> {
        match event {
            Event::Failed { step, errno } => Err(match &self.plan {
                Some(plan) => plan.failure(step, errno).into(),
                None => berth_launcher::Error::Gone("the program, which was executed before").into(),
            }),
            Event::Exited { status, .. } => Ok(Some(Ending::Status(WaitStatus(status)))),
            Event::Refused(why) => Err(berth_launcher::Error::Refused(why).into()),
            Event::Gone => Ok(Some(self.orphaned())),
            Event::Forked { .. } | Event::Running | Event::Output(_) => Ok(None),
        }
    }

    /// Waits for its end, heeding nothing else.
    ///
    /// # Errors
    /// As [`Live::judge`].
    pub fn wait(&self) -> std::result::Result<Ending, Error> {
        loop {
            if let Some(ending) = self.judge(self.supervisor.next())? {
                return Ok(ending);
            }
        }
    }

    /// The supervisor died: its container is ended, and its status asked of the kernel, which still knows it (since
    /// 6.15). An exit record that was written already is the truth.
    fn orphaned(&self) -> Ending {
        self.kill();
        let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], None);
        if let Some((status, _)) = native::status(self.dir.as_fd()) {
            return Ending::Status(status);
        }
        // When the supervisor's end is told, its child is ours (see `Native::open`).
        let _ = poll(&mut [PollFd::new(&self.supervisor.pidfd(), PollFlags::IN)], None);
        if let Some(status) = self.reaped() {
            self.record(status);
            return Ending::Status(WaitStatus(status));
        }
        let why = "its supervisor was killed, and the kernel does not tell the status".to_owned();
        let record = Unknown { why: why.clone() };
        let _ = berth_record::write(self.dir.as_fd(), UNKNOWN, &record, Sync::No);
        Ending::Unknown(why)
    }

    /// The wait status of an orphan: of our own child, or, when another process adopted it, from the kernel once that
    /// one has reaped it, which may take it a while.
    fn reaped(&self) -> Option<i32> {
        let limit = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            let ours = waitpid(Pid::from_raw(self.pid), WaitOptions::NOHANG);
            if let Ok(Some((_, status))) = ours {
                return Some(status.as_raw());
            }
            match berth_sys::pidfd::exit_status(&*self.pidfd) {
                Ok(Some(status)) => return Some(status),
                Ok(None) if std::time::Instant::now() < limit => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ => return None,
            }
        }
    }

    /// Writes the exit record that the supervisor could not write.
    fn record(&self, status: i32) {
        let text = format!("{status}\n");
        let _ =
            berth_record::write_atomic(self.dir.as_fd(), crate::record::STATUS, text.as_bytes(), Sync::No);
    }

    /// Cleans up after its end. What is kept is the record, the exit record, the sandbox and the output, unless
    /// everything is to go.
    pub fn finish(self, native: &Native, ending: Ending) -> Outcome {
        let _ = fault::point("exited");
        let keep = if self.remove { Keep::Nothing } else { Keep::Ended };
        // It may have ended before the supervisor heard of `go`, or the supervisor could not write.
        if let (Keep::Ended, Ending::Status(status)) = (keep, &ending)
            && native::status(self.dir.as_fd()).is_none()
        {
            self.record(status.0);
        }
        let Live { places, supervisor, lock, .. } = self;
        let left = native.release_beside(&places, keep, || supervisor.reap());
        drop(lock);
        Outcome { ending, left }
    }

    /// Ends it after a failure to execute, and leaves nothing.
    pub fn abandon(self, native: &Native) -> Vec<String> {
        self.kill();
        while !matches!(self.supervisor.next(), Event::Gone | Event::Exited { .. }) {}
        self.supervisor.reap();
        native.release(&self.places, Keep::Nothing)
    }
}
