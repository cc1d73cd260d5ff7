// SPDX-License-Identifier: Apache-2.0
//! What an unmodified Mesos master was asked and what it answered (`recorded/scheduler-api.jsonl`) before the first
//! subscription, asked again of ours: the order of checks and their words, and refusals of frameworks.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::Node;

const RECORDED: &str = include_str!("../../recorded/scheduler-api.jsonl");

/// How long an answer may take on a busy host.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn lines() -> Vec<Value> {
    RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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
