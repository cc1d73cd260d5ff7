// SPDX-License-Identifier: Apache-2.0
//! What becomes of what schedulers and the agent say, without a connection: one state, and the queues of its streams.

use std::time::Duration;

use berth_proto::scheduler::{Call, Event};
use berth_proto::{decode_json, encode_json, v1};
use berth_tasks::link::{Held, StatusUpdate};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Now;
use crate::state::{Order, Rules, State};

/// A scheduler's end.
struct Scheduler {
    id: String,
    stream: String,
    queue: mpsc::Receiver<Event>,
}

impl Scheduler {
    /// All events that have come, as JSON.
    fn events(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Ok(event) = self.queue.try_recv() {
            all.push(serde_json::from_slice(&encode_json(&event)).unwrap());
        }
        all
    }

    fn kinds(&mut self) -> Vec<String> {
        self.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    /// The ids of the offers that have come.
    fn offers(&mut self) -> Vec<String> {
        let of = |event: Value| match &event["offers"]["offers"] {
            Value::Array(offers) => {
                offers.iter().map(|offer| offer["id"]["value"].as_str().unwrap().to_owned()).collect()
            }
            _ => Vec::new(),
        };
        self.events().into_iter().flat_map(of).collect()
    }

    /// State and message of the reports that have come.
    fn reports(&mut self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.events().into_iter().filter(|event| event["type"] == "UPDATE");
        events
            .map(|event| {
                let status = &event["update"]["status"];
                (text(&status["state"]), text(&status["message"]))
            })
            .collect()
    }
}

struct Ground {
    state: State,
    now: Now,
    streams: usize,
}

impl Ground {
    fn new() -> Ground {
        Ground::with("cpus:4;mem:1024;disk:100;ports:[31000-31009]")
    }

    fn with(resources: &str) -> Ground {
        let resources = berth_model::resources::from_flag(resources, "*").unwrap().resources;
        let agent = v1::AgentInfo {
            hostname: "host".to_owned(),
            resources: berth_proto::convert::resources_of(&resources),
            id: Some(v1::AgentId { value: "agent".to_owned() }),
            ..v1::AgentInfo::default()
        };
        let rules =
            Rules { round: Duration::from_secs(1), offer_timeout: None, recovery: Duration::from_secs(60) };
        let master = v1::MasterInfo { id: "M".to_owned(), ..v1::MasterInfo::default() };
        let state = State::new(rules, master, agent, "127.0.0.1".to_owned(), 1.0);
        Ground { state, now: Now { at: Instant::now(), wall: 2.0 }, streams: 0 }
    }

    /// Time passes, and what is due is done.
    fn pass(&mut self, seconds: u64) {
        self.now.at += Duration::from_secs(seconds);
        self.now.wall += seconds as f64;
        self.state.expire(self.now);
    }

    fn subscribe(&mut self, info: Value) -> Scheduler {
        let mut whole = json!({"user": "root", "name": "test"});
        whole.as_object_mut().unwrap().extend(info.as_object().unwrap().clone());
        let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": whole}});
        let call: Call = decode_json(call.to_string().as_bytes()).unwrap();
        self.streams += 1;
        let stream = format!("stream{}", self.streams);
        let (sender, queue) = State::stream(stream.clone());
        self.state.subscribe(self.now, call.subscribe.unwrap(), sender);
        let has_it = |framework: &&crate::framework::Framework| {
            framework.stream.as_ref().is_some_and(|own| own.id == stream)
        };
        let id = self.state.frameworks.values().find(has_it).map(|framework| framework.id().to_owned());
        Scheduler { id: id.unwrap_or_default(), stream, queue }
    }

    fn aware(&mut self) -> Scheduler {
        self.subscribe(json!({"capabilities": [{"type": "PARTITION_AWARE"}]}))
    }

    fn call(&self, call: Value) -> Call {
        decode_json(call.to_string().as_bytes()).unwrap()
    }

