// SPDX-License-Identifier: Apache-2.0
//! Takes over what an earlier agent left.
//!
//! The containerizer recovers its containers first; then the agent's records are compared with what it has. All is
//! read and decided before anything is written, and each decision is the same when it is made again, so a recovery
//! that is killed anywhere is done by the next one:
//!
//! ```text
//! the containerizer says │ the agent has                                │ then
//! ───────────────────────┼──────────────────────────────────────────────┼──────────────────────────────────────
//! it runs                │ anything                                     │ taken over
//! how it ended           │ anything                                     │ kept, until removed or collected
//! nothing                │ how it ended                                 │ kept
//! nothing                │ a record, but no pid: it never came so far   │ undone
//! nothing                │ a record, a pid, no sandbox: being removed   │ removed
//! nothing                │ a record, a pid (a reboot, mostly)           │ kept; how it ended is not known
//! nothing                │ a sandbox only: its record is lost           │ kept; how it ended is not known
//! ```

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use berth_contract::Phase;
use berth_model::{Class, ContainerConfig, ContainerId, ContainerTermination};
use berth_record::BootId;
use berth_tasks::Surroundings;

use crate::agent::Inner;
use crate::contain::Contained;
use crate::counters::Counters;
use crate::error::{StartError, chain};
use crate::places::{Found, Places};
use crate::record::{Record, Termination, time};
use crate::table::{Container, Ended, Gate, lock};
use crate::{lifecycle, watch};

/// How long the containerizer may take to say how a container ended that does not run.
const ENDED: Duration = Duration::from_secs(20);

/// What becomes of what was found under one name.
enum Decision {
    /// It runs.
    Runs(Option<Record>),
    /// It has ended; `true` if that is to be written down.
    Ended(Option<Record>, Termination, bool),
    /// Nothing was promised, or everything taken back.
    Undo,
}

/// Takes over what is there.
pub(crate) async fn recover(agent: &Arc<Inner>) -> Result<(), StartError> {
    let guard = agent.operations.begin("recover", None);
    let own = Arc::clone(agent);
    let known = tokio::task::spawn_blocking(move || own.engine.read()).await;
    let known = known.map_err(|error| StartError::recovery(Class::Internal, error.to_string()))?;
    let known = known.map_err(|error| StartError::recovery(error.class(), error.chain()))?;
    let recovered = agent.containerizer.recover(Some(known)).await;
    recovered.map_err(|error| StartError::recovery(error.class(), error.chain()))?;
    let own = Arc::clone(agent);
    let read = tokio::task::spawn_blocking(move || read(&own.places, own.flags.strict, &own.counters)).await;
    let found = read.map_err(|error| StartError::recovery(Class::Internal, error.to_string()))??;
    let boot = BootId::current().map_err(|error| StartError::recovery(error.class(), chain(&error)))?;
    let living = agent.containerizer.containers().await;
    let living = living.map_err(|error| StartError::recovery(error.class(), error.chain()))?;
    let mut left: BTreeSet<ContainerId> = living.into_iter().collect();
    let mut decided = Vec::new();
    for (id, found) in found {
        let runs = left.remove(&id);
        decided.push((id.clone(), decide(agent, &id, found, runs, &boot).await?));
    }
    decided.extend(left.into_iter().map(|id| (id, Decision::Runs(None))));
    for (id, decision) in decided {
        carry_out(agent, id, decision).await;
    }
    drop(guard);
    agent.engine.begin(Arc::new(Contained(Arc::downgrade(agent))), surroundings(agent));
    crate::driver::seek_all(agent);
    Ok(())
}

/// What executors are told of the agent.
fn surroundings(agent: &Inner) -> Surroundings {
    let flags = &agent.flags;
    let socket = flags.http_executor_domain_sockets.then(|| crate::agent::executors_socket(flags));
    let mut surroundings = Surroundings {
        variables: flags.executor_environment_variables.clone(),
        tokens: agent.tokens.clone(),
        domain_socket: socket.map(|socket| socket.display().to_string()),
        shutdown_grace: flags.executor_shutdown_grace_period,
        recovery_timeout: flags.recovery_timeout,
        backoff: flags.executor_reregistration_timeout,
        ..Surroundings::default()
    };
    (surroundings.pid, surroundings.endpoint) = pid(agent);
    let endpoint = surroundings.endpoint.as_ref().and_then(|endpoint| endpoint.parse::<SocketAddr>().ok());
    let given = std::env::var("LIBPROCESS_IP").ok();
    surroundings.ip = given.or_else(|| endpoint.map(|address| address.ip().to_string()));
    surroundings
}

