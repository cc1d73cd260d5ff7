// SPDX-License-Identifier: Apache-2.0
//! What an unmodified Mesos agent was asked and what it answered (`recorded/agent-api.jsonl`), asked again of ours, in
//! the same order: the same status, the same headers, the same text to the letter, JSON of the same shape. Where we
//! differ on purpose, `recorded/differences.txt` says so, with the reason; a difference that is not listed fails the
//! test, and so does one that is listed and not there.

use std::collections::BTreeMap;
use std::path::Path;

use berth_proto::agent::Response;
use berth_proto::{decode_protobuf, encode_json};
use berth_test_agent::Ground;
use berth_test_api::{Answer, Chosen, Client, Request, shape, unbase64};
use serde_json::Value;

use crate::{ground, leave};

const RECORDED: &str = include_str!("../../recorded/agent-api.jsonl");
const DIFFERENCES: &str = include_str!("../../recorded/differences.txt");

/// Objects whose names are values themselves.
const MAPS: &[&str] = &[".flags"];

/// Headers of which a client makes something.
const HEADERS: &[&str] =
    &["content-type", "message-content-type", "allow", "www-authenticate", "transfer-encoding"];

#[test]
fn a_recorded_agent_is_answered_alike() {
    let mut ground = ground!(a_recorded_agent_is_answered_alike);
    let mut chosen = Chosen::read(DIFFERENCES, |_| true);
    let mut wrong = Vec::new();
    for line in RECORDED.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let name = line["name"].as_str().unwrap();
        prepare(&ground, name);
        let answer = ask(&ground, &line["request"]).unwrap_or_else(|error| panic!("{name}: {error}"));
        for difference in differences(&answer, &line["response"]) {
            if !chosen.has(name, &difference) {
                wrong.push(format!("{name} | {difference}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not listed in differences.txt:\n{}", wrong.join("\n"));
    let unseen = chosen.unseen();
    assert!(unseen.is_empty(), "listed in differences.txt, and not there:\n{}", unseen.join("\n"));
    leave(&mut ground);
}

/// What the recording leaves out of what was asked: launches and signals between its lines, and time.
const BETWEEN: &[(&str, &str)] = &[
    (
        "get_containers_nested",
        r#"{"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": "d1", "parent": {"value": "n2", "parent": {"value": "c2"}}}}}"#,
    ),
    (
        "remove_nested_running",
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "n1", "parent": {"value": "c2"}}, "command": {"value": "true"}}}"#,
    ),
    (
        "remove_nested_done",
        r#"{"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": {"container_id": {"value": "n1", "parent": {"value": "c2"}}}}"#,
    ),
    ("wait_killed", r#"{"type": "KILL_CONTAINER", "kill_container": {"container_id": {"value": "c2"}}}"#),
    (
        "wait_missing_program",
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "mp"}, "command": {"shell": false, "value": "/no/such/program"}}}"#,
    ),
    (
        "wait_oom",
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "om"}, "command": {"value": "exec tail /dev/zero"}, "resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}]}}"#,
    ),
    (
        "attach_output_standalone",
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "lm"}, "command": {"value": "exec sleep 1000"}}}"#,
    ),
];

fn prepare(ground: &Ground, name: &str) {
    for (_, call) in BETWEEN.iter().filter(|(before, _)| *before == name) {
        let request = Request::call().with("Content-Type", "application/json").body(*call);
        Client::ask(&ground.socket(), &request).unwrap();
    }
}

/// An answer; of one that goes on, its head.
fn ask(ground: &Ground, recorded: &Value) -> std::io::Result<Answer> {
    let mut client = Client::to(&ground.socket())?;
    client.send(&request(recorded).bytes())?;
    let head = client.head()?;
    let body = match head.header("content-length") {
        Some(length) => client.take(length.parse().unwrap())?,
        None => Vec::new(),
    };
    Ok(Answer { head, body })
}

fn request(recorded: &Value) -> Request {
    request_in(recorded, &str::to_owned)
}

/// A recorded request in the words of another run.
pub(crate) fn request_in(recorded: &Value, ours: &dyn Fn(&str) -> String) -> Request {
    let text = |name: &str| recorded[name].as_str().unwrap();
    let mut request = Request::new(text("method"), &ours(text("path")));
    for (name, value) in recorded["headers"].as_object().unwrap() {
        request = request.with(name, value.as_str().unwrap());
    }
    match recorded.get("body") {
        Some(body) => request.body(ours(body.as_str().unwrap())),
        None => request,
    }
}