    fn accept(&mut self, scheduler: &Scheduler, offers: &[&str], operations: Value) {
        let offers: Vec<_> = offers.iter().map(|offer| json!({"value": offer})).collect();
        let call = self.call(json!({"type": "ACCEPT", "accept": {
            "offer_ids": offers, "operations": operations, "filters": {"refuse_seconds": 0}}}));
        self.state.accept(self.now, &scheduler.id, call.accept.unwrap());
    }

    fn launch(&mut self, scheduler: &Scheduler, offer: &str, tasks: Value) {
        self.accept(scheduler, &[offer], json!([{"type": "LAUNCH", "launch": {"task_infos": tasks}}]));
    }

    fn report(&mut self, scheduler: &Scheduler, task: &str, state: v1::TaskState, uuid: Option<u8>) {
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state.into(),
            uuid: uuid.map(|byte| vec![byte | 0x40; 16]),
            data: Some(b"data".to_vec()),
            timestamp: Some(3.0),
            agent_id: Some(v1::AgentId { value: "agent".to_owned() }),
            ..v1::TaskStatus::default()
        };
        let framework = scheduler.id.clone();
        let update = StatusUpdate { framework, executor: None, status, latest_state: state };
        self.state.update(self.now, update);
    }

    fn acknowledge(&mut self, scheduler: &Scheduler, task: &str, uuid: u8) {
        let acknowledge = berth_proto::scheduler::call::Acknowledge {
            agent_id: v1::AgentId { value: "agent".to_owned() },
            task_id: v1::TaskId { value: task.to_owned() },
            uuid: vec![uuid | 0x40; 16],
        };
        self.state.acknowledge(&scheduler.id, acknowledge);
    }

    fn orders(&mut self) -> Vec<Order> {
        let mut all = std::mem::take(&mut self.state.orders);
        all.retain(|order| !matches!(order, Order::UpdateFramework(_)));
        all
    }

    fn decline(&mut self, scheduler: &Scheduler, offer: &str, seconds: Option<f64>) {
        let filters = v1::Filters { refuse_seconds: seconds };
        let offers = [v1::OfferId { value: offer.to_owned() }];
        self.state.decline(self.now, &scheduler.id, &offers, Some(&filters));
    }
}

fn amount(name: &str, value: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}})
}

fn task(id: &str, cpus: f64, more: Value) -> Value {
    let mut task = json!({"name": id, "task_id": {"value": id}, "agent_id": {"value": "agent"},
        "resources": [amount("cpus", cpus), amount("mem", 32.0)], "command": {"value": "true"}});
    task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    task
}

#[test]
fn who_subscribes_is_told_its_id_and_offered_all_there_is() {
    let mut ground = Ground::new();
    let mut scheduler = ground.subscribe(json!({}));
    let events = scheduler.events();
    assert_eq!(events[0]["subscribed"]["framework_id"]["value"], "M-0000");
    assert_eq!(events[0]["subscribed"]["heartbeat_interval_seconds"], 15.0);
    assert_eq!(events[1]["type"], "HEARTBEAT");
    let offer = &events[2]["offers"]["offers"][0];
    assert_eq!((&offer["id"]["value"], &offer["agent_id"]["value"]), (&json!("M-O0"), &json!("agent")));
    let names: Vec<_> = offer["resources"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["ports", "cpus", "mem", "disk"]);
    assert_eq!(offer["resources"][0]["role"], "*");
    assert!(offer.get("allocation_info").is_none(), "it knows of no roles");
    let mut second = ground.subscribe(json!({}));
    assert_eq!(second.kinds(), ["SUBSCRIBED", "HEARTBEAT"], "nothing is left");
}

#[test]
fn a_framework_with_roles_and_refinement_is_told_of_both() {
    let mut ground = Ground::new();
    let capabilities = json!([{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}]);
    let mut scheduler = ground.subscribe(json!({"roles": ["dev"], "capabilities": capabilities}));
    let events = scheduler.events();
    let offer = &events[2]["offers"]["offers"][0];
    assert_eq!(offer["allocation_info"]["role"], "dev");
    assert_eq!(offer["resources"][1]["allocation_info"]["role"], "dev");
    let mut none = ground.subscribe(json!({"capabilities": capabilities}));
    assert_eq!(none.kinds(), ["SUBSCRIBED", "HEARTBEAT"]);
}

