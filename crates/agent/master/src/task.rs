// SPDX-License-Identifier: Apache-2.0
//! Whether a task may be launched (reference 33.6.1 and 33.6.2): pure, in Mesos's order and words.

use std::collections::BTreeSet;

use berth_model::{Resources, TaskId};
use berth_proto::v1::{self, ContainerInfo, ExecutorInfo, TaskInfo, container_info, executor_info};
use berth_proto::validate::{validate_command, validate_container};

use crate::amounts;
use crate::checks;
use crate::framework::Framework;

/// What a launch is checked against.
pub(crate) struct Ground<'a> {
    pub(crate) framework: &'a Framework,
    pub(crate) agent: &'a str,
}

impl Ground<'_> {
    /// Rows 1 to 11: what is checked of every task.
    pub(crate) fn every(&self, task: &TaskInfo) -> Result<(), String> {
        let id = &task.task_id.value;
        TaskId::new(&**id).map_err(|error| error.to_string())?;
        if self.framework.tasks.contains_key(id) {
            return Err(format!("Task has duplicate ID: {id}"));
        }
        if task.agent_id.value != self.agent {
            let (named, expected) = (&task.agent_id.value, self.agent);
            return Err(format!("Task uses invalid agent {named} while agent {expected} is expected"));
        }
        let grace = task.kill_policy.as_ref().and_then(|policy| policy.grace_period);
        if grace.is_some_and(|grace| grace.nanoseconds < 0) {
            return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
        }
        if task.max_completion_time.is_some_and(|time| time.nanoseconds < 0) {
            return Err("Task's `max_completion_time` must be non-negative".to_owned());
        }
        if let Some(check) = &task.check {
            checks::check(check).map_err(|why| format!("Task uses invalid check: {why}"))?;
        }
        if let Some(check) = &task.health_check {
            checks::health_check(check).map_err(|why| format!("Task uses invalid health check: {why}"))?;
        }
        of_task(&task.resources)?;
        if let Some(command) = &task.command {
            validate_command(command).map_err(|error| format!("Task's `CommandInfo` is invalid: {error}"))?;
        }
        if let Some(container) = &task.container {
            validate_container(container)
                .map_err(|error| format!("Task's `ContainerInfo` is invalid: {error}"))?;
        }
        limits(task)
    }

    /// A task of LAUNCH, all rows. `left` is what there is for it, allocated to a role.
    pub(crate) fn launch(&self, task: &TaskInfo, left: &Resources) -> Result<(), String> {
        self.every(task)?;
        if task.command.is_some() == task.executor.is_some() {
            return Err(
                "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
                    .to_owned(),
            );
        }
        let mut need = sum(&task.resources)?;
        if let Some(executor) = &task.executor {
            self.executor(executor)?;
            let kind = executor.r#type.map(|_| executor.r#type());
            if kind.is_some_and(|kind| kind != executor_info::Type::Custom) {
                return Err("'ExecutorInfo.type' must be 'CUSTOM'".to_owned());
            }
            if executor.command.is_none() {
                return Err("'ExecutorInfo.command' must be set".to_owned());
            }
            if share_cgroups(executor.container.as_ref()) == Some(true) {
                return Err(SHARED_EXECUTOR.to_owned());
            }
            let own = sum(&executor.resources)?;
            overlapping(&need, &own)?;
            if self.is_new(executor) {
                need += &own;
            }
        }
        if !left.contains(&need) {
            return Err(format!(
                "Total resources {need} required by task and its executor is more than available {left}"
            ));
        }
        if share_cgroups(task.container.as_ref()).is_some_and(|share| !share) {
            return Err("Only tasks in a task group may have 'share_cgroups' set to 'false'".to_owned());
        }
        Ok(())
    }

    /// What is checked of every executor.
    pub(crate) fn executor(&self, executor: &ExecutorInfo) -> Result<(), String> {
        use executor_info::Type;
        let wrong = |text: &str| Err(text.to_owned());
        match executor.r#type.map(|_| executor.r#type()) {
            Some(Type::Default) => {
                if executor.command.is_some() {
                    return wrong("'ExecutorInfo.command' must not be set for 'DEFAULT' executor");
                }
                if let Some(container) = &executor.container {
                    if container.r#type() != container_info::Type::Mesos {
                        return wrong("'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor");
                    }
                    if container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) {
                        return wrong(
                            "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor",
                        );
                    }
                }
            }
            Some(Type::Custom) if executor.command.is_none() => {
                return wrong("'ExecutorInfo.command' must be set for 'CUSTOM' executor");
            }
            _ => {}
        }
        TaskId::new(&*executor.executor_id.value).map_err(|error| error.to_string())?;
        if executor.shutdown_grace_period.is_some_and(|grace| grace.nanoseconds < 0) {
            return wrong("ExecutorInfo's 'shutdown_grace_period' must be non-negative");
        }
        if let Some(command) = &executor.command {
            validate_command(command)
                .map_err(|error| format!("Executor's `CommandInfo` is invalid: {error}"))?;
        }
        if let Some(container) = &executor.container {
            validate_container(container)
                .map_err(|error| format!("Executor's `ContainerInfo` is invalid: {error}"))?;
        }
        let (expected, actual) = (self.framework.id(), executor.framework_id.as_ref());
        let actual = &actual.ok_or("'ExecutorInfo.framework_id' must be set")?.value;
        if actual != expected {
            return Err(format!(
                "ExecutorInfo has an invalid FrameworkID (Actual: {actual} vs Expected: {expected})"
            ));
        }
        of_kind(&executor.resources, "Executor uses", "Invalid executor resources")?;
        match self.framework.executors.get(&executor.executor_id.value) {
            Some(known) if !is_same(known, executor) => Err(incompatible(known, executor)),
            _ => Ok(()),
        }
    }

    /// Whether this executor has to be started, and paid for.
    pub(crate) fn is_new(&self, executor: &ExecutorInfo) -> bool {
        !self.framework.executors.contains_key(&executor.executor_id.value)
    }
}

