// SPDX-License-Identifier: Apache-2.0
//! What an agent does with the containers of the one before it.
//!
//! ```text
//! record            lxc-start  then
//! launched          there      adopted; ended if somebody wanted that, or if it is an executor's that nobody knows
//! launched          gone       it has ended: lxc-start's log says how
//! being launched    any        ended: nobody was told that it runs
//! ended             -          its termination is kept
//! none              any        ours by its path, so an orphan: ended and removed
//! ```
//! Further commands in containers are ended: nobody has the other ends of their streams any more.
//!
//! All is in an lxcpath, control groups and directories of our own; what is elsewhere is not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_contract::{AgentState, Error};
use berth_model::{ContainerId, ContainerTermination};
use berth_record::BootId;

use crate::error::of_tool;
use crate::kept::{Entry, Found, Shared};
use crate::process::{self, Init, Monitor};
use crate::{base, groups, owner, session, tools};

/// Takes over what is there.
pub(crate) fn recover(shared: &Arc<Shared>, state: Option<&AgentState>) -> Result<(), Error> {
    let settings = &shared.own.settings;
    shared.records.make()?;
    for place in [settings.work_dir.join("lxc"), settings.containers(), settings.bases()] {
        base::make_directory(&place, 0o711)?;
    }
    groups::make_root(settings);
    session::end_left(settings);
    base::remove_configurations(settings)?;
    let found: BTreeMap<ContainerId, Found> = shared.records.all()?.into_iter().collect();
    orphans(shared, &found)?;
    let boot = BootId::current().map_err(|error| Error::because(error.class(), "the boot's id", error))?;
    let knows = |id: &ContainerId| {
        state.is_some_and(|state| state.runs.iter().any(|run| run.id == *id && !run.completed))
    };
    for (id, found) in found {
        let Some(record) = found.record else {
            shared.records.remove(&id)?;
            continue;
        };
        let started = found.own.started.filter(|started| started.boot == boot);
        if let Some(end) = found.ended {
            ended(shared, Entry::over(record, end.termination)?, found.tidied, knows(&id))?;
            continue;
        }
        let entry = Arc::new(Entry::running(record)?);
        let forget = entry.record.is_executors() && !knows(&id);
        let init = started.as_ref().and_then(|started| {
            let process = started.init;
            Some(Init { process, fd: Arc::new(process::open(process)?) })
        });
        if let Some(init) = init {
            entry.own.has_init(init);
        }
        shared.entries().insert(id.clone(), Arc::clone(&entry));
        let mut monitor = started.and_then(|started| Monitor::adopted(started.monitor));
        if !found.own.launched || forget || found.destroying {
            _ = entry.destroy();
        }
        if entry.is_destroyed() || monitor.is_none() {
            // The agent may launch one of these ids again when this has returned.
            match &mut monitor {
                Some(monitor) => owner::watch(shared, &entry, monitor),
                None if found.own.launched => owner::finish(shared, &entry, None),
                None => unfinished(shared, &entry),
            }
            if forget {
                shared.forgotten(&entry);
            }
            continue;
        }
        shared.work(move |shared| {
            if let Some(monitor) = &mut monitor {
                owner::watch(shared, &entry, monitor);
            }
        })?;
    }
    Ok(())
}

/// One that was being launched.
fn unfinished(shared: &Arc<Shared>, entry: &Arc<Entry>) {
    owner::clean(shared, entry);
    let message = Some("the agent ended while it launched the container".to_owned());
    let termination = ContainerTermination { message, ..ContainerTermination::default() };
    shared.noted(entry, shared.records.ended(&entry.id, &termination));
    shared.noted(entry, shared.records.tidied(&entry.id));
    shared.terminated(entry, termination);
}

fn ended(shared: &Arc<Shared>, entry: Entry, tidied: bool, known: bool) -> Result<(), Error> {
    let entry = Arc::new(entry);
    if !tidied {
        owner::clean(shared, &entry);
        shared.records.tidied(&entry.id)?;
    }
    if entry.record.is_executors() && !known {
        return shared.records.remove(&entry.id);
    }
    shared.entries().insert(entry.id.clone(), entry);
    Ok(())
}

/// Processes, groups and directories without a record, or of a launch that was cut short.
fn orphans(shared: &Shared, found: &BTreeMap<ContainerId, Found>) -> Result<(), Error> {
    let settings = &shared.own.settings;
    let whole = |name: &str| {
        let of =
            |found: &Found| found.record.is_some() && found.own.started.is_some() && found.ended.is_none();
        ContainerId::new(name).ok().is_some_and(|id| found.get(&id).is_some_and(of))
    };
    for (process, name) in process::monitors(&settings.containers()) {
        if !name.strip_prefix("berth-").is_some_and(whole)
            && let Some(mut monitor) = Monitor::adopted(process)
        {
            monitor.kill();
            monitor.wait(std::time::Duration::from_secs(10));
        }
    }
    for name in groups::left(settings) {
        let id = name.split('.').next().unwrap_or_default();
        if !whole(id) {
            groups::remove_path(&format!("{}/{name}", settings.cgroup));
        }
    }
    for name in base::names(&settings.containers())? {
        let id = name.strip_prefix("berth-").and_then(|id| ContainerId::new(id).ok());
        let keeps = id.is_some_and(|id| whole(id.value()))
            || settings.containers().join(&name).join(base::KEPT).exists();
        // Nobody else puts anything here; what is kept on purpose has a name of its own.
        if !keeps && name.starts_with("berth-") {
            tools::remove_tree(&settings.containers(), &name).map_err(of_tool)?;
        }
    }
    for name in base::names(&settings.bases())? {
        if !base::is_whole(settings, &name) {
            tools::remove_tree(&settings.bases(), &name).map_err(of_tool)?;
        }
    }
    Ok(())
}
