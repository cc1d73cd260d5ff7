// SPDX-License-Identifier: Apache-2.0
//! No agent, a wrong one, and one that goes away.

use berth_client::{Agent, Error, block_on};
use berth_model::{Class, ContainerId};
use berth_proto::own;

use crate::script::{RECORDS, Server, chunk, done, text, with_status};

fn version(agent: &Agent) -> Error {
    block_on(async { agent.connect().await?.version().await }).unwrap().unwrap_err()
}

/// What comes of an answer.
fn said(bytes: &[u8]) -> Error {
    let server = Server::new();
    std::thread::scope(|scope| {
        scope.spawn(|| server.answer_one(bytes));
        version(&server.agent())
    })
}

#[test]
fn without_an_agent_it_is_said_where_it_was_looked_for_and_how_to_start_one() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("berth.sock");
    let error = version(&Agent::at(&socket));
    assert!(error.is_no_agent() && error.class() == Class::NotFound);
    let words = error.to_string();
    for part in [socket.to_str().unwrap(), "No such file", "`berth agent`", "--socket"] {
        assert!(words.contains(part), "{words}");
    }
    // One that has ended left its socket.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = version(&Agent::at(&socket));
    assert!(error.is_no_agent() && error.to_string().contains("Connection refused"), "{error}");
}

#[test]
fn an_agent_that_goes_away_is_missed() {
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"] {
        let error = said(answer);
        assert!(matches!(error, Error::Lost { .. }), "{error:?}");
        assert_eq!(error.class(), Class::Gone);
        assert!(error.to_string().contains("went away during GET_VERSION"), "{error}");
    }
}

/// Two questions on one connection; what came of the second.
fn second(server: &Server) -> Result<(), Error> {
    let asked = block_on(async {
        let mut connection = server.agent().connect().await?;
        let id = "a".parse().unwrap();
        connection.kill(&id, 1).await.expect("the first is answered");
        // So long that the end of the connection has come, or not, as it happens with idle ones.
        tokio::task::yield_now().await;
        connection.kill(&id, 2).await
    });
    asked.unwrap()
}

#[test]
fn a_question_on_a_kept_connection_that_was_closed_is_asked_on_a_new_one() {
    let server = Server::new();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            server.answer_one(&done());
            server.answer_one(&done())
        });
        second(&server).unwrap();
        let payload = asked.join().unwrap().call().kill_container.unwrap();
        assert_eq!(payload.signal, Some(2), "the same question");
    });
}

#[test]
fn a_question_whose_answer_had_begun_is_not_asked_twice() {
    let server = Server::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut peer = server.accept();
            for answer in [&done()[..], b"HTTP/1.1 200"] {
                peer.request();
                peer.say(answer);
            }
        });
        let error = second(&server).unwrap_err();
        assert!(matches!(error, Error::Lost { call: "KILL_CONTAINER", .. }), "{error:?}");
    });
}

#[test]
fn when_nobody_is_there_any_more_the_question_is_lost() {
    let server = Server::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.answer_one(&done());
            std::fs::remove_file(&server.socket).unwrap();
        });
        let asked = block_on(async {
            let mut connection = server.agent().connect().await?;
            let id = "a".parse().unwrap();
            connection.kill(&id, 1).await?;
            while server.socket.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            connection.kill(&id, 2).await
        });
        let error = asked.unwrap().unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    });
}

#[test]
fn what_is_no_answer_of_an_agent_is_told_as_such() {
    let error = said(b"220 ready\r\n\r\n");
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    for answer in [with_status("200 OK", "text/html", b"<html>\xff"), done(), text("200 OK", "\x08\x01")] {
        let error = said(&answer);
        assert!(matches!(error, Error::Strange { .. }), "{error:?}");
        assert!(error.to_string().contains("GET_VERSION"), "{error}");
    }
}

fn events(answer: &[u8]) -> (Vec<own::Event>, Option<Error>) {
    let server = Server::new();
    std::thread::scope(|scope| {
        scope.spawn(|| server.answer_one(answer));
        block_on(async {
            let mut got = Vec::new();
            let mut stream = match server.agent().events(None).await {
                Ok(stream) => stream,
                Err(error) => return (got, Some(error)),
            };
            loop {
                match stream.next().await {
                    Ok(Some(event)) => got.push(event),
                    Ok(None) => return (got, None),
                    Err(error) => return (got, Some(error)),
                }
            }
        })
        .unwrap()
    })
}

#[test]
fn a_stream_that_breaks_off_is_told_from_one_that_ends() {
    let ended = [RECORDS, &chunk(b"2\n\x08\x02"), b"0\r\n\r\n"].concat();
    let (got, error) = events(&ended);
    assert!(got.len() == 1 && error.is_none(), "{error:?}");
    let broken = [RECORDS, &chunk(b"2\n\x08\x02")].concat();
    let (got, error) = events(&broken);
    assert!(got.len() == 1 && matches!(error, Some(Error::Lost { .. })), "{error:?}");
    let within = [RECORDS, &chunk(b"9\n\x08"), b"0\r\n\r\n"].concat();
    assert!(matches!(events(&within).1, Some(Error::Strange { .. })));
}

#[test]
fn a_stream_of_something_else_is_refused() {
    for answer in [
        with_status("200 OK", "application/x-protobuf", b"2\n\x08\x02"),
        [RECORDS, &chunk(b"x\n")].concat(),
        [RECORDS, &chunk(b"1\n\xff")].concat(),
        [RECORDS, &chunk(b"99999999999\n")].concat(),
    ] {
        let (got, error) = events(&answer);
        assert!(got.is_empty() && matches!(error, Some(Error::Strange { .. })), "{error:?}");
    }
    let (_, error) = events(&text("503 Service Unavailable", "Agent has not finished recovery"));
    assert_eq!(error.unwrap().to_string(), "Agent has not finished recovery");
}

#[test]
fn a_call_to_an_agent_that_reads_nothing_does_not_end_the_program_by_a_signal() {
    // The test would end with SIGPIPE if it were raised and not ignored; Rust's tests ignore it, so look at the call.
    let server = Server::new();
    std::thread::scope(|scope| {
        scope.spawn(|| drop(server.accept()));
        let error = block_on(async {
            let mut connection = server.agent().connect().await.unwrap();
            let id: ContainerId = "a".parse().unwrap();
            let mut last = None;
            for _ in 0..3 {
                last = connection.kill(&id, 9).await.err();
            }
            last
        })
        .unwrap();
        assert!(matches!(error, Some(Error::Lost { .. })), "{error:?}");
    });
}
