// SPDX-License-Identifier: Apache-2.0
//! What an agent does with the containers of the one before it. Its own records and the engine's list of what bears our
//! `--work_dir` tell together:
//!
//! ```text
//! record                                  then
//! being launched                          whatever the engine has of it is removed: nobody was told that it runs
//! launched                                adopted; how it ended meanwhile is found out as for any other
//! launched, being destroyed               destroyed
//! launched, an executor's that the agent does not know    ended, and forgotten
//! ended                                   its termination is kept; an executor's that the agent does not know is forgotten
//! none, but the engine has one of ours    removed, unless --docker_kill_orphans is off
//! ```
//! Containers without our labels are somebody else's, whatever they are called.
//!
//! An engine that does not answer is no reason not to start: what the records and the kernel tell is enough to adopt, and
//! the rest is done when it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_contract::{AgentState, Error, Phase, Settled};
use berth_model::ContainerId;
use tokio::time::{Instant, sleep, timeout};

use crate::engine::{EngineError, Listed};
use crate::error::warn;
use crate::kept::{Entry, Found, Shared, key};
use crate::process::Process;
use crate::reaper::{self, Whose};
use crate::{launch, names, owner, volumes};

/// Takes over what is there.
pub(crate) async fn recover(shared: &Arc<Shared>, state: Option<AgentState>) -> Result<(), Error> {
    shared.records.make()?;
    let found: BTreeMap<ContainerId, Found> = shared.records.all()?.into_iter().collect();
    // Without an intent there is no record: its writer died before the engine was asked.
    let (found, torn): (BTreeMap<_, _>, BTreeMap<_, _>) =
        found.into_iter().partition(|(_, found)| found.record.is_some());
    torn.keys().try_for_each(|id| shared.records.remove(id))?;
    let listed = list(shared).await;
    let knows = |id: &ContainerId| {
        state.as_ref().is_some_and(|state| state.runs.iter().any(|run| run.id == *id && !run.completed))
    };
    let (mut ending, mut adopted) = (Vec::new(), Vec::new());
    for (id, found) in found {
        ending.extend(take(shared, &id, found, knows(&id), &mut adopted)?);
    }
    match listed {
        Ok(listed) => orphans(shared, listed).await,
        Err(error) => {
            warn(&format!("what the engine has of an earlier agent is looked at when it answers: {error}"));
            let own = Arc::clone(shared);
            tokio::spawn(async move {
                loop {
                    sleep(own.own.settings.deadlines.again).await;
                    match own.own.engine.list(&label(&own), own.own.settings.deadlines.ask).await {
                        Ok(listed) => return orphans(&own, listed).await,
                        Err(error) if error.is_absence() => {}
                        Err(error) => {
                            return warn(&format!("the engine does not list its containers: {error}"));
                        }
                    }
                }
            });
        }
    }
    // The agent may launch one of these ids again when this has returned.
    let all = async {
        for done in adopted.iter().chain(&ending) {
            done.wait().await;
        }
    };
    if timeout(shared.own.settings.deadlines.recover, all).await.is_err() {
        warn("containers of an earlier agent still end, or are looked at, while this one begins");
    }
    Ok(())
}

fn label(shared: &Shared) -> String {
    format!("{}={}", names::WORK_DIR, shared.own.settings.work_dir.display())
}

/// What the engine has of ours; an engine that does not answer is tried for some time.
async fn list(shared: &Shared) -> Result<Vec<Listed>, EngineError> {
    let deadlines = &shared.own.settings.deadlines;
    let until = Instant::now() + deadlines.recover;
    loop {
        match shared.own.engine.list(&label(shared), deadlines.ask.min(deadlines.recover)).await {
            Err(error) if error.is_absence() && Instant::now() < until => {
                // Where nobody listens there is nothing to wait for.
                if matches!(error, EngineError::Unreachable { .. }) {
                    return Err(error);
                }
                sleep(deadlines.again).await;
            }
            result => return result,
        }
    }
}

