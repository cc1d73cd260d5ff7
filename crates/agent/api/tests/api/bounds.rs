// SPDX-License-Identifier: Apache-2.0
//! What a hostile client can not do.

use std::io::Write as _;
use std::time::Duration;

use berth_api::{Limits, Options};
use tokio::io::AsyncWriteExt as _;

use crate::client::{JSON, Site, chunk, chunked, request, said, soon};

const HEALTH: &[u8] = br#"{"type":"GET_HEALTH"}"#;

fn limited(change: impl FnOnce(&mut Limits)) -> Options {
    let mut options = Options::default();
    change(&mut options.limits);
    options
}

fn too_large(limit: usize) -> (u16, String) {
    said(413, &format!("Request body is larger than {limit} bytes; send a smaller one"))
}

#[tokio::test]
async fn a_body_of_two_gigabytes_is_refused_before_it_comes() {
    let site = Site::new().await;
    let mut client = site.unix().await;
    client.send(format!("{JSON}Host: x\r\nContent-Length: 2147483648\r\n\r\n").as_bytes()).await;
    assert_eq!(client.answer().await.says(), too_large(4 * 1024 * 1024));
    assert!(client.ends().await);
}

#[tokio::test]
async fn a_body_without_a_length_is_refused_once_it_is_too_large() {
    let site = Site::with(limited(|limits| limits.body_bytes = 100_000)).await;
    let mut client = site.unix().await;
    client.send(&chunked(JSON)).await;
    let piece = chunk(&[b' '; 10_000]);
    for _ in 0..11 {
        client.send(&piece).await;
    }
    assert_eq!(client.answer().await.says(), too_large(100_000));
}

#[tokio::test]
async fn a_small_body_that_unpacks_to_a_large_one_is_refused() {
    let site = Site::with(limited(|limits| limits.body_bytes = 100_000)).await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; 10_000_000]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let answer = site.ask(&format!("{JSON}Content-Encoding: gzip\r\n"), &bomb).await;
    assert_eq!(answer.says(), too_large(100_000));
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_before_it_comes() {
    let site = Site::with(limited(|limits| limits.body_bytes = 100_000)).await;
    let head = "POST /api/v1 HTTP/1.1\r\nContent-Type: application/recordio\r\n\
                Message-Content-Type: application/json\r\n";
    assert_eq!(
        site.ask(head, b"2147483648\n{").await.says(),
        said(
            400,
            "Failed to decode length '2147483648': a record may have 100000 bytes at most; send smaller ones"
        )
    );
}

#[tokio::test]
async fn json_of_a_million_levels_is_refused() {
    let site = Site::new().await;
    let (status, text) = site.ask(JSON, "[".repeat(1_000_000).as_bytes()).await.says();
    assert_eq!(status, 400);
    assert!(text.starts_with("Failed to parse body into JSON: nested deeper than 128 levels"), "{text}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let site = Site::with(limited(|limits| limits.head_bytes = 8192)).await;
    let mut client = site.unix().await;
    // It may be refused before all of it is sent.
    let _ = client.stream.write_all(format!("{JSON}X: {}\r\n\r\n", "x".repeat(100_000)).as_bytes()).await;
    let (status, _) = client.head().await;
    assert_eq!(status, 431);
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let site = Site::new().await;
    let headers: String = (0..200).map(|at| format!("X{at}: y\r\n")).collect();
    let mut client = site.unix().await;
    client.send(&request(&format!("{JSON}{headers}"), HEALTH)).await;
    let (status, _) = client.head().await;
    assert_eq!(status, 431);
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let site = Site::with(limited(|limits| limits.head_timeout = Duration::from_millis(50))).await;
    for beginning in ["", "POST /api/v1 HT"] {
        let mut client = site.unix().await;
        client.send(beginning.as_bytes()).await;
        let mut left = Vec::new();
        soon(tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut left)).await.unwrap();
    }
}

