// SPDX-License-Identifier: Apache-2.0
//! What changes containers: launch, kill, update, rename, pause, remove. Each runs in a task that ends with the work,
//! whoever asked for it.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use berth_api::{Launched, Refusal, StatusCode};
use berth_config::Which;
use berth_contract::{LaunchResult, Phase, Variables, require};
use berth_model::{Class, ContainerConfig, ContainerId, ContainerTermination, Resources};
use berth_proto::convert::container_id_of;
use berth_proto::own::{self, event};
use berth_record::BootId;
use tokio::task::JoinHandle;

use crate::agent::Inner;
use crate::counters::Counters;
use crate::error::{chain, failure, refusal};
use crate::events;
use crate::hooks::{self, What};
use crate::places::MakeError;
use crate::record::{Record, millis};
use crate::table::{Container, Gate, Taken, lock};
use crate::watch::hear;

/// What a task of the agent's answers.
pub(crate) async fn finished<T>(task: JoinHandle<Option<Result<T, Refusal>>>) -> Result<T, Refusal> {
    match task.await {
        Ok(Some(result)) => result,
        Ok(None) => {
            let text = "the agent stops; ask again when it is back: what was begun goes on or is undone";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text))
        }
        Err(_) => Err(Refusal::failed("discarded future")),
    }
}

/// Runs what blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::failed("discarded future"))
}

/// Launches a container.
pub(crate) async fn launch(
    agent: &Arc<Inner>,
    id: ContainerId,
    config: ContainerConfig,
) -> Result<Launched, Refusal> {
    let own = Arc::clone(agent);
    // A new container is called by its id and nothing else.
    let id = if id.parent().is_some() { agent.table.resolve(&id) } else { id };
    finished(agent.tasks.spawn(async move {
        let _operation = own.operations.begin("launch", Some(&id));
        match id.parent() {
            None => launch_top(&own, id, None, config, Variables::new()).await,
            Some(_) => launch_nested(&own, id, config, Variables::new()).await,
        }
    }))
    .await
}

/// Launches the container of an executor, by the name of what runs in it if that is free.
pub(crate) async fn launch_executor(
    agent: &Arc<Inner>,
    launch: berth_tasks::contain::Launch,
) -> Result<Launched, Refusal> {
    let own = Arc::clone(agent);
    finished(agent.tasks.spawn(async move {
        let berth_tasks::contain::Launch { id, name, config, environment } = launch;
        let _operation = own.operations.begin("launch", Some(&id));
        let environment = hooks::before(&own, What::Executor, &id, &config, environment).await?;
        launch_top(&own, id, Some(name), config, environment).await
    }))
    .await
}

/// Launches the container of a task in that of its executor.
pub(crate) async fn launch_task(
    agent: &Arc<Inner>,
    id: ContainerId,
    config: ContainerConfig,
    environment: Variables,
) -> Result<Launched, Refusal> {
    let own = Arc::clone(agent);
    finished(agent.tasks.spawn(async move {
        let _operation = own.operations.begin("launch", Some(&id));
        let environment = hooks::before(&own, What::Task, &id, &config, environment).await?;
        launch_nested(&own, id, config, environment).await
    }))
    .await
}