fn differences(answer: &Answer, recorded: &Value) -> Vec<String> {
    let mut found = heads(answer, recorded);
    if u64::from(answer.head.status) == recorded["status"].as_u64().unwrap() {
        let kind = recorded["headers"]["Content-Type"].as_str().unwrap_or_default();
        found.extend(bodies(answer, kind, recorded));
    }
    found
}

/// What differs of a head; of one with another status, that alone.
pub(crate) fn heads(answer: &Answer, recorded: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let status = recorded["status"].as_u64().unwrap();
    if u64::from(answer.head.status) != status {
        let text = shown(&answer.text());
        return vec![format!("status {}, not {status}: {text}", answer.head.status)];
    }
    if answer.head.reason != recorded["reason"].as_str().unwrap() {
        found.push(format!("reason {:?}", answer.head.reason));
    }
    let headers: BTreeMap<String, &str> = recorded["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap()))
        .collect();
    for name in HEADERS {
        let (ours, theirs) = (answer.head.header(name), headers.get(*name).copied());
        if ours != theirs {
            found.push(format!("{name}: {ours:?}, not {theirs:?}"));
        }
    }
    for name in ["date", "content-length"] {
        if headers.contains_key(name) && answer.head.header(name).is_none() {
            found.push(format!("no {name}"));
        }
    }
    found
}

fn bodies(answer: &Answer, kind: &str, recorded: &Value) -> Vec<String> {
    let theirs = match recorded.get("body_base64") {
        Some(encoded) => unbase64(encoded.as_str().unwrap()),
        None => recorded["body"].as_str().unwrap().as_bytes().to_vec(),
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    match kind {
        "application/json" => shape::differences(&json(&answer.body), &json(&theirs), MAPS),
        "text/javascript" => {
            let inner = |bytes: &[u8]| json(bytes.strip_prefix(b"f(").unwrap().strip_suffix(b")").unwrap());
            shape::differences(&inner(&answer.body), &inner(&theirs), MAPS)
        }
        "application/x-protobuf" => {
            let message = |bytes: &[u8]| json(&encode_json(&decode_protobuf::<Response>(bytes).unwrap()));
            shape::differences(&message(&answer.body), &message(&theirs), MAPS)
        }
        _ if answer.body == theirs => Vec::new(),
        _ => vec![format!("text: {}", shown(&answer.text()))],
    }
}

/// A text as the list of differences has it: in one line, the beginning of it.
pub(crate) fn shown(text: &str) -> String {
    text.replace("\r\n", " ").replace('\n', " ").replace('|', "/").chars().take(200).collect()
}

#[test]
fn metrics_have_the_names_of_a_recorded_agent() {
    let mut ground = ground!(metrics_have_the_names_of_a_recorded_agent);
    let call = Request::call().with("Content-Type", "application/json");
    let call = call.body(r#"{"type": "GET_METRICS", "get_metrics": {}}"#);
    let ours = names(&Client::ask(&ground.socket(), &call).unwrap().text());
    let line = RECORDED.lines().find(|line| line.contains("\"get_metrics_with_payload\"")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let theirs = names(line["response"]["body"].as_str().unwrap());
    assert!(theirs.len() > 60);
    let missing: Vec<_> = theirs.iter().filter(|name| !ours.contains(name)).map(String::as_str).collect();
    assert_eq!(missing, NOT_MEASURED);
    leave(&mut ground);
}

/// What there is nothing behind here: errors of a provisioner that copies and binds. Its successor removes what is left
/// of a container together with the container, and that is counted there.
const NOT_MEASURED: [&str; 2] = [
    "containerizer/mesos/provisioner/bind/remove_rootfs_errors",
    "containerizer/mesos/provisioner/remove_container_errors",
];

fn names(answer: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let metrics = answer["get_metrics"]["metrics"].as_array().unwrap();
    metrics.iter().map(|metric| metric["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_recording_is_read_whole() {
    assert_eq!(RECORDED.lines().count(), 78);
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/differences.txt").is_file());
}
