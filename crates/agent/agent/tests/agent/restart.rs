// SPDX-License-Identifier: Apache-2.0
//! Agents that come after others on the same directories.

use std::fs;

use berth_model::Class;

use crate::client::about;
use crate::ground::{Ground, on};

#[test]
fn containers_outlive_the_agent_and_an_exit_between_two_agents_is_not_lost() {
    on("restart", |ground| {
        ground.start();
        ground.launch("runs", "sleep 1000");
        ground.launch("ends", "while [ ! -e go ]; do sleep 0.01; done; exit 9");
        ground.launch("ended", "exit 2");
        ground.wait("ended");
        let pid = ground.inspect("runs")["status"]["executor_pid"].clone();
        ground.stop();
        fs::write(ground.site.work_dir().join("sandboxes/ends/go"), "").unwrap();
        ground.start();
        assert_eq!(ground.wait("ends")["exit_status"], 9 << 8);
        assert_eq!(ground.wait("ended")["exit_status"], 2 << 8);
        let runs = ground.inspect("runs");
        assert_eq!((&runs["status"]["executor_pid"], &runs["state"]["name"]), (&pid, &"RUNNING".into()));
        assert_eq!(runs["command"]["value"], "sleep 1000");
        assert_eq!(ground.kill("runs").status, 200);
        assert_eq!(ground.wait("runs")["exit_status"], 9);
    });
}

#[test]
fn two_agents_on_one_directory_are_refused_and_the_first_goes_on() {
    on("two", |ground| {
        ground.start();
        let error = ground.second().unwrap_err();
        assert_eq!(error.class(), Class::Conflict);
        assert!(error.to_string().contains("is held by process"), "{error}");
        ground.launch("c", "exit 0");
        assert_eq!(ground.wait("c")["exit_status"], 0);
    });
}

/// Takes away what a reboot takes: everything in the runtime directory, and the boot in which records were written.
fn reboot(ground: &Ground) {
    for entry in fs::read_dir(ground.site.runtime_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    for entry in fs::read_dir(ground.site.work_dir().join("meta/containers")).unwrap() {
        let path = entry.unwrap().path().join("config");
        let text = fs::read_to_string(&path).unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        fs::write(&path, text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
    }
}

#[test]
fn after_a_reboot_ends_are_remembered_and_what_ran_is_lost_in_words() {
    on("reboot", |ground| {
        ground.start();
        ground.launch("ended", "exit 2");
        ground.wait("ended");
        ground.launch("ran", "echo here; sleep 1000");
        let mut follow = about("READ_LOGS", "ran");
        follow["read_logs"]["follow"] = true.into();
        ground.stream(&follow).next().unwrap();
        ground.stop();
        // The machine ends what runs; here that is done for it.
        ground.start();
        ground.kill("ran");
        ground.wait("ran");
        ground.stop();
        fs::remove_file(ground.site.work_dir().join("meta/containers/ran/termination")).unwrap();
        reboot(ground);
        ground.start();
        assert_eq!(ground.wait("ended")["exit_status"], 2 << 8);
        let ran = ground.wait("ran");
        assert!(ran.get("exit_status").is_none(), "{ran}");
        assert_eq!(ran["message"], "the exit status is unknown: the machine was restarted while it ran");
        let log = ground.stream(&about("READ_LOGS", "ran")).data().0;
        assert_eq!(log, "here\n", "the sandbox is kept");
        let before = ran;
        ground.stop();
        ground.start();
        assert_eq!(ground.wait("ran"), before, "the same is said again");
    });
}

#[test]
fn torn_and_missing_records_cost_a_description_and_no_container() {
    on("torn", |ground| {
        ground.start();
        ground.launch("torn", "sleep 1000");
        ground.launch("missing", "sleep 1000");
        ground.launch("ended", "exit 3");
        ground.wait("ended");
        ground.stop();
        let meta = ground.site.work_dir().join("meta/containers");
        fs::write(meta.join("torn/config"), "").unwrap();
        fs::remove_dir_all(meta.join("missing")).unwrap();
        fs::write(meta.join("ended/config"), "{\"format\":").unwrap();
        fs::create_dir(meta.join("part")).unwrap();
        ground.start();
        let mut listed = ground.listed();
        listed.sort();
        assert_eq!(listed, ["missing", "torn"]);
        assert_eq!(ground.wait("ended")["exit_status"], 3 << 8);
        assert!(!meta.join("part").exists());
        for id in ["torn", "missing"] {
            assert_eq!(ground.kill(id).status, 200);
            assert_eq!(ground.wait(id)["exit_status"], 9);
        }
    });
}

#[test]
fn a_record_of_a_newer_agent_stops_a_strict_one_and_is_left_alone_by_another() {
    on("newer", |ground| {
        ground.start();
        ground.launch("c", "sleep 1000");
        ground.stop();
        let path = ground.site.work_dir().join("meta/containers/c/config");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"version\":1", "\"version\":9", 1)).unwrap();
        let error = ground.try_start().unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
        assert!(error.to_string().contains("--no-strict"), "{error}");
        ground.with("--no-strict");
        ground.start();
        assert_eq!(ground.listed(), ["c"]);
        ground.stop();
        fs::write(&path, text).unwrap();
    });
}

