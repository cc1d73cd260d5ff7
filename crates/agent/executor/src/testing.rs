// SPDX-License-Identifier: Apache-2.0
//! An agent around an executor, in a few lines: containers that end when the test says, and reports as they come.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_contract::Settled;
use berth_model::{CommandInfo, ContainerConfig, ContainerId, ContainerTermination, WaitStatus};
use berth_proto::executor::{Call, Event, event};
use berth_proto::v1::{self, TaskInfo, TaskState, TaskStatus, framework_info};
use berth_tasks::built_in::{BuiltIn, Containers, Description, Later, Ran, Recovered, Start};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Longer than anything in these tests, on a clock that costs nothing.
const LONG: Duration = Duration::from_secs(24 * 3600);

type Ended = Settled<Option<ContainerTermination>>;

/// Containers that do what a test says.
#[derive(Default)]
pub(crate) struct Fake {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    did: Vec<String>,
    ends: BTreeMap<String, Ended>,
    /// What ends a container: signals, and 0 for a destroy.
    ended_by: BTreeMap<(String, i32), i32>,
    launches: BTreeMap<String, (ContainerConfig, BTreeMap<String, String>)>,
    not_launched: BTreeMap<usize, String>,
    slow_launches: bool,
    ran: VecDeque<Ran>,
    description: Option<Description>,
    /// What ends all of them.
    all_by: BTreeMap<i32, i32>,
    deaf: bool,
    process: Option<u32>,
}

impl Fake {
    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.state.lock().unwrap())
    }

    /// What was done with containers so far.
    pub(crate) fn did(&self) -> Vec<String> {
        self.with(|state| state.did.clone())
    }

    /// The signal (0: a destroy) ends the container with this wait status.
    pub(crate) fn ends_by(&self, id: &str, signal: i32, status: i32) {
        self.with(|state| state.ended_by.insert((id.to_owned(), signal), status));
    }

    /// The signal (0: a destroy) ends each container with this wait status.
    pub(crate) fn every_end_by(&self, signal: i32, status: i32) {
        self.with(|state| state.all_by.insert(signal, status));
    }

    pub(crate) fn ends(&self, id: &str, termination: Option<ContainerTermination>) {
        let place = self.place(id);
        place.settle(termination);
    }

    pub(crate) fn exits(&self, id: &str, code: u8) {
        self.ends(id, Some(status(WaitStatus::of_exit(code).0)));
    }

    /// The launch of that number fails.
    pub(crate) fn refuses(&self, number: usize, why: &str) {
        self.with(|state| state.not_launched.insert(number, why.to_owned()));
    }

    /// Launches take for ever, or until they are destroyed.
    pub(crate) fn launches_slowly(&self) {
        self.with(|state| state.slow_launches = true);
    }

    /// Kills are never answered.
    pub(crate) fn is_deaf(&self) {
        self.with(|state| state.deaf = true);
    }

    /// Its containers are this process.
    pub(crate) fn is_process(&self, pid: u32) {
        self.with(|state| state.process = Some(pid));
    }

    /// What the next exec does.
    pub(crate) fn answers(&self, ran: Ran) {
        self.with(|state| state.ran.push_back(ran));
    }

    pub(crate) fn describes(&self, description: Description) {
        self.with(|state| state.description = Some(description));
    }

    pub(crate) fn launches(&self) -> BTreeMap<String, (ContainerConfig, BTreeMap<String, String>)> {
        self.with(|state| state.launches.clone())
    }

    pub(crate) fn place(&self, id: &str) -> Ended {
        self.with(|state| state.ends.entry(id.to_owned()).or_default().clone())
    }

    fn act(&self, id: &ContainerId, what: &str, signal: i32) -> Option<bool> {
        let id = id.to_string();
        let end = self.with(|state| {
            state.did.push(format!("{what} {id}"));
            if state.deaf {
                return None;
            }
            let all = state.all_by.get(&signal);
            Some(state.ended_by.get(&(id.clone(), signal)).or(all).copied())
        })?;
        let there = self.place(&id).get().is_none();
        if let Some(end) = end {
            self.ends(&id, Some(status(end)));
        }
        Some(there)
    }
}

pub(crate) fn status(status: i32) -> ContainerTermination {
    ContainerTermination { status: Some(status), ..ContainerTermination::default() }
}

