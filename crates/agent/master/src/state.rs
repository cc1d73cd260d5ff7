// SPDX-License-Identifier: Apache-2.0
//! What the master knows, and what becomes of it: everything here is without I/O. What has to be told to the agent is
//! left in [`State::orders`], in order; events go into the queues of streams.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use berth_api::Refusal;
use berth_model::Resources;
use berth_proto::scheduler::{Event, call};
use berth_proto::v1;
use berth_proto::v1::framework_info::capability::Type as Capability;
use berth_proto::v1::task_status::Reason;
use berth_tasks::link::{Held, Run, StatusUpdate};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::amounts;
use crate::clock::Now;
use crate::event::{self, is_terminal};
use crate::framework::{Framework, Stream};
use crate::subscribe;

/// Frameworks that are kept after their end.
const COMPLETED_FRAMEWORKS: usize = 50;

/// What the agent is asked to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Order {
    Run(Box<Run>),
    Kill { framework: String, task: String, policy: Option<v1::KillPolicy> },
    ShutdownExecutor { framework: String, executor: String },
    ShutdownFramework(String),
    Message { framework: String, executor: String, data: Vec<u8> },
    Acknowledge { framework: String, task: String, uuid: Vec<u8> },
    UpdateFramework(Box<v1::FrameworkInfo>),
}

/// An offer that nobody has answered.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) framework: String,
    pub(crate) role: String,
    /// Allocated to nobody.
    pub(crate) resources: Resources,
    pub(crate) expires: Option<Instant>,
}

/// How the master does its work.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// How often it offers what is free.
    pub(crate) round: Duration,
    /// How long an offer stands; none: until it is answered.
    pub(crate) offer_timeout: Option<Duration>,
    /// How long a framework of the master before has to come back, at least.
    pub(crate) recovery: Duration,
}

/// Numbers that only grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: BTreeMap<&'static str, u64>,
    pub(crate) updates: u64,
    pub(crate) unknown_updates: u64,
    pub(crate) acknowledged: u64,
    /// How often it was looked who may be offered what.
    pub(crate) allocations: u64,
    pub(crate) ended: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rules: Rules,
    pub(crate) master: v1::MasterInfo,
    pub(crate) started: f64,
    pub(crate) agent: v1::AgentInfo,
    /// Where the agent's API is.
    pub(crate) agent_ip: String,
    /// What the agent has, allocated to nobody.
    pub(crate) total: Resources,
    pub(crate) frameworks: BTreeMap<String, Framework>,
    pub(crate) completed: VecDeque<Framework>,
    pub(crate) offers: BTreeMap<String, Offer>,
    pub(crate) next_framework: u64,
    pub(crate) next_offer: u64,
    /// To be told to the agent.
    pub(crate) orders: Vec<Order>,
    /// When offers are made before the next round.
    pub(crate) soon: Option<Instant>,
    /// Something that must survive has changed.
    pub(crate) dirty: bool,
    pub(crate) counters: Counters,
    /// Operators that are told what happens.
    pub(crate) watchers: Vec<mpsc::Sender<berth_proto::master::Event>>,
}

impl State {
    pub(crate) fn new(
        rules: Rules,
        master: v1::MasterInfo,
        agent: v1::AgentInfo,
        agent_ip: String,
        started: f64,
    ) -> State {
        let total = amounts::read(&agent.resources).unwrap_or_else(|error| {
            tracing::error!(%error, "the agent's resources can not be read: nothing is offered");
            Resources::new()
        });
        State {
            rules,
            master,
            started,
            agent,
            agent_ip,
            total: amounts::in_order(&total),
            frameworks: BTreeMap::new(),
            completed: VecDeque::new(),
            offers: BTreeMap::new(),
            next_framework: 0,
            next_offer: 0,
            orders: Vec::new(),
            soon: None,
            dirty: false,
            counters: Counters::default(),
            watchers: Vec::new(),
        }
    }

    pub(crate) fn agent_id(&self) -> &str {
        self.agent.id.as_ref().map_or("", |id| &id.value)
    }

