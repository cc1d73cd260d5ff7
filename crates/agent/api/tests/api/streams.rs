// SPDX-License-Identifier: Apache-2.0
//! Streams out of the agent and into it.

use std::time::Duration;

use berth_api::{Options, Refusal};
use berth_proto::agent::{ProcessIo, process_io};
use berth_proto::{decode_json, decode_protobuf, own, recordio};
use tokio::net::UnixStream;

use crate::client::{Client, JSON, Site, chunk, chunked, request, said, soon};
use crate::double::Sender;

const RECORDS: &str =
    "POST /api/v1 HTTP/1.1\r\nContent-Type: application/json\r\nAccept: application/recordio\r\n";
const INPUT: &str = "POST /api/v1 HTTP/1.1\r\nContent-Type: application/recordio\r\n\
                     Message-Content-Type: application/json\r\nAccept: application/json\r\n";

fn attach_output(id: &str) -> String {
    format!(
        r#"{{"type":"ATTACH_CONTAINER_OUTPUT","attach_container_output":{{"container_id":{{"value":"{id}"}}}}}}"#
    )
}

fn stdout(data: &[u8]) -> ProcessIo {
    let data =
        process_io::Data { r#type: Some(process_io::data::Type::Stdout.into()), data: Some(data.to_vec()) };
    ProcessIo { r#type: Some(process_io::Type::Data.into()), data: Some(data), control: None }
}

/// What the test writes as the container.
async fn container(site: &Site) -> Sender<ProcessIo> {
    soon(async {
        loop {
            if let Some(sender) = site.double.output.lock().unwrap().take() {
                return sender;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Begins a stream and reads the head of the answer.
async fn begin(site: &Site, head: &str, call: &str) -> (Client<UnixStream>, Vec<(String, String)>) {
    let mut client = site.unix().await;
    client.send(&request(head, call.as_bytes())).await;
    let (status, headers) = client.head().await;
    assert_eq!(status, 200);
    (client, headers)
}

fn has(headers: &[(String, String)], name: &str) -> Option<String> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// The record in a chunk.
fn record(chunk: &[u8]) -> Vec<u8> {
    let mut decoder = recordio::Decoder::new(1 << 20);
    let mut rest = chunk;
    let record = decoder.next(&mut rest).unwrap().unwrap();
    assert!(rest.is_empty());
    record
}

#[tokio::test]
async fn output_comes_as_records_in_chunks_and_ends_with_the_container() {
    let site = Site::new().await;
    let (mut client, headers) = begin(&site, RECORDS, &attach_output("c")).await;
    assert_eq!(has(&headers, "content-type").as_deref(), Some("application/recordio"));
    assert_eq!(has(&headers, "message-content-type").as_deref(), Some("application/json"));
    assert_eq!(has(&headers, "transfer-encoding").as_deref(), Some("chunked"));
    let container = container(&site).await;
    container.send(Ok(stdout(b"Marked '/' as rslave\r\n"))).await.unwrap();
    assert_eq!(
        client.chunk().await.unwrap(),
        b"82\n{\"type\":\"DATA\",\"data\":{\"type\":\"STDOUT\",\"data\":\"TWFya2VkICcvJyBhcyByc2xhdmUNCg==\"}}"
    );
    drop(container);
    assert_eq!(client.chunk().await, None);
    client.send(&request(JSON, br#"{"type":"GET_HEALTH"}"#)).await;
    assert_eq!(client.answer().await.status, 200, "the connection can be used again");
}

#[tokio::test]
async fn records_may_be_protobuf() {
    let site = Site::new().await;
    let head = format!("{RECORDS}Message-Accept: application/x-protobuf\r\n");
    let (mut client, headers) = begin(&site, &head, &attach_output("c")).await;
    assert_eq!(has(&headers, "message-content-type").as_deref(), Some("application/x-protobuf"));
    container(&site).await.send(Ok(stdout(b"out\n"))).await.unwrap();
    let record = record(&client.chunk().await.unwrap());
    assert_eq!(decode_protobuf::<ProcessIo>(&record).unwrap(), stdout(b"out\n"));
}

#[tokio::test]
async fn a_client_that_does_not_know_records_gets_them_too() {
    let site = Site::new().await;
    let (mut client, headers) = begin(&site, JSON, &attach_output("c")).await;
    assert_eq!(has(&headers, "content-type").as_deref(), Some("application/json"));
    assert_eq!(has(&headers, "message-content-type"), None);
    container(&site).await.send(Ok(stdout(b"x"))).await.unwrap();
    assert_eq!(decode_json::<ProcessIo>(&record(&client.chunk().await.unwrap())).unwrap(), stdout(b"x"));
}

#[tokio::test]
async fn a_quiet_stream_sends_signs_of_life() {
    let heartbeat = Duration::from_millis(20);
    let site = Site::with(Options { heartbeat, ..Options::default() }).await;
    let (mut client, _) = begin(&site, RECORDS, &attach_output("c")).await;
    let container = container(&site).await;
    for _ in 0..2 {
        let text = String::from_utf8(record(&client.chunk().await.unwrap())).unwrap();
        assert_eq!(
            text,
            r#"{"type":"CONTROL","control":{"type":"HEARTBEAT","heartbeat":{"interval":{"nanoseconds":20000000}}}}"#
        );
    }
    let (mut events, _) = begin(&site, RECORDS, r#"{"type":"SUBSCRIBE"}"#).await;
    assert_eq!(record(&events.chunk().await.unwrap()), br#"{"type":"HEARTBEAT"}"#);
    drop(container);
}

#[tokio::test]
async fn events_and_logs_are_streams_too() {
    let site = Site::new().await;
    let (mut client, _) = begin(&site, RECORDS, r#"{"type":"SUBSCRIBE","subscribe":{"since":7}}"#).await;
    let sender = site.double.events.lock().unwrap().take().unwrap();
    let event =
        own::Event { r#type: Some(own::event::Type::Paused.into()), sequence: Some(8), ..Default::default() };
    sender.send(Ok(event)).await.unwrap();
    assert_eq!(record(&client.chunk().await.unwrap()), br#"{"type":"PAUSED","sequence":8}"#);
    let logs =
        r#"{"type":"READ_LOGS","read_logs":{"container_id":{"value":"c"},"stream":"STDERR","tail":3}}"#;
    let (mut client, _) = begin(&site, RECORDS, logs).await;
    let sender = site.double.logs.lock().unwrap().take().unwrap();
    let chunk = own::LogChunk {
        r#type: Some(own::log_chunk::Type::Data.into()),
        stream: Some(own::Stream::Stderr.into()),
        offset: Some(5),
        data: Some(b"hi\n".to_vec()),
        ..own::LogChunk::default()
    };
    sender.send(Ok(chunk)).await.unwrap();
    assert_eq!(
        record(&client.chunk().await.unwrap()),
        br#"{"type":"DATA","stream":"STDERR","offset":5,"data":"aGkK"}"#
    );
    let asked = site.double.asked();
    assert!(asked.contains(&"subscribe Some(7)".to_owned()), "{asked:?}");
    assert!(asked.iter().any(|asked| asked.contains("tail: Some(3), follow: false")), "{asked:?}");
}

#[tokio::test]
async fn a_stream_that_can_not_begin_is_refused_like_any_call() {
    let site = Site::new().await;
    let answer = site.ask(RECORDS, attach_output("nope").as_bytes()).await;
    assert_eq!(answer.says(), said(404, "Container nope cannot be found"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn a_stream_that_fails_is_broken_off_not_ended() {
    let site = Site::new().await;
    let (mut client, _) = begin(&site, RECORDS, &attach_output("c")).await;
    container(&site).await.send(Err(Refusal::failed("the disk is gone"))).await.unwrap();
    assert!(client.ends().await, "without the chunk that ends a body");
}

#[tokio::test]
async fn the_agent_learns_that_a_client_of_a_stream_is_gone() {
    let site = Site::new().await;
    let (client, _) = begin(&site, RECORDS, &attach_output("c")).await;
    let container = container(&site).await;
    drop(client);
    soon(container.closed()).await;
}

#[tokio::test]
async fn the_agent_learns_that_a_client_that_waits_is_gone() {
    let site = Site::new().await;
    let mut client = site.unix().await;
    let wait = r#"{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"forever"}}}"#;
    client.send(&request(JSON, wait.as_bytes())).await;
    soon(async {
        while !site.double.asked().contains(&"waits".to_owned()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    soon(site.double.dropped.notified()).await;
}

#[tokio::test]
async fn a_session_ends_with_its_connection() {
    let site = Site::new().await;
    let session = |id: &str| {
        format!(
            r#"{{"type":"LAUNCH_NESTED_CONTAINER_SESSION","launch_nested_container_session":{{
            "container_id":{{"value":"{id}","parent":{{"value":"a"}}}},"command":{{"value":"ls"}}}}}}"#
        )
    };
    let (mut client, _) = begin(&site, RECORDS, &session("s")).await;
    let container = container(&site).await;
    container.send(Ok(stdout(b"x"))).await.unwrap();
    assert_eq!(decode_json::<ProcessIo>(&record(&client.chunk().await.unwrap())).unwrap(), stdout(b"x"));
    let class = site.double.launched.lock().unwrap()[0].1.container_class;
    assert_eq!(class, berth_model::ContainerClass::Debug);
    drop(client);
    soon(container.closed()).await;
    assert_eq!(
        &site.double.asked()[..2],
        ["may LAUNCH_NESTED_CONTAINER_SESSION a.s", "may ATTACH_CONTAINER_OUTPUT a.s"]
    );
    assert_eq!(site.ask(RECORDS, session("taken").as_bytes()).await.says(), said(202, ""));
}

fn first(id: &str) -> Vec<u8> {
    let text = format!(
        r#"{{"type":"ATTACH_CONTAINER_INPUT","attach_container_input":{{"type":"CONTAINER_ID","container_id":{{"value":"{id}"}}}}}}"#
    );
    recordio::encoded(text.as_bytes())
}

fn piece(io: &str) -> Vec<u8> {
    let text = format!(
        r#"{{"type":"ATTACH_CONTAINER_INPUT","attach_container_input":{{"type":"PROCESS_IO","process_io":{io}}}}}"#
    );
    recordio::encoded(text.as_bytes())
}

const HELLO: &str = r#"{"type":"DATA","data":{"type":"STDIN","data":"aGVsbG8K"}}"#;

#[tokio::test]
async fn input_reaches_the_agent_in_any_chunks() {
    let site = Site::new().await;
    let mut client = site.unix().await;
    client.send(&chunked(INPUT)).await;
    let resize = r#"{"type":"CONTROL","control":{"type":"TTY_INFO","tty_info":{"window_size":{"rows":30,"columns":100}}}}"#;
    let stream = [first("c"), piece(resize), piece(HELLO)].concat();
    for bytes in stream.chunks(7) {
        client.send(&chunk(bytes)).await;
    }
    soon(async {
        while site.double.input.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.send(&chunk(b"")).await;
    assert_eq!(client.answer().await.says(), said(200, ""));
    let input = site.double.input.lock().unwrap().clone();
    assert_eq!(input[0].control.unwrap().tty_info.unwrap().window_size.unwrap().rows, 30);
    assert_eq!(input[1].data.as_ref().unwrap().data.as_deref(), Some(&b"hello\n"[..]));
}

#[tokio::test]
async fn a_record_that_is_no_input_ends_the_call_with_what_is_wrong() {
    let site = Site::new().await;
    let ask = async |records: &[Vec<u8>]| site.ask(INPUT, &records.concat()).await.says();
    let out = r#"{"type":"DATA","data":{"type":"STDOUT","data":""}}"#;
    assert_eq!(
        ask(&[first("c"), piece(HELLO), piece(out)]).await,
        said(400, "Expecting 'process_io.data.type' to be 'STDIN'")
    );
    assert_eq!(site.double.input.lock().unwrap().len(), 1, "what came before it was passed on");
    assert_eq!(
        ask(&[first("c"), first("c")]).await,
        said(400, "Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of: 'CONTAINER_ID'")
    );
    assert_eq!(
        ask(&[piece(HELLO)]).await,
        said(400, "Expecting 'attach_container_input.type' to be CONTAINER_ID")
    );
    assert_eq!(
        ask(&[first("c"), b"x\n".to_vec()]).await,
        said(400, "Failed to decode length 'x': Failed to convert 'x' to number")
    );
    assert_eq!(
        ask(&[first("c"), b"5\nhello".to_vec()]).await,
        said(400, "Failed to parse body into JSON: syntax error at line 1 near: hello")
    );
}

#[tokio::test]
async fn only_one_connection_may_send_input() {
    let site = Site::new().await;
    assert_eq!(
        site.ask(INPUT, &first("busy")).await.says(),
        said(409, "Multiple input connections are not allowed")
    );
    assert_eq!(site.ask(INPUT, &first("nope")).await.says(), said(404, "Container nope cannot be found"));
}

#[tokio::test]
async fn input_of_a_client_that_is_gone_ends() {
    let site = Site::new().await;
    let mut client = site.unix().await;
    client.send(&chunked(INPUT)).await;
    client.send(&chunk(&[first("c"), piece(HELLO)].concat())).await;
    soon(async {
        while site.double.input.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    soon(site.double.dropped.notified()).await;
}