impl Containers for Fake {
    fn launch(
        &self,
        id: ContainerId,
        config: ContainerConfig,
        environment: BTreeMap<String, String>,
    ) -> Later<'_, Result<(), String>> {
        Box::pin(async move {
            let id = id.to_string();
            let (refused, slow) = self.with(|state| {
                state.did.push(format!("launch {id}"));
                let refused = state.not_launched.get(&state.launches.len()).cloned();
                state.launches.insert(id.clone(), (config, environment));
                (refused, state.slow_launches)
            });
            if slow {
                self.place(&id).wait().await;
                return Err("Container destroyed during provisioning".to_owned());
            }
            refused.map_or(Ok(()), Err)
        })
    }

    fn wait(&self, id: ContainerId) -> Later<'_, Option<ContainerTermination>> {
        Box::pin(async move {
            let id = id.to_string();
            if !self.with(|state| state.launches.contains_key(&id)) {
                return None;
            }
            self.place(&id).wait().await
        })
    }

    fn kill(&self, id: ContainerId, signal: i32) -> Later<'_, bool> {
        Box::pin(async move {
            match self.act(&id, &format!("kill -{signal}"), signal) {
                Some(there) => there,
                None => std::future::pending().await,
            }
        })
    }

    fn destroy(&self, id: ContainerId) -> Later<'_, ()> {
        Box::pin(async move {
            self.act(&id, "destroy", 0);
        })
    }

    fn remove(&self, id: ContainerId) -> Later<'_, ()> {
        Box::pin(async move { self.with(|state| state.did.push(format!("remove {id}"))) })
    }

    fn exec(
        &self,
        id: ContainerId,
        command: CommandInfo,
        _: BTreeMap<String, String>,
        limit: Option<Duration>,
    ) -> Later<'_, Ran> {
        Box::pin(async move {
            let next = self.with(|state| {
                state.did.push(format!("exec {id} {} {limit:?}", command.value.unwrap_or_default()));
                state.ran.pop_front()
            });
            match next {
                Some(ran) => ran,
                None => std::future::pending().await,
            }
        })
    }

    fn pid(&self, id: ContainerId) -> Later<'_, Option<u32>> {
        Box::pin(async move {
            let id = id.to_string();
            let known = id == CONTAINER || self.with(|state| state.launches.contains_key(&id));
            if !known || self.place(&id).get().is_some() {
                return None;
            }
            self.with(|state| state.process).or(Some(std::process::id()))
        })
    }

    fn describe(&self, _: ContainerId) -> Later<'_, Option<Description>> {
        Box::pin(async { self.with(|state| state.description.clone()) })
    }
}

/// An executor, and the agent around it.
pub(crate) struct Rig {
    pub(crate) fake: Arc<Fake>,
    executor: Arc<dyn BuiltIn>,
    framework: v1::FrameworkInfo,
    records: tempfile::TempDir,
    events: UnboundedSender<Box<Event>>,
    calls: UnboundedReceiver<Box<Call>>,
    work: JoinHandle<()>,
    pub(crate) acknowledges: bool,
    /// What the agent stored: the last report of each task.
    pub(crate) stored: BTreeMap<String, Recovered>,
    /// Every report that was stored.
    pub(crate) history: Vec<TaskStatus>,
}

pub(crate) const CONTAINER: &str = "c";

impl Rig {
    pub(crate) fn new(executor: impl BuiltIn + 'static) -> Rig {
        let capability = framework_info::Capability {
            r#type: Some(framework_info::capability::Type::TaskKillingState as i32),
        };
        let framework = v1::FrameworkInfo {
            id: Some(v1::FrameworkId { value: "f".to_owned() }),
            user: "root".to_owned(),
            capabilities: vec![capability],
            ..v1::FrameworkInfo::default()
        };
        let (events, calls) = (unbounded_channel().0, unbounded_channel().1);
        let mut rig = Rig {
            fake: Arc::default(),
            executor: Arc::new(executor),
            framework,
            records: tempfile::tempdir().unwrap(),
            events,
            calls,
            work: tokio::spawn(async {}),
            acknowledges: true,
            stored: BTreeMap::new(),
            history: Vec::new(),
        };
        rig.start();
        rig
    }

    /// A framework that does not know TASK_KILLING.
    pub(crate) fn of_an_old_framework(mut self) -> Rig {
        self.framework.capabilities.clear();
        self.restart();
        self
    }

    pub(crate) fn start(&mut self) {
        let (events, heard) = unbounded_channel();
        let (said, calls) = unbounded_channel();
        (self.events, self.calls) = (events, calls);
        let start = Start {
            executor: v1::ExecutorInfo {
                executor_id: v1::ExecutorId { value: "e".to_owned() },
                ..v1::ExecutorInfo::default()
            },
            framework: self.framework.clone(),
            agent: v1::AgentInfo::default(),
            container: ContainerId::new(CONTAINER).unwrap(),
            ended: self.fake.place(CONTAINER),
            shutdown_grace: Duration::from_secs(5),
            events: heard,
            calls: said,
            containers: Arc::clone(&self.fake) as Arc<dyn Containers>,
            records: self.records.path().to_owned(),
            recovered: self.stored.values().cloned().collect(),
        };
        self.work = tokio::spawn(self.executor.start(start));
    }

    /// The agent is killed, and comes back. Reports that were on their way are lost.
    pub(crate) fn restart(&mut self) {
        self.work.abort();
        self.start();
    }

    pub(crate) fn send(&mut self, event: Event) {
        let _ = self.events.send(Box::new(event));
    }

    pub(crate) fn launch(&mut self, task: TaskInfo) {
        self.given(&task);
        self.send(Event {
            r#type: Some(event::Type::Launch as i32),
            launch: Some(event::Launch { task }),
            ..Event::default()
        });
    }

