// SPDX-License-Identifier: Apache-2.0
//! The agent as a process: signals, kills, and what it says when it does not start.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{PATIENCE, get};
use crate::ground::{Ground, on};

/// The example of this crate, which cargo builds with the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/agent")
}

/// An agent that ends with the test.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(ground: &Ground) -> Process {
    let mut command = Command::new(program());
    command.args(ground.arguments()).env_clear().stdin(Stdio::null()).stderr(Stdio::piped());
    Process(command.spawn().unwrap())
}

/// Starts one, and waits until it answers.
pub(crate) fn started(ground: &Ground) -> Process {
    let child = spawn(ground);
    let deadline = Instant::now() + PATIENCE;
    let version = serde_json::json!({ "type": "GET_VERSION" });
    loop {
        let answer = crate::client::send(&ground.socket(), &version).and_then(|pending| pending.answer());
        if answer.is_ok_and(|answer| answer.status == 200) {
            return child;
        }
        assert!(Instant::now() < deadline, "the agent does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Process, signal: Signal) {
    let pid = Pid::from_raw(child.0.id().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Kills it.
pub(crate) fn kill(child: Process) {
    signal(&child, Signal::KILL);
    ended(child);
}

/// Ends it as a service manager would.
pub(crate) fn terminate(child: Process) {
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).0.code(), Some(0));
}

/// Reads its log up to this text; `false` when it does not come.
fn said(child: &mut Process, text: &str) -> bool {
    let log = child.0.stderr.as_mut().unwrap();
    let (mut line, mut byte) = (Vec::new(), [0]);
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let readable =
        |log: &ChildStderr| poll(&mut [PollFd::new(log, PollFlags::IN)], Some(&patience)).unwrap() > 0;
    while readable(log) && log.read(&mut byte).unwrap() == 1 {
        line.push(byte[0]);
        if line.ends_with(text.as_bytes()) {
            return true;
        }
    }
    false
}

fn ended(mut child: Process) -> (ExitStatus, String) {
    let mut log = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (child.0.wait().unwrap(), log)
}

#[test]
fn a_killed_agent_loses_no_container_and_no_status() {
    on("killed", |ground| {
        let child = started(ground);
        for number in 0..10 {
            let command = format!("while [ ! -e go ]; do sleep 0.01; done; exit {}", number + 1);
            ground.launch(&format!("c{number}"), &command);
        }
        signal(&child, Signal::KILL);
        let (status, _) = ended(child);
        assert_eq!(status.code(), None);
        for number in 0..5 {
            fs::write(ground.site.work_dir().join(format!("sandboxes/c{number}/go")), "").unwrap();
        }
        let child = started(ground);
        for number in 0..5 {
            assert_eq!(ground.wait(&format!("c{number}"))["exit_status"], (number + 1) << 8);
        }
        let mut listed = ground.listed();
        listed.sort();
        assert_eq!(listed, ["c5", "c6", "c7", "c8", "c9"]);
        for number in 5..10 {
            fs::write(ground.site.work_dir().join(format!("sandboxes/c{number}/go")), "").unwrap();
            assert_eq!(ground.wait(&format!("c{number}"))["exit_status"], (number + 1) << 8);
        }
        signal(&child, Signal::TERM);
        assert_eq!(ended(child).0.code(), Some(0));
    });
}

#[test]
fn signals_dump_reload_and_end_and_containers_go_on() {
    on("signals", |ground| {
        let mut child = started(ground);
        ground.launch("c", "sleep 1000");
        signal(&child, Signal::USR1);
        assert!(said(&mut child, "state dump container=c state=RUNNING"));
        signal(&child, Signal::HUP);
        assert!(said(&mut child, "reloaded logging_level=info"));
        signal(&child, Signal::TERM);
        let (status, log) = ended(child);
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!ground.socket().exists(), "the socket goes with the agent");
        assert!(get(&ground.socket(), "/health").is_err());
        ground.start();
        assert_eq!(ground.listed(), ["c"]);
    });
}

#[test]
fn an_agent_that_does_not_start_says_why_on_standard_error() {
    on("refused", |ground| {
        ground.with("--no_such_flag=1");
        let (status, log) = ended(spawn(ground));
        assert_eq!(status.code(), Some(1));
        assert!(log.starts_with("berth agent: ") && log.contains("no_such_flag"), "{log}");
        let output = Command::new(program()).arg("frobnicate").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let output = Command::new(program()).arg("--help").output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("--work_dir=PATH"));
        let output = Command::new(program()).args(["check-config", "--json"]).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ok"], true, "{report}");
        let output = Command::new(program()).arg("check-host").output().unwrap();
        assert!(!output.stdout.is_empty());
        ground.without();
    });
}

#[test]
fn a_clean_up_destroys_everything_and_exits() {
    on("cleanup", |ground| {
        let child = started(ground);
        ground.launch("c", "sleep 1000");
        signal(&child, Signal::TERM);
        assert_eq!(ended(child).0.code(), Some(0));
        let mut command = Command::new(program());
        command.args(ground.arguments()).arg("--recover=cleanup").env_clear();
        let status = command.stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(0));
        ground.start();
        assert_eq!(ground.listed(), [""; 0]);
    });
}

#[test]
fn an_agent_serves_on_tcp_when_asked_to_and_on_its_socket_too() {
    on("tcp", |ground| {
        ground.with("--port=0");
        ground.with("--no-authenticate_http_readwrite");
        ground.start();
        let address = ground.tcp().unwrap();
        assert!(address.ip().is_loopback());
        let answer = over_tcp(address, "GET /slave(1)/health HTTP/1.1\r\n", "");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(get(&ground.socket(), "/health").unwrap().says(), (200, ""));
    });
}

/// What an agent answers to one request over TCP.
fn over_tcp(address: std::net::SocketAddr, head: &str, body: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!("{head}Host: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn who_comes_over_tcp_says_who_they_are_and_who_opens_the_socket_does_not() {
    on("tcp-asked", |ground| {
        ground.with("--ip=127.0.0.1");
        ground.with("--port=0");
        ground.with("--authenticate_http_readwrite");
        ground.with(r#"--http_credentials={"credentials":[{"principal":"ops","secret":"hunter2"}]}"#);
        ground.start();
        let address = ground.tcp().unwrap();
        let call = |authorization: &str| {
            let head = format!("POST /api/v1 HTTP/1.1\r\nContent-Type: application/json\r\n{authorization}");
            over_tcp(address, &head, r#"{"type":"GET_CONTAINERS"}"#)
        };
        let refused = call("");
        assert!(refused.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{refused}");
        assert!(refused.contains("Basic realm=\"mesos-agent-readwrite\""), "{refused}");
        // "ops:wrong" and "ops:hunter2".
        assert!(call("Authorization: Basic b3BzOndyb25n\r\n").starts_with("HTTP/1.1 401 "));
        let let_in = call("Authorization: Basic b3BzOmh1bnRlcjI=\r\n");
        assert!(let_in.starts_with("HTTP/1.1 200 OK\r\n"), "{let_in}");
        assert_eq!(ground.listed(), [""; 0]);
    });
}
