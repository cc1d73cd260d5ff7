// SPDX-License-Identifier: Apache-2.0
//! A conversation for each call of the API, in JSON and in protobuf, as `golden/make.py` wrote them down with an encoder
//! that is not ours.

use std::collections::{BTreeMap, BTreeSet};

use berth_proto::agent::call::Type;
use berth_proto::agent::{ProcessIo, Response};
use berth_proto::own::{Event, LogChunk};
use berth_proto::{Encoding, encode_json};
use berth_test_agent::{Ground, until};
use berth_test_api::{Client, Request, chunk, shape};
use serde_json::Value;

use crate::{ground, leave};

const CONVERSATIONS: &str = include_str!("../../golden/conversations.jsonl");

fn lines() -> Vec<Value> {
    CONVERSATIONS.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_call_is_answered_as_it_is_written_down() {
    let mut ground = ground!(every_call_is_answered_as_it_is_written_down);
    let mut held = BTreeMap::new();
    for line in lines() {
        let what = format!("{} in {}: {}", line["call"], line["encoding"], line["request"]);
        if let Some(name) = line["ends"].as_str() {
            let stream: Stream = held.remove(name).unwrap();
            compare_output(&stream.rest(), &line, &what);
        } else if line.get("records").is_some() {
            let answer = send_records(&ground, &line);
            assert_eq!(answer, (200, line["text"].as_str().unwrap().to_owned()), "{what}");
        } else if let Some(name) = line["hold"].as_str() {
            let mut stream = Stream::begin(&ground, &line, &what);
            if let Some(words) = line["until"].as_str() {
                stream.read_until(words);
            }
            held.insert(name.to_owned(), stream);
        } else if line.get("first").is_some() || line.get("reads").is_some() {
            streamed(&ground, &line, &what);
        } else {
            whole(&ground, &line, &what);
        }
    }
    assert!(held.is_empty());
    leave(&mut ground);
}

#[test]
fn there_is_a_conversation_for_every_call() {
    for encoding in ["json", "protobuf"] {
        let lines = lines();
        let there: BTreeSet<&str> = lines
            .iter()
            .filter(|line| line["encoding"] == encoding)
            .map(|line| line["call"].as_str().unwrap())
            .collect();
        let all = (1..2000).filter_map(|number| Type::try_from(number).ok());
        let missing: Vec<_> =
            all.map(|kind| kind.as_str_name()).filter(|name| !there.contains(name)).collect();
        assert!(missing.is_empty(), "{encoding}: {missing:?}");
    }
}

fn encoding(line: &Value) -> Encoding {
    match line["encoding"].as_str().unwrap() {
        "json" => Encoding::Json,
        _ => Encoding::Protobuf,
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn body(line: &Value, text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    match encoding(line) {
        Encoding::Json => text.as_bytes().to_vec(),
        Encoding::Protobuf => unhex(text),
    }
}

fn call(line: &Value) -> Request {
    Request::call().with("Content-Type", encoding(line).media_type()).body(body(line, &line["request"]))
}

/// A question with one answer.
fn whole(ground: &Ground, line: &Value, what: &str) {
    let request = call(line).with("Accept", encoding(line).media_type());
    let answer = Client::ask(&ground.socket(), &request).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(u64::from(answer.head.status), line["status"].as_u64().unwrap(), "{what}: {}", answer.text());
    if let Some(text) = line["text"].as_str() {
        assert_eq!(answer.text(), text, "{what}");
    }
    let Some(pattern) = line.get("answer") else { return };
    assert_eq!(answer.head.header("content-type"), Some(encoding(line).media_type()), "{what}");
    let value = match encoding(line) {
        Encoding::Json => serde_json::from_slice(&answer.body).unwrap(),
        encoding => json(&encoding.decode::<Response>(&answer.body).unwrap()),
    };
    assert_eq!(shape::unlike(&value, pattern), [""; 0], "{what}");
    if let Some(bytes) = line["bytes"].as_str() {
        assert_eq!(answer.body, unhex(bytes), "{what}: the bytes of another encoder");
    }
}

fn json<M: prost::Message + prost::Name>(message: &M) -> Value {
    serde_json::from_slice(&encode_json(message)).unwrap()
}

/// What a stream wrote, by the name of what it wrote to.
type Output = BTreeMap<String, String>;

/// An answer that goes on.
struct Stream {
    client: Client,
    pending: Vec<u8>,
    encoding: Encoding,
    logs: bool,
    output: Output,
}

impl Stream {
    fn begin(ground: &Ground, line: &Value, what: &str) -> Stream {
        let media = encoding(line).media_type();
        let request = call(line).with("Accept", "application/recordio").with("Message-Accept", media);
        let mut client = Client::to(&ground.socket()).unwrap();
        client.send(&request.bytes()).unwrap();
        let head = client.head().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(head.status, 200, "{what}: {:?}", client.answer());
        assert_eq!(head.header("content-type"), Some("application/recordio"), "{what}");
        assert_eq!(head.header("message-content-type"), Some(media), "{what}");
        let logs = line["call"] == "READ_LOGS";
        Stream { client, pending: Vec::new(), encoding: encoding(line), logs, output: Output::new() }
    }

    fn record(&mut self) -> Option<Vec<u8>> {
        self.client.record(&mut self.pending).unwrap()
    }

    /// Takes in one record; false at the end.
    fn take(&mut self) -> bool {
        let Some(record) = self.record() else { return false };
        let (to, bytes) = if self.logs {
            let chunk: LogChunk = self.encoding.decode(&record).unwrap();
            (chunk.stream().as_str_name(), chunk.data)
        } else {
            let io: ProcessIo = self.encoding.decode(&record).unwrap();
            let data = io.data.unwrap_or_default();
            (data.r#type().as_str_name(), data.data)
        };
        let bytes = bytes.unwrap_or_default();
        if !bytes.is_empty() {
            *self.output.entry(to.to_owned()).or_default() += &String::from_utf8_lossy(&bytes);
        }
        true
    }

    fn read_until(&mut self, words: &str) {
        while !self.output.values().any(|text| text.contains(words)) {
            assert!(self.take(), "{:?}", self.output);
        }
    }

    fn rest(mut self) -> Output {
        while self.take() {}
        self.output
    }
}

fn streamed(ground: &Ground, line: &Value, what: &str) {
    if let Some(pattern) = line.get("first") {
        let mut stream = Stream::begin(ground, line, what);
        let record = stream.record().unwrap();
        let event = json(&encoding(line).decode::<Event>(&record).unwrap());
        assert_eq!(shape::unlike(&event, pattern), [""; 0], "{what}");
        return;
    }
    let read = || Stream::begin(ground, line, what).rest();
    if line["again"] == true {
        until(what, || is_as_expected(&read(), line));
    } else {
        compare_output(&read(), line, what);
    }
}

fn expected<'a>(line: &'a Value, name: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let streams = line[name].as_object().into_iter().flatten();
    streams.map(|(name, text)| (name.as_str(), text.as_str().unwrap()))
}

fn is_as_expected(output: &Output, line: &Value) -> bool {
    let of = |name: &str| output.get(name).map_or("", String::as_str);
    expected(line, "reads").all(|(name, text)| of(name) == text)
        && expected(line, "within").all(|(name, text)| of(name).contains(text))
}

fn compare_output(output: &Output, line: &Value, what: &str) {
    assert!(is_as_expected(output, line), "{what}: {output:?}, not {line}");
}

/// A request that is a stream.
fn send_records(ground: &Ground, line: &Value) -> (u16, String) {
    let head = Request::call()
        .with("Content-Type", "application/recordio")
        .with("Message-Content-Type", encoding(line).media_type());
    let mut client = Client::to(&ground.socket()).unwrap();
    client.send(&head.chunked()).unwrap();
    for record in line["records"].as_array().unwrap() {
        let record = body(line, record);
        // A record and a piece of a body are not the same: it comes in two.
        let framed = [record.len().to_string().as_bytes(), b"\n", &record].concat();
        let (one, other) = framed.split_at(framed.len() / 2);
        client.send(&[chunk(one), chunk(other)].concat()).unwrap();
    }
    client.send(&chunk(b"")).unwrap();
    client.answer().unwrap().says()
}
