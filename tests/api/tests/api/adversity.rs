// SPDX-License-Identifier: Apache-2.0
//! Clients that are wrong, slow, greedy or many. Each gets an answer or an end, the agent goes on, and its memory stays
//! what it was. With `BERTH_API=long` there is time for what waits for the agent's own limits of time.

use std::time::Duration;

use berth_test_agent::Ground;
use berth_test_api::{Answer, Client, Request, chunk};

use crate::{ground, leave};

/// What an agent may have more of after all this, in KiB: what its allocator keeps.
const KEPT: usize = 24 * 1024;

fn json() -> Request {
    Request::call().with("Content-Type", "application/json")
}

fn call(ground: &Ground, body: impl Into<Vec<u8>>) -> Answer {
    Client::ask(&ground.socket(), &json().body(body)).unwrap()
}

#[track_caller]
fn is_alive(ground: &Ground) {
    assert_eq!(call(ground, r#"{"type": "GET_HEALTH"}"#).head.status, 200);
}

/// Its memory and its descriptors, before and after.
fn flat(ground: &mut Ground, work: impl FnOnce(&Ground)) {
    is_alive(ground);
    let before = ground.process().numbers();
    work(ground);
    is_alive(ground);
    let after = ground.process().numbers();
    assert!(after.kib < before.kib + KEPT, "{before:?}, then {after:?}");
    berth_test_agent::until("descriptors are let go", || {
        ground.process().numbers().descriptors <= before.descriptors + 4
    });
    leave(ground);
}

fn is_long() -> bool {
    std::env::var_os("BERTH_API").is_some_and(|value| value == "long")
}

#[test]
fn json_a_million_levels_deep_is_refused_in_words() {
    let mut ground = ground!(json_a_million_levels_deep_is_refused_in_words);
    flat(&mut ground, |ground| {
        for open in ["[", "{\"a\":"] {
            for _ in 0..20 {
                let body = open.repeat(4_000_000 / open.len());
                let (status, text) = call(ground, body).says();
                assert_eq!(status, 400);
                assert!(
                    text.starts_with("Failed to parse body into JSON: nested deeper than 128 levels"),
                    "{text}"
                );
            }
        }
    });
}

#[test]
fn a_body_of_two_gigabytes_is_refused_before_it_has_come() {
    let mut ground = ground!(a_body_of_two_gigabytes_is_refused_before_it_has_come);
    flat(&mut ground, |ground| {
        // Announced: nothing of it is sent.
        let mut client = Client::to(&ground.socket()).unwrap();
        let head = "POST /api/v1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2147483648\r\n\r\n";
        client.send(head.as_bytes()).unwrap();
        assert_eq!(client.answer().unwrap().head.status, 413);
        // Not announced: it is sent until nobody takes it any more.
        let mut client = Client::to(&ground.socket()).unwrap();
        client.send(&json().chunked()).unwrap();
        let piece = chunk(&vec![b' '; 1 << 20]);
        let taken = (0..2048).take_while(|_| client.send(&piece).is_ok()).count();
        assert!(taken < 64, "{taken} MiB were taken");
        // Small on the way, and large when it is unpacked.
        let small = gzip(&vec![b' '; 64 << 20]);
        assert!(small.len() < 1 << 20);
        let request = json().with("Content-Encoding", "gzip").body(small);
        assert_eq!(Client::ask(&ground.socket(), &request).unwrap().head.status, 413);
        // A record of a stream that says so.
        let mut client = Client::to(&ground.socket()).unwrap();
        let stream = Request::call()
            .with("Content-Type", "application/recordio")
            .with("Message-Content-Type", "application/json");
        client.send(&stream.chunked()).unwrap();
        client.send(&chunk(b"2147483648\n{")).unwrap();
        assert_eq!(client.answer().unwrap().head.status, 400);
    });
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_stream_that_is_cut_off_is_answered() {
    let mut ground = ground!(a_stream_that_is_cut_off_is_answered);
    flat(&mut ground, |ground| {
        for kind in ["application/json", "application/x-protobuf"] {
            let request = Request::call()
                .with("Content-Type", "application/recordio")
                .with("Message-Content-Type", kind);
            let sent = |bytes: &[u8]| {
                let mut client = Client::to(&ground.socket()).unwrap();
                client.send(&request.chunked()).unwrap();
                client.send(&[chunk(bytes), chunk(b"")].concat()).unwrap();
                client.answer().unwrap().says()
            };
            let none = (400, "Received EOF while reading request body".to_owned());
            assert_eq!(sent(b"20\n{"), none);
            assert_eq!(sent(b"20"), none);
            let words = "Failed to decode length 'abc': Failed to convert 'abc' to number";
            assert_eq!(sent(b"abc\n"), (400, words.to_owned()));
            // The connection goes in the middle of it.
            for _ in 0..50 {
                let mut client = Client::to(&ground.socket()).unwrap();
                client.send(&request.chunked()).unwrap();
                client.send(&chunk(b"1000\n{")).unwrap();
            }
        }
    });
}

#[test]
fn a_thousand_idle_connections_cost_little_and_hold_nobody_up() {
    let mut ground = ground!(a_thousand_idle_connections_cost_little_and_hold_nobody_up);
    berth_test_api::many_descriptors();
    flat(&mut ground, |ground| {
        let before = ground.process().numbers();
        let idle: Vec<Client> = (0..1000).map(|_| Client::to(&ground.socket()).unwrap()).collect();
        berth_test_agent::until("all are let in", || {
            ground.process().numbers().descriptors >= before.descriptors + 990
        });
        is_alive(ground);
        let with = ground.process().numbers();
        // One that has said nothing has no buffer: 11 KiB each were measured, and 35 when it had.
        assert!(with.kib < before.kib + 16 * 1024, "{before:?}, then {with:?}");
        eprintln!("1,000 idle connections: {} KiB more", with.kib.saturating_sub(before.kib));
        drop(idle);
    });
}

#[test]
fn clients_that_send_a_byte_now_and_then_hold_nobody_up_and_are_ended() {
    let mut ground = ground!(clients_that_send_a_byte_now_and_then_hold_nobody_up_and_are_ended);
    flat(&mut ground, |ground| {
        let mut slow: Vec<Client> = (0..100).map(|_| Client::to(&ground.socket()).unwrap()).collect();
        let bodies = json().with("Content-Length", "100").bytes_of_head();
        for client in slow.iter_mut().skip(50) {
            client.send(&bodies).unwrap();
        }
        // The agent's patience is 30 seconds, for a head and for a body.
        let rounds = if is_long() { 40 } else { 3 };
        let mut ended = 0;
        for round in 0..rounds {
            let byte = b"POST /api/v1 HTTP/1.1\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbb"[round % 50];
            slow.retain_mut(|client| client.send(&[byte]).is_ok());
            ended = 100 - slow.len();
            is_alive(ground);
            std::thread::sleep(Duration::from_secs(1));
        }
        if is_long() {
            assert_eq!(ended, 100, "all of them are ended");
        }
    });
}

#[test]
fn many_requests_at_once_on_one_connection_are_answered_in_their_order() {
    let mut ground = ground!(many_requests_at_once_on_one_connection_are_answered_in_their_order);
    flat(&mut ground, |ground| {
        let mut client = Client::to(&ground.socket()).unwrap();
        let health = json().body(r#"{"type": "GET_HEALTH"}"#).bytes();
        let nope = json().body(r#"{"type": "NOPE"}"#).bytes();
        let all: Vec<u8> =
            (0..200).flat_map(|at| if at % 3 == 0 { nope.clone() } else { health.clone() }).collect();
        client.send(&all).unwrap();
        for at in 0..200 {
            let expected = if at % 3 == 0 { 400 } else { 200 };
            assert_eq!(client.answer().unwrap().head.status, expected, "answer {at}");
        }
    });
}

#[test]
fn large_answers_are_compressed_only_for_those_who_ask() {
    let mut ground = ground!(large_answers_are_compressed_only_for_those_who_ask);
    let request = |accept: Option<&str>| {
        let request = json().body(r#"{"type": "GET_FLAGS"}"#);
        let request = accept.map_or(request.clone(), |accept| request.with("Accept-Encoding", accept));
        Client::ask(&ground.socket(), &request).unwrap()
    };
    let plain = request(None);
    assert_eq!(plain.head.header("content-encoding"), None);
    let packed = request(Some("gzip"));
    assert_eq!(packed.head.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < plain.body.len() / 2);
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*packed.body), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    assert_eq!(request(Some("gzip;q=0")).head.header("content-encoding"), None);
    // And requests may be.
    let call = json().with("Content-Encoding", "gzip").body(gzip(br#"{"type": "GET_HEALTH"}"#));
    assert_eq!(Client::ask(&ground.socket(), &call).unwrap().head.status, 200);
    leave(&mut ground);
}
