// SPDX-License-Identifier: Apache-2.0
//! Executors of frameworks over HTTP. The container of one waits; the test speaks for it, over the agent's socket.

use base64::Engine as _;
use berth_proto::v1::{self, TaskState};
use berth_tasks::link::Run;
use serde_json::{Value, json};

use crate::client::{self, Answer, Records};
use crate::ground::{Ground, on};
use crate::tasks::Told;

pub(crate) const PATH: &str = "/slave(1)/api/v1/executor";

fn run(tasks: &[&str], launch_executor: bool) -> Run {
    run_as("e", "sleep 1000", tasks, launch_executor)
}

/// Tasks for an executor that is started by a command.
pub(crate) fn run_as(executor: &str, command: &str, tasks: &[&str], launch_executor: bool) -> Run {
    let executor = v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: executor.to_owned() },
        command: Some(v1::CommandInfo { value: Some(command.to_owned()), ..Default::default() }),
        ..Default::default()
    };
    let task = |id: &&str| v1::TaskInfo {
        name: (*id).to_owned(),
        task_id: v1::TaskId { value: (*id).to_owned() },
        resources: vec![v1::Resource {
            name: "mem".to_owned(),
            scalar: Some(v1::value::Scalar { value: 32.0 }),
            ..Default::default()
        }],
        ..Default::default()
    };
    let id = Some(v1::FrameworkId { value: "f".to_owned() });
    Run {
        framework: v1::FrameworkInfo { user: "root".to_owned(), id, ..Default::default() },
        executor: Some(executor),
        tasks: tasks.iter().map(task).collect(),
        group: false,
        launch_executor,
    }
}

pub(crate) fn call(kind: &str, more: Value) -> Value {
    let mut call = json!({ "type": kind, "executor_id": { "value": "e" }, "framework_id": { "value": "f" } });
    call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call
}

fn uuid(number: u8) -> String {
    let bytes = [number, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn update(task: &str, state: &str, number: u8) -> Value {
    json!({ "status": {
        "task_id": { "value": task }, "state": state, "source": "SOURCE_EXECUTOR", "uuid": uuid(number),
    } })
}

fn post(ground: &Ground, call: &Value) -> Answer {
    let pending = client::request(&ground.socket(), "POST", PATH, "application/json", &call.to_string());
    pending.unwrap().answer().unwrap()
}

/// Subscribes once the agent knows the executor.
fn subscribe(ground: &Ground, subscribe: Value) -> Records {
    let call = call("SUBSCRIBE", json!({ "subscribe": subscribe })).to_string();
    let deadline = std::time::Instant::now() + client::PATIENCE;
    loop {
        match client::records(&ground.socket(), PATH, "application/json", &call) {
            Ok(records) => return records,
            Err(answer) => {
                assert_eq!(answer.status, 400, "{}", answer.text);
                assert!(std::time::Instant::now() < deadline, "{}", answer.text);
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn an_executor_over_http_gets_tasks_reports_and_outlives_the_agent() {
    on("fwhttp", |ground| {
        ground.start();
        let told = Told::of(ground);
        told.give(run(&["one"], true));
        let mut events = subscribe(ground, json!({}));
        let subscribed = events.of("SUBSCRIBED");
        assert_eq!(subscribed["subscribed"]["executor_info"]["executor_id"]["value"], "e");
        let container = subscribed["subscribed"]["container_id"]["value"].clone();
        assert_eq!(events.of("LAUNCH")["launch"]["task"]["task_id"]["value"], "one");
        let running = call("UPDATE", json!({ "update": update("one", "TASK_RUNNING", 1) }));
        assert_eq!(post(ground, &running).says(), (202, ""));
        assert_eq!(events.of("ACKNOWLEDGED")["acknowledged"]["uuid"], json!(uuid(1)));
        let status = told.next();
        assert_eq!(status.state(), TaskState::TaskRunning);
        assert_eq!(json!(status.container_status.unwrap().container_id.unwrap().value), container);

        // The agent goes; what was said meanwhile comes with the next subscription.
        ground.stop();
        ground.start();
        let told = Told::of(ground);
        let mut events = subscribe(
            ground,
            json!({
                "unacknowledged_tasks": [],
                "unacknowledged_updates": [update("one", "TASK_FINISHED", 2)],
            }),
        );
        events.of("SUBSCRIBED");
        assert_eq!(told.next().state(), TaskState::TaskFinished);
        // It is the same executor, in the same container, and takes more.
        told.give(run(&["two"], false));
        assert_eq!(events.of("LAUNCH")["launch"]["task"]["task_id"]["value"], "two");
        // It dies: its task goes with it.
        let id = container.as_str().unwrap();
        assert_eq!(ground.kill(id).status, 200);
        let lost = told.next();
        assert_eq!((lost.state(), lost.message()), (TaskState::TaskFailed, "Executor terminated"));
        assert!(events.next().is_none(), "and its stream ends");
    });
}

#[test]
fn what_an_executor_may_not_say_is_refused_in_the_words_of_mesos() {
    on("fwrefuse", |ground| {
        ground.start();
        let told = Told::of(ground);
        let message = call("MESSAGE", json!({ "message": { "data": "aGk=" } }));
        assert_eq!(post(ground, &message).says(), (400, "Framework cannot be found"));
        told.give(run(&["one"], true));
        let deadline = std::time::Instant::now() + client::PATIENCE;
        while post(ground, &message).status == 400 {
            assert!(std::time::Instant::now() < deadline);
        }
        assert_eq!(post(ground, &message).says(), (403, "Executor is not subscribed"));
        let mut other = message.clone();
        other["executor_id"]["value"] = json!("x");
        assert_eq!(post(ground, &other).says(), (400, "Executor cannot be found"));
        let text = "Failed to validate Executor::Call: Expecting 'type' to be present";
        let mut typeless = message.clone();
        typeless.as_object_mut().unwrap().remove("type");
        assert_eq!(post(ground, &typeless).says(), (400, text));
        assert_eq!(post(ground, &call("HEARTBEAT", json!({}))).says(), (202, ""));
        let subscribe = call("SUBSCRIBE", json!({ "subscribe": {} })).to_string();
        let refused = client::request(&ground.socket(), "POST", PATH, "text/plain", &subscribe).unwrap();
        let text = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
        assert_eq!(refused.answer().unwrap().says(), (406, text));
        let got = client::request(&ground.socket(), "GET", PATH, "application/json", "").unwrap();
        assert_eq!(got.answer().unwrap().status, 405);
        told.agent.kill("f", "one", None);
        assert_eq!(told.next().message(), "Killed before delivery to the executor");
    });
}
