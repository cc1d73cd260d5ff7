// SPDX-License-Identifier: Apache-2.0
//! What the fake knows of each container, and which way a container may go.

use std::collections::BTreeMap;
use std::path::Path;

use berth_contract::{Error, LaunchResult, Limits, Phase, Settled, Variables};
use berth_model::{
    Class, ContainerConfig, ContainerId, ContainerInfo, ContainerTermination, ContainerType, Resources,
};

use super::process::Process;

/// Above PID_MAX_LIMIT of 64-bit kernels (2^22): no real process has such an id.
pub(super) const FIRST_PID: u32 = 1 << 23;

/// One container.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) config: ContainerConfig,
    pub(super) phase: Phase,
    pub(super) process: Option<Process>,
    pub(super) failed: bool,
    pub(super) launched: Settled<Result<LaunchResult, Error>>,
    pub(super) ended: Settled<ContainerTermination>,
    pub(super) requests: Resources,
    pub(super) limits: Limits,
}

impl Record {
    pub(super) fn new(config: ContainerConfig) -> Record {
        Record {
            config,
            phase: Phase::Preparing,
            process: None,
            failed: false,
            launched: Settled::new(),
            ended: Settled::new(),
            requests: Resources::default(),
            limits: Limits::new(),
        }
    }
}

/// All containers of a host.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) records: BTreeMap<ContainerId, Record>,
    pub(super) pids: u32,
}

impl State {
    /// Those that have not ended.
    pub(super) fn living(&self) -> impl Iterator<Item = &ContainerId> {
        self.records.iter().filter(|(_, record)| record.phase != Phase::Terminated).map(|(id, _)| id)
    }

    /// What is directly in a container.
    pub(super) fn children(&self, id: &ContainerId) -> Vec<ContainerId> {
        self.records.keys().filter(|child| child.parent() == Some(id)).cloned().collect()
    }

    /// What is directly in a container and has not ended.
    pub(super) fn living_children(&self, id: &ContainerId) -> Vec<ContainerId> {
        self.living().filter(|child| child.parent() == Some(id)).cloned().collect()
    }
}

/// The transition function: the phase it goes to, or why it can not.
pub(super) fn next(from: Phase, to: Phase) -> Result<Phase, Error> {
    use Phase::{Destroying, Fetching, Isolating, Paused, Preparing, Running, Terminated};
    match (from, to) {
        (Preparing, Isolating)
        | (Isolating, Fetching)
        | (Fetching | Paused, Running)
        | (Running, Paused)
        | (Destroying, Terminated)
        | (Preparing | Isolating | Fetching | Running | Paused, Destroying) => Ok(to),
        _ => Err(Error::other(Class::Conflict, format!("a container in {from} can not go to {to}"))),
    }
}

/// What a nested container may not have, and the parent it needs.
pub(super) fn check_nested(
    state: &State,
    parent: &ContainerId,
    config: &ContainerConfig,
    pid_checkpoint: Option<&Path>,
) -> Result<(), Error> {
    if config.executor_info.is_some() || config.task_info.is_some() {
        return Err(Error::NestedWithTask);
    }
    if pid_checkpoint.is_some() {
        return Err(Error::NestedCheckpointed);
    }
    match state.records.get(parent).map(|record| record.phase) {
        None | Some(Phase::Terminated) => Err(Error::ParentMissing(parent.clone())),
        Some(Phase::Destroying) => Err(Error::ParentDestroying(parent.clone())),
        Some(_) => Ok(()),
    }
}

/// Whether the configuration is for another containerizer.
pub(super) fn is_foreign(config: &ContainerConfig) -> bool {
    config.container_info.as_ref().is_some_and(|info| info.r#type != ContainerType::Mesos)
}

/// Makes it one for another containerizer.
pub(super) fn make_foreign(config: &mut ContainerConfig) {
    config.container_info = Some(ContainerInfo { r#type: ContainerType::Docker, ..ContainerInfo::default() });
}

/// The variables of the command itself.
pub(super) fn own_variables(config: &ContainerConfig) -> Variables {
    let variables = config.command_info.environment.variables.iter();
    variables.map(|one| (one.name.clone(), one.value.clone().unwrap_or_default())).collect()
}
