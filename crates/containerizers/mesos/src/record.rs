// SPDX-License-Identifier: Apache-2.0
//! What is written of a container, and what can be told from it.
//!
//! ```text
//! config      the record below, before anything else is made       (intent)
//! pid         the first process's pid, before it may execute       (Mesos's `pid`)
//! status      the wait status word, by the supervisor before it reaps
//! unknown     why there is no status, when there will never be one
//! termination what is to be said of the end beside its status, when there is something
//! lock        held by the owner and the supervisor
//! ```

use berth_model::{ContainerConfig, ContainerId, ContainerTermination, WaitStatus};
use berth_record::Versioned;
use serde::{Deserialize, Serialize};

pub(crate) const CONFIG: &str = "config";
pub(crate) const PID: &str = "pid";
pub(crate) const STATUS: &str = "status";
pub(crate) const STATUS_BEFORE: &str = ".status";
pub(crate) const UNKNOWN: &str = "unknown";
pub(crate) const TERMINATION: &str = "termination";
pub(crate) const LOCK: &str = "lock";
/// No record of ours is larger: arguments and environment are at most 2 MiB each (execve(2)).
pub(crate) const CAP: usize = 16 << 20;

/// The record of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: ContainerId,
    /// What was asked.
    pub config: ContainerConfig,
    /// Where its root file system came from, for people.
    pub root: String,
    /// Its control group.
    pub cgroup: String,
    /// The working directory inside.
    pub working_directory: Option<String>,
    /// The environment that the caller gave beside the configuration's.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether a small init is its first process.
    pub init: bool,
    /// Whether everything of it goes when it ends.
    pub remove: bool,
    /// What asks it to end, if not SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// The boot in which it was made.
    pub boot: String,
}

impl Versioned for Record {
    const KIND: &'static str = "container";
    const VERSION: u32 = 1;
}

/// The first process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pid {
    pub(crate) pid: i32,
    pub(crate) supervisor: i32,
}

impl Versioned for Pid {
    const KIND: &'static str = "pid";
    const VERSION: u32 = 1;
}

/// Why there is no status.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unknown {
    pub(crate) why: String,
}

impl Versioned for Unknown {
    const KIND: &'static str = "unknown";
    const VERSION: u32 = 1;
}

/// How a container ended, when more is to be said than its status.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Terminated {
    pub(crate) termination: ContainerTermination,
}

impl Versioned for Terminated {
    const KIND: &'static str = "termination";
    const VERSION: u32 = 1;
}

/// How a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Somebody is making it.
    Launching,
    /// It runs.
    Running {
        /// Its first process's pid on the host.
        pid: i32,
    },
    /// It ended so.
    Exited {
        /// The wait status.
        status: WaitStatus,
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// It ended, and nobody can say how.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// A container as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its record.
    pub record: Record,
    /// How it stands.
    pub standing: Standing,
}
