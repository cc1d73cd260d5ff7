// SPDX-License-Identifier: Apache-2.0
//! Tasks of frameworks in Docker containers: commands, which the agent's own executor speaks for, and an executor of a
//! framework's that is a container itself.

use std::net::TcpListener;
use std::time::Duration;

use berth_proto::v1::{TaskState, TaskStatus, network_info, task_status};
use berth_test_agent::{Ground, until};
use serde_json::{Value, json};

use crate::daemon::{Daemon, IMAGE};
use crate::scheduler::{Scheduler, resources};
use crate::{ground_of, leave};

/// An agent with a master of its own, over an engine.
struct Node {
    ground: Ground,
    engine: Daemon,
    before: Vec<String>,
    flags: Vec<String>,
    master: String,
}

impl Node {
    fn new(test: &str) -> Option<Node> {
        let (mut ground, engine) = ground_of(test)?;
        ground.stop();
        let (master, port) = (format!("127.0.0.1:{}", free_port()), free_port());
        let flags = [
            format!("--local_master={master}"),
            format!("--port={port}"),
            "--no-authenticate_http_readwrite".to_owned(),
            "--allocation_interval=200ms".to_owned(),
            "--resources=cpus:64;mem:65536;ports:[31000-32000]".to_owned(),
            "--executor_reregistration_timeout=15secs".to_owned(),
        ];
        let before = engine.ledger();
        let mut node = Node { ground, engine, before, flags: flags.into(), master };
        node.start();
        Some(node)
    }

    fn start(&mut self) {
        crate::start_with(&mut self.ground, &self.engine, &self.flags);
        let master = &self.master;
        until("the master listens", || std::net::TcpStream::connect(master).is_ok());
    }

    /// The container of a task or of an executor, and what the engine calls it.
    fn container(&self, name: &str) -> String {
        let inspection = self.ground.api().inspect(name).unwrap();
        inspection.underlying_name.expect("the engine's name of it")
    }

    fn inspect(&self, container: &str, what: &str) -> String {
        self.engine.says(&["inspect", "-f", what, container])
    }

    /// Tasks are over and nothing is left, but what is kept of them until it is collected.
    fn leave(self) {
        let Node { mut ground, engine, before, .. } = self;
        let api = ground.api();
        for name in api.all().unwrap() {
            api.destroy(&name).unwrap();
        }
        ground.stop();
        // What is kept of frameworks until it is collected.
        let work = ground.work_dir();
        let _ = std::fs::remove_dir_all(work.join("meta/master"));
        for agent in std::fs::read_dir(work.join("meta/slaves")).unwrap() {
            let agent = agent.unwrap().file_name();
            for framework in
                std::fs::read_dir(work.join("meta/slaves").join(&agent).join("frameworks")).unwrap()
            {
                std::fs::remove_dir_all(framework.unwrap().path()).unwrap();
            }
            let _ = std::fs::remove_dir_all(work.join("slaves").join(&agent).join("frameworks"));
        }
        crate::start(&mut ground, &engine);
        leave(ground, &engine, &before);
    }
}

/// A port that nobody had a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A task's container of this image on this network, and its command.
fn task(image: &str, network: &str, script: &str) -> Value {
    json!({
        "command": {"shell": true, "value": script},
        "container": {"type": "DOCKER", "docker": {"image": image, "network": network}}
    })
}

fn addresses(status: &TaskStatus) -> Vec<String> {
    let networks = &status.container_status.as_ref().unwrap().network_infos;
    networks.iter().flat_map(|one| &one.ip_addresses).map(|one| one.ip_address().to_owned()).collect()
}