    /// What the agent held when it was met. Frameworks that are not known have to come back like those that are.
    pub(crate) fn adopt(&mut self, now: Now, held: Held) {
        for info in held.frameworks {
            let id = info.id.as_ref().map_or(String::new(), |id| id.value.clone());
            if self.is_completed(&id) {
                self.orders.push(Order::ShutdownFramework(id));
            } else if !self.frameworks.contains_key(&id) {
                self.recover(now, Framework::new(info, now.wall));
            }
        }
        for executor in held.executors {
            let owner = executor.framework_id.as_ref().and_then(|id| self.frameworks.get_mut(&id.value));
            let Some(framework) = owner else { continue };
            framework.charge(&amounts::read(&executor.resources).unwrap_or_default());
            framework.executors.insert(executor.executor_id.value.clone(), executor);
        }
        for task in held.tasks {
            let Some(framework) = self.frameworks.get_mut(&task.framework_id.value) else { continue };
            if !is_terminal(task.state()) {
                framework.charge(&amounts::read(&task.resources).unwrap_or_default());
            }
            framework.tasks.insert(task.task_id.value.clone(), task);
        }
        for (info, tasks) in held.completed {
            let id = info.id.as_ref().map_or("", |id| &id.value).to_owned();
            match self.completed.iter_mut().find(|known| known.id() == id) {
                Some(known) => known.completed_tasks.extend(tasks),
                None if self.frameworks.contains_key(&id) => {}
                None => {
                    let mut framework = Framework::new(info, now.wall);
                    framework.completed_tasks.extend(tasks);
                    self.keep(framework);
                }
            }
        }
    }

    /// A framework of the master before: it has to come back in time.
    pub(crate) fn recover(&mut self, now: Now, mut framework: Framework) {
        framework.recovered = true;
        framework.remove_at = deadline(now.at, framework.patience().max(self.rules.recovery));
        self.frameworks.insert(framework.id().to_owned(), framework);
        self.dirty = true;
    }

    pub(crate) fn is_completed(&self, id: &str) -> bool {
        self.completed.iter().any(|framework| framework.id() == id)
    }

    fn keep(&mut self, framework: Framework) {
        if self.completed.len() == COMPLETED_FRAMEWORKS {
            self.completed.pop_front();
        }
        self.completed.push_back(framework);
    }

    /// Takes a subscription. What is wrong with it is told in the stream, which ends then.
    pub(crate) fn subscribe(&mut self, now: Now, subscribe: call::Subscribe, stream: Stream) {
        self.count("subscribe");
        if let Err(why) = self.check(&subscribe) {
            let _ = stream.sender.try_send(event::error(why));
            return;
        }
        let call::Subscribe { framework_info: mut info, suppressed_roles, offer_constraints } = subscribe;
        let known = info.id.as_ref().map(|id| id.value.clone()).filter(|id| !id.is_empty());
        let is_from_elsewhere = known.is_some();
        let id = known.unwrap_or_else(|| self.name_framework());
        info.id = Some(v1::FrameworkId { value: id.clone() });
        let is_new = !self.frameworks.contains_key(&id);
        let mut was_connected = false;
        match self.frameworks.get_mut(&id) {
            Some(framework) => {
                was_connected = framework.stream.is_some();
                framework.send(event::error("Framework failed over"));
                replace(framework, info.clone());
                framework.reregistered = now.wall;
            }
            None => {
                let mut framework = Framework::new(info, now.wall);
                if is_from_elsewhere {
                    // Who brings an id has been here before, as far as anybody knows: Mesos tells of both moments.
                    framework.reregistered += 1e-6;
                }
                self.frameworks.insert(id.clone(), framework);
            }
        }
        self.take_back_all(&id);
        let master = self.master.clone();
        let framework = self.frameworks.get_mut(&id).expect("it was there or is now");
        framework.suppressed = suppressed_roles.into_iter().collect();
        framework.constraints = offer_constraints;
        framework.stream = Some(stream);
        framework.cut = false;
        framework.recovered = false;
        framework.remove_at = None;
        framework.send(event::subscribed(&id, master));
        framework.send(event::heartbeat());
        let info = framework.info.clone();
        self.dirty = true;
        self.tell_of_framework(&id, is_new);
        if !was_connected {
            self.allocate(now);
        }
        // What nobody has acknowledged is sent again.
        self.orders.push(Order::UpdateFramework(Box::new(info)));
    }

