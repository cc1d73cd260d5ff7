// SPDX-License-Identifier: Apache-2.0
//! What an unmodified Mesos master was asked and what it answered (`recorded/scheduler-api.jsonl`), asked again of ours:
//! the order of checks and their words, refusals of frameworks, tasks, groups and operations. Where we differ on purpose
//! [`DIFFERENCES`] says so, with the reason; a difference that is not listed fails the test, and so does one that is
//! listed and not there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Node;

pub(crate) const RECORDED: &str = include_str!("../../recorded/scheduler-api.jsonl");

/// Lines by their name, what we answer instead, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "operation_reserve.events",
        "RESERVE is not supported; on agent",
        "reservations are of a cluster: one node refuses all of them by name",
    ),
    (
        "operation_create_disk.events",
        "CREATE_DISK is not supported; on agent",
        "there are no resource providers: all such operations are refused by name",
    ),
];

/// How long an answer may take on a busy host.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn lines() -> Vec<Value> {
    RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn line<'a>(all: &'a [Value], name: &str) -> &'a Value {
    all.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no line {name}"))
}

/// An answer: its head, and what it is read from further.
pub(crate) struct Answer {
    pub(crate) status: u64,
    reason: String,
    pub(crate) headers: BTreeMap<String, String>,
    reader: BufReader<TcpStream>,
}

impl Answer {
    pub(crate) fn to(address: &str, request: &Value) -> Answer {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let text = |name: &str| request[name].as_str().unwrap_or_default();
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\n", text("method"), text("path"));
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap()));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n{}", text("body").len(), text("body")));
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first).unwrap();
        let mut words = first.trim_end().splitn(3, ' ').skip(1);
        let status = words.next().unwrap().parse().unwrap();
        let reason = words.next().unwrap().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        Answer { status, reason, headers, reader }
    }

    pub(crate) fn body(&mut self) -> String {
        let length = self.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// The next event as JSON. None at the end of the body.
    fn event(&mut self) -> Option<Value> {
        self.record().map(|record| serde_json::from_slice(&record).unwrap())
    }

    /// The next event: one chunk, which holds one record. None at the end of the body.
    pub(crate) fn record(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut bytes = vec![0; size + 2];
        self.reader.read_exact(&mut bytes).unwrap();
        if size == 0 {
            return None;
        }
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let record = bytes[at + 1..size].to_vec();
        assert_eq!(record.len().to_string().as_bytes(), &bytes[..at], "an event is one chunk");
        Some(record)
    }
}

/// What differs of a head and a body that is whole.
fn differences(answer: &mut Answer, recorded: &Value) -> Vec<String> {
    let mut found = heads(answer, recorded);
    if let Some(theirs) = recorded["body"].as_str() {
        let ours = answer.body();
        if ours != theirs {
            found.push(format!("text {ours:?}, not {theirs:?}"));
        }
    }
    found
}

/// What differs of a head.
pub(crate) fn heads(answer: &Answer, recorded: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if (answer.status, &*answer.reason)
        != (recorded["status"].as_u64().unwrap(), recorded["reason"].as_str().unwrap())
    {
        found.push(format!("status {} {}", answer.status, answer.reason));
    }
    for name in ["Content-Type", "Allow", "Transfer-Encoding"] {
        let theirs = recorded["headers"][name].as_str();
        let ours = answer.headers.get(&name.to_lowercase()).map(String::as_str);
        if ours != theirs {
            found.push(format!("{name}: {ours:?}, not {theirs:?}"));
        }
    }
    found
}

