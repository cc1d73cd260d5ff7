// SPDX-License-Identifier: Apache-2.0
//! What an agent does with the containers of the one before it.
//!
//! ```text
//! being launched, owner gone   their supervisor ends them by itself; what they had is collected
//! running, known or standalone adopted
//! running, an executor's that the agent does not know   adopted, destroyed, forgotten
//! running in a container that does not                  adopted, destroyed
//! ended                        their termination is kept; an executor's that the agent does not know is forgotten
//! ```

use crate::adopt::Adopted;
use crate::collect::chain;
use crate::entry::{Entry, Process, is_executors};
use crate::native;
use crate::owner;
use crate::record::{LOCK, Listed, Standing};
use crate::shared::{Shared, warn};
use crate::{Ending, measure, nested, pause};
use berth_contract::{AgentState, Error, Phase, What};
use berth_model::{ContainerClass, ContainerId, ContainerTermination, NativeState};
use berth_record::Lock;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the supervisor of a launch whose owner has gone may take to end.
const LAUNCHING: Duration = Duration::from_secs(10);
/// How often a container may be found in the middle of its end.
const LOOKS: u32 = 3;

/// Takes over what is there.
pub(crate) fn recover(shared: &Arc<Shared>, state: Option<&AgentState>) -> Result<(), Error> {
    measure::make_base(&shared.groups, &shared.native.cgroup)?;
    let failed = |e: crate::Error| Error::other(e.class(), format!("recover containers: {}", chain(&e)));
    // The lock's file is one of the things that are made once.
    drop(shared.native.door().map_err(failed)?);
    for name in shared.native.names().map_err(failed)? {
        wait_for_launch(shared, &name).map_err(failed)?;
    }
    collect(shared).map_err(failed)?;
    open_store(shared);
    // Those around others before what is in them, which goes on with them only.
    let mut names = shared.native.names().map_err(failed)?;
    names.sort_by_key(|name| name.matches('.').count());
    for name in names {
        take(shared, &name, state)?;
    }
    Ok(())
}

/// Opening it removes what killed pulls left. Without images in it there is nothing to open yet.
fn open_store(shared: &Shared) {
    let Some(provision) = &shared.native.provision else { return };
    crate::provision::look_after(provision);
    if provision.images.settings().store.exists()
        && let Err(e) = provision.images.store()
    {
        warn(&format!("images can not be had: {}", chain(&e)));
    }
}

fn collect(shared: &Shared) -> crate::Result<()> {
    for left in shared.native.collect()?.left {
        warn(&format!("could not collect all of an earlier container: {left}"));
    }
    Ok(())
}

/// A container in the making whose owner has gone ends at once: its supervisor was told nothing. Then it can be collected.
fn wait_for_launch(shared: &Shared, name: &str) -> crate::Result<()> {
    let Some(dir) = shared.native.existing(name)? else { return Ok(()) };
    if native::standing(dir.as_fd())? != Standing::Launching {
        return Ok(());
    }
    match Lock::acquire(dir.as_fd(), LOCK, Instant::now() + LAUNCHING) {
        Ok(_) => Ok(()),
        // It came further meanwhile, and is to be adopted.
        Err(_) if native::standing(dir.as_fd())? != Standing::Launching => Ok(()),
        Err(source) => Err(crate::Error::Record {
            what: "wait for a launch whose owner has gone (is there another agent with the same --runtime_dir?)",
            source,
        }),
    }
}