#[test]
fn a_refusal_is_one_event_and_the_end() {
    let mut ground = Ground::new();
    let mut refused = ground.subscribe(json!({"roles": ["a"]}));
    let events = refused.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "ERROR");
    assert_eq!(refused.queue.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    assert!(ground.state.frameworks.is_empty());
}

#[test]
fn a_launched_task_takes_its_part_and_the_rest_is_offered_again() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    ground.launch(&scheduler, &offer, json!([task("a", 1.0, json!({})), task("b", 1.5, json!({}))]));
    let runs = ground.orders();
    let [Order::Run(a), Order::Run(b)] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!((&*a.tasks[0].task_id.value, &*b.tasks[0].task_id.value), ("a", "b"));
    assert!(a.launch_executor && a.executor.is_none() && !a.group);
    assert_eq!(a.framework.id.as_ref().unwrap().value, scheduler.id);
    assert_eq!(a.tasks[0].resources[0].allocation_info.as_ref().unwrap().role(), "*");
    assert_eq!(scheduler.kinds(), Vec::<String>::new(), "a right task is not reported by the master");
    ground.pass(1);
    let events = scheduler.events();
    let cpus = &events[0]["offers"]["offers"][0]["resources"][1];
    assert_eq!((&cpus["name"], &cpus["scalar"]["value"]), (&json!("cpus"), &json!(1.5)));
}

#[test]
fn a_wrong_task_does_not_stop_the_next() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    let tasks = json!([
        task("", 1.0, json!({})),
        task("big", 5.0, json!({})),
        task("ok", 1.0, json!({})),
        task("ok", 1.0, json!({})),
        task("elsewhere", 1.0, json!({"agent_id": {"value": "x"}})),
        task("nothing", 1.0, json!({"command": null})),
    ]);
    ground.launch(&scheduler, &offer, tasks);
    let all: Vec<_> = scheduler.reports();
    let messages: Vec<_> = all.iter().map(|(_, message)| &**message).collect();
    assert!(all.iter().all(|(state, _)| state == "TASK_ERROR"));
    assert_eq!(
        messages,
        [
            "ID must not be empty",
            "Total resources cpus(allocated: *):5; mem(allocated: *):32 required by task and its executor is more \
             than available ports(allocated: *):[31000-31009]; cpus(allocated: *):4; mem(allocated: *):1024; \
             disk(allocated: *):100",
            "Task has duplicate ID: ok",
            "Task uses invalid agent x while agent agent is expected",
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ]
    );
    assert_eq!(ground.orders().len(), 1);
}

#[test]
fn offers_that_can_not_be_used_drop_their_tasks_and_are_used_up() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    let launch = json!([{"type": "LAUNCH", "launch": {"task_infos": [task("a", 1.0, json!({}))]}},
        {"type": "RESERVE", "id": {"value": "op"}, "reserve": {"resources": []}}]);
    ground.accept(&scheduler, &[&offer, &offer], launch.clone());
    let events = scheduler.events();
    let status = &events[0]["update"]["status"];
    assert_eq!(
        (&status["state"], &status["reason"]),
        (&json!("TASK_DROPPED"), &json!("REASON_INVALID_OFFERS"))
    );
    let message = format!("Task launched with invalid offers: Duplicate offer {offer} in offer list");
    assert_eq!(status["message"], message);
    let operation = &events[1]["update_operation_status"]["status"];
    assert_eq!(
        (&operation["state"], &operation["operation_id"]["value"]),
        (&json!("OPERATION_ERROR"), &json!("op"))
    );
    ground.accept(&scheduler, &[&offer], launch.clone());
    let (_, message) = scheduler.reports().remove(0);
    assert_eq!(message, format!("Task launched with invalid offers: Offer {offer} is no longer valid"));
    ground.accept(&scheduler, &[], launch);
    assert_eq!(scheduler.reports()[0].1, "Task launched with invalid offers: No offers specified");
    assert!(ground.orders().is_empty());
    ground.pass(1);
    assert_eq!(scheduler.offers().len(), 1, "its resources are free again");
}

