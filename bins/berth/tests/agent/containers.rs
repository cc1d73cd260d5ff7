// SPDX-License-Identifier: Apache-2.0
//! What is done to containers, and how it is printed: as docker does.

use crate::ground::{Ground, ground};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_detached_container_is_listed_read_and_removed() {
    let ground = ground!("a_detached_container_is_listed_read_and_removed");
    ground.started("web");
    let table = ground.berth(["ps"]);
    let lines: Vec<&str> = table.good().lines().collect();
    assert!(lines[0].starts_with("CONTAINER ID") && lines[0].ends_with("NAMES"), "{table:?}");
    assert!(
        lines[1].starts_with("web") && lines[1].contains(" Up ") && lines[1].ends_with("web"),
        "{table:?}"
    );
    let listed = json(ground.berth(["ps", "-o", "json"]).good());
    assert_eq!((&listed[0]["agent"], &listed[0]["state"]["status"]), (&true.into(), &"running".into()));
    let logs = ground.berth(["logs", "web"]);
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("up\n", "err\n"));
    assert_eq!(ground.berth(["logs", "--stream", "stdout", "--offset", "1", "web"]).good(), "p\n");
    let shown = json(ground.berth(["inspect", "web"]).good());
    assert_eq!(shown[0]["limits"]["mem"]["value"], 64.0);
    ground.berth(["rm", "web"]).refused(1, &["not terminated"]);
    assert_eq!(ground.berth(["stop", "web"]).good(), "web\n");
    assert_eq!(ground.berth(["ps", "-q"]).good(), "");
    assert_eq!(ground.berth(["ps", "-aq"]).good(), "web\n");
    assert_eq!(ground.berth(["wait", "web"]).good(), "7\n");
    assert_eq!(ground.berth(["logs", "-n", "1", "--stream", "stdout", "web"]).good(), "bye\n");
    assert_eq!(ground.berth(["rm", "web"]).good(), "web\n");
    let nothing = ground.berth(["inspect", "nothing"]);
    assert_eq!((nothing.code, nothing.stdout.trim()), (Some(1), "[]"));
    assert!(nothing.stderr.contains("no container is named nothing"), "{nothing:?}");
    assert_eq!(ground.berth(["ps", "-aq"]).good(), "");
}

#[test]
fn a_container_is_named_by_the_beginning_of_its_id_when_only_one_begins_so() {
    let ground = ground!("a_container_is_named_by_the_beginning_of_its_id_when_only_one_begins_so");
    for name in ["alpha", "alpine", "a"] {
        ground.berth(["run", "-d", "--name", name, "--", "sleep", "1000"]).good();
    }
    assert_eq!(ground.berth(["kill", "alph"]).good(), "alph\n");
    assert_eq!(ground.berth(["wait", "alph"]).good(), "137\n", "also when it has ended");
    ground.berth(["kill", "al"]).refused(1, &["several", "alpha", "alpine"]);
    assert_eq!(ground.berth(["kill", "a"]).good(), "a\n", "a whole name is one, whatever begins so");
    ground.berth(["kill", "x"]).refused(1, &["no container is named x"]);
    let random = ground.berth(["run", "-d", "--", "sleep", "1000"]);
    let id = random.good().trim_end();
    assert_eq!(id.len(), 36);
    let exec = ground.berth(["exec", &id[..13], "true"]);
    assert_eq!(exec.good(), "");
    ground.berth(["exec", "nothing", "true"]).refused(1, &["no container is named nothing"]);
}

#[test]
fn containers_of_both_kinds_are_side_by_side() {
    let ground = ground!("containers_of_both_kinds_are_side_by_side");
    ground.started("theirs");
    assert_eq!(ground.berth(["run", "--name", "ours", "--", "echo", "hi"]).good(), "hi\n");
    assert_eq!(ground.berth(["ps", "-aq"]).good(), "ours\ntheirs\n");
    assert_eq!(ground.berth(["ps", "-q"]).good(), "theirs\n");
    assert_eq!(ground.berth(["logs", "ou"]).good(), "hi\n");
    let shown = json(ground.berth(["inspect", "ours", "theirs"]).good());
    assert_eq!((&shown[0]["state"]["exit_code"], &shown[1]["state"]["name"]), (&0.into(), &"RUNNING".into()));
    assert_eq!(ground.berth(["wait", "ours"]).good(), "0\n");
    for command in ["pause", "unpause"] {
        ground.berth([command, "ours"]).refused(1, &["`berth run` without an agent"]);
    }
    ground.berth(["exec", "ours", "true"]).refused(1, &["`berth run` without an agent"]);
    assert_eq!(ground.berth(["rm", "-f", "ours", "theirs"]).good(), "ours\ntheirs\n");
    assert_eq!(ground.berth(["ps", "-aq"]).good(), "");
}