async fn launch_top(
    agent: &Arc<Inner>,
    id: ContainerId,
    name: Option<String>,
    mut config: ContainerConfig,
    environment: Variables,
) -> Result<Launched, Refusal> {
    writable(agent).await?;
    config.directory = agent.places.sandbox(&id);
    run_as(agent, &mut config);
    let boot = BootId::current().map_err(|error| Refusal::failed(chain(&error)))?;
    let created_ms = millis(SystemTime::now());
    let mut record = Record {
        id: id.clone(),
        name: None,
        config: config.clone(),
        created_ms,
        boot: boot.as_str().to_owned(),
    };
    let container = match agent.table.add(Container::new(id.clone(), Some(record.clone()), Phase::Starting)) {
        Ok(container) => container,
        Err(Taken::Id) => return Ok(Launched::AlreadyLaunched),
        Err(Taken::Name(other)) => return Err(name_taken(id.value(), &other)),
    };
    if let Some(name) = name.filter(|name| ContainerId::new(name.clone()).is_ok())
        && agent.table.rename(&id, &name).is_ok()
    {
        record.name = Some(name);
        container.set_record(record.clone());
    }
    let record_has_root = has_root(&config);
    let places = Arc::clone(&agent.places);
    let made = blocking(move || places.make(&record)).await?;
    let launched = match made {
        Ok(()) => enter(agent, &container, config, environment).await,
        Err(error @ MakeError::Sandbox(_)) => Err(Refusal::failed(chain(&error))),
        Err(error) => {
            let text = format!("{}; free space or mend the disk of --work_dir", chain(&error));
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text))
        }
    };
    match &launched {
        Ok(Launched::Started) => {
            Counters::add(&agent.counters.launches);
            if record_has_root {
                Counters::add(&agent.counters.new_rootfs);
            }
        }
        Ok(Launched::AlreadyLaunched) => {}
        Ok(Launched::NotSupported) | Err(_) => undo(agent, &container).await,
    }
    if let Err(why) = &launched {
        Counters::add(&agent.counters.launch_failures);
        tracing::warn!(container = %container.id, %why, "not launched");
    }
    hear(agent);
    container.launched.settle(());
    launched
}

/// Hands the container to the containerizer, unless somebody has killed it already. A failed launch is destroyed.
async fn enter(
    agent: &Arc<Inner>,
    container: &Arc<Container>,
    config: ContainerConfig,
    environment: Variables,
) -> Result<Launched, Refusal> {
    let id = &container.id;
    let checkpoint = agent.places.pid_checkpoint(id);
    let mut launch = pin!(agent.containerizer.launch(id, config, environment, Some(checkpoint)));
    let early = {
        // From the first poll on the containerizer knows the container, and who kills it asks there.
        let mut gate = lock(&container.gate);
        if *gate == Gate::Closed {
            return Err(Refusal::bad_request("Container destroyed during starting"));
        }
        *gate = Gate::Passed;
        launch.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    };
    let launched = match early {
        Poll::Ready(launched) => launched,
        Poll::Pending => launch.await,
    };
    match launched {
        Ok(LaunchResult::Success) => Ok(Launched::Started),
        Ok(LaunchResult::AlreadyLaunched) => Ok(Launched::AlreadyLaunched),
        Ok(LaunchResult::NotSupported) => Ok(Launched::NotSupported),
        Err(error) => {
            hear(agent);
            if let Err(undoing) = agent.containerizer.destroy(id).await {
                Counters::add(&agent.counters.destroy_errors);
                tracing::warn!(container = %id, error = undoing.chain(), "what is left of a failed launch");
            }
            Err(Refusal::bad_request(error.chain()))
        }
    }
}

/// As whom a container runs: as who it names, or with `--no-switch_user` as the agent.
pub(crate) fn run_as(agent: &Inner, config: &mut ContainerConfig) {
    if agent.flags.switch_user {
        config.user = config.user.take().or_else(|| config.command_info.user.clone());
    } else {
        config.user = None;
        config.command_info.user = None;
    }
}

/// Whether a container is to have a root file system of its own.
fn has_root(config: &ContainerConfig) -> bool {
    let of_image = |info: &berth_model::ContainerInfo| {
        info.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) || info.docker.is_some()
    };
    config.rootfs.is_some() || config.container_info.as_ref().is_some_and(of_image)
}

/// Takes away what a launch that did not succeed has made; the id is free then.
async fn undo(agent: &Arc<Inner>, container: &Arc<Container>) {
    hear(agent);
    let (places, files) = (Arc::clone(&agent.places), Arc::clone(container));
    let left = blocking(move || files.remove_files(|| places.remove(&files.id))).await.unwrap_or_default();
    left.iter().for_each(|left| tracing::warn!(container = %container.id, "left of a failed launch: {left}"));
    agent.table.remove(container);
    agent.events.publish(events::of(event::Type::Removed, &container.id));
}