#[test]
fn another_frameworks_offer_can_not_be_used_nor_used_up() {
    let mut ground = Ground::new();
    let mut owner = ground.aware();
    let offer = owner.offers().concat();
    let mut thief = ground.subscribe(json!({}));
    thief.events();
    ground.launch(&thief, &offer, json!([task("a", 1.0, json!({}))]));
    let (state, message) = thief.reports().remove(0);
    assert_eq!(state, "TASK_LOST", "it knows no other word");
    assert_eq!(
        message,
        format!(
            "Task launched with invalid offers: Offer {offer} has invalid framework M-0000 while framework \
                 M-0001 is expected"
        )
    );
    ground.launch(&owner, &offer, json!([task("a", 1.0, json!({}))]));
    assert_eq!(ground.orders().len(), 1);
}

#[test]
fn other_operations_are_refused_by_name() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    let reserve =
        json!({"type": "RESERVE", "id": {"value": "op"}, "reserve": {"resources": [amount("cpus", 1.0)]}});
    let silent = json!({"type": "CREATE", "create": {"volumes": [amount("disk", 1.0)]}});
    ground.accept(&scheduler, &[&offer], json!([reserve, silent]));
    let events = scheduler.events();
    assert_eq!(events.len(), 1);
    let status = &events[0]["update_operation_status"]["status"];
    assert_eq!(
        status["message"],
        "RESERVE is not supported; on agent agent at slave(1)@127.0.0.1:5051 (host)"
    );
    assert!(status.get("uuid").is_none());
}

#[test]
fn an_executor_is_paid_for_once_and_given_back_when_it_ends() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let executor = json!({"executor_id": {"value": "e"}, "command": {"value": "run"},
        "resources": [amount("cpus", 0.5), amount("mem", 32.0)]});
    let with = |id: &str| task(id, 1.0, json!({"command": null, "executor": executor}));
    let offer = scheduler.offers().concat();
    ground.launch(&scheduler, &offer, json!([with("a"), with("b")]));
    let runs = ground.orders();
    let [Order::Run(a), Order::Run(b)] = &runs[..] else { panic!("{runs:?}") };
    assert!(a.launch_executor && !b.launch_executor);
    assert_eq!(a.executor.as_ref().unwrap().framework_id.as_ref().unwrap().value, scheduler.id);
    assert_eq!(ground.state.available().cpus(), Some(1.5));
    let other = json!({"executor_id": {"value": "e"}, "command": {"value": "other"},
        "resources": [amount("cpus", 0.5), amount("mem", 32.0)]});
    ground.pass(1);
    let offer = scheduler.offers().concat();
    ground.launch(&scheduler, &offer, json!([task("c", 1.0, json!({"command": null, "executor": other}))]));
    let (_, message) = scheduler.reports().remove(0);
    assert!(message.starts_with("ExecutorInfo is not compatible with existing ExecutorInfo"), "{message}");
    let dashes = "-".repeat(60);
    assert!(
        message.contains(&format!("{dashes}\nExisting ExecutorInfo:\nexecutor_id {{\n  value: \"e\"\n}}\n"))
    );
    assert!(message.ends_with(&format!("\n{dashes}\n")), "{message}");
    let id = scheduler.id.clone();
    ground.state.executor_exited(ground.now, &id, "e", 1792);
    let events = scheduler.events();
    assert_eq!(
        events[0]["failure"],
        json!({"agent_id": {"value": "agent"}, "executor_id": {"value": "e"}, "status": 1792})
    );
    ground.report(&scheduler, "a", v1::TaskState::TaskFailed, Some(1));
    ground.report(&scheduler, "b", v1::TaskState::TaskFailed, Some(2));
    ground.pass(1);
    assert_eq!(ground.state.offers.values().next().unwrap().resources.cpus(), Some(4.0));
}

fn default_executor(framework: &str) -> Value {
    json!({"type": "DEFAULT", "executor_id": {"value": "e"}, "framework_id": {"value": framework},
        "resources": [amount("cpus", 0.1), amount("mem", 32.0), amount("disk", 1.0)]})
}