/// The agent as a process in the words of libprocess, and its address if it has one.
pub(crate) fn pid(agent: &Inner) -> (String, Option<String>) {
    let Some(address) = agent.tcp.get() else {
        return (format!("slave(1)@unix:{}", agent.flags.socket.display()), None);
    };
    let mut address = *address;
    if address.ip().is_unspecified() {
        // Reached from this host by the loopback.
        address.set_ip(match address.is_ipv4() {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        });
    }
    (format!("slave(1)@{address}"), Some(address.to_string()))
}

/// All records and sandboxes. One that can not be read is left alone, or with `strict` stops the agent; what a crash
/// of the machine tears is no reason to: its container has lost its description.
fn read(places: &Places, strict: bool, counters: &Counters) -> Result<Vec<(ContainerId, Found)>, StartError> {
    use berth_record::Error;
    let mut all = Vec::new();
    for name in places.names()? {
        let Ok(id) = ContainerId::new(name.clone()) else { continue };
        let found = places.find(&name);
        match &found.record {
            Ok(_) | Err(Error::Missing { .. }) => {}
            Err(error @ Error::Torn { .. }) => {
                Counters::add(&counters.recovery_errors);
                tracing::warn!(container = %id, error = chain(error), "its description is lost");
            }
            Err(error) if strict => {
                let advice = "start with --no-strict to leave that container alone";
                return Err(StartError::recovery(error.class(), format!("{}; {advice}", chain(error))));
            }
            Err(error) => {
                Counters::add(&counters.recovery_errors);
                tracing::warn!(container = %id, error = chain(error), "its record is left alone");
                continue;
            }
        }
        all.push((id, found));
    }
    Ok(all)
}

async fn decide(
    agent: &Inner,
    id: &ContainerId,
    found: Found,
    runs: bool,
    boot: &BootId,
) -> Result<Decision, StartError> {
    let record = found.record.ok().filter(|record| record.id == *id);
    if runs {
        return Ok(Decision::Runs(record));
    }
    if let Some(termination) = how_it_ended(agent, id).await? {
        let kept = found.termination.filter(|kept| kept.termination == termination);
        let write = kept.is_none() || record.is_none();
        let kept = kept.unwrap_or(Termination { termination, ended_ms: None });
        return Ok(Decision::Ended(record, kept, write));
    }
    Ok(match (record, found.termination) {
        (Some(_), _) if !found.sandbox => Decision::Undo,
        (record, Some(kept)) => Decision::Ended(record, kept, false),
        (Some(_), None) if !found.forked => Decision::Undo,
        (Some(record), None) if record.boot != boot.as_str() => {
            Decision::Ended(Some(record), unknown("the machine was restarted while it ran"), true)
        }
        (record @ Some(_), None) => {
            let why = "it was being launched when the agent ended, or its records in --runtime_dir are gone";
            Decision::Ended(record, unknown(why), true)
        }
        // A part of a record without a sandbox: a removal that was killed.
        (None, None) if !found.sandbox => Decision::Undo,
        (None, None) => {
            Decision::Ended(None, unknown("its records are lost, only its sandbox is left"), true)
        }
    })
}

fn unknown(why: &str) -> Termination {
    let message = Some(format!("the exit status is unknown: {why}"));
    Termination { termination: ContainerTermination { message, ..Default::default() }, ended_ms: None }
}

/// What the containerizer says of a container that does not run.
async fn how_it_ended(agent: &Inner, id: &ContainerId) -> Result<Option<ContainerTermination>, StartError> {
    match tokio::time::timeout(ENDED, agent.containerizer.wait(id)).await {
        Ok(Ok(termination)) => Ok(termination),
        Ok(Err(error)) => {
            let message = Some(error.chain());
            Ok(Some(ContainerTermination { message, ..ContainerTermination::default() }))
        }
        Err(_) => {
            let what = format!("the containerizer does not say how container {id} ended; start again");
            Err(StartError::recovery(Class::Internal, what))
        }
    }
}

