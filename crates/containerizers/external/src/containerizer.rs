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
    AgentState, Answer, Containerizer, Error, EventLog, LaunchResult, Limits, Phase, Subscription, Variables,
    ready,
};
use berth_model::{
    ContainerConfig, ContainerId, ContainerStatus, ContainerTermination, Image, ResourceStatistics, Resources,
};

use crate::call::step;
use crate::convert;
use crate::error::CallError;
use crate::frame::framed;
use crate::kept::{Asked, Entry, Record, Shared, sandbox, shared};
use crate::messages::mesos::containerizer as wire;
use crate::program::Ask;
use crate::settings::Settings;
use crate::{owner, recover};

const SIGKILL: i32 = 9;

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
        Ok(External { shared: Arc::new(shared(settings, events)?) })
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

impl Containerizer for External {
    fn name(&self) -> &str {
        "external"
    }

    fn recover(&self, state: Option<AgentState>) -> Answer<'_, ()> {
        self.shared.answer(move |shared| recover::recover(shared, state.as_ref()))
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
        let own = Asked { checkpoint: pid_checkpoint.is_some(), foreign: false };
        let record = Record { id: id.clone(), config, own };
        let environment = variables(&self.shared.own.settings, &record, environment);
        self.shared.launch(record, Phase::Preparing, move |shared, entry| {
            owner::launch(shared, entry, environment, pid_checkpoint.as_deref());
        })
    }

    fn update(&self, id: &ContainerId, requests: Resources, limits: Limits) -> Answer<'_, ()> {
        self.shared.update(id, requests, limits)
    }

    fn usage(&self, id: &ContainerId) -> Answer<'_, ResourceStatistics> {
        let Some(entry) = self.shared.living(id) else {
            return ready(Err(Error::UnknownContainer(id.clone())));
        };
        let (usage, ours) = entry.own.usage();
        if ours {
            let (told, measured) = (usage.clone(), Arc::clone(&entry));
            let started = self.shared.work(move |shared| {
                let result = measure(shared, &measured);
                measured.own.measured();
                told.settle(result);
            });
            if let Err(error) = started {
                entry.own.measured();
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
        self.shared.wait(id)
    }

    fn destroy(&self, id: &ContainerId) -> Answer<'_, Option<ContainerTermination>> {
        self.shared.destroy(id)
    }

    fn kill(&self, id: &ContainerId, signal: i32) -> Answer<'_, bool> {
        let entry = match self.shared.for_signal(id, signal) {
            Ok(entry) => entry,
            Err(answer) => return ready(answer),
        };
        ready(match signal {
            0 => Ok(true),
            _ if signal == SIGKILL || entry.phase().is_launching() => {
                self.shared.end(&entry);
                Ok(true)
            }
            _ => Err(Error::Unsupported),
        })
    }

    fn containers(&self) -> Answer<'_, Vec<ContainerId>> {
        ready(Ok(self.shared.containers()))
    }

    fn knows(&self, id: &ContainerId) -> bool {
        self.shared.knows(id)
    }

    fn remove(&self, id: &ContainerId) -> Answer<'_, ()> {
        self.shared.remove(id)
    }

    fn remove_here(&self, id: &ContainerId) -> Result<(), Error> {
        self.shared.remove_here(id)
    }

    fn prune_images(&self, _excluded: Vec<Image>) -> Answer<'_, ()> {
        // The program has its own.
        ready(Ok(()))
    }

    fn events(&self, since: u64) -> Subscription {
        self.shared.events.since(since)
    }

    fn metrics(&self) -> Vec<(String, f64)> {
        let named = |(name, value)| (format!("containerizer/external/{name}"), value);
        self.shared.own.program.health.metrics().into_iter().map(named).collect()
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
        set("MESOS_CHECKPOINT", Some(if record.own.checkpoint { "1" } else { "0" }));
        set("MESOS_RECOVERY_TIMEOUT", settings.recovery_timeout.as_deref().filter(|_| record.own.checkpoint));
    }
    variables.extend(given);
    variables
}

/// Held until the launch has succeeded; then what the program says.
fn ask(shared: &Shared, entry: &Entry, ask: Ask<'_>) -> Result<Vec<u8>, CallError> {
    use std::os::fd::AsFd;
    let reads = ask.reads;
    let sandbox = sandbox(entry);
    let mut call = shared.own.program.call(Ask { sandbox: sandbox.as_ref(), ..ask })?;
    while !call.is_over() {
        if shared.is_leaving() {
            return Err(CallError::Cancelled);
        }
        step(&mut [&mut call], &[shared.leave_bell().as_fd()], None);
    }
    let mut ended = call.ended();
    if reads { ended.result() } else { ended.success().map(|()| Vec::new()) }
}

pub(crate) fn update(
    shared: &Shared,
    entry: &Entry,
    requests: &Resources,
    limits: &Limits,
) -> Result<(), Error> {
    let id = &entry.id;
    let message = wire::Update {
        container_id: convert::container_id(id),
        resources: convert::effective(requests, limits),
    };
    let deadline = Some(shared.own.settings.deadlines.update);
    let asked = ask(shared, entry, Ask { message: framed(&message), ..Ask::new("update", deadline) });
    asked.map(drop).map_err(|error| error.because(&format!("Update of container '{id}' failed")))
}

fn measure(shared: &Shared, entry: &Entry) -> Result<ResourceStatistics, Error> {
    let id = &entry.id;
    if !entry.has_come_up() {
        return Err(Error::UnknownContainer(id.clone()));
    }
    let message = wire::Usage { container_id: convert::container_id(id) };
    let deadline = Some(shared.own.settings.deadlines.usage);
    let asked = Ask { message: framed(&message), reads: true, ..Ask::new("usage", deadline) };
    ask(shared, entry, asked)
        .and_then(|bytes| {
            convert::statistics(&bytes)
                .ok_or_else(|| CallError::BadResult("Failed to deserialize message".to_owned()))
        })
        .map_err(|error| error.because(&format!("Usage on container '{id}' failed")))
}