    fn name_framework(&mut self) -> String {
        loop {
            let id = format!("{}-{:04}", self.master.id, self.next_framework);
            self.next_framework += 1;
            if !self.frameworks.contains_key(&id) && !self.is_completed(&id) {
                return id;
            }
        }
    }

    /// Everything that may be wrong with a subscription, in the order of reference 33.3.1.
    fn check(&self, subscribe: &call::Subscribe) -> Result<(), String> {
        let info = &subscribe.framework_info;
        subscribe::framework(info)?;
        let id = info.id.as_ref().map_or("", |id| &id.value);
        if self.is_completed(id) {
            return Err("Framework has been removed".to_owned());
        }
        let constraints = subscribe.offer_constraints.as_ref();
        subscribe::of_roles(info, &subscribe.suppressed_roles, constraints)?;
        match self.frameworks.get(id) {
            Some(known) if known.info.principal != info.principal => {
                Err("Changing framework's principal is not allowed.".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// UPDATE_FRAMEWORK: another description, by the same stream.
    pub(crate) fn update_framework(
        &mut self,
        now: Now,
        update: call::UpdateFramework,
    ) -> Result<(), Refusal> {
        let info = update.framework_info;
        let wrong = |prefix: &str, why: &str| Err(Refusal::bad_request(format!("{prefix}: {why}")));
        if let Err(why) = subscribe::framework(&info) {
            return wrong("Supplied FrameworkInfo is not valid", &why);
        }
        let id = info.id.as_ref().map_or("", |id| &id.value).to_owned();
        let gone = || Refusal::new(berth_api::StatusCode::CONFLICT, "Framework was removed meanwhile");
        let known = self.frameworks.get_mut(&id).ok_or_else(gone)?;
        let unsupported = |field: &str, from: &str, to: &str| {
            let why = format!(
                "Updating 'FrameworkInfo.{field}' is unsupported; attempted to update from '{from}' to '{to}'"
            );
            wrong("FrameworkInfo update is not valid", &why)
        };
        if known.info.principal != info.principal {
            let why = "Changing framework's principal is not allowed.";
            return wrong("FrameworkInfo update is not valid", why);
        }
        if known.info.user != info.user {
            return unsupported("user", &known.info.user, &info.user);
        }
        if known.info.checkpoint() != info.checkpoint() {
            let [from, to] = [known.info.checkpoint(), info.checkpoint()].map(|value| value.to_string());
            return unsupported("checkpoint", &from, &to);
        }
        let constraints = update.offer_constraints.as_ref();
        if let Err(why) = subscribe::of_roles(&info, &update.suppressed_roles, constraints) {
            return wrong("'UpdateFramework' call is not valid", &why);
        }
        replace(known, info);
        let roles = known.roles();
        known.filters.retain(|filter| roles.contains(&filter.role));
        known.suppressed = update.suppressed_roles.into_iter().collect();
        known.constraints = update.offer_constraints;
        self.orders.push(Order::UpdateFramework(Box::new(known.info.clone())));
        self.dirty = true;
        self.tell_of_framework(&id, false);
        self.allocate(now);
        Ok(())
    }

    /// A scheduler is gone: it may come back in time.
    pub(crate) fn gone(&mut self, now: Now, stream: &str) {
        let has_it = |one: &Framework| one.stream.as_ref().is_some_and(|own| own.id == stream);
        let of_stream = self.frameworks.iter().find(|(_, one)| has_it(one)).map(|(id, _)| id.clone());
        if let Some(id) = of_stream {
            self.disconnect(now, &id);
        }
    }

    /// Schedulers that do not read are gone too.
    pub(crate) fn cut_off(&mut self, now: Now) {
        let cut = self.frameworks.iter().filter(|(_, one)| one.cut).map(|(id, _)| id.clone());
        for id in cut.collect::<Vec<_>>() {
            self.disconnect(now, &id);
        }
    }

    fn disconnect(&mut self, now: Now, id: &str) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        framework.stream = None;
        framework.cut = false;
        framework.remove_at = deadline(now.at, framework.patience());
        self.take_back_all(id);
        self.tell_of_framework(id, false);
        self.soon(now);
        self.expire(now);
    }

    /// What its time has come for.
    pub(crate) fn expire(&mut self, now: Now) {
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now.at);
        let over = self.frameworks.iter().filter(|(_, one)| is_over(one.remove_at));
        for id in over.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            tracing::info!(framework = id, "a framework did not come back in time");
            self.remove(now, &id);
        }
        let over = self.offers.iter().filter(|(_, offer)| is_over(offer.expires));
        for id in over.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            let Some(offer) = self.offers.remove(&id) else { continue };
            if let Some(framework) = self.frameworks.get_mut(&offer.framework) {
                framework.send(event::rescind(&id));
            }
            self.soon = Some(now.at);
        }
        for framework in self.frameworks.values_mut() {
            framework.filters.retain(|filter| filter.until > now.at);
        }
        if is_over(self.soon) {
            self.allocate(now);
        }
    }

