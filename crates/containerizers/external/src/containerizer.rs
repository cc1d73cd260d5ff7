// SPDX-License-Identifier: Apache-2.0
//! The contract's calls.
//!
//! **Where we differ from Mesos 0.26**, beside what `owner` says: terminations are kept until they are removed, and an agent
//! that restarts knows standalone containers by its own records; `containers` answers from these, and asks the program only
//! at recovery; an update of an id that is gone is no error; every call but `wait` has a deadline.
//!
//! The protocol has no word for a signal. SIGKILL is `destroy`, which ends the container as that would; any other signal to
//! a running container is refused as unsupported, the default of Mesos's interface.

use std::path::PathBuf;
use std::sync::Arc;

use berth_contract::{
    AgentState, Answer, Containerizer, Error, EventLog, LaunchResult, Limits, Phase, Settled, Subscription,
    UNKNOWN_DESTROYED, Variables, What, block_on, ready,
};
use berth_model::{
    ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, Image, ResourceStatistics, Resources,
};

use crate::call::step;
use crate::convert;
use crate::entry::Entry;
use crate::error::{CallError, warn};
use crate::frame::framed;
use crate::messages::mesos::containerizer as wire;
use crate::program::Ask;
use crate::record::Record;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::{owner, recover};

const SIGKILL: i32 = 9;
/// The last real-time signal, signal(7).
const LAST_SIGNAL: i32 = 64;

/// Containers of the operator's program. Dropping it ends the calls that are under way and leaves the containers alone.
#[derive(Debug)]
pub struct External {
    shared: Arc<Shared>,
}

impl External {
    /// Publishes what happens into `events`. The program is not called before `recover`.
    ///
    /// # Errors
    /// There is no descriptor left for it.
    pub fn new(settings: Settings, events: EventLog) -> Result<External, Error> {
        Ok(External { shared: Arc::new(Shared::new(settings, events)?) })
    }

    /// Work on a thread of its own; its answer.
    fn answer<T: Clone + Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Shared>) -> Result<T, Error> + Send + 'static,
    ) -> Answer<'static, T> {
        let answer = Settled::new();
        let place = answer.clone();
        match self.shared.work(move |shared| {
            place.settle(work(shared));
        }) {
            Ok(()) => Box::pin(answer.wait()),
            Err(error) => ready(Err(error)),
        }
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.shared.go();
    }
}

impl Containerizer for External {
    fn name(&self) -> &str {
        "external"
    }

    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()> {
        self.answer(move |shared| recover::recover(shared, state.as_ref()))
    }

    fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        pid_checkpoint: Option<PathBuf>,
    ) -> Answer<'_, LaunchResult> {
        if id.is_nested() {
            return ready(Err(Error::NestedUnsupported));
        }
        let record = Record { id: id.clone(), config, checkpoint: pid_checkpoint.is_some() };
        let environment = variables(&self.shared.settings, &record, environment);
        let entry = {
            let mut entries = self.shared.entries();
            if entries.contains_key(id) {
                return ready(Ok(LaunchResult::AlreadyLaunched));
            }
            match Entry::launching(record.clone()) {
                Ok(entry) => Arc::clone(entries.entry(id.clone()).or_insert(Arc::new(entry))),
                Err(error) => return ready(Err(error)),
            }
        };
        self.shared.events.publish(id, What::Created(Phase::Preparing));
        let (launched, owned) = (entry.launched.clone(), Arc::clone(&entry));
        let started = self.shared.work(move |shared| {
            owner::launch(shared, &owned, &record, environment, pid_checkpoint.as_deref());
        });
        if let Err(error) = started {
            self.shared.events.publish(id, What::LaunchFailed(error.to_string()));
            if entry.fail() {
                self.shared.bury(&entry);
            }
            entry.launched.settle(Err(error));
        }
        Box::pin(launched.wait())
    }

    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        let entry = self.shared.get(id).filter(|entry| !entry.is_over() && !entry.is_destroyed());
        let Some(entry) = entry else {
            warn(&format!("an update of container {id} is ignored: it is unknown, or has ended"));
            return ready(Ok(()));
        };
        let (before, own) = match entry.update() {
            Ok(place) => place,
            Err(error) => return ready(Err(error)),
        };
        let (updated, place) = (Arc::clone(&entry), own.clone());
        let answer = Settled::new();
        let told = answer.clone();
        let started = self.shared.work(move |shared| {
            if let Some(before) = before {
                block_on(before.wait());
            }
            told.settle(update(shared, &updated, &requests, &limits));
            updated.updated(&place);
        });
        match started {
            Ok(()) => Box::pin(answer.wait()),
            Err(error) => {
                entry.updated(&own);
                ready(Err(error))
            }
        }
    }

    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        let Some(entry) = self.shared.get(id).filter(|entry| !entry.is_over()) else {
            return ready(Err(Error::UnknownContainer(id.clone())));
        };
        let (usage, ours) = entry.usage();
        if ours {
            let (told, measured) = (usage.clone(), Arc::clone(&entry));
            let started = self.shared.work(move |shared| {
                let result = measure(shared, &measured);
                measured.measured();
                told.settle(result);
            });
            if let Err(error) = started {
                entry.measured();
                usage.settle(Err(error));
            }
        }
        Box::pin(usage.wait())
    }

    fn status(&self, id: &ContainerId) -> Answer<'_, ContainerStatus> {
        ready(match self.shared.get(id) {
            // The pids are the program's own business.
            Some(_) => Ok(ContainerStatus { container_id: Some(id.clone()), ..ContainerStatus::default() }),
            None => Err(Error::UnknownContainerColon(id.clone())),
        })
    }

    fn wait(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        match self.shared.get(id) {
            Some(entry) => {
                let ended = entry.ended.wait();
                Box::pin(async move { Ok(Some(ended.await)) })
            }
            None => ready(Ok(None)),
        }
    }

    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        let Some(entry) = self.shared.get(id) else {
            warn(&format!("{UNKNOWN_DESTROYED} {id}"));
            return ready(Ok(None));
        };
        if entry.destroy() {
            self.shared.bury(&entry);
        }
        let ended = entry.ended.wait();
        Box::pin(async move { Ok(Some(ended.await)) })
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        let Some(entry) = self.shared.get(id).filter(|entry| !entry.is_over()) else {
            return ready(Ok(false));
        };
        if !(0..=LAST_SIGNAL).contains(&signal) {
            return ready(Err(Error::Signal("Invalid argument".to_owned())));
        }
        let launches = entry.phase().is_launching();
        ready(match signal {
            0 => Ok(true),
            _ if signal == SIGKILL || launches => {
                if entry.destroy() {
                    self.shared.bury(&entry);
                }
                Ok(true)
            }
            _ => Err(Error::Unsupported),
        })
    }

    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        let entries = self.shared.entries();
        ready(Ok(entries.values().filter(|entry| !entry.is_over()).map(|entry| entry.id.clone()).collect()))
    }

    fn knows(&self, id: &ContainerId) -> bool {
        self.shared.entries().contains_key(id)
    }

    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        match begin_removal(&self.shared, id) {
            Err(done) => ready(done),
            Ok((_, removed, false)) => Box::pin(removed.wait()),
            Ok((entry, removed, true)) => {
                let work = {
                    let (entry, removed) = (Arc::clone(&entry), removed.clone());
                    self.shared.work(move |shared| _ = removed.settle(remove(shared, &entry)))
                };
                if let Err(error) = work {
                    entry.kept();
                    removed.settle(Err(error));
                }
                Box::pin(removed.wait())
            }
        }
    }

    fn remove_here(&self, id: &ContainerId) -> Result<(), Error> {
        match begin_removal(&self.shared, id) {
            Err(done) => done,
            Ok((_, removed, false)) => block_on(removed.wait()),
            Ok((entry, removed, true)) => {
                let result = remove(&self.shared, &entry);
                removed.settle(result.clone());
                result
            }
        }
    }

    fn prune_images(&self, _excluded: Vec<Image>) -> Answer<'_, ()> {
        // The program has its own.
        ready(Ok(()))
    }

    fn events(&self, since: u64) -> Subscription {
        self.shared.events.since(since)
    }
}

/// What `launch` gets on top of what every call gets. What the caller gives wins.
fn variables(settings: &Settings, record: &Record, given: Variables) -> Variables {
    let mut variables = Variables::new();
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            variables.insert(name.to_owned(), value.to_owned());
        }
    };
    set("HADOOP_HOME", settings.hadoop_home.as_deref().filter(|home| !home.is_empty()));
    set("MESOS_DEFAULT_CONTAINER_IMAGE", settings.default_container_image.as_deref());
    set("LIBPROCESS_PORT", Some("0"));
    set("MESOS_DIRECTORY", record.config.directory.to_str());
    if let Some(executor) = &record.config.executor_info {
        set("MESOS_FRAMEWORK_ID", Some(&executor.framework_id));
        set("MESOS_EXECUTOR_ID", Some(&executor.executor_id));
        set("MESOS_SLAVE_ID", settings.agent_id.as_deref());
        set("MESOS_SLAVE_PID", settings.agent_pid.as_deref());
        set("MESOS_CHECKPOINT", Some(if record.checkpoint { "1" } else { "0" }));
        set("MESOS_RECOVERY_TIMEOUT", settings.recovery_timeout.as_deref().filter(|_| record.checkpoint));
    }
    variables.extend(given);
    variables
}

