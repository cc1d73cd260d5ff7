// SPDX-License-Identifier: Apache-2.0
//! Reports: from executors and from the agent itself, to the disk, to the executor (that they are kept), to the master.

use std::time::Duration;

use berth_proto::executor::{Call, Event, call, event};
use berth_proto::v1::{self, TaskState, task_status::Source};

use super::{At, Core, Effect, Kind, Loose, Place, Stage, Task, Timer, Write, of};
use crate::link::{Run, StatusUpdate};
use crate::made::{Made, Said};
use crate::stream::{FIRST, Taken, is_terminal, next_wait};

impl Core {
    /// An executor says something.
    pub(super) fn called(&mut self, at: &At, call: Call, status: Option<v1::ContainerStatus>) {
        match call.r#type() {
            call::Type::Update => {
                if let Some(update) = call.update {
                    self.reported(at, update.status, status);
                }
            }
            call::Type::Message => {
                let over = self.frameworks.get(&at.framework).is_none_or(|framework| framework.over);
                if let Some(message) = call.message.filter(|_| !over) {
                    let (framework, executor) = (at.framework.clone(), at.executor.clone());
                    self.effects.push(Effect::Say { framework, executor, data: message.data });
                }
            }
            call::Type::Subscribe | call::Type::Heartbeat | call::Type::Unknown => {}
        }
    }

    /// A report of an executor's.
    pub(super) fn reported(
        &mut self,
        at: &At,
        mut status: v1::TaskStatus,
        container: Option<v1::ContainerStatus>,
    ) {
        let id = status.task_id.value.clone();
        if let Err(why) = self.sound(at, &status) {
            self.count("invalid_status_updates");
            return tracing::warn!(framework = at.framework, task = id, why, "a report is dropped");
        }
        let uuid = status.uuid.clone().unwrap_or_default();
        let agent = self.agent.id.clone();
        status.agent_id = agent;
        status.source = Some(Source::Executor.into());
        // As in Mesos, executors of frameworks are named where they name themselves; by their own name alone.
        let is_built_in = self.current(at).is_some_and(|executor| executor.kind.is_built_in());
        if is_built_in || status.executor_id.is_some() {
            status.executor_id = Some(v1::ExecutorId { value: at.executor.clone() });
        }
        if status.state() == TaskState::TaskStaging {
            tracing::warn!(framework = at.framework, task = id, "no executor may say TASK_STAGING");
            return self.shutdown(at);
        }
        if let Some(from) = container {
            merge(&mut status, from);
        }
        let Some(executor) = self.current(at) else { return };
        if executor.settling.iter().any(|waiting| waiting.task_id.value == id) {
            // Its last report waits for the container; until that is written down, nothing is kept.
            return;
        }
        let known = executor.tasks.get_mut(&id).filter(|task| task.is_open());
        let terminal = is_terminal(status.state());
        // What is known to be over, or is not known, is kept from its master, but the executor need not say it again.
        let Some(task) = known else { return self.heard(at, &id, uuid) };
        if !terminal {
            return self.settle(at, status);
        }
        if task.stream.latest().is_some_and(|latest| latest.uuid.as_ref() == Some(&uuid)) {
            return self.heard(at, &id, uuid);
        }
        if executor.kind == Kind::Command || executor.ended.is_some() {
            return self.settle(at, status);
        }
        // Its container has less from now on; then it is told.
        task.stage = Stage::Terminated;
        executor.settling.push(status);
        self.advance(at);
    }

    /// Whether a report can be one.
    fn sound(&mut self, at: &At, status: &v1::TaskStatus) -> Result<(), &'static str> {
        if status.uuid.as_ref().is_none_or(|uuid| uuid.len() != 16) {
            return Err("it has no uuid, which is of 16 bytes");
        }
        if status.agent_id.is_some() && status.agent_id != self.agent.id {
            return Err("it is of another agent");
        }
        if self.frameworks.get(&at.framework).is_none_or(|framework| framework.over) {
            return Err("its framework is over");
        }
        match self.current(at) {
            Some(_) => Ok(()),
            None => Err("its executor is over, or is another by now"),
        }
    }

    /// The last reports that waited.
    pub(super) fn settle_all(&mut self, at: &At) {
        let Some(executor) = self.current(at) else { return };
        for status in std::mem::take(&mut executor.settling) {
            self.settle(at, status);
        }
    }

    /// The agent says something of a task of an executor's.
    pub(super) fn say(&mut self, at: &At, id: &str, made: &Made) {
        let Some(framework) = self.frameworks.get(&at.framework) else { return };
        let said = made.said(framework.is_aware());
        let status = self.made(Some(&at.executor), id, said);
        self.settle(at, status);
    }

    /// A report of the agent's own.
    pub(super) fn made(
        &mut self,
        executor: Option<&str>,
        id: &str,
        (state, reason, text): Said,
    ) -> v1::TaskStatus {
        v1::TaskStatus {
            task_id: v1::TaskId { value: id.to_owned() },
            state: state.into(),
            message: Some(text),
            source: Some(Source::Agent.into()),
            reason: Some(reason.into()),
            agent_id: self.agent.id.clone(),
            executor_id: executor.map(|id| v1::ExecutorId { value: id.to_owned() }),
            timestamp: Some(self.world.now()),
            uuid: Some(self.world.uuid().to_vec()),
            ..v1::TaskStatus::default()
        }
    }

    /// Writes a report down, tells the executor that it is kept, and sends it.
    pub(super) fn settle(&mut self, at: &At, status: v1::TaskStatus) {
        let id = status.task_id.value.clone();
        let Some(task) = self.current(at).and_then(|executor| executor.tasks.get_mut(&id)) else { return };
        let uuid = status.uuid.clone().unwrap_or_default();
        let taken = task.stream.update(status.clone());
        let of_executor = status.source() == Source::Executor;
        if let Taken::New { head } = taken {
            task.enter(&status);
            if is_terminal(status.state()) {
                task.stage = Stage::Terminated;
            }
            self.count("valid_status_updates");
            let ended = match status.state() {
                TaskState::TaskFinished => Some("tasks_finished"),
                TaskState::TaskFailed => Some("tasks_failed"),
                TaskState::TaskKilled => Some("tasks_killed"),
                TaskState::TaskLost => Some("tasks_lost"),
                TaskState::TaskGone => Some("tasks_gone"),
                _ => None,
            };
            ended.into_iter().for_each(|name| self.count(name));
            let (place, status) = (Place::Run(at.clone()), Box::new(status));
            self.write(Write::Update { place, task: id.clone(), status });
            if of_executor {
                self.heard(at, &id, uuid);
            }
            if head {
                self.forward(&at.framework, &id, FIRST);
            }
        } else {
            self.heard(at, &id, uuid);
        }
    }

    /// Tells the executor that a report need not be said again.
    fn heard(&mut self, at: &At, id: &str, uuid: Vec<u8>) {
        if self.current(at).is_some_and(|executor| executor.can_hear()) {
            let acknowledged = event::Acknowledged { task_id: v1::TaskId { value: id.to_owned() }, uuid };
            self.tell(at, Event { acknowledged: Some(acknowledged), ..of(event::Type::Acknowledged) });
        }
    }

    /// A task goes no further than here.
    pub(super) fn refuse(&mut self, framework: &str, run: &Run, task: v1::TaskInfo, made: &Made) {
        let executor = run.executor.as_ref().map(|info| info.executor_id.value.clone());
        self.refuse_as(framework, executor, task, made);
    }

    pub(super) fn refuse_as(
        &mut self,
        framework: &str,
        executor: Option<String>,
        info: v1::TaskInfo,
        made: &Made,
    ) {
        let Some(owner) = self.frameworks.get(framework) else { return };
        let said = made.said(owner.is_aware());
        let id = info.task_id.value.clone();
        tracing::info!(framework, task = id, why = said.2, "not run");
        let status = self.made(executor.as_deref(), &id, said);
        // What can be no name on the disk is told, but not kept.
        if super::check_id(&id).is_ok() {
            let (framework, executor, info) =
                (framework.to_owned(), executor.clone(), Box::new(info.clone()));
            self.write(Write::Refused { framework: framework.clone(), executor, info });
            let status = Box::new(status.clone());
            self.write(Write::Update { place: Place::Refused(framework), task: id.clone(), status });
        }
        let mut task = Task::new(info, None);
        task.enter(&status);
        task.stage = Stage::Terminated;
        task.stream.update(status);
        if let Some(owner) = self.frameworks.get_mut(framework) {
            owner.loose.insert(id.clone(), Loose { executor, task });
        }
        self.forward(framework, &id, FIRST);
    }

    /// The task of this id, and what runs it.
    fn task(&mut self, framework: &str, id: &str) -> Option<(Option<At>, Option<String>, &mut Task)> {
        let framework = self.frameworks.get_mut(framework)?;
        for executor in framework.executors.values_mut() {
            let at = executor.at.clone();
            if let Some(task) = executor.tasks.get_mut(id).filter(|task| task.stage != Stage::Completed) {
                let id = at.executor.clone();
                return Some((Some(at), Some(id), task));
            }
        }
        let loose = framework.loose.get_mut(id)?;
        Some((None, loose.executor.clone(), &mut loose.task))
    }

    /// Sends the first report that waits, if a master is there.
    fn forward(&mut self, framework: &str, id: &str, wait: Duration) {
        if !self.connected {
            return;
        }
        let Some((_, executor, task)) = self.task(framework, id) else { return };
        let Some(status) = task.stream.head().cloned() else { return };
        let latest_state = task.state;
        let attempt = task.stream.begin();
        let framework = framework.to_owned();
        let report = StatusUpdate { framework: framework.clone(), executor, status, latest_state };
        self.effects.push(Effect::Report(Box::new(report)));
        let timer = Timer::Retry { framework, task: id.to_owned(), attempt, wait };
        self.effects.push(Effect::After(wait, timer));
    }

    pub(super) fn retry(&mut self, framework: &str, id: &str, attempt: u64, wait: Duration) {
        if self.task(framework, id).is_some_and(|(_, _, task)| task.stream.is_at(attempt)) {
            self.forward(framework, id, next_wait(wait));
        }
    }

    /// Sends all first reports at once, of one framework or of all.
    pub(super) fn resume(&mut self, of: Option<&str>) {
        let mut all = Vec::new();
        for (id, framework) in &self.frameworks {
            if of.is_some_and(|of| of != id) {
                continue;
            }
            let tasks = framework.executors.values().flat_map(|executor| &executor.tasks);
            let tasks = tasks.filter(|(_, task)| task.stage != Stage::Completed).map(|(task, _)| task);
            all.extend(tasks.chain(framework.loose.keys()).map(|task| (id.clone(), task.clone())));
        }
        for (framework, task) in all {
            self.forward(&framework, &task, FIRST);
        }
    }

    /// The scheduler has seen a report.
    pub(super) fn acknowledge(&mut self, framework: &str, id: &str, uuid: &[u8]) {
        let Some((at, _, task)) = self.task(framework, id) else {
            let why =
                format!("Cannot find the task status update stream for task {id} of framework {framework}");
            return tracing::error!("an acknowledgement is ignored: {why}");
        };
        let closed = match task.stream.acknowledge(uuid) {
            Ok(closed) => closed,
            Err(why) => {
                return tracing::error!(framework, task = id, "an acknowledgement is ignored: {why}");
            }
        };
        if closed {
            task.stage = Stage::Completed;
        }
        let place = match &at {
            Some(at) => Place::Run(at.clone()),
            None => Place::Refused(framework.to_owned()),
        };
        if at.is_some() || !closed {
            self.write(Write::Ack { place, task: id.to_owned(), uuid: uuid.to_vec() });
        }
        if !closed {
            return self.forward(framework, id, FIRST);
        }
        match at {
            Some(at) => self.collect(&at),
            None => {
                if let Some(owner) = self.frameworks.get_mut(framework) {
                    owner.loose.remove(id);
                }
                self.write(Write::ForgetRefused { framework: framework.to_owned(), task: id.to_owned() });
                self.collect_framework(framework);
            }
        }
    }
}

/// Puts what is known of the container below what the executor says of it.
fn merge(status: &mut v1::TaskStatus, from: v1::ContainerStatus) {
    let into = status.container_status.get_or_insert_default();
    if into.container_id.is_none() {
        into.container_id = from.container_id;
    }
    if into.network_infos.is_empty() {
        into.network_infos = from.network_infos;
    }
    into.cgroup_info = into.cgroup_info.take().or(from.cgroup_info);
    into.executor_pid = into.executor_pid.or(from.executor_pid);
}
