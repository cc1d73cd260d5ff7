// SPDX-License-Identifier: Apache-2.0
//! From what was asked to a container that runs. The record is written before the effect that it announces; whatever fails,
//! or is destroyed meanwhile, leaves nothing at the engine.
//!
//! A fetch and a pull are cancelled at once. Making and letting run are not: the engine would finish them with nobody there
//! to hear of it. They are waited for as long as a kill may take, and then undone when the engine answers again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_contract::{Advance, Error, LaunchResult, Phase, What};
use berth_fetcher::Stop;
use berth_keeper::Wanted;
use berth_keeper::sandbox::write_pid;
use berth_model::{Class, Uri};
use tokio::time::timeout;

use crate::engine::{Create, EngineError, Inspected, Pulled};
use crate::error::{of_io, warn};
use crate::kept::{Entry, Shared, created, fetches, started};
use crate::options::{self, Plan};
use crate::owner;
use crate::process::Process;
use crate::reaper::{self, Whose};
use crate::{auth, names, output, sandbox, volumes};

/// How often progress is told.
const TOLD: Duration = Duration::from_millis(200);

/// Launches a container and owns it until its end.
pub(crate) async fn launch(shared: &Arc<Shared>, entry: &Arc<Entry>, pid_file: Option<&Path>) {
    match steps(shared, entry, pid_file).await {
        Ok(()) => {
            entry.launched.settle(Ok(LaunchResult::Success));
            owner::own(shared, entry).await;
        }
        Err(error) => {
            let message = destroyed_in(entry.phase());
            undo(shared, entry).await;
            shared.failed(entry, error, message);
        }
    }
}

/// What the termination of one says that was destroyed while it was launched, in the words of Mesos.
pub(crate) fn destroyed_in(phase: Phase) -> &'static str {
    match phase {
        Phase::Fetching => "Container destroyed while fetching",
        Phase::Pulling => "Container destroyed while pulling image",
        Phase::Mounting => "Container destroyed while mounting volumes",
        _ => "Container destroyed while it was launched",
    }
}

async fn steps(shared: &Arc<Shared>, entry: &Arc<Entry>, pid_file: Option<&Path>) -> Result<(), Error> {
    let record = &entry.record;
    let plan = options::plan(record, &shared.own.settings)?;
    go_on(entry)?;
    shared.records.begin(record)?;
    fetch(shared, entry, &record.config.command_info.uris).await?;
    shared.step(entry, Phase::Pulling);
    go_on(entry)?;
    pull(shared, entry, &plan).await?;
    shared.step(entry, Phase::Mounting);
    go_on(entry)?;
    mount(shared, entry, &plan).await?;
    let engine_id = create(shared, entry, plan.create).await?;
    entry.own.change(|facts| facts.engine_id = Some(engine_id.clone()));
    created(shared, &entry.id, &engine_id)?;
    output::begin(shared, entry)?;
    go_on(entry)?;
    let inspected = start(shared, entry, &engine_id).await?;
    note(entry, &inspected);
    let pid = entry.own.process().map(|process| process.pid);
    if let Some(path) = pid_file {
        // The engine tells the pid of what runs, not of what is about to; and none of what has ended already.
        write_pid(path, pid.unwrap_or(0))?;
    }
    started(shared, &entry.id, pid)?;
    shared.step(entry, Phase::Running);
    Ok(())
}

fn go_on(entry: &Entry) -> Result<(), Error> {
    if entry.is_destroyed() { Err(Error::DestroyedDuring(entry.phase())) } else { Ok(()) }
}

/// What the engine says of a container that runs.
pub(crate) fn note(entry: &Entry, inspected: &Inspected) {
    let process = inspected.state.pid().and_then(|pid| Process::of(pid, &inspected.id));
    entry.own.change(|facts| {
        facts.engine_id = Some(inspected.id.clone());
        facts.process = process.map(Arc::new);
        facts.networks = crate::measure::networks(inspected);
        facts.stop_signal = inspected.config.stop_signal.as_deref().and_then(crate::measure::signal_number);
    });
}

// ---- FETCHING ----