#[test]
fn requests_are_checked_in_the_order_and_words_of_mesos() {
    let Some(node) = Node::new("requests_are_checked_in_the_order_and_words_of_mesos") else { return };
    let all = lines();
    let before = all.iter().position(|line| line["name"] == "subscribe").unwrap();
    let mut wrong = Vec::new();
    for (at, recorded) in all[..before].iter().enumerate() {
        if recorded["stream"].is_string() {
            continue;
        }
        let name = recorded["name"].as_str().unwrap();
        let mut answer = Answer::to(&node.master, &recorded["request"]);
        let mut found = differences(&mut answer, &recorded["response"]);
        let follows = &all[at + 1];
        if follows["stream"] == *name {
            let theirs: Vec<&Value> =
                follows["events"].as_array().unwrap().iter().map(|one| &one["event"]).collect();
            let ours: Vec<Value> = std::iter::from_fn(|| answer.event()).collect();
            if ours.iter().collect::<Vec<_>>() != theirs {
                found.push(format!("events {ours:?}, not {theirs:?}"));
            }
        }
        wrong.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    node.leave();
}

/// A scheduler that says what was recorded, in its own ids.
struct Scheduler {
    master: String,
    stream: String,
    /// Recorded texts and ours.
    ids: Vec<(String, String)>,
    events: Answer,
    /// Of which reconciliation, or nothing, tells.
    offers: Vec<String>,
}

impl Scheduler {
    fn subscribe(node: &Node, info: &Value, recorded_framework: &str) -> Scheduler {
        let body = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}).to_string();
        let headers = json!({"Content-Type": "application/json", "Accept": "application/json"});
        let request =
            json!({"method": "POST", "path": "/api/v1/scheduler", "headers": headers, "body": body});
        let mut events = Answer::to(&node.master, &request);
        assert_eq!(events.status, 200);
        let stream = events.headers["mesos-stream-id"].clone();
        let subscribed = events.event().unwrap();
        let framework = subscribed["subscribed"]["framework_id"]["value"].as_str().unwrap().to_owned();
        assert_eq!(events.event().unwrap()["type"], "HEARTBEAT");
        let (recorded_master, _) = recorded_framework.rsplit_once('-').unwrap();
        let ids = vec![(recorded_framework.to_owned(), framework)];
        let mut scheduler =
            Scheduler { master: node.master.clone(), stream, ids, events, offers: Vec::new() };
        let offers = scheduler.next("OFFERS");
        let agent = offers["offers"]["offers"][0]["agent_id"]["value"].as_str().unwrap().to_owned();
        let pid = format!("slave(1)@127.0.0.1:{}", node.port);
        scheduler.ids.push((format!("{recorded_master}-S0"), agent));
        scheduler.ids.push(("slave(1)@127.0.0.1:15051".to_owned(), pid));
        scheduler
    }

    /// The next event of a kind; offers on the way are kept.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let event = self.events.event().expect("the stream goes on");
            if event["type"] == "OFFERS" {
                let all = event["offers"]["offers"].as_array().unwrap();
                self.offers.extend(all.iter().map(|one| one["id"]["value"].as_str().unwrap().to_owned()));
            }
            if event["type"] == kind {
                return event;
            }
        }
    }

    fn ours(&self, text: &str) -> String {
        self.ids.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    }

    /// Sends a recorded call. An offer that it names is one that we have: the next that comes, if there is none.
    fn call(&mut self, recorded: &Value) {
        let mut request = recorded["request"].clone();
        let mut body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
        if let Some(named) = body["accept"]["offer_ids"].as_array().cloned() {
            let is_real = |one: &&Value| one["value"].as_str().unwrap().contains("-O");
            if let Some(theirs) = named.iter().find(is_real) {
                if self.offers.is_empty() {
                    self.next("OFFERS");
                }
                let ours = self.offers.pop().unwrap();
                self.ids.push((theirs["value"].as_str().unwrap().to_owned(), ours));
            }
            body["accept"]["filters"] = json!({"refuse_seconds": 0});
        }
        request["body"] = json!(self.ours(&body.to_string()));
        request["headers"]["Mesos-Stream-Id"] = json!(self.stream);
        let answer = Answer::to(&self.master, &request);
        assert_eq!(answer.status, 202, "{}", recorded["name"]);
        // Offer ids of one call mean nothing for the next, and one may begin like another.
        let expected = self.ids.clone();
        self.ids.retain(|(theirs, _)| !theirs.rsplit('-').next().unwrap().starts_with('O'));
        self.offers.clear();
        self.ids.extend(
            expected
                .into_iter()
                .filter(|(theirs, _)| theirs.rsplit('-').next().unwrap().starts_with('O'))
                .take(1),
        );
    }

    /// What the master itself said for a recorded line: as many events as were recorded, without times.
    fn told(&mut self, recorded: &Value) -> (Vec<Value>, Vec<Value>) {
        let theirs: Vec<Value> = recorded["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| masters(&one["event"]))
            .map(|event| serde_json::from_str(&self.ours(&event.to_string())).unwrap())
            .collect();
        let mut ours = Vec::new();
        while ours.len() < theirs.len() {
            let event = self.events.event().expect("the stream goes on");
            if event["type"] == "OFFERS" {
                let all = event["offers"]["offers"].as_array().unwrap();
                self.offers.extend(all.iter().map(|one| one["id"]["value"].as_str().unwrap().to_owned()));
            }
            ours.extend(masters(&event));
        }
        self.ids.retain(|(theirs, _)| !theirs.rsplit('-').next().unwrap().starts_with('O'));
        (ours, theirs)
    }
}