/// Launches a container in another, where the containerizer can.
async fn launch_nested(
    agent: &Arc<Inner>,
    id: ContainerId,
    mut config: ContainerConfig,
    environment: Variables,
) -> Result<Launched, Refusal> {
    let parent = id.parent().filter(|parent| agent.table.get(parent).is_some());
    if parent.is_none() {
        let parent = id.parent().map(ToString::to_string).unwrap_or_default();
        return Err(Refusal::bad_request(format!("Parent container {parent} does not exist")));
    }
    writable(agent).await?;
    config.directory = agent.places.sandbox(&id);
    run_as(agent, &mut config);
    let record = Record {
        id: id.clone(),
        name: None,
        config: config.clone(),
        created_ms: millis(SystemTime::now()),
        // The containerizer keeps what is written of it.
        boot: String::new(),
    };
    let container = Container::new(id.clone(), Some(record), Phase::Starting);
    *lock(&container.gate) = Gate::Passed;
    let Ok(container) = agent.table.add(container) else { return Ok(Launched::AlreadyLaunched) };
    let launched = agent.containerizer.launch(&id, config, environment, None).await;
    hear(agent);
    let launched = match launched {
        Ok(LaunchResult::Success) => {
            Counters::add(&agent.counters.launches);
            Ok(Launched::Started)
        }
        Ok(LaunchResult::AlreadyLaunched) => Ok(Launched::AlreadyLaunched),
        Ok(LaunchResult::NotSupported) => Ok(Launched::NotSupported),
        Err(error) => {
            let _ = agent.containerizer.destroy(&id).await;
            hear(agent);
            Err(Refusal::bad_request(error.chain()))
        }
    };
    if !matches!(launched, Ok(Launched::Started | Launched::AlreadyLaunched)) {
        Counters::add(&agent.counters.launch_failures);
        agent.table.remove(&container);
    }
    container.launched.settle(());
    launched
}

/// Refuses what would write to a disk that could not be written when the agent started, and still can not.
async fn writable(agent: &Inner) -> Result<(), Refusal> {
    let degraded = agent.dirs.degraded();
    let Some(first) = degraded.first() else { return Ok(()) };
    let places = Arc::clone(&agent.places);
    if degraded.iter().all(|degraded| degraded.which == Which::WorkDir)
        && blocking(move || places.has_room()).await?
    {
        return Ok(());
    }
    let (which, path, reason) = (first.which, first.path.display(), &first.reason);
    let text = format!("nothing can be launched, for want of --{which} '{path}': {reason}");
    Err(Refusal::of(Class::Exhausted, text))
}

fn name_taken(name: &str, other: &ContainerId) -> Refusal {
    let text = format!("'{name}' is a name of container {other}; choose another, or rename that one");
    Refusal::of(Class::Conflict, text)
}

/// Waits for a container's end.
pub(crate) async fn wait(
    agent: &Arc<Inner>,
    id: &ContainerId,
) -> Result<Option<ContainerTermination>, Refusal> {
    let id = agent.table.resolve(id);
    let container = agent.table.get(&id);
    if let Some(container) = &container {
        if let Some(ended) = container.now().ended {
            return Ok(Some(ended.termination));
        }
        // Between its record and the containerizer there is nothing to wait for yet.
        while *lock(&container.gate) == Gate::Open && container.id.parent().is_none() {
            let moment = std::time::Duration::from_millis(2);
            if tokio::time::timeout(moment, container.launched.wait()).await.is_ok() {
                break;
            }
        }
    }
    match agent.containerizer.wait(&id).await {
        Ok(Some(termination)) => {
            hear(agent);
            Ok(Some(termination))
        }
        Ok(None) => {
            hear(agent);
            Ok(container.and_then(|container| container.now().ended).map(|ended| ended.termination))
        }
        Err(error) => Err(failure(&error)),
    }
}

/// Sends a signal.
pub(crate) async fn kill(agent: &Arc<Inner>, id: &ContainerId, signal: i32) -> Result<bool, Refusal> {
    let id = agent.table.resolve(id);
    let _operation = agent.operations.begin("kill", Some(&id));
    if let Some(container) = agent.table.get(&id).filter(|container| container.id.parent().is_none()) {
        let mut gate = lock(&container.gate);
        if *gate == Gate::Open {
            *gate = Gate::Closed;
            return Ok(true);
        }
    }
    if signal == SIGKILL && has_nested(agent, &id) {
        // What is in it ends first, and in order. Whoever wants to know the end waits for it.
        let own = Arc::clone(agent);
        let destroying = async move { own.containerizer.destroy(&id).await.map(drop) };
        return begun(agent, destroying);
    }
    agent.containerizer.kill(&id, signal).await.map_err(|error| failure(&error))
}

