// SPDX-License-Identifier: Apache-2.0
//! What an agent does with the containers of the one before it. Its own records and the program's list together tell:
//!
//! ```text
//! record            listed   then
//! launched          yes      adopted: waited for
//! launched          no       it has ended, by itself or by a destroy: `wait` may still tell how
//! launched, being destroyed  yes  destroyed
//! launched, an executor's that the agent does not know    ended, and forgotten
//! being launched    any      ended: nobody was told that it runs
//! ended             any      its termination is kept; an executor's that the agent does not know is forgotten
//! none              yes      adopted if the agent knows it, else ended
//! ```
//! Calls that a killed agent left are ended first, so that there is never more than one `wait`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_contract::{AgentState, Error, KnownRun, Settled, block_on_until};
use berth_model::{Class, ContainerConfig, ContainerId, ContainerTermination};

use crate::call::step;
use crate::convert;
use crate::error::{CallError, warn};
use crate::kept::{Asked, Entry, Found, LAUNCHED, Record, Shared, left};
use crate::owner::{self, Patience};
use crate::program::Ask;
use crate::session;

/// What becomes of a container.
enum Fate {
    /// It is watched.
    Adopt(Patience),
    /// It is ended, and perhaps forgotten.
    End { listed: bool, forget: bool },
}

/// Takes over what is there.
pub(crate) fn recover(shared: &Arc<Shared>, state: Option<&AgentState>) -> Result<(), Error> {
    shared.records.make()?;
    let found: BTreeMap<ContainerId, Found> = shared.records.all()?.into_iter().collect();
    for id in found.keys() {
        left(shared, id)?.iter().for_each(|process| session::kill(process.pid));
    }
    // Without an intent there is no record: its writer died before the program was called, or while it adopted one.
    let (found, torn): (BTreeMap<_, _>, BTreeMap<_, _>) =
        found.into_iter().partition(|(_, found)| found.record.is_some());
    torn.keys().try_for_each(|id| shared.records.remove(id))?;
    let deadlines = shared.own.settings.deadlines;
    call(shared, Ask::new("recover", Some(deadlines.recover)))
        .and_then(|mut ended| ended.success())
        .map_err(|error| error.because("Recover failed"))?;
    let listed = listed(shared).map_err(|error| error.because("Containers failed"))?;
    let knows = |id: &ContainerId| run_of(state, id).is_some();
    let mut ending = Vec::new();
    let known: BTreeSet<ContainerId> = found.keys().cloned().collect();
    for (id, found) in found {
        let Some(record) = found.record else { continue };
        if let Some(end) = found.ended {
            ending.extend(ended(shared, record, end.termination, found.tidied, knows(&id))?);
            continue;
        }
        let entry = Entry::running(record)?;
        let (is_listed, forget) = (listed.contains(&id), entry.record.is_executors() && !knows(&id));
        let fate = if !found.own || forget || (found.destroying && is_listed) {
            Fate::End { listed: is_listed, forget }
        } else {
            Fate::Adopt(if is_listed { Patience::Forever } else { Patience::Late })
        };
        take(shared, entry, fate, &mut ending)?;
    }
    for id in listed.iter().filter(|id| !known.contains(id)) {
        match run_of(state, id) {
            Some(run) => {
                let record = record_of(run);
                shared.records.adopt(&record, LAUNCHED)?;
                take(shared, Entry::running(record)?, Fate::Adopt(Patience::Forever), &mut ending)?;
            }
            None => {
                warn(&format!("container {id} is nobody's and is destroyed"));
                let own = Asked { foreign: true, ..Asked::default() };
                let record = Record { id: id.clone(), config: ContainerConfig::default(), own };
                take(shared, Entry::running(record)?, Fate::End { listed: true, forget: true }, &mut ending)?;
            }
        }
    }
    // The agent may launch one of these ids again when this has returned, and a late `destroy` would meet that.
    ending.iter().try_for_each(|done| settled(shared, done))
}

/// The agent's own word of a container.
fn run_of<'a>(state: Option<&'a AgentState>, id: &ContainerId) -> Option<&'a KnownRun> {
    state?.runs.iter().find(|run| run.id == *id && !run.completed)
}

