// SPDX-License-Identifier: Apache-2.0
//! What the agent is doing: everything that may take long has an entry here as long as it does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_contract::Phase;
use berth_model::ContainerId;
use berth_proto::convert::container_id_of;
use berth_proto::own::OperationsInFlight;
use berth_proto::own::operations_in_flight::Operation;

use crate::host::duration;
use crate::table::Table;

/// All that is under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Operations {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    all: BTreeMap<u64, Under>,
}

#[derive(Debug, Clone)]
struct Under {
    name: &'static str,
    container: Option<ContainerId>,
    since: Instant,
}

/// Ends the entry of an operation when it is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    inner: Arc<Mutex<Inner>>,
    number: u64,
}

impl Operations {
    /// Something begins.
    pub(crate) fn begin(&self, name: &'static str, container: Option<&ContainerId>) -> Guard {
        let mut inner = lock(&self.inner);
        inner.next += 1;
        let number = inner.next;
        inner.all.insert(number, Under { name, container: container.cloned(), since: Instant::now() });
        Guard { inner: Arc::clone(&self.inner), number }
    }

    /// What is under way, the oldest first.
    pub(crate) fn now(&self, table: &Table) -> OperationsInFlight {
        let all: Vec<Under> = lock(&self.inner).all.values().cloned().collect();
        let operations = all
            .into_iter()
            .map(|under| Operation {
                name: under.name.to_owned(),
                step: under.container.as_ref().and_then(|id| step(table, id)),
                container_id: under.container.as_ref().map(container_id_of),
                age: Some(duration(under.since.elapsed())),
                remaining: None,
            })
            .collect();
        OperationsInFlight { operations }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.inner).all.remove(&self.number);
    }
}

/// What an operation on this container waits for.
fn step(table: &Table, id: &ContainerId) -> Option<String> {
    waiting_for(table.get(id)?.now().phase)
}

/// What a container in this phase waits for; one that runs waits for nothing.
pub(crate) fn waiting_for(phase: Phase) -> Option<String> {
    match phase {
        Phase::Running | Phase::Paused | Phase::Terminated => None,
        Phase::Starting => Some("the containerizer: accepting the launch".to_owned()),
        phase => Some(format!("the containerizer: {}", phase.doing())),
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}
