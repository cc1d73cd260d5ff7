// SPDX-License-Identifier: Apache-2.0
//! What the faces of the native containerizer and the owners of its containers share: the core, the records, the
//! events, and the count of threads that are to end before it does.

use crate::collect::chain;
use crate::entry::Entry;
use crate::follow::Followers;
use crate::measure::Groups;
use crate::native::Native;
use crate::owner::{self, Job};
use crate::record::LOCK;
use berth_contract::{Error, EventLog, What};
use berth_model::{Class, ContainerId};
use berth_record::Lock;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the lock of an ended container may be held.
const LOCKED: Duration = Duration::from_secs(10);

pub(crate) struct Shared {
    pub(crate) native: Native,
    pub(crate) groups: Groups,
    pub(crate) events: EventLog,
    /// Who is attached to output that is in files.
    pub(crate) followers: Arc<Followers>,
    entries: Mutex<BTreeMap<ContainerId, Arc<Entry>>>,
    threads: Arc<Threads>,
    /// No owner may stay.
    closing: AtomicBool,
}

impl Shared {
    pub(crate) fn new(native: Native, groups: Groups) -> Shared {
        Shared {
            native,
            groups,
            events: EventLog::default(),
            followers: Arc::default(),
            entries: Mutex::default(),
            threads: Arc::default(),
            closing: AtomicBool::new(false),
        }
    }

    /// The container's record.
    pub(crate) fn get(&self, id: &ContainerId) -> Option<Arc<Entry>> {
        self.entries().get(id).cloned()
    }

    /// All records, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.entries().values().cloned().collect()
    }

    /// The records of what runs, or ran, in that container beside its own.
    pub(crate) fn inside(&self, id: &ContainerId) -> Vec<Arc<Entry>> {
        self.entries().values().filter(|entry| entry.id.parent() == Some(id)).cloned().collect()
    }

    /// Puts a new record in; `false` when there is one with that id.
    pub(crate) fn add(&self, entry: &Arc<Entry>) -> bool {
        match self.entries().entry(entry.id.clone()) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Arc::clone(entry));
                true
            }
        }
    }

    /// Removes what an ended container has in our directories.
    ///
    /// # Errors
    /// Something is left.
    pub(crate) fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        let failed = Error::RemoveRuntimeDirectory;
        let deadline = Instant::now() + LOCKED;
        loop {
            match self.native.remove(&id.to_string(), false) {
                Ok(left) if left.is_empty() => return Ok(()),
                Ok(left) => return Err(failed(left.join("; "))),
                // Gone already, with a reboot for one.
                Err(crate::Error::NotFound(_)) => return Ok(()),
                // It has ended, so its lock is held by a copy of our descriptors only, in a program that this process
                // starts, until its exec.
                Err(crate::Error::Running(_)) if Instant::now() < deadline => {
                    let dir = self.native.existing(&id.to_string()).map_err(|e| failed(chain(&e)))?;
                    if let Some(dir) = dir {
                        let _ = Lock::acquire(dir.as_fd(), LOCK, deadline);
                    }
                }
                Err(e) => return Err(failed(chain(&e))),
            }
        }
    }

    /// Takes a record away.
    pub(crate) fn forget(&self, id: &ContainerId) {
        self.entries().remove(id);
    }

    /// Starts the owner of a container whose record is in already; without one, the record goes again.
    ///
    /// # Errors
    /// No threads left.
    pub(crate) fn own(self: &Arc<Self>, entry: &Arc<Entry>, job: Job) -> Result<(), Error> {
        self.events.publish(&entry.id, What::Created(entry.now().phase()));
        let (shared, owned) = (Arc::clone(self), Arc::clone(entry));
        let started = self.thread(move || owner::run(&shared, &owned, job));
        if started.is_err() {
            self.forget(&entry.id);
            self.events.publish(&entry.id, What::Removed);
        }
        if self.closing.load(Ordering::SeqCst) {
            entry.inbox.leave();
        }
        started
    }

    /// Runs what may block on a thread of its own, which [`Shared::close`] waits for.
    ///
    /// # Errors
    /// No threads left.
    pub(crate) fn thread(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let leave = Threads::enter(&self.threads);
        let body = move || {
            // Dropped last, when everything that `work` held is gone.
            let _leave = leave;
            work();
        };
        match std::thread::Builder::new().name("container".to_owned()).spawn(body) {
            Ok(_) => Ok(()),
            Err(e) => Err(Error::because(Class::Exhausted, "start a thread for the container", e)),
        }
    }

    /// Lets all owners go, and waits until they are gone. Their containers stay as they are.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for entry in self.all() {
            entry.inbox.leave();
        }
        self.followers.close();
        self.threads.wait();
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many threads there are.
#[derive(Debug, Default)]
struct Threads {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Threads {
    fn enter(threads: &Arc<Threads>) -> Leave {
        *threads.lock() += 1;
        Leave(Arc::clone(threads))
    }

    fn wait(&self) {
        let mut count = self.lock();
        while *count > 0 {
            count = self.fewer.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Leave(Arc<Threads>);

impl Drop for Leave {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.fewer.notify_all();
    }
}

/// Tells the operator what is not worth a failure.
pub(crate) fn warn(text: &str) {
    eprintln!("berth: {text}");
}
