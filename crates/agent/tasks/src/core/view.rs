// SPDX-License-Identifier: Apache-2.0
//! What the agent says of its tasks: to a master, and to whoever asks.

use berth_proto::agent::response::{
    GetExecutors, GetFrameworks, GetState, GetTasks, get_executors, get_frameworks,
};
use berth_proto::v1;

use super::{Core, Executor, Framework, Kind, Stage, Task};
use crate::link::Held;

impl Core {
    /// What a master is told when it meets the agent.
    pub(crate) fn held(&self) -> Held {
        let mut held = Held::default();
        for framework in self.frameworks.values() {
            if framework.over {
                continue;
            }
            held.frameworks.push(framework.info.clone());
            for executor in framework.executors.values() {
                if executor.kind != Kind::Command && executor.phase != super::Phase::Terminated {
                    held.executors.push(executor.info.clone());
                }
            }
            let live = |(task, _): &(v1::Task, Stage)| task.state() != v1::TaskState::TaskUnknown;
            held.tasks.extend(
                tasks(framework).filter(live).filter(|(_, stage)| *stage != Stage::Completed).map(|t| t.0),
            );
        }
        for framework in &self.completed {
            held.completed.push((framework.info.clone(), tasks(framework).map(|(task, _)| task).collect()));
        }
        held
    }

    /// The answer to GET_STATE.
    pub(crate) fn state(&self) -> GetState {
        let mut tasks_of = GetTasks::default();
        let mut executors = GetExecutors::default();
        let mut frameworks = GetFrameworks::default();
        let all = self.frameworks.values().map(|framework| (framework, false));
        for (framework, over) in all.chain(self.completed.iter().map(|framework| (framework, true))) {
            let entry = get_frameworks::Framework { framework_info: framework.info.clone() };
            if over { &mut frameworks.completed_frameworks } else { &mut frameworks.frameworks }.push(entry);
            for executor in framework.executors.values() {
                executors.executors.push(get_executors::Executor { executor_info: executor.info.clone() });
            }
            for executor in &framework.completed {
                executors
                    .completed_executors
                    .push(get_executors::Executor { executor_info: executor.info.clone() });
            }
            for (task, stage) in tasks(framework) {
                match stage {
                    Stage::Queued => &mut tasks_of.queued_tasks,
                    Stage::Launched => &mut tasks_of.launched_tasks,
                    Stage::Terminated => &mut tasks_of.terminated_tasks,
                    Stage::Completed => &mut tasks_of.completed_tasks,
                }
                .push(task);
            }
        }
        GetState {
            get_tasks: Some(tasks_of),
            get_executors: Some(executors),
            get_frameworks: Some(frameworks),
        }
    }
}

/// All tasks of a framework.
fn tasks(framework: &Framework) -> impl Iterator<Item = (v1::Task, Stage)> + '_ {
    let all = framework.executors.values().chain(&framework.completed);
    let of_executors = all.flat_map(move |executor| {
        executor.tasks.values().map(move |task| entry(framework, Some(executor), task))
    });
    of_executors.chain(framework.loose.values().map(move |loose| entry(framework, None, &loose.task)))
}

fn entry(framework: &Framework, executor: Option<&Executor>, task: &Task) -> (v1::Task, Stage) {
    let info = &task.info;
    let latest = task.stream.latest();
    // The executor of a command is nobody's business.
    let executor = executor.filter(|executor| executor.kind != Kind::Command);
    let entry = v1::Task {
        name: info.name.clone(),
        task_id: info.task_id.clone(),
        framework_id: framework.info.id.clone().unwrap_or_default(),
        executor_id: executor.map(|executor| executor.info.executor_id.clone()),
        agent_id: info.agent_id.clone(),
        state: task.state.into(),
        resources: info.resources.clone(),
        limits: info.limits.clone(),
        statuses: task.statuses.clone(),
        status_update_state: latest.map(|latest| latest.state),
        status_update_uuid: latest.and_then(|latest| latest.uuid.clone()),
        labels: info.labels.clone(),
        discovery: info.discovery.clone(),
        container: info.container.clone(),
        health_check: info.health_check.clone(),
        kill_policy: info.kill_policy,
        user: info.command.as_ref().and_then(|command| command.user.clone()),
    };
    (entry, task.stage)
}