async fn fetch(shared: &Arc<Shared>, entry: &Arc<Entry>, uris: &[Uri]) -> Result<(), Error> {
    if uris.is_empty() {
        return Ok(());
    }
    let none = |error| of_io("make what would end the fetch".to_owned(), error);
    let stop = Stop::new().map_err(none)?;
    if !fetches(entry, Some(stop.clone())) {
        return Err(Error::DestroyedDuring(Phase::Fetching));
    }
    let (own, fetched) = (Arc::clone(shared), Arc::clone(entry));
    let fetched = tokio::task::spawn_blocking(move || fetch_here(&own, &fetched, &stop)).await;
    fetches(entry, None);
    match fetched {
        _ if entry.is_destroyed() => Err(Error::DestroyedDuring(Phase::Fetching)),
        Ok(result) => result,
        Err(error) => Err(Error::because(Class::Internal, "fetch the URIs of a container", error)),
    }
}

fn fetch_here(shared: &Shared, entry: &Entry, stop: &Stop) -> Result<(), Error> {
    let config = &entry.record.config;
    let sandbox_at = &config.directory;
    let open = |error| of_io(format!("open the sandbox {}", sandbox_at.display()), error);
    let wanted = Wanted {
        id: &entry.id,
        uris: &config.command_info.uris,
        directory: sandbox::open_directory(sandbox_at).map_err(open)?,
        stdout: sandbox::open_output(sandbox_at, "stdout").map_err(open)?,
        stderr: sandbox::open_output(sandbox_at, "stderr").map_err(open)?,
        user: config.user.as_deref(),
    };
    shared.own.fetching.fetch(&wanted, stop, &shared.events)
}

// ---- PULLING ----

/// The name with the tag that is meant when none is given.
pub(crate) fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

async fn pull(shared: &Arc<Shared>, entry: &Entry, plan: &Plan) -> Result<(), Error> {
    tokio::select! {
        biased;
        // Dropping it closes the connection, which is what ends a pull at the engine.
        () = entry.destroyed() => Err(Error::DestroyedDuring(Phase::Pulling)),
        pulled = pull_here(shared, entry, plan) => pulled,
    }
}

async fn pull_here(shared: &Shared, entry: &Entry, plan: &Plan) -> Result<(), Error> {
    let name = tagged(&plan.create.image);
    let failed = |error: EngineError| error.because(&format!("Failed to pull image {name}"));
    let deadlines = &shared.own.settings.deadlines;
    if !plan.force_pull && shared.own.engine.has_image(&name, deadlines.ask).await.map_err(failed)? {
        return Ok(());
    }
    let directory = &entry.record.config.directory;
    let credentials = auth::header(&name, directory, shared.own.settings.docker_config.as_deref())?;
    let (begun, mut told) = (Instant::now(), None::<Instant>);
    let progress = |pulled: &Pulled| {
        if told.is_some_and(|told| told.elapsed() < TOLD) {
            return;
        }
        told = Some(Instant::now());
        let (bytes, total) = pulled.bytes();
        let advance = Advance {
            what: name.clone(),
            index: 0,
            of: 1,
            bytes,
            total: Some(total).filter(|total| *total > 0),
            unpacking: pulled.unpacking,
        };
        shared.events.publish(&entry.id, What::Advanced(Box::new(advance)));
    };
    shared.own.engine.pull(&name, credentials, deadlines.stall, progress).await.map_err(failed)?;
    shared.own.pulled(begun.elapsed());
    match shared.own.engine.has_image(&name, deadlines.ask).await.map_err(failed)? {
        true => Ok(()),
        false => {
            let text = format!("Failed to pull image {name}: it was pulled, and the engine does not have it");
            Err(Error::other(Class::NotFound, text))
        }
    }
}

// ---- MOUNTING ----

async fn mount(shared: &Arc<Shared>, entry: &Arc<Entry>, plan: &Plan) -> Result<(), Error> {
    if plan.needed.is_empty() {
        return Ok(());
    }
    entry.own.change(|facts| facts.volumes.clone_from(&plan.volumes));
    let (own, owner) = (Arc::clone(shared), Arc::clone(entry));
    let (needed, volumes) = (plan.needed.clone(), plan.volumes.clone());
    let made = tokio::task::spawn_blocking(move || {
        sandbox::make(&owner.record.config.directory, &needed)?;
        volumes::own(&own, &owner, &volumes)
    });
    made.await.unwrap_or_else(|error| {
        Err(Error::because(Class::Internal, "make the volumes of a container", error))
    })
}

