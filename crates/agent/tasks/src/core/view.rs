// SPDX-License-Identifier: Apache-2.0
//! What the agent says of its tasks: to a master, and to whoever asks.

use berth_proto::agent::response::{
    GetExecutors, GetFrameworks, GetState, GetTasks, get_executors, get_frameworks,
};
use berth_proto::v1;

use super::{Core, Executor, Framework, Kind, Phase, Stage, Task};
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
                if executor.kind != Kind::Command && executor.phase != Phase::Terminated {
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

/// An executor and its tasks, as they are told.
#[derive(Debug, Clone)]
pub struct ExecutorView {
    /// Itself.
    pub info: v1::ExecutorInfo,
    /// Its container.
    pub container: berth_model::ContainerId,
    /// Whether it is over.
    pub over: bool,
    /// What it was given and has not ended.
    pub tasks: Vec<v1::Task>,
    /// What it will be given.
    pub queued: Vec<v1::Task>,
    /// What has ended.
    pub completed: Vec<v1::Task>,
}

/// A framework and its executors, as they are told.
#[derive(Debug, Clone)]
pub struct FrameworkView {
    /// Itself.
    pub info: v1::FrameworkInfo,
    /// Whether it is over.
    pub over: bool,
    /// Its executors.
    pub executors: Vec<ExecutorView>,
}

impl Core {
    /// Everything, each with what belongs to it.
    pub(crate) fn tree(&self) -> Vec<FrameworkView> {
        let active = self.frameworks.values().map(|framework| (framework, false));
        active
            .chain(self.completed.iter().map(|framework| (framework, true)))
            .map(|(framework, over)| {
                let of = |executor: &Executor, over| branch(framework, executor, over);
                let active = framework.executors.values().map(|executor| of(executor, false));
                let executors = active.chain(framework.completed.iter().map(|executor| of(executor, true)));
                FrameworkView { info: framework.info.clone(), over, executors: executors.collect() }
            })
            .collect()
    }
}

fn branch(framework: &Framework, executor: &Executor, over: bool) -> ExecutorView {
    let (info, container) = (executor.info.clone(), executor.at.container.clone());
    let (tasks, queued, completed) = Default::default();
    let mut view = ExecutorView { info, container, over, tasks, queued, completed };
    for task in executor.tasks.values() {
        let (task, stage) = entry(framework, Some(executor), task);
        match stage {
            Stage::Queued => &mut view.queued,
            Stage::Launched => &mut view.tasks,
            Stage::Terminated | Stage::Completed => &mut view.completed,
        }
        .push(task);
    }
    view
}

/// What is counted since the agent started.
const COUNTED: [&str; 10] = [
    "executors_terminated",
    "invalid_framework_messages",
    "invalid_status_updates",
    "tasks_failed",
    "tasks_finished",
    "tasks_gone",
    "tasks_killed",
    "tasks_lost",
    "valid_framework_messages",
    "valid_status_updates",
];

impl Core {
    /// What is counted, by the names of Mesos's metrics without `slave/`.
    pub(crate) fn metrics(&self) -> Vec<(&'static str, f64)> {
        let executors = || self.frameworks.values().flat_map(|framework| framework.executors.values());
        let executors_in =
            |phase: Phase| executors().filter(|executor| executor.phase == phase).count() as f64;
        let tasks_in = |state: v1::TaskState| {
            let tasks = executors().flat_map(|executor| executor.tasks.values());
            tasks.filter(|task| task.state == state).count() as f64
        };
        let active = self.frameworks.values().filter(|framework| !framework.over).count() as f64;
        let now = [
            ("executors_registering", executors_in(Phase::Registering)),
            ("executors_running", executors_in(Phase::Running)),
            ("executors_terminating", executors_in(Phase::Terminating)),
            ("frameworks_active", active),
            ("registered", f64::from(u8::from(self.connected))),
            ("tasks_killing", tasks_in(v1::TaskState::TaskKilling)),
            ("tasks_running", tasks_in(v1::TaskState::TaskRunning)),
            ("tasks_staging", tasks_in(v1::TaskState::TaskStaging)),
            ("tasks_starting", tasks_in(v1::TaskState::TaskStarting)),
        ];
        let counted = COUNTED.map(|name| (name, self.counts.get(name).copied().unwrap_or(0) as f64));
        now.into_iter().chain(counted).collect()
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
