// SPDX-License-Identifier: Apache-2.0
//! All containers of one kind, with the answers of the contract that need nothing but what is kept of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_contract::{Answer, Error, EventLog, Phase, Settled, UNKNOWN_DESTROYED, What, ready};
use berth_model::{ContainerId, ContainerTermination};

use crate::entry::{Entry, Turn};
use crate::kind::Kind;
use crate::record::{Record, Records};
use crate::warn;

/// The last real-time signal, signal(7).
const LAST_SIGNAL: i32 = 64;

/// Keeps the containers of a kind.
#[derive(Debug)]
pub struct Keeper<K: Kind> {
    /// What all of them have in common.
    pub own: K,
    /// What is written of them.
    pub records: Records<K>,
    /// What happens to them.
    pub events: EventLog,
    entries: Mutex<BTreeMap<ContainerId, Arc<Entry<K>>>>,
}

/// What a question comes to: who has to see to it, or the answer at once.
pub type Either<T, A> = Result<T, Result<A, Error>>;

/// A removal, and whether it is the caller's to make.
pub type Removal<K> = (Arc<Entry<K>>, Settled<Result<(), Error>>, bool);

impl<K: Kind> Keeper<K> {
    /// Those with records below `--runtime_dir`. Nothing is read before recovery.
    pub fn new(own: K, runtime_dir: &Path, events: EventLog) -> Keeper<K> {
        Keeper { own, records: Records::below(runtime_dir), events, entries: Mutex::new(BTreeMap::new()) }
    }

    /// All that are known.
    pub fn entries(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Entry<K>>>> {
        // Everything that is changed under this lock is whole again before anything can panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that is known.
    pub fn get(&self, id: &ContainerId) -> Option<Arc<Entry<K>>> {
        self.entries().get(id).cloned()
    }

    /// One that is known and has not ended.
    pub fn living(&self, id: &ContainerId) -> Option<Arc<Entry<K>>> {
        self.get(id).filter(|entry| !entry.is_over())
    }

    /// Begins a launch; none if the id is taken.
    ///
    /// # Errors
    /// As those of the kind's state.
    pub fn create(&self, record: Record<K>, phase: Phase) -> Result<Option<Arc<Entry<K>>>, Error> {
        let entry = {
            let mut entries = self.entries();
            if entries.contains_key(&record.id) {
                return Ok(None);
            }
            let entry = Arc::new(Entry::new(record, phase)?);
            entries.insert(entry.id.clone(), Arc::clone(&entry));
            entry
        };
        self.events.publish(&entry.id, What::Created(phase));
        Ok(Some(entry))
    }

    // ---- from its owner ----

    /// Moves an entry on and tells everyone.
    pub fn step(&self, entry: &Entry<K>, to: Phase) {
        if let Some(from) = entry.go(to) {
            self.events.publish(&entry.id, What::Moved { from, to });
        }
    }

    /// The launch has failed, and whatever it made is gone. `message` is for the termination of one that was destroyed.
    pub fn failed(&self, entry: &Entry<K>, error: Error, message: &str) {
        self.events.publish(&entry.id, What::LaunchFailed(error.to_string()));
        // The id is free before anybody hears of the failure.
        if entry.fail() {
            self.bury(entry, message);
        }
        entry.launched.settle(Err(error));
    }

    /// The end of the end: everyone is told.
    pub fn terminated(&self, entry: &Entry<K>, termination: ContainerTermination) {
        K::ending(self, entry);
        self.step(entry, Phase::Destroying);
        self.step(entry, Phase::Terminated);
        self.events.publish(&entry.id, What::Ended(termination.clone()));
        entry.ended.settle(termination);
    }

    /// Takes away one whose launch did not succeed: its id is free again.
    fn bury(&self, entry: &Entry<K>, message: &str) {
        self.forget(entry);
        let message = Some(message.to_owned());
        self.terminated(entry, ContainerTermination { message, ..ContainerTermination::default() });
        self.events.publish(&entry.id, What::Removed);
    }

    /// Forgets an entry and its record.
    pub fn forget(&self, entry: &Entry<K>) {
        if let Err(error) = self.records.remove(&entry.id) {
            warn::<K>(&format!("the record of container {} stays: {}", entry.id, error.chain()));
        }
        self.entries().remove(&entry.id);
    }

    /// The same, and everyone is told.
    pub fn forgotten(&self, entry: &Entry<K>) {
        self.forget(entry);
        self.events.publish(&entry.id, What::Removed);
    }

    /// Tells the operator of what could not be written down, which is no reason to stop.
    pub fn noted(&self, entry: &Entry<K>, written: Result<(), Error>) {
        if let Err(error) = written {
            warn::<K>(&format!("container {}: {}", entry.id, error.chain()));
        }
    }

    // ---- of the contract ----

    /// Waits for its end.
    pub fn wait(&self, id: &ContainerId) -> Answer<'static, Option<ContainerTermination>> {
        match self.get(id) {
            Some(entry) => end_of(&entry.ended),
            None => ready(Ok(None)),
        }
    }

    /// Ends it, and waits for that.
    pub fn destroy(&self, id: &ContainerId) -> Answer<'static, Option<ContainerTermination>> {
        let Some(entry) = self.get(id) else {
            warn::<K>(&format!("{UNKNOWN_DESTROYED} {id}"));
            return ready(Ok(None));
        };
        self.end(&entry);
        end_of(&entry.ended)
    }