pub(crate) const SHARED_EXECUTOR: &str =
    "The 'share_cgroups' field cannot be set to 'true' on executor containers";

pub(crate) fn share_cgroups(container: Option<&ContainerInfo>) -> Option<bool> {
    container?.linux_info.as_ref()?.share_cgroups
}

/// Whether two descriptions say the same: what is not said is the same as its default. An agent that comes back tells of an
/// executor by its record, where defaults are written out, and the values of secrets are not.
fn is_same(known: &ExecutorInfo, other: &ExecutorInfo) -> bool {
    let all = |info: &ExecutorInfo| {
        let text = berth_proto::encode_json(info);
        serde_json::from_slice::<serde_json::Value>(&text).expect("the JSON of a message is JSON")
    };
    let recorded = |info: &ExecutorInfo| berth_tasks::without_secrets(info);
    let is_from_record = || all(known) == recorded(known);
    known == other || all(known) == all(other) || (is_from_record() && recorded(known) == recorded(other))
}

fn incompatible(known: &ExecutorInfo, other: &ExecutorInfo) -> String {
    let line = "-".repeat(60);
    let [known, other] = [known, other].map(berth_proto::text);
    format!(
        "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n{line}\nExisting \
         ExecutorInfo:\n{known}\n{line}\nExecutorInfo:\n{other}\n{line}\n"
    )
}

fn of_task(list: &[v1::Resource]) -> Result<(), String> {
    if list.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    of_kind(list, "Task uses", "Invalid task resources")
}

