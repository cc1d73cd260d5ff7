// SPDX-License-Identifier: Apache-2.0
//! What an unmodified Mesos agent was asked while a task ran (`recorded/agent-api-task.jsonl`), asked again of ours with
//! the same task: the same status and headers, the same bodies value by value, with ids, moments and processes bound to
//! ours. Where we differ on purpose, `recorded/differences-task.txt` says so; what is not listed there fails, and so does
//! what is listed and not seen.

use std::net::TcpListener;
use std::process::{Child, Stdio};

use berth_test_agent::{Ground, skip};
use berth_test_api::bind::{Bindings, Rules};
use berth_test_api::{Answer, Chosen, Client, Request, unbase64};
use berth_testing::until;
use serde_json::{Value, json};

use crate::leave_tasks;
use crate::replay::{heads, request_in, shown};

const RECORDED: &str = include_str!("../../recorded/agent-api-task.jsonl");
const DIFFERENCES: &str = include_str!("../../recorded/differences-task.txt");

const RULES: Rules<'static> = Rules {
    // A uuid, a moment of an update, a process: the same in all answers that tell of it.
    binds: &["uuid", "status_update_uuid", "executor_pid", "timestamp", "hostname"],
    is_id: |_| false,
    measured: &[
        "build_date",
        "build_time",
        "build_user",
        "git_sha",
        "version",
        "start_time",
        "flags",
        "mtime",
        "nanoseconds",
        "cpus_user_time_secs",
        "cpus_system_time_secs",
        "mem_total_bytes",
        "mem_kmem_usage_bytes",
        "mem_kmem_tcp_usage_bytes",
        "mem_file_bytes",
        "mem_anon_bytes",
        "mem_cache_bytes",
        "mem_rss_bytes",
        "mem_mapped_file_bytes",
        "mem_swap_bytes",
        "mem_unevictable_bytes",
        "mem_low_pressure_counter",
        "mem_medium_pressure_counter",
        "mem_critical_pressure_counter",
    ],
    unordered: &["resources", "containers", "capabilities"],
};

/// The ids of the recording.
const FRAMEWORK: &str = "f03a640e-de1f-4919-a07f-c94f3cc4db0b-0000";
const AGENT: &str = "20e13458-889f-47d7-a155-a6e215a79031-S3";
const CONTAINER: &str = "d3aa0b5f-45d8-412d-b570-947133dcd1d0";

/// The recorded task, at the moment of the recording: it said `tick` six times, and goes on.
const TICKS: &str = "--command=while true; do echo tick; n=$((n + 1)); [ $n -lt 6 ] || exec sleep 1000; done";

/// An agent with that task, and the command that waits for its end.
struct Task {
    ground: Ground,
    execute: Child,
    bindings: Bindings<'static>,
}

impl Task {
    fn start(test: &str) -> Option<Task> {
        let mut ground = match Ground::new("api-task") {
            Ok(ground) => ground,
            Err(lacked) => {
                skip(test, &lacked);
                return None;
            }
        };
        let [master, port] = [free_port(), free_port()];
        let mut agent = ground.agent();
        agent.args(["--ip=127.0.0.1", "--no-authenticate_http_readwrite"]);
        agent.arg(format!("--port={port}")).arg(format!("--local_master=127.0.0.1:{master}"));
        agent.arg("--resources=cpus:64;mem:65536;disk:10240;ports:[31000-32000]");
        ground.start_as(&mut agent);
        let mut execute = ground.command(["execute"]);
        execute.args(["--name=ticker", TICKS]);
        execute.arg(format!("--master=127.0.0.1:{master}")).arg("--resources=cpus:0.2;mem:64");
        let execute = execute.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut bindings = Bindings::new(RULES);
        let mut running = Value::Null;
        until("the task runs", || {
            let tasks =
                &ask(&ground, &json!({"type": "GET_STATE"}))["get_state"]["get_tasks"]["launched_tasks"];
            running = tasks[0].clone();
            running["status_update_state"] == "TASK_RUNNING"
        });
        let text = |value: &Value| value["value"].as_str().unwrap().to_owned();
        let status = &running["statuses"][0];
        bindings.bind(FRAMEWORK, &text(&running["framework_id"]));
        bindings.bind(AGENT, &text(&running["agent_id"]));
        bindings.bind(CONTAINER, &text(&status["container_status"]["container_id"]));
        bindings.bind("/var/lib/mesos", &ground.work_dir().display().to_string());
        bindings.bind("slave(1)@127.0.0.1:15051", &format!("slave(1)@127.0.0.1:{port}"));
        let task = Task { ground, execute, bindings };
        task.tick();
        Some(task)
    }

    /// The path of the sandbox in this run.
    fn stdout(&self) -> String {
        let of =
            format!("/var/lib/mesos/slaves/{AGENT}/frameworks/{FRAMEWORK}/executors/ticker/runs/{CONTAINER}");
        format!("{}/stdout", self.bindings.ours(&of))
    }

    /// A recorded request, in the ids of this run.
    fn request(&self, recorded: &Value) -> Request {
        request_in(recorded, &|text| reframed(&self.bindings.ours(text)))
    }

    /// The moment of the recording: the task said `tick` six times.
    fn tick(&self) {
        let call = json!({"type": "READ_FILE", "read_file": {"path": self.stdout(), "offset": 0}});
        until("the task ticks", || self.call(&call)["read_file"]["size"] == 30);
    }

