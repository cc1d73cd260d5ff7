// SPDX-License-Identifier: Apache-2.0
//! What a user types at an agent, and what is printed: one command in each test.

use crate::ground;
use berth_test_agent::{Exit, Ground, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// What `berth run -d` gets: a container that heeds SIGTERM with status 7.
const HEEDS: &str = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";

/// Runs one that is up, with some limits.
fn up(ground: &Ground, name: &str, script: &str) -> String {
    let name = ground.name(name);
    let limits = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    let run = ["run", "-d", "--name", &name].into_iter().chain(limits).chain(["--", "sh", "-c", script]);
    assert_eq!(ground.berth(run).good(), format!("{name}\n"));
    until("it is up", || ground.berth(["logs", &name]).stdout.starts_with("up\n"));
    name
}

/// The words of the one line of a table after its head.
fn row(table: &Exit) -> String {
    let lines: Vec<&str> = table.good().lines().collect();
    assert_eq!(lines.len(), 2, "{table:?}");
    lines[1].to_owned()
}

#[test]
fn run_detached_prints_the_id_and_the_socket_can_be_an_option() {
    let mut ground = ground!(run_detached_prints_the_id_and_the_socket_can_be_an_option);
    let socket = ground.socket();
    let socket = socket.to_str().unwrap();
    let name = ground.name("web");
    let mut command =
        ground.command(["--socket", socket, "run", "-d", "--name", &name, "--", "sleep", "1000"]);
    command.env_remove("BERTH_SOCKET");
    let ran = command.output().unwrap();
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), format!("{name}\n"));
    let again = ground.berth(["run", "-d", "--name", &name, "--", "true"]);
    again.refused(125, &[&name, "exists already"]);
    // Without a name it gets a random one, by whose beginning it can be called.
    let random = ground.berth(["run", "-d", "--", "sleep", "1000"]);
    let id = random.good().trim_end().to_owned();
    assert_eq!(id.len(), 36, "{random:?}");
    assert_eq!(ground.berth(["rm", "-f", &id[..13]]).good(), format!("{}\n", &id[..13]));
    ground.leave().unwrap();
}

#[test]
fn run_in_the_foreground_passes_streams_and_status_through() {
    let mut ground = ground!(run_in_the_foreground_passes_streams_and_status_through);
    let socket = ground.socket();
    let run = |script: &str| {
        let options = ["run", "--rm", "--socket", socket.to_str().unwrap(), "--", "sh", "-c", script];
        ground.berth(options)
    };
    let both = run("echo out; echo err >&2; exit 3");
    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (Some(3), "out\n", "err\n"));
    assert_eq!(ground.berth(["ps", "-aq"]).good(), "", "--rm removes it");
    ground.leave().unwrap();
}

#[test]
fn ps_lists_those_that_run_and_with_all_those_that_ended() {
    let mut ground = ground!(ps_lists_those_that_run_and_with_all_those_that_ended);
    assert_eq!(ground.berth(["ps", "-q"]).good(), "");
    let name = up(&ground, "web", HEEDS);
    let listed = row(&ground.berth(["ps", "--no-trunc"]));
    for word in [&name, "sh -c", " Up "] {
        assert!(listed.contains(word), "{word:?} is not in {listed:?}");
    }
    assert_eq!(ground.berth(["ps", "-q"]).good(), format!("{name}\n"));
    let all = json(ground.berth(["ps", "-o", "json"]).good());
    assert_eq!((&all[0]["id"], &all[0]["state"]["status"]), (&name.clone().into(), &"running".into()));
    ground.berth(["stop", &name]).good();
    assert_eq!(ground.berth(["ps", "-q"]).good(), "");
    assert_eq!(ground.berth(["ps", "-aq"]).good(), format!("{name}\n"));
    let listed = row(&ground.berth(["ps", "-a", "--no-trunc"]));
    assert!(listed.contains("Exited (7)"), "{listed}");
    ground.leave().unwrap();
}

