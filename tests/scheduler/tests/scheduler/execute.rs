// SPDX-License-Identifier: Apache-2.0
//! `berth execute`: what it prints and how it exits, compared with what mesos-execute was recorded with.

use std::collections::BTreeMap;
use std::process::Stdio;

use berth_test_agent::Ground;

use crate::Node;

/// What was printed, without the ids of one run.
fn plain(text: &str) -> String {
    let line = |line: &str| match (line.find("with ID "), line.find("agent '")) {
        (Some(at), _) => format!("{}F", &line[..at + 8]),
        (None, Some(at)) => format!("{}A'", &line[..at + 7]),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn execute(ground: &Ground, master: &str, flags: &[&str]) -> (String, String, Option<i32>) {
    let mut command = ground.command(["execute"]);
    command.arg(format!("--master={master}")).args(flags);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let output = ground.output(child, "berth execute");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (plain(&text(&output.stdout)), text(&output.stderr), output.status.code())
}

#[test]
fn a_task_is_told_of_as_mesos_execute_does() {
    let Some(node) = Node::new("a_task_is_told_of_as_mesos_execute_does") else { return };
    let small = "--resources=cpus:0.1;mem:32";
    for content in ["--content_type=protobuf", "--content_type=json"] {
        let flags = ["--name=ex1", "--command=echo hi", small, content];
        let (out, err, code) = execute(&node.ground, &node.master, &flags);
        let expected = [
            "Subscribed with ID F",
            "Submitted task 'ex1' to agent 'A'",
            "Received status update TASK_STARTING for task 'ex1'",
            "  source: SOURCE_EXECUTOR",
            "Received status update TASK_RUNNING for task 'ex1'",
            "  source: SOURCE_EXECUTOR",
            "Received status update TASK_FINISHED for task 'ex1'",
            "  message: 'Command exited with status 0'",
            "  source: SOURCE_EXECUTOR",
        ];
        assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{err}");
        assert_eq!((&*err, code), ("", Some(0)));
    }
    let flags = ["--name=ex2", "--command=exit 3", small];
    let (out, _, code) = execute(&node.ground, &node.master, &flags);
    assert!(out.contains("TASK_FAILED") && out.contains("'Command exited with status 3'"), "{out}");
    assert_eq!(code, Some(0), "also when the task failed");
    let flags = ["--name=ex3", "--command=exec sleep 1000", small, "--kill_after=1ms"];
    let (out, _, code) = execute(&node.ground, &node.master, &flags);
    let at = |word: &str| out.find(word).unwrap_or_else(|| panic!("no {word} in {out}"));
    assert!(at("TASK_RUNNING") < at("Asked to kill task 'ex3' on agent 'A'"));
    assert!(at("Asked to kill") < at("TASK_KILLING") && at("TASK_KILLING") < at("TASK_KILLED"));
    assert_eq!(code, Some(0));
    let flags = ["--name=ex4", "--command=true", small, "--role=/bad"];
    let (out, err, code) = execute(&node.ground, &node.master, &flags);
    let words = "Received an ERROR event: 'FrameworkInfo.role' is not a valid role: Role '/bad' cannot start with a slash\n";
    assert_eq!((&*out, &*err, code), ("", words, Some(1)));
    node.leave();
}

#[test]
fn a_group_of_tasks_is_told_of_until_the_last_is_over() {
    let Some(node) = Node::new("a_group_of_tasks_is_told_of_until_the_last_is_over") else { return };
    let task = |name: &str| {
        format!(
            r#"{{"name": "{name}", "task_id": {{"value": "{name}"}}, "agent_id": {{"value": ""}}, "resources": [
                {{"name": "cpus", "type": "SCALAR", "scalar": {{"value": 0.1}}}},
                {{"name": "mem", "type": "SCALAR", "scalar": {{"value": 32}}}}], "command": {{"value": "true"}}}}"#
        )
    };
    let group = format!(r#"--task_group={{"tasks": [{}, {}]}}"#, task("tg1"), task("tg2"));
    let (out, err, code) = execute(&node.ground, &node.master, &[&group]);
    assert!(
        out.starts_with("Subscribed with ID F\nSubmitted task group with tasks [ tg1, tg2 ] to agent 'A'\n")
    );
    for name in ["tg1", "tg2"] {
        for state in ["STARTING", "RUNNING", "FINISHED"] {
            let line = format!("Received status update TASK_{state} for task '{name}'");
            assert_eq!(out.matches(&line).count(), 1, "{out}{err}");
        }
    }
    assert_eq!((&*err, code), ("", Some(0)));
    node.leave();
}

#[test]
fn a_task_outlives_its_agent_and_its_end_is_told_by_the_next() {
    let Some(mut node) = Node::new("a_task_outlives_its_agent_and_its_end_is_told_by_the_next") else {
        return;
    };
    let gate = node.ground.work_dir().with_file_name("gate");
    let script = format!("until [ -e {} ]; do sleep 0.05; done; exit 7", gate.display());
    let mut command = node.ground.command(["execute"]);
    command.arg(format!("--master={}", node.master)).arg(format!("--command={script}"));
    command.args(["--name=long", "--resources=cpus:0.1;mem:32"]);
    let mut execute = berth_testing::Running::start(&mut command);
    execute.says("TASK_RUNNING");
    node.ground.kill();
    node.start();
    execute.says("Reconciliation: Latest task state");
    std::fs::write(&gate, "").unwrap();
    let exit = execute.end();
    let out = exit.stdout;
    assert_eq!(exit.code, Some(0), "{out}{}", exit.stderr);
    assert!(exit.stderr.contains("went away"), "{}", exit.stderr);
    assert!(out.contains("TASK_FAILED") && out.contains("'Command exited with status 7'"), "{out}");
    assert_eq!(out.matches("TASK_FAILED").count(), 1, "{out}");
    node.leave();
}