/// Ends a container at once, wherever its launch is; done when it has ended.
pub(crate) async fn destroy(agent: &Arc<Inner>, id: &ContainerId) -> Result<(), Refusal> {
    if let Some(container) = agent.table.get(id).filter(|container| container.id.parent().is_none()) {
        let mut gate = lock(&container.gate);
        if *gate == Gate::Open {
            *gate = Gate::Closed;
            return Ok(());
        }
    }
    let destroyed = agent.containerizer.destroy(id).await;
    hear(agent);
    destroyed.map(drop).map_err(|error| failure(&error))
}

/// What ends every process.
const SIGKILL: i32 = 9;

/// Whether containers live in this one that are none of its sessions.
fn has_nested(agent: &Inner, id: &ContainerId) -> bool {
    let nested = |container: &Arc<Container>| {
        container.id.parent() == Some(id) && !container.is_session() && !container.has_ended()
    };
    agent.table.all().iter().any(nested)
}

/// Starts what goes on by itself, and answers that it was started.
fn begun(
    agent: &Arc<Inner>,
    work: impl Future<Output = Result<(), berth_contract::Error>> + Send + 'static,
) -> Result<bool, Refusal> {
    let mut work: Pin<Box<dyn Future<Output = Result<(), berth_contract::Error>> + Send>> = Box::pin(work);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done.map(|()| true).map_err(|error| failure(&error)),
        Poll::Pending => {
            agent.tasks.spawn(async move {
                if let Err(error) = work.await {
                    tracing::warn!(error = error.chain(), "a container is not destroyed");
                }
            });
            Ok(true)
        }
    }
}

/// Removes what is kept of a container that has ended. One that is gone already is a success.
pub(crate) async fn remove(agent: &Arc<Inner>, id: &ContainerId) -> Result<(), Refusal> {
    let (own, id) = (Arc::clone(agent), agent.table.resolve(id));
    finished(agent.tasks.spawn(async move {
        let _operation = own.operations.begin("remove", Some(&id));
        match own.table.get(&id).filter(|container| container.id.parent().is_none()) {
            Some(container) => remove_container(&own, &container).await,
            None => {
                let removed = own.containerizer.remove(&id).await.map_err(|error| failure(&error));
                hear(&own);
                removed
            }
        }
    }))
    .await
}

/// The containerizer's part first, and the agent's record last. Those who come second wait for the first.
pub(crate) async fn remove_container(agent: &Arc<Inner>, container: &Arc<Container>) -> Result<(), Refusal> {
    let mut removed = container.removal.lock().await;
    if *removed {
        return Ok(());
    }
    if container.launched.get().is_none() {
        return Err(Refusal::failed(berth_contract::Error::NotTerminated.to_string()));
    }
    hear(agent);
    // Its sandbox goes first: where that is gone, a record means that the container was being removed.
    let (own, files) = (Arc::clone(agent), Arc::clone(container));
    let removed_all = blocking(move || {
        own.containerizer.remove_here(&files.id)?;
        Ok(files.remove_files(|| own.places.remove(&files.id)))
    });
    let left = removed_all.await?.map_err(|error: berth_contract::Error| failure(&error))?;
    hear(agent);
    if !left.is_empty() {
        return Err(Refusal::failed(format!("Failed to remove the sandbox directory: {}", left.join("; "))));
    }
    *removed = true;
    agent.table.remove(container);
    Counters::add(&agent.counters.removed);
    agent.events.publish(events::of(event::Type::Removed, &container.id));
    tracing::info!(container = %container.id, "removed");
    Ok(())
}