#[test]
fn a_docker_task_is_told_of_as_by_mesos_with_what_the_engine_says_of_it() {
    let test = "a_docker_task_is_told_of_as_by_mesos_with_what_the_engine_says_of_it";
    let Some(node) = Node::new(test) else { return };
    let mut scheduler = Scheduler::new(&node.master);

    // It runs: with the engine's words, and where it is reached.
    let mut asked = task(IMAGE, "BRIDGE", "echo up; exec sleep 1000");
    asked["container"]["network_infos"] =
        json!([{"groups": ["g"], "labels": {"labels": [{"key": "k", "value": "v"}]}}]);
    scheduler.launch("runs", asked);
    scheduler.told("runs", TaskState::TaskStarting);
    let running = scheduler.told("runs", TaskState::TaskRunning);
    assert_eq!(running.source(), task_status::Source::Executor);
    let said: Value = serde_json::from_slice(running.data()).unwrap();
    let container = node.container("runs");
    assert_eq!(said[0]["Name"], format!("/{container}"));
    assert_eq!((&said[0]["State"]["Running"], said.as_array().unwrap().len()), (&json!(true), 1));
    let address = node.inspect(&container, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    assert_eq!((addresses(&running), address.is_empty()), (vec![address], false));
    let network = &running.container_status.as_ref().unwrap().network_infos[0];
    assert_eq!(network.ip_addresses[0].protocol(), network_info::Protocol::IPv4);
    assert_eq!(
        (network.groups.join(","), network.labels.as_ref().unwrap().labels.len()),
        ("g".to_owned(), 1)
    );
    // Task and executor, as Mesos counts.
    assert_eq!(node.inspect(&container, "{{.HostConfig.Memory}}"), (96 << 20).to_string());

    // On the host's network it is where the agent is.
    scheduler.launch("host", task(IMAGE, "HOST", "exec sleep 1000"));
    scheduler.told("host", TaskState::TaskStarting);
    assert_eq!(addresses(&scheduler.told("host", TaskState::TaskRunning)), ["127.0.0.1"]);

    // Ends: by itself, with a status, killed, killed by force, and of an image that is not there.
    scheduler.launch("good", task(IMAGE, "NONE", "exit 0"));
    let told = (vec!["STARTING", "RUNNING", "FINISHED"], "Container exited with status 0".to_owned());
    assert_eq!(scheduler.life("good"), told);
    scheduler.launch("bad", task(IMAGE, "NONE", "exit 3"));
    let told = (vec!["STARTING", "RUNNING", "FAILED"], "Container exited with status 3".to_owned());
    assert_eq!(scheduler.life("bad"), told);
    scheduler
        .launch("heeds", task(IMAGE, "NONE", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"));
    scheduler.told("heeds", TaskState::TaskStarting);
    scheduler.told("heeds", TaskState::TaskRunning);
    node.ground.api().wrote("heeds", "up\n");
    scheduler.kill("heeds", None);
    let told = (vec!["KILLING", "KILLED"], "Container exited with status 7".to_owned());
    assert_eq!(scheduler.life("heeds"), told);
    scheduler.kill("runs", Some(Duration::from_millis(100)));
    let told = (vec!["KILLING", "KILLED"], "Container terminated with signal Killed".to_owned());
    assert_eq!(scheduler.life("runs"), told);
    scheduler.launch("none", task("127.0.0.1:1/nothing:1", "NONE", "true"));
    let status = scheduler.told("none", TaskState::TaskFailed);
    assert_eq!(status.reason(), task_status::Reason::ContainerLaunchFailed);
    assert!(status.message().contains("Failed to pull image 127.0.0.1:1/nothing:1"), "{}", status.message());

    scheduler.kill("host", Some(Duration::ZERO));
    assert_eq!(scheduler.life("host").0, ["KILLING", "KILLED"]);
    node.leave();
}

#[test]
fn a_docker_task_has_the_user_the_signal_and_the_health_that_are_asked_for() {
    let test = "a_docker_task_has_the_user_the_signal_and_the_health_that_are_asked_for";
    let Some(node) = Node::new(test) else { return };
    let image = "berth-own:test";
    node.engine.import(image, &["USER 1234"], &[]);
    let mut scheduler = Scheduler::new(&node.master);

    // Nobody named a user for it: it is its image's, though the framework has one. It is told to end as it wants it.
    let script = "id -u; trap 'exit 8' USR1; echo up; while :; do sleep 0.1; done";
    let mut asked = task(image, "NONE", script);
    asked["container"]["docker"]["parameters"] = json!([{"key": "stop-signal", "value": "SIGUSR1"}]);
    scheduler.launch("signal", asked);
    scheduler.told("signal", TaskState::TaskStarting);
    scheduler.told("signal", TaskState::TaskRunning);
    node.ground.api().wrote("signal", "1234\nup\n");
    scheduler.kill("signal", None);
    let told = (vec!["KILLING", "KILLED"], "Container exited with status 8".to_owned());
    assert_eq!(scheduler.life("signal"), told);

    // Who is named is meant.
    let mut asked = task(image, "NONE", "id -u; exit 0");
    asked["command"]["user"] = json!("root");
    scheduler.launch("user", asked);
    assert_eq!(scheduler.life("user").0, ["STARTING", "RUNNING", "FINISHED"]);
    assert_eq!(node.ground.api().logs("user").unwrap().0, "0\n");

    // Its health is looked at in it; what that writes is in its sandbox.
    let mut asked = task(IMAGE, "NONE", "cd $MESOS_SANDBOX; trap 'exit 0' TERM; while :; do sleep 0.1; done");
    asked["health_check"] = json!({
        "type": "COMMAND", "command": {"value": "echo looked >&2; test ! -e $MESOS_SANDBOX/ill"},
        "delay_seconds": 0.0, "interval_seconds": 0.1, "grace_period_seconds": 0.0, "consecutive_failures": 1
    });
    scheduler.launch("health", asked);
    scheduler.told("health", TaskState::TaskStarting);
    scheduler.told("health", TaskState::TaskRunning);
    let healthy = scheduler.told("health", TaskState::TaskRunning);
    assert_eq!(
        (healthy.healthy, healthy.reason()),
        (Some(true), task_status::Reason::TaskHealthCheckStatusUpdated)
    );
    assert!(!healthy.data().is_empty(), "what the engine said is said again");
    until("what the check writes", || node.ground.api().logs("health").unwrap().1.contains("looked"));
    let container = node.container("health");
    node.engine.says(&["exec", &container, "touch", "/mnt/mesos/sandbox/ill"]);
    assert_eq!(scheduler.told("health", TaskState::TaskRunning).healthy, Some(false));
    scheduler.told("health", TaskState::TaskKilling);
    assert_eq!(scheduler.told("health", TaskState::TaskKilled).healthy, Some(false));
    node.leave();
}

#[test]
fn a_docker_task_outlives_its_agent_and_ends_once() {
    let Some(mut node) = Node::new("a_docker_task_outlives_its_agent_and_ends_once") else { return };
    let mut scheduler = Scheduler::new(&node.master);
    for name in ["between", "after"] {
        scheduler.launch(
            name,
            task(IMAGE, "NONE", "cd $MESOS_SANDBOX; until [ -e go ]; do sleep 0.05; done; exit 6"),
        );
        scheduler.told(name, TaskState::TaskStarting);
        scheduler.told(name, TaskState::TaskRunning);
    }
    let containers = ["between", "after"].map(|name| node.container(name));
    node.ground.kill();
    let go = |container: &str| node.engine.says(&["exec", container, "touch", "/mnt/mesos/sandbox/go"]);
    go(&containers[0]);
    until("it has ended", || node.inspect(&containers[0], "{{.State.Running}}") == "false");
    node.start();
    scheduler.again();
    let told = (vec!["FAILED"], "Container exited with status 6".to_owned());
    assert_eq!(scheduler.life("between"), told);
    node.engine.says(&["exec", &containers[1], "touch", "/mnt/mesos/sandbox/go"]);
    assert_eq!(scheduler.life("after"), told);
    node.leave();
}

#[test]
fn an_executor_in_a_docker_container_runs_tasks_over_http() {
    let Some(mut node) = Node::new("an_executor_in_a_docker_container_runs_tasks_over_http") else { return };
    let program = std::fs::read(env!("CARGO_BIN_EXE_berth-test-executor")).unwrap();
    let image = "berth-executor:test";
    node.engine.import(image, &[], &[("bin/executor", &program)]);
    let mut scheduler = Scheduler::new(&node.master);
    let with = |data: &str| {
        json!({
            "data": data,
            "executor": {
                "type": "CUSTOM", "executor_id": {"value": "own"}, "resources": resources(0.1, 64.0),
                "command": {"shell": false, "value": "/bin/executor"},
                "container": {"type": "DOCKER", "docker": {"image": image, "network": "HOST"}}
            }
        })
    };
    // "finish", as bytes are written in JSON.
    let (finish, stay) = ("ZmluaXNo", "c3RheQ==");
    scheduler.launch("first", with(finish));
    scheduler.told("first", TaskState::TaskRunning);
    scheduler.told("first", TaskState::TaskFinished);
    scheduler.launch("second", with(stay));
    let running = scheduler.told("second", TaskState::TaskRunning);
    assert_eq!(running.source(), task_status::Source::Executor);
    // One container for both, with the memory of executor and task, as much as it is at the moment.
    let container = node.container("own");
    assert_eq!(node.inspect(&container, "{{.HostConfig.Memory}}"), (128 << 20).to_string());
    let (out, _) = node.ground.api().logs("own").unwrap();
    assert_eq!(out, "executor own in /mnt/mesos/sandbox\nsubscribed\nlaunched first\nlaunched second\n");

    // It goes on without the agent, and comes back to the next.
    node.ground.kill();
    node.start();
    scheduler.again();
    let is_back =
        || node.ground.api().logs("own").is_ok_and(|(out, _)| out.matches("subscribed").count() == 2);
    until("the executor is back", is_back);
    scheduler.kill("second", None);
    assert_eq!(scheduler.life("second").0, ["KILLED"]);
    scheduler.launch("third", with(stay));
    scheduler.told("third", TaskState::TaskRunning);
    // Its end is the end of what it runs.
    scheduler.shutdown("own");
    let ended = scheduler.report("third");
    assert_eq!(
        (ended.state(), ended.reason()),
        (TaskState::TaskFailed, task_status::Reason::ExecutorTerminated)
    );
    until("it has ended", || node.inspect(&container, "{{.State.Running}}") == "false");
    node.leave();
}
