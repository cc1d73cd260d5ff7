// SPDX-License-Identifier: Apache-2.0
//! The executor of one command: its container is the task.

use std::time::Duration;

use berth_model::ContainerId;
use berth_proto::executor::{Event, event};
use berth_proto::v1::{self, TaskInfo, TaskState, TaskStatus};
use berth_tasks::built_in::{BuiltIn, Start, Work};

use crate::clock::{Clock, duration};
use crate::kept::{Notes, Why};
use crate::life::{End, GRACE, Kind, Life};
use crate::report::{PATIENCE, Reporter};
use crate::ward::{Done, Hands, Ward};

/// What the end of an executor needs of its own, of the grace that the agent gives it.
const RESERVED: Duration = Duration::from_secs(2);

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

struct Executor {
    framework: v1::FrameworkInfo,
    shutdown_grace: Duration,
    container: ContainerId,
    hands: Hands,
    /// The task, once it was given.
    ward: Option<Ward>,
    /// How the container ended. A short command ends before its task is given.
    end: Option<End>,
    /// It was to end before it had a task.
    aborted: bool,
    /// An engine is asked what it says of the container.
    describing: bool,
}

async fn run(clock: Clock, start: Start) {
    let Start { executor, framework, container, ended, shutdown_grace, mut events, calls, .. } = start;
    let framework_id = framework.id.clone().unwrap_or_default();
    let reports = Reporter::new(calls, executor.executor_id, framework_id);
    let hands = Hands::new(clock, start.containers, Notes::open(&start.records), reports);
    let mut it = Executor {
        shutdown_grace,
        container,
        hands,
        framework,
        ward: None,
        end: None,
        aborted: false,
        describing: false,
    };
    if let Some(before) = start.recovered.into_iter().next() {
        it.take(before.task, before.latest);
    }
    let mut ends = ended.wait();
    // Whatever remains to be said after the end has its time too.
    let mut last_moment = None;
    while !it.is_over() {
        if it.end.is_some() {
            last_moment.get_or_insert(clock.now() + PATIENCE);
        }
        let deadline = last_moment.or_else(|| it.ward.as_ref()?.life.deadline());
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => it.hear(*event),
                None => return,
            },
            end = &mut ends, if it.end.is_none() => it.ended(end.into()),
            (_, done) = it.hands.next() => it.done(done),
            () = clock.reach(deadline) => {
                if last_moment.is_some() {
                    tracing::warn!(container = %it.container, "the executor of a command whose container has ended was not told of a task, or its last report was not stored");
                    return;
                }
                if let Some(ward) = &mut it.ward {
                    it.hands.step(ward, Life::time);
                }
            }
        }
    }
}

impl Executor {
    /// Whether nothing remains to be done and said.
    fn is_over(&self) -> bool {
        match &self.ward {
            Some(ward) => ward.life.is_over() && self.hands.reports.is_done(),
            None => self.aborted && self.end.is_some(),
        }
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
                self.kill(grace.as_ref().map(duration));
            }
            Some(event::Type::Acknowledged) => {
                if let Some(acknowledged) = event.acknowledged {
                    self.hands.reports.acknowledged(&acknowledged.uuid);
                }
            }
            Some(event::Type::Shutdown | event::Type::LaunchGroup) => {
                self.kill(Some(self.shutdown_grace.saturating_sub(RESERVED)));
            }
            // Messages of the framework's are for executors of its own.
            _ => {}
        }
    }

    /// A task is given.
    fn launch(&mut self, task: TaskInfo) {
        match &self.ward {
            None => self.take(task, None),
            // It was given before the restart, and is given again since it had not said so.
            Some(ward) if ward.life.task().task_id == task.task_id => {}
            Some(_) => {
                let kind = match Kind::of(&task) {
                    Kind::Docker => "docker",
                    _ => "command",
                };
                let message = format!("Attempted to run multiple tasks using a \"{kind}\" executor");
                self.hands.reports.send(TaskStatus {
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
        let kept = self.hands.notes.of(&task.task_id.value);
        let grace = if kind == Kind::Docker { self.shutdown_grace } else { GRACE };
        // What it said when it began to run need not be asked for again.
        let begins = latest.as_ref().is_none_or(|latest| latest.state == TaskState::TaskStarting as i32);
        let life = Life::new(kind, task, &self.framework, grace, kept, latest);
        let ward = self.ward.insert(Ward::new(0, life, self.container.clone()));
        self.hands.step(ward, |life, _| life.begin());
        if kind == Kind::Docker && begins {
            self.describing = true;
            let id = self.container.clone();
            self.hands.begin(0, async |containers| Done::Described(containers.describe(id).await));
        } else {
            self.hands.launched(ward, None);
        }
        if self.aborted {
            self.hands.step(ward, |life, now| life.kill(now, Some(Duration::ZERO), Why::Asked));
        }
        if let Some(end) = self.end.take() {
            self.ended(end);
        }
    }

    /// The task is to end. Without one there is a container that nobody asked for.
    fn kill(&mut self, grace: Option<Duration>) {
        match &mut self.ward {
            Some(ward) => self.hands.step(ward, |life, now| life.kill(now, grace, Why::Asked)),
            None => {
                self.aborted = true;
                let id = self.container.clone();
                self.hands.begin(0, async |containers| {
                    containers.destroy(id).await;
                    Done::Forced
                });
            }
        }
    }

    fn ended(&mut self, end: End) {
        // One that ends at once has run all the same, and that is told first.
        if let (false, Some(ward)) = (self.describing, &mut self.ward) {
            self.hands.ended(ward, &end);
        }
        self.end = Some(end);
    }

    fn done(&mut self, done: Done) {
        let described = matches!(done, Done::Described(_));
        if let Some(ward) = &mut self.ward {
            self.hands.done(ward, done);
        }
        if described {
            self.describing = false;
            if let Some(end) = self.end.take() {
                self.ended(end);
            }
        }
    }
}

#[cfg(test)]
mod tests;
