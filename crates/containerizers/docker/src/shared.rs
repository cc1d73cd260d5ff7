// SPDX-License-Identifier: Apache-2.0
//! What all tasks of the containerizer have in common.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_cgroup::Hierarchies;
use berth_contract::{Error, EventLog, Phase, What};
use berth_fetcher::{Fetcher, OpenError};
use berth_model::{ContainerId, ContainerTermination};

use crate::engine::Engine;
use crate::entry::Entry;
use crate::error::warn;
use crate::exec::Sessions;
use crate::record::Records;
use crate::settings::Settings;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) engine: Engine,
    pub(crate) records: Records,
    pub(crate) events: EventLog,
    pub(crate) sessions: Sessions,
    pub(crate) hierarchies: Option<Hierarchies>,
    /// Pulls so far, and how long they took, in milliseconds.
    pub(crate) pulls: AtomicU64,
    pub(crate) pull_time: AtomicU64,
    /// None until the cache could be opened.
    fetcher: Mutex<Option<Fetcher>>,
    entries: Mutex<BTreeMap<ContainerId, Arc<Entry>>>,
}

impl Shared {
    pub(crate) fn new(settings: Settings, events: EventLog) -> Shared {
        Shared {
            engine: Engine::at(&settings.socket),
            records: Records::below(&settings.runtime_dir),
            events,
            sessions: Sessions::default(),
            // Without control groups there is nothing to measure.
            hierarchies: Hierarchies::probe(std::path::Path::new(Hierarchies::ROOT)).ok(),
            pulls: AtomicU64::new(0),
            pull_time: AtomicU64::new(0),
            fetcher: Mutex::new(None),
            entries: Mutex::new(BTreeMap::new()),
            settings,
        }
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &ContainerId) -> Option<Arc<Entry>> {
        self.entries().get(id).cloned()
    }

    /// The fetcher, opened by the first who needs it; none where there is none.
    pub(crate) fn fetcher(&self) -> Result<Option<Fetcher>, OpenError> {
        let Some(config) = &self.settings.fetcher else { return Ok(None) };
        let mut open = self.fetcher.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            *open = Some(Fetcher::open(config.clone())?);
        }
        Ok(open.clone())
    }

    pub(crate) fn pulled(&self, took: Duration) {
        self.pulls.fetch_add(1, Ordering::Relaxed);
        self.pull_time.fetch_add(took.as_millis() as u64, Ordering::Relaxed);
    }

    /// Moves an entry on and tells everyone.
    pub(crate) fn step(&self, entry: &Entry, to: Phase) {
        if let Some(from) = entry.go(to) {
            self.events.publish(&entry.id, What::Moved { from, to });
        }
    }

    /// The end of the end: everyone is told.
    pub(crate) fn terminated(&self, entry: &Entry, termination: ContainerTermination) {
        self.sessions.end_below(self, &entry.id);
        self.step(entry, Phase::Destroying);
        self.step(entry, Phase::Terminated);
        self.events.publish(&entry.id, What::Ended(termination.clone()));
        entry.ended.settle(termination);
    }

    /// Takes away one whose launch did not succeed: its id is free again.
    pub(crate) fn bury(&self, entry: &Entry, message: &str) {
        self.forget(entry);
        let message = Some(message.to_owned());
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

    /// Writes what is wrong with a record's file, which is no reason to stop.
    pub(crate) fn noted(&self, entry: &Entry, result: Result<(), Error>) {
        if let Err(error) = result {
            warn(&format!("container {}: {}", entry.id, error.chain()));
        }
    }
}

/// Seconds since 1970.
pub(crate) fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
