// SPDX-License-Identifier: Apache-2.0
//! The life of one task, without doing anything: what comes goes in, what is to be done comes out.
//!
//! ```text
//!          launched               kill                 ended
//! GIVEN ─────────────> RUNS ──────────────> (killing) ───────> OVER
//!   │ STARTING           │ RUNNING            KILLING          FINISHED, FAILED, KILLED
//!   │                    │                    │  ask, and by force when the grace is over,
//!   │                    │                    │  again each second
//!   └─── ended, kill ────┴──────── ended ─────┴──────────────> OVER
//! ```
//!
//! What it knows that must survive the agent is in [`Kept`], which its owner writes down after each step, before it does
//! what the step says.

use std::time::Duration;

use berth_model::{ContainerTermination, WaitStatus};
use berth_proto::convert::termination_of;
use berth_proto::v1::task_status::Reason;
use berth_proto::v1::{
    self, CheckStatusInfo, TaskInfo, TaskState, TaskStatus, check_info, check_status_info, container_info,
    framework_info,
};
use berth_tasks::built_in::Description;

use crate::clock::duration;
use crate::kept::{Kept, Killing, Why};

/// The grace of a kill when nobody gave another.
pub(crate) const GRACE: Duration = Duration::from_secs(3);
/// How long after force did not end it, it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What kind of container a task has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The executor's own, by its command.
    Command,
    /// The executor's own, of a Docker engine.
    Docker,
    /// One in the executor's.
    Member,
}

impl Kind {
    /// The kind of a task that has the executor's container.
    pub(crate) fn of(task: &TaskInfo) -> Kind {
        match &task.container {
            Some(container) if container.r#type == container_info::Type::Docker as i32 => Kind::Docker,
            _ => Kind::Command,
        }
    }

    /// What ended, in the words of that kind's executor.
    fn subject(self) -> &'static str {
        match self {
            Kind::Command | Kind::Member => "Command",
            Kind::Docker => "Container",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    /// Tell the agent.
    Report(Box<TaskStatus>),
    /// Ask the task to end: SIGTERM to all its processes.
    Ask,
    /// End it.
    Force,
}

/// How a task's container ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// Nobody knows it.
    Unknown,
    /// It could not be started.
    NotLaunched(String),
    /// As this says.
    Known(ContainerTermination),
}

impl From<Option<ContainerTermination>> for End {
    fn from(termination: Option<ContainerTermination>) -> End {
        termination.map_or(End::Unknown, End::Known)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Given,
    Runs,
    Over,
}

/// A task.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    kind: Kind,
    task: TaskInfo,
    /// The container that its reports name.
    container: Option<v1::ContainerId>,
    /// Whether the framework knows TASK_KILLING.
    tells_killing: bool,
    /// The grace of a kill when neither the kill nor the task says another.
    grace: Duration,
    phase: Phase,
    kept: Kept,
    /// The last report.
    last: Option<TaskStatus>,
    /// When force was used last.
    forced: Option<Duration>,
}

