// SPDX-License-Identifier: Apache-2.0
//! Being told, without looking again and again, that a group met a limit: one descriptor for all groups that are watched.
//!
//! | | v1 | v2 |
//! |---|---|---|
//! | out of memory | an eventfd on `memory.oom_control` | inotify on `memory.events` |
//! | memory is short | eventfds on `memory.pressure_level` | the same file: `max` grows |
//! | no more processes | inotify on `pids.events`, up to Linux 6.10 | inotify on `pids.events` |
//!
//! Later kernels do not tell on v1 that a fork was refused (seen on 6.18): there it is only counted, for whoever asks.
//! All groups share one inotify, because a user may have few of them (128 by default). Nothing tells of throttling: that
//! is counted in `cpu.stat`, for whoever asks. v1 tells before the kernel kills, so the count of kills may still be the
//! old one. A group that is removed may tell of itself once more; its token is unknown then. Sources: cgroup-v1/memory,
//! cgroup-v1/pids and cgroup-v2 in the kernel's documentation, inotify(7).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::controller::pids;
use crate::tree::Files;
use crate::{Controller, Error, Group, Result, Version};

/// v1's levels of memory pressure, in the order of [`Pressure`].
const LEVELS: [&str; 3] = ["low", "medium", "critical"];
const OOM: &str = "memory.oom_control";
const EVENTS: &str = "memory.events";
const CONTROL: &str = "cgroup.event_control";
const PRESSURE: &str = "memory.pressure_level";
/// The inotify's place among the tokens.
const NOTIFY: u64 = u64::MAX;

/// How often v1 said that memory is short: low, medium, critical.
pub type Pressure = [u64; 3];

/// What a group met since it was made, as far as its files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Met {
    /// How many processes the kernel killed for lack of memory.
    pub oom_kills: u64,
    /// How often its memory limit was in the way.
    pub memory: u64,
    /// How often a process could not be made.
    pub pids: u64,
}

/// One group's news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// Whose: as given to [`Watcher::watch`].
    pub token: u64,
    /// Whether the kernel said that there is no memory for it (v1).
    pub out_of_memory: bool,
}

/// Tells of all groups that it watches.
#[derive(Debug)]
pub struct Watcher {
    epoll: OwnedFd,
    notify: OwnedFd,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    groups: BTreeMap<u64, Sources>,
    by_watch: BTreeMap<i32, u64>,
    by_number: BTreeMap<u64, (u64, usize)>,
    next: u64,
}

/// What one group has here.
#[derive(Debug, Default)]
struct Sources {
    watches: Vec<i32>,
    /// Out of memory, then the levels of pressure.
    eventfds: Vec<(u64, OwnedFd)>,
    pressure: Option<Pressure>,
}

impl Watcher {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// [`Error::Io`]: no descriptors left.
    pub fn new() -> Result<Watcher> {
        let failed = |errno: Errno| failed("make a place to watch for", "limits", errno);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let notify = inotify::init(flags).map_err(failed)?;
        epoll::add(&epoll, &notify, EventData::new_u64(NOTIFY), EventFlags::IN).map_err(failed)?;
        Ok(Watcher { epoll, notify, watched: Mutex::default() })
    }

    /// Watches a group, under a token of the caller's. A group that is watched already is watched anew.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is watched then.
    pub fn watch(&self, group: &Group, token: u64) -> Result<()> {
        self.forget(token);
        let mut watched = self.lock();
        watched.groups.insert(token, Sources::default());
        let made = self.add(group, token, &mut watched);
        drop(watched);
        made.inspect_err(|_| self.forget(token)).map_err(|(file, errno)| failed("watch", file, errno))
    }

    fn add(
        &self,
        group: &Group,
        token: u64,
        watched: &mut Watched,
    ) -> std::result::Result<(), (&'static str, Errno)> {
        match group.dir_of(Controller::Memory) {
            Some((dir, Version::V1)) => self.event(dir, OOM, "", token, 0, watched)?,
            Some((dir, Version::V2)) => self.inotify(dir, EVENTS, token, watched)?,
            None => {}
        }
        match group.dir_of(Controller::Pids) {
            Some((dir, _)) => self.inotify(dir, pids::EVENTS, token, watched),
            None => Ok(()),
        }
    }