fn group(executor: &Value, tasks: Value) -> Value {
    json!([{"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": {"tasks": tasks}}}])
}

#[test]
fn a_group_goes_to_its_executor_together() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    let tasks = json!([task("a", 0.1, json!({})), task("b", 0.1, json!({}))]);
    ground.accept(&scheduler, &[&offer], group(&default_executor("M-0000"), tasks));
    let runs = ground.orders();
    let [Order::Run(run)] = &runs[..] else { panic!("{runs:?}") };
    assert!(run.group && run.launch_executor);
    assert_eq!(run.tasks.len(), 2);
    assert_eq!(run.tasks[0].executor, run.executor);
    assert!(scheduler.events().is_empty());
}

#[test]
fn a_group_is_launched_whole_or_not_at_all() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let mut offer = scheduler.offers().concat();
    let executor = default_executor("M-0000");
    let without = |field: &str| {
        let mut one = executor.clone();
        one.as_object_mut().unwrap().remove(field);
        one
    };
    let unmixed = json!({"type": "MESOS", "linux_info": {"share_cgroups": false}});
    let ok = task("a", 0.1, json!({}));
    let cases = [
        (group(&without("framework_id"), json!([ok])), "'ExecutorInfo.framework_id' must be set"),
        (group(&without("type"), json!([ok])), "'ExecutorInfo.type' must be set"),
        (
            group(&executor, json!([ok, task("b", 0.1, json!({"resources": []}))])),
            "Task 'b' is invalid: Task uses no resources",
        ),
        (group(&executor, json!([ok, ok])), "Task 'a' is invalid: Task has duplicate ID: a"),
        (
            group(&executor, json!([task("a", 0.1, json!({"limits": {"cpus": {"value": 1}}}))])),
            "Task 'a' is invalid: Resource limits may only be set for tasks within a task group when the \
             'share_cgroups' field is set to 'false'.",
        ),
        (
            group(&executor, json!([ok, task("b", 0.1, json!({"container": unmixed}))])),
            "If set, the value of 'share_cgroups' must be the same for all tasks in each task group and under a \
             single executor",
        ),
        (
            group(&executor, json!([task("a", 9.0, json!({}))])),
            "Total resources cpus(allocated: *):9.1; mem(allocated: *):64; disk(allocated: *):1 required by task \
             group and its executor are more than available ports(allocated: *):[31000-31009]; \
             cpus(allocated: *):4; mem(allocated: *):1024; disk(allocated: *):100",
        ),
    ];
    for (operations, expected) in cases {
        ground.accept(&scheduler, &[&offer], operations);
        let reports = scheduler.reports();
        assert!(!reports.is_empty() && reports.iter().all(|(_, message)| message == expected), "{reports:?}");
        ground.state.allocate(ground.now);
        offer = scheduler.offers().concat();
    }
    assert!(ground.orders().is_empty());
}

#[test]
fn a_report_is_forwarded_until_it_is_acknowledged_and_then_the_task_is_over() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    ground.launch(&scheduler, &offer, json!([task("a", 1.0, json!({}))]));
    ground.orders();
    ground.acknowledge(&scheduler, "a", 1);
    assert!(ground.orders().is_empty(), "nothing was reported yet");
    ground.report(&scheduler, "a", v1::TaskState::TaskRunning, Some(1));
    ground.report(&scheduler, "a", v1::TaskState::TaskRunning, Some(2));
    let events = scheduler.events();
    assert_eq!((events.len(), &events[0]["update"]["status"]["data"]), (2, &json!("ZGF0YQ==")));
    let kept = &ground.state.frameworks[&scheduler.id].tasks["a"].statuses;
    assert_eq!((kept.len(), kept[0].data.as_ref(), kept[0].uuid.as_ref().unwrap()[0]), (1, None, 0x42));
    ground.report(&scheduler, "a", v1::TaskState::TaskFinished, Some(3));
    assert_eq!(ground.state.available().cpus(), Some(4.0), "before it is acknowledged");
    ground.acknowledge(&scheduler, "a", 2);
    assert!(ground.state.frameworks[&scheduler.id].tasks.contains_key("a"), "that was not the last");
    ground.acknowledge(&scheduler, "a", 3);
    assert!(ground.state.frameworks[&scheduler.id].tasks.is_empty());
    assert_eq!(ground.state.frameworks[&scheduler.id].completed_tasks.len(), 1);
    ground.acknowledge(&scheduler, "a", 3);
    assert_eq!(ground.orders().len(), 3, "the agent knows what to make of repeats");
}