async fn carry_out(agent: &Arc<Inner>, id: ContainerId, decision: Decision) {
    let (record, ended) = match decision {
        Decision::Runs(record) => (record, None),
        Decision::Ended(record, termination, write) => (record, Some((termination, write))),
        Decision::Undo => {
            tracing::info!(container = %id, "collected: it was being launched or removed");
            let places = Arc::clone(&agent.places);
            let left = tokio::task::spawn_blocking(move || places.remove(&id)).await.unwrap_or_default();
            left.iter().for_each(|left| tracing::warn!("could not be collected: {left}"));
            return;
        }
    };
    let lost = record.is_none();
    let record = match id.parent() {
        None => Some(record.unwrap_or_else(|| forgotten(agent, &id))),
        Some(_) => watch::kept(agent, &id),
    };
    let phase = if ended.is_some() { Phase::Terminated } else { Phase::Running };
    let container = match agent.table.add(Container::new(id.clone(), record.clone(), phase)) {
        Ok(container) => container,
        Err(_) => {
            // Two records of one name: the first keeps it.
            let record = record.clone().map(|record| Record { name: None, ..record });
            match agent.table.add(Container::new(id.clone(), record, phase)) {
                Ok(container) => container,
                Err(_) => return,
            }
        }
    };
    *lock(&container.gate) = Gate::Passed;
    container.launched.settle(());
    let Some((termination, write)) = ended else {
        tracing::info!(container = %id, "taken over");
        return;
    };
    container.end(Ended { termination: termination.termination.clone(), at: termination.ended_ms.map(time) });
    if let (true, Some(record)) = (write, record) {
        let places = Arc::clone(&agent.places);
        let written = tokio::task::spawn_blocking(move || {
            if lost {
                places.rewrite(&record).map_err(|error| chain(&error))?;
            }
            places.keep(&id, &termination).map_err(|error| chain(&error))
        });
        if let Ok(Err(why)) = written.await {
            tracing::warn!(container = %container.id, why, "how it ended is not written down");
        }
    }
}

/// What is left to say of a container without a record.
fn forgotten(agent: &Inner, id: &ContainerId) -> Record {
    let directory = agent.places.sandbox(id);
    let config = ContainerConfig { directory, ..ContainerConfig::default() };
    Record { id: id.clone(), name: None, config, created_ms: None, boot: String::new() }
}

/// Finds the containers whose end was not heard of.
pub(crate) async fn look_again(agent: &Arc<Inner>) {
    let Ok(living) = agent.containerizer.containers().await else { return };
    let living: BTreeSet<ContainerId> = living.into_iter().collect();
    for container in agent.table.all() {
        if living.contains(&container.id) || container.has_ended() || *lock(&container.gate) != Gate::Passed {
            continue;
        }
        if let Ok(Some(termination)) = how_it_ended(agent, &container.id).await {
            watch::ended(agent, &container, termination, None);
        }
    }
}

/// Destroys everything that runs, and waits for the ends.
pub(crate) async fn destroy_all(agent: &Arc<Inner>) -> Result<(), StartError> {
    let failed = |error: berth_contract::Error| StartError::recovery(error.class(), error.chain());
    let living = agent.containerizer.containers().await.map_err(failed)?;
    let destroys: Vec<_> = living.iter().map(|id| agent.containerizer.destroy(id)).collect();
    for (id, destroy) in living.iter().zip(destroys) {
        destroy.await.map_err(failed)?;
        tracing::info!(container = %id, "destroyed, as --recover=cleanup asks");
    }
    watch::hear(agent);
    for container in agent.table.all().into_iter().filter(|container| container.has_ended()) {
        if let Err(refusal) = lifecycle::remove_container(agent, &container).await {
            tracing::warn!(container = %container.id, %refusal, "not removed");
        }
    }
    Ok(())
}