    /// Counts from now on how often memory is short, where the kernel tells (v1).
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::NotFound`] when the group is not watched.
    pub fn count_pressure(&self, group: &Group, token: u64) -> Result<()> {
        let Some((dir, Version::V1)) = group.dir_of(Controller::Memory) else { return Ok(()) };
        let mut watched = self.lock();
        match watched.groups.get_mut(&token) {
            None => {
                let root = group.hierarchies().root().to_owned();
                return Err(Error::NotFound { path: group.path().to_owned(), root });
            }
            Some(sources) if sources.pressure.is_some() => return Ok(()),
            Some(sources) => sources.pressure = Some([0; 3]),
        }
        for (at, level) in LEVELS.iter().enumerate() {
            self.event(dir, PRESSURE, level, token, at + 1, &mut watched)
                .map_err(|(file, errno)| failed("watch", file, errno))?;
        }
        Ok(())
    }

    /// How often it was, since that began.
    pub fn pressure(&self, token: u64) -> Option<Pressure> {
        self.lock().groups.get(&token)?.pressure
    }

    /// Watches a group no more.
    pub fn forget(&self, token: u64) {
        let mut watched = self.lock();
        let Some(sources) = watched.groups.remove(&token) else { return };
        for watch in sources.watches {
            watched.by_watch.remove(&watch);
            // The group, and the watch with it, may be gone.
            let _ = inotify::remove_watch(&self.notify, watch);
        }
        for (number, fd) in sources.eventfds {
            watched.by_number.remove(&number);
            // The kernel holds the file for v1 until the group goes, so closing it is not enough.
            let _ = epoll::delete(&self.epoll, &fd);
        }
    }

    /// Waits for news, at most until `timeout`; each group once. Empty at the end of it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn hear(&self, timeout: Option<&Timespec>) -> Result<Vec<News>> {
        let mut ready = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("wait for news of", "limits", errno)),
        }
        let mut news: BTreeMap<u64, bool> = BTreeMap::new();
        let mut watched = self.lock();
        for event in ready {
            if event.data.u64() == NOTIFY {
                for watch in self.read_notify() {
                    if let Some(token) = watched.by_watch.get(&watch) {
                        news.entry(*token).or_default();
                    }
                }
                continue;
            }
            let Some((token, kind)) = watched.by_number.get(&event.data.u64()).copied() else { continue };
            let Some(sources) = watched.groups.get_mut(&token) else { continue };
            let count = sources
                .eventfds
                .iter()
                .find(|(number, _)| *number == event.data.u64())
                .map_or(0, |(_, fd)| drain(fd.as_fd()));
            match (kind, &mut sources.pressure) {
                (0, _) => *news.entry(token).or_default() = true,
                (level, Some(pressure)) => pressure[level - 1] += count,
                (_, None) => {}
            }
        }
        Ok(news.into_iter().map(|(token, out_of_memory)| News { token, out_of_memory }).collect())
    }

    fn read_notify(&self) -> Vec<i32> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.notify, &mut buffer);
        let mut watches = Vec::new();
        while let Ok(event) = reader.next() {
            watches.push(event.wd());
            if reader.is_buffer_empty() && watches.len() > 256 {
                // The rest is there the next time.
                break;
            }
        }
        watches
    }

    fn inotify(
        &self,
        dir: BorrowedFd<'_>,
        file: &'static str,
        token: u64,
        watched: &mut Watched,
    ) -> std::result::Result<(), (&'static str, Errno)> {
        let path = format!("/proc/self/fd/{}/{file}", dir.as_raw_fd());
        match inotify::add_watch(&self.notify, path.as_str(), inotify::WatchFlags::MODIFY) {
            Ok(watch) => {
                watched.by_watch.insert(watch, token);
                if let Some(sources) = watched.groups.get_mut(&token) {
                    sources.watches.push(watch);
                }
                Ok(())
            }
            // A kernel without it does not tell.
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err((file, errno)),
        }
    }

    fn event(
        &self,
        dir: BorrowedFd<'_>,
        file: &'static str,
        argument: &str,
        token: u64,
        kind: usize,
        watched: &mut Watched,
    ) -> std::result::Result<(), (&'static str, Errno)> {
        let register = || -> rustix::io::Result<OwnedFd> {
            let open =
                |name: &str, access| rustix::fs::openat(dir, name, access | OFlags::CLOEXEC, Mode::empty());
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let target = open(file, OFlags::RDONLY)?;
            let control = open(CONTROL, OFlags::WRONLY)?;
            let text = format!("{} {} {argument}", fd.as_raw_fd(), target.as_raw_fd());
            rustix::io::write(&control, text.trim_end().as_bytes())?;
            Ok(fd)
        };
        let fd = register().map_err(|errno| (file, errno))?;
        let number = watched.next;
        watched.next += 1;
        epoll::add(&self.epoll, &fd, EventData::new_u64(number), EventFlags::IN)
            .map_err(|errno| (file, errno))?;
        watched.by_number.insert(number, (token, kind));
        if let Some(sources) = watched.groups.get_mut(&token) {
            sources.eventfds.push((number, fd));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Watcher {
    /// Readable when there is news, for who waits for other things as well.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Group {
    /// What it met so far.
    pub fn met(&self) -> Met {
        let mut met = Met::default();
        if let Some((dir, version)) = self.dir_of(Controller::Memory) {
            let mut usage = crate::Usage::default();
            crate::controller::memory::measure_events(&Files::new(dir), version, &mut usage);
            met.oom_kills = usage.oom_kills.unwrap_or(0);
            met.memory = usage.memory_limit_hits.unwrap_or(0);
        }
        if let Some((dir, _)) = self.dir_of(Controller::Pids) {
            met.pids = Files::new(dir)
                .with(pids::EVENTS, |text| crate::tree::field(text, "max"))
                .flatten()
                .unwrap_or(0);
        }
        met
    }
}

/// How often it was signalled.
fn drain(fd: BorrowedFd<'_>) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(fd, &mut count) {
        Ok(8) => u64::from_ne_bytes(count),
        _ => 0,
    }
}

fn failed(what: &'static str, file: &str, errno: Errno) -> Error {
    Error::Io { what, path: file.into(), source: errno.into() }
}