#[test]
fn what_was_refused_is_offered_again_when_the_time_is_over_or_it_is_revived() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    ground.decline(&scheduler, "nope", None);
    ground.decline(&scheduler, &offer, Some(10.0));
    ground.state.allocate(ground.now);
    assert!(scheduler.offers().is_empty());
    ground.pass(11);
    ground.state.allocate(ground.now);
    let offer = scheduler.offers().concat();
    ground.decline(&scheduler, &offer, Some(1e9));
    let id = scheduler.id.clone();
    ground.state.revive(ground.now, &id, &["zzz".to_owned()]);
    assert!(scheduler.offers().is_empty(), "a wrong role makes the call void");
    ground.state.revive(ground.now, &id, &[]);
    let offer = scheduler.offers().concat();
    ground.decline(&scheduler, &offer, Some(0.0));
    ground.state.suppress(&id, &[]);
    ground.state.allocate(ground.now);
    assert!(scheduler.offers().is_empty());
    ground.state.revive(ground.now, &id, &["*".to_owned()]);
    assert_eq!(scheduler.offers().len(), 1);
}

#[test]
fn who_has_the_least_is_offered_first() {
    let mut ground = Ground::new();
    let mut rich = ground.aware();
    let offer = rich.offers().concat();
    let mut poor = ground.aware();
    poor.events();
    ground.launch(&rich, &offer, json!([task("a", 1.0, json!({}))]));
    ground.pass(1);
    assert_eq!((rich.offers().len(), poor.offers().len()), (0, 1));
}

#[test]
fn what_is_reserved_is_offered_to_its_role_alone() {
    let mut ground = Ground::with("cpus:1;mem:64;cpus(dev):2;mem(dev):64");
    let mut other = ground.aware();
    let events = other.events();
    let amounts = |event: &Value| -> Vec<Value> {
        let resources = event["offers"]["offers"][0]["resources"].as_array().unwrap().clone();
        resources.iter().map(|one| one["scalar"]["value"].clone()).collect()
    };
    assert_eq!(amounts(&events[2]), [1.0, 64.0]);
    let mut dev = ground.subscribe(json!({"role": "dev"}));
    let events = dev.events();
    assert_eq!(amounts(&events[2]), [2.0, 64.0]);
    assert_eq!(events[2]["offers"]["offers"][0]["resources"][0]["role"], "dev");
}