    /// When [`State::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let frameworks = self.frameworks.values().filter_map(|framework| framework.remove_at);
        let offers = self.offers.values().filter_map(|offer| offer.expires);
        frameworks.chain(offers).chain(self.soon).min()
    }

    /// Offers are made shortly: what else comes until then is in them.
    pub(crate) fn soon(&mut self, now: Now) {
        const TOGETHER: Duration = Duration::from_millis(20);
        self.soon.get_or_insert(now.at + TOGETHER.min(self.rules.round));
    }

    /// Ends a framework with all that it has.
    pub(crate) fn remove(&mut self, now: Now, id: &str) -> bool {
        let Some(mut framework) = self.frameworks.remove(id) else { return false };
        self.offers.retain(|_, offer| offer.framework != id);
        self.orders.push(Order::ShutdownFramework(id.to_owned()));
        // The end of the queue is the end of the stream.
        framework.stream = None;
        framework.unregistered = now.wall;
        framework.recovered = false;
        framework.remove_at = None;
        framework.used = Resources::new();
        framework.executors.clear();
        framework.filters.clear();
        for (task_id, mut task) in std::mem::take(&mut framework.tasks) {
            let message = format!("Framework {id} removed");
            let state = v1::TaskState::TaskKilled;
            let agent = task.agent_id.value.clone();
            let reason = Reason::FrameworkRemoved;
            let status = event::status(&task_id, Some(&agent), state, reason, message, now.wall);
            if !is_terminal(task.state()) {
                task.set_state(state);
            }
            remember(&mut task, status);
            framework.complete(task);
        }
        self.tell_of_removal(&framework);
        self.keep(framework);
        self.dirty = true;
        self.soon(now);
        true
    }

    /// All its offers are taken back, without a word.
    fn take_back_all(&mut self, id: &str) {
        self.offers.retain(|_, offer| offer.framework != id);
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.filters.clear();
        }
    }

    /// A report of the agent's.
    pub(crate) fn update(&mut self, now: Now, update: StatusUpdate) {
        let StatusUpdate { framework: id, executor, mut status, latest_state } = update;
        let Some(framework) = self.frameworks.get_mut(&id) else {
            self.counters.unknown_updates += 1;
            tracing::debug!(framework = id, task = status.task_id.value, "a report of an unknown framework");
            return;
        };
        self.counters.updates += 1;
        if status.uuid.as_ref().is_some_and(Vec::is_empty) {
            status.uuid = None;
        }
        let task_id = status.task_id.value.clone();
        let mut freed = None;
        if let Some(task) = framework.tasks.get_mut(&task_id) {
            let was_over = is_terminal(task.state());
            if !was_over {
                task.set_state(latest_state);
            }
            if !was_over && is_terminal(latest_state) {
                *self.counters.ended.entry(latest_state.as_str_name()).or_default() += 1;
                freed = Some(amounts::read(&task.resources).unwrap_or_default());
            }
            if task.executor_id.is_none() && is_of_framework(framework.executors.keys(), executor.as_deref())
            {
                task.executor_id = executor.map(|value| v1::ExecutorId { value });
            }
            remember(task, status.clone());
            // Only what went out can be acknowledged.
            if framework.stream.is_some() && status.uuid.is_some() {
                task.status_update_state = Some(status.state);
                task.status_update_uuid = status.uuid.clone();
            }
            // A report that nobody has to acknowledge is the last word on its task.
            if status.uuid.is_none() && is_terminal(status.state()) {
                let task = framework.tasks.remove(&task_id).expect("it was just there");
                framework.complete(task);
            }
        }
        if let Some(freed) = freed {
            framework.discharge(&freed);
        }
        framework.send(event::update(status.clone()));
        self.tell_of_update(&id, &status, latest_state);
        self.soon(now);
    }

    /// The scheduler has seen a report.
    pub(crate) fn acknowledge(&mut self, id: &str, acknowledge: call::Acknowledge) {
        self.count("acknowledge");
        let call::Acknowledge { agent_id, task_id, uuid } = acknowledge;
        if agent_id.value != self.agent_id() {
            return;
        }
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        if let Some(task) = framework.tasks.get(&task_id.value) {
            let Some(forwarded) = &task.status_update_uuid else { return };
            let was_last = *forwarded == uuid && is_terminal(task.status_update_state());
            if was_last {
                let task = framework.tasks.remove(&task_id.value).expect("it was just there");
                framework.complete(task);
            }
        }
        self.counters.acknowledged += 1;
        self.orders.push(Order::Acknowledge { framework: id.to_owned(), task: task_id.value, uuid });
    }

    /// An executor has ended.
    pub(crate) fn executor_exited(&mut self, now: Now, id: &str, executor: &str, status: i32) {
        let agent = self.agent_id().to_owned();
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        if let Some(info) = framework.executors.remove(executor) {
            framework.discharge(&amounts::read(&info.resources).unwrap_or_default());
        }
        framework.send(event::failure(&agent, executor, status));
        self.soon(now);
    }

    /// An executor says something.
    pub(crate) fn executor_message(&mut self, id: &str, executor: &str, data: Vec<u8>) {
        let agent = self.agent_id().to_owned();
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.send(event::message(&agent, executor, data));
        }
    }

    pub(crate) fn kill(&mut self, now: Now, id: &str, kill: call::Kill) {
        self.count("kill");
        let Some(framework) = self.frameworks.get(id) else { return };
        let task = kill.task_id.value.clone();
        let Some(known) = framework.tasks.get(&task) else {
            let asked = call::reconcile::Task { task_id: kill.task_id, agent_id: kill.agent_id };
            self.reconcile(now, id, &[asked]);
            return;
        };
        if kill.agent_id.is_some_and(|agent| agent != known.agent_id) {
            return;
        }
        self.orders.push(Order::Kill { framework: id.to_owned(), task, policy: kill.kill_policy });
    }

    /// The same, asked by an operator; `false` for a task that is not there or has ended.
    pub(crate) fn kill_for_operator(
        &mut self,
        id: &str,
        task: String,
        policy: Option<v1::KillPolicy>,
    ) -> bool {
        let known = self.frameworks.get(id).and_then(|framework| framework.tasks.get(&task));
        let runs = known.is_some_and(|known| !is_terminal(known.state()));
        if runs {
            self.orders.push(Order::Kill { framework: id.to_owned(), task, policy });
        }
        runs
    }

    pub(crate) fn shutdown(&mut self, id: &str, shutdown: call::Shutdown) {
        self.count("shutdown");
        if shutdown.agent_id.value == self.agent_id() {
            let executor = shutdown.executor_id.value;
            self.orders.push(Order::ShutdownExecutor { framework: id.to_owned(), executor });
        }
    }

    pub(crate) fn message(&mut self, id: &str, message: call::Message) {
        self.count("message");
        if message.agent_id.value == self.agent_id() {
            let executor = message.executor_id.value;
            self.orders.push(Order::Message { framework: id.to_owned(), executor, data: message.data });
        }
    }

    /// Answers what has become of tasks; of all that are known when none are named.
    pub(crate) fn reconcile(&mut self, now: Now, id: &str, asked: &[call::reconcile::Task]) {
        self.count("reconcile");
        let agent = self.agent_id().to_owned();
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let aware = framework.can(Capability::PartitionAware);
        let answers: Vec<v1::TaskStatus> = if asked.is_empty() {
            framework.tasks.values().map(|task| latest(task, now)).collect()
        } else {
            let answer = |asked: &call::reconcile::Task| match framework.tasks.get(&asked.task_id.value) {
                Some(task) => latest(task, now),
                None => unknown(asked, &agent, aware, now),
            };
            asked.iter().map(answer).collect()
        };
        answers.into_iter().for_each(|status| framework.send(event::update(status)));
    }

    /// There are no operations here, so none of them is known.
    pub(crate) fn reconcile_operations(&mut self, id: &str, asked: &[call::reconcile_operations::Operation]) {
        self.count("reconcile_operations");
        let agent = self.agent_id().to_owned();
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        for one in asked {
            let message = match &one.agent_id {
                None => "Reconciliation: Operation is unknown and no 'agent_id' was provided",
                Some(id) if id.value == agent => "Reconciliation: Operation is unknown",
                Some(_) => "Reconciliation: Both operation and agent are unknown",
            };
            framework.send(event::operation(v1::OperationStatus {
                operation_id: Some(one.operation_id.clone()),
                state: v1::OperationState::OperationUnknown.into(),
                message: Some(message.to_owned()),
                agent_id: one.agent_id.clone(),
                resource_provider_id: one.resource_provider_id.clone(),
                ..v1::OperationStatus::default()
            }));
        }
    }

    pub(crate) fn count(&mut self, call: &'static str) {
        *self.counters.calls.entry(call).or_default() += 1;
    }

    /// A queue for the events of a stream, and what is known of it here.
    pub(crate) fn stream(id: String) -> (Stream, mpsc::Receiver<Event>) {
        /// A scheduler that has not read so many is cut off.
        const UNREAD: usize = 16 * 1024;
        let (sender, receiver) = mpsc::channel(UNREAD);
        (Stream { id, sender }, receiver)
    }
}