#[test]
fn a_launch_that_was_killed_before_it_began_is_undone_and_a_removal_finished() {
    on("prefix", |ground| {
        ground.start();
        ground.launch("c", "exit 0");
        ground.wait("c");
        ground.launch("model", "exit 0");
        ground.wait("model");
        ground.stop();
        let work = ground.site.work_dir();
        // A record and a sandbox, and nothing else: the agent was killed before the containerizer had it.
        let text = fs::read_to_string(work.join("meta/containers/model/config")).unwrap();
        for part in ["meta/containers/begun", "sandboxes/begun", "meta/containers/record"] {
            fs::create_dir(work.join(part)).unwrap();
        }
        for id in ["begun", "record"] {
            let text = text.replace("\"model\"", &format!("\"{id}\""));
            fs::write(work.join("meta/containers").join(id).join("config"), text).unwrap();
        }
        // The containerizer's part of a removal was done.
        fs::remove_dir_all(ground.site.runtime_dir().join("containers/c")).unwrap();
        fs::remove_dir_all(work.join("containers/c")).unwrap();
        fs::remove_dir_all(work.join("sandboxes/c")).unwrap();
        ground.start();
        for id in ["begun", "record", "c"] {
            assert_eq!(ground.call(&about("WAIT_CONTAINER", id)).status, 404, "{id}");
            assert!(!work.join("meta/containers").join(id).exists(), "{id}");
            assert!(!work.join("sandboxes").join(id).exists(), "{id}");
        }
        assert_eq!(ground.wait("model")["exit_status"], 0);
    });
}

#[test]
fn ended_containers_are_collected_after_their_time_and_that_can_be_foretold() {
    on("collect", |ground| {
        // However full the disk below the test is.
        ground.with("--gc_disk_headroom=0");
        ground.start();
        ground.launch("old", "exit 0");
        ground.wait("old");
        ground.launch("runs", "sleep 1000");
        let explain = ground.call(&serde_json::json!({ "type": "EXPLAIN_GC" })).json()["explain_gc"].clone();
        let kept = explain["kept"].as_array().unwrap();
        let of = |id: &str| kept.iter().find(|item| item["container_id"]["value"] == id).unwrap();
        assert!(of("old")["remaining"]["nanoseconds"].as_u64().unwrap() > 0);
        assert_eq!(of("runs")["reason"], "it has not ended");
        ground.stop();
        ground.with("--gc_delay=1ms");
        ground.with("--disk_watch_interval=10ms");
        ground.start();
        let mut events =
            ground.stream(&serde_json::json!({ "type": "SUBSCRIBE", "subscribe": { "since": 0 } }));
        assert_eq!(events.of("REMOVED")["container_id"]["value"], "old");
        assert_eq!(ground.listed(), ["runs"]);
    });
}
