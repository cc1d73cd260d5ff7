// SPDX-License-Identifier: Apache-2.0
//! Tasks with commands, from a master to the statuses that it hears, in real containers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use berth_proto::v1::{self, TaskState};
use berth_tasks::link::{AgentSide, Master, Run, StatusUpdate};
use serde_json::json;

use crate::client::PATIENCE;
use crate::ground::{Ground, on};

/// A master that hears and acknowledges.
struct Hearing(Sender<StatusUpdate>);

impl Master for Hearing {
    fn update(&self, update: StatusUpdate) {
        let _ = self.0.send(update);
    }

    fn message(&self, _: &str, _: &str, _: Vec<u8>) {}

    fn executor_exited(&self, _: &str, _: &str, _: i32) {}
}

/// An agent and what its master hears.
pub(crate) struct Told {
    pub(crate) agent: Arc<dyn AgentSide>,
    heard: Receiver<StatusUpdate>,
}

impl Told {
    pub(crate) fn of(ground: &Ground) -> Told {
        let agent = ground.tasks();
        let (sender, heard) = channel();
        agent.connect(Arc::new(Hearing(sender)));
        Told { agent, heard }
    }

    pub(crate) fn run(&self, task: &str, command: &str) {
        self.give(run(task, command));
    }

    pub(crate) fn give(&self, run: Run) {
        self.agent.run(run);
    }

    /// The next status, which is acknowledged.
    pub(crate) fn next(&self) -> v1::TaskStatus {
        let update = self.heard.recv_timeout(PATIENCE).expect("a status");
        let status = update.status;
        self.agent.acknowledge(&update.framework, &status.task_id.value, status.uuid());
        status
    }

    /// The statuses up to the last.
    pub(crate) fn all(&self) -> Vec<v1::TaskStatus> {
        let mut all = Vec::new();
        loop {
            let status = self.next();
            let over = berth_tasks::is_terminal(status.state());
            all.push(status);
            if over {
                return all;
            }
        }
    }

    pub(crate) fn states(&self) -> (Vec<TaskState>, String) {
        let all = self.all();
        let last = all.last().unwrap().message().to_owned();
        (all.iter().map(v1::TaskStatus::state).collect(), last)
    }
}

pub(crate) fn run(task: &str, command: &str) -> Run {
    let resource = |name: &str, value: f64| v1::Resource {
        name: name.to_owned(),
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: Some(v1::resource::AllocationInfo { role: Some("*".to_owned()) }),
        ..Default::default()
    };
    let command = v1::CommandInfo { value: Some(command.to_owned()), ..Default::default() };
    let task = v1::TaskInfo {
        name: task.to_owned(),
        task_id: v1::TaskId { value: task.to_owned() },
        resources: vec![resource("cpus", 0.1), resource("mem", 64.0)],
        command: Some(command),
        ..Default::default()
    };
    let id = Some(v1::FrameworkId { value: "f".to_owned() });
    Run {
        framework: v1::FrameworkInfo {
            user: "root".to_owned(),
            name: "test".to_owned(),
            id,
            ..Default::default()
        },
        executor: None,
        tasks: vec![task],
        group: false,
        launch_executor: true,
    }
}

use TaskState::{TaskFailed, TaskFinished, TaskKilled, TaskRunning, TaskStarting};

#[test]
fn a_command_is_told_of_from_its_start_to_its_end_with_its_code() {
    on("tasks", |ground| {
        ground.start();
        let told = Told::of(ground);
        told.run("good", "test \"$MESOS_EXECUTOR_ID$MESOS_ALLOCATION_ROLE\" = 'good*' && echo hello");
        let finished =
            (vec![TaskStarting, TaskRunning, TaskFinished], "Command exited with status 0".to_owned());
        assert_eq!(told.states(), finished);
        told.run("bad", "exit 3");
        let failed = (vec![TaskStarting, TaskRunning, TaskFailed], "Command exited with status 3".to_owned());
        assert_eq!(told.states(), failed);
        let state = || ground.call(&json!({ "type": "GET_STATE" })).json()["get_state"].clone();
        // The last acknowledgement is on its way.
        let deadline = std::time::Instant::now() + PATIENCE;
        while state()["get_tasks"]["completed_tasks"].as_array().unwrap().len() < 2 {
            assert!(std::time::Instant::now() < deadline, "{}", state());
            std::thread::yield_now();
        }
        let state = state();
        assert_eq!(state["get_frameworks"]["completed_frameworks"].as_array().unwrap().len(), 1);
        // Where people look for what it wrote.
        let agent = ground.tasks().info().id.unwrap().value;
        let path = format!("slaves/{agent}/frameworks/f/executors/good/runs/latest/stdout");
        let real = ground.site.work_dir().join(path);
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "hello\n");
        for path in [real.to_str().unwrap(), "/frameworks/f/executors/good/runs/latest/stdout"] {
            let read = json!({ "type": "READ_FILE", "read_file": { "path": path, "offset": 0 } });
            assert_eq!(ground.call(&read).json()["read_file"]["data"], "aGVsbG8K", "{path}");
        }
        let list = json!({ "type": "LIST_FILES", "list_files": { "path": "/frameworks/f/executors/good/runs/latest" } });
        let listed = ground.call(&list).json()["list_files"]["file_infos"][1]["path"].clone();
        assert_eq!(listed, "/frameworks/f/executors/good/runs/latest/stdout");
    });
}

#[test]
fn a_task_that_runs_is_listed_goes_on_without_an_agent_and_ends_when_it_is_killed() {
    on("taskstop", |ground| {
        ground.start();
        let told = Told::of(ground);
        told.run("stays", "sleep 1000");
        assert_eq!(told.next().state(), TaskStarting);
        let running = told.next();
        assert_eq!(running.state(), TaskRunning);
        let container = running.container_status.unwrap();
        let id = container.container_id.unwrap().value;
        assert!(container.executor_pid.is_some() && !container.network_infos.is_empty());
        let listed = ground.call(&json!({ "type": "GET_CONTAINERS" })).json();
        let listed = &listed["get_containers"]["containers"][0];
        assert_eq!(
            (&listed["container_id"]["value"], &listed["executor_id"]["value"]),
            (&json!(id), &json!("stays"))
        );
        assert_eq!(ground.inspect("stays")["container_id"]["value"], json!(id), "its name is its task's");
        ground.stop();
        ground.start();
        let told = Told::of(ground);
        let state = ground.call(&json!({ "type": "GET_STATE" })).json()["get_state"].clone();
        assert_eq!(state["get_tasks"]["launched_tasks"][0]["task_id"]["value"], "stays");
        told.agent.kill("f", "stays", None);
        assert_eq!(told.all().last().unwrap().state(), TaskKilled);
    });
}

#[test]
fn a_task_that_ends_between_two_agents_is_told_of_by_the_second() {
    on("taskgone", |ground| {
        ground.start();
        let told = Told::of(ground);
        told.run("ends", "while [ ! -e go ]; do sleep 0.01; done; exit 7");
        assert_eq!((told.next().state(), told.next().state()), (TaskStarting, TaskRunning));
        let agent = ground.tasks().info().id.unwrap().value;
        let run = format!("slaves/{agent}/frameworks/f/executors/ends/runs/latest/go");
        ground.stop();
        std::fs::write(ground.site.work_dir().join(run), "").unwrap();
        ground.start();
        let told = Told::of(ground);
        let (states, message) = told.states();
        assert_eq!((states.last(), message.as_str()), (Some(&TaskFailed), "Command exited with status 7"));
    });
}
