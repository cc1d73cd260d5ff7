// SPDX-License-Identifier: Apache-2.0
//! Standalone containers from launch to removal.

use serde_json::json;

use crate::client::{about, launch};
use crate::ground::on;

#[test]
fn a_container_is_launched_waited_for_and_removed_with_the_answers_of_mesos() {
    on("life", |ground| {
        ground.start();
        ground.launch("c", "exit 3");
        assert_eq!(ground.wait("c")["exit_status"], 3 << 8);
        assert_eq!(ground.wait("c")["exit_status"], 3 << 8, "it is kept");
        assert_eq!(
            ground.call(&launch("c", "true")).says(),
            (202, ""),
            "its id is taken until it is removed"
        );
        assert_eq!(ground.kill("c").says(), (404, "Container 'c' cannot be found (or is already killed)"));
        assert!(ground.site.work_dir().join("sandboxes/c/stdout").exists());
        assert_eq!(ground.remove("c").says(), (200, ""));
        assert_eq!(ground.remove("c").says(), (200, ""), "what is gone is removed");
        let wait = ground.call(&about("WAIT_CONTAINER", "c"));
        assert_eq!(wait.says(), (404, "Container c cannot be found"));
        assert!(!ground.site.work_dir().join("sandboxes/c").exists());
        ground.launch("c", "exit 4");
        assert_eq!(ground.wait("c")["exit_status"], 4 << 8, "the id can be used again");
    });
}

#[test]
fn a_running_container_is_killed_and_not_removed() {
    on("kill", |ground| {
        ground.start();
        ground.launch("c", "trap 'exit 7' TERM; while :; do sleep 0.01; done");
        let remove = ground.remove("c");
        assert_eq!(remove.says(), (500, "Container has not terminated yet"));
        let mut kill = about("KILL_CONTAINER", "c");
        kill["kill_container"]["signal"] = 999.into();
        let answer = ground.call(&kill);
        assert_eq!(answer.says(), (500, "Unable to send signal to container: Invalid argument"));
        assert_eq!(ground.kill("c").says(), (200, ""));
        assert_eq!(ground.wait("c")["exit_status"], 9);
        assert_eq!(
            ground.kill("nope").says(),
            (404, "Container 'nope' cannot be found (or is already killed)")
        );
    });
}

#[test]
fn a_launch_that_fails_says_why_and_leaves_nothing() {
    on("failed", |ground| {
        ground.start();
        let mut docker = launch("d", "true");
        docker["launch_container"]["container"] = json!({ "type": "DOCKER", "docker": { "image": "x" } });
        assert_eq!(ground.call(&docker).says(), (400, "The provided ContainerInfo is not supported"));
        let mut missing = launch("m", "");
        missing["launch_container"]["command"] = json!({ "shell": false, "value": "/no/such/program" });
        let answer = ground.call(&missing);
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.text.contains("/no/such/program"), "{}", answer.text);
        let nested = ground.call(&launch("nope.n", "true"));
        assert_eq!(nested.says(), (400, "Parent container nope does not exist"));
        assert_eq!(ground.listed(), [""; 0]);
        for place in ["sandboxes", "meta/containers", "containers"] {
            let entries = std::fs::read_dir(ground.site.work_dir().join(place)).unwrap();
            assert_eq!(entries.count(), 0, "{place}");
        }
        ground.launch("m", "exit 0");
        assert_eq!(ground.wait("m")["exit_status"], 0, "the id of a failed launch is free");
    });
}

#[test]
fn a_launch_goes_on_when_its_client_is_gone() {
    on("gone", |ground| {
        ground.start();
        let mut events = ground.stream(&json!({ "type": "SUBSCRIBE" }));
        let pending = ground.send(&launch("c", "exit 5"));
        assert_eq!(events.of("STATE")["state"]["name"], "STARTING");
        drop(pending);
        assert_eq!(ground.wait("c")["exit_status"], 5 << 8);
    });
}

