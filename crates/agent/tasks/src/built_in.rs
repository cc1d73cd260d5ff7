// SPDX-License-Identifier: Apache-2.0
//! Executors that are part of the agent.
//!
//! Mesos starts a process beside each command (4 MB) that watches it and speaks for it. Here a supervisor watches
//! already and remembers the end, so the command is the container's own, and what speaks for it is a small state machine
//! in the agent. It speaks as an executor of a framework's does: it is sent [`Event`]s and answers with [`Call`]s. An
//! agent that comes back starts it anew with what it had reported.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use berth_contract::Settled;
use berth_model::{CommandInfo, ContainerConfig, ContainerId, ContainerTermination};
use berth_proto::executor::{Call, Event};
use berth_proto::v1;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// An executor's work, from its start to its end. It is over when all its tasks have ended and their last reports are
/// acknowledged, or when its container has ended and it has reported what that means for its tasks.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is answered later. It is under way from the first poll on, and not undone when nobody listens any more.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A kind of executor.
pub trait BuiltIn: Send + Sync {
    /// Begins to speak for the tasks of one container.
    fn start(&self, start: Start) -> Work;
}

/// What an executor begins with.
pub struct Start {
    /// Itself.
    pub executor: v1::ExecutorInfo,
    /// Whose tasks it runs.
    pub framework: v1::FrameworkInfo,
    /// The agent.
    pub agent: v1::AgentInfo,
    /// Its container, which runs: with the command of its task (the command executor), or with nothing but a process that
    /// holds its namespaces (the executor of groups).
    pub container: ContainerId,
    /// Settled when that container has ended. Of a command's executor an end with a state or a reason (a limit that was
    /// met; what the agent had in mind when it destroyed it), and one that nobody knows, is the agent's to report.
    pub ended: Settled<Option<ContainerTermination>>,
    /// The grace of a shutdown.
    pub shutdown_grace: Duration,
    /// What the agent says: never SUBSCRIBED (that is this), LAUNCH or LAUNCH_GROUP, KILL, ACKNOWLEDGED, SHUTDOWN, MESSAGE.
    /// Boxed: a channel has room for 32 of what it carries from the first on, and there is one for each executor.
    pub events: UnboundedReceiver<Box<Event>>,
    /// What it says: UPDATE and MESSAGE, complete as an executor's library sends them.
    pub calls: UnboundedSender<Box<Call>>,
    /// What it may do with containers.
    pub containers: Arc<dyn Containers>,
    /// A directory of its own, kept as long as it is: what must survive the agent is written there, before it takes effect.
    pub records: PathBuf,
    /// After a restart of the agent: the tasks that it had been given.
    pub recovered: Vec<Recovered>,
}

/// A task that an executor had before the agent restarted.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// The task.
    pub task: v1::TaskInfo,
    /// Its last report that was stored, if there was one.
    pub latest: Option<v1::TaskStatus>,
}

/// What an engine says of its container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Description {
    /// In the engine's own words: of Docker the array that `docker inspect` writes.
    pub data: Option<Vec<u8>>,
    /// Where it is reached.
    pub networks: Vec<v1::NetworkInfo>,
}

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ran {
    /// With this code; 128 + n of a signal.
    Exited(i32),
    /// It took longer than it may, and was ended.
    TimedOut,
    /// It could not be run.
    Failed(String),
}

/// What an executor may do with containers: its own, and those in it.
pub trait Containers: Send + Sync {
    /// Starts a container in its own; well also when it is there already, from before the agent's restart. Errors are
    /// texts for a task's message.
    fn launch(
        &self,
        id: ContainerId,
        config: ContainerConfig,
        environment: BTreeMap<String, String>,
    ) -> Later<'_, Result<(), String>>;

    /// Waits for its end; `None` for one that nobody knows.
    fn wait(&self, id: ContainerId) -> Later<'_, Option<ContainerTermination>>;

    /// Sends a signal to all its processes; `false` for one that has ended or nobody knows.
    fn kill(&self, id: ContainerId, signal: i32) -> Later<'_, bool>;

    /// Ends it at once, with everything in it.
    fn destroy(&self, id: ContainerId) -> Later<'_, ()>;

    /// Forgets one that has ended.
    fn remove(&self, id: ContainerId) -> Later<'_, ()>;

    /// Runs a command beside a container's own, for as long as that takes or may take (none: for ever). What it writes goes
    /// to the container's output.
    fn exec(
        &self,
        id: ContainerId,
        command: CommandInfo,
        environment: BTreeMap<String, String>,
        limit: Option<Duration>,
    ) -> Later<'_, Ran>;

    /// A process of the container, through which its network is reached (`/proc/<pid>/ns/net`).
    fn pid(&self, id: ContainerId) -> Later<'_, Option<u32>>;

    /// Where a container is and who it is; nothing where that can not be had.
    fn status(&self, id: ContainerId) -> Later<'_, v1::ContainerStatus> {
        let _ = id;
        Box::pin(std::future::ready(v1::ContainerStatus::default()))
    }

    /// The sandbox of a container on the host; `None` where nobody is to write into it.
    fn sandbox(&self, id: &ContainerId) -> Option<PathBuf> {
        let _ = id;
        None
    }

    /// What the engine behind it says of a container, for the report that its task runs; `None` without such an engine.
    fn describe(&self, id: ContainerId) -> Later<'_, Option<Description>> {
        let _ = id;
        Box::pin(std::future::ready(None))
    }
}
