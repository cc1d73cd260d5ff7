// SPDX-License-Identifier: Apache-2.0
//! For kinds whose containers have a thread each: work that goes on whoever waits for it, and ends when the containerizer
//! goes, which leaves the containers alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use berth_contract::{Answer, Error, LaunchResult, Limits, Phase, Settled, block_on, ready};
use berth_model::{Class, ContainerId, Resources};
use berth_sys::rustix::event::{EventfdFlags, eventfd};

use crate::entry::Entry;
use crate::keeper::Keeper;
use crate::kind::Kind;
use crate::record::Record;
use crate::{of_io, warn};

/// Of threads that wait most of their life: only what they touch costs memory. Reading a record takes some of it.
const STACK: usize = 1 << 20;
/// How long threads may take to end when the containerizer goes.
const LEAVING: Duration = Duration::from_secs(30);

/// What a thread that waits can be woken by, once: it stays readable.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// One that was not rung.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn new() -> Result<Bell, Error> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Bell)
            .map_err(|errno| of_io("make an event descriptor")(errno.into()))
    }

    /// Rings it.
    pub fn ring(&self) {
        // One that is full is readable as well.
        let _ = berth_sys::rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The threads of a kind.
#[derive(Debug)]
pub struct Threads {
    /// Readable when the containerizer goes.
    leave: Bell,
    leaving: AtomicBool,
    working: Mutex<usize>,
    idle: Condvar,
}

impl Threads {
    /// None so far.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn new() -> Result<Threads, Error> {
        Ok(Threads {
            leave: Bell::new()?,
            leaving: AtomicBool::new(false),
            working: Mutex::new(0),
            idle: Condvar::new(),
        })
    }

    fn working(&self) -> MutexGuard<'_, usize> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kind whose containers have a thread each.
pub trait Threaded: Kind {
    /// Its threads.
    fn threads(&self) -> &Threads;

    /// Changes the limits of a container that came up.
    ///
    /// # Errors
    /// They can not be so.
    fn update(
        keeper: &Arc<Keeper<Self>>,
        entry: &Entry<Self>,
        requests: &Resources,
        limits: &Limits,
    ) -> Result<(), Error>;

    /// Removes what there is of a container that has ended, but for its record.
    ///
    /// # Errors
    /// Something of it stays.
    fn remove(keeper: &Keeper<Self>, entry: &Entry<Self>) -> Result<(), Error>;
}

impl<K: Threaded> Keeper<K> {
    /// Readable when the containerizer goes.
    pub fn leave_bell(&self) -> &Bell {
        &self.own.threads().leave
    }

    /// Does the containerizer go?
    pub fn is_leaving(&self) -> bool {
        self.own.threads().leaving.load(Ordering::SeqCst)
    }

    /// Work on a thread of its own, which goes on whoever waits for it.
    ///
    /// # Errors
    /// There is no thread left.
    pub fn work(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) -> Result<(), Error> {
        /// Counts the thread out, also when it panics.
        struct Out<K: Threaded>(Arc<Keeper<K>>);
        impl<K: Threaded> Drop for Out<K> {
            fn drop(&mut self) {
                let threads = self.0.own.threads();
                *threads.working() -= 1;
                threads.idle.notify_all();
            }
        }
        *self.own.threads().working() += 1;
        let out = Out(Arc::clone(self));
        let builder = thread::Builder::new().name(K::NAME.to_owned()).stack_size(STACK);
        match builder.spawn(move || work(&out.0)) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(Error::because(Class::Exhausted, format!("make a thread for {}", K::WHAT), error))
            }
        }
    }

    /// The answer of such work.
    pub fn answer<T: Clone + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, Error> + Send + 'static,
    ) -> Answer<'static, T> {
        let answer = Settled::new();
        let place = answer.clone();
        match self.work(move |keeper| _ = place.settle(work(keeper))) {
            Ok(()) => Box::pin(answer.wait()),
            Err(error) => ready(Err(error)),
        }
    }

    /// Ends what is under way, and leaves the containers alone.
    pub fn leave(&self) {
        let threads = self.own.threads();
        threads.leaving.store(true, Ordering::SeqCst);
        threads.leave.ring();
        let until = Instant::now() + LEAVING;
        let mut working = threads.working();
        while *working > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("{} threads did not end in {LEAVING:?} and are left behind", *working);
                return warn::<K>(&text);
            }
            working = threads.idle.wait_timeout(working, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Launches a container by `owner`, which owns it then.
    pub fn launch(
        self: &Arc<Self>,
        record: Record<K>,
        phase: Phase,
        owner: impl FnOnce(&Arc<Self>, &Entry<K>) + Send + 'static,
    ) -> Answer<'static, LaunchResult> {
        let entry = match self.create(record, phase) {
            Ok(Some(entry)) => entry,
            Ok(None) => return ready(Ok(LaunchResult::AlreadyLaunched)),
            Err(error) => return ready(Err(error)),
        };
        let (launched, owned) = (entry.launched.clone(), Arc::clone(&entry));
        if let Err(error) = self.work(move |keeper| owner(keeper, &owned)) {
            self.failed(&entry, error, "the launch did not succeed");
        }
        Box::pin(launched.wait())
    }

    /// What the containerizer says to who asked for a launch when it goes in its midst.
    pub fn left(&self, entry: &Entry<K>) {
        let text =
            format!("launch container {}: the agent ends; the next one takes away what is there", entry.id);
        entry.launched.settle(Err(Error::other(Class::Gone, text)));
    }

    /// Changes the limits of a container, when those who asked before have theirs.
    pub fn update(
        self: &Arc<Self>,
        id: &ContainerId,
        requests: Resources,
        limits: Limits,
    ) -> Answer<'static, ()> {
        let turn = match self.turn(id) {
            Ok(turn) => turn,
            Err(done) => return ready(done),
        };
        self.answer(move |keeper| {
            block_on(turn.comes());
            let entry = &turn.entry;
            let over = || entry.is_over() || entry.is_destroyed();
            let why = match entry.has_come_up() {
                false => "its launch did not succeed",
                true if over() => "it has ended",
                true => match K::update(keeper, entry, &requests, &limits) {
                    // It may end at any moment, and then nobody knows it any longer.
                    Err(_) if over() => "it has ended",
                    result => return result,
                },
            };
            warn::<K>(&format!("an update of container {} is ignored: {why}", entry.id));
            Ok(())
        })
    }

    /// Removes a container that has ended: the sandbox first, then the record, so that whoever is killed in between still
    /// knows how it ended.
    pub fn remove(self: &Arc<Self>, id: &ContainerId) -> Answer<'static, ()> {
        let (entry, removed, ours) = match self.removal(id) {
            Ok(removal) => removal,
            Err(done) => return ready(done),
        };
        if ours {
            let (own, place) = (Arc::clone(&entry), removed.clone());
            let work = self.work(move |keeper| _ = place.settle(keeper.remove_now(&own)));
            if let Err(error) = work {
                entry.kept();
                removed.settle(Err(error));
            }
        }
        Box::pin(removed.wait())
    }

    /// The same on the caller's thread.
    ///
    /// # Errors
    /// It stays.
    pub fn remove_here(&self, id: &ContainerId) -> Result<(), Error> {
        match self.removal(id) {
            Err(done) => done,
            Ok((_, removed, false)) => block_on(removed.wait()),
            Ok((entry, removed, true)) => {
                let result = self.remove_now(&entry);
                removed.settle(result.clone());
                result
            }
        }
    }

    fn remove_now(&self, entry: &Entry<K>) -> Result<(), Error> {
        self.removed(entry, K::remove(self, entry))
    }
}