/// An event that the master made of itself, without its time.
fn masters(event: &Value) -> Option<Value> {
    let mut event = event.clone();
    match event["type"].as_str()? {
        "UPDATE" if event["update"]["status"]["source"] == "SOURCE_MASTER" => {
            event["update"]["status"].as_object_mut()?.remove("timestamp");
            Some(event)
        }
        "UPDATE_OPERATION_STATUS" | "ERROR" => Some(event),
        _ => None,
    }
}

/// Sends recorded calls one after the other, and compares what the master says to each.
fn replay(scheduler: &mut Scheduler, names: &[&str]) {
    let all = lines();
    let mut wrong = Vec::new();
    for name in names {
        scheduler.call(line(&all, name));
        let of = format!("{name}.events");
        let recorded = line(&all, &of);
        let (ours, theirs) = scheduler.told(recorded);
        let chosen = DIFFERENCES.iter().find(|(line, ..)| *line == of);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            match chosen {
                Some((_, words, _)) => {
                    let text = ours.to_string();
                    if ours == theirs || !text.contains(words) {
                        wrong.push(format!("{of}: {text} is not the chosen difference"));
                    }
                }
                None if ours == theirs => {}
                None => wrong.push(format!("{of}:\n  ours {ours}\n  theirs {theirs}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tasks_offers_and_operations_are_refused_in_the_words_of_mesos() {
    let Some(node) = Node::new("tasks_offers_and_operations_are_refused_in_the_words_of_mesos") else {
        return;
    };
    let info = json!({"user": "root", "name": "recorder2", "roles": ["dev"], "capabilities": [
        {"type": "PARTITION_AWARE"}, {"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}]});
    let mut scheduler = Scheduler::subscribe(&node, &info, "ca70f69e-d0f9-4b7a-aaef-61baa88c0b23-0000");
    let names = [
        "launch_invalid_tasks",
        "launch_duplicate_offer",
        "launch_negative_resource",
        "launch_scalar_missing",
        "launch_with_id",
        "operation_reserve",
        "operation_create_disk",
        "operation_invalid_offer",
        "reconcile_operations",
    ];
    replay(&mut scheduler, &names);
    drop(scheduler);
    node.leave();
}

#[test]
fn a_framework_that_knows_of_no_partitions_is_told_of_lost_tasks() {
    let Some(node) = Node::new("a_framework_that_knows_of_no_partitions_is_told_of_lost_tasks") else {
        return;
    };
    let info = json!({"user": "root", "name": "recorder3"});
    let mut scheduler = Scheduler::subscribe(&node, &info, "ca70f69e-d0f9-4b7a-aaef-61baa88c0b23-0001");
    replay(&mut scheduler, &["plain_launch_bad_offer", "plain_reconcile"]);
    drop(scheduler);
    node.leave();
}

#[test]
fn groups_are_refused_in_the_words_of_mesos() {
    let Some(node) = Node::new("groups_are_refused_in_the_words_of_mesos") else { return };
    let info = json!({"user": "root", "name": "recorder3", "capabilities": [
        {"type": "PARTITION_AWARE"}, {"type": "TASK_KILLING_STATE"}]});
    let mut scheduler = Scheduler::subscribe(&node, &info, "ca70f69e-d0f9-4b7a-aaef-61baa88c0b23-0002");
    let names = [
        "group_no_framework_id",
        "group_no_type_but_command",
        "group_unknown_type",
        "group_few_cpus",
        "group_no_cpus",
        "group_few_mem",
        "group_no_disk",
        "group_docker_executor",
        "group_too_much",
        "group_limits_shared",
        "group_other_executor",
        "group_with_id",
        "group_bad_second_task",
        "group_mixed_share",
        "group_net_http_check",
    ];
    replay(&mut scheduler, &names);
    drop(scheduler);
    node.leave();
}
