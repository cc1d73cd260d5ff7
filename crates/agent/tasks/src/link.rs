// SPDX-License-Identifier: Apache-2.0
//! What an agent and its master say to each other, without a transport: the messages of Mesos's agent to master
//! protocol that tasks need. The master of one node calls it as it is; one of a cluster has a wire in between.
//!
//! Nothing here waits: what takes time is begun, and told by a report later.

use std::sync::Arc;

use berth_proto::v1;

/// A master, as its agent sees it. Called from any thread, and must not block.
pub trait Master: Send + Sync {
    /// A task has another state. Sent again until it is acknowledged ([`AgentSide::acknowledge`]) if it has a uuid.
    fn update(&self, update: StatusUpdate);

    /// An executor says something to its scheduler.
    fn message(&self, framework: &str, executor: &str, data: Vec<u8>);

    /// An executor has ended; not told of those that the agent generated for a command. `status` is that of wait(2), -1
    /// if nobody knows it.
    fn executor_exited(&self, framework: &str, executor: &str, status: i32);
}

/// A report on its way to the scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusUpdate {
    /// Whose task it is.
    pub framework: String,
    /// What runs it; none for a task that reached no executor.
    pub executor: Option<String>,
    /// The report, complete: agent, time, source, uuid.
    pub status: v1::TaskStatus,
    /// What the task's state is by now, which may be later than the report's.
    pub latest_state: v1::TaskState,
}

/// Tasks to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Whose they are, with its id.
    pub framework: v1::FrameworkInfo,
    /// What runs them; none for a task with a command.
    pub executor: Option<v1::ExecutorInfo>,
    /// One task, or those of a group.
    pub tasks: Vec<v1::TaskInfo>,
    /// Whether they are a group: all or none, given to the executor together.
    pub group: bool,
    /// Whether the executor is expected to be started for them (or to be there already).
    pub launch_executor: bool,
}

/// What an agent holds when it meets a master.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Held {
    /// Active frameworks.
    pub frameworks: Vec<v1::FrameworkInfo>,
    /// Executors that have not ended, without those that the agent generated, with their framework ids set.
    pub executors: Vec<v1::ExecutorInfo>,
    /// Pending, queued, launched and ended but unacknowledged tasks.
    pub tasks: Vec<v1::Task>,
    /// Frameworks that are over, with their tasks.
    pub completed: Vec<(v1::FrameworkInfo, Vec<v1::Task>)>,
}

/// The agent, as its master sees it.
pub trait AgentSide: Send + Sync {
    /// The agent: id, host name, resources, attributes.
    fn info(&self) -> v1::AgentInfo;

    /// A master is there (again). Unacknowledged reports are sent to it at once. One master at a time: the one before is told
    /// nothing any more.
    fn connect(&self, master: Arc<dyn Master>) -> Held;

    /// The master is gone: reports are kept.
    fn disconnect(&self);

    /// Runs tasks. What becomes of them is told by reports, also when they can not be run.
    fn run(&self, run: Run);

    /// Ends a task.
    fn kill(&self, framework: &str, task: &str, policy: Option<v1::KillPolicy>);

    /// Ends an executor with its tasks.
    fn shutdown_executor(&self, framework: &str, executor: &str);

    /// Ends all that a framework has here, and forgets its reports.
    fn shutdown_framework(&self, framework: &str);

    /// A scheduler says something to its executor.
    fn message(&self, framework: &str, executor: &str, data: Vec<u8>);

    /// The scheduler has seen the report with this uuid.
    fn acknowledge(&self, framework: &str, task: &str, uuid: &[u8]);

    /// A framework is called something else now. Its unacknowledged reports are sent again at once.
    fn update_framework(&self, framework: v1::FrameworkInfo);
}