#[tokio::test]
async fn a_known_process_may_say_nothing_for_long_and_an_unknown_one_may_not() {
    let site = Site::with(limited(|limits| limits.head_timeout = Duration::from_millis(50))).await;
    let message = |from: &str| {
        let head =
            format!("POST /slave(1)/mesos.internal.X HTTP/1.1\r\nLibprocess-From: {from}\r\nHost: x\r\n");
        [format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")].concat()
    };
    let mut known = site.tcp().await;
    // Two at once, as processes send them.
    known.send(message("known@1.2.3.4:5").repeat(2).as_bytes()).await;
    assert_eq!([known.answer().await.status, known.answer().await.status], [202, 202]);
    let mut unknown = site.tcp().await;
    unknown.send(message("other@1.2.3.4:5").as_bytes()).await;
    assert_eq!(unknown.answer().await.status, 202);
    // When it has been let go, the other one has been there for longer.
    assert!(unknown.ends().await);
    known.send(message("known@1.2.3.4:5").as_bytes()).await;
    assert_eq!(known.answer().await.status, 202);
    let said = |from: &str| format!("mesos.internal.X from {from}@1.2.3.4:5: hi");
    assert_eq!(site.double.asked(), ["known", "known", "other", "known"].map(said));
}

#[tokio::test]
async fn what_a_process_says_and_goes_is_heard() {
    let site = Site::new().await;
    for number in 0..100 {
        let head =
            "POST /slave(1)/mesos.internal.X HTTP/1.1\r\nLibprocess-From: other@1.2.3.4:5\r\nHost: x\r\n";
        let body = format!("{number:03}");
        let message = match number % 2 {
            0 => format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\n{body}\r\n0\r\n\r\n"),
            _ => format!("{head}Content-Length: 3\r\n\r\n{body}"),
        };
        let mut client = site.tcp().await;
        client.send(message.as_bytes()).await;
    }
    let heard = async {
        while site.double.asked().len() < 100 {
            tokio::task::yield_now().await;
        }
    };
    soon(heard).await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused() {
    let site = Site::with(limited(|limits| limits.body_timeout = Duration::from_millis(50))).await;
    let mut client = site.unix().await;
    client.send(format!("{JSON}Host: x\r\nContent-Length: 21\r\n\r\n{{").as_bytes()).await;
    assert_eq!(client.answer().await.says(), said(408, "Request body did not come within 0.05 seconds"));
    assert!(client.ends().await);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let site = Site::with(limited(|limits| limits.connections = 2)).await;
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut client = site.unix().await;
        client.send(&request(JSON, HEALTH)).await;
        assert_eq!(client.answer().await.status, 200);
        inside.push(client);
    }
    let mut outside = site.unix().await;
    outside.send(&request(JSON, HEALTH)).await;
    let early = tokio::time::timeout(Duration::from_millis(50), outside.answer()).await;
    assert!(early.is_err(), "it is not let in");
    drop(inside);
    assert_eq!(outside.answer().await.status, 200);
}

#[tokio::test]
async fn many_idle_connections_hold_up_nobody() {
    let site = Site::new().await;
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(site.unix().await);
    }
    assert_eq!(site.ask(JSON, HEALTH).await.status, 200);
    let last = idle.last_mut().unwrap();
    last.send(&request(JSON, HEALTH)).await;
    assert_eq!(last.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_broken_off_and_holds_no_memory() {
    let site = Site::with(limited(|limits| limits.stall = Duration::from_millis(100))).await;
    let mut client = site.unix().await;
    let attach =
        r#"{"type":"ATTACH_CONTAINER_OUTPUT","attach_container_output":{"container_id":{"value":"c"}}}"#;
    client.send(&request(JSON, attach.as_bytes())).await;
    assert_eq!(client.head().await.0, 200);
    let container = site.double.output.lock().unwrap().take().unwrap();
    let data = berth_proto::agent::process_io::Data { r#type: Some(2), data: Some(vec![0; 10_000]) };
    let piece = berth_proto::agent::ProcessIo { r#type: Some(1), data: Some(data), control: None };
    // As long as it is connected it takes no more than buffers hold; then the channel closes.
    let mut taken = 0;
    soon(async {
        while container.send(Ok(piece.clone())).await.is_ok() {
            taken += 1;
        }
    })
    .await;
    assert!(taken < 1000, "{taken} pieces of 10 kB were taken from a client that reads nothing");
}

#[tokio::test]
async fn a_body_of_any_size_and_form_is_authorized_as_it_is_carried_out() {
    let site = Site::new().await;
    site.double.forbidden.lock().unwrap().push(berth_proto::agent::call::Type::PruneImages);
    const MIB: usize = 1024 * 1024;
    for size in [0, MIB - 1, MIB, MIB + 1] {
        let mut body = br#"{"type":"PRUNE_IMAGES"}"#.to_vec();
        body.resize(body.len().max(size), b' ');
        assert_eq!(site.ask(JSON, &body).await.says(), said(403, "403 Forbidden."), "{size}");
        let mut client = site.unix().await;
        client.send(&chunked(JSON)).await;
        for piece in body.chunks(60_000) {
            client.send(&chunk(piece)).await;
        }
        client.send(&chunk(b"")).await;
        assert_eq!(client.answer().await.says(), said(403, "403 Forbidden."), "{size} in chunks");
    }
    assert!(site.double.asked().iter().all(|asked| asked == "may PRUNE_IMAGES"));
}

#[tokio::test]
async fn two_lengths_are_refused() {
    let site = Site::new().await;
    let mut client = site.unix().await;
    client.send(&request(&format!("{JSON}Content-Length: 3\r\n"), HEALTH)).await;
    assert_eq!(client.head().await.0, 400);
    assert!(client.ends().await);
}
