// SPDX-License-Identifier: Apache-2.0
//! What the agent remembers of a container beside its containerizer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_model::{ContainerConfig, ContainerId, ContainerTermination};
use berth_record::Versioned;
use serde::{Deserialize, Serialize};

/// The name of a [`Record`] in its container's directory.
pub(crate) const CONFIG: &str = "config";
/// The name of a [`Termination`].
pub(crate) const TERMINATION: &str = "termination";
/// Where the containerizer writes the pid before the program may run.
pub(crate) const FORKED: &str = "forked.pid";
/// No record is larger: arguments and environment are at most 2 MiB each (execve(2)), and JSON makes them longer.
pub(crate) const CAP: usize = 32 << 20;

/// What was asked for. Values of secrets are never written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    /// What it is called, if not by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) config: ContainerConfig,
    /// In milliseconds since 1970; none when it is not known any more.
    pub(crate) created_ms: Option<u64>,
    /// The boot in which it was launched.
    pub(crate) boot: String,
}

impl Versioned for Record {
    const KIND: &'static str = "agent-container";
    const VERSION: u32 = 1;
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Termination {
    pub(crate) termination: ContainerTermination,
    /// In milliseconds since 1970; none when nobody saw it.
    pub(crate) ended_ms: Option<u64>,
}

impl Versioned for Termination {
    const KIND: &'static str = "agent-termination";
    const VERSION: u32 = 1;
}

/// A moment as records have it.
pub(crate) fn millis(time: SystemTime) -> Option<u64> {
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// A moment from a record.
pub(crate) fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}
