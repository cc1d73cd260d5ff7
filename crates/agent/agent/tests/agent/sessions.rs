// SPDX-License-Identifier: Apache-2.0
//! Commands in running containers, and the streams of containers.

use serde_json::{Value, json};

use crate::client::{Sending, about, bytes, id};
use crate::ground::{Ground, on};

fn session(at: &str, command: &str) -> Value {
    let mut call = about("LAUNCH_NESTED_CONTAINER_SESSION", at);
    call["launch_nested_container_session"]["command"] = json!({ "value": command });
    call
}

fn exit_status(ground: &Ground, at: &str) -> Value {
    let answer = ground.call(&about("WAIT_NESTED_CONTAINER", at));
    answer.json()["wait_nested_container"]["exit_status"].clone()
}

#[test]
fn a_session_streams_what_its_command_writes_and_its_end_can_be_asked_for() {
    on("session", |ground| {
        ground.start();
        ground.launch("c", "sleep 1000");
        let mut output = ground.stream(&session("c.s", "echo out; echo err >&2; exit 3"));
        assert_eq!(output.data(), ("out\n".to_owned(), "err\n".to_owned()));
        assert_eq!(exit_status(ground, "c.s"), 3 << 8);
        let again = ground.call(&session("c.s", "true"));
        assert_eq!(again.says(), (202, ""), "its id is taken as long as it is kept");
        let remove = ground.call(&about("REMOVE_NESTED_CONTAINER", "c.s"));
        assert_eq!(remove.says(), (200, ""));
        let orphan = ground.call(&session("nope.s", "true"));
        assert_eq!(orphan.says(), (400, "Parent container nope does not exist"));
    });
}

#[test]
fn input_reaches_a_session_until_it_ends_and_one_sends_it_at_a_time() {
    on("input", |ground| {
        ground.start();
        ground.launch("c", "sleep 1000");
        let mut output = ground.stream(&session("c.s", "cat; exit 4"));
        let mut input = Sending::to(&ground.socket(), &id("c.s"));
        input.data(b"hello\n");
        assert_eq!(bytes(&output.next().unwrap()["data"]["data"]), b"hello\n");
        let second = Sending::to(&ground.socket(), &id("c.s")).answer();
        assert_eq!(second.says(), (409, "Multiple input connections are not allowed"));
        assert_eq!(input.finish().says(), (200, ""), "the end of a connection is not that of the input");
        let mut input = Sending::to(&ground.socket(), &id("c.s"));
        input.data(b"more\n");
        assert_eq!(bytes(&output.next().unwrap()["data"]["data"]), b"more\n");
        input.data(b"");
        assert_eq!(output.next(), None);
        assert_eq!(input.answer().says(), (200, ""), "it is answered soon after the output has ended");
        assert_eq!(exit_status(ground, "c.s"), 4 << 8);
    });
}

#[test]
fn a_session_with_a_terminal_has_its_size() {
    on("terminal", |ground| {
        ground.start();
        ground.launch("c", "sleep 1000");
        let mut call = session("c.t", "stty size; read x; stty size");
        let window = |rows: u32, columns: u32| json!({ "window_size": { "rows": rows, "columns": columns } });
        let payload = &mut call["launch_nested_container_session"];
        payload["container"] = json!({ "type": "MESOS", "tty_info": window(33, 101) });
        let mut output = ground.stream(&call);
        let mut told = String::new();
        while !told.contains("33 101\r\n") {
            told += std::str::from_utf8(&bytes(&output.next().unwrap()["data"]["data"])).unwrap();
        }
        let mut input = Sending::to(&ground.socket(), &id("c.t"));
        let size = window(20, 70);
        input.io(json!({ "type": "CONTROL", "control": { "type": "TTY_INFO", "tty_info": size } }));
        input.data(b"\n");
        while !told.contains("20 70\r\n") {
            told += std::str::from_utf8(&bytes(&output.next().unwrap()["data"]["data"])).unwrap();
        }
        assert_eq!(output.data().0, "");
        assert_eq!(input.finish().says(), (200, ""));
    });
}

#[test]
fn a_session_ends_with_its_clients_interest_and_the_container_goes_on() {
    on("dropped", |ground| {
        ground.start();
        ground.launch("c", "sleep 1000");
        let mut output = ground.stream(&session("c.s", "echo up; sleep 1000"));
        output.next().unwrap();
        drop(output);
        assert_eq!(exit_status(ground, "c.s"), 9);
        assert_eq!(ground.listed(), ["c"]);
    });
}

#[test]
fn what_a_container_writes_can_be_watched_by_many() {
    on("attach", |ground| {
        ground.start();
        ground.launch("c", "while [ ! -e go ]; do sleep 0.01; done; echo out; echo err >&2");
        let attach = about("ATTACH_CONTAINER_OUTPUT", "c");
        let mut watchers: Vec<_> = (0..3).map(|_| ground.stream(&attach)).collect();
        drop(watchers.pop());
        std::fs::write(ground.site.work_dir().join("sandboxes/c/go"), "").unwrap();
        for mut watcher in watchers {
            assert_eq!(watcher.data(), ("out\n".to_owned(), "err\n".to_owned()));
        }
        let none = ground.call(&about("ATTACH_CONTAINER_OUTPUT", "nope"));
        assert_eq!(none.says(), (404, "Container nope cannot be found"));
    });
}

fn descriptors_and_threads(ground: &Ground) -> (f64, f64) {
    let metrics = ground.call(&json!({ "type": "GET_METRICS", "get_metrics": {} })).json();
    let metric = |name: &str| {
        let all = metrics["get_metrics"]["metrics"].as_array().unwrap();
        all.iter().find(|metric| metric["name"] == name).unwrap()["value"].as_f64().unwrap()
    };
    (metric("berth/process/open_fds"), metric("berth/process/threads"))
}

/// Alone in its process: the others open and close descriptors too.
#[test]
fn many_sessions_leave_no_descriptor_and_no_record() {
    on("sessions", |ground| {
        let process = crate::process::started(ground);
        ground.launch("c", "sleep 1000");
        let cycle = |number: u32| {
            let at = format!("c.s{number}");
            let mut output = ground.stream(&session(&at, "echo x"));
            // Some clients stay to the end, and some go.
            if number.is_multiple_of(2) {
                assert_eq!(output.data().0, "x\n");
            }
        };
        // So many ended ones are kept.
        (0..80).for_each(cycle);
        let before = descriptors_and_threads(ground);
        (80..200).for_each(cycle);
        let deadline = std::time::Instant::now() + crate::client::PATIENCE;
        loop {
            let now = descriptors_and_threads(ground);
            if now.0 <= before.0 + 2.0 {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{before:?} became {now:?}");
        }
        // The last one may still be ending.
        exit_status(ground, "c.s199");
        let nested = json!({ "type": "GET_CONTAINERS", "get_containers": { "show_nested": true } });
        assert_eq!(ground.call(&nested).text, r#"{"type":"GET_CONTAINERS"}"#);
        assert_eq!(ground.call(&about("WAIT_NESTED_CONTAINER", "c.s0")).status, 404, "forgotten by now");
        assert_eq!(exit_status(ground, "c.s198"), 0);
        let runtime = ground.site.runtime_dir().join("containers");
        assert!(std::fs::read_dir(runtime).unwrap().count() < 80);
        crate::process::terminate(process);
    });
}
