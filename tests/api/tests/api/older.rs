// SPDX-License-Identifier: Apache-2.0
//! The older endpoints with something behind them, files of a hostile container, and what happens as a browser hears it.

use std::fs;
use std::os::unix::fs::symlink;

use berth_test_agent::{Ground, until};
use berth_test_api::{Client, Request};
use serde_json::Value;

use crate::{ground, leave, told};

fn get(ground: &Ground, path: &str) -> (u16, String) {
    Client::ask(&ground.socket(), &Request::new("GET", path)).unwrap().says()
}

#[test]
fn files_of_a_sandbox_are_browsed_read_and_downloaded() {
    let mut ground = ground!(files_of_a_sandbox_are_browsed_read_and_downloaded);
    let name = ground.name("f");
    ground.api().launch(&name, &berth_test_agent::shell("exec sleep 1000")).unwrap();
    let sandbox = ground.sandbox(&name);
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(sandbox.join("data.bin"), &bytes).unwrap();
    fs::write(sandbox.join("words"), "hello world").unwrap();
    let at = |file: &str| format!("/containers/{name}{file}");
    let files = told(&ground, &format!("/files/browse?path={}", at("")));
    let words = files.as_array().unwrap().iter().find(|file| file["path"] == at("/words")).unwrap();
    assert_eq!(
        (&words["size"], &words["mode"], &words["uid"]),
        (&11.into(), &"-rw-r--r--".into(), &"root".into())
    );
    let read = |query: &str| told(&ground, &format!("/files/read?path={}{query}", at("/words")));
    assert_eq!(read("").to_string(), r#"{"data":"","offset":11}"#);
    assert_eq!(read("&offset=6").to_string(), r#"{"data":"world","offset":6}"#);
    assert_eq!(read("&offset=0&length=5").to_string(), r#"{"data":"hello","offset":0}"#);
    assert_eq!(read("&offset=0&length=-1")["data"], "hello world");
    let download = Request::new("GET", &format!("/files/download?path={}", at("/data.bin")));
    let download = Client::ask(&ground.socket(), &download).unwrap();
    assert!(download.body == bytes, "{} bytes", download.body.len());
    assert_eq!(download.head.header("content-disposition"), Some("attachment; filename=data.bin"));
    assert_eq!(download.head.header("content-type"), Some("application/octet-stream"));
    assert_eq!(
        get(&ground, &format!("/files/download?path={}", at(""))),
        (400, "Cannot download a directory.\n".into())
    );
    let places = told(&ground, "/files/debug");
    assert_eq!(places[at("")], sandbox.to_str().unwrap());
    // The real path of a sandbox is a virtual one too.
    assert_eq!(
        told(&ground, &format!("/files/read?path={}&offset=0", sandbox.join("words").display()))["data"],
        "hello world"
    );
    leave(&mut ground);
}

#[test]
fn no_path_leads_out_of_a_sandbox() {
    let mut ground = ground!(no_path_leads_out_of_a_sandbox);
    let (name, other) = (ground.name("h"), ground.name("o"));
    for name in [&name, &other] {
        ground.api().launch(name, &berth_test_agent::shell("exec sleep 1000")).unwrap();
    }
    let sandbox = ground.sandbox(&name);
    fs::write(ground.sandbox(&other).join("secret"), "of another").unwrap();
    symlink("/etc/passwd", sandbox.join("absolute")).unwrap();
    symlink("../../meta", sandbox.join("up")).unwrap();
    symlink(format!("../{other}/secret"), sandbox.join("sideways")).unwrap();
    symlink("/proc/self/root/etc", sandbox.join("magic")).unwrap();
    symlink("/proc/1/environ", sandbox.join("environ")).unwrap();
    symlink("loop", sandbox.join("loop")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, sandbox.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    for file in [
        "absolute",
        "up",
        "up/containers",
        "sideways",
        "magic/passwd",
        "environ",
        "loop",
        "fifo",
        "../secret",
        "%2e%2e/secret",
        "..%2f..%2fmeta",
        "./../../meta",
        "x/../../../meta",
    ] {
        let path = format!("/containers/{name}/{file}");
        for query in ["/files/read?offset=0&path=", "/files/download?path="] {
            let (status, text) = get(&ground, &format!("{query}{path}"));
            assert!(status == 400 || status == 404, "{query}{path}: {status} {text}");
        }
        let list = get(&ground, &format!("/files/browse?path={path}"));
        // A link that leads nowhere lists nothing.
        assert!(list.0 == 400 || list.0 == 404 || list.1 == "[]", "{path}: {list:?}");
    }
    for path in
        ["/containers/../sandboxes", "/containers/.", "/containers//etc", "/containers", "/etc/passwd", ""]
    {
        let list = get(&ground, &format!("/files/browse?path={path}"));
        assert!(list.0 == 400 || list.0 == 404, "{path}: {list:?}");
    }
    leave(&mut ground);
}

#[test]
fn the_state_and_what_is_measured_are_told() {
    let mut ground = ground!(the_state_and_what_is_measured_are_told);
    let state = told(&ground, "/slave(1)/state");
    assert!(state["pid"].as_str().unwrap().starts_with("slave(1)@127.0.0.1:"), "{}", state["pid"]);
    assert_eq!(state["flags"]["ip"], "127.0.0.1");
    assert!(
        state["resources"]["mem"].as_f64().unwrap() > 0.0 && state["resources"]["ports"] == "[31000-32000]"
    );
    assert_eq!(
        (&state["frameworks"], &state["completed_frameworks"]),
        (&Value::Array(vec![]), &Value::Array(vec![]))
    );
    let before = told(&ground, "/metrics/snapshot?timeout=5secs");
    let name = ground.name("m");
    ground.api().launch(&name, &berth_test_agent::shell("exec sleep 1000")).unwrap();
    let after = told(&ground, "/metrics/snapshot");
    let of = |metrics: &Value, name: &str| metrics[name].as_f64().unwrap_or_else(|| panic!("{name}"));
    assert_eq!(of(&after, "berth/containers_running"), of(&before, "berth/containers_running") + 1.0);
    assert_eq!(of(&after, "slave/cpus_total"), state["resources"]["cpus"].as_f64().unwrap());
    assert!(of(&after, "slave/uptime_secs") > of(&before, "slave/uptime_secs"));
    let system = told(&ground, "/system/stats.json");
    assert!(system["mem_total_bytes"].as_f64().unwrap() > 0.0 && system["avg_load_1min"].is_number());
    assert_eq!(told(&ground, "/containers?container_id=x"), Value::Array(vec![]));
    assert_eq!(told(&ground, "/monitor/statistics"), Value::Array(vec![]));
    assert_eq!(told(&ground, "/containerizer/debug")["pending"], Value::Array(vec![]));
    assert_eq!(get(&ground, "/health"), (200, String::new()));
    assert_eq!(get(&ground, "/logging/toggle"), (200, "0\n".to_owned()));
    assert_eq!(get(&ground, "/logging/toggle?level=1&duration=1ms"), (200, String::new()));
    until("the level goes back", || get(&ground, "/logging/toggle").1 == "0\n");
    leave(&mut ground);
}

/// The next event of a stream: its id, its kind, what it says.
fn event(client: &mut Client, pending: &mut String) -> (Option<u64>, String, Value) {
    loop {
        if let Some((whole, rest)) = pending.split_once("\n\n") {
            let (whole, rest) = (whole.to_owned(), rest.to_owned());
            *pending = rest;
            let of = |name: &str| whole.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            let Some(data) = of("data: ") else { continue };
            let id = of("id: ").map(|id| id.parse().unwrap());
            return (id, of("event: ").unwrap(), serde_json::from_str(&data).unwrap());
        }
        let piece = client.chunk().unwrap().expect("events go on");
        *pending += &String::from_utf8(piece).unwrap();
    }
}

fn listen(ground: &Ground, request: Request) -> Client {
    let mut client = Client::to(&ground.socket()).unwrap();
    client.send(&request.bytes()).unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    client
}

#[test]
fn events_are_heard_by_browsers_and_go_on_where_they_were_left() {
    let mut ground = ground!(events_are_heard_by_browsers_and_go_on_where_they_were_left);
    let (mut client, mut pending) = (listen(&ground, Request::new("GET", "/events")), String::new());
    let (first, kind, _) = event(&mut client, &mut pending);
    assert_eq!(kind, "SUBSCRIBED");
    let name = ground.name("e");
    ground.api().launch(&name, &berth_test_agent::shell("exit 3")).unwrap();
    let mut heard = Vec::new();
    loop {
        let (id, kind, event) = event(&mut client, &mut pending);
        assert_eq!(event["container_id"]["value"], name.as_str());
        heard.push((id.unwrap(), kind.clone()));
        if kind == "TERMINATED" {
            assert_eq!(event["termination"]["exit_status"], 3 << 8);
            break;
        }
    }
    drop(client);
    let numbers: Vec<u64> = heard.iter().map(|(id, _)| *id).collect();
    assert_eq!(numbers[0], first.unwrap() + 1);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    // From the second on, as a browser asks that lost its connection.
    let request = Request::new("GET", "/events").with("Last-Event-ID", &numbers[0].to_string());
    let (mut client, mut pending) = (listen(&ground, request), String::new());
    assert_eq!(event(&mut client, &mut pending).0, None, "the first does not say where it goes on");
    for wanted in &heard[1..] {
        let (id, kind, _) = event(&mut client, &mut pending);
        assert_eq!((id.unwrap(), kind), *wanted);
    }
    // From a number that is long gone: something is missed.
    let (mut client, mut pending) = (listen(&ground, Request::new("GET", "/events?since=5")), String::new());
    event(&mut client, &mut pending);
    assert_eq!(event(&mut client, &mut pending).1, "MISSED");
    assert_eq!(get(&ground, "/events?since=x").0, 400);
    leave(&mut ground);
}
