// SPDX-License-Identifier: Apache-2.0

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use berth_sys::process::{Namespaces, unshare};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::oneshot;

use super::*;
use crate::check::{Checks, Which};
use crate::kept::Kept;
use crate::testing::{Fake, task};
use berth_proto::v1::{HealthCheck, TaskInfo, health_check};

const LIMIT: f64 = 60.0;

/// A server that answers each connection by `answer`.
fn serve(listener: TcpListener, answer: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap());
        }
    });
    port
}

fn local() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// The path of a request whose head has come.
fn path(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned()
}

fn answer(stream: &mut (impl Read + Write), of: impl Fn(&str) -> String) {
    let text = of(&path(stream));
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.flush();
}

fn plain(code: u16) -> String {
    format!("HTTP/1.1 {code} It\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

fn http(port: u16, path: &str, more: impl FnOnce(&mut health_check::HttpCheckInfo)) -> HealthCheck {
    let mut http = health_check::HttpCheckInfo {
        port: port.into(),
        path: Some(path.to_owned()),
        ..health_check::HttpCheckInfo::default()
    };
    more(&mut http);
    HealthCheck {
        r#type: Some(health_check::Type::Http as i32),
        http: Some(http),
        timeout_seconds: Some(LIMIT),
        ..HealthCheck::default()
    }
}

fn tcp(port: u16) -> HealthCheck {
    HealthCheck {
        r#type: Some(health_check::Type::Tcp as i32),
        tcp: Some(health_check::TcpCheckInfo { port: port.into(), ..Default::default() }),
        timeout_seconds: Some(LIMIT),
        ..HealthCheck::default()
    }
}

async fn outcome_of(containers: &Fake, kind: Kind, health: HealthCheck) -> Outcome {
    let task = TaskInfo { health_check: Some(health), ..task("t") };
    let checks = Checks::new(&task, Duration::ZERO, &Kept::default(), None);
    let plan = checks.plan(Which::Health).unwrap().clone();
    probe(containers, &ContainerId::new("c").unwrap(), kind, plan).await
}

async fn outcome(health: HealthCheck) -> Outcome {
    outcome_of(&Fake::default(), Kind::Command, health).await
}

#[tokio::test]
async fn a_connection_is_there_or_not() {
    let port = serve(local(), drop);
    assert_eq!(outcome(tcp(port)).await, Outcome::Connected(true));
    let closed = local().local_addr().unwrap().port();
    assert_eq!(outcome(tcp(closed)).await, Outcome::Connected(false));
}

#[tokio::test]
async fn an_answer_has_its_status() {
    let port = serve(local(), |mut stream| {
        answer(&mut stream, |path| plain(path.trim_start_matches('/').parse().unwrap()));
    });
    for code in [200, 404, 503] {
        assert_eq!(outcome(http(port, &format!("/{code}"), |_| {})).await, Outcome::Answered(code));
    }
}

#[tokio::test]
async fn redirects_are_followed_and_not_for_ever() {
    let port = serve(local(), |mut stream| {
        answer(&mut stream, |path| {
            let to = match path {
                "/" => "/here",
                "/round" => "/round",
                _ => return plain(204),
            };
            format!("HTTP/1.1 302 It\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        });
    });
    assert_eq!(outcome(http(port, "/", |_| {})).await, Outcome::Answered(204));
    let round = outcome(http(port, "/round", |_| {})).await;
    assert!(matches!(round, Outcome::Failed(_)), "{round:?}");
}

#[tokio::test]
async fn no_answer_is_a_failure() {
    let port = serve(local(), |mut stream| _ = path(&mut stream));
    let hung_up = outcome(http(port, "/", |_| {})).await;
    assert!(matches!(&hung_up, Outcome::Failed(_)), "{hung_up:?}");
    let closed = local().local_addr().unwrap().port();
    let refused = outcome(http(closed, "/", |_| {})).await;
    assert!(matches!(&refused, Outcome::Failed(why) if why.contains("refused")), "{refused:?}");
}

#[tokio::test]
async fn who_never_answers_is_waited_for_as_long_as_was_said() {
    let silent = local();
    let port = silent.local_addr().unwrap().port();
    let health = HealthCheck { timeout_seconds: Some(0.2), ..http(port, "/", |_| {}) };
    let late = outcome(health).await;
    assert!(matches!(&late, Outcome::Failed(_)), "{late:?}");
}

#[tokio::test]
async fn an_endless_answer_has_its_status_too() {
    let port = serve(local(), |mut stream| {
        path(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 It\r\n\r\n");
        while stream.write_all(&[0; 4096]).is_ok() {}
    });
    assert_eq!(outcome(http(port, "/", |_| {})).await, Outcome::Answered(200));
}

#[tokio::test]
async fn a_certificate_that_nobody_knows_will_do() {
    let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    let config = Arc::new(config);
    let port = serve(local(), move |stream| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, stream);
        answer(&mut stream, |_| plain(200));
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let health = http(port, "/", |http| http.scheme = Some("https".to_owned()));
    assert_eq!(outcome(health).await, Outcome::Answered(200));
}

#[tokio::test]
async fn ipv6_is_asked_at_its_own_loopback() {
    let listener = match TcpListener::bind("[::1]:0") {
        Ok(listener) => listener,
        Err(error) => {
            berth_testing::skip(berth_testing::this_test!(), &format!("IPv6 on the loopback: {error}"));
            return;
        }
    };
    let port = serve(listener, |mut stream| answer(&mut stream, |_| plain(200)));
    let six = Some(berth_proto::v1::network_info::Protocol::IPv6 as i32);
    assert_eq!(outcome(http(port, "/", |http| http.protocol = six)).await, Outcome::Answered(200));
}

/// A thread in a network of its own is a container as good as any: nothing of it is reached from here.
#[tokio::test]
async fn what_listens_in_a_network_of_its_own_is_reached_there() {
    let (tell, told) = oneshot::channel();
    let (_stay, leave) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let there = unshare(Namespaces::NET).and_then(|()| berth_sys::netdev::loopback_up());
        if let Err(error) = there {
            let _ = tell.send(Err(error));
            return;
        }
        let port = serve(local(), |mut stream| answer(&mut stream, |_| plain(201)));
        let _ = tell.send(Ok((berth_sys::rustix::thread::gettid().as_raw_pid().cast_unsigned(), port)));
        let _ = leave.recv();
    });
    let (pid, port) = match told.await.unwrap() {
        Ok(there) => there,
        Err(error) => {
            berth_testing::skip(berth_testing::this_test!(), &format!("a network of its own: {error}"));
            return;
        }
    };
    let inside = Fake::default();
    inside.is_process(pid);
    assert_eq!(outcome_of(&inside, Kind::Command, http(port, "/", |_| {})).await, Outcome::Answered(201));
    assert_eq!(outcome_of(&inside, Kind::Command, tcp(port)).await, Outcome::Connected(true));
    let here = local();
    let port = here.local_addr().unwrap().port();
    assert_eq!(outcome_of(&inside, Kind::Command, tcp(port)).await, Outcome::Connected(false));
    assert_eq!(outcome(tcp(port)).await, Outcome::Connected(true));
}

#[tokio::test]
async fn of_a_container_that_is_gone_nothing_is_known() {
    let gone = Fake::default();
    gone.is_process(u32::MAX);
    assert_eq!(outcome_of(&gone, Kind::Command, tcp(1)).await, Outcome::Nothing);
}

#[tokio::test]
async fn a_command_says_how_it_exited_and_the_texts_are_those_of_mesos() {
    let command = HealthCheck {
        r#type: Some(health_check::Type::Command as i32),
        command: Some(task("t").command.unwrap()),
        timeout_seconds: Some(20.0),
        ..HealthCheck::default()
    };
    for (ran, kind, expected) in [
        (Ran::Exited(0), Kind::Command, Outcome::Exited(0)),
        (Ran::Exited(137), Kind::Command, Outcome::Exited(137)),
        (Ran::Exited(137), Kind::Member, Outcome::Nothing),
        (Ran::TimedOut, Kind::Command, Outcome::Failed("Command timed out after 20secs".to_owned())),
        (Ran::Failed("no such file".to_owned()), Kind::Member, Outcome::Failed("no such file".to_owned())),
    ] {
        let fake = Fake::default();
        fake.answers(ran);
        assert_eq!(outcome_of(&fake, kind, command.clone()).await, expected);
        assert_eq!(fake.did(), ["exec c run Some(20s)"]);
    }
}
