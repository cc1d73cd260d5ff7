// SPDX-License-Identifier: Apache-2.0
//! From what a framework asks for to what a containerizer launches.

use std::path::Path;

use berth_model::{CommandInfo, ContainerConfig, ExecutorInfo, TaskInfo};
use berth_proto::convert;
use berth_proto::v1;
use serde::de::DeserializeOwned;

use crate::contain;
use crate::core::{Kind, Launch};
use crate::environment::{Surroundings, role};
use crate::store::tree;

/// An executor as a containerizer knows it.
///
/// # Errors
/// What in it is none.
pub(crate) fn executor_of(info: &v1::ExecutorInfo) -> Result<ExecutorInfo, String> {
    model(info)
}

fn model<M: prost::Message + prost::Name, T: DeserializeOwned>(message: &M) -> Result<T, String> {
    serde_json::from_value(tree(message)).map_err(|error| error.to_string())
}

/// The container of an executor. That of a command runs the command itself: nothing stands in between.
///
/// # Errors
/// What can not be launched as it is asked for.
pub(crate) fn launch(
    asked: &Launch,
    surroundings: &Surroundings,
    agent: &v1::AgentInfo,
    group_command: &CommandInfo,
    directory: &Path,
) -> Result<contain::Launch, String> {
    let text = |error: convert::Refused| error.to_string();
    let command = asked.executor.command.as_ref().map(convert::command).transpose().map_err(text)?;
    let user = command.as_ref().and_then(|command| command.user.clone());
    let user = user.or_else(|| Some(asked.framework.user.clone())).filter(|user| !user.is_empty());
    let command_info = match asked.kind {
        Kind::Group => CommandInfo { user: None, ..group_command.clone() },
        Kind::Command | Kind::Custom => command.ok_or("there is no command to run")?,
    };
    let container = asked.executor.container.as_ref().map(convert::container).transpose().map_err(text)?;
    let task_info = match &asked.task {
        Some(task) => Some(model::<_, TaskInfo>(task)?),
        None => None,
    };
    let config = ContainerConfig {
        user,
        executor_info: Some(executor_of(&asked.executor)?),
        task_info,
        command_info,
        container_info: container,
        resources: convert::resources(&asked.resources).map_err(text)?,
        limits: convert::limits(&asked.limits).map_err(text)?,
        ..ContainerConfig::default()
    };
    let mut environment = surroundings.of(&asked.at, &asked.executor, agent, directory);
    if let Some(role) = asked.task.as_ref().and_then(role) {
        environment.insert("MESOS_ALLOCATION_ROLE".to_owned(), role);
    }
    // The agent's own executors are no processes: what runs in their place is a task, which speaks for nobody.
    if let (Kind::Custom, Some(tokens)) = (asked.kind, &surroundings.tokens) {
        let token = tokens.of(&asked.at).map_err(|why| format!("Secret generation failed: {why}"))?;
        environment.insert("MESOS_EXECUTOR_AUTHENTICATION_TOKEN".to_owned(), token);
    }
    Ok(contain::Launch {
        id: asked.at.container.clone(),
        name: asked.at.executor.clone(),
        config,
        environment,
    })
}