#[test]
fn a_scheduler_that_comes_again_takes_over() {
    let mut ground = Ground::new();
    let mut first = ground.subscribe(json!({"failover_timeout": 60}));
    let offer = first.offers().concat();
    let mut second = ground.subscribe(json!({"id": {"value": "M-0000"}, "name": "new", "user": "nobody"}));
    let events = first.events();
    assert_eq!(events.last().unwrap()["error"]["message"], "Framework failed over");
    assert_eq!(first.queue.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    assert_eq!(second.kinds(), ["SUBSCRIBED", "HEARTBEAT"], "offers follow in the next round");
    let info = &ground.state.frameworks["M-0000"].info;
    assert_eq!((&*info.name, &*info.user), ("new", "root"));
    ground.state.gone(ground.now, &first.stream);
    assert!(ground.state.frameworks["M-0000"].stream.is_some(), "the first one's end means nothing");
    assert!(!ground.state.offers.contains_key(&offer));
    ground.state.allocate(ground.now);
    assert_eq!(second.offers().len(), 1);
}

#[test]
fn a_framework_that_stays_away_too_long_is_removed() {
    let mut ground = Ground::new();
    let mut scheduler = ground.subscribe(json!({"failover_timeout": 60}));
    let offer = scheduler.offers().concat();
    ground.launch(&scheduler, &offer, json!([task("a", 1.0, json!({}))]));
    ground.orders();
    ground.state.gone(ground.now, &scheduler.stream);
    ground.pass(59);
    assert!(ground.orders().is_empty());
    ground.pass(1);
    assert_eq!(ground.orders(), [Order::ShutdownFramework("M-0000".to_owned())]);
    let completed = &ground.state.completed[0];
    let status = completed.completed_tasks[0].statuses.last().unwrap();
    assert_eq!(status.message(), "Framework M-0000 removed");
    assert_eq!(
        (status.reason().as_str_name(), status.state().as_str_name()),
        ("REASON_FRAMEWORK_REMOVED", "TASK_KILLED")
    );
    let mut again = ground.subscribe(json!({"id": {"value": "M-0000"}}));
    assert_eq!(again.events()[0]["error"]["message"], "Framework has been removed");
}

#[test]
fn reports_wait_with_the_agent_while_a_scheduler_is_away() {
    let mut ground = Ground::new();
    let mut scheduler = ground.subscribe(json!({"failover_timeout": 60}));
    let offer = scheduler.offers().concat();
    ground.launch(&scheduler, &offer, json!([task("a", 1.0, json!({}))]));
    ground.state.gone(ground.now, &scheduler.stream);
    ground.report(&scheduler, "a", v1::TaskState::TaskRunning, Some(1));
    assert_eq!(ground.state.frameworks["M-0000"].tasks["a"].status_update_uuid, None);
    ground.state.orders.clear();
    let back = ground.subscribe(json!({"id": {"value": "M-0000"}}));
    let Some(Order::UpdateFramework(info)) = ground.state.orders.pop() else { panic!() };
    assert_eq!(info.id.unwrap().value, back.id);
}

#[test]
fn reconciliation_tells_of_what_is_known_and_what_is_not() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    ground.launch(&scheduler, &offer, json!([task("a", 1.0, json!({}))]));
    let asked = |task: &str, agent: Option<&str>| berth_proto::scheduler::call::reconcile::Task {
        task_id: v1::TaskId { value: task.to_owned() },
        agent_id: agent.map(|value| v1::AgentId { value: value.to_owned() }),
    };
    let all = [asked("a", None), asked("x", None), asked("x", Some("agent")), asked("x", Some("other"))];
    let id = scheduler.id.clone();
    ground.state.reconcile(ground.now, &id, &all);
    ground.state.reconcile(ground.now, &id, &[]);
    let events = scheduler.events();
    let status = &events[0]["update"]["status"];
    assert_eq!(
        (&status["source"], &status["reason"]),
        (&json!("SOURCE_MASTER"), &json!("REASON_RECONCILIATION"))
    );
    assert!(status.get("uuid").is_none());
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let status = &event["update"]["status"];
            (
                status["state"].as_str().unwrap(),
                status["message"].as_str().unwrap(),
                status["agent_id"]["value"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("TASK_STAGING", "Reconciliation: Latest task state", Some("agent")),
            ("TASK_UNKNOWN", "Reconciliation: Task is unknown", None),
            ("TASK_GONE", "Reconciliation: Task is unknown to the agent", Some("agent")),
            ("TASK_UNKNOWN", "Reconciliation: Task is unknown", Some("other")),
            ("TASK_STAGING", "Reconciliation: Latest task state", Some("agent")),
        ]
    );
    let mut old = ground.subscribe(json!({}));
    old.events();
    let id = old.id.clone();
    ground.state.reconcile(ground.now, &id, &[asked("x", Some("agent"))]);
    assert_eq!(old.reports()[0].0, "TASK_LOST");
}

