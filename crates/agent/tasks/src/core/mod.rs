// SPDX-License-Identifier: Apache-2.0
//! What the agent knows of frameworks, executors and tasks, and what follows from what happens.
//!
//! ```text
//! executor:  REGISTERING ──subscribed──> RUNNING ──shutdown──> TERMINATING ──ended──> TERMINATED ──all seen──> gone
//!                 └──────────────────────── ended, or destroyed ───────────────────────┘
//! task:      QUEUED ──delivered──> LAUNCHED ──terminal report──> TERMINATED ──its report seen──> COMPLETED
//! ```
//!
//! Pure: [`Core::handle`] takes one [`Input`] and answers the [`Effect`]s in their order. Whoever carries them out does
//! so one after another, so a record is on the disk before anybody hears of what it says. A test cuts the effects
//! anywhere, and goes on with what the records say.

mod ends;
mod recover;
mod reports;
mod run;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use berth_model::{ContainerId, ContainerTermination};
use berth_proto::executor::{Call, Event, call, event};
use berth_proto::v1;
use tokio::sync::oneshot;

use crate::link::{Run, StatusUpdate};
use crate::made::Cause;
use crate::stream::Stream;

pub use view::{ExecutorView, FrameworkView};

pub(crate) use recover::{Found, FoundExecutor, FoundFramework, FoundTask};

/// One run of an executor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    /// Whose it is.
    pub framework: String,
    /// The executor.
    pub executor: String,
    /// The container of this run.
    pub container: ContainerId,
}

/// What executes the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The agent, for one task with a command.
    Command,
    /// The agent, for groups of tasks.
    Group,
    /// A program of the framework's.
    Custom,
}

impl Kind {
    /// Whether the agent itself speaks for the tasks.
    pub(crate) fn is_built_in(self) -> bool {
        self != Kind::Custom
    }
}

/// Something happened.
#[derive(Debug)]
pub(crate) enum Input {
    Run(Box<Run>),
    Kill {
        framework: String,
        task: String,
        policy: Option<v1::KillPolicy>,
    },
    ShutdownExecutor {
        framework: String,
        executor: String,
    },
    ShutdownFramework {
        framework: String,
    },
    Message {
        framework: String,
        executor: String,
        data: Vec<u8>,
    },
    Acknowledge {
        framework: String,
        task: String,
        uuid: Vec<u8>,
    },
    UpdateFramework(Box<v1::FrameworkInfo>),
    /// A master is there, or gone.
    Connected(bool),
    /// A launch was answered: `false` if no containerizer takes it.
    Launched {
        at: At,
        result: Result<bool, NotLaunched>,
    },
    /// Limits were changed.
    Limited {
        at: At,
        result: Result<(), String>,
    },
    /// The container has ended; none says that nobody knows it.
    Ended {
        at: At,
        termination: Option<ContainerTermination>,
    },
    /// After a restart: whether there is a container.
    Looked {
        at: At,
        exists: bool,
    },
    /// A built-in executor's work is over.
    Over {
        at: At,
    },
    /// An executor of a framework's opened a stream, or registered by a message.
    Subscribed {
        at: At,
        link: u64,
        /// Where messages for it go, if it speaks the older protocol.
        pid: Option<String>,
        subscribe: call::Subscribe,
    },
    /// That stream is gone.
    Unlinked {
        at: At,
        link: u64,
    },
    /// An executor says something; with what its container's status is.
    Called {
        at: At,
        call: Box<Call>,
        status: Option<v1::ContainerStatus>,
    },
    Timer(Timer),
    /// Somebody waits until everything before this is handled.
    Heard(oneshot::Sender<()>),
    /// Everything that was there has been looked at.
    Recovered,
}

