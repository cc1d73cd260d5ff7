// SPDX-License-Identifier: Apache-2.0
//! Whether a group of tasks may be launched (reference 33.6.5): all of it or nothing.

use berth_model::Resources;
use berth_proto::v1::{ExecutorInfo, TaskInfo, container_info, executor_info, health_check};

use crate::task::{Ground, SHARED_EXECUTOR, overlapping, share_cgroups, sum};

/// The least that an executor of a group has: thousandths of processors, and of megabytes.
const LEAST_CPUS: i64 = 10;
const LEAST_MEM: i64 = 32_000;

impl Ground<'_> {
    /// All of LAUNCH_GROUP. `left` is what there is for it, allocated to a role.
    pub(crate) fn group(
        &self,
        executor: &ExecutorInfo,
        tasks: &[TaskInfo],
        left: &Resources,
    ) -> Result<(), String> {
        if tasks.is_empty() {
            return Err("Task group cannot be empty".to_owned());
        }
        for (at, task) in tasks.iter().enumerate() {
            let id = &task.task_id.value;
            let invalid = |why: String| format!("Task '{id}' is invalid: {why}");
            self.every(task).and_then(|()| of_group(task)).map_err(invalid)?;
            if tasks[..at].iter().any(|before| before.task_id == task.task_id) {
                return Err(invalid(format!("Task has duplicate ID: {id}")));
            }
        }
        self.executor(executor)?;
        let id = &executor.executor_id.value;
        match executor.r#type.map(|_| executor.r#type()) {
            None => return Err("'ExecutorInfo.type' must be set".to_owned()),
            Some(executor_info::Type::Unknown) => return Err("Unknown executor type".to_owned()),
            _ => {}
        }
        if executor.container.as_ref().is_some_and(|one| one.r#type() == container_info::Type::Docker) {
            return Err("Docker ContainerInfo is not supported on the executor".to_owned());
        }
        let differs = |task: &&TaskInfo| task.executor.as_ref().is_some_and(|own| own != executor);
        if let Some(task) = tasks.iter().find(differs) {
            let task = &task.task_id.value;
            return Err(format!("The `ExecutorInfo` of task '{task}' is different from executor '{id}'"));
        }
        let own = sum(&executor.resources)?;
        let told = |name: &str, unit: &str| {
            own.scalar(name).map_or("None".to_owned(), |scalar| format!("{scalar}{unit}"))
        };
        let has = |name: &str, least: i64| own.scalar(name).is_some_and(|one| one.thousandths() >= least);
        if !has("cpus", LEAST_CPUS) {
            let cpus = told("cpus", "");
            return Err(format!("Executor '{id}' uses less CPUs ({cpus}) than the minimum required (0.01)"));
        }
        if !has("mem", LEAST_MEM) {
            let mem = told("mem", "MB");
            return Err(format!("Executor '{id}' uses less memory ({mem}) than the minimum required (32MB)"));
        }
        if own.scalar("disk").is_none() {
            return Err(format!("Executor '{id}' uses no disk"));
        }
        let mut need = Resources::new();
        for task in tasks {
            let one = sum(&task.resources)?;
            overlapping(&one, &own)?;
            need += &one;
        }
        if self.is_new(executor) {
            need += &own;
        }
        if !left.contains(&need) {
            return Err(format!(
                "Total resources {need} required by task group and its executor are more than available {left}"
            ));
        }
        if share_cgroups(executor.container.as_ref()) == Some(true) {
            return Err(SHARED_EXECUTOR.to_owned());
        }
        self.shares_alike(executor, tasks)
    }

    /// Whether all tasks of the executor share its groups, or none does.
    fn shares_alike(&self, executor: &ExecutorInfo, tasks: &[TaskInfo]) -> Result<(), String> {
        let known = self.framework.tasks.values();
        let beside = known.filter(|task| task.executor_id.as_ref() == Some(&executor.executor_id));
        let mut all: Vec<bool> = tasks
            .iter()
            .map(|task| task.container.as_ref())
            .chain(beside.map(|task| task.container.as_ref()))
            .map(|container| share_cgroups(container).unwrap_or(true))
            .collect();
        all.dedup();
        if all.len() > 1 {
            return Err(
                "If set, the value of 'share_cgroups' must be the same for all tasks in each task group and \
                        under a single executor"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// What is checked of a task because it is in a group.
fn of_group(task: &TaskInfo) -> Result<(), String> {
    let has_network = task.container.as_ref().is_some_and(|one| !one.network_infos.is_empty());
    let asks = task.health_check.as_ref().map(|check| check.r#type());
    if has_network && matches!(asks, Some(health_check::Type::Http | health_check::Type::Tcp)) {
        return Err(
            "HTTP and TCP health checks are not supported for nested containers not joining parent's network"
                .to_owned(),
        );
    }
    if task.container.as_ref().is_some_and(|one| one.r#type() == container_info::Type::Docker) {
        return Err("Docker ContainerInfo is not supported on the task".to_owned());
    }
    if !task.limits.is_empty() && share_cgroups(task.container.as_ref()) != Some(false) {
        return Err("Resource limits may only be set for tasks within a task group when the 'share_cgroups' field is \
                    set to 'false'."
            .to_owned());
    }
    Ok(())
}
