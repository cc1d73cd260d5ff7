// SPDX-License-Identifier: Apache-2.0
//! Stopping every process of a group, and letting them go on: `freezer.state` of v1, `cgroup.freeze` of v2.
//!
//! On v1 a process that is frozen does not even die: SIGKILL waits for the thaw. So [`Group::kill_all`] sends first and
//! thaws after, and nobody of the group comes to do anything in between but end. v2 kills what is frozen.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::tree::{Files, field};
use crate::{Controller, Error, Group, Result, Version};

/// Between two looks at a group that is not frozen yet.
const PAUSE: Duration = Duration::from_millis(1);
/// How often v1 is told again: a process that was just between two states is overlooked, as its documentation says.
const AGAIN: u32 = 16;

/// The control file, and what is written to stop and to go on.
const fn words(version: Version) -> (&'static str, &'static str, &'static str) {
    match version {
        Version::V1 => ("freezer.state", "FROZEN", "THAWED"),
        Version::V2 => ("cgroup.freeze", "1", "0"),
    }
}

impl Group {
    /// Stops every process in the group and in groups below it. When they are not all stopped at `deadline` (one waits for
    /// a device), they go on as before.
    ///
    /// # Errors
    /// [`Error::NoController`] when the group is in no hierarchy that can; [`Error::NotApplied`] at the deadline;
    /// [`Error::Io`].
    pub fn freeze(&self, deadline: Instant) -> Result<()> {
        let (dir, version) = self.freezer()?;
        let (file, stop, _) = words(version);
        let mut looks = 0;
        loop {
            if looks % AGAIN == 0 {
                self.set(dir, file, stop)?;
            }
            looks += 1;
            let found = state(dir, version);
            match found.as_deref() {
                None => return Ok(()),
                Some(found) if Instant::now() >= deadline => {
                    let found = found.to_owned();
                    self.thaw()?;
                    let path = self.path().into();
                    let (value, limit) = (stop.to_owned(), "pause");
                    return Err(Error::NotApplied {
                        limit,
                        controller: Controller::Freezer,
                        path,
                        value,
                        found,
                    });
                }
                Some(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Lets them go on. One that is not frozen is left as it is.
    ///
    /// # Errors
    /// [`Error::NoController`], [`Error::Io`].
    pub fn thaw(&self) -> Result<()> {
        let (dir, version) = self.freezer()?;
        let (file, _, go) = words(version);
        self.set(dir, file, go)
    }

    /// Whether it was told to stop, whether all have or not; none where that can not be told.
    pub fn is_frozen(&self) -> Option<bool> {
        let (dir, version) = self.dir_of(Controller::Freezer)?;
        let (file, _, go) = words(version);
        Files::new(dir).with(file, |text| text.trim_end() != go)
    }

    /// Takes a frozen process that was killed out of its group into this one, so that it ends. Nothing where that is not
    /// needed.
    ///
    /// # Errors
    /// [`Error::Io`]; a process that is gone is none.
    pub fn take_killed(&self, pid: i32) -> Result<()> {
        let Some((dir, Version::V1)) = self.dir_of(Controller::Freezer) else { return Ok(()) };
        match self.write_to(dir, "cgroup.procs", &pid.to_string()) {
            Err(Errno::SRCH) => Ok(()),
            other => other.map_err(|errno| self.freezer_io("move a process to", "cgroup.procs", errno)),
        }
    }

    fn freezer(&self) -> Result<(BorrowedFd<'_>, Version)> {
        self.dir_of(Controller::Freezer).ok_or_else(|| Error::NoController {
            limit: "pause",
            controller: Controller::Freezer,
            advice: "the group was made without it, or the host has none; start the container anew"
                .to_owned(),
        })
    }

    fn set(&self, dir: BorrowedFd<'_>, file: &'static str, value: &str) -> Result<()> {
        self.write_to(dir, file, value).map_err(|errno| self.freezer_io("write", file, errno))
    }

    fn write_to(&self, dir: BorrowedFd<'_>, file: &str, value: &str) -> rustix::io::Result<()> {
        let open = self.hierarchies().open_file(dir, file, OFlags::WRONLY)?;
        rustix::io::retry_on_intr(|| rustix::io::write(open.as_fd(), value.as_bytes())).map(drop)
    }

    fn freezer_io(&self, what: &'static str, file: &str, errno: Errno) -> Error {
        Error::Io { what, path: format!("{}/{file}", self.path()).into(), source: errno.into() }
    }
}

/// None when all are stopped, else how far it is.
fn state(dir: BorrowedFd<'_>, version: Version) -> Option<String> {
    let files = Files::new(dir);
    match version {
        Version::V1 => {
            let state = files.with("freezer.state", |text| text.trim_end().to_owned());
            state.filter(|state| state != "FROZEN")
        }
        // Every group of the kernel's has the file; a stand-in has not, and nothing to wait for.
        Version::V2 => {
            let frozen = files.with("cgroup.events", |text| field(text, "frozen")).flatten();
            frozen.filter(|frozen| *frozen != 1).map(|frozen| format!("frozen {frozen}"))
        }
    }
}