/// Why a container was not launched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NotLaunched {
    /// Its place or record could not be made.
    NoPlace(String),
    /// The launch failed.
    Failed(String),
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Timer {
    /// The registration of an executor.
    Registration(At),
    /// The return of an executor.
    Reregistration(At),
    /// The end of an executor that was told to end.
    Shutdown(At),
    /// The acknowledgement of a report.
    Retry { framework: String, task: String, attempt: u64, wait: Duration },
    /// The return of all executors.
    Recovery,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    Write(Write),
    Launch(Box<Launch>),
    /// Requests and limits of a container; answered by `Limited`.
    Limit {
        at: At,
        resources: Vec<v1::Resource>,
        limits: BTreeMap<String, v1::value::Scalar>,
    },
    Destroy(At),
    /// Whether there is a container, and then how it ends.
    Look(At),
    /// A built-in executor begins to speak.
    Start {
        at: At,
        kind: Kind,
        executor: Box<v1::ExecutorInfo>,
        recovered: Vec<crate::built_in::Recovered>,
    },
    /// The stream of an executor of a framework's is the one of this number from here on.
    Link {
        at: At,
        link: u64,
    },
    Unlink(At),
    Tell {
        at: At,
        event: Box<Event>,
    },
    /// A built-in executor hears that its container has ended.
    Settle {
        at: At,
        termination: Option<ContainerTermination>,
    },
    After(Duration, Timer),
    Report(Box<StatusUpdate>),
    Say {
        framework: String,
        executor: String,
        data: Vec<u8>,
    },
    Exited {
        framework: String,
        executor: String,
        status: i32,
    },
}

/// What goes to the disk, before what follows it happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    Framework {
        info: Box<v1::FrameworkInfo>,
        over: bool,
    },
    Executor {
        at: At,
        info: Box<v1::ExecutorInfo>,
        kind: Kind,
    },
    Task {
        at: At,
        info: Box<v1::TaskInfo>,
        group: Option<u64>,
    },
    /// The executor is about to get it.
    Delivered {
        at: At,
        task: String,
    },
    /// The executor has subscribed, or registered as the process of this id.
    Registered {
        at: At,
        pid: Option<String>,
    },
    Update {
        place: Place,
        task: String,
        status: Box<v1::TaskStatus>,
    },
    Ack {
        place: Place,
        task: String,
        uuid: Vec<u8>,
    },
    /// A refused task, before its report.
    Refused {
        framework: String,
        executor: Option<String>,
        info: Box<v1::TaskInfo>,
    },
    /// It is of no interest any more.
    ForgetRefused {
        framework: String,
        task: String,
    },
    /// The executor is over.
    Over(At),
    ForgetExecutor(At),
    ForgetFramework(String),
}

/// Where the reports of a task are kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    Run(At),
    Refused(String),
}

/// A container to launch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Launch {
    pub(crate) at: At,
    pub(crate) kind: Kind,
    pub(crate) framework: v1::FrameworkInfo,
    pub(crate) executor: v1::ExecutorInfo,
    /// The task, for [`Kind::Command`].
    pub(crate) task: Option<v1::TaskInfo>,
    pub(crate) resources: Vec<v1::Resource>,
    pub(crate) limits: BTreeMap<String, v1::value::Scalar>,
}

/// What an executor is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is being started.
    Registering,
    /// It takes tasks.
    Running,
    /// It is being ended.
    Terminating,
    /// It has ended.
    Terminated,
}

/// What a task is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Queued,
    Launched,
    Terminated,
    Completed,
}

#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Boxed: a map has room for eleven from the first on, and most executors have one task.
    pub(crate) info: Box<v1::TaskInfo>,
    pub(crate) group: Option<u64>,
    pub(crate) stage: Stage,
    pub(crate) state: v1::TaskState,
    /// One for each run of equal states.
    pub(crate) statuses: Vec<v1::TaskStatus>,
    pub(crate) stream: Stream,
}

