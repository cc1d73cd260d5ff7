// SPDX-License-Identifier: Apache-2.0
//! Being told, without looking again and again, that a group met a limit.
//!
//! | | v1 | v2 |
//! |---|---|---|
//! | out of memory | an eventfd on `memory.oom_control` | poll(2) of `memory.events` |
//! | memory is short | eventfds on `memory.pressure_level`, which count | `max` in the same file |
//! | no more processes | poll(2) of `pids.events`, up to Linux 6.10 | poll(2) of `pids.events` |
//!
//! Later kernels do not tell on v1 that a fork was refused (seen on 6.18): there it is only counted, for whoever asks.
//! Nothing tells of throttling: that is counted in `cpu.stat`. v1 tells before the kernel kills, so the count of kills may
//! still be the old one; and it tells once more when the group is removed. Sources: cgroup-v1/memory, cgroup-v1/pids and
//! cgroup-v2 in the kernel's documentation; for poll, `kernfs_generic_poll` in fs/kernfs/file.c.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::controller::{memory, pids};
use crate::tree::{Files, field};
use crate::{Controller, Error, Group, Result, Usage, Version};

/// v1's levels of memory pressure.
const LEVELS: [&str; 3] = ["low", "medium", "critical"];
const OOM: &str = "memory.oom_control";
const EVENTS: &str = "memory.events";
const CONTROL: &str = "cgroup.event_control";
const PRESSURE: &str = "memory.pressure_level";

/// What a group met since it was made, as far as its files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Met {
    /// How many processes the kernel killed for lack of memory.
    pub oom_kills: u64,
    /// How often a process could not be made.
    pub pids: u64,
}

/// What a [`Bell`] rings for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rings {
    /// There was no memory (v1).
    OutOfMemory,
    /// One of v2's counts of memory grew.
    Memory,
    /// A process could not be made.
    Pids,
}

/// Something to wait for.
#[derive(Debug)]
pub struct Bell {
    /// What for.
    pub rings: Rings,
    /// Ready when it rings.
    pub fd: OwnedFd,
    /// Ready by POLLPRI, instead of by POLLIN.
    pub urgent: bool,
}

/// Makes it wait for the next time. Nothing else is in what it says: see [`Group::met`].
pub fn silence(bell: impl AsFd) {
    // An eventfd gives its count, a file has to be read from its beginning; either fails on the other's way.
    let mut buffer = [0; 4096];
    if rustix::io::pread(&bell, &mut buffer, 0).is_err() {
        let _ = rustix::io::read(&bell, &mut buffer);
    }
}

impl Group {
    /// What rings when the group meets a limit; at once, if it has met one already.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn bells(&self) -> Result<Vec<Bell>> {
        let mut bells = Vec::with_capacity(2);
        let before = self.met();
        match self.dir_of(Controller::Memory) {
            Some((dir, Version::V1)) => {
                let fd = event(dir, OOM, "").map_err(|errno| self.deaf(OOM, errno))?;
                if before.oom_kills > 0 {
                    let _ = rustix::io::write(&fd, &1u64.to_ne_bytes());
                }
                bells.push(Bell { rings: Rings::OutOfMemory, fd, urgent: false });
            }
            Some((dir, Version::V2)) => {
                bells.extend(self.polled(dir, EVENTS, Rings::Memory, before.oom_kills)?);
            }
            None => {}
        }
        if let Some((dir, _)) = self.dir_of(Controller::Pids) {
            bells.extend(self.polled(dir, pids::EVENTS, Rings::Pids, before.pids)?);
        }
        Ok(bells)
    }

    fn polled(&self, dir: BorrowedFd<'_>, file: &str, rings: Rings, before: u64) -> Result<Option<Bell>> {
        match rustix::fs::openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => {
                // It rings until it has been read once.
                if before == 0 {
                    silence(&fd);
                }
                Ok(Some(Bell { rings, fd, urgent: true }))
            }
            // A kernel without it does not tell.
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.deaf(file, errno)),
        }
    }

    /// What counts how often memory is short, from now on; none where the kernel does not tell (v2 counts by itself).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn pressure(&self) -> Result<Option<Pressure>> {
        let Some((dir, Version::V1)) = self.dir_of(Controller::Memory) else { return Ok(None) };
        let level = |level| event(dir, PRESSURE, level).map_err(|errno| self.deaf(PRESSURE, errno));
        let [low, medium, critical] = LEVELS;
        Ok(Some(Pressure { bells: [level(low)?, level(medium)?, level(critical)?], counts: [0; 3] }))
    }

    /// What it met so far.
    pub fn met(&self) -> Met {
        let mut met = Met::default();
        if let Some((dir, version)) = self.dir_of(Controller::Memory) {
            let mut usage = Usage::default();
            memory::measure_events(&Files::new(dir), version, &mut usage);
            met.oom_kills = usage.oom_kills.unwrap_or(0);
        }
        if let Some((dir, _)) = self.dir_of(Controller::Pids) {
            let refused = Files::new(dir).with(pids::EVENTS, |text| field(text, "max"));
            met.pids = refused.flatten().unwrap_or(0);
        }
        met
    }

    fn deaf(&self, file: &str, errno: Errno) -> Error {
        Error::Io { what: "listen to", path: format!("{}/{file}", self.path()).into(), source: errno.into() }
    }
}

/// Counts how often v1 says that memory is short. Nobody waits for it: the kernel counts meanwhile.
#[derive(Debug)]
pub struct Pressure {
    bells: [OwnedFd; 3],
    counts: [u64; 3],
}

impl Pressure {
    /// How often so far: low, medium, critical.
    pub fn read(&mut self) -> [u64; 3] {
        for (bell, count) in self.bells.iter().zip(&mut self.counts) {
            let mut more = [0; 8];
            if rustix::io::read(bell, &mut more) == Ok(8) {
                *count += u64::from_ne_bytes(more);
            }
        }
        self.counts
    }
}

/// v1: has the kernel count into an eventfd.
fn event(dir: BorrowedFd<'_>, file: &str, argument: &str) -> rustix::io::Result<OwnedFd> {
    let open = |name: &str, access| rustix::fs::openat(dir, name, access | OFlags::CLOEXEC, Mode::empty());
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let target = open(file, OFlags::RDONLY)?;
    let control = open(CONTROL, OFlags::WRONLY)?;
    let text = format!("{} {} {argument}", fd.as_raw_fd(), target.as_raw_fd());
    rustix::io::write(&control, text.trim_end().as_bytes())?;
    Ok(fd)
}