/// Sets all requests and limits anew, and remembers them.
pub(crate) async fn update(
    agent: &Arc<Inner>,
    id: &ContainerId,
    resources: Resources,
    limits: BTreeMap<String, f64>,
) -> Result<(), Refusal> {
    let container = known(agent, id)?;
    let own = Arc::clone(agent);
    finished(agent.tasks.spawn(async move {
        let id = container.id.clone();
        let _operation = own.operations.begin("update", Some(&id));
        let _change = container.changes.lock().await;
        let updated = own.containerizer.update(&id, resources.clone(), limits.clone()).await;
        updated.map_err(|error| refusal(&error))?;
        change_record(&own, &container, |record| {
            (record.config.resources, record.config.limits) = (resources, limits);
        })
        .await?;
        own.events.publish(events::of(event::Type::Updated, &id));
        Ok(())
    }))
    .await
}

/// Gives a container another name.
pub(crate) async fn rename(agent: &Arc<Inner>, id: &ContainerId, name: String) -> Result<(), Refusal> {
    let container = known(agent, id)?;
    if container.id.parent().is_some() {
        return Err(Refusal::of(Class::Unsupported, "only containers at the top have a name of their own"));
    }
    let new = ContainerId::new(name.clone()).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let own = Arc::clone(agent);
    finished(agent.tasks.spawn(async move {
        let _operation = own.operations.begin("rename", Some(&container.id));
        let _change = container.changes.lock().await;
        let id = container.id.clone();
        let before = container.record().and_then(|record| record.name.clone());
        own.table.rename(&id, &name).map_err(|taken| match taken {
            Taken::Name(other) => name_taken(&name, &other),
            Taken::Id => name_taken(&name, &id),
        })?;
        let named = (name != id.value()).then(|| name.clone());
        let written = change_record(&own, &container, |record| record.name = named).await;
        if let Err(refusal) = written {
            let before = before.as_deref().unwrap_or(id.value());
            let _ = own.table.rename(&id, before);
            return Err(refusal);
        }
        let before = before.and_then(|before| ContainerId::new(before).ok()).unwrap_or_else(|| id.clone());
        let renamed_from = Some(container_id_of(&before));
        own.events.publish(own::Event { renamed_from, ..events::of(event::Type::Renamed, &new) });
        Ok(())
    }))
    .await
}

/// Changes what is remembered, on the disk first. The caller holds `changes`.
async fn change_record(
    agent: &Arc<Inner>,
    container: &Arc<Container>,
    change: impl FnOnce(&mut Record),
) -> Result<(), Refusal> {
    let Some(record) = container.record() else { return Ok(()) };
    let mut record = Record::clone(&record);
    change(&mut record);
    if container.id.parent().is_some() {
        // The containerizer keeps what is written of it.
        container.set_record(record);
        return Ok(());
    }
    let (places, files, new) = (Arc::clone(&agent.places), Arc::clone(container), record.clone());
    let written = blocking(move || files.with_files(|| places.rewrite(&new))).await?;
    match written {
        None => Err(Refusal::no_container(&container.id)),
        Some(Err(error)) => Err(Refusal::of(Class::Exhausted, chain(&error))),
        Some(Ok(())) => {
            container.set_record(record);
            Ok(())
        }
    }
}

/// Stops all processes of a container, or lets them go on.
pub(crate) async fn freeze(agent: &Arc<Inner>, id: &ContainerId, stop: bool) -> Result<(), Refusal> {
    let container = known(agent, id)?;
    let own = Arc::clone(agent);
    finished(agent.tasks.spawn(async move {
        let id = container.id.clone();
        let _operation = own.operations.begin(if stop { "pause" } else { "resume" }, Some(&id));
        let pause = require(own.containerizer.pause()).map_err(|error| refusal(&error))?;
        let done = if stop { pause.freeze(&id).await } else { pause.thaw(&id).await };
        done.map_err(|error| refusal(&error))?;
        hear(&own);
        // A containerizer that does not tell of it has done it all the same.
        let phase = if stop { Phase::Paused } else { Phase::Running };
        if matches!(container.now().phase, Phase::Running | Phase::Paused) {
            let before = container.enter(phase);
            if before != phase {
                own.events.publish(events::state(&id, Some(before), &container.now()));
            }
        }
        Ok(())
    }))
    .await
}

/// The container that is meant.
pub(crate) fn known(agent: &Inner, id: &ContainerId) -> Result<Arc<Container>, Refusal> {
    let meant = agent.table.resolve(id);
    agent.table.get(&meant).ok_or_else(|| Refusal::no_container(id))
}
