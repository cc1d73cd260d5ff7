// SPDX-License-Identifier: Apache-2.0
//! A framework of one scheduler, which launches, kills and hears of tasks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use berth_client::{Events, MasterClient};
use berth_proto::scheduler::{Call, Event, call, event};
use berth_proto::v1::{self, TaskState, TaskStatus};
use berth_proto::{Encoding, decode_json};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// No event is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Scheduler {
    runtime: Runtime,
    master: MasterClient,
    events: Events,
    stream: String,
    id: v1::FrameworkId,
    /// Reports that nobody has asked for yet.
    heard: VecDeque<TaskStatus>,
    agent: Option<v1::AgentId>,
}

impl Scheduler {
    /// Subscribes a framework that knows TASK_KILLING.
    pub(crate) fn new(master: &str) -> Scheduler {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let master = MasterClient::new(master, Encoding::Protobuf, None);
        let events = runtime.block_on(master.subscribe(&subscription(None))).unwrap();
        let mut scheduler = Scheduler {
            runtime,
            master,
            stream: events.stream_id().to_owned(),
            events,
            id: v1::FrameworkId::default(),
            heard: VecDeque::new(),
            agent: None,
        };
        let subscribed = scheduler.event(event::Type::Subscribed);
        scheduler.id = subscribed.subscribed.unwrap().framework_id;
        scheduler
    }

    /// Subscribes again, after the agent with its master was started anew.
    pub(crate) fn again(&mut self) {
        let call = subscription(Some(self.id.clone()));
        self.events = self.runtime.block_on(self.master.subscribe(&call)).unwrap();
        self.stream = self.events.stream_id().to_owned();
        self.event(event::Type::Subscribed);
    }

    /// The next event of this kind; reports before it are kept, and acknowledged.
    fn event(&mut self, kind: event::Type) -> Event {
        let limit = Instant::now() + PATIENCE;
        loop {
            // A master says that it is there, whatever else there is to say.
            let left = limit.saturating_duration_since(Instant::now());
            let next = self.runtime.block_on(async { timeout(left, self.events.next()).await });
            let event = next.unwrap_or_else(|_| panic!("no {} comes", kind.as_str_name()));
            let event = event.unwrap().expect("the master has ended the stream");
            let this = event.r#type() == kind;
            if let Some(update) = &event.update {
                self.acknowledge(&update.status);
                self.heard.push_back(update.status.clone());
            }
            if event.r#type() == event::Type::Error {
                panic!("the master says {event:?}");
            }
            if this {
                return event;
            }
        }
    }

    fn call(&self, kind: call::Type, call: Call) {
        let call = Call { framework_id: Some(self.id.clone()), r#type: Some(kind.into()), ..call };
        self.runtime.block_on(self.master.call(&self.stream, &call)).unwrap();
    }

    fn acknowledge(&self, status: &TaskStatus) {
        let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) else { return };
        let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
        self.call(call::Type::Acknowledge, Call { acknowledge: Some(acknowledge), ..Call::default() });
    }

    /// Launches a task (TaskInfo without what every task has) from the next offer.
    pub(crate) fn launch(&mut self, name: &str, more: Value) {
        let offer = self.event(event::Type::Offers).offers.unwrap().offers.remove(0);
        let mut task = json!({
            "name": name, "task_id": {"value": name}, "agent_id": {"value": offer.agent_id.value},
            "resources": resources(0.1, 64.0)
        });
        for (key, value) in more.as_object().unwrap() {
            task[key] = value.clone();
        }
        if task["executor"].is_object() {
            task["executor"]["framework_id"] = json!({"value": self.id.value});
        }
        let task: v1::TaskInfo = decode_json(task.to_string().as_bytes()).unwrap();
        let operation = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos: vec![task] }),
            ..v1::offer::Operation::default()
        };
        self.agent = Some(offer.agent_id);
        let accept = call::Accept { offer_ids: vec![offer.id], operations: vec![operation], filters: None };
        self.call(call::Type::Accept, Call { accept: Some(accept), ..Call::default() });
    }

    pub(crate) fn kill(&self, name: &str, grace: Option<Duration>) {
        let grace = grace.map(|grace| v1::DurationInfo { nanoseconds: grace.as_nanos() as i64 });
        let kill = call::Kill {
            task_id: v1::TaskId { value: name.to_owned() },
            agent_id: self.agent.clone(),
            kill_policy: grace.map(|grace| v1::KillPolicy { grace_period: Some(grace) }),
        };
        self.call(call::Type::Kill, Call { kill: Some(kill), ..Call::default() });
    }

    /// Ends an executor and what it runs.
    pub(crate) fn shutdown(&self, executor: &str) {
        let shutdown = call::Shutdown {
            executor_id: v1::ExecutorId { value: executor.to_owned() },
            agent_id: self.agent.clone().unwrap(),
        };
        self.call(call::Type::Shutdown, Call { shutdown: Some(shutdown), ..Call::default() });
    }

    /// The next report of a task.
    pub(crate) fn report(&mut self, name: &str) -> TaskStatus {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.heard.iter().position(|status| status.task_id.value == name) {
                return self.heard.remove(at).unwrap();
            }
            assert!(Instant::now() < limit, "nothing is told of {name}");
            self.event(event::Type::Update);
        }
    }

    /// The next report of a task, which is this one.
    #[track_caller]
    pub(crate) fn told(&mut self, name: &str, state: TaskState) -> TaskStatus {
        let status = self.report(name);
        assert_eq!(status.state(), state, "{status:?}");
        status
    }

    /// All that is told of a task up to its end: states, and the last message.
    pub(crate) fn life(&mut self, name: &str) -> (Vec<&'static str>, String) {
        let mut states = Vec::new();
        loop {
            let status = self.report(name);
            let name = status.state().as_str_name().trim_start_matches("TASK_");
            states.push(name);
            if !matches!(name, "STARTING" | "RUNNING" | "KILLING") {
                return (states, status.message().to_owned());
            }
        }
    }
}

fn subscription(id: Option<v1::FrameworkId>) -> Call {
    let capability = |kind: v1::framework_info::capability::Type| v1::framework_info::Capability {
        r#type: Some(kind.into()),
    };
    use v1::framework_info::capability::Type;
    let framework_info = v1::FrameworkInfo {
        user: "root".to_owned(),
        name: "docker".to_owned(),
        id: id.clone(),
        // Its tasks go on while nobody listens.
        failover_timeout: Some(600.0),
        capabilities: [Type::TaskKillingState, Type::PartitionAware].map(capability).into(),
        ..v1::FrameworkInfo::default()
    };
    let subscribe = call::Subscribe { framework_info, suppressed_roles: Vec::new(), offer_constraints: None };
    Call {
        framework_id: id,
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(subscribe),
        ..Call::default()
    }
}

/// Processors and MB.
pub(crate) fn resources(cpus: f64, mem: f64) -> Value {
    let one = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    json!([one("cpus", cpus), one("mem", mem)])
}
