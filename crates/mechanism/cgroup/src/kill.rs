// SPDX-License-Identifier: Apache-2.0
//! Ending every process of a group.
//!
//! v2 does it with one write to `cgroup.kill` (kernel 5.14), which forks can not outrun. Where that is missing,
//! rounds: list, open a pidfd for each, list again, and signal those that were listed both times. A pid that was
//! used again between the two lists then belongs to a member all the same, so nobody outside is ever hit. That
//! members do not fork faster than they are killed is seen to by setting `pids.max` to zero first: not every group is in
//! the freezer's hierarchy of v1, which is one more on the path of a launch. Where there is no pids controller they are
//! frozen, signalled and let go on to die.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::controller::pids;
use crate::{Controller, Error, Group, Result, Version, Way};

/// How many processes are signalled between two lists; each takes a descriptor.
const AT_ONCE: usize = 128;
/// How long to try to stop a group that can not be kept from forking.
const STANDS: Duration = Duration::from_secs(10);
/// How long to wait for the last one signalled before looking again.
const ROUND: Duration = Duration::from_millis(10);

impl Group {
    /// Kills every process in the group and in groups below it, and waits until none is left or `deadline`. The
    /// group can not be used afterwards: where there is no `cgroup.kill`, it allows no more forks.
    ///
    /// # Errors
    /// [`Error::Busy`] with those that are left at the deadline (they wait for a device, or are not of our pid
    /// namespace); [`Error::NotFound`] when the group is in no hierarchy, so that nobody can be said to be its
    /// member; [`Error::Io`].
    pub fn kill_all(&self, deadline: Instant) -> Result<()> {
        if self.dirs().next().is_none() {
            let root = self.hierarchies().root().to_owned();
            return Err(Error::NotFound { path: self.path().to_owned(), root });
        }
        let mut members = self.processes()?;
        if members.is_empty() {
            return Ok(());
        }
        if !self.kill_at_once() && !self.stop_forks() {
            // Nobody forks while all stand still. Whoever comes after a death of ours right here finds the group frozen,
            // and goes on below.
            let _ = self.freeze(deadline.min(Instant::now() + STANDS));
        }
        if self.is_frozen() == Some(true) {
            for batch in members.chunks(AT_ONCE) {
                self.signal(batch)?;
            }
            self.thaw()?;
        }
        loop {
            for batch in members.chunks(AT_ONCE) {
                self.kill_batch(batch, deadline)?;
            }
            members = self.processes()?;
            if members.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::Busy { path: self.path().into(), pids: members });
            }
        }
    }

    /// Whether all of the group's hierarchies could be told to kill.
    fn kill_at_once(&self) -> bool {
        if !self.hierarchies().ways().has(Way::Kill) {
            return false;
        }
        let mut all = true;
        for (dir, version) in self.dirs() {
            let told = version == Version::V2
                // Not by open_file, which would make the file in a stand-in.
                && rustix::fs::openat(
                    dir,
                    "cgroup.kill",
                    OFlags::WRONLY | OFlags::CLOEXEC,
                    rustix::fs::Mode::empty(),
                )
                .and_then(|file| rustix::io::write(&file, b"1"))
                .is_ok();
            all &= told;
        }
        all
    }

    /// Whether nothing in the group forks any more.
    fn stop_forks(&self) -> bool {
        let Some((dir, _)) = self.dir_of(Controller::Pids) else { return false };
        let file = self.hierarchies().open_file(dir, pids::MAX, OFlags::WRONLY);
        file.is_ok_and(|file| rustix::io::write(&file, b"0").is_ok())
    }

    /// Signals them all; a descriptor of one of them.
    fn signal(&self, batch: &[u32]) -> Result<Option<OwnedFd>> {
        let mut held = Vec::with_capacity(batch.len());
        for &pid in batch {
            // Zero stands for a process that our pid namespace does not see.
            let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            match rustix::process::pidfd_open(known, PidfdFlags::empty()) {
                Ok(pidfd) => held.push((pid, pidfd)),
                // ESRCH: gone. EINVAL: its leader is gone, and what is left of it goes as well.
                Err(Errno::SRCH | Errno::INVAL) => {}
                Err(errno) => return Err(self.process_io("open process", pid, errno)),
            }
        }
        let still = self.processes()?;
        let mut last = None;
        for (pid, pidfd) in held.into_iter().filter(|(pid, _)| still.binary_search(pid).is_ok()) {
            match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
                Ok(()) => last = Some(pidfd),
                Err(Errno::SRCH) => {}
                Err(errno) => return Err(self.process_io("kill process", pid, errno)),
            }
        }
        Ok(last)
    }

    fn kill_batch(&self, batch: &[u32], deadline: Instant) -> Result<()> {
        let last = self.signal(batch)?;
        // The others are on their way as well; who waits for a device must not stop the round.
        let time = ROUND.min(deadline.saturating_duration_since(Instant::now()));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        match last {
            Some(pidfd) => {
                let _ = rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
            }
            // Nobody to wait for by descriptor: exiting, or not ours to see.
            None => std::thread::sleep(time.min(Duration::from_millis(1))),
        }
        Ok(())
    }

    fn process_io(&self, what: &'static str, pid: u32, errno: Errno) -> Error {
        Error::Io { what, path: format!("{pid} of cgroup {}", self.path()).into(), source: errno.into() }
    }
}