impl Task {
    fn new(info: v1::TaskInfo, group: Option<u64>) -> Task {
        let state = v1::TaskState::TaskStaging;
        let info = Box::new(info);
        Task { info, group, stage: Stage::Queued, state, statuses: Vec::new(), stream: Stream::default() }
    }

    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Queued | Stage::Launched)
    }

    /// What the task is in follows its reports.
    fn enter(&mut self, status: &v1::TaskStatus) {
        self.state = status.state();
        match self.statuses.last_mut() {
            Some(last) if last.state == status.state => *last = status.clone(),
            _ => self.statuses.push(status.clone()),
        }
    }
}

/// What an executor is asked to have.
type Asked = (Vec<v1::Resource>, BTreeMap<String, v1::value::Scalar>);

#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) at: At,
    pub(crate) info: v1::ExecutorInfo,
    pub(crate) kind: Kind,
    pub(crate) phase: Phase,
    pub(crate) tasks: BTreeMap<String, Task>,
    /// Tasks and groups that wait to be delivered, in their order.
    queue: VecDeque<Vec<String>>,
    groups: u64,
    /// Kills of what it was given, with their policies, until it ends: they are told again to who subscribes again.
    kills: BTreeMap<String, Option<v1::KillPolicy>>,
    /// Its stream, and the number of it.
    pub(crate) link: Option<u64>,
    /// Where messages for it go, if it speaks the older protocol.
    pub(crate) pid: Option<String>,
    /// It has subscribed at least once.
    pub(crate) registered: bool,
    /// A built-in one speaks.
    speaking: bool,
    /// The launch was answered.
    launched: bool,
    applied: Option<Asked>,
    limiting: Option<Asked>,
    /// Last reports that wait for the container to have less.
    settling: Vec<v1::TaskStatus>,
    cause: Option<Cause>,
    no_place: Option<String>,
    ended: Option<Option<ContainerTermination>>,
}

impl Executor {
    fn new(at: At, info: v1::ExecutorInfo, kind: Kind) -> Executor {
        Executor {
            at,
            info,
            kind,
            phase: Phase::Registering,
            tasks: BTreeMap::new(),
            queue: VecDeque::new(),
            groups: 0,
            kills: BTreeMap::new(),
            link: None,
            pid: None,
            registered: false,
            speaking: false,
            launched: false,
            applied: None,
            limiting: None,
            settling: Vec::new(),
            cause: None,
            no_place: None,
            ended: None,
        }
    }

    fn can_hear(&self) -> bool {
        self.speaking || self.link.is_some()
    }
}

/// A task that no executor had, for its report.
#[derive(Debug)]
pub(crate) struct Loose {
    pub(crate) executor: Option<String>,
    pub(crate) task: Task,
}

#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) info: v1::FrameworkInfo,
    pub(crate) over: bool,
    pub(crate) executors: BTreeMap<String, Executor>,
    pub(crate) completed: VecDeque<Executor>,
    pub(crate) loose: BTreeMap<String, Loose>,
}

impl Framework {
    fn new(info: v1::FrameworkInfo) -> Framework {
        let (executors, completed, loose) = Default::default();
        Framework { info, over: false, executors, completed, loose }
    }

    fn is_aware(&self) -> bool {
        crate::made::is_aware(&self.info)
    }
}

/// What the operator has set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--executor_registration_timeout`.
    pub registration_timeout: Duration,
    /// `--executor_reregistration_timeout`.
    pub reregistration_timeout: Duration,
    /// `--executor_shutdown_grace_period`.
    pub shutdown_grace: Duration,
    /// `--max_completed_executors_per_framework`.
    pub completed_executors: usize,
    /// Whether limits of processors are enforced.
    pub limits_cpus: bool,
    /// Whether limits of memory are enforced.
    pub limits_mem: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            registration_timeout: Duration::from_secs(60),
            reregistration_timeout: Duration::from_secs(2),
            shutdown_grace: Duration::from_secs(5),
            completed_executors: 150,
            limits_cpus: true,
            limits_mem: true,
        }
    }
}

/// So many frameworks that are over are remembered.
const COMPLETED_FRAMEWORKS: usize = 50;

