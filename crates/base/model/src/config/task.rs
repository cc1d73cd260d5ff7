// SPDX-License-Identifier: Apache-2.0
//! Executors and tasks, as far as a containerizer needs them.

use super::{CommandInfo, ContainerInfo};
use crate::resources::Resources;
use crate::wire::{message, wire_enum};
use std::collections::BTreeMap;

message! {
    /// A program that runs tasks.
    pub struct ExecutorInfo {
        /// Unique within the framework on one agent.
        #[serde(with = "crate::wire::id_text")]
        executor_id: String,
        /// Opaque to us.
        #[serde(with = "crate::base64")]
        data: Vec<u8>,
        /// Requests.
        resources: Resources,
        /// How to start it.
        command: Option<CommandInfo>,
        /// Whose it is.
        #[serde(with = "crate::wire::id_text")]
        framework_id: String,
        /// A name for people.
        name: Option<String>,
        /// Deprecated: use `labels`.
        source: Option<String>,
        /// The container it wants.
        container: Option<ContainerInfo>,
        /// How others find it.
        discovery: Option<DiscoveryInfo>,
        /// How long it may take to shut down; unset: the agent's.
        shutdown_grace_period: Option<DurationInfo>,
        /// Labels for people and modules.
        labels: Option<Labels>,
        /// Whether it is one of ours.
        r#type: Option<ExecutorType>,
    }
}

wire_enum! {
    /// Whose program an executor is.
    pub enum ExecutorType {
        /// Not known.
        Unknown = 0 => "UNKNOWN",
        /// The agent's own, for groups of tasks.
        Default = 1 => "DEFAULT",
        /// The framework's.
        Custom = 2 => "CUSTOM",
    }
}

message! {
    /// A unit of work of a framework.
    pub struct TaskInfo {
        /// A name for people.
        name: String,
        /// Unique within the framework.
        #[serde(with = "crate::wire::id_text")]
        task_id: String,
        /// Where it runs.
        #[serde(with = "crate::wire::id_text", alias = "slave_id")]
        agent_id: String,
        /// Requests.
        resources: Resources,
        /// What runs it; unset: the agent's own executor runs `command`.
        executor: Option<ExecutorInfo>,
        /// Opaque to us.
        #[serde(with = "crate::base64")]
        data: Vec<u8>,
        /// What to run, without an executor of the framework's.
        command: Option<CommandInfo>,
        /// A check that kills the task when it fails.
        health_check: Option<HealthCheck>,
        /// The container it wants.
        container: Option<ContainerInfo>,
        /// Labels for people and modules.
        labels: Option<Labels>,
        /// How others find it.
        discovery: Option<DiscoveryInfo>,
        /// How to kill it.
        kill_policy: Option<KillPolicy>,
        /// How long it may run.
        max_completion_time: Option<DurationInfo>,
        /// Limits by resource name, in the units of resources (CPUs, MiB); infinity is no limit.
        #[serde(with = "crate::number::limits")]
        limits: BTreeMap<String, f64>,
    }
}

message! {
    /// Tasks that start and end together.
    pub struct TaskGroupInfo {
        /// The tasks.
        tasks: Vec<TaskInfo>,
    }
}

message! {
    /// How to kill a task.
    pub struct KillPolicy {
        /// How long after SIGTERM the SIGKILL comes.
        grace_period: Option<DurationInfo>,
    }
}

message! {
    /// A length of time.
    pub struct DurationInfo {
        /// Nanoseconds.
        nanoseconds: i64,
    }
}

message! {
    /// Labels in order; a key may come more than once.
    pub struct Labels {
        /// The labels.
        labels: Vec<Label>,
    }
}

message! {
    /// A key and perhaps a value.
    pub struct Label {
        /// The key.
        key: String,
        /// The value.
        value: Option<String>,
    }
}

wire_enum! {
    /// Who may find a task.
    #[derive(Default)]
    pub enum Visibility {
        /// Its framework.
        #[default]
        Framework = 0 => "FRAMEWORK",
        /// The cluster.
        Cluster = 1 => "CLUSTER",
        /// Everyone.
        External = 2 => "EXTERNAL",
    }
}

message! {
    /// How others find a task or an executor. Carried, not used.
    pub struct DiscoveryInfo {
        /// Who may find it.
        visibility: Visibility,
        /// Its name.
        name: Option<String>,
        /// Where it belongs, for example `production`.
        environment: Option<String>,
        /// Where it is.
        location: Option<String>,
        /// Its version.
        version: Option<String>,
        /// Its labels.
        labels: Option<Labels>,
    }
}

wire_enum! {
    /// How the health of a task is checked.
    #[derive(Default)]
    pub enum HealthCheckType {
        /// Not known.
        #[default]
        Unknown = 0 => "UNKNOWN",
        /// By a command that exits with 0.
        Command = 1 => "COMMAND",
        /// By a request over HTTP.
        Http = 2 => "HTTP",
        /// By a connection over TCP.
        Tcp = 3 => "TCP",
    }
}

message! {
    /// A check that kills the task when it fails too often in a row.
    pub struct HealthCheck {
        /// For [`HealthCheckType::Http`].
        http: Option<HttpCheck>,
        /// Seconds to wait before the first check.
        delay_seconds: f64 = 15.0,
        /// Seconds between checks.
        interval_seconds: f64 = 10.0,
        /// Seconds that one check may take.
        timeout_seconds: f64 = 20.0,
        /// How many failures in a row kill the task.
        consecutive_failures: u32 = 3,
        /// Seconds after the start in which failures do not count.
        grace_period_seconds: f64 = 10.0,
        /// For [`HealthCheckType::Command`].
        command: Option<CommandInfo>,
        /// Which of the other fields counts.
        r#type: HealthCheckType,
        /// For [`HealthCheckType::Tcp`].
        tcp: Option<TcpCheck>,
    }
}

message! {
    /// A check over HTTP.
    pub struct HttpCheck {
        /// The port.
        port: u32,
        /// The path; unset: `/`.
        path: Option<String>,
        /// `http` or `https`; unset: `http`.
        scheme: Option<String>,
        /// The statuses that count as healthy; empty: 200 to 399.
        statuses: Vec<u32>,
    }
}

message! {
    /// A check over TCP.
    pub struct TcpCheck {
        /// The port.
        port: u32,
    }
}