/// Decides about one with a record. What is returned is settled when it has ended; what is put into `adopted` when the engine
/// has said how it is.
fn take(
    shared: &Arc<Shared>,
    id: &ContainerId,
    found: Found,
    known: bool,
    adopted: &mut Vec<Settled<()>>,
) -> Result<Option<Settled<()>>, Error> {
    let Some(record) = found.record else { return Ok(None) };
    let insert = |entry: &Arc<Entry>| _ = shared.entries().insert(id.clone(), Arc::clone(entry));
    if let Some(ended) = &found.ended {
        let entry = Arc::new(Entry::over(record, ended.termination.clone())?);
        entry.own.change(|facts| (facts.engine_id, facts.cleared) = (found.own.engine_id, found.tidied));
        if entry.record.is_executors() && !known {
            return Ok(Some(forget(shared, &entry)));
        }
        insert(&entry);
        if !found.tidied {
            reaper::remove_later(shared, &entry, ended.at as f64);
        }
        return Ok(None);
    }
    let entry = Arc::new(Entry::running(record)?);
    // Whoever could not be told what it has was never launched.
    let launched = || volumes::among(&entry.record.config.resources, &shared.own.settings.work_dir).ok();
    let volumes = found.own.volumes.or_else(launched).unwrap_or_default();
    entry.own.change(|facts| (facts.engine_id, facts.volumes) = (found.own.engine_id, volumes));
    if !found.own.started {
        return Ok(Some(forget(shared, &entry)));
    }
    let process = found.own.process.and_then(|process| Process::of(process.pid, &key(&entry)));
    entry.own.change(|facts| facts.process = process.map(Arc::new));
    let nobodys = entry.record.is_executors() && !known;
    let ends = nobodys || found.destroying;
    if ends {
        _ = entry.destroy();
    }
    insert(&entry);
    let (own, looked, done) = (Arc::clone(shared), Settled::new(), Settled::new());
    adopted.push(looked.clone());
    let told = done.clone();
    tokio::spawn(async move {
        if let Ok(inspected) = own.own.engine.inspect(&key(&entry), own.own.settings.deadlines.ask).await
            && inspected.state.running
        {
            launch::note(&entry, &inspected);
            if inspected.state.paused {
                own.step(&entry, Phase::Paused);
            }
        }
        looked.settle(());
        owner::own(&own, &entry).await;
        if nobodys {
            reaper::remove_until_gone(&own, &Whose::of(&entry)).await;
            own.forgotten(&entry);
        }
        told.settle(());
    });
    Ok(ends.then_some(done))
}

/// Removes what there is of one that nobody has to know of, and then its record.
fn forget(shared: &Arc<Shared>, entry: &Arc<Entry>) -> Settled<()> {
    let (own, entry, done) = (Arc::clone(shared), Arc::clone(entry), Settled::new());
    let told = done.clone();
    tokio::spawn(async move {
        let whose = Whose::of(&entry);
        reaper::remove_until_gone(&own, &whose).await;
        if entry.own.facts().engine_id.is_none() {
            // The engine may still be making it, for an agent that is no more.
            let again = Arc::clone(&own);
            tokio::spawn(async move { reaper::remove_what_comes(&again, &whose).await });
        }
        // It may have been launched again if this took long.
        if own.get(&entry.id).is_none()
            && let Err(error) = own.records.remove(&entry.id)
        {
            warn(&format!("the record of container {} stays: {}", entry.id, error.chain()));
        }
        told.settle(());
    });
    done
}

/// Ends what bears our mark and nobody knows of.
async fn orphans(shared: &Arc<Shared>, listed: Vec<Listed>) {
    for found in listed {
        let Some(id) = names::id_of(&found.labels, &shared.own.settings.work_dir) else { continue };
        let launch = names::launch_of(&found.labels);
        if shared.get(&id).is_some_and(|entry| entry.record.own.launch == launch) {
            continue;
        }
        let name = found.names.first().map_or(found.id.as_str(), |name| name.trim_start_matches('/'));
        if !shared.own.settings.kill_orphans {
            warn(&format!(
                "container {name} ({}) is nobody's and is left alone, as --docker_kill_orphans says",
                found.state
            ));
            continue;
        }
        warn(&format!("container {name} ({}) is nobody's and is removed", found.state));
        let whose =
            Whose { id, name: name.to_owned(), launch: launch.to_owned(), engine_id: Some(found.id.clone()) };
        if reaper::remove(shared, &whose).await.is_err() {
            let own = Arc::clone(shared);
            tokio::spawn(async move { reaper::remove_until_gone(&own, &whose).await });
        }
    }
}
