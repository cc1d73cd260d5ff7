// SPDX-License-Identifier: Apache-2.0
//! The executor of one command: its container is the task.

use std::sync::Arc;
use std::time::Duration;

use berth_model::ContainerId;
use berth_proto::executor::{Event, event};
use berth_proto::v1::{self, TaskInfo, TaskState, TaskStatus};
use berth_tasks::built_in::{BuiltIn, Containers, Description, Start, Work};
use tokio::task::JoinSet;

use crate::clock::{Clock, duration};
use crate::kept::{Notes, Why};
use crate::life::{Act, End, GRACE, Kind, Life};
use crate::report::{PATIENCE, Reporter};

/// What the end of an executor needs of its own, of the grace that the agent gives it.
const RESERVED: Duration = Duration::from_secs(2);
const SIGTERM: i32 = 15;

/// Executors of commands.
#[derive(Debug, Clone, Copy)]
pub struct CommandExecutor {
    clock: Clock,
}

impl CommandExecutor {
    /// Within a runtime of tokio's.
    pub fn new() -> CommandExecutor {
        CommandExecutor { clock: Clock::new() }
    }
}

impl Default for CommandExecutor {
    fn default() -> CommandExecutor {
        CommandExecutor::new()
    }
}

impl BuiltIn for CommandExecutor {
    fn start(&self, start: Start) -> Work {
        Box::pin(run(self.clock, start))
    }
}

/// What was under way, and is done.
enum Done {
    Described(Option<Description>),
    Asked,
    Forced,
}

struct Executor {
    clock: Clock,
    framework: v1::FrameworkInfo,
    shutdown_grace: Duration,
    container: ContainerId,
    containers: Arc<dyn Containers>,
    notes: Notes,
    reports: Reporter,
    /// The task, once it was given.
    life: Option<Life>,
    /// How the container ended. A short command ends before its task is given.
    end: Option<End>,
    /// It was to end before it had a task.
    aborted: bool,
    doing: JoinSet<Done>,
    forcing: bool,
}

async fn run(clock: Clock, start: Start) {
    let Start { executor, framework, container, ended, shutdown_grace, mut events, calls, .. } = start;
    let framework_id = framework.id.clone().unwrap_or_default();
    let mut it = Executor {
        clock,
        shutdown_grace,
        container,
        containers: start.containers,
        notes: Notes::open(&start.records),
        reports: Reporter::new(calls, executor.executor_id, framework_id),
        framework,
        life: None,
        end: None,
        aborted: false,
        doing: JoinSet::new(),
        forcing: false,
    };
    if let Some(before) = start.recovered.into_iter().next() {
        it.take(before.task, before.latest);
    }
    let mut ends = ended.wait();
    // Whatever remains to be said after the end has its time too.
    let mut last_moment = None;
    while !it.is_over() {
        if it.end.is_some() {
            last_moment.get_or_insert(it.clock.now() + PATIENCE);
        }
        let deadline = last_moment.or_else(|| it.life.as_ref()?.deadline());
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => it.hear(event),
                None => return,
            },
            end = &mut ends, if it.end.is_none() => it.ended(end.into()),
            Some(Ok(done)) = it.doing.join_next() => it.done(done),
            () = clock.reach(deadline) => {
                if last_moment.is_some() {
                    tracing::warn!(container = %it.container, "the executor of a command whose container has ended was not told of a task, or its last report was not stored");
                    return;
                }
                it.step(Life::time);
            }
        }
    }
}

impl Executor {
    /// Whether nothing remains to be done and said.
    fn is_over(&self) -> bool {
        match &self.life {
            Some(life) => life.is_over() && self.reports.is_done(),
            None => self.aborted && self.end.is_some(),
        }
    }

    fn ended(&mut self, end: End) {
        let told = self.life.as_mut().and_then(|life| life.ended(&end));
        self.end = Some(end);
        self.act(told.into_iter().collect());
    }

