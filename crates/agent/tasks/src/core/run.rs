// SPDX-License-Identifier: Apache-2.0
//! Tasks on their way to their executors.

use berth_model::ContainerId;
use berth_proto::executor::{Event, event};
use berth_proto::v1::{self, executor_info};

use super::{
    At, Core, Effect, Executor, Framework, Kind, Launch, NotLaunched, Phase, Stage, Task, Timer, Write,
    asked, check_id, of,
};
use crate::link::Run;
use crate::made::{Cause, Made};
use crate::text::command_executor;

/// What the executor of a command is thought to need beside it.
const OVERHEAD: [(&str, f64); 2] = [("cpus", 0.1), ("mem", 32.0)];

impl Core {
    pub(super) fn run(&mut self, run: Run) {
        let Some(id) = run.framework.id.as_ref().map(|id| id.value.clone()) else {
            return tracing::warn!("a task of a framework without an id is dropped");
        };
        if run.tasks.is_empty() || check_id(&id).is_err() {
            return tracing::warn!(
                framework = id,
                "a run without tasks, or of a framework that can be none, is dropped"
            );
        }
        match self.frameworks.get(&id) {
            Some(framework) if framework.over => {
                return tracing::warn!(
                    framework = id,
                    "tasks of a framework that is being ended are dropped"
                );
            }
            Some(_) => {}
            None => {
                let info = Box::new(run.framework.clone());
                self.write(Write::Framework { info, over: false });
                self.frameworks.insert(id.clone(), Framework::new(run.framework.clone()));
            }
        }
        let fresh: Vec<v1::TaskInfo> =
            run.tasks.iter().filter(|task| !self.knows(&id, &task.task_id.value)).cloned().collect();
        if fresh.is_empty() {
            // Told twice.
            return;
        }
        match self.executor_for(&id, &run, &fresh) {
            Err(made) => fresh.into_iter().for_each(|task| self.refuse(&id, &run, task, &made)),
            Ok((executor, kind)) => self.enqueue(&id, &run, executor, kind, fresh),
        }
    }

    /// Whether a task is known that is not over.
    fn knows(&self, framework: &str, task: &str) -> bool {
        let Some(framework) = self.frameworks.get(framework) else { return false };
        let of_executor = |executor: &Executor| {
            executor.tasks.get(task).is_some_and(|known| known.stage != Stage::Completed)
        };
        framework.loose.contains_key(task) || framework.executors.values().any(of_executor)
    }