#[test]
fn a_command_run_by_the_agent_has_its_streams_and_its_exit_code() {
    let ground = ground!("a_command_run_by_the_agent_has_its_streams_and_its_exit_code");
    let socket = ground.socket();
    let run = |more: &[&str]| ground.berth(["run", "--socket", &socket, "--rm"].iter().chain(more));
    let both = run(&["--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (Some(3), "out\n", "err\n"));
    assert_eq!(run(&["--", "cat"]).good(), "", "without -i its input is at its end");
    let fed = ground.fed("one\ntwo\n", &["run", "--socket", &socket, "--rm", "-i", "--", "cat"]);
    assert_eq!(fed.good(), "one\ntwo\n");
    let large = "x".repeat(300_000);
    let fed = ground.fed(&large, &["run", "--socket", &socket, "--rm", "-i", "--", "wc", "-c"]);
    assert_eq!(fed.good().trim(), "300000");
    run(&["--", "/no/such"]).refused(127, &["can not execute"]);
    run(&["--", "/etc/passwd"]).refused(126, &["can not execute"]);
    run(&["--rootfs", "/r", "--", "true"]).refused(125, &["--rootfs can not be had from the agent"]);
    assert_eq!(ground.berth(["ps", "-aq"]).good(), "", "--rm removes them");
}

#[test]
fn a_further_command_has_its_streams_and_its_exit_code() {
    let ground = ground!("a_further_command_has_its_streams_and_its_exit_code");
    ground.started("web");
    let both = ground.berth(["exec", "-e", "A=b", "web", "sh", "-c", "echo $A; echo err >&2; exit 5"]);
    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (Some(5), "b\n", "err\n"));
    assert_eq!(ground.fed("hello\n", &["exec", "-i", "web", "sh", "-c", "cat; exit 0"]).good(), "hello\n");
    let ended = ground.berth(["exec", "web", "sh", "-c", "cat; exit 0"]);
    assert_eq!(ended.good(), "", "without -i its input is at its end");
    ground.berth(["exec", "web", "/no/such"]).refused(127, &["can not execute"]);
    ground.berth(["exec", "web", "/etc/passwd"]).refused(126, &["can not execute"]);
    assert_eq!(ground.berth(["exec", "web", "sh", "-c", "kill -15 $$"]).code, Some(143));
    // Of sessions that have ended nothing is left.
    assert_eq!(ground.berth(["ps", "-aq"]).good(), "web\n");
}

#[test]
fn limits_names_and_pauses_are_changed_while_it_runs() {
    let ground = ground!("limits_names_and_pauses_are_changed_while_it_runs");
    ground.started("web");
    ground.berth(["update", "web"]).refused(1, &["nothing to update"]);
    ground.berth(["update", "--memory", "1", "web"]).refused(1, &["--memory"]);
    assert_eq!(ground.berth(["update", "--memory", "128m", "web"]).good(), "web\n");
    let shown = json(ground.berth(["inspect", "web"]).good());
    assert_eq!(shown[0]["limits"]["mem"]["value"], 128.0);
    assert_eq!(shown[0]["limits"]["pids"]["value"], 4096.0, "what was not named stays");
    assert_eq!(ground.berth(["rename", "web", "front"]).good(), "");
    assert!(ground.berth(["ps"]).good().trim_end().ends_with("front"));
    assert_eq!(ground.berth(["pause", "front"]).good(), "front\n");
    assert!(ground.berth(["ps"]).good().contains("(Paused)"));
    assert_eq!(ground.berth(["unpause", "front"]).good(), "front\n");
    assert!(!ground.berth(["ps"]).good().contains("(Paused)"));
    assert_eq!(ground.berth(["stop", "-t", "20", "front"]).good(), "front\n");
    assert_eq!(ground.berth(["wait", "front"]).good(), "7\n");
}

#[test]
fn stop_kills_what_does_not_end() {
    let ground = ground!("stop_kills_what_does_not_end");
    let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    ground.berth(["run", "-d", "--name", "a", "--", "sh", "-c", script]).good();
    ground.until("it is up", || ground.berth(["logs", "a"]).stdout == "up\n");
    assert_eq!(ground.berth(["stop", "-t", "0", "a"]).good(), "a\n");
    assert_eq!(ground.berth(["wait", "a"]).good(), "137\n");
    assert_eq!(ground.berth(["stop", "a"]).good(), "a\n", "as with docker, twice is no failure");
    ground.berth(["stop", "nothing"]).refused(1, &["nothing"]);
}

#[test]
fn what_the_agent_has_and_uses_is_shown_for_eyes_and_for_programs() {
    let ground = ground!("what_the_agent_has_and_uses_is_shown_for_eyes_and_for_programs");
    ground.started("web");
    assert!(ground.berth(["resources"]).good().lines().any(|line| line.starts_with("mem ")));
    assert!(json(ground.berth(["resources", "-o", "json"]).good()).as_array().unwrap().len() > 2);
    let stats = ground.berth(["stats", "--no-stream", "-o", "json", "we"]);
    let stats = json(stats.good());
    assert_eq!((&stats["id"], &stats["memory_limit_bytes"]), (&"web".into(), &67_108_864.into()));
    let table = ground.berth(["stats", "--no-stream"]);
    assert!(table.good().contains(" / 64MiB"), "{table:?}");
    let version = json(ground.berth(["version", "-o", "json"]).good());
    assert_eq!(version["client"]["version"], version["agent"]["version"]);
    let mut events = ground.command(["events", "--after", "1", "-o", "json", "web"]);
    let mut events = events.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(events.stdout.take().unwrap()));
    let mut state = || loop {
        let event = json(&lines.next().unwrap().unwrap());
        if let Some(name) = event["state"]["name"].as_str() {
            return name.to_owned();
        }
    };
    while state() != "RUNNING" {}
    ground.berth(["kill", "web"]).good();
    while state() != "TERMINATED" {}
    let _ = events.kill();
    let _ = events.wait();
}

#[test]
fn what_a_container_is_called_can_not_fool_who_lists_it() {
    let ground: Ground = ground!("what_a_container_is_called_can_not_fool_who_lists_it");
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\nforged line \u{9b}31m";
    ground.berth(["run", "-d", "--name", "a", "--", "echo", evil]).good();
    assert_eq!(ground.berth(["wait", "a"]).good(), "0\n");
    for arguments in [&["ps", "-a"][..], &["ps", "-a", "--no-trunc", "-o", "json"], &["inspect", "a"]] {
        let shown = ground.berth(arguments);
        let bad = shown.good().chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{arguments:?}: {shown:?}");
        assert!(!shown.stdout.lines().any(|line| line.starts_with("forged")), "{shown:?}");
    }
}
