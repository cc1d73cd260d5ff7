// SPDX-License-Identifier: Apache-2.0
//! Streams out of an agent and into it.

use berth_client::{LogRequest, block_on};
use berth_model::{CommandInfo, ContainerId, ContainerInfo, TtyInfo};
use berth_proto::agent::{Call, ProcessIo, process_io};
use berth_proto::recordio::Decoder;
use berth_proto::{decode_protobuf, encode_json, encode_protobuf, own, recordio};

use crate::script::{RECORDS, Server, chunk, done, text, without_length};

fn id(text: &str) -> ContainerId {
    text.parse().unwrap()
}

fn output(bytes: &[u8]) -> ProcessIo {
    let data =
        process_io::Data { r#type: Some(process_io::data::Type::Stdout.into()), data: Some(bytes.to_vec()) };
    ProcessIo { r#type: Some(process_io::Type::Data.into()), data: Some(data), control: None }
}

#[test]
fn a_session_is_launched_and_its_output_comes_in_any_chunks() {
    let server = Server::new();
    std::thread::scope(|scope| {
        let heard = scope.spawn(|| {
            let mut peer = server.accept();
            let request = peer.request();
            peer.say(RECORDS);
            let records: Vec<u8> = [&b"one"[..], b"", b"two"]
                .iter()
                .flat_map(|b| recordio::encoded(&encode_protobuf(&output(b))))
                .collect();
            for piece in records.chunks(3) {
                peer.say(&chunk(piece));
            }
            peer.say(b"0\r\n\r\n");
            request
        });
        let got = block_on(async {
            let command = CommandInfo { shell: false, value: Some("sh".into()), ..Default::default() };
            let container = ContainerInfo { tty_info: Some(TtyInfo::default()), ..Default::default() };
            let session = server.agent().session(&id("a.s"), &command, Some(&container)).await.unwrap();
            let mut session = session.expect("it started");
            let mut got = Vec::new();
            while let Some(io) = session.next().await.unwrap() {
                got.push(io);
            }
            got
        })
        .unwrap();
        assert_eq!(got, [output(b"one"), output(b""), output(b"two")]);
        let request = heard.join().unwrap();
        assert_eq!(
            without_length(&request.head),
            [
                "POST /api/v1 HTTP/1.1",
                "host: berth",
                "content-type: application/x-protobuf",
                "accept: application/recordio",
                "message-accept: application/x-protobuf",
            ]
        );
        let call = String::from_utf8(encode_json(&request.call())).unwrap();
        assert_eq!(
            call,
            r#"{"type":"LAUNCH_NESTED_CONTAINER_SESSION","launch_nested_container_session":{"container_id":{"value":"s","parent":{"value":"a"}},"command":{"shell":false,"value":"sh"},"container":{"type":"MESOS","tty_info":{}}}}"#
        );
    });
}

#[test]
fn a_session_of_a_name_that_is_there_is_no_stream() {
    let server = Server::new();
    std::thread::scope(|scope| {
        scope.spawn(|| server.answer_one(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"));
        let session =
            block_on(async { server.agent().session(&id("a.s"), &CommandInfo::default(), None).await });
        assert!(session.unwrap().unwrap().is_none());
    });
}

#[test]
fn dropping_a_stream_ends_its_connection() {
    let server = Server::new();
    std::thread::scope(|scope| {
        let gone = scope.spawn(|| {
            let mut peer = server.accept();
            let call = peer.request().call().read_logs.unwrap();
            assert_eq!(
                (call.tail, call.follow, call.stream),
                (Some(3), Some(true), Some(own::Stream::Stderr.into()))
            );
            peer.say(RECORDS);
            peer.is_gone()
        });
        block_on(async {
            let stream = Some(own::Stream::Stderr);
            let request = LogRequest { stream, tail: Some(3), follow: true, ..LogRequest::default() };
            drop(server.agent().logs(&id("a"), request).await.unwrap());
            // The runtime ends with the connection's task.
        })
        .unwrap();
        assert!(gone.join().unwrap());
    });
}

/// The records of a request, as JSON.
fn pieces(bytes: &[u8]) -> Vec<String> {
    let mut decoder = Decoder::new(1 << 20);
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while let Some(record) = decoder.next(&mut rest).unwrap() {
        let call: Call = decode_protobuf(&record).unwrap();
        pieces.push(String::from_utf8(encode_json(&call.attach_container_input.unwrap())).unwrap());
    }
    pieces
}

#[test]
fn input_is_a_request_that_goes_on_until_it_is_dropped() {
    let server = Server::new();
    std::thread::scope(|scope| {
        let heard = scope.spawn(|| {
            let mut peer = server.accept();
            let head = peer.head();
            let mut body = Vec::new();
            loop {
                match peer.chunk() {
                    end if end.is_empty() => break,
                    piece => body.extend(piece),
                }
            }
            peer.say(&done());
            (head, body)
        });
        block_on(async {
            let (input, mut answer) = server.agent().attach_input(&id("pod.a")).await.unwrap();
            assert!(input.data(b"hi\n").await && input.data(b"").await);
            assert!(input.resize(30, 100).await && input.end().await);
            drop(input);
            answer.wait().await.unwrap();
        })
        .unwrap();
        let (head, body) = heard.join().unwrap();
        assert_eq!(
            head,
            [
                "POST /api/v1 HTTP/1.1",
                "host: berth",
                "content-type: application/recordio",
                "message-content-type: application/x-protobuf",
                "accept: application/x-protobuf",
                "transfer-encoding: chunked",
            ]
        );
        assert_eq!(
            pieces(&body),
            [
                r#"{"type":"CONTAINER_ID","container_id":{"value":"a","parent":{"value":"pod"}}}"#,
                r#"{"type":"PROCESS_IO","process_io":{"type":"DATA","data":{"type":"STDIN","data":"aGkK"}}}"#,
                r#"{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{"type":"TTY_INFO","tty_info":{"window_size":{"rows":30,"columns":100}}}}}"#,
                r#"{"type":"PROCESS_IO","process_io":{"type":"DATA","data":{"type":"STDIN","data":""}}}"#,
            ]
        );
    });
}

#[test]
fn input_that_is_refused_is_told_while_it_is_sent() {
    let server = Server::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut peer = server.accept();
            peer.head();
            peer.say(&text("409 Conflict", "Multiple input connections are not allowed"));
            // Until the client has seen it.
            while !peer.is_gone() {
                peer.chunk();
            }
        });
        block_on(async {
            let (input, mut answer) = server.agent().attach_input(&id("a")).await.unwrap();
            let error = answer.wait().await.unwrap_err();
            assert_eq!(error.to_string(), "Multiple input connections are not allowed");
            let mut taken = 0;
            while input.data(b"more").await {
                taken += 1;
                assert!(taken < 100, "nobody takes it");
            }
        })
        .unwrap();
    });
}