#[test]
fn logs_follow_to_the_end_and_begin_where_they_are_told() {
    let mut ground = ground!(logs_follow_to_the_end_and_begin_where_they_are_told);
    let name = up(&ground, "web", "echo up; echo err >&2; mkfifo go; read word < go; echo $word; exit 4");
    let mut follow = ground.command(["logs", "-f", &name]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    ground.let_go(&name, "later");
    assert_eq!(lines.next().unwrap().unwrap(), "later", "as it is written");
    assert!(lines.next().is_none(), "it ends with the container");
    let followed: Exit = ground.output(follow, "logs -f").into();
    assert_eq!((followed.code, followed.stderr.as_str()), (Some(0), "err\n"));
    let logs = |options: &[&str]| ground.berth(["logs"].iter().chain(options).chain(&[name.as_str()]));
    assert_eq!(logs(&["--stream", "stdout"]).good(), "up\nlater\n");
    assert_eq!(logs(&["-n", "1", "--stream", "stdout"]).good(), "later\n");
    assert_eq!(logs(&["--stream", "stdout", "--offset", "3"]).good(), "later\n");
    ground.berth(["logs", "nothing"]).refused(1, &["no container is named nothing"]);
    ground.leave().unwrap();
}

#[test]
fn exec_has_its_own_streams_and_the_commands_exit_code() {
    let mut ground = ground!(exec_has_its_own_streams_and_the_commands_exit_code);
    let name = up(&ground, "web", HEEDS);
    let both = ground.berth(["exec", "-e", "A=b", &name, "sh", "-c", "echo $A; echo err >&2; exit 5"]);
    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (Some(5), "b\n", "err\n"));
    ground.berth(["exec", &name, "/no/such"]).refused(127, &["/no/such"]);
    ground.berth(["exec", &name, "/etc/passwd"]).refused(126, &["/etc/passwd"]);
    assert_eq!(ground.berth(["exec", &name, "sh", "-c", "kill -15 $$"]).code, Some(143));
    let mut cat = ground.command(["exec", "-i", &name, "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let cat: Exit = ground.output(cat, "exec -i cat").into();
    assert_eq!(cat.good(), "typed\n");
    let inside = ground.berth(["exec", &name, "sh", "-c", "cat /proc/1/cmdline"]);
    assert!(inside.good().contains("trap"), "it sees the container's processes: {inside:?}");
    ground.berth(["exec", "nothing", "true"]).refused(1, &["no container is named nothing"]);
    assert_eq!(ground.berth(["ps", "-aq"]).good(), format!("{name}\n"), "sessions are no containers");
    ground.leave().unwrap();
}

#[test]
fn kill_sends_the_signal_that_it_is_told() {
    let mut ground = ground!(kill_sends_the_signal_that_it_is_told);
    let script = "trap 'echo heard' USR1; echo up; while :; do sleep 0.05; done";
    let name = up(&ground, "web", script);
    assert_eq!(ground.berth(["kill", "-s", "USR1", &name]).good(), format!("{name}\n"));
    ground.api().wrote(&name, "heard");
    assert_eq!(ground.berth(["kill", &name]).good(), format!("{name}\n"));
    assert_eq!(ground.berth(["wait", &name]).good(), "137\n");
    ground.berth(["kill", "-s", "NONSENSE", &name]).refused(1, &["NONSENSE"]);
    ground.berth(["kill", "nothing"]).refused(1, &["nothing"]);
    ground.leave().unwrap();
}

#[test]
fn stop_waits_as_long_as_it_is_told_and_then_kills() {
    let mut ground = ground!(stop_waits_as_long_as_it_is_told_and_then_kills);
    let heeds = up(&ground, "heeds", HEEDS);
    let begun = Instant::now();
    assert_eq!(ground.berth(["stop", "-t", "90", &heeds]).good(), format!("{heeds}\n"));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(ground.berth(["wait", &heeds]).good(), "7\n");
    let deaf = up(&ground, "deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done");
    let begun = Instant::now();
    assert_eq!(ground.berth(["stop", "-t", "1", &deaf]).good(), format!("{deaf}\n"));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(ground.berth(["wait", &deaf]).good(), "137\n");
    ground.leave().unwrap();
}

#[test]
fn wait_prints_the_exit_code_of_each_when_it_has_ended() {
    let mut ground = ground!(wait_prints_the_exit_code_of_each_when_it_has_ended);
    let one = up(&ground, "one", "echo up; mkfifo go; read x < go; exit 42");
    let two = up(&ground, "two", "echo up; exit 3");
    let mut wait = ground.command(["wait", &one, &two]);
    let mut wait = wait.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(wait.try_wait().unwrap(), None);
    ground.let_go(&one, "on");
    let wait: Exit = ground.output(wait, "wait").into();
    assert_eq!(wait.good(), "42\n3\n");
    assert_eq!(ground.berth(["wait", &one]).good(), "42\n", "also when it has ended");
    ground.berth(["wait", "nothing"]).refused(1, &["nothing"]);
    ground.leave().unwrap();
}

#[test]
fn rm_removes_what_has_ended_and_by_force_what_runs() {
    let mut ground = ground!(rm_removes_what_has_ended_and_by_force_what_runs);
    let name = up(&ground, "web", HEEDS);
    ground.berth(["rm", &name]).refused(1, &["not terminated"]);
    assert_eq!(ground.berth(["ps", "-q"]).good(), format!("{name}\n"));
    assert_eq!(ground.berth(["rm", "-f", &name]).good(), format!("{name}\n"));
    assert_eq!(ground.berth(["ps", "-aq"]).good(), "");
    assert!(!ground.sandbox(&name).exists());
    ground.berth(["inspect", &name]).stderr.contains(&name);
    // The name is free.
    let name = up(&ground, "web", "echo up; exit 0");
    assert_eq!(ground.berth(["wait", &name]).good(), "0\n");
    assert_eq!(ground.berth(["rm", &name]).good(), format!("{name}\n"));
    ground.leave().unwrap();
}

#[test]
fn update_sets_limits_in_force_and_leaves_the_others() {
    let mut ground = ground!(update_sets_limits_in_force_and_leaves_the_others);
    let name = up(&ground, "web", HEEDS);
    assert_eq!(ground.berth(["update", "--memory", "96m", &name]).good(), format!("{name}\n"));
    let shown = json(ground.berth(["inspect", &name]).good());
    let limit = |name: &str| shown[0]["limits"][name]["value"].as_f64();
    assert_eq!((limit("mem"), limit("pids"), limit("cpus")), (Some(96.0), Some(50.0), Some(0.5)));
    let set = ground.groups(&name).settings();
    let holds = |value: &str| set.values().any(|text| text.trim() == value);
    assert!(holds("100663296") && holds("50"), "{set:?}");
    ground.berth(["update", &name]).refused(1, &["nothing to update"]);
    ground.berth(["update", "--memory", "96m", "nothing"]).refused(1, &["nothing"]);
    ground.leave().unwrap();
}

#[test]
fn stats_show_what_is_used_once() {
    let mut ground = ground!(stats_show_what_is_used_once);
    let name = up(&ground, "web", HEEDS);
    let table = ground.berth(["stats", "--no-stream", "--no-trunc"]);
    let line = row(&table);
    assert!(line.contains(&name) && line.contains(" / 64MiB") && line.contains('%'), "{table:?}");
    let stats = json(ground.berth(["stats", "--no-stream", "-o", "json", &name]).good());
    assert_eq!((&stats["id"], &stats["memory_limit_bytes"]), (&name.into(), &67_108_864.into()));
    ground.leave().unwrap();
}

/// The sum of the processor time that the container's processes have used, in ticks.
fn ticks(ground: &Ground, name: &str) -> u64 {
    let stats = ground.groups(name).processes().into_iter().map(|pid| format!("/proc/{pid}/stat"));
    let ticks = stats.filter_map(|stat| {
        let text = std::fs::read_to_string(stat).ok()?;
        let mut fields = text.rsplit(") ").next()?.split(' ').skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    });
    ticks.sum()
}

#[test]
fn pause_stops_all_processes_and_unpause_lets_them_go_on() {
    let mut ground = ground!(pause_stops_all_processes_and_unpause_lets_them_go_on);
    let name = up(&ground, "web", "trap 'exit 7' TERM; echo up; while :; do :; done");
    assert_eq!(ground.berth(["pause", &name]).good(), format!("{name}\n"));
    assert!(ground.berth(["ps"]).good().contains("(Paused)"));
    let shown = json(ground.berth(["inspect", &name]).good());
    assert_eq!((&shown[0]["state"]["name"], &shown[0]["state"]["paused"]), (&"PAUSED".into(), &true.into()));
    let before = ticks(&ground, &name);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ticks(&ground, &name), before, "it runs on");
    assert_eq!(ground.berth(["unpause", &name]).good(), format!("{name}\n"));
    until("it goes on", || ticks(&ground, &name) > before);
    assert!(!ground.berth(["ps"]).good().contains("(Paused)"));
    // One that is paused can be ended.
    ground.berth(["pause", &name]).good();
    assert_eq!(ground.berth(["rm", "-f", &name]).good(), format!("{name}\n"));
    ground.leave().unwrap();
}

#[test]
fn rename_gives_a_name_that_all_commands_take() {
    let mut ground = ground!(rename_gives_a_name_that_all_commands_take);
    let (name, front) = (up(&ground, "web", HEEDS), ground.name("front"));
    assert_eq!(ground.berth(["rename", &name, &front]).good(), "");
    assert!(row(&ground.berth(["ps", "--no-trunc"])).trim_end().ends_with(&front));
    assert_eq!(ground.berth(["exec", &front, "echo", "in"]).good(), "in\n");
    ground.kill();
    ground.start();
    assert!(row(&ground.berth(["ps", "--no-trunc"])).trim_end().ends_with(&front), "after a restart too");
    let other = up(&ground, "other", HEEDS);
    ground.berth(["rename", &other, &front]).refused(1, &[&front]);
    assert_eq!(ground.berth(["rm", "-f", &front, &other]).good(), format!("{front}\n{other}\n"));
    ground.leave().unwrap();
}

#[test]
fn events_tell_a_life_line_by_line() {
    let mut ground = ground!(events_tell_a_life_line_by_line);
    let follow = |format: &str, after: &str| {
        let mut events = ground.command(["events", "--after", after, "-o", format, &ground.name("web")]);
        let mut events = events.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(events.stdout.take().unwrap()).lines();
        (events, lines.map(|line| line.unwrap()))
    };
    // Numbers do not begin at 0, since those of an agent before are not to be mistaken: so this asks for what is not
    // kept, and is told.
    let (mut table, mut lines) = follow("table", "1");
    let missed = lines.next().unwrap();
    let number =
        missed.strip_prefix("- container missed (number=").and_then(|rest| rest.split([',', ')']).next());
    let number = number.unwrap_or_else(|| panic!("{missed}")).to_owned();
    let name = up(&ground, "web", HEEDS);
    let words = |line: &String| line.split(' ').nth(2).unwrap().to_owned();
    ground.berth(["stop", &name]).good();
    ground.berth(["rm", &name]).good();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|word| word != "destroy") {
        let line = lines.next().unwrap();
        assert!(line.contains(&name), "{line}");
        if words(&line) == "die" {
            assert!(line.contains("exitCode=7"), "{line}");
        }
        seen.push(words(&line));
    }
    let order = ["starting", "running", "die", "destroy"];
    let at = order.map(|word| seen.iter().position(|seen| seen == word));
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{seen:?}");
    // What has been can be had again, for programs.
    let (mut again, mut lines) = follow("json", &number);
    let mut types = Vec::new();
    while types.last().is_none_or(|kind| kind != "REMOVED") {
        types.push(json(&lines.next().unwrap())["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types.len(), seen.len(), "{types:?} {seen:?}");
    for events in [&mut table, &mut again] {
        let _ = events.kill();
        let _ = events.wait();
    }
    ground.leave().unwrap();
}

#[test]
fn inspect_tells_what_was_asked_what_is_and_how_it_ended() {
    let mut ground = ground!(inspect_tells_what_was_asked_what_is_and_how_it_ended);
    let name = up(&ground, "web", HEEDS);
    let mut shown = Value::Null;
    // What is late is left out of an inspection, on a busy machine.
    until("all of it is told", || {
        shown = json(ground.berth(["inspect", "-o", "json", &name]).good())[0].take();
        ["applied_limits", "pids", "namespaces"].iter().all(|part| shown[part].is_array())
    });
    assert_eq!((&shown["state"]["name"], &shown["containerizer"]), (&"RUNNING".into(), &"mesos".into()));
    assert_eq!(shown["command"]["arguments"][2], HEEDS);
    assert_eq!(shown["directory"], ground.sandbox(&name).to_str().unwrap());
    assert!(shown["state"]["age"]["nanoseconds"].as_u64().unwrap() > 0);
    let applied = shown["applied_limits"].as_array().unwrap();
    assert!(applied.iter().any(|limit| limit["value"] == "67108864"), "{applied:?}");
    let pids: Vec<u64> = shown["pids"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert!(pids.contains(&u64::from(ground.api().pid(&name))), "{pids:?}");
    assert!(shown["namespaces"].as_array().unwrap().iter().any(|n| n["type"] == "pid" && n["host"] == false));
    ground.berth(["stop", &name]).good();
    let shown = json(ground.berth(["inspect", &name]).good());
    assert_eq!(shown[0]["termination"]["exit_status"], 7 << 8);
    let missing = ground.berth(["inspect", "nothing"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("no container is named nothing"), "{missing:?}");
    ground.leave().unwrap();
}

#[test]
fn signals_that_who_started_it_has_blocked_are_heard_all_the_same() {
    let mut ground = ground!(signals_that_who_started_it_has_blocked_are_heard_all_the_same);
    let mut command = ground.command(["events"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    // A child has the mask of the thread that makes it.
    let before = berth_sys::signal::set_mask(berth_sys::signal::Set::ALL).unwrap();
    let child = command.spawn();
    berth_sys::signal::set_mask(before).unwrap();
    let mut child = child.unwrap();
    let blocked = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("SigBlk:\t").map(str::to_owned))
    };
    until("nothing is blocked", || blocked().is_some_and(|mask| mask == "0000000000000000"));
    child.kill().unwrap();
    child.wait().unwrap();
    ground.leave().unwrap();
}
