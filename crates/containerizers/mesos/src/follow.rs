// SPDX-License-Identifier: Apache-2.0
//! Following output files for whoever is attached: one thread for all of them, and none when there are none.
//!
//! A container without a terminal writes its files itself, and nobody is in between. So whoever reads slowly holds up
//! nobody: what it has not read yet waits in the file.
//!
//! ```text
//! file ── pread at the follower's own place ──> pipe ──> reader
//!   └── inotify: written                        └── gone: the follower ends; full: it waits
//! ```

use crate::collect::chain;
use crate::shared::warn;
use berth_contract::Error;
use berth_logger::{Piece, Reader, watch_path};
use berth_model::{Class, ContainerId};
use berth_sys::rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use berth_sys::rustix::fs::inotify;
use berth_sys::rustix::io;
use berth_sys::{Errno, signal};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much is copied at once for one follower, before the others have their turn.
const TURN: usize = 16;
/// How often files are looked at that can not be watched.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Those who follow.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    letters: Mutex<Letters>,
}

#[derive(Debug, Default)]
struct Letters {
    new: Vec<Follower>,
    /// Containers that have ended.
    ended: Vec<ContainerId>,
    closing: bool,
    /// Wakes the thread; there while that runs.
    bell: Option<Arc<OwnedFd>>,
}

/// One file that is followed.
#[derive(Debug)]
struct Follower {
    id: ContainerId,
    log: Reader,
    /// What was read and not taken yet.
    rest: Vec<u8>,
    /// Never waited for.
    sink: OwnedFd,
    watch: Option<i32>,
    state: State,
    /// Nothing more will be written.
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There may be something to copy.
    Ready,
    /// All was copied.
    Idle,
    /// The sink is full.
    Full,
    /// The sink is gone, or all that there will be was copied.
    Done,
}

