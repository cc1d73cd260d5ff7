// SPDX-License-Identifier: Apache-2.0
//! What is known of every container, as it was last heard: the snapshots that lists and inspections read.
//!
//! A container's state is written by [`watch`](crate::watch) alone, which follows the containerizer's events; what was
//! asked for it, by those who asked. Locks here are held for moments, and never while something is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use berth_contract::{Phase, Settled};
use berth_model::{ContainerId, ContainerTermination};

use crate::record::Record;

/// One container, from its launch to its removal.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) created: Option<SystemTime>,
    now: Mutex<Now>,
    record: Mutex<Option<Arc<Record>>>,
    /// Settled when it is known whether its launch succeeded.
    pub(crate) launched: Settled<()>,
    /// Settled when it has ended.
    pub(crate) ended: Settled<()>,
    pub(crate) gate: Mutex<Gate>,
    /// Whoever writes or removes its files holds this; true once they are gone.
    files: Mutex<bool>,
    /// Held by who removes it; true once that succeeded.
    pub(crate) removal: tokio::sync::Mutex<bool>,
    /// Held by who changes what its record says, so that records are written in the order of what was done.
    pub(crate) changes: tokio::sync::Mutex<()>,
}

/// The way of a launch into the containerizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Not there yet.
    Open,
    /// Somebody killed it before it came there.
    Closed,
    /// The containerizer knows it.
    Passed,
}

/// What is known of a container's state.
#[derive(Debug, Clone)]
pub(crate) struct Now {
    pub(crate) phase: Phase,
    pub(crate) since: Instant,
    pub(crate) since_time: SystemTime,
    pub(crate) ended: Option<Ended>,
}

/// How it ended, and when, if somebody saw it.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) termination: ContainerTermination,
    pub(crate) at: Option<SystemTime>,
}

impl Container {
    pub(crate) fn new(id: ContainerId, record: Option<Record>, phase: Phase) -> Container {
        let created = record.as_ref().and_then(|record| record.created_ms).map(crate::record::time);
        let since_time = SystemTime::now();
        let now = Now { phase, since: Instant::now(), since_time, ended: None };
        Container {
            id,
            created,
            now: Mutex::new(now),
            record: Mutex::new(record.map(Arc::new)),
            launched: Settled::new(),
            ended: Settled::new(),
            gate: Mutex::new(Gate::Open),
            files: Mutex::new(false),
            removal: tokio::sync::Mutex::new(false),
            changes: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn now(&self) -> Now {
        lock(&self.now).clone()
    }

    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.now).ended.is_some()
    }

    /// It came into another phase; the one before.
    pub(crate) fn enter(&self, phase: Phase) -> Phase {
        let mut now = lock(&self.now);
        let before = now.phase;
        if before != phase {
            (now.phase, now.since, now.since_time) = (phase, Instant::now(), SystemTime::now());
        }
        before
    }

    /// It has ended; `false` when that was known.
    pub(crate) fn end(&self, ended: Ended) -> bool {
        {
            let mut now = lock(&self.now);
            if now.ended.is_some() {
                return false;
            }
            if now.phase != Phase::Terminated {
                (now.phase, now.since) = (Phase::Terminated, Instant::now());
                now.since_time = ended.at.unwrap_or_else(SystemTime::now);
            }
            now.ended = Some(ended);
        }
        self.launched.settle(());
        self.ended.settle(());
        true
    }

    /// Whether it is a command in its container. Of those nothing is remembered.
    pub(crate) fn is_session(&self) -> bool {
        self.id.parent().is_some() && self.record().is_none()
    }

    /// What was asked for; none when that is not known any more.
    pub(crate) fn record(&self) -> Option<Arc<Record>> {
        lock(&self.record).clone()
    }

    pub(crate) fn set_record(&self, record: Record) {
        *lock(&self.record) = Some(Arc::new(record));
    }

    /// Does something to its files, unless they are gone; blocks as long as another does.
    pub(crate) fn with_files<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let gone = lock(&self.files);
        (!*gone).then(work)
    }

    /// Removes its files; from here on nobody writes any.
    pub(crate) fn remove_files(&self, work: impl FnOnce() -> Vec<String>) -> Vec<String> {
        let mut gone = lock(&self.files);
        let left = if *gone { Vec::new() } else { work() };
        *gone = left.is_empty();
        left
    }
}

/// All containers, by id and by name.
#[derive(Debug, Default)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: BTreeMap<ContainerId, Arc<Container>>,
    /// Names that are not ids.
    names: BTreeMap<String, ContainerId>,
}

/// Why an id or a name can not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A container has this id.
    Id,
    /// A container of another id has this name.
    Name(ContainerId),
}

impl Table {
    /// The container of this id, or the one that goes by it as a name.
    pub(crate) fn get(&self, id: &ContainerId) -> Option<Arc<Container>> {
        let inner = lock(&self.inner);
        if let Some(found) = inner.by_id.get(id) {
            return Some(Arc::clone(found));
        }
        let id = inner.names.get(id.value()).filter(|_| id.parent().is_none())?;
        inner.by_id.get(id).cloned()
    }