/// Held until the launch has succeeded; then what the program says.
fn ask(shared: &Shared, entry: &Entry, ask: Ask<'_>) -> Result<Vec<u8>, CallError> {
    use std::os::fd::AsFd;
    let reads = ask.reads;
    let sandbox = entry.sandbox();
    let mut call = shared.program.call(Ask { sandbox: sandbox.as_ref(), ..ask })?;
    while !call.is_over() {
        if shared.is_leaving() {
            return Err(CallError::Cancelled);
        }
        step(&mut [&mut call], &[shared.leave_bell().as_fd()], None);
    }
    let mut ended = call.ended();
    if reads { ended.result() } else { ended.success().map(|()| Vec::new()) }
}

fn update(shared: &Shared, entry: &Entry, requests: &Resources, limits: &Limits) -> Result<(), Error> {
    let id = &entry.id;
    let gone = |why: &str| {
        warn(&format!("an update of container {id} is ignored: {why}"));
        Ok(())
    };
    if !matches!(block_on(entry.launched.wait()), Ok(LaunchResult::Success)) {
        return gone("its launch did not succeed");
    }
    if entry.is_over() || entry.is_destroyed() {
        return gone("it has ended");
    }
    let message = wire::Update {
        container_id: convert::container_id(id),
        resources: convert::effective(requests, limits),
    };
    let deadline = Some(shared.settings.deadlines.update);
    match ask(shared, entry, Ask { message: framed(&message), ..Ask::new("update", deadline) }) {
        Ok(_) => Ok(()),
        // The container may end at any moment, and then the program knows it no longer.
        Err(_) if entry.is_over() || entry.is_destroyed() => gone("it has ended"),
        Err(error) => Err(error.because(&format!("Update of container '{id}' failed"))),
    }
}

fn measure(shared: &Shared, entry: &Entry) -> Result<ResourceStatistics, Error> {
    let id = &entry.id;
    if !matches!(block_on(entry.launched.wait()), Ok(LaunchResult::Success)) {
        return Err(Error::UnknownContainer(id.clone()));
    }
    let message = wire::Usage { container_id: convert::container_id(id) };
    let deadline = Some(shared.settings.deadlines.usage);
    let asked = Ask { message: framed(&message), reads: true, ..Ask::new("usage", deadline) };
    ask(shared, entry, asked)
        .and_then(|bytes| {
            convert::statistics(&bytes)
                .ok_or_else(|| CallError::BadResult("Failed to deserialize message".to_owned()))
        })
        .map_err(|error| error.because(&format!("Usage on container '{id}' failed")))
}

type Removal = (Arc<Entry>, Settled<Result<(), Error>>, bool);

/// The removal to make or to wait for, or what is known at once.
fn begin_removal(shared: &Shared, id: &ContainerId) -> Result<Removal, Result<(), Error>> {
    if id.is_nested() {
        let known = shared.entries().contains_key(id.root());
        return Err(if known { Ok(()) } else { Err(Error::UnknownRoot) });
    }
    let entry = shared.get(id).ok_or(Ok(()))?;
    let (removed, ours) = entry.removing().map_err(Err)?;
    Ok((entry, removed, ours))
}

/// The sandbox first, then the record: whoever is killed in between still knows how it ended.
fn remove(shared: &Shared, entry: &Entry) -> Result<(), Error> {
    let result = remove_all(shared, entry);
    match &result {
        Ok(()) => {
            shared.entries().remove(&entry.id);
            shared.events.publish(&entry.id, What::Removed);
        }
        Err(_) => entry.kept(),
    }
    result
}

fn remove_all(shared: &Shared, entry: &Entry) -> Result<(), Error> {
    if let Some(sandbox) = entry.given_sandbox() {
        sandbox.remove()?;
    }
    shared.records.remove(&entry.id).map_err(|error| Error::RemoveRuntimeDirectory(error.chain()))
}
