// SPDX-License-Identifier: Apache-2.0
//! What all threads of the containerizer have in common.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use berth_contract::{Error, EventLog, Phase, What};
use berth_model::{Class, ContainerId, ContainerTermination};

use crate::base::Bases;
use crate::entry::{Bell, Entry};
use crate::error::warn;
use crate::record::Records;
use crate::settings::Settings;

/// Of threads that wait most of their life: only what they touch costs memory. Reading a record takes some of it.
const STACK: usize = 1 << 20;
/// How long threads may take to end when the containerizer goes.
const LEAVING: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) records: Records,
    pub(crate) bases: Bases,
    pub(crate) events: EventLog,
    entries: Mutex<BTreeMap<ContainerId, Arc<Entry>>>,
    /// Readable when the containerizer goes.
    leave: Bell,
    leaving: AtomicBool,
    working: Mutex<usize>,
    idle: Condvar,
}

impl Shared {
    pub(crate) fn new(settings: Settings, events: EventLog) -> Result<Shared, Error> {
        Ok(Shared {
            records: Records::below(&settings.runtime_dir),
            bases: Bases::default(),
            settings,
            events,
            entries: Mutex::new(BTreeMap::new()),
            leave: Bell::new()?,
            leaving: AtomicBool::new(false),
            working: Mutex::new(0),
            idle: Condvar::new(),
        })
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Entry>>> {
        lock(&self.entries)
    }

    pub(crate) fn get(&self, id: &ContainerId) -> Option<Arc<Entry>> {
        self.entries().get(id).cloned()
    }

    pub(crate) fn leave_bell(&self) -> &Bell {
        &self.leave
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Work on a thread of its own, which goes on whoever waits for it.
    pub(crate) fn work(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> Result<(), Error> {
        /// Counts the thread out, also when it panics.
        struct Out(Arc<Shared>);
        impl Drop for Out {
            fn drop(&mut self) {
                *lock(&self.0.working) -= 1;
                self.0.idle.notify_all();
            }
        }
        *lock(&self.working) += 1;
        let out = Out(Arc::clone(self));
        let builder = thread::Builder::new().name("lxc".to_owned()).stack_size(STACK);
        match builder.spawn(move || work(&out.0)) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(Error::because(Class::Exhausted, "make a thread for a container of LXC", error))
            }
        }
    }

    /// Ends what is under way, and leaves the containers alone.
    pub(crate) fn go(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        self.leave.ring();
        let until = Instant::now() + LEAVING;
        let mut working = lock(&self.working);
        while *working > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return warn(&format!("{} threads did not end in {LEAVING:?} and are left behind", *working));
            }
            working = self.idle.wait_timeout(working, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Moves an entry on and tells everyone.
    pub(crate) fn step(&self, entry: &Entry, to: Phase) {
        if let Some(from) = entry.go(to) {
            self.events.publish(&entry.id, What::Moved { from, to });
        }
    }

    /// The end of the end: everyone is told.
    pub(crate) fn terminated(&self, entry: &Entry, termination: ContainerTermination) {
        self.step(entry, Phase::Terminated);
        self.events.publish(&entry.id, What::Ended(termination.clone()));
        entry.ended.settle(termination);
    }

    /// Takes away one whose launch did not succeed: its id is free again.
    pub(crate) fn bury(&self, entry: &Entry) {
        self.step(entry, Phase::Destroying);
        self.forget(entry);
        let message = Some("the launch did not succeed".to_owned());
        self.terminated(entry, ContainerTermination { message, ..ContainerTermination::default() });
        self.events.publish(&entry.id, What::Removed);
    }

    /// Forgets an entry and its record.
    pub(crate) fn forget(&self, entry: &Entry) {
        if let Err(error) = self.records.remove(&entry.id) {
            warn(&format!("the record of container {} stays: {}", entry.id, error.chain()));
        }
        self.entries().remove(&entry.id);
    }
}

/// Everything that is changed under these locks is whole again before anything can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