#[test]
fn of_many_launches_of_one_id_at_once_one_starts_it() {
    on("race", |ground| {
        ground.start();
        let pending: Vec<_> = (0..8).map(|_| ground.send(&launch("c", "sleep 1000"))).collect();
        let mut statuses: Vec<u16> = pending.into_iter().map(|p| p.answer().unwrap().status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 202, 202, 202, 202, 202, 202, 202]);
        assert_eq!(ground.listed(), ["c"]);
    });
}

#[test]
fn an_update_is_in_force_and_shown_by_an_inspection() {
    on("update", |ground| {
        ground.start();
        let mut call = launch("c", "sleep 1000");
        call["launch_container"]["limits"] = json!({ "mem": { "value": 64 } });
        assert_eq!(ground.call(&call).says(), (200, ""));
        let limit = |ground: &crate::ground::Ground| ground.inspect("c")["used"]["mem_limit_bytes"].clone();
        assert_eq!(limit(ground), 64 << 20);
        let mut update = about("UPDATE_CONTAINER", "c");
        update["update_container"]["limits"] = json!({ "mem": { "value": 32 } });
        assert_eq!(ground.call(&update).says(), (200, ""));
        assert_eq!(limit(ground), 32 << 20);
        assert_eq!(ground.inspect("c")["limits"]["mem"]["value"], 32.0);
        let mut update = about("UPDATE_CONTAINER", "nope");
        update["update_container"]["limits"] = json!({});
        assert_eq!(ground.call(&update).says(), (404, "Container nope cannot be found"));
        ground.stop();
        ground.start();
        assert_eq!(ground.inspect("c")["limits"]["mem"]["value"], 32.0, "it is remembered");
    });
}

#[test]
fn a_container_goes_by_its_new_name_and_its_id() {
    on("rename", |ground| {
        ground.start();
        ground.launch("a", "sleep 1000");
        ground.launch("b", "sleep 1000");
        let rename = |id: &str, name: &str| {
            let mut call = about("RENAME", id);
            call["rename"]["name"] = name.into();
            call
        };
        assert_eq!(ground.call(&rename("a", "web")).says(), (200, ""));
        let taken = ground.call(&rename("b", "web"));
        assert_eq!(taken.status, 409, "{}", taken.text);
        assert_eq!(ground.call(&rename("b", "a")).status, 409, "an id is a name too");
        assert_eq!(ground.call(&launch("web", "true")).status, 409);
        assert_eq!(ground.call(&rename("b", "no/slash")).status, 400);
        ground.stop();
        ground.start();
        assert_eq!(ground.inspect("web")["container_id"]["value"], "a", "it is remembered");
        assert_eq!(ground.kill("web").says(), (200, ""));
        assert_eq!(ground.wait("a")["exit_status"], 9);
        assert_eq!(ground.remove("web").says(), (200, ""));
        ground.launch("web", "exit 0");
        assert_eq!(ground.wait("web")["exit_status"], 0, "the name is free");
    });
}

#[test]
fn a_paused_container_stays_paused_under_the_next_agent_and_can_be_resumed_and_killed() {
    on("paused", |ground| {
        ground.start();
        ground.launch("c", "while [ ! -e go ]; do sleep 0.01; done; exit 8");
        ground.launch("d", "sleep 1000");
        for id in ["c", "d"] {
            assert_eq!(ground.call(&about("PAUSE", id)).says(), (200, ""));
        }
        assert_eq!(ground.inspect("c")["state"]["name"], "PAUSED");
        ground.stop();
        ground.start();
        assert_eq!(ground.inspect("c")["state"]["name"], "PAUSED");
        std::fs::write(ground.site.work_dir().join("sandboxes/c/go"), "").unwrap();
        assert_eq!(ground.call(&about("RESUME", "c")).says(), (200, ""));
        assert_eq!(ground.wait("c")["exit_status"], 8 << 8);
        assert_eq!(ground.kill("d").says(), (200, ""));
        assert_eq!(ground.wait("d")["exit_status"], 9, "it is killed as it is");
    });
}