async fn create(shared: &Arc<Shared>, entry: &Arc<Entry>, what: Create) -> Result<String, Error> {
    let (own, made) = (Arc::clone(shared), Arc::clone(entry));
    let mut work = tokio::spawn(async move { create_here(&own, &made, &what).await });
    let failed = |error| Error::because(Class::Internal, "make a container at the engine", error);
    tokio::select! {
        biased;
        done = &mut work => done.map_err(failed)?,
        () = entry.destroyed() => {
            let done = timeout(shared.own.settings.deadlines.kill, &mut work).await;
            if done.is_err() {
                // It is undone when it is known what there is to undo.
                let (own, late) = (Arc::clone(shared), Whose::of(entry));
                tokio::spawn(async move {
                    let _ = work.await;
                    reaper::remove_until_gone(&own, &late).await;
                });
            }
            if let Ok(Ok(Ok(engine_id))) = done {
                entry.own.change(|facts| facts.engine_id = Some(engine_id));
            }
            Err(Error::DestroyedDuring(Phase::Mounting))
        }
    }
}

async fn create_here(shared: &Shared, entry: &Entry, what: &Create) -> Result<String, Error> {
    let (name, limit) = (&entry.record.own.name, shared.own.settings.deadlines.create);
    let tried = format!("Failed to create container {name}");
    match shared.own.engine.create(name, what, limit).await {
        Err(error) if error.is_conflict() => {
            // The name is taken: by what is left of an earlier launch of this id, or by somebody else.
            let old = shared.own.engine.inspect(name, shared.own.settings.deadlines.ask).await;
            let old = old.map_err(|_| error.because(&tried))?;
            let ours =
                names::id_of(&old.config.labels, &shared.own.settings.work_dir).as_ref() == Some(&entry.id);
            if !ours || names::launch_of(&old.config.labels) == entry.record.own.launch {
                return Err(error.because(&tried));
            }
            warn(&format!("container {name} of an earlier launch was still there and is removed"));
            let removed = shared.own.engine.remove(&old.id, shared.own.settings.deadlines.remove).await;
            removed.map_err(|error| error.because(&tried))?;
            shared.own.engine.create(name, what, limit).await.map_err(|error| error.because(&tried))
        }
        result => result.map_err(|error| error.because(&tried)),
    }
}

// ---- to RUNNING ----

async fn start(shared: &Arc<Shared>, entry: &Entry, engine_id: &str) -> Result<Inspected, Error> {
    let deadlines = shared.own.settings.deadlines;
    let tried = format!("Failed to start container {}", entry.record.own.name);
    let started = async {
        shared.own.engine.start(engine_id, deadlines.start).await?;
        shared.own.engine.inspect(engine_id, deadlines.ask).await
    };
    tokio::pin!(started);
    let inspected = tokio::select! {
        biased;
        done = &mut started => done,
        () = entry.destroyed() => {
            let _ = timeout(deadlines.kill, started).await;
            return Err(Error::DestroyedDuring(Phase::Mounting));
        }
    };
    inspected.map_err(|error| error.because(&tried))
}

/// Takes away what a launch has made so far: now if the engine answers, and else as soon as it does.
async fn undo(shared: &Arc<Shared>, entry: &Arc<Entry>) {
    // Before the engine was asked for a container there is none.
    if !matches!(entry.phase(), Phase::Mounting | Phase::Running | Phase::Destroying) {
        return;
    }
    let whose = Whose::of(entry);
    if timeout(shared.own.settings.deadlines.kill, reaper::remove(shared, &whose))
        .await
        .is_ok_and(|done| done.is_ok())
    {
        return;
    }
    warn(&format!("container {} is removed when the engine answers again", entry.record.own.name));
    let own = Arc::clone(shared);
    tokio::spawn(async move { reaper::remove_until_gone(&own, &whose).await });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_that_is_meant_is_added_and_no_other() {
        for (given, meant) in [
            ("busybox", "busybox:latest"),
            ("h:5000/busybox", "h:5000/busybox:latest"),
            ("busybox:1", "busybox:1"),
            ("busybox@sha256:ab", "busybox@sha256:ab"),
        ] {
            assert_eq!(tagged(given), meant);
        }
    }
}