/// A deadline, if there is one: a time without an end has none.
fn deadline(from: Instant, time: Duration) -> Option<Instant> {
    from.checked_add(time)
}

/// Whether this executor is one that the framework itself described.
fn is_of_framework<'a>(mut known: impl Iterator<Item = &'a String>, executor: Option<&str>) -> bool {
    executor.is_some_and(|executor| known.any(|one| one == executor))
}

/// Takes another description of a framework; what can not change is kept.
fn replace(framework: &mut Framework, mut info: v1::FrameworkInfo) {
    info.user.clone_from(&framework.info.user);
    info.checkpoint = framework.info.checkpoint;
    framework.info = info;
}

/// Keeps a report with its task: of equal states in a row the last one, without its data.
pub(crate) fn remember(task: &mut v1::Task, mut status: v1::TaskStatus) {
    status.data = None;
    if task.statuses.last().is_some_and(|last| last.state == status.state) {
        task.statuses.pop();
    }
    task.statuses.push(status);
}

/// What is known of a task, for somebody who asks.
fn latest(task: &v1::Task, now: Now) -> v1::TaskStatus {
    let state = task.status_update_state.map_or_else(|| task.state(), |_| task.status_update_state());
    let agent = Some(&*task.agent_id.value);
    let message = "Reconciliation: Latest task state";
    let status = event::status(&task.task_id.value, agent, state, Reason::Reconciliation, message, now.wall);
    let last = task.statuses.last().cloned().unwrap_or_default();
    v1::TaskStatus {
        executor_id: task.executor_id.clone(),
        healthy: last.healthy,
        check_status: last.check_status,
        container_status: last.container_status,
        ..status
    }
}

/// What is said of a task that nobody knows.
fn unknown(asked: &call::reconcile::Task, agent: &str, aware: bool, now: Now) -> v1::TaskStatus {
    use v1::TaskState as Task;
    let named = asked.agent_id.as_ref().map(|id| &*id.value);
    let (state, message) = if named == Some(agent) {
        (Task::TaskGone, "Reconciliation: Task is unknown to the agent")
    } else {
        (Task::TaskUnknown, "Reconciliation: Task is unknown")
    };
    let state = if aware { state } else { Task::TaskLost };
    event::status(&asked.task_id.value, named, state, Reason::Reconciliation, message, now.wall)
}
