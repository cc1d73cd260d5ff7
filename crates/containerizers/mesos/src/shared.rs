// SPDX-License-Identifier: Apache-2.0
//! What the faces of the native containerizer and the owners of its containers share: the core, the records, the
//! events, and the threads, which end before it does.

use crate::adopt::Adopted;
use crate::collect::{Left, chain};
use crate::entry::Entry;
use crate::follow::Followers;
use crate::measure::Groups;
use crate::native::Native;
use crate::owner::{self, Job};
use crate::pool::Pool;
use crate::record::LOCK;
use crate::watcher::Watcher;
use berth_contract::{Error, EventLog, What};
use berth_model::ContainerId;
use berth_record::Lock;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the lock of an ended container may be held.
const LOCKED: Duration = Duration::from_secs(10);

pub(crate) struct Shared {
    pub(crate) native: Native,
    pub(crate) groups: Groups,
    pub(crate) events: EventLog,
    /// Who is attached to output that is in files.
    pub(crate) followers: Arc<Followers>,
    /// Waits for owners that have nothing to do.
    pub(crate) watcher: Arc<Watcher>,
    entries: Mutex<BTreeMap<ContainerId, Arc<Entry>>>,
    pool: Arc<Pool>,
    /// No owner may stay.
    closing: AtomicBool,
}

impl Shared {
    /// # Errors
    /// No threads or descriptors left.
    pub(crate) fn new(native: Native, groups: Groups) -> crate::Result<Shared> {
        let pool = Arc::default();
        let failed = |e| berth_launcher::Error::io("start the thread that waits for containers", e);
        Ok(Shared {
            native,
            groups,
            events: EventLog::default(),
            followers: Arc::default(),
            watcher: Watcher::start(&pool).map_err(failed)?,
            entries: Mutex::default(),
            pool,
            closing: AtomicBool::new(false),
        })
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

    /// The same, and what is in those, the innermost first.
    pub(crate) fn below(&self, id: &ContainerId) -> Vec<Arc<Entry>> {
        let is_below = |other: &&Arc<Entry>| other.id.ancestors().any(|at| at == id);
        let mut all: Vec<_> = self.entries().values().filter(is_below).cloned().collect();
        all.sort_by_key(|entry| std::cmp::Reverse(entry.id.depth()));
        all
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
    pub(crate) fn remove(&self, entry: &Entry) -> Result<(), Error> {
        let id = &entry.id;
        let what = if entry.now().cleaned { Left::Kept } else { Left::Anything };
        let failed = Error::RemoveRuntimeDirectory;
        let deadline = Instant::now() + LOCKED;
        loop {
            match self.native.remove_what(&id.to_string(), false, what) {
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
        let (shared, owned) = (Arc::clone(self), Arc::clone(entry));
        self.begin(entry, || self.thread(move || owner::run(&shared, &owned, job)))
    }

    /// The same for one that an earlier agent launched.
    ///
    /// # Errors
    /// No threads left.
    pub(crate) fn take_over(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        adopted: Box<Adopted>,
        forget: bool,
    ) -> Result<(), Error> {
        self.begin(entry, || owner::adopt(self, entry, adopted, forget))
    }

    fn begin(&self, entry: &Arc<Entry>, start: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        self.events.publish(&entry.id, What::Created(entry.now().phase()));
        let started = start();
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
        self.pool.run(Box::new(work))
    }

    /// Lets all owners go, and waits until they are gone. Their containers stay as they are.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for entry in self.all() {
            entry.inbox.leave();
        }
        self.followers.close();
        self.watcher.stop();
        self.pool.close();
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the operator what is not worth a failure.
pub(crate) fn warn(text: &str) {
    eprintln!("berth: {text}");
}