/// Rules for the resources of one task or one executor.
fn of_kind(list: &[v1::Resource], who: &str, which: &str) -> Result<(), String> {
    let resources = sum(list).map_err(|why| format!("{who} invalid resources: {why}"))?;
    gpus(&resources).map_err(|why| format!("{who} invalid resources: {why}"))?;
    let mut volumes = BTreeSet::new();
    for one in resources.iter() {
        let persistence = one.disk.as_ref().and_then(|disk| disk.persistence.as_ref());
        if let Some(persistence) = persistence.filter(|persistence| !volumes.insert(persistence.id.clone())) {
            return Err(format!(
                "{who} duplicate persistence ID: Persistence ID '{}' is not unique",
                persistence.id
            ));
        }
    }
    let mut roles: Vec<&str> = Vec::new();
    for one in list {
        let role = one.allocation_info.as_ref().and_then(|info| info.role.as_deref()).unwrap_or_default();
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    if let [one, other, ..] = roles[..] {
        return Err(format!(
            "{which}: The resources have multiple allocation roles ('{other}' and '{one}') but only one allocation \
             role is allowed"
        ));
    }
    for name in resources.names() {
        let kinds: BTreeSet<bool> = resources.get(name).map(|one| one.revocable).collect();
        if kinds.len() > 1 {
            return Err(format!(
                "{who} mixes revocable and non-revocable resources: Cannot use both revocable and non-revocable \
                 '{name}' at the same time"
            ));
        }
    }
    Ok(())
}

fn gpus(resources: &Resources) -> Result<(), String> {
    match resources.scalar("gpus") {
        Some(gpus) if gpus.thousandths() % 1000 != 0 => {
            Err("Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer".to_owned())
        }
        _ => Ok(()),
    }
}

/// What several resources are together.
pub(crate) fn sum(list: &[v1::Resource]) -> Result<Resources, String> {
    amounts::read(list)
}

/// Whether ports or sets are named twice.
pub(crate) fn overlapping(task: &Resources, executor: &Resources) -> Result<(), String> {
    for own in task.iter() {
        let twice = executor.iter().any(|other| own.name == other.name && overlaps(&own.value, &other.value));
        if twice {
            return Err(format!(
                "There are overlapping resources in the task resources {task} and executor resources {executor}"
            ));
        }
    }
    Ok(())
}

fn overlaps(one: &berth_model::resources::Value, other: &berth_model::resources::Value) -> bool {
    use berth_model::resources::Value;
    match (one, other) {
        (Value::Ranges(one), Value::Ranges(other)) => one
            .iter()
            .any(|range| other.iter().any(|with| range.begin <= with.end && with.begin <= range.end)),
        (Value::Set(one), Value::Set(other)) => one.iter().any(|item| other.iter().any(|with| item == with)),
        _ => false,
    }
}

fn limits(task: &TaskInfo) -> Result<(), String> {
    if task.limits.is_empty() {
        return Ok(());
    }
    if task.limits.keys().any(|name| !matches!(&**name, "cpus" | "mem")) {
        return Err("Only cpus and mem may be included in a task's resource limits".to_owned());
    }
    let resources = sum(&task.resources)?;
    for (name, short, long) in [("cpus", "cpu", "CPU"), ("mem", "memory", "memory")] {
        let Some(limit) = task.limits.get(name) else { continue };
        let Some(request) = resources.scalar(name) else {
            return Err(format!("When a {long} limit is specified, a {long} request must also be specified"));
        };
        if limit.value < request.to_f64() {
            return Err(format!("The {short} limit must be greater than or equal to the {short} request"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn info(value: &Value) -> ExecutorInfo {
        berth_proto::decode_json(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_executor_is_the_same_as_its_record_and_not_as_one_with_another_secret() {
        let with = |secret: Value, more: Value| {
            let variable = json!({"name": "KEY", "type": "SECRET", "secret": secret});
            let mut all = json!({"executor_id": {"value": "e"},
                "command": {"value": "run", "environment": {"variables": [variable]}}});
            all["command"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            info(&all)
        };
        let secret = |data: &str| json!({"type": "VALUE", "value": {"data": data}});
        let recorded = with(json!({"type": "VALUE"}), json!({"shell": true}));
        let known = with(secret("b25l"), json!({}));
        assert!(is_same(&recorded, &known) && is_same(&known, &known.clone()));
        assert!(!is_same(&known, &with(secret("dHdv"), json!({}))));
        assert!(!is_same(&recorded, &with(json!({"type": "VALUE"}), json!({"shell": false}))));
    }
}