    /// The id that is meant: ids first, then names; also of what is in a container that goes by a name.
    pub(crate) fn resolve(&self, id: &ContainerId) -> ContainerId {
        let inner = lock(&self.inner);
        if inner.by_id.contains_key(id) || inner.by_id.contains_key(id.root()) {
            return id.clone();
        }
        match inner.names.get(id.root().value()) {
            Some(root) => moved(id, root),
            None => id.clone(),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        lock(&self.inner).by_id.values().cloned().collect()
    }

    /// Puts a container in.
    pub(crate) fn add(&self, container: Container) -> Result<Arc<Container>, Taken> {
        let mut inner = lock(&self.inner);
        if inner.by_id.contains_key(&container.id) {
            return Err(Taken::Id);
        }
        let name = container.id.value();
        if let Some(other) = inner.names.get(name).filter(|_| container.id.parent().is_none()) {
            return Err(Taken::Name(other.clone()));
        }
        let container = Arc::new(container);
        if let Some(name) = container.record().and_then(|record| record.name.clone()) {
            inner.names.insert(name, container.id.clone());
        }
        inner.by_id.insert(container.id.clone(), Arc::clone(&container));
        Ok(container)
    }

    /// Takes it out, if it is still the one of its id.
    pub(crate) fn remove(&self, container: &Arc<Container>) {
        let mut inner = lock(&self.inner);
        if inner.by_id.get(&container.id).is_some_and(|there| Arc::ptr_eq(there, container)) {
            inner.by_id.remove(&container.id);
            inner.names.retain(|_, id| *id != container.id);
        }
    }

    /// Gives a container another name, in place of the one that it had. Its id is always one of its names.
    pub(crate) fn rename(&self, id: &ContainerId, name: &str) -> Result<(), Taken> {
        let mut inner = lock(&self.inner);
        let other = inner.by_id.keys().find(|other| other.parent().is_none() && other.value() == name);
        let other = other.or_else(|| inner.names.get(name)).cloned();
        match other {
            Some(other) if other != *id => return Err(Taken::Name(other)),
            _ => {}
        }
        inner.names.retain(|_, known| known != id);
        if name != id.value() {
            inner.names.insert(name.to_owned(), id.clone());
        }
        Ok(())
    }
}

/// The same place below another root.
fn moved(id: &ContainerId, root: &ContainerId) -> ContainerId {
    match id.parent() {
        None => root.clone(),
        Some(parent) => ContainerId::nested(moved(parent, root), id.value()).unwrap_or_else(|_| id.clone()),
    }
}

/// Nothing that holds one of these locks can panic half-way through a change.
pub(crate) fn lock<T>(inner: &Mutex<T>) -> MutexGuard<'_, T> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ContainerId {
        text.parse().unwrap()
    }

    fn table(ids: &[&str]) -> Table {
        let table = Table::default();
        for text in ids {
            table.add(Container::new(id(text), None, Phase::Running)).unwrap();
        }
        table
    }

    #[test]
    fn a_name_leads_to_its_container_and_to_what_is_in_it_and_stays_unique() {
        let table = table(&["a", "b"]);
        table.rename(&id("a"), "web").unwrap();
        assert_eq!(table.get(&id("web")).unwrap().id, id("a"));
        assert_eq!(table.resolve(&id("web.s")), id("a.s"));
        assert_eq!(table.rename(&id("b"), "web"), Err(Taken::Name(id("a"))));
        assert_eq!(table.rename(&id("b"), "a"), Err(Taken::Name(id("a"))));
        let taken = table.add(Container::new(id("web"), None, Phase::Starting)).unwrap_err();
        assert_eq!(taken, Taken::Name(id("a")));
        table.rename(&id("a"), "www").unwrap();
        assert!(table.get(&id("web")).is_none(), "the name before is free");
        table.rename(&id("a"), "a").unwrap();
        assert!(table.get(&id("www")).is_none());
        table.rename(&id("b"), "www").unwrap();
        let b = table.get(&id("www")).unwrap();
        table.remove(&b);
        assert!(table.get(&id("www")).is_none(), "names go with their containers");
    }

    #[test]
    fn an_end_is_told_once_and_nothing_is_written_after_the_files_are_gone() {
        let container = Container::new(id("a"), None, Phase::Running);
        let ended = Ended { termination: ContainerTermination::default(), at: None };
        assert!(container.end(ended.clone()));
        assert!(!container.end(ended));
        assert_eq!(container.now().phase, Phase::Terminated);
        assert_eq!(container.with_files(|| 1), Some(1));
        assert_eq!(container.remove_files(|| vec!["busy".to_owned()]), ["busy"]);
        assert_eq!(container.with_files(|| 1), Some(1));
        assert!(container.remove_files(Vec::new).is_empty());
        assert_eq!(container.with_files(|| 1), None);
    }
}