    /// Wishes for its end.
    pub fn end(&self, entry: &Entry<K>) {
        if entry.destroy() {
            self.bury(entry, "the launch did not succeed");
        }
    }

    /// Whom a signal is for; the answer, where there is nobody, or where it is no signal.
    ///
    /// # Errors
    /// The answer.
    pub fn for_signal(&self, id: &ContainerId, signal: i32) -> Either<Arc<Entry<K>>, bool> {
        let entry = self.living(id).ok_or(Ok(false))?;
        check_signal(signal).map_err(Err)?;
        Ok(entry)
    }

    /// A place in the order of its updates; none if there is nothing to update any more, which is no failure.
    ///
    /// # Errors
    /// The answer.
    pub fn turn(&self, id: &ContainerId) -> Either<Turn<K>, ()> {
        let Some(entry) = self.living(id).filter(|entry| !entry.is_destroyed()) else {
            warn::<K>(&format!("an update of container {id} is ignored: it is unknown, or has ended"));
            return Err(Ok(()));
        };
        Turn::of(entry).map_err(Err)
    }

    /// All that have not ended.
    pub fn containers(&self) -> Vec<ContainerId> {
        self.entries().values().filter(|entry| !entry.is_over()).map(|entry| entry.id.clone()).collect()
    }

    /// Is there one of this id?
    pub fn knows(&self, id: &ContainerId) -> bool {
        self.entries().contains_key(id)
    }

    /// The removal to make or to wait for; the answer, where that is known at once.
    ///
    /// # Errors
    /// The answer.
    pub fn removal(&self, id: &ContainerId) -> Either<Removal<K>, ()> {
        if id.is_nested() {
            return Err(if self.knows(id.root()) { Ok(()) } else { Err(Error::UnknownRoot) });
        }
        let entry = self.get(id).ok_or(Ok(()))?;
        let (removed, ours) = entry.removing().map_err(Err)?;
        Ok((entry, removed, ours))
    }

    /// The caller has made its removal, with this result, but for the record.
    ///
    /// # Errors
    /// It stays.
    pub fn removed(&self, entry: &Entry<K>, so_far: Result<(), Error>) -> Result<(), Error> {
        let record = || self.records.remove(&entry.id);
        let removed =
            so_far.and_then(|()| record().map_err(|error| Error::RemoveRuntimeDirectory(error.chain())));
        match &removed {
            Ok(()) => {
                self.entries().remove(&entry.id);
                self.events.publish(&entry.id, What::Removed);
            }
            Err(_) => entry.kept(),
        }
        removed
    }
}

/// Waits for an end.
pub fn end_of(ended: &Settled<ContainerTermination>) -> Answer<'static, Option<ContainerTermination>> {
    let ended = ended.wait();
    Box::pin(async move { Ok(Some(ended.await)) })
}

/// # Errors
/// It is no signal's number.
pub fn check_signal(signal: i32) -> Result<(), Error> {
    match (0..=LAST_SIGNAL).contains(&signal) {
        true => Ok(()),
        false => Err(Error::Signal("Invalid argument".to_owned())),
    }
}
