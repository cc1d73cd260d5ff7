// SPDX-License-Identifier: Apache-2.0
//! Clients that other people wrote, as PyPI has them: `foreign/python.sh` makes the Python that they run in, once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use berth_test_agent::skip;
use berth_testing::{Running, Terminal, lacks};

use crate::{Node, entries};

const FOREIGN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign");

/// The Python with the clients; none, and that is told, where there can be none.
fn python(test: &str) -> Option<PathBuf> {
    if let Some(lacked) = lacks(&["python3", "cc"]) {
        skip(test, &lacked);
        return None;
    }
    let place = match std::env::var_os("BERTH_FOREIGN_PYTHON") {
        Some(place) => PathBuf::from(place),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-python"),
    };
    let output = Command::new("flock")
        .arg(place.with_extension("lock"))
        .arg(format!("{FOREIGN}/python.sh"))
        .arg(&place)
        .output()
        .unwrap();
    if !output.status.success() {
        skip(test, "a Python with pymesos and avmesos-cli from PyPI");
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(place.join("bin/python"))
}

/// A framework of pymesos with a hundred tasks, by this executor.
fn a_hundred(test: &str, executor: &str) {
    let Some(python) = python(test) else { return };
    let Some(node) = Node::new(test) else { return };
    let mut command = Command::new(python);
    command.arg(format!("{FOREIGN}/framework.py")).args([&*node.master, "100", executor]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = node.ground.output(child, "the framework");
    let text = String::from_utf8_lossy(&output.stdout);
    let (errors, log) = (String::from_utf8_lossy(&output.stderr), node.ground.log());
    assert!(output.status.success() && text.starts_with("all ok"), "{text}{errors}\n{log}");
    // The time is for people who read it: `cargo test -- --nocapture`.
    println!("{text}");
    node.leave();
}

#[test]
fn a_framework_of_pymesos_runs_a_hundred_tasks_by_an_executor_of_its_own() {
    a_hundred("a_framework_of_pymesos_runs_a_hundred_tasks_by_an_executor_of_its_own", "executor.py");
}

#[test]
fn an_executor_of_pesos_runs_a_hundred_tasks_by_messages() {
    a_hundred("an_executor_of_pesos_runs_a_hundred_tasks_by_messages", "pesos_executor.py");
}

#[test]
fn an_executor_of_pesos_outlives_agents_that_are_killed() {
    let test = "an_executor_of_pesos_outlives_agents_that_are_killed";
    let Some(python) = python(test) else { return };
    let flags = ["--allocation_interval=200ms", "--executor_reregistration_timeout=15secs"];
    let Some(mut node) = Node::with(test, &flags) else { return };
    let mut command = Command::new(python);
    command.arg(format!("{FOREIGN}/framework.py")).args([&*node.master, "20", "pesos_executor.py", "wait"]);
    let mut framework = Running::start(command.stdin(Stdio::piped()));
    framework.says("all run");
    let executor = node.ground.work_dir().join("sandboxes");
    let said = |words: &str| {
        let logs = entries(&executor).into_iter().map(|sandbox| sandbox.join("stderr"));
        let text: String = logs.filter_map(|log| std::fs::read_to_string(log).ok()).collect();
        text.matches(words).count()
    };
    for back in 1..=3 {
        node.ground.kill();
        // One that is asked to come back before it has seen that the agent is gone gives up, and so does one that has not
        // heard that it is back when the agent goes again: these are faults of pesos.
        let seen = "Slave exited but framework has checkpointing enabled";
        berth_testing::until("the executor has seen it", || said(seen) == back);
        node.start();
        berth_testing::until("the executor is back", || said("Executor re-registered on slave") == back);
    }
    // Now all are killed, by messages too.
    drop(framework.stdin());
    framework.says("all ok");
    let ended = framework.end();
    assert_eq!(ended.code, Some(0), "{ended:?}\n{}", node.ground.log());
    node.leave();
}

#[test]
fn the_command_line_of_mesos_lists_attaches_and_executes() {
    let test = "the_command_line_of_mesos_lists_attaches_and_executes";
    let Some(python) = python(test) else { return };
    let Some(node) = Node::new(test) else { return };
    let config = node.ground.work_dir().with_file_name("mesos.toml");
    std::fs::write(&config, format!("[master]\naddress = \"{}\"\n", node.master)).unwrap();
    let task = |name: &str, command: &str, more: &[&str]| {
        let mut execute = node.ground.command(["execute"]);
        execute.arg(format!("--master={}", node.master)).arg(format!("--name={name}"));
        execute.arg(format!("--command={command}")).arg("--resources=cpus:0.1;mem:32").args(more);
        let mut running = Running::start(&mut execute);
        running.says("TASK_RUNNING");
        running
    };
    let plain = task("plain", "exec sleep 1000", &[]);
    let terminal = task("terminal", "while read word; do echo got $word; done", &["--tty"]);
    let cli = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(format!("{FOREIGN}/mesos_cli.py")).args(arguments).env("MESOS_CLI_CONFIG", &config);
        command
    };
    let run = |arguments: &[&str]| {
        let mut command = cli(arguments);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = node.ground.output(child, &format!("mesos-cli {arguments:?}"));
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&text).into_owned(), output.status.code())
    };
    let (agents, code) = run(&["agent", "list"]);
    assert!(code == Some(0) && agents.contains("-S0") && agents.contains("True"), "{agents}");
    let (tasks, code) = run(&["task", "list"]);
    assert!(code == Some(0) && tasks.contains("plain") && tasks.contains("TASK_RUNNING"), "{tasks}");
    let (frameworks, code) = run(&["framework", "list"]);
    assert!(code == Some(0) && frameworks.contains("mesos-execute instance"), "{frameworks}");
    let (told, code) = run(&["task", "inspect", "plain"]);
    assert!(code == Some(0) && told.contains("\"state\": \"TASK_RUNNING\""), "{told}");
    assert_eq!(
        run(&["task", "exec", "plain", "sh", "-c", "echo inside; exit 3"]),
        ("inside\n".to_owned(), Some(3))
    );
    let mut attached = Terminal::start(&mut cli(&["task", "attach", "terminal"]), 24, 80);
    attached.types("hello\n");
    attached.shows("got hello");
    // Its own keys to leave.
    attached.types("\u{10}\u{11}");
    attached.end();
    for execute in [plain, terminal] {
        execute.signal(rustix::process::Signal::KILL);
        let _ = execute.end();
    }
    node.leave();
}