    /// What is to run them.
    fn executor_for(
        &self,
        framework: &str,
        run: &Run,
        tasks: &[v1::TaskInfo],
    ) -> Result<(v1::ExecutorInfo, Kind), Made> {
        for task in tasks {
            check_id(&task.task_id.value).map_err(Made::Invalid)?;
            if !self.settings.limits_cpus && task.limits.contains_key("cpus") {
                return Err(Made::CpuLimits);
            }
            if !self.settings.limits_mem && task.limits.contains_key("mem") {
                return Err(Made::MemLimits);
            }
        }
        let (info, kind) = match &run.executor {
            None => (generated(framework, &tasks[0]), Kind::Command),
            Some(info) => {
                check_id(&info.executor_id.value).map_err(Made::Invalid)?;
                let framework_id = Some(v1::FrameworkId { value: framework.to_owned() });
                let kind = match info.r#type() {
                    executor_info::Type::Default => Kind::Group,
                    _ => Kind::Custom,
                };
                (v1::ExecutorInfo { framework_id, ..info.clone() }, kind)
            }
        };
        let existing = self.executor(framework, &info.executor_id.value);
        match existing {
            Some(_) if kind == Kind::Command => Err(Made::ReusedExecutor),
            Some(_) if run.launch_executor => Err(Made::ExecutorExists),
            None if !run.launch_executor && kind != Kind::Command => Err(Made::NoExecutor),
            Some(executor) if executor.phase == Phase::Terminating => Err(Made::ExecutorTerminating),
            Some(executor) if executor.phase == Phase::Terminated => Err(Made::ExecutorTerminated),
            Some(executor) if executor.kind == Kind::Command => Err(Made::ReusedExecutor),
            _ => Ok((info, kind)),
        }
    }

    fn enqueue(
        &mut self,
        framework: &str,
        run: &Run,
        info: v1::ExecutorInfo,
        kind: Kind,
        tasks: Vec<v1::TaskInfo>,
    ) {
        let executor = info.executor_id.value.clone();
        let existing = self.executor(framework, &executor).map(|executor| executor.at.clone());
        let is_new = existing.is_none();
        let at = existing.unwrap_or_else(|| At {
            framework: framework.to_owned(),
            executor: executor.clone(),
            container: self.new_container(),
        });
        if is_new {
            self.write(Write::Executor { at: at.clone(), info: Box::new(info.clone()), kind });
        }
        let Some(owner) = self.frameworks.get_mut(framework) else { return };
        let entry =
            owner.executors.entry(executor).or_insert_with(|| Executor::new(at.clone(), info.clone(), kind));
        entry.groups += u64::from(run.group);
        let group = run.group.then_some(entry.groups);
        let ids: Vec<String> = tasks.iter().map(|task| task.task_id.value.clone()).collect();
        for task in &tasks {
            entry.tasks.insert(task.task_id.value.clone(), Task::new(task.clone(), group));
        }
        match group {
            Some(_) => entry.queue.push_back(ids),
            None => entry.queue.extend(ids.into_iter().map(|id| vec![id])),
        }
        let (resources, limits) = asked(&entry.info, tasks.iter());
        entry.applied = if is_new { Some((resources.clone(), limits.clone())) } else { entry.applied.take() };
        let framework_info = owner.info.clone();
        for info in tasks.iter().cloned().map(Box::new) {
            self.write(Write::Task { at: at.clone(), info, group });
        }
        if !is_new {
            return self.advance(&at);
        }
        let task = (kind == Kind::Command).then(|| tasks[0].clone());
        let launch = Launch {
            at: at.clone(),
            kind,
            framework: framework_info,
            executor: info,
            task,
            resources,
            limits,
        };
        self.effects.push(Effect::Launch(Box::new(launch)));
        if kind == Kind::Custom {
            self.effects.push(Effect::After(self.settings.registration_timeout, Timer::Registration(at)));
        }
    }

    fn new_container(&mut self) -> ContainerId {
        let uuid = crate::uuid::text(&self.world.uuid());
        ContainerId::new(uuid).expect("a uuid is an id of a container")
    }

    /// A launch was answered.
    pub(super) fn launched(&mut self, at: &At, result: Result<bool, NotLaunched>) {
        let Some(executor) = self.current(at) else {
            if result.is_ok() {
                self.effects.push(Effect::Destroy(at.clone()));
            }
            return;
        };
        executor.launched = true;
        match result {
            Ok(true) if executor.phase == Phase::Terminating => {
                self.effects.push(Effect::Destroy(at.clone()))
            }
            Ok(true) if executor.kind.is_built_in() => self.start(at, Vec::new()),
            // It subscribes; or nobody knows a container of this name, which is how it ended.
            Ok(_) => {}
            Err(why) => {
                executor.phase = Phase::Terminating;
                match why {
                    NotLaunched::NoPlace(why) => executor.no_place = Some(why),
                    NotLaunched::Failed(why) => {
                        executor.cause.get_or_insert(Cause::LaunchFailed(why));
                    }
                }
            }
        }
    }

    /// A built-in executor begins to speak, and gets what is for it.
    pub(super) fn start(&mut self, at: &At, recovered: Vec<crate::built_in::Recovered>) {
        let Some(executor) = self.current(at) else { return };
        executor.speaking = true;
        executor.registered = true;
        executor.phase = Phase::Running;
        let (kind, info) = (executor.kind, executor.info.clone());
        let idle = executor.tasks.values().all(|task| !task.is_open());
        let (at, executor) = (at.clone(), Box::new(info));
        self.effects.push(Effect::Start { at: at.clone(), kind, executor, recovered });
        // Its tasks were killed before it had them.
        if idle {
            return self.shutdown(&at);
        }
        self.tell_kills(&at);
        self.advance(&at);
    }

    /// Gives an executor what its tasks need now, and then the tasks.
    pub(super) fn advance(&mut self, at: &At) {
        let Some(executor) = self.current(at) else { return };
        if executor.phase != Phase::Running || executor.limiting.is_some() || executor.ended.is_some() {
            return self.settle_all(at);
        }
        let open = executor.tasks.values().filter(|task| task.is_open()).map(|task| &*task.info);
        let wanted = asked(&executor.info, open);
        // The container of a command is the command's, and ends with it.
        if executor.kind != Kind::Command && executor.applied.as_ref() != Some(&wanted) {
            executor.limiting = Some(wanted.clone());
            let (resources, limits) = wanted;
            return self.effects.push(Effect::Limit { at: at.clone(), resources, limits });
        }
        self.settle_all(at);
        self.deliver(at);
    }

    pub(super) fn limited(&mut self, at: &At, result: Result<(), String>) {
        let Some(executor) = self.current(at) else { return };
        let asked = executor.limiting.take();
        match result {
            Ok(()) => {
                executor.applied = asked;
                self.advance(at);
            }
            Err(why) => {
                executor.cause.get_or_insert(Cause::UpdateFailed(why));
                executor.phase = Phase::Terminating;
                self.settle_all(at);
                self.effects.push(Effect::Destroy(at.clone()));
            }
        }
    }

    fn deliver(&mut self, at: &At) {
        let mut refused = false;
        loop {
            let Some(executor) = self.current(at).filter(|executor| executor.can_hear()) else { return };
            let by_message = executor.pid.is_some();
            let Some(ids) = executor.queue.pop_front() else { break };
            let mut infos = Vec::new();
            let mut is_group = false;
            for id in &ids {
                let Some(task) = executor.tasks.get_mut(id).filter(|task| task.stage == Stage::Queued) else {
                    continue;
                };
                task.stage = Stage::Launched;
                is_group |= task.group.is_some();
                infos.push((*task.info).clone());
            }
            if is_group && by_message {
                // There is no message for it.
                infos.iter().for_each(|task| self.say(at, &task.task_id.value, &Made::NoGroups));
                refused = true;
                continue;
            }
            for id in ids {
                self.write(Write::Delivered { at: at.clone(), task: id });
            }
            let event = match infos.pop() {
                None => continue,
                Some(task) if !is_group => {
                    Event { launch: Some(event::Launch { task }), ..of(event::Type::Launch) }
                }
                Some(last) => {
                    infos.push(last);
                    let task_group = v1::TaskGroupInfo { tasks: infos };
                    Event {
                        launch_group: Some(event::LaunchGroup { task_group }),
                        ..of(event::Type::LaunchGroup)
                    }
                }
            };
            self.tell(at, event);
        }
        if refused {
            // It needs less than was thought.
            self.advance(at);
        }
    }

    /// Tells of all kills that were asked for and did not end their tasks yet: they may have come while it did not listen,
    /// or have been lost with the connection before. One that is told twice changes nothing.
    pub(super) fn tell_kills(&mut self, at: &At) {
        let Some(executor) = self.current(at) else { return };
        let tasks = &executor.tasks;
        executor.kills.retain(|id, _| tasks.get(id).is_some_and(|task| task.stage == Stage::Launched));
        for (id, policy) in executor.kills.clone() {
            self.tell_kill(at, id, policy);
        }
    }

    fn tell_kill(&mut self, at: &At, id: String, kill_policy: Option<v1::KillPolicy>) {
        let kill = Some(event::Kill { task_id: v1::TaskId { value: id }, kill_policy });
        self.tell(at, Event { kill, ..of(event::Type::Kill) });
    }

    pub(super) fn kill(&mut self, framework: &str, id: &str, policy: Option<v1::KillPolicy>) {
        let Some(owner) = self.frameworks.get_mut(framework).filter(|owner| !owner.over) else {
            return tracing::warn!(
                framework,
                task = id,
                "a kill for a framework that is not here is dropped"
            );
        };
        let of_task = |executor: &&mut Executor| {
            executor.tasks.get(id).is_some_and(|task| task.stage != Stage::Completed)
        };
        let Some(executor) = owner.executors.values_mut().find(of_task) else {
            if owner.loose.contains_key(id) {
                // Its end is on the way.
                return;
            }
            let executor = None;
            let info = v1::TaskInfo {
                task_id: v1::TaskId { value: id.to_owned() },
                agent_id: self.agent.id.clone().unwrap_or_default(),
                ..v1::TaskInfo::default()
            };
            return self.refuse_as(framework, executor, info, &Made::NoSuchTask);
        };
        let at = executor.at.clone();
        let Some(task) = executor.tasks.get(id) else { return };
        match (executor.phase, task.stage) {
            (Phase::Registering | Phase::Running, Stage::Queued) => {
                let members: Vec<String> = match task.group {
                    None => vec![id.to_owned()],
                    group => {
                        let of_group =
                            |(id, task): (&String, &Task)| (task.group == group).then(|| id.clone());
                        executor.tasks.iter().filter_map(of_group).collect()
                    }
                };
                let made = match task.group {
                    None => Made::KilledBeforeDelivery,
                    Some(_) => Made::GroupKilledBeforeDelivery,
                };
                for member in members {
                    self.say(&at, &member, &made);
                }
                // One that was given nothing has nothing to do.
                let unused = self.current(&at).is_some_and(|executor| {
                    executor.registered
                        && executor.tasks.values().all(|task| !task.is_open())
                        && executor.tasks.values().all(|task| task.statuses.iter().all(is_of_agent))
                });
                if unused {
                    self.shutdown(&at);
                }
            }
            (Phase::Registering | Phase::Running, Stage::Launched) => {
                executor.kills.insert(id.to_owned(), policy);
                if executor.phase == Phase::Running && executor.can_hear() {
                    self.tell_kill(&at, id.to_owned(), policy);
                }
            }
            (phase, stage) => {
                tracing::info!(
                    framework,
                    task = id,
                    ?phase,
                    ?stage,
                    "a kill changes nothing: the task ends already"
                );
            }
        }
    }
}