/// Time and chance.
pub(crate) trait World: Send {
    /// 16 bytes of a random uuid.
    fn uuid(&mut self) -> [u8; 16];
    /// Seconds since 1970.
    fn now(&self) -> f64;
}

/// Frameworks, executors and tasks of one agent.
pub(crate) struct Core {
    pub(crate) agent: v1::AgentInfo,
    settings: Settings,
    world: Box<dyn World>,
    pub(crate) frameworks: BTreeMap<String, Framework>,
    pub(crate) completed: VecDeque<Framework>,
    connected: bool,
    /// Executors that were there before the agent may still come back.
    pub(crate) recovering: bool,
    /// What only grows, by the names of Mesos's metrics.
    counts: BTreeMap<&'static str, u64>,
    effects: Vec<Effect>,
}

impl Core {
    pub(crate) fn new(agent: v1::AgentInfo, settings: Settings, world: Box<dyn World>) -> Core {
        let (frameworks, completed, counts, effects) = Default::default();
        let (connected, recovering) = (false, false);
        Core { agent, settings, world, frameworks, completed, connected, recovering, counts, effects }
    }

    /// What follows from what happened.
    pub(crate) fn handle(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Run(run) => self.run(*run),
            Input::Kill { framework, task, policy } => self.kill(&framework, &task, policy),
            Input::ShutdownExecutor { framework, executor } => {
                if let Some(at) = self.executor(&framework, &executor).map(|executor| executor.at.clone()) {
                    self.shutdown(&at);
                }
            }
            Input::ShutdownFramework { framework } => self.shutdown_framework(&framework),
            Input::Message { framework, executor, data } => self.message(&framework, &executor, data),
            Input::Acknowledge { framework, task, uuid } => self.acknowledge(&framework, &task, &uuid),
            Input::UpdateFramework(info) => self.update_framework(*info),
            Input::Connected(connected) => {
                self.connected = connected;
                if connected {
                    self.resume(None);
                }
            }
            Input::Launched { at, result } => self.launched(&at, result),
            Input::Limited { at, result } => self.limited(&at, result),
            Input::Ended { at, termination } => self.ended(&at, termination),
            Input::Looked { at, exists } => self.looked(&at, exists),
            Input::Over { at } => self.over(&at),
            Input::Subscribed { at, link, pid, subscribe } => self.subscribed(&at, link, pid, subscribe),
            Input::Unlinked { at, link } => {
                if let Some(executor) = self.current(&at)
                    && executor.link == Some(link)
                {
                    executor.link = None;
                    self.effects.push(Effect::Unlink(at));
                }
            }
            Input::Called { at, call, status } => self.called(&at, *call, status),
            Input::Timer(timer) => self.timer(timer),
            Input::Heard(done) => drop(done.send(())),
            Input::Recovered => self.recovered(),
        }
        std::mem::take(&mut self.effects)
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    fn write(&mut self, write: Write) {
        self.effects.push(Effect::Write(write));
    }

    fn tell(&mut self, at: &At, event: Event) {
        self.effects.push(Effect::Tell { at: at.clone(), event: Box::new(event) });
    }

    pub(crate) fn executor(&self, framework: &str, executor: &str) -> Option<&Executor> {
        self.frameworks.get(framework)?.executors.get(executor)
    }

    /// A run of an executor that is over, with its framework.
    pub(crate) fn completed_run(&self, at: &At) -> Option<(v1::FrameworkInfo, v1::ExecutorInfo)> {
        let over = self.completed.iter().rev();
        let is_it =
            |framework: &&Framework| framework.info.id.as_ref().is_some_and(|id| id.value == at.framework);
        let all = self.frameworks.get(&at.framework).into_iter().chain(over.filter(is_it));
        all.flat_map(|framework| framework.completed.iter().map(move |run| (framework, run)))
            .find(|(_, run)| run.at == *at)
            .map(|(framework, run)| (framework.info.clone(), run.info.clone()))
    }

