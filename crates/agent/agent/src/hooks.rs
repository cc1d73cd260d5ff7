// SPDX-License-Identifier: Apache-2.0
//! Where hooks are asked in the life of a container of an executor or a task (docs/hooks.md).

use std::sync::Arc;

use berth_api::Refusal;
use berth_contract::Variables;
use berth_hooks::{Hooks, Point};
use berth_model::{ContainerConfig, ContainerId, ExecutorType};
use berth_proto::{encode_json, v1};
use serde_json::{Value, json};

use crate::agent::Inner;
use crate::lifecycle::blocking;

/// What is about to be launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The container of an executor: of a command it is that of its task too.
    Executor,
    /// The container of a task in a group's.
    Task,
}

/// The variables that a container gets with those of the hooks.
///
/// # Errors
/// A hook that says so, or fails where that counts: the container is not to be launched.
pub(crate) async fn before(
    agent: &Arc<Inner>,
    what: What,
    id: &ContainerId,
    config: &ContainerConfig,
    environment: Variables,
) -> Result<Variables, Refusal> {
    let Some(hooks) = agent.hooks.clone() else { return Ok(environment) };
    let is_group =
        config.executor_info.as_ref().is_some_and(|info| info.r#type == Some(ExecutorType::Default));
    let of_task = what == What::Task || config.task_info.is_some();
    // What only holds a group runs nothing of anybody's.
    if what == What::Executor && is_group {
        return Ok(environment);
    }
    let container = serde_json::to_value(config).map_err(|error| Refusal::failed(error.to_string()))?;
    let about = json!({ "container_id": id.to_string(), "container": container });
    let name = id.clone();
    blocking(move || ask(&hooks, what, of_task, &name, &about, environment)).await?
}

fn ask(
    hooks: &Hooks,
    what: What,
    of_task: bool,
    id: &ContainerId,
    about: &Value,
    mut environment: Variables,
) -> Result<Variables, Refusal> {
    if what == What::Executor {
        let (variables, failed) = hooks.ask_all(Point::ExecutorEnvironment, about);
        environment.extend(variables);
        for error in failed {
            tracing::warn!(container = %id, "a hook is left out: {}", error.chain());
        }
    }
    let refused = |error: berth_hooks::Error| Refusal::failed(error.chain());
    if of_task {
        environment.extend(hooks.ask(Point::TaskEnvironment, about).map_err(refused)?);
    }
    environment.extend(hooks.ask(Point::PreLaunch, about).map_err(refused)?);
    Ok(environment)
}

/// An executor is over. Nobody waits for the hooks; the agent's stop does.
pub(crate) fn removed(
    agent: &Arc<Inner>,
    framework: &v1::FrameworkInfo,
    executor: &v1::ExecutorInfo,
    id: &ContainerId,
) {
    let Some(hooks) = agent.hooks.clone().filter(|hooks| hooks.has(Point::Removal)) else { return };
    let tree = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
    let about = json!({
        "container_id": id.to_string(),
        "framework": tree(encode_json(framework)),
        "executor": tree(encode_json(executor)),
    });
    let id = id.clone();
    agent.tasks.spawn(async move {
        let asked = blocking(move || hooks.ask_all(Point::Removal, &about).1).await;
        for error in asked.unwrap_or_default() {
            tracing::warn!(container = %id, "a hook failed: {}", error.chain());
        }
    });
}