fn is_of_agent(status: &v1::TaskStatus) -> bool {
    status.source() == v1::task_status::Source::Agent
}

/// The executor that Mesos would start for a command (reference 31 §4).
pub(crate) fn generated(framework: &str, task: &v1::TaskInfo) -> v1::ExecutorInfo {
    let allocation = task.resources.first().and_then(|first| first.allocation_info.clone());
    let resources = OVERHEAD.map(|(name, value)| v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: allocation.clone(),
        ..v1::Resource::default()
    });
    let grace = task.kill_policy.as_ref().and_then(|policy| policy.grace_period);
    let more = |grace: v1::DurationInfo| grace.nanoseconds.saturating_add(2_000_000_000);
    #[expect(deprecated, reason = "Mesos fills it")]
    v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: task.task_id.value.clone() },
        framework_id: Some(v1::FrameworkId { value: framework.to_owned() }),
        name: Some(command_executor(task)),
        source: Some(task.task_id.value.clone()),
        command: task.command.clone(),
        container: task.container.clone(),
        labels: task.labels.clone(),
        discovery: task.discovery.clone(),
        resources: resources.to_vec(),
        shutdown_grace_period: grace.map(|grace| v1::DurationInfo { nanoseconds: more(grace) }),
        ..v1::ExecutorInfo::default()
    }
}
