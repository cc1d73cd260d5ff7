// SPDX-License-Identifier: Apache-2.0
//! What is asked about containers and the agent.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{about, get, launch};
use crate::ground::on;

fn containers() -> Value {
    json!({ "type": "GET_CONTAINERS", "get_containers": { "show_standalone": true, "show_nested": true } })
}

#[test]
fn lists_have_status_and_usage_of_what_lives() {
    on("list", |ground| {
        ground.start();
        assert_eq!(ground.call(&containers()).text, r#"{"type":"GET_CONTAINERS"}"#);
        ground.launch("a", "sleep 1000");
        ground.launch("b", "exit 0");
        ground.wait("b");
        let answer = ground.call(&containers()).json();
        let [container] = &answer["get_containers"]["containers"].as_array().unwrap()[..] else {
            panic!("one lives: {answer}")
        };
        assert_eq!(container["container_id"]["value"], "a");
        assert_eq!(container["container_status"]["container_id"]["value"], "a");
        assert!(container["container_status"]["executor_pid"].as_u64().unwrap() > 1);
        assert!(container["resource_statistics"]["mem_total_bytes"].as_u64().unwrap() > 0);
        let plain = ground.call(&json!({ "type": "GET_CONTAINERS" }));
        assert_eq!(plain.text, r#"{"type":"GET_CONTAINERS"}"#, "standalone ones only when asked for");
    });
}

#[test]
fn one_answer_has_the_summaries_of_all_also_of_those_that_ended() {
    on("summaries", |ground| {
        ground.start();
        let mut call = launch("a", "sleep 1000");
        call["launch_container"]["container"] = json!({ "type": "MESOS" });
        assert_eq!(ground.call(&call).says(), (200, ""));
        ground.launch("b", "exit 3");
        ground.wait("b");
        let rename =
            json!({ "type": "RENAME", "rename": { "container_id": { "value": "a" }, "name": "front" } });
        assert_eq!(ground.call(&rename).says(), (200, ""));
        let mut call = containers();
        for what in ["show_ended", "show_summaries", "without_statistics"] {
            call["get_containers"][what] = true.into();
        }
        let answer = ground.call(&call).json();
        let all = answer["get_containers"]["containers"].as_array().unwrap();
        assert_eq!(all.len(), 2, "{answer}");
        let (a, b) = (&all[0], &all[1]);
        assert_eq!(
            (&a["summary"]["container_id"]["value"], &a["summary"]["name"]),
            (&"a".into(), &"front".into())
        );
        assert_eq!(a["summary"]["command"], json!(["sleep 1000"]));
        assert_eq!(a["summary"]["state"]["name"], "RUNNING");
        assert!(a["summary"]["state"]["age"]["nanoseconds"].as_i64().unwrap() >= 0);
        assert!(a["summary"]["created"]["nanoseconds"].as_u64().unwrap() > 0);
        assert!(a["container_status"]["executor_pid"].as_u64().unwrap() > 1);
        assert!(a.get("resource_statistics").is_none() && a["summary"].get("termination").is_none(), "{a}");
        assert_eq!(b["summary"]["termination"]["exit_status"], 3 << 8, "{b}");
        assert!(b["summary"]["termination"]["ended"]["nanoseconds"].as_u64().unwrap() > 0);
        assert!(b.get("container_status").is_none(), "nothing is asked of what has ended: {b}");
        // Without a word about it, the answer is Mesos's.
        let plain = ground.call(&containers()).json();
        assert!(plain["get_containers"]["containers"][0].get("summary").is_none(), "{plain}");
    });
}

#[test]
fn an_inspection_says_what_was_asked_and_what_there_is() {
    on("inspect", |ground| {
        ground.start();
        let mut call = launch("c", "sleep 1000");
        call["launch_container"]["limits"] = json!({ "mem": { "value": 48 }, "pids": { "value": 9 } });
        assert_eq!(ground.call(&call).says(), (200, ""));
        let c = ground.inspect("c");
        assert_eq!((&c["containerizer"], &c["state"]["name"]), (&"mesos".into(), &"RUNNING".into()), "{c}");
        assert_eq!(c["command"]["value"], "sleep 1000");
        assert!(c["created"]["nanoseconds"].as_u64().unwrap() > 0);
        assert!(c["state"]["age"]["nanoseconds"].as_i64().unwrap() >= 0);
        let pid = &c["status"]["executor_pid"];
        assert!(c["pids"].as_array().unwrap().contains(pid), "{c}");
        let namespace = |kind: &str| {
            let all = c["namespaces"].as_array().unwrap();
            all.iter().find(|namespace| namespace["type"] == kind).unwrap()["host"].clone()
        };
        assert_eq!((namespace("pid"), namespace("net")), (false.into(), true.into()));
        assert!(c["mounts"].as_array().unwrap().iter().any(|mount| mount["target"] == "/"));
        let applied = c["applied_limits"].as_array().unwrap();
        let limit = |name: &str| applied.iter().find(|limit| limit["name"] == name).unwrap()["value"].clone();
        assert_eq!((limit("memory.max"), limit("pids.max")), ((48 << 20).to_string().into(), "9".into()));
        let marker = ground.site.marker().to_owned();
        assert!(c["cgroup"].as_str().unwrap().contains(&marker));
        assert_eq!(ground.kill("c").status, 200);
        ground.wait("c");
        let c = ground.inspect("c");
        assert_eq!(
            (&c["state"]["name"], &c["termination"]["exit_status"]),
            (&"TERMINATED".into(), &9.into()),
            "{c}"
        );
        assert!(c["termination"]["ended"]["nanoseconds"].as_u64().unwrap() > 0);
        assert!(c.get("pids").is_none());
        let none = ground.call(&about("INSPECT_CONTAINER", "nope"));
        assert_eq!(none.says(), (404, "Container nope cannot be found"));
    });
}

#[test]
fn the_agent_says_what_it_is_and_what_it_counts() {
    on("agent", |ground| {
        ground.start();
        ground.launch("c", "sleep 1000");
        assert_eq!(get(&ground.socket(), "/health").unwrap().says(), (200, ""));
        let flags = ground.call(&json!({ "type": "GET_FLAGS" })).json();
        let flags = flags["get_flags"]["flags"].as_array().unwrap();
        assert!(flags.iter().any(|flag| flag["name"] == "work_dir"));
        let version = ground.call(&json!({ "type": "GET_VERSION" })).json();
        assert_eq!(version["get_version"]["version_info"]["version"], env!("CARGO_PKG_VERSION"));
        let agent = ground.call(&json!({ "type": "GET_AGENT" })).json()["get_agent"]["agent_info"].clone();
        assert!(agent["resources"].as_array().unwrap().iter().any(|resource| resource["name"] == "cpus"));
        let state = ground.call(&json!({ "type": "GET_TASKS" })).json();
        assert_eq!(state["get_tasks"]["launched_tasks"], json!([]));
        let metrics = ground.call(&json!({ "type": "GET_METRICS", "get_metrics": {} })).json();
        let metrics = metrics["get_metrics"]["metrics"].as_array().unwrap();
        let metric = |name: &str| {
            let found = metrics.iter().find(|metric| metric["name"] == name);
            found.unwrap_or_else(|| panic!("{name}"))["value"].as_f64().unwrap()
        };
        assert_eq!((metric("berth/containers_running"), metric("berth/launches")), (1.0, 1.0));
        assert!(metric("berth/process/rss_bytes") > 1e6 && metric("slave/uptime_secs") > 0.0);
        assert!(metric("berth/process/open_fds") > 3.0);
        let level = ground.call(&json!({ "type": "GET_LOGGING_LEVEL" })).json();
        assert_eq!(level["get_logging_level"]["level"], 0);
        let prune = ground.call(&json!({ "type": "PRUNE_IMAGES" }));
        assert_eq!(prune.says(), (200, ""));
        let operations = ground.call(&json!({ "type": "GET_OPERATIONS_IN_FLIGHT" }));
        assert_eq!(operations.status, 200, "{}", operations.text);
    });
}

#[test]
fn events_tell_a_life_in_order_and_again_to_who_comes_back() {
    on("events", |ground| {
        ground.start();
        let mut events = ground.stream(&json!({ "type": "SUBSCRIBE" }));
        let first = events.next().unwrap();
        assert_eq!(first["type"], "SUBSCRIBED");
        let since = first["subscribed"]["sequence"].as_u64().unwrap();
        ground.launch("c", "exit 6");
        ground.wait("c");
        ground.remove("c");
        let mut told = Vec::new();
        let mut last = since;
        loop {
            let event = events.next().unwrap();
            assert_eq!(event["container_id"]["value"], "c");
            let sequence = event["sequence"].as_u64().unwrap();
            assert_eq!(sequence, last + 1);
            last = sequence;
            let kind = event["type"].as_str().unwrap().to_owned();
            if kind == "TERMINATED" {
                assert_eq!(event["termination"]["exit_status"], 6 << 8);
            }
            let state = event["state"]["name"].as_str().map(|name| format!(" {name}")).unwrap_or_default();
            told.push(format!("{kind}{state}"));
            if kind == "REMOVED" {
                break;
            }
        }
        assert_eq!(told.first().unwrap(), "STATE STARTING");
        let at = |what: &str| {
            told.iter().position(|told| told == what).unwrap_or_else(|| panic!("{what}: {told:?}"))
        };
        assert!(at("STATE RUNNING") < at("STATE DESTROYING") && at("STATE DESTROYING") < at("TERMINATED"));
        let mut again = ground.stream(&json!({ "type": "SUBSCRIBE", "subscribe": { "since": since } }));
        assert_eq!(again.next().unwrap()["type"], "SUBSCRIBED");
        assert_eq!(again.next().unwrap()["sequence"], since + 1);
        let mut late = ground.stream(&json!({ "type": "SUBSCRIBE", "subscribe": { "since": 1 } }));
        late.next().unwrap();
        assert_eq!(late.next().unwrap()["type"], "MISSED", "another agent's number");
    });
}

#[test]
fn sandboxes_are_browsed_by_their_paths_and_links_lead_nowhere() {
    on("files", |ground| {
        ground.start();
        let command = "echo hello > f; mkdir d; ln -s /etc/passwd out; ln -s f in; mkfifo fifo; ln -s / root";
        ground.launch("c", command);
        ground.wait("c");
        let real = ground.site.work_dir().join("sandboxes/c").display().to_string();
        let list = |path: &str| ground.call(&json!({ "type": "LIST_FILES", "list_files": { "path": path } }));
        let read = |path: &str, offset: u64| {
            let payload = json!({ "path": path, "offset": offset });
            ground.call(&json!({ "type": "READ_FILE", "read_file": payload }))
        };
        let files = list("/containers/c").json()["list_files"]["file_infos"].clone();
        let names: Vec<&str> =
            files.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
        let expected = ["d", "f", "fifo", "in", "out", "root", "stderr", "stdout"];
        assert_eq!(names, expected.map(|name| format!("/containers/c/{name}")));
        let answer = read(&format!("{real}/f"), 1).json()["read_file"].clone();
        assert_eq!((&answer["size"], crate::client::bytes(&answer["data"])), (&6.into(), b"ello\n".to_vec()));
        assert_eq!(read("/containers/c/in", 9).json()["read_file"]["size"], 6);
        assert_eq!(read("/containers/c/d", 0).says(), (400, "Cannot read a directory.\n"));
        assert_eq!(read("/containers/c/out", 0).says(), (400, "'/containers/c/out' is inaccessible.\n"));
        assert_eq!(read("/containers/c/../c/f", 0).status, 400);
        assert_eq!(read("/containers/c/fifo", 0).status, 400);
        assert_eq!(list("/containers/c/root/etc").status, 400);
        assert_eq!(list("/containers/c/f").json()["list_files"], json!({}));
        assert_eq!(read("/containers/nope/f", 0).says(), (404, ""));
        assert_eq!(read("/etc/passwd", 0).says(), (404, ""));
    });
}

/// A budget of the design, with room for a machine that does other things too.
#[test]
fn a_list_of_many_containers_with_usage_comes_soon() {
    on("many", |ground| {
        ground.start();
        for number in 0..40 {
            ground.launch(&format!("c{number}"), "sleep 1000");
        }
        let deadline = Instant::now() + crate::client::PATIENCE;
        loop {
            let begun = Instant::now();
            let answer = ground.call(&containers()).json();
            let took = begun.elapsed();
            let listed = answer["get_containers"]["containers"].as_array().unwrap();
            assert_eq!(listed.len(), 40);
            assert!(took < Duration::from_secs(1), "{took:?}");
            let measured = |container: &&Value| container["resource_statistics"]["mem_total_bytes"].is_u64();
            if listed.iter().filter(measured).count() == 40 {
                println!("40 containers listed with usage in {took:?}");
                return;
            }
            // A worker that was not let run for long enough looks like one that is stuck.
            assert!(Instant::now() < deadline, "{answer}");
        }
    });
}