    fn hear(&mut self, event: Event) {
        match event.r#type.and_then(|number| event::Type::try_from(number).ok()) {
            Some(event::Type::Launch) => {
                if let Some(launch) = event.launch {
                    self.launch(launch.task);
                }
            }
            Some(event::Type::Kill) => {
                let policy = event.kill.and_then(|kill| kill.kill_policy);
                let grace = policy.and_then(|policy| policy.grace_period);
                self.end(grace.as_ref().map(duration));
            }
            Some(event::Type::Acknowledged) => {
                if let Some(acknowledged) = event.acknowledged {
                    self.reports.acknowledged(&acknowledged.uuid);
                }
            }
            Some(event::Type::Shutdown | event::Type::LaunchGroup) => {
                self.end(Some(self.shutdown_grace.saturating_sub(RESERVED)));
            }
            // Messages of the framework's are for executors of its own.
            _ => {}
        }
    }

    /// A task is given.
    fn launch(&mut self, task: TaskInfo) {
        match &self.life {
            None => self.take(task, None),
            // It was given before the restart, and is given again since it had not said so.
            Some(life) if life.task().task_id == task.task_id => {}
            Some(_) => {
                let kind = match Kind::of(&task) {
                    Kind::Docker => "docker",
                    _ => "command",
                };
                let message = format!("Attempted to run multiple tasks using a \"{kind}\" executor");
                self.reports.send(TaskStatus {
                    task_id: task.task_id,
                    state: TaskState::TaskFailed as i32,
                    message: Some(message),
                    ..TaskStatus::default()
                });
            }
        }
    }

    fn take(&mut self, task: TaskInfo, latest: Option<TaskStatus>) {
        let kind = Kind::of(&task);
        let kept = self.notes.of(&task.task_id.value);
        let grace = if kind == Kind::Docker { self.shutdown_grace } else { GRACE };
        self.life = Some(Life::new(kind, task, &self.framework, grace, kept, latest));
        self.step(|life, _| life.begin());
        if kind == Kind::Docker {
            let (containers, id) = (Arc::clone(&self.containers), self.container.clone());
            self.doing.spawn(async move { Done::Described(containers.describe(id).await) });
        } else {
            self.step(|life, now| life.launched(now, None));
        }
        if self.aborted {
            self.step(|life, now| life.kill(now, Some(Duration::ZERO), Why::Asked));
        }
        if let Some(end) = self.end.take() {
            self.ended(end);
        }
    }

    /// The task is to end. Without one there is a container that nobody asked for.
    fn end(&mut self, grace: Option<Duration>) {
        if self.life.is_some() {
            self.step(|life, now| life.kill(now, grace, Why::Asked));
        } else {
            self.aborted = true;
            self.force();
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Described(description) => self.step(|life, now| life.launched(now, description)),
            Done::Asked => self.step(|life, _| {
                life.told();
                Vec::new()
            }),
            Done::Forced => self.forcing = false,
        }
    }

    /// One step of the task's life: written down first, then done.
    fn step(&mut self, step: impl FnOnce(&mut Life, Duration) -> Vec<Act>) {
        let Some(life) = &mut self.life else { return };
        let acts = step(life, self.clock.now());
        self.notes.keep(&life.task().task_id.value, life.kept());
        self.act(acts);
    }

    fn act(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Report(status) => self.reports.send(*status),
                Act::Ask => {
                    let (containers, id) = (Arc::clone(&self.containers), self.container.clone());
                    self.doing.spawn(async move {
                        containers.kill(id, SIGTERM).await;
                        Done::Asked
                    });
                }
                Act::Force => self.force(),
            }
        }
    }

    fn force(&mut self) {
        if std::mem::replace(&mut self.forcing, true) {
            return;
        }
        let (containers, id) = (Arc::clone(&self.containers), self.container.clone());
        self.doing.spawn(async move {
            containers.destroy(id).await;
            Done::Forced
        });
    }
}

#[cfg(test)]
mod tests;