#[test]
fn what_is_missing_or_unknown_is_said_with_all_flags() {
    let Ok(berth) = berth_test_agent::berth() else { panic!("no berth") };
    let run = |flags: &[&str]| {
        let output = std::process::Command::new(berth).arg("execute").args(flags).output().unwrap();
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
    };
    let cases: [(&[&str], &str); 9] = [
        (&[], "Missing required option --master\n"),
        (&["--master=x"], "Missing required option --name\n"),
        (&["--master=x", "--name=n"], "Missing required option --command\n"),
        (
            &["--master=x", "--name=n", "--command=c", "--containerizer=rkt"],
            "Unsupported containerizer: rkt\n",
        ),
        (&["--master=x", "--content_type=xml"], "Invalid content type 'xml'\n"),
        (&["--master=x", "--nope=1"], "Failed to load unknown flag 'nope'\n"),
        (
            &["--master=x", "--task={}", "--task_group={}"],
            "Either task or task group should be set but not both",
        ),
        (&["--master=x", "--task={}", "--name=n"], "--name can not be given together with --task"),
        (
            &["--master=x", "--kill_after=soon", "--name=n", "--command=c"],
            "Failed to load flag 'kill_after': ",
        ),
    ];
    for (flags, words) in cases {
        let (err, code) = run(flags);
        assert!(err.starts_with(words), "{flags:?}: {err}");
        assert!(err.contains("\nUsage: berth execute [options]\n"), "{err}");
        assert_eq!(code, Some(1));
    }
    let (err, code) = run(&["--master=x", "--name=n", "--command=c", "--resources=zz"]);
    let words = "Failed to parse resources 'zz': Bad value for resources, missing or extra ':' in zz\n";
    assert_eq!((&*err, code), (words, Some(1)));
}

#[test]
fn tasks_are_listed_and_looked_into() {
    let Some(node) = Node::new("tasks_are_listed_and_looked_into") else { return };
    let mut command = node.ground.command(["execute"]);
    command.arg(format!("--master={}", node.master)).arg("--command=echo started; exec sleep 1000");
    command.args(["--name=long", "--resources=cpus:0.1;mem:32"]);
    let mut execute = berth_testing::Running::start(&mut command);
    execute.says("TASK_RUNNING");
    let master = format!("--master={}", node.master);
    let listed = node.ground.berth(["tasks", &master]);
    assert!(listed.good().contains("long  TASK_RUNNING"), "{listed:?}");
    let listed: serde_json::Value =
        serde_json::from_str(node.ground.berth(["tasks", "-o", "json", &master]).good()).unwrap();
    assert_eq!((&listed[0]["id"], listed.as_array().unwrap().len()), (&"long".into(), 1));
    assert_eq!(node.ground.berth(["task", "logs", &master, "long"]).good(), "started\n");
    let inside = node.ground.berth(["task", "exec", &master, "long", "sh", "-c", "echo in; exit 4"]);
    assert_eq!((&*inside.stdout, inside.code), ("in\n", Some(4)));
    let told = node.ground.berth(["task", "inspect", &master, "long"]);
    assert!(told.good().contains("\"state\": \"TASK_RUNNING\""), "{told:?}");
    node.ground.berth(["task", "inspect", &master, "nope"]).refused(1, &["there is no task 'nope'"]);
    node.ground.berth(["task", "kill", &master, "nope"]).refused(1, &["there is no task 'nope'"]);
    assert_eq!(node.ground.berth(["task", "kill", &master, "-t", "5", "long"]).good(), "long\n");
    let told = execute.end();
    assert!(told.good().contains("TASK_KILLED") && !told.stdout.contains("TASK_FAILED"), "{told:?}");
    node.ground
        .berth(["task", "kill", &master, "long"])
        .refused(1, &["no task 'long' of this framework runs"]);
    node.leave();
}

#[test]
fn what_was_recorded_of_mesos_execute_is_printed() {
    let Some(node) = Node::new("what_was_recorded_of_mesos_execute_is_printed") else { return };
    let all = crate::replay::lines();
    let mut runs = 0;
    for (argv, recorded) in all.iter().filter_map(|line| Some((line["request"]["argv"].as_array()?, line))) {
        let flags: Vec<&str> = argv[2..].iter().map(|flag| flag.as_str().unwrap()).collect();
        let (out, err, code) = execute(&node.ground, &node.master, &flags);
        let theirs = &recorded["response"];
        assert_eq!(code.map(i64::from), theirs["rc"].as_i64(), "{flags:?}: {err}");
        assert_eq!(of_each(&out), of_each(&plain(theirs["stdout"].as_str().unwrap())), "{flags:?}: {err}");
        let said = theirs["stderr"].as_str().unwrap().split("EXIT with status 1: ").nth(1);
        let said = said.and_then(|said| said.lines().next()).unwrap_or_default();
        assert!(err.starts_with(said), "{flags:?}: {err}, not {said}");
        runs += 1;
    }
    assert_eq!(runs, 7);
    node.leave();
}

/// What was printed of each task, in order, and all else: updates of two tasks come in any order.
fn of_each(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut task = "";
    for line in text.lines() {
        if !line.starts_with("  ") {
            task = line.rsplit_once("for task ").map_or("", |(_, task)| task);
        }
        all.entry(task).or_default().push(line);
    }
    all
}
