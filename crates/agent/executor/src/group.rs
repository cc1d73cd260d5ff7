// SPDX-License-Identifier: Apache-2.0
//! The executor of groups of tasks: each task has a container in the executor's.
//!
//! A group starts together, and when one of it fails or is killed the others are killed. Groups come one after another,
//! and know nothing of each other. The work is over when no task is left and all was stored.

use std::collections::BTreeMap;

use berth_model::ContainerId;
use berth_proto::convert::container_id_of;
use berth_proto::executor::{Event, event};
use berth_proto::v1::{self, TaskInfo, TaskState, TaskStatus, framework_info, task_status};
use berth_tasks::built_in::{BuiltIn, Containers, Recovered, Start, Work};

use crate::clock::{Clock, duration};
use crate::kept::{Kept, Notes, Why};
use crate::life::{Act, End, GRACE, Kind, Life, is_terminal};
use crate::links;
use crate::prepare;
use crate::report::{PATIENCE, Reporter};
use crate::ward::{Done, Hands, Ward};

/// Executors of groups of tasks.
#[derive(Debug, Clone, Copy)]
pub struct GroupExecutor {
    clock: Clock,
}

impl GroupExecutor {
    /// One that starts executors.
    pub fn new() -> GroupExecutor {
        GroupExecutor { clock: Clock::new() }
    }
}

impl Default for GroupExecutor {
    fn default() -> GroupExecutor {
        GroupExecutor::new()
    }
}

impl BuiltIn for GroupExecutor {
    fn start(&self, start: Start) -> Work {
        Box::pin(run(self.clock, start))
    }
}

struct Executor {
    framework: v1::FrameworkInfo,
    container: ContainerId,
    hands: Hands,
    /// Its tasks, until their last report is stored.
    wards: BTreeMap<usize, Ward>,
    last: usize,
    /// It had a task.
    begun: bool,
    shutting_down: bool,
    /// Its container has ended, and all in it.
    has_ended: bool,
}

async fn run(clock: Clock, start: Start) {
    let Start { executor, framework, container, ended, mut events, calls, .. } = start;
    let framework_id = framework.id.clone().unwrap_or_default();
    let reports = Reporter::new(calls, executor.executor_id, framework_id);
    let hands = Hands::new(clock, start.containers, Notes::open(&start.records), reports);
    let mut it = Executor {
        framework,
        container,
        hands,
        wards: BTreeMap::new(),
        last: 0,
        begun: false,
        shutting_down: false,
        has_ended: false,
    };
    for before in start.recovered {
        it.recover(before);
    }
    let mut ends = ended.wait();
    // Whatever remains to be said when nothing runs has its time too.
    let mut last_moment = None;
    loop {
        if it.is_idle() {
            if it.hands.reports.is_done() {
                return;
            }
            last_moment.get_or_insert(clock.now() + PATIENCE);
        } else if !it.has_ended {
            last_moment = None;
        }
        let deadline = last_moment.or_else(|| it.deadline());
        // What has ended before its executor's container did, did so by itself.
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => it.hear(*event),
                None => return,
            },
            (at, done) = it.hands.next() => it.done(at, done),
            end = &mut ends, if !it.has_ended => {
                let told = |end: &berth_model::ContainerTermination| end.state.is_some() || end.reason.is_some();
                // The agent has the words for it.
                if end.as_ref().is_none_or(told) {
                    return;
                }
                it.has_ended = true;
                last_moment = Some(clock.now() + PATIENCE);
            }
            () = clock.reach(deadline) => {
                if last_moment.is_some() {
                    tracing::warn!(container = %it.container, "reports of an executor's tasks were not stored, or it is not known how they ended");
                    return;
                }
                it.time();
            }
        }
    }
}

impl Executor {
    /// Whether nothing runs, and nothing will.
    fn is_idle(&self) -> bool {
        (self.begun || self.shutting_down) && self.wards.values().all(|ward| ward.life.is_over())
    }

    fn deadline(&self) -> Option<std::time::Duration> {
        self.wards.values().filter_map(|ward| ward.life.deadline()).min()
    }

    fn time(&mut self) {
        for ward in self.wards.values_mut() {
            self.hands.step(ward, Life::time);
        }
    }