/// What can be known of a container that was launched by an agent which kept other records.
fn record_of(run: &KnownRun) -> Record {
    let command = run.executor.as_ref().and_then(|executor| executor.command.clone());
    let config = ContainerConfig {
        directory: run.directory.clone(),
        executor_info: run.executor.clone(),
        command_info: command.unwrap_or_default(),
        container_info: run.container.clone(),
        ..ContainerConfig::default()
    };
    let own = Asked { checkpoint: true, ..Asked::default() };
    Record { id: run.id.clone(), config, own }
}

/// One that has ended before; what is settled when the program has let go of it, if that is still to come.
fn ended(
    shared: &Arc<Shared>,
    record: Record,
    termination: ContainerTermination,
    tidied: bool,
    known: bool,
) -> Result<Option<Settled<()>>, Error> {
    let entry = Arc::new(Entry::over(record, termination)?);
    let forget = entry.record.is_executors() && !known;
    if !forget {
        shared.entries().insert(entry.id.clone(), Arc::clone(&entry));
    }
    if tidied {
        if forget {
            shared.records.remove(&entry.id)?;
        }
        return Ok(None);
    }
    let tidied = Settled::new();
    let done = tidied.clone();
    shared.work(move |shared| {
        owner::destroy_once(shared, &entry);
        let id = &entry.id;
        let written = if forget { shared.records.remove(id) } else { shared.records.tidied(id) };
        shared.noted(&entry, written);
        done.settle(());
    })?;
    Ok(Some(tidied))
}

/// Gives a container an owner; one that ends is told of in `ending`.
fn take(shared: &Arc<Shared>, entry: Entry, fate: Fate, ending: &mut Vec<Settled<()>>) -> Result<(), Error> {
    let entry = Arc::new(entry);
    shared.entries().insert(entry.id.clone(), Arc::clone(&entry));
    let done = Settled::new();
    if let Fate::End { .. } = fate {
        _ = entry.destroy();
        ending.push(done.clone());
    }
    shared.work(move |shared| match fate {
        Fate::Adopt(patience) => {
            let wait = owner::start_wait(shared, &entry, patience);
            owner::watch(shared, &entry, wait);
        }
        Fate::End { listed, forget } => {
            if listed {
                let wait = owner::start_wait(shared, &entry, Patience::Forever);
                owner::watch(shared, &entry, wait);
            } else {
                let message = Some("the agent ended while it launched or destroyed the container".to_owned());
                owner::destroy_once(shared, &entry);
                owner::finish(
                    shared,
                    &entry,
                    ContainerTermination { message, ..ContainerTermination::default() },
                    true,
                );
            }
            if forget && entry.is_over() {
                shared.forgotten(&entry);
            }
            done.settle(());
        }
    })
}

/// Waits for something that a thread of ours settles, unless that ends because the agent does.
fn settled(shared: &Shared, place: &Settled<()>) -> Result<(), Error> {
    loop {
        let soon = Instant::now() + Duration::from_millis(100);
        if block_on_until(place.wait(), soon).is_some() {
            return Ok(());
        }
        if shared.is_leaving() {
            return Err(Error::other(Class::Gone, "the agent ends while it recovers external containers"));
        }
    }
}

/// What the program lists.
fn listed(shared: &Shared) -> Result<Vec<ContainerId>, CallError> {
    let ask = Ask { reads: true, ..Ask::new("containers", Some(shared.own.settings.deadlines.containers)) };
    let bytes = call(shared, ask)?.result()?;
    let ids = convert::containers(&bytes)
        .ok_or_else(|| CallError::BadResult("Failed to deserialize message".to_owned()))?;
    let mut listed = Vec::new();
    for text in ids {
        match ContainerId::new(text.clone()) {
            Ok(id) => listed.push(id),
            Err(error) => warn(&format!("container {text:?} is left alone: {error}")),
        }
    }
    listed.sort();
    listed.dedup();
    Ok(listed)
}

/// A call that this thread has nothing else to do beside.
fn call(shared: &Shared, ask: Ask<'_>) -> Result<crate::call::Ended, CallError> {
    use std::os::fd::AsFd;
    let mut call = shared.own.program.call(ask)?;
    while !call.is_over() {
        if shared.is_leaving() {
            return Err(CallError::Cancelled);
        }
        step(&mut [&mut call], &[shared.leave_bell().as_fd()], None);
    }
    Ok(call.ended())
}
