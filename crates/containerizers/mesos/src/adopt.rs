// SPDX-License-Identifier: Apache-2.0
//! A container that runs and that an earlier agent launched.

use crate::collect::{Keep, chain};
use crate::live::{Ending, Outcome};
use crate::native::{self, Native};
use crate::record::{self, LOCK, PID, STATUS, UNKNOWN, Unknown};
use crate::{Error, Result};
use berth_launcher::{Connection, Event, Places, open_process};
use berth_model::{ContainerId, WaitStatus};
use berth_record::{Lock, Sync};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a supervisor may take to end after its container did. It has nothing left to do.
const SUPERVISOR: Duration = Duration::from_secs(10);

/// How long the parent of an orphan may take to reap it.
const REAPED: Duration = Duration::from_secs(5);

/// A container whose supervisor somebody else started. Dropping it leaves the container running.
#[derive(Debug)]
pub(crate) struct Adopted {
    places: Places,
    dir: OwnedFd,
    connection: Connection,
    pid: i32,
    pidfd: Arc<OwnedFd>,
}

impl Adopted {
    /// Takes a running container over; `None` when it does not run (any more).
    ///
    /// # Errors
    /// No descriptors left, or the lock can not be looked at.
    pub(crate) fn open(native: &Native, id: &ContainerId, places: Places) -> Result<Option<Adopted>> {
        let Some(dir) = native.existing(&id.to_string())? else { return Ok(None) };
        let Ok(pid) = berth_record::read::<record::Pid>(dir.as_fd(), PID, record::CAP) else {
            return Ok(None);
        };
        let Some(connection) = Connection::open(dir.as_fd(), pid.supervisor)? else { return Ok(None) };
        let Some(pidfd) = open_process(pid.pid)? else { return Ok(None) };
        // Now that both are held by descriptors: as long as the lock is held the supervisor lives, and as long as there
        // is no exit record its child was not reaped; so these are the recorded processes, and no others.
        let held = Lock::is_held(dir.as_fd(), LOCK)
            .map_err(|source| Error::Record { what: "look at the container's lock", source })?;
        if !held || native::status(dir.as_fd()).is_some() {
            return Ok(None);
        }
        Ok(Some(Adopted { places, dir, connection, pid: pid.pid, pidfd: Arc::new(pidfd) }))
    }

    /// Its first process's pid.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Its first process.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The same descriptor, for others too.
    pub(crate) fn shared_pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.pidfd)
    }

    /// Its places.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// What becomes readable when there is something to hear: the supervisor, and what it says.
    pub(crate) fn sources(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.connection.pidfd(), self.connection.socket())
    }

    /// Hears what the supervisor says; its container's end, if that was it.
    pub(crate) fn hear(&mut self) -> Option<Ending> {
        match self.connection.hear() {
            Some(Event::Exited { status, .. }) => Some(Ending::Status(WaitStatus(status))),
            _ => None,
        }
    }

    /// The supervisor ended: how its container did. Without an exit record it was killed; the container then is ended
    /// too, and the kernel asked, which knows its status (since 6.15) once its new parent has reaped it.
    pub(crate) fn ended(&self) -> Ending {
        let recorded = || native::status(self.dir.as_fd()).map(|(status, _)| Ending::Status(status));
        if let Some(ending) = recorded() {
            return ending;
        }
        let _ = berth_sys::signal::send(&*self.pidfd, 9);
        let deadline = Instant::now() + REAPED;
        loop {
            match berth_sys::pidfd::exit_status(&*self.pidfd) {
                Ok(Some(status)) => {
                    let text = format!("{status}\n");
                    let _ = berth_record::write_atomic(self.dir.as_fd(), STATUS, text.as_bytes(), Sync::No);
                    return Ending::Status(WaitStatus(status));
                }
                // Nobody tells when another process reaps.
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                _ => break,
            }
        }
        let why = "its supervisor was killed, and the kernel does not tell the status".to_owned();
        let _ = berth_record::write(self.dir.as_fd(), UNKNOWN, &Unknown { why: why.clone() }, Sync::No);
        recorded().unwrap_or(Ending::Unknown(why))
    }

    /// Cleans up after its end, as [`Live::finish`](crate::Live::finish).
    pub(crate) fn finish(self, native: &Native, ending: Ending) -> Outcome {
        let deadline = Instant::now() + SUPERVISOR;
        if !self.connection.reap(deadline) {
            let left = vec![format!("its supervisor has not ended {} s after it", SUPERVISOR.as_secs())];
            return Outcome { ending, left };
        }
        // A copy of the lock may still be on its way out with the supervisor's last descriptors.
        let lock = match Lock::acquire(self.dir.as_fd(), LOCK, deadline) {
            Ok(lock) => lock,
            Err(e) => return Outcome { ending, left: vec![chain(&e)] },
        };
        let left = native.release(&self.places, Keep::Ended);
        drop(lock);
        Outcome { ending, left }
    }
}