impl Life {
    /// A task that was given: by a launch, or, with its notes and its latest report, before the agent came back.
    pub(crate) fn new(
        kind: Kind,
        task: TaskInfo,
        framework: &v1::FrameworkInfo,
        grace: Duration,
        kept: Kept,
        latest: Option<TaskStatus>,
    ) -> Life {
        let killing_state = framework_info::capability::Type::TaskKillingState as i32;
        let tells_killing = framework.capabilities.iter().any(|c| c.r#type == Some(killing_state));
        let over = latest.as_ref().is_some_and(|status| is_terminal(status.state));
        Life {
            kind,
            task,
            container: None,
            tells_killing,
            grace,
            phase: if over { Phase::Over } else { Phase::Given },
            kept,
            last: latest,
            forced: None,
        }
    }

    /// Reports name this container.
    pub(crate) fn in_container(mut self, id: v1::ContainerId) -> Life {
        self.container = Some(id);
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn task(&self) -> &TaskInfo {
        &self.task
    }

    pub(crate) fn id(&self) -> &str {
        &self.task.task_id.value
    }

    /// What is to be written down.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub(crate) fn runs(&self) -> bool {
        self.phase == Phase::Runs
    }

    pub(crate) fn is_killing(&self) -> bool {
        self.kept.killing.is_some()
    }

    /// Whether it is looked at whether it does well: no more once it is to end.
    pub(crate) fn is_checked(&self) -> bool {
        self.runs() && !self.is_killing()
    }

    /// The last report.
    pub(crate) fn last(&self) -> Option<&TaskStatus> {
        self.last.as_ref()
    }

    /// It was taken.
    pub(crate) fn begin(&mut self) -> Vec<Act> {
        match self.last {
            None => vec![self.report(self.status(TaskState::TaskStarting))],
            Some(_) => Vec::new(),
        }
    }

    /// It runs.
    pub(crate) fn launched(&mut self, now: Duration, description: Option<Description>) -> Vec<Act> {
        if self.phase != Phase::Given {
            return Vec::new();
        }
        self.phase = Phase::Runs;
        self.kept.started.get_or_insert(now);
        let mut acts = Vec::new();
        if self.last_state() == Some(TaskState::TaskStarting) {
            let mut status = self.status(TaskState::TaskRunning);
            if let Some(Description { data, networks }) = description {
                status.data = data;
                status.container_status.get_or_insert_default().network_infos = networks;
            }
            acts.push(self.report(status));
        }
        if let Some(killing) = self.kept.killing.clone() {
            acts.extend(self.tell_killing(killing.why));
            if !killing.told {
                acts.push(Act::Ask);
            }
        }
        acts
    }

    /// Its end is wanted. A later kill may only shorten the grace, and of a member of a group it is none at all.
    pub(crate) fn kill(&mut self, now: Duration, grace: Option<Duration>, why: Why) -> Vec<Act> {
        if self.is_over() {
            return Vec::new();
        }
        let own = self.task.kill_policy.as_ref().and_then(|policy| policy.grace_period.as_ref());
        let grace = grace.or(own.map(duration)).unwrap_or(self.grace);
        if let Some(killing) = &mut self.kept.killing {
            if self.kind != Kind::Member && why != Why::Completion {
                killing.grace = killing.grace.min(grace);
            }
            return Vec::new();
        }
        self.kept.killing = Some(Killing { since: now, grace, why, told: false });
        let mut acts: Vec<Act> = self.tell_killing(why).into_iter().collect();
        if self.runs() {
            acts.push(Act::Ask);
        } else if self.kind == Kind::Member {
            // It is being launched: nothing of it runs that could be asked.
            self.forced = Some(now);
            acts.push(Act::Force);
        }
        acts
    }

    /// It was asked to end.
    pub(crate) fn told(&mut self) {
        if let Some(killing) = &mut self.kept.killing {
            killing.told = true;
        }
    }

    /// When [`Life::time`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        if self.is_over() {
            return None;
        }
        match (&self.kept.killing, self.forced) {
            (Some(_), Some(forced)) => Some(forced + AGAIN),
            (Some(killing), None) if self.kind == Kind::Member && !self.runs() => Some(killing.since),
            (Some(killing), None) => Some(killing.since.saturating_add(killing.grace)),
            (None, _) => {
                let longest = self.task.max_completion_time.as_ref().map(duration)?;
                Some(self.kept.started?.saturating_add(longest))
            }
        }
    }

    /// Time has passed.
    pub(crate) fn time(&mut self, now: Duration) -> Vec<Act> {
        let mut acts = Vec::new();
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            if self.is_killing() {
                self.forced = Some(now);
                acts.push(Act::Force);
            } else {
                acts.extend(self.kill(now, Some(Duration::ZERO), Why::Completion));
            }
        }
        acts
    }

    /// Its check says something else than before.
    pub(crate) fn checked(&mut self, result: CheckStatusInfo) -> Vec<Act> {
        let Some(mut status) = self.repeat(Reason::TaskCheckStatusUpdated) else { return Vec::new() };
        status.check_status = Some(result);
        vec![self.report(status)]
    }

    /// Its health is another, or bad again.
    pub(crate) fn health(&mut self, now: Duration, healthy: bool, kill: bool) -> Vec<Act> {
        let Some(mut status) = self.repeat(Reason::TaskHealthCheckStatusUpdated) else { return Vec::new() };
        status.healthy = Some(healthy);
        let mut acts = vec![self.report(status)];
        if kill {
            acts.extend(self.kill(now, None, Why::Health));
        }
        acts
    }

    /// Writes down how its health has been.
    pub(crate) fn keep_health(&mut self, was_healthy: bool, failures: u32) {
        (self.kept.was_healthy, self.kept.failures) = (was_healthy, failures);
    }

    /// Its container has ended. Nothing is reported of an end of the executor's own container that the agent has the
    /// words for: one that met a limit, and one that nobody knows.
    pub(crate) fn ended(&mut self, end: &End) -> Option<Act> {
        if self.is_over() {
            return None;
        }
        self.phase = Phase::Over;
        let mut status = match self.kind {
            Kind::Command | Kind::Docker => self.end_of_own(end)?,
            Kind::Member => self.end_of_member(end),
        };
        if self.why() == Some(Why::Health) {
            status.healthy = Some(false);
        }
        Some(self.report(status))
    }

    fn end_of_own(&self, end: &End) -> Option<TaskStatus> {
        let termination = match end {
            End::Known(termination) if termination.state.is_none() && termination.reason.is_none() => {
                termination
            }
            _ => return None,
        };
        let Some(wait) = self.wait_status(termination) else {
            let mut status = self.status(TaskState::TaskFailed);
            let text = match self.kind {
                Kind::Docker => "Failed to get exit status of container",
                _ => "Failed to get exit status for Command",
            };
            status.message = Some(match &termination.message {
                Some(why) => format!("{text}: {why}"),
                None => text.to_owned(),
            });
            return Some(status);
        };
        let (state, reason) = self.state_of(wait.success());
        let mut status = self.status(state);
        status.reason = reason.map(|reason| reason as i32);
        status.message = Some(format!("{} {wait}", self.kind.subject()));
        Some(status)
    }

    fn end_of_member(&self, end: &End) -> TaskStatus {
        let unknown = if self.is_killing() { TaskState::TaskKilled } else { TaskState::TaskFailed };
        let termination = match end {
            End::Known(termination) => termination,
            End::NotLaunched(why) => {
                return TaskStatus { message: Some(why.clone()), ..self.status(unknown) };
            }
            End::Unknown => {
                let message = "Unable to retrieve command's termination information".to_owned();
                return TaskStatus { message: Some(message), ..self.status(unknown) };
            }
        };
        let (state, reason, mut message) = match self.wait_status(termination) {
            Some(wait) => {
                let (state, reason) = self.state_of(wait.success());
                (state, reason, format!("Command {wait}"))
            }
            None => (TaskState::TaskFailed, None, "Command terminated with unknown status".to_owned()),
        };
        // The agent knows better: a limit that was met.
        let told = termination_of(termination);
        if let Some(more) = told.message {
            message = format!("{message}: {more}");
        }
        let mut status = self.status(state);
        status.state = told.state.unwrap_or(status.state);
        status.reason = told.reason.or(reason.map(|reason| reason as i32));
        status.message = Some(message);
        status.limitation = told.limitation;
        status
    }

    /// How the program ended. It is not the first process of its container: that one, or an engine, says 128 and the
    /// number of what a signal ended. Which may be its own exit as well, and is not when that signal was sent.
    fn wait_status(&self, termination: &ContainerTermination) -> Option<WaitStatus> {
        let status = termination.wait_status()?;
        Some(match (self.is_killing(), status.exited()) {
            (true, Some(143)) => WaitStatus::of_signal(15),
            (true, Some(137)) => WaitStatus::of_signal(9),
            _ => status,
        })
    }

    fn state_of(&self, success: bool) -> (TaskState, Option<Reason>) {
        match self.why() {
            Some(Why::Completion) => (TaskState::TaskFailed, Some(Reason::MaxCompletionTimeReached)),
            // Of a container that was stopped nobody asks how it took that: the words of Mesos's docker executor.
            Some(_) if self.kind == Kind::Docker => (TaskState::TaskKilled, None),
            _ if success => (TaskState::TaskFinished, None),
            Some(_) => (TaskState::TaskKilled, None),
            None => (TaskState::TaskFailed, None),
        }
    }

    fn why(&self) -> Option<Why> {
        self.kept.killing.as_ref().map(|killing| killing.why)
    }

    fn last_state(&self) -> Option<TaskState> {
        self.last.as_ref().and_then(|status| TaskState::try_from(status.state).ok())
    }

    /// TASK_KILLING, if the framework knows it and was not told.
    fn tell_killing(&mut self, why: Why) -> Option<Act> {
        let tell =
            self.tells_killing && why != Why::Completion && self.last_state() != Some(TaskState::TaskKilling);
        tell.then(|| self.report(self.status(TaskState::TaskKilling)))
    }

    /// The last report once more, with another reason; none when the task is to end.
    fn repeat(&self, reason: Reason) -> Option<TaskStatus> {
        if !self.is_checked() {
            return None;
        }
        Some(TaskStatus { reason: Some(reason as i32), ..self.last.clone()? })
    }

    fn report(&mut self, status: TaskStatus) -> Act {
        self.last = Some(status.clone());
        Act::Report(Box::new(status))
    }

    fn status(&self, state: TaskState) -> TaskStatus {
        TaskStatus {
            task_id: self.task.task_id.clone(),
            state: state as i32,
            check_status: self.task.check.as_ref().map(empty_result),
            container_status: self
                .container
                .clone()
                .map(|id| v1::ContainerStatus { container_id: Some(id), ..v1::ContainerStatus::default() }),
            ..TaskStatus::default()
        }
    }
}

/// The result of a check that has none yet: its type, with nothing in it.
pub(crate) fn empty_result(check: &v1::CheckInfo) -> CheckStatusInfo {
    let mut result = CheckStatusInfo { r#type: check.r#type, ..CheckStatusInfo::default() };
    match check_info::Type::try_from(check.r#type.unwrap_or_default()) {
        Ok(check_info::Type::Command) => result.command = Some(check_status_info::Command::default()),
        Ok(check_info::Type::Http) => result.http = Some(check_status_info::Http::default()),
        Ok(check_info::Type::Tcp) => result.tcp = Some(check_status_info::Tcp::default()),
        _ => {}
    }
    result
}

/// Whether no other state follows.
pub(crate) fn is_terminal(state: i32) -> bool {
    use TaskState as S;
    matches!(
        S::try_from(state),
        Ok(S::TaskFinished
            | S::TaskFailed
            | S::TaskKilled
            | S::TaskLost
            | S::TaskError
            | S::TaskDropped
            | S::TaskGone
            | S::TaskGoneByOperator)
    )
}