    /// The executor, if this run of it is still the one.
    fn current(&mut self, at: &At) -> Option<&mut Executor> {
        let executor = self.frameworks.get_mut(&at.framework)?.executors.get_mut(&at.executor)?;
        (executor.at.container == at.container).then_some(executor)
    }

    fn message(&mut self, framework: &str, executor: &str, data: Vec<u8>) {
        let Some(executor) = self.executor(framework, executor) else {
            return tracing::warn!(
                framework,
                executor,
                "a message for an executor that is not here is dropped"
            );
        };
        if executor.phase != Phase::Running || !executor.can_hear() {
            let executor = &executor.at.executor;
            return tracing::warn!(framework, executor, "a message is dropped: its executor does not listen");
        }
        let at = executor.at.clone();
        let message = Some(event::Message { data });
        self.tell(&at, Event { message, ..of(event::Type::Message) });
    }

    fn update_framework(&mut self, info: v1::FrameworkInfo) {
        let Some(id) = info.id.as_ref().map(|id| id.value.clone()) else { return };
        let Some(framework) = self.frameworks.get_mut(&id).filter(|framework| !framework.over) else {
            return;
        };
        framework.info = info.clone();
        self.write(Write::Framework { info: Box::new(info), over: false });
        self.resume(Some(&id));
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Registration(at) => {
                let after = self.settings.registration_timeout;
                self.missed(&at, Cause::NotRegistered(after));
            }
            Timer::Reregistration(at) => {
                let after = self.settings.reregistration_timeout;
                self.missed(&at, Cause::NotReregistered(after));
            }
            Timer::Shutdown(at) => {
                if self.current(&at).is_some_and(|executor| executor.phase == Phase::Terminating) {
                    self.effects.push(Effect::Destroy(at));
                }
            }
            Timer::Retry { framework, task, attempt, wait } => self.retry(&framework, &task, attempt, wait),
            Timer::Recovery => self.recovering = false,
        }
    }

    /// An executor did not come in time.
    fn missed(&mut self, at: &At, cause: Cause) {
        let Some(executor) = self.current(at).filter(|executor| executor.phase == Phase::Registering) else {
            return;
        };
        executor.phase = Phase::Terminating;
        executor.cause.get_or_insert(cause);
        self.effects.push(Effect::Destroy(at.clone()));
    }
}

/// An event of a kind.
pub(crate) fn of(kind: event::Type) -> Event {
    Event { r#type: Some(kind.into()), ..Event::default() }
}

/// What of a framework can be a name on the disk (reference 30: the rules of ids).
pub(crate) fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("ID must not be empty".to_owned());
    }
    if id.len() > 255 {
        return Err("ID must not be greater than 255 characters".to_owned());
    }
    if id == "." || id == ".." {
        return Err(format!("'{id}' is disallowed"));
    }
    if id.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
        return Err(format!("'{id}' contains invalid characters"));
    }
    Ok(())
}

/// Requests of all, and limits where one of them has any (reference 10.2, item 7).
pub(crate) fn asked<'a>(
    executor: &v1::ExecutorInfo,
    tasks: impl Iterator<Item = &'a v1::TaskInfo> + Clone,
) -> Asked {
    let own = executor.resources.iter();
    let resources = own.chain(tasks.clone().flat_map(|task| &task.resources)).cloned().collect();
    let scalar = |list: &[v1::Resource], name: &str| -> f64 {
        list.iter().filter(|one| one.name == name).filter_map(|one| Some(one.scalar?.value)).sum()
    };
    let names: BTreeSet<&String> = tasks.clone().flat_map(|task| task.limits.keys()).collect();
    let limit = |name: &String| -> f64 {
        let of_tasks = tasks.clone().map(|task| match task.limits.get(name) {
            Some(limit) => limit.value,
            None => scalar(&task.resources, name),
        });
        of_tasks.sum::<f64>() + scalar(&executor.resources, name)
    };
    let limits = names.into_iter().map(|name| (name.clone(), v1::value::Scalar { value: limit(name) }));
    (resources, limits.collect())
}
