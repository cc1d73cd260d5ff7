// SPDX-License-Identifier: Apache-2.0
//! Frameworks, executors and tasks in the words of `/state`.

use berth_proto::v1::{
    ExecutorInfo, FrameworkInfo, Label, Resource, Task, TaskStatus, executor_info, framework_info,
};
use berth_proto::{encode_json, v1};
use serde_json::{Map, Value, json};

use super::about::summary;
use super::message;
use crate::{ExecutorTree, FrameworkTree};

/// A framework.
pub(super) fn framework(tree: &FrameworkTree) -> Value {
    let info = &tree.info;
    let mut entry = json!({
        "id": info.id.clone().unwrap_or_default().value,
        "name": info.name,
        "user": info.user,
        "failover_timeout": info.failover_timeout(),
        "checkpoint": info.checkpoint(),
        "hostname": info.hostname(),
    });
    if let Some(principal) = &info.principal {
        entry["principal"] = json!(principal);
    }
    roles(info, &mut entry);
    let of = |over| -> Vec<Value> {
        tree.executors.iter().filter(|executor| executor.over == over).map(executor).collect()
    };
    entry["executors"] = Value::Array(of(false));
    entry["completed_executors"] = Value::Array(of(true));
    entry
}

fn roles(info: &FrameworkInfo, entry: &mut Value) {
    let several = framework_info::capability::Type::MultiRole;
    if info.capabilities.iter().any(|capability| capability.r#type() == several) {
        entry["roles"] = json!(info.roles);
    } else {
        let role = info.role();
        entry["role"] = json!(role);
    }
}

fn executor(tree: &ExecutorTree) -> Value {
    let ExecutorInfo { executor_id, name, resources, labels, .. } = &tree.info;
    // What it needs itself, and for its tasks.
    let tasks = tree.tasks.iter().chain(&tree.queued).flat_map(|task| &task.resources);
    let all: Vec<&Resource> = resources.iter().chain(tasks).collect();
    let source = tree.info.source();
    let mut entry = json!({
        "id": executor_id.value,
        "name": name.clone().unwrap_or_default(),
        "source": source,
        "container": tree.container,
        "directory": tree.directory,
        "resources": summary(&all),
    });
    if let Some(role) = role(&tree.info.resources) {
        entry["role"] = json!(role);
    }
    if let Some(labels) = labels {
        entry["labels"] = pairs(&labels.labels);
    }
    if tree.info.r#type() != executor_info::Type::Unknown {
        entry["type"] = json!(tree.info.r#type().as_str_name());
    }
    entry["tasks"] = tree.tasks.iter().map(task).collect();
    entry["queued_tasks"] = tree.queued.iter().map(task).collect();
    entry["completed_tasks"] = tree.completed.iter().map(task).collect();
    entry
}

fn task(task: &Task) -> Value {
    let mut entry = json!({
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.clone().unwrap_or_default().value,
        "slave_id": task.agent_id.value,
        "state": task.state().as_str_name(),
        "resources": summary(&task.resources.iter().collect::<Vec<_>>()),
        "statuses": task.statuses.iter().map(status).collect::<Vec<_>>(),
    });
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            entry[name] = value;
        }
    };
    put("role", role(&task.resources).map(|role| json!(role)));
    put("user", task.user.as_ref().map(|user| json!(user)));
    put("labels", task.labels.as_ref().map(|labels| pairs(&labels.labels)));
    put("discovery", task.discovery.as_ref().map(|discovery| message(&encode_json(discovery))));
    put("container", task.container.as_ref().map(|container| message(&encode_json(container))));
    put("health_check", task.health_check.as_ref().map(|check| message(&encode_json(check))));
    let limit = |(name, scalar): (&String, &v1::value::Scalar)| (name.clone(), json!(scalar.value));
    let limits: Map<String, Value> = task.limits.iter().map(limit).collect();
    put("limits", (!limits.is_empty()).then_some(Value::Object(limits)));
    entry
}

fn status(status: &TaskStatus) -> Value {
    let mut entry = json!({ "state": status.state().as_str_name(), "timestamp": status.timestamp() });
    if let Some(labels) = &status.labels {
        entry["labels"] = pairs(&labels.labels);
    }
    if let Some(container) = &status.container_status {
        // Its process is left out here.
        let container = v1::ContainerStatus { executor_pid: None, ..container.clone() };
        entry["container_status"] = message(&encode_json(&container));
    }
    if let Some(healthy) = status.healthy {
        entry["healthy"] = json!(healthy);
    }
    entry
}

fn role(resources: &[Resource]) -> Option<&str> {
    resources.first()?.allocation_info.as_ref()?.role.as_deref()
}

fn pairs(labels: &[Label]) -> Value {
    labels.iter().map(|label| message(&encode_json(label))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_task_is_told_below_its_executor_and_framework() {
        let resource = |name: &str, value| Resource {
            name: name.to_owned(),
            scalar: Some(v1::value::Scalar { value }),
            allocation_info: Some(v1::resource::AllocationInfo { role: Some("*".to_owned()) }),
            ..Default::default()
        };
        let status = TaskStatus {
            state: v1::TaskState::TaskRunning.into(),
            timestamp: Some(5.5),
            container_status: Some(v1::ContainerStatus { executor_pid: Some(7), ..Default::default() }),
            ..Default::default()
        };
        let task = Task {
            name: "t".to_owned(),
            task_id: v1::TaskId { value: "t".to_owned() },
            state: v1::TaskState::TaskRunning.into(),
            resources: vec![resource("mem", 64.0)],
            statuses: vec![status],
            ..Default::default()
        };
        let info = ExecutorInfo {
            executor_id: v1::ExecutorId { value: "t".to_owned() },
            resources: vec![resource("mem", 32.0)],
            ..Default::default()
        };
        let running =
            ExecutorTree { info, container: "c".to_owned(), tasks: vec![task], ..Default::default() };
        let info = FrameworkInfo { user: "root".to_owned(), name: "n".to_owned(), ..Default::default() };
        let told = framework(&FrameworkTree { info, over: false, executors: vec![running] });
        assert_eq!((&told["role"], &told["failover_timeout"]), (&json!("*"), &json!(0.0)));
        let executor = &told["executors"][0];
        assert_eq!((&executor["id"], &executor["resources"]["mem"]), (&json!("t"), &json!(96.0)));
        assert_eq!((&executor["queued_tasks"], &told["completed_executors"]), (&json!([]), &json!([])));
        let task = &executor["tasks"][0];
        assert_eq!((&task["executor_id"], &task["state"]), (&json!(""), &json!("TASK_RUNNING")));
        let status = json!({ "state": "TASK_RUNNING", "timestamp": 5.5, "container_status": {} });
        assert_eq!(task["statuses"], json!([status]));
    }
}
