// SPDX-License-Identifier: Apache-2.0
//! Our messages beside those of others: of Python's protobuf (`golden/make.py` makes the pairs) and of a real Mesos
//! agent, whose answers were recorded.

#![allow(clippy::unwrap_used, reason = "a test")]

use berth_proto::{agent, decode_json, decode_protobuf, encode_json, encode_protobuf, own};

/// Reads both forms as one type and compares everything.
fn compare<M: prost::Message + prost::Name + Default + PartialEq>(text: &str, wire: &[u8]) {
    let message: M = decode_json(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert!(decode_protobuf::<M>(wire).unwrap() == message, "{text}");
    assert_eq!(hex(&encode_protobuf(&message)), hex(wire), "{text}");
    // What is written says more than the text: fields that are unset and have a default.
    let written = serde_json::from_slice(&encode_json(&message)).unwrap();
    includes(&written, &serde_json::from_str(text).unwrap(), "");
}

fn includes(written: &serde_json::Value, wanted: &serde_json::Value, path: &str) {
    use serde_json::Value;
    match (written, wanted) {
        (Value::Object(written), Value::Object(wanted)) => {
            for (name, value) in wanted {
                let found = written.get(name).unwrap_or_else(|| panic!("{path}.{name} is not written"));
                includes(found, value, &format!("{path}.{name}"));
            }
        }
        (Value::Array(written), Value::Array(wanted)) => {
            assert_eq!(written.len(), wanted.len(), "{path}");
            for (at, (written, wanted)) in written.iter().zip(wanted).enumerate() {
                includes(written, wanted, &format!("{path}[{at}]"));
            }
        }
        _ => assert_eq!(written, wanted, "{path}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn json_and_protobuf_are_those_of_another_implementation() {
    let mut compared = 0;
    for line in include_str!("golden/messages.tsv").lines() {
        let [name, text, wire] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let wire = unhex(wire);
        match name {
            "mesos.v1.agent.Call" => compare::<agent::Call>(text, &wire),
            "mesos.v1.agent.Response" => compare::<agent::Response>(text, &wire),
            "mesos.v1.agent.ProcessIO" => compare::<agent::ProcessIo>(text, &wire),
            "berth.v1.Event" => compare::<own::Event>(text, &wire),
            "berth.v1.LogChunk" => compare::<own::LogChunk>(text, &wire),
            other => panic!("no type for {other}"),
        }
        compared += 1;
    }
    assert_eq!(compared, 13);
}

#[test]
fn answers_of_a_real_agent_are_written_to_the_byte() {
    let mut compared = 0;
    for line in include_str!("golden/mesos-agent.jsonl").lines() {
        let response: agent::Response = decode_json(line.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(encode_json(&response)).unwrap(), line);
        let wire = encode_protobuf(&response);
        assert_eq!(decode_protobuf::<agent::Response>(&wire).unwrap(), response);
        compared += 1;
    }
    assert!(compared >= 10, "{compared}");
}

#[test]
fn protobuf_of_a_real_agent_is_written_to_the_byte() {
    for line in include_str!("golden/mesos-agent.hex").lines() {
        let response: agent::Response = decode_protobuf(&unhex(line)).unwrap();
        assert_eq!(hex(&encode_protobuf(&response)), line);
    }
}
