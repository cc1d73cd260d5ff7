// SPDX-License-Identifier: Apache-2.0
//! Taking containers away at the engine, however long that does not answer. A container is known by the mark of its launch
//! or by the engine's own id of it, never by its name alone: that may be somebody else's by now.

use std::sync::Arc;
use std::time::Duration;

use berth_keeper::seconds;
use berth_model::ContainerId;

use crate::engine::EngineError;
use crate::error::warn;
use crate::kept::{Entry, Shared};
use crate::names;

/// Longest wait before an engine is asked again that does not answer.
const RARELY: Duration = Duration::from_secs(30);

/// Which container at the engine.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) launch: String,
    pub(crate) engine_id: Option<String>,
}

impl Whose {
    pub(crate) fn of(entry: &Entry) -> Whose {
        Whose {
            id: entry.id.clone(),
            name: entry.record.own.name.clone(),
            launch: entry.record.own.launch.clone(),
            engine_id: entry.own.facts().engine_id,
        }
    }
}

/// Takes it away; what is gone is taken away.
pub(crate) async fn remove(shared: &Shared, whose: &Whose) -> Result<(), EngineError> {
    let deadlines = &shared.own.settings.deadlines;
    let engine_id = match &whose.engine_id {
        Some(engine_id) => engine_id.clone(),
        None => match shared.own.engine.inspect(&whose.name, deadlines.ask).await {
            Ok(found) => {
                let labels = &found.config.labels;
                let ours = names::id_of(labels, &shared.own.settings.work_dir).as_ref() == Some(&whose.id);
                if !ours || names::launch_of(labels) != whose.launch {
                    return Ok(());
                }
                found.id
            }
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => return Err(error),
        },
    };
    loop {
        match shared.own.engine.remove(&engine_id, deadlines.remove).await {
            // "removal of container … is already in progress": it is waited for.
            Err(error) if error.is_conflict() => tokio::time::sleep(deadlines.again).await,
            result => return result,
        }
    }
}

/// The same, as often as it takes.
pub(crate) async fn remove_until_gone(shared: &Shared, whose: &Whose) {
    let mut pause = shared.own.settings.deadlines.again;
    let mut told = false;
    loop {
        let Err(error) = remove(shared, whose).await else { return };
        if !told && !error.is_absence() {
            told = true;
            warn(&format!("container {} can not be removed and is tried again: {error}", whose.name));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RARELY);
    }
}

/// Takes away what the engine makes yet, asked for by somebody who does not wait for it any more: it tells nobody else. A
/// question that waited for longer is heard of at the next recovery.
pub(crate) async fn remove_what_comes(shared: &Shared, whose: &Whose) {
    let mut pause = shared.own.settings.deadlines.again;
    while pause < RARELY {
        tokio::time::sleep(pause).await;
        remove_until_gone(shared, whose).await;
        pause *= 2;
    }
}

/// Takes away what has ended, when its time has come.
pub(crate) fn remove_later(shared: &Arc<Shared>, entry: &Arc<Entry>, ended_at: f64) {
    let left = shared.own.settings.remove_delay.as_secs_f64() - (seconds() - ended_at);
    let (own, later) = (Arc::clone(shared), Arc::clone(entry));
    tokio::spawn(async move {
        tokio::time::sleep(Duration::try_from_secs_f64(left.max(0.0)).unwrap_or_default()).await;
        remove_until_gone(&own, &Whose::of(&later)).await;
        cleared(&own, &later);
    });
}

/// The engine has nothing of it any more.
pub(crate) fn cleared(shared: &Shared, entry: &Entry) {
    entry.own.change(|facts| facts.cleared = true);
    // It may have been forgotten meanwhile, and its id may be another's.
    if shared.get(&entry.id).is_some_and(|now| now.record.own.launch == entry.record.own.launch) {
        entry.unless_removed(|| shared.noted(entry, shared.records.tidied(&entry.id)));
    }
}