impl Followers {
    /// Copies what comes next in `log` into `sink`, until the container ends or nobody reads any more.
    /// `spawn` starts the thread when there is none.
    ///
    /// # Errors
    /// No descriptors or threads left.
    pub(crate) fn add(
        self: &Arc<Self>,
        id: &ContainerId,
        log: Reader,
        sink: OwnedFd,
        spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (rest, state) = (Vec::new(), State::Ready);
        let follower = Follower { id: id.clone(), log, rest, sink, watch: None, state, ended: false };
        let mut letters = self.lock();
        if letters.bell.is_none() {
            let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| {
                let e = std::io::Error::from(e);
                Error::because(Class::of_io(&e), "make an event descriptor for attached readers", e)
            })?;
            let bell = Arc::new(bell);
            letters.bell = Some(Arc::clone(&bell));
            let followers = Arc::clone(self);
            if let Err(e) = spawn(Box::new(move || followers.run(&bell))) {
                letters.bell = None;
                return Err(e);
            }
        }
        letters.new.push(follower);
        letters.ring();
        Ok(())
    }

    /// The container has written all that it will.
    pub(crate) fn end(&self, id: &ContainerId) {
        let mut letters = self.lock();
        if letters.bell.is_some() {
            letters.ended.push(id.clone());
            letters.ring();
        }
    }

    /// Lets the thread end.
    pub(crate) fn close(&self) {
        let mut letters = self.lock();
        letters.closing = true;
        letters.ring();
    }

    fn run(&self, bell: &OwnedFd) {
        // What is for the agent is for its own threads; and who reads may be gone at any write.
        let _ = signal::set_mask(signal::Set::ALL);
        let watcher = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK);
        if let Err(e) = &watcher {
            warn(&format!("attached readers are served now and then: {}", chain(&std::io::Error::from(*e))));
        }
        let watcher = watcher.ok();
        let mut all: Vec<Follower> = Vec::new();
        let mut room = vec![0; 64 << 10];
        loop {
            {
                let mut letters = self.lock();
                let _ = io::read(bell, &mut [0u8; 8]);
                all.append(&mut letters.new);
                for id in std::mem::take(&mut letters.ended) {
                    for follower in all.iter_mut().filter(|follower| follower.id == id) {
                        (follower.ended, follower.state) = (true, State::Ready);
                    }
                }
                if letters.closing || all.is_empty() {
                    letters.bell = None;
                    return;
                }
            }
            for follower in &mut all {
                if follower.watch.is_none() {
                    follower.watch = watcher.as_ref().and_then(|watcher| watch(watcher, &follower.log));
                }
                if follower.state == State::Ready {
                    follower.copy(&mut room);
                }
            }
            let (done, left): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|follower| follower.state == State::Done);
            all = left;
            for follower in done {
                let others = all.iter().any(|other| other.watch == follower.watch);
                if let (Some(watcher), Some(watch), false) = (&watcher, follower.watch, others) {
                    let _ = inotify::remove_watch(watcher, watch);
                }
            }
            if !all.is_empty() {
                wait(bell, watcher.as_ref(), &mut all);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Letters {
    fn ring(&self) {
        if let Some(bell) = &self.bell {
            let _ = io::write(&**bell, &1u64.to_ne_bytes());
        }
    }
}

impl Follower {
    fn copy(&mut self, room: &mut [u8]) {
        for _ in 0..TURN {
            if self.rest.is_empty() {
                match self.log.read(room) {
                    Ok(Piece::Data { length, .. }) => self.rest.extend_from_slice(&room[..length]),
                    // It goes on after what is gone, or from the beginning of what was cut off.
                    Ok(Piece::Missed(_)) => continue,
                    Ok(Piece::Nothing) => {
                        self.state = if self.ended { State::Done } else { State::Idle };
                        return;
                    }
                    Err(_) => {
                        self.state = State::Done;
                        return;
                    }
                }
            }
            match io::write(&self.sink, &self.rest) {
                Ok(written) => drop(self.rest.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.state = State::Full;
                    return;
                }
                Err(_) => {
                    self.state = State::Done;
                    return;
                }
            }
        }
    }
}

/// Has the next write or rotation told, once: who prints without end pays for one in each round.
fn watch(watcher: &OwnedFd, log: &Reader) -> Option<i32> {
    let path = watch_path(log.file_in_use()?);
    inotify::add_watch(watcher, path, watch_flags()).ok()
}

fn watch_flags() -> inotify::WatchFlags {
    use inotify::WatchFlags;
    WatchFlags::MODIFY | WatchFlags::MOVE_SELF | WatchFlags::ATTRIB | WatchFlags::ONESHOT
}

/// Waits until there is something to do for somebody, and marks whom.
fn wait(bell: &OwnedFd, watcher: Option<&OwnedFd>, all: &mut [Follower]) {
    let mut slots = vec![PollFd::new(bell, PollFlags::IN)];
    slots.extend(watcher.map(|watcher| PollFd::new(watcher, PollFlags::IN)));
    let first = slots.len();
    let mut unwatched = false;
    for follower in all.iter() {
        let full = follower.state == State::Full;
        // Even without a wish poll(2) tells when nobody reads any more.
        slots.push(PollFd::new(&follower.sink, if full { PollFlags::OUT } else { PollFlags::empty() }));
        unwatched |= follower.watch.is_none();
    }
    let busy = all.iter().any(|follower| follower.state == State::Ready);
    let time = match (busy, unwatched) {
        (true, _) => Some(&Timespec { tv_sec: 0, tv_nsec: 0 }),
        (false, true) => Some(&LOOK),
        (false, false) => None,
    };
    let _ = poll(&mut slots, time);
    let states: Vec<PollFlags> = slots[first..].iter().map(PollFd::revents).collect();
    drop(slots);
    let written = watcher.map(written).unwrap_or_default();
    for (follower, flags) in all.iter_mut().zip(states) {
        let told = follower.watch.is_some_and(|watch| written.contains(&watch));
        if told {
            follower.watch = None;
        }
        if flags.intersects(PollFlags::ERR | PollFlags::HUP) {
            follower.state = State::Done;
        } else if flags.contains(PollFlags::OUT)
            || follower.state == State::Idle && (told || follower.watch.is_none())
        {
            follower.state = State::Ready;
        }
    }
}

/// Which files were written to.
fn written(watcher: &OwnedFd) -> Vec<i32> {
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watcher, &mut room);
    let mut written = Vec::new();
    while let Ok(event) = events.next() {
        if !written.contains(&event.wd()) {
            written.push(event.wd());
        }
    }
    written
}