    fn differences(&mut self, answer: &Answer, recorded: &Value) -> Vec<String> {
        let mut found = heads(answer, recorded);
        let theirs = recorded["body"].as_str().unwrap();
        let ours = answer.text();
        if found.iter().any(|difference| difference.starts_with("status")) || ours == theirs {
            return found;
        }
        let json = |text: &str| serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_number());
        match (json(&ours), json(theirs)) {
            (Some(ours), Some(theirs)) => found.extend(self.bindings.differences(&ours, &theirs)),
            _ if ours == self.bindings.ours(theirs) => {}
            _ => found.push(format!("text: {}", shown(&self.bindings.theirs(&ours)))),
        }
        found
    }
}

#[test]
fn a_recorded_agent_with_a_task_is_answered_alike() {
    let Some(mut task) = Task::start("a_recorded_agent_with_a_task_is_answered_alike") else { return };
    let mut chosen = Chosen::read(DIFFERENCES, |_| true);
    let mut wrong = Vec::new();
    let lines: Vec<Value> = RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 22);
    let mut attached = None;
    for line in &lines {
        let name = line["name"].as_str().unwrap();
        println!("{name}");
        let answer = match name {
            // It was attached to before anything was typed, and told of after.
            "attach_input_tty" => {
                let output = lines.iter().find(|line| line["name"] == "attach_output_tty").unwrap();
                let (answer, output) = task.converse(&line["request"], &output["request"]);
                attached = Some(output);
                answer
            }
            "attach_output_tty" => attached.take().unwrap(),
            _ => task.ask(line),
        };
        let mut recorded = line["response"].clone();
        if name == "attach_output_tty" {
            recorded["body"] =
                json!(records(recorded["body"].as_str().unwrap()).map(spoken).collect::<String>());
        }
        for difference in task.differences(&answer, &recorded) {
            if !chosen.has(name, &difference) {
                wrong.push(format!("{name} | {difference}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not listed in differences-task.txt:\n{}", wrong.join("\n"));
    let unseen = chosen.unseen();
    assert!(unseen.is_empty(), "listed in differences-task.txt, and not there:\n{}", unseen.join("\n"));
    let Task { mut ground, mut execute, .. } = task;
    execute.kill().unwrap();
    execute.wait().unwrap();
    leave_tasks(&mut ground);
}

impl Task {
    /// Starts the container with a terminal, attaches to its output, and types what was typed: the answer to that, and
    /// all of the output.
    fn converse(&self, input: &Value, output: &Value) -> (Answer, Answer) {
        let gate = self.ground.work_dir().with_file_name("gate");
        let script =
            format!("until [ -e {} ]; do sleep 0.05; done; tty; stty size; exec cat", gate.display());
        let id = json!({"value": "x2", "parent": {"value": self.bindings.ours(CONTAINER)}});
        let container = json!({"type": "MESOS", "tty_info": {}});
        let launch = json!({"container_id": id, "command": {"value": script}, "container": container});
        self.call(&json!({"type": "LAUNCH_CONTAINER", "launch_container": launch}));
        let mut reader = Client::to(&self.ground.socket()).unwrap();
        reader.send(&self.request(output).bytes()).unwrap();
        let head = reader.head().unwrap();
        std::fs::write(&gate, "").unwrap();
        let (mut pending, mut text, mut typed) = (Vec::new(), String::new(), None);
        while let Some(record) = reader.record(&mut pending).unwrap() {
            text += &spoken(&String::from_utf8(record).unwrap());
            if typed.is_none() && text.ends_with("0 0\r\n") {
                typed = Some(Client::ask(&self.ground.socket(), &self.request(input)).unwrap());
            }
        }
        let typed = typed.unwrap_or_else(|| panic!("the terminal says no size but {text:?}"));
        (typed, Answer { head, body: text.into_bytes() })
    }

    /// An answer; of one that goes on where the recorded one was refused, its head.
    fn ask(&self, line: &Value) -> Answer {
        let mut client = Client::to(&self.ground.socket()).unwrap();
        client.send(&self.request(&line["request"]).bytes()).unwrap();
        let head = client.head().unwrap();
        if u64::from(head.status) != line["response"]["status"].as_u64().unwrap() {
            return Answer { head, body: Vec::new() };
        }
        let body = client.body(&head).unwrap();
        Answer { head, body }
    }

    fn call(&self, call: &Value) -> Value {
        ask(&self.ground, call)
    }
}

fn ask(ground: &Ground, call: &Value) -> Value {
    let request = Request::call().with("Content-Type", "application/json").body(call.to_string());
    let (status, text) = Client::ask(&ground.socket(), &request).unwrap().says();
    assert_eq!(status, 200, "{call}: {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

/// The records of a body.
fn records(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (length, rest) = text.split_once('\n')?;
        let (record, rest) = rest.split_at(length.parse().unwrap());
        text = rest;
        Some(record)
    })
}

/// A body whose records have other ids, and with them other lengths.
fn reframed(text: &str) -> String {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return text.to_owned();
    }
    let lines = text.split_inclusive('\n').skip(1);
    let record =
        |line: &str| line.trim_end_matches(|last: char| last.is_ascii_digit() || last == '\n').to_owned();
    lines.map(record).map(|record| format!("{}\n{record}", record.len())).collect()
}

/// What a record of output says.
fn spoken(record: &str) -> String {
    let record: Value = serde_json::from_str(record).unwrap();
    String::from_utf8(unbase64(record["data"]["data"].as_str().unwrap())).unwrap()
}

/// A port that nobody had a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