    pub(crate) fn launch_group(&mut self, tasks: Vec<TaskInfo>) {
        tasks.iter().for_each(|task| self.given(task));
        let group = event::LaunchGroup { task_group: v1::TaskGroupInfo { tasks } };
        self.send(Event {
            r#type: Some(event::Type::LaunchGroup as i32),
            launch_group: Some(group),
            ..Event::default()
        });
    }

    /// The container that the reports of a task name.
    pub(crate) fn container(&self, task: &str) -> String {
        let of_task = self.history.iter().filter(|status| status.task_id.value == task);
        let mut ids = of_task.filter_map(|status| status.container_status.as_ref()?.container_id.as_ref());
        berth_proto::convert::container_id(ids.next().expect("its reports name none")).unwrap().to_string()
    }

    /// What was done, with tasks instead of their containers.
    pub(crate) fn did(&self) -> Vec<String> {
        let tasks: Vec<&String> = self.stored.keys().collect();
        let names = |mut did: String| {
            for task in &tasks {
                if self
                    .history
                    .iter()
                    .any(|status| status.task_id.value == **task && status.container_status.is_some())
                {
                    did = did.replace(&self.container(task), task);
                }
            }
            did
        };
        self.fake.did().into_iter().map(names).collect()
    }

    /// The agent remembers a task that it gives.
    pub(crate) fn given(&mut self, task: &TaskInfo) {
        let id = task.task_id.value.clone();
        self.stored.entry(id).or_insert(Recovered { task: task.clone(), latest: None });
    }

    pub(crate) fn kill(&mut self, task: &str, grace: Option<Duration>) {
        let policy = |grace: Duration| v1::KillPolicy { grace_period: Some(nanoseconds(grace)) };
        let kill = event::Kill { task_id: task_id(task), kill_policy: grace.map(policy) };
        self.send(Event { r#type: Some(event::Type::Kill as i32), kill: Some(kill), ..Event::default() });
    }

    pub(crate) fn shutdown(&mut self) {
        self.send(Event { r#type: Some(event::Type::Shutdown as i32), ..Event::default() });
    }

    pub(crate) fn acknowledge(&mut self, status: &TaskStatus) {
        let uuid = status.uuid.clone().unwrap();
        self.send(Event {
            r#type: Some(event::Type::Acknowledged as i32),
            acknowledged: Some(event::Acknowledged { task_id: status.task_id.clone(), uuid }),
            ..Event::default()
        });
    }

    /// The next report, which is stored; `None` when the executor's work is over.
    pub(crate) async fn next(&mut self) -> Option<TaskStatus> {
        let call = tokio::time::timeout(LONG, self.calls.recv()).await.expect("nothing was reported");
        let status = call?.update?.status;
        if let Some(stored) = self.stored.get_mut(&status.task_id.value) {
            stored.latest = Some(status.clone());
        }
        self.history.push(status.clone());
        if self.acknowledges {
            self.acknowledge(&status);
        }
        Some(status)
    }

    /// The next reports, so many, in the order of their texts: tasks are told of in any order.
    pub(crate) async fn these(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.told().await);
        }
        all.sort();
        all
    }

    /// The next report, as a test compares it.
    pub(crate) async fn told(&mut self) -> String {
        match self.next().await {
            None => "over".to_owned(),
            Some(status) => text(&status),
        }
    }

    /// Until something has been done so often.
    pub(crate) async fn until(&self, what: &str) {
        let done = async {
            while !self.fake.did().iter().any(|did| did == what) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let did = || format!("{what} was not done: {:?}", self.fake.did());
        assert!(tokio::time::timeout(LONG, done).await.is_ok(), "{}", did());
    }

    /// Waits for the work's end, with nothing more to report.
    pub(crate) async fn over(mut self) {
        assert_eq!(self.told().await, "over");
        tokio::time::timeout(LONG, self.work).await.expect("its work goes on").unwrap();
    }
}

/// `STATE[ REASON][ healthy][: message]`, with the task before it unless it is `t`.
pub(crate) fn text(status: &TaskStatus) -> String {
    let mut text = match status.task_id.value.as_str() {
        "t" => String::new(),
        other => format!("{other} "),
    };
    text += TaskState::try_from(status.state).unwrap().as_str_name().trim_start_matches("TASK_");
    if status.reason.is_some() {
        text += &format!(" {}", status.reason().as_str_name().trim_start_matches("REASON_"));
    }
    if let Some(healthy) = status.healthy {
        text += if healthy { " healthy" } else { " unhealthy" };
    }
    if let Some(message) = &status.message {
        text += &format!(": {message}");
    }
    text
}

pub(crate) fn task_id(value: &str) -> v1::TaskId {
    v1::TaskId { value: value.to_owned() }
}

pub(crate) fn task(id: &str) -> TaskInfo {
    TaskInfo {
        name: id.to_owned(),
        task_id: task_id(id),
        command: Some(v1::CommandInfo { value: Some("run".to_owned()), ..v1::CommandInfo::default() }),
        ..TaskInfo::default()
    }
}

pub(crate) fn nanoseconds(duration: Duration) -> v1::DurationInfo {
    v1::DurationInfo { nanoseconds: i64::try_from(duration.as_nanos()).unwrap() }
}
