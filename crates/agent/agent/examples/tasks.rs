// SPDX-License-Identifier: Apache-2.0
//! An agent whose master is the other side of its standard input and output, for tests that kill it: a line for each
//! thing that is said.
//!
//! ```text
//! < held TASK                      for each task that it has, then `ready`
//! > run TASK COMMAND               > kill TASK                > ack TASK UUID
//! > give EXECUTOR TASK COMMAND     a task for an executor of the framework's, with the command that starts it
//! > over                           the framework goes
//! < status TASK STATE UUID MESSAGE
//! ```

#![allow(clippy::unwrap_used, reason = "it is a part of a test")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use berth_agent::Agent;
use berth_config::{Sources, load};
use berth_proto::v1;
use berth_tasks::link::{Master, Run, StatusUpdate};

/// What is heard is said; which executors of the framework's there are.
#[derive(Default)]
struct Said(Mutex<BTreeSet<String>>);

impl Master for Said {
    fn update(&self, update: StatusUpdate) {
        let status = update.status;
        let uuid: String = status.uuid().iter().map(|byte| format!("{byte:02x}")).collect();
        let (task, state) = (&status.task_id.value, status.state().as_str_name());
        say(&format!("status {task} {state} {uuid} {}", status.message()));
    }

    fn message(&self, _: &str, _: &str, _: Vec<u8>) {}

    fn executor_exited(&self, _: &str, executor: &str, _: i32) {
        self.0.lock().unwrap().remove(executor);
    }
}

/// One write, so that a kill leaves no half of a line.
fn say(line: &str) {
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

fn run(task: &str, command: &str) -> Run {
    let resource = |name: &str, value: f64| v1::Resource {
        name: name.to_owned(),
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    };
    let command = v1::CommandInfo { value: Some(command.to_owned()), ..Default::default() };
    let task = v1::TaskInfo {
        task_id: v1::TaskId { value: task.to_owned() },
        resources: vec![resource("cpus", 0.1), resource("mem", 32.0)],
        command: Some(command),
        ..Default::default()
    };
    let id = Some(v1::FrameworkId { value: "f".to_owned() });
    Run {
        framework: v1::FrameworkInfo { user: "root".to_owned(), id, ..Default::default() },
        executor: None,
        tasks: vec![task],
        group: false,
        launch_executor: true,
    }
}

/// A task that an executor of the framework's runs.
fn give(executor: &str, task: &str, command: &str, launch_executor: bool) -> Run {
    let mut run = run(task, command);
    let command = run.tasks[0].command.take();
    let executor_id = v1::ExecutorId { value: executor.to_owned() };
    run.executor = Some(v1::ExecutorInfo { executor_id, command, ..Default::default() });
    run.launch_executor = launch_executor;
    run
}

fn main() {
    let arguments = std::env::args_os().skip(1).collect();
    let sources = Sources { arguments, environment: Vec::new(), working_directory: "/".into() };
    let flags = load(&sources).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let agent = runtime.block_on(Agent::start(flags, None)).unwrap();
    runtime.block_on(agent.recovered()).unwrap();
    let side = agent.tasks();
    let said = Arc::new(Said::default());
    let held = side.connect(Arc::clone(&said) as Arc<dyn Master>);
    let executors = held.executors.into_iter().map(|executor| executor.executor_id.value);
    said.0.lock().unwrap().extend(executors);
    for task in held.tasks {
        say(&format!("held {}", task.task_id.value));
    }
    say("ready");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("run"), Some(task), Some(command)) => side.run(run(task, command)),
            (Some("give"), Some(executor), Some(rest)) => {
                let (task, command) = rest.split_once(' ').unwrap();
                let is_new = said.0.lock().unwrap().insert(executor.to_owned());
                side.run(give(executor, task, command, is_new));
            }
            (Some("over"), None, None) => side.shutdown_framework("f"),
            (Some("kill"), Some(task), None) => side.kill("f", task, None),
            (Some("ack"), Some(task), Some(uuid)) => {
                let byte = |at: usize| u8::from_str_radix(&uuid[at..at + 2], 16).unwrap();
                let uuid: Vec<u8> = (0..uuid.len()).step_by(2).map(byte).collect();
                side.acknowledge("f", task, &uuid);
            }
            _ => {}
        }
    }
    runtime.block_on(agent.stop());
}