    fn hear(&mut self, event: Event) {
        match event.r#type.and_then(|number| event::Type::try_from(number).ok()) {
            Some(event::Type::LaunchGroup) => {
                if let Some(launch) = event.launch_group {
                    self.launch(launch.task_group.tasks);
                }
            }
            Some(event::Type::Kill) => {
                if let Some(kill) = event.kill {
                    let policy = kill.kill_policy.and_then(|policy| policy.grace_period);
                    self.kill(&kill.task_id.value, policy.as_ref().map(duration));
                }
            }
            Some(event::Type::Acknowledged) => {
                if let Some(acknowledged) = event.acknowledged {
                    self.hands.reports.acknowledged(&acknowledged.uuid);
                    self.forget(&acknowledged.task_id.value);
                }
            }
            Some(event::Type::Shutdown | event::Type::Launch) => self.shutdown(),
            // Messages of the framework's are for executors of its own.
            _ => {}
        }
    }

    fn kill(&mut self, task: &str, grace: Option<std::time::Duration>) {
        if let Some(ward) = self.wards.values_mut().find(|ward| ward.life.id() == task) {
            self.hands.step(ward, |life, now| life.kill(now, grace, Why::Asked));
        }
    }

    fn shutdown(&mut self) {
        self.shutting_down = true;
        for ward in self.wards.values_mut() {
            self.hands.step(ward, |life, now| life.kill(now, Some(GRACE), Why::Asked));
        }
    }

    /// What is over and stored is not kept.
    fn forget(&mut self, task: &str) {
        let over = |ward: &Ward| ward.life.id() == task && ward.life.is_over();
        if self.hands.reports.is_done_with(task) && self.wards.values().any(over) {
            self.wards.retain(|_, ward| !over(ward));
            self.hands.notes.forget(task);
        }
    }

    /// A group is given. All of it is written down before any of it begins.
    fn launch(&mut self, tasks: Vec<TaskInfo>) {
        if self.shutting_down || self.has_ended {
            return self.drop_all(tasks, None, "the executor is shutting down");
        }
        let Some(first) = tasks.first() else { return };
        let group = first.task_id.value.clone();
        let known = |task: &TaskInfo| self.wards.values().any(|ward| ward.life.id() == task.task_id.value);
        // It was given before the restart, and is given again since it had not said so.
        let tasks: Vec<TaskInfo> = tasks.into_iter().filter(|task| !known(task)).collect();
        let mut places = Vec::new();
        for task in tasks {
            let container = Some(uuid::Uuid::new_v4().to_string());
            let kept = Kept { container, group: Some(group.clone()), ..Kept::default() };
            places.extend(self.take(task, kept, None));
        }
        let all = places.iter().map(|at| &self.wards[at].life);
        self.hands.notes.keep_all(all.map(|life| (life.id(), life.kept())));
        for at in &places {
            if let Some(ward) = self.wards.get_mut(at) {
                self.hands.step(ward, |life, _| life.begin());
            }
        }
        for at in places {
            self.start(at);
        }
    }

    /// A task of before the restart.
    fn recover(&mut self, before: Recovered) {
        let Recovered { task, latest } = before;
        if latest.as_ref().is_some_and(|latest| is_terminal(latest.state)) {
            self.begun = true;
            return;
        }
        let kept = self.hands.notes.of(&task.task_id.value);
        if kept.container.is_none() && latest.is_none() {
            // It was on its way: nothing of it was begun.
            let reason = Some(task_status::Reason::AgentRestarted);
            return self.drop_all(vec![task], reason, "Task launched during agent restart");
        }
        let Some(at) = self.take(task, kept, latest) else { return };
        let Some(ward) = self.wards.get_mut(&at) else { return };
        self.hands.step(ward, |life, _| life.begin());
        let id = ward.container.clone();
        if ward.life.kept().started.is_some() {
            self.hands.launched(ward, None);
            self.wait(at);
        } else {
            // Whether it was launched is not known, but its container is, if so.
            self.hands.begin(at, async |containers| match containers.pid(id.clone()).await {
                Some(_) => Done::Found(true),
                None => match containers.wait(id).await {
                    Some(end) => Done::Ended(End::Known(end)),
                    None => Done::Found(false),
                },
            });
        }
    }

    fn take(&mut self, task: TaskInfo, kept: Kept, latest: Option<TaskStatus>) -> Option<usize> {
        self.begun = true;
        // Of a task that had begun, but of which the notes are lost, nothing is found by this name.
        let name = kept.container.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let id = match ContainerId::nested(self.container.clone(), name) {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(container = %self.container, error = %error, "no container can be in that of an executor");
                return None;
            }
        };
        let life = Life::new(Kind::Member, task, &self.framework, GRACE, kept, latest);
        let life = life.in_container(container_id_of(&id));
        self.last += 1;
        self.wards.insert(self.last, Ward::new(self.last, life, id));
        Some(self.last)
    }

    /// Launches a task's container.
    fn start(&mut self, at: usize) {
        let Some(ward) = self.wards.get(&at) else { return };
        let (id, parent, task) = (ward.container.clone(), self.container.clone(), ward.life.task().clone());
        self.hands
            .begin(at, async move |containers| Done::Launched(launch(&*containers, id, parent, &task).await));
    }

    /// Waits for the end of a task's container.
    fn wait(&mut self, at: usize) {
        let Some(ward) = self.wards.get(&at) else { return };
        let id = ward.container.clone();
        self.hands.begin(at, async |containers| Done::Ended(containers.wait(id).await.into()));
    }

    fn done(&mut self, at: usize, done: Done) {
        let Some(ward) = self.wards.get_mut(&at) else { return };
        match done {
            Done::Found(false) if ward.life.is_killing() => self.ended(at, &End::Unknown),
            Done::Found(false) => self.start(at),
            Done::Found(true) | Done::Launched(Ok(())) => {
                self.hands.launched(ward, None);
                self.wait(at);
            }
            Done::Launched(Err(why)) => self.ended(at, &End::NotLaunched(why)),
            Done::Ended(end) => self.ended(at, &end),
            done => self.hands.done(ward, done),
        }
    }

    /// A task is over: what that means for the rest of its group is written down before it is told.
    fn ended(&mut self, at: usize, end: &End) {
        let Some(ward) = self.wards.get_mut(&at) else { return };
        let Some(report) = ward.life.ended(end) else { return };
        let failed = [TaskState::TaskFailed as i32, TaskState::TaskKilled as i32];
        let bad = matches!(&report, Act::Report(status) if failed.contains(&status.state));
        let group = ward.life.kept().group.clone();
        let now = self.hands.clock.now();
        let mut all = vec![(at, vec![report])];
        if bad && group.is_some() && !self.shutting_down && !self.has_ended {
            let others = self.wards.iter_mut().filter(|(_, other)| other.life.kept().group == group);
            all.extend(others.map(|(at, other)| (*at, other.life.kill(now, Some(GRACE), Why::Group))));
        }
        let lives = all.iter().map(|(at, _)| &self.wards[at].life);
        self.hands.notes.keep_all(lives.map(|life| (life.id(), life.kept())));
        for (at, acts) in all {
            if let Some(ward) = self.wards.get_mut(&at) {
                self.hands.act(ward, acts);
            }
        }
    }

    /// Tasks that are not begun.
    fn drop_all(&mut self, tasks: Vec<TaskInfo>, reason: Option<task_status::Reason>, why: &str) {
        let aware = framework_info::capability::Type::PartitionAware as i32;
        let aware = self.framework.capabilities.iter().any(|capability| capability.r#type == Some(aware));
        let state = if aware { TaskState::TaskDropped } else { TaskState::TaskLost };
        self.begun = true;
        for task in tasks {
            self.hands.reports.send(TaskStatus {
                task_id: task.task_id,
                state: state as i32,
                reason: reason.map(|reason| reason as i32),
                message: Some(why.to_owned()),
                ..TaskStatus::default()
            });
        }
    }
}

async fn launch(
    containers: &dyn Containers,
    id: ContainerId,
    parent: ContainerId,
    task: &TaskInfo,
) -> Result<(), String> {
    let network = containers.status(parent.clone()).await;
    let mut addresses = network.network_infos.iter().flat_map(|network| &network.ip_addresses);
    let address = addresses.find_map(|address| address.ip_address.as_deref());
    let config = prepare::container(task, address)?;
    containers.launch(id.clone(), config, BTreeMap::new()).await?;
    if let (Some(outer), Some(inner)) = (containers.sandbox(&parent), containers.sandbox(&id)) {
        let task = task.task_id.value.clone();
        links::link(outer, inner, task).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