#[test]
fn a_kill_goes_to_the_tasks_agent_and_of_an_unknown_task_to_its_reconciliation() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    ground.launch(&scheduler, &offer, json!([task("a", 1.0, json!({}))]));
    ground.orders();
    let kill = |task: &str, agent: Option<&str>| berth_proto::scheduler::call::Kill {
        task_id: v1::TaskId { value: task.to_owned() },
        agent_id: agent.map(|value| v1::AgentId { value: value.to_owned() }),
        kill_policy: None,
    };
    let id = scheduler.id.clone();
    ground.state.kill(ground.now, &id, kill("a", Some("other")));
    ground.state.kill(ground.now, &id, kill("x", Some("agent")));
    assert!(ground.orders().is_empty());
    assert_eq!(scheduler.reports()[0].0, "TASK_GONE");
    ground.state.kill(ground.now, &id, kill("a", None));
    let policy = None;
    assert_eq!(ground.orders(), [Order::Kill { framework: id, task: "a".to_owned(), policy }]);
}

#[test]
fn a_teardown_ends_the_stream_without_a_word() {
    let mut ground = Ground::new();
    let mut scheduler = ground.aware();
    scheduler.events();
    let id = scheduler.id.clone();
    assert!(ground.state.remove(ground.now, &id));
    assert!(!ground.state.remove(ground.now, &id));
    assert_eq!(scheduler.queue.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    assert_eq!(ground.orders(), [Order::ShutdownFramework(id)]);
    assert!(ground.state.offers.is_empty());
}

#[test]
fn offers_that_nobody_answers_are_rescinded_in_time() {
    let mut ground = Ground::new();
    ground.state.rules.offer_timeout = Some(Duration::from_secs(5));
    let mut scheduler = ground.aware();
    let offer = scheduler.offers().concat();
    assert_eq!(ground.state.deadline(), Some(ground.now.at + Duration::from_secs(5)));
    ground.pass(5);
    let events = scheduler.events();
    assert_eq!(events[0]["rescind"]["offer_id"]["value"], offer);
    assert_eq!(events[1]["type"], "OFFERS");
}

#[test]
fn a_scheduler_that_does_not_read_is_cut_off() {
    let mut ground = Ground::new();
    let mut scheduler = ground.subscribe(json!({"failover_timeout": 60}));
    let id = scheduler.id.clone();
    for _ in 0..20_000 {
        ground.state.executor_message(&id, "e", Vec::new());
    }
    ground.state.cut_off(ground.now);
    let framework = &ground.state.frameworks[&id];
    assert!(framework.stream.is_none() && framework.remove_at.is_some());
    assert!(scheduler.events().len() <= 16 * 1024);
}

#[test]
fn what_the_agent_held_is_charged_and_its_frameworks_have_to_come_back() {
    let mut ground = Ground::new();
    let mut before = Ground::new();
    let mut scheduler = before.aware();
    let offer = scheduler.offers().concat();
    before.launch(&scheduler, &offer, json!([task("a", 1.0, json!({}))]));
    let framework = &before.state.frameworks[&scheduler.id];
    let held = Held {
        frameworks: vec![framework.info.clone()],
        tasks: framework.tasks.values().cloned().collect(),
        ..Held::default()
    };
    ground.state.adopt(ground.now, held);
    assert_eq!(ground.state.available().cpus(), Some(3.0));
    assert!(ground.state.frameworks[&scheduler.id].recovered);
    let mut back = ground.subscribe(json!({"id": {"value": scheduler.id}}));
    assert_eq!(back.kinds(), ["SUBSCRIBED", "HEARTBEAT", "OFFERS"]);
    ground.pass(100);
    assert!(ground.state.frameworks.contains_key(&scheduler.id), "it came back");
}

#[test]
fn a_framework_of_the_master_before_that_does_not_come_back_is_removed() {
    let mut ground = Ground::new();
    let info = v1::FrameworkInfo {
        id: Some(v1::FrameworkId { value: "old".to_owned() }),
        ..v1::FrameworkInfo::default()
    };
    ground.state.adopt(ground.now, Held { frameworks: vec![info], ..Held::default() });
    ground.pass(59);
    assert!(ground.orders().is_empty());
    ground.pass(1);
    assert_eq!(ground.orders(), [Order::ShutdownFramework("old".to_owned())]);
}