/// Takes over one container.
fn take(shared: &Arc<Shared>, name: &str, state: Option<&AgentState>) -> Result<(), Error> {
    let failed =
        |e: crate::Error| Error::other(e.class(), format!("recover container {name}: {}", chain(&e)));
    for _ in 0..LOOKS {
        let listed = match shared.native.look(name) {
            Ok(Some(listed)) => listed,
            Ok(None) => return Ok(()),
            Err(e) => {
                warn(&format!("container {name} is left alone: {}", chain(&e)));
                return Ok(());
            }
        };
        // Who reads what a session writes, and would wait for it, was a client of the agent before.
        let session = listed.record.config.container_class == ContainerClass::Debug;
        let lost = listed.record.id.parent().is_some_and(|parent| shared.get(parent).is_none());
        let orphan =
            session || lost || is_executors(&listed.record.config) && !is_known(state, &listed.record.id);
        match &listed.standing {
            Standing::Exited { .. } | Standing::Unknown { .. } => return ended(shared, &listed, orphan),
            Standing::Running { .. } => {
                if adopt(shared, &listed, orphan)? {
                    return Ok(());
                }
            }
            Standing::Launching => wait_for_launch(shared, name).map_err(failed)?,
        }
        // It ended while it was looked at: it is collected like those that ended before.
        if let Some(dir) = shared.native.existing(name).map_err(failed)? {
            let lock = Lock::acquire(dir.as_fd(), LOCK, Instant::now() + LAUNCHING);
            drop(
                lock.map_err(|source| crate::Error::Record { what: "wait for its end", source })
                    .map_err(failed)?,
            );
        }
        collect(shared).map_err(failed)?;
    }
    warn(&format!("container {name} is left alone: it is not clear whether it runs"));
    Ok(())
}

fn is_known(state: Option<&AgentState>, id: &ContainerId) -> bool {
    state.is_some_and(|state| state.runs.iter().any(|run| run.id == *id && !run.completed))
}

/// `false` when it does not run any more.
fn adopt(shared: &Arc<Shared>, listed: &Listed, orphan: bool) -> Result<bool, Error> {
    let record = &listed.record;
    let mut places = shared.native.places(&record.id);
    places.sandbox.clone_from(&record.config.directory);
    places.cgroup.clone_from(&record.cgroup);
    let adopted = Adopted::open(&shared.native, &record.id, places)
        .map_err(|e| Error::other(e.class(), format!("take container {} over: {}", record.id, chain(&e))))?;
    let Some(adopted) = adopted else { return Ok(false) };
    let sandbox = record.config.directory.clone();
    let entry = match record.config.container_class {
        ContainerClass::Debug => Entry::session(record.id.clone(), NativeState::Running)?,
        _ => Entry::new(record.id.clone(), sandbox, NativeState::Running)?,
    };
    let entry = Arc::new(entry);
    // Published before anybody may ask; from here on its owner alone does that.
    entry.runs(Process { pid: adopted.pid(), pidfd: adopted.shared_pidfd() });
    // What is in a container that is stopped seems to be stopped itself.
    let around = record.id.parent().and_then(|parent| shared.get(parent));
    let around = around.is_some_and(|around| around.now().paused);
    if !entry.session && !around && shared.groups.is_frozen(&record.cgroup) {
        entry.paused(&shared.events, true);
        if pause::is_killed(adopted.pid()) {
            // The agent before was about to let it end.
            pause::let_end(shared, &entry, &record.cgroup);
        }
    }
    shared.add(&entry);
    if orphan || !nested::has_parent(shared, &record.id) {
        entry.inbox.destroy();
    }
    shared.take_over(&entry, Box::new(adopted), orphan)?;
    Ok(true)
}

/// Keeps how it ended, or forgets it.
fn ended(shared: &Shared, listed: &Listed, orphan: bool) -> Result<(), Error> {
    let record = &listed.record;
    let name = &record.id.to_string();
    if orphan {
        match shared.native.remove(name, false) {
            Ok(left) => left.iter().for_each(|left| warn(&format!("container {name}: {left}"))),
            Err(e) => warn(&format!("container {name} can not be removed: {}", chain(&e))),
        }
        return Ok(());
    }
    let ending = match &listed.standing {
        Standing::Exited { status, .. } => Ending::Status(*status),
        Standing::Unknown { why } => Ending::Unknown(why.clone()),
        Standing::Launching | Standing::Running { .. } => return Ok(()),
    };
    let dir = shared.native.existing(name).ok().flatten();
    let kept = dir.and_then(|dir| owner::kept(dir.as_fd()));
    let termination: ContainerTermination =
        kept.unwrap_or_else(|| shared.groups.termination(&record.cgroup, &ending));
    let sandbox = record.config.directory.clone();
    if record.id.is_nested() {
        // Nobody else remembers it.
        shared.events.publish(&record.id, What::Created(Phase::Terminated));
        shared.events.publish(&record.id, What::Ended(termination.clone()));
    }
    shared.add(&Arc::new(Entry::ended(record.id.clone(), sandbox, termination)));
    Ok(())
}
