// SPDX-License-Identifier: Apache-2.0
//! Built-in executors in real containers: groups of tasks, kills, health.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use berth_proto::v1::{self, TaskState, TaskStatus, executor_info, framework_info, health_check};
use berth_tasks::link::Run;
use serde_json::{Value, json};

use crate::ground::{Ground, on};
use crate::tasks::Told;

fn resource(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: Some(v1::resource::AllocationInfo { role: Some("web".to_owned()) }),
        ..v1::Resource::default()
    }
}

fn framework() -> v1::FrameworkInfo {
    let capability = framework_info::Capability {
        r#type: Some(framework_info::capability::Type::TaskKillingState as i32),
    };
    v1::FrameworkInfo {
        user: "root".to_owned(),
        name: "test".to_owned(),
        id: Some(v1::FrameworkId { value: "f".to_owned() }),
        capabilities: vec![capability],
        ..v1::FrameworkInfo::default()
    }
}

fn task(id: &str, command: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        resources: vec![resource("cpus", 0.1), resource("mem", 32.0)],
        command: Some(v1::CommandInfo { value: Some(command.to_owned()), ..v1::CommandInfo::default() }),
        ..v1::TaskInfo::default()
    }
}

/// A task with a memory limit of its own, in MiB.
pub(crate) fn limited(id: &str, command: &str, limit: f64) -> v1::TaskInfo {
    let linux = v1::LinuxInfo { share_cgroups: Some(false), ..v1::LinuxInfo::default() };
    let container = v1::ContainerInfo {
        r#type: v1::container_info::Type::Mesos as i32,
        linux_info: Some(linux),
        ..v1::ContainerInfo::default()
    };
    let limits = BTreeMap::from([("mem".to_owned(), v1::value::Scalar { value: limit })]);
    v1::TaskInfo { container: Some(container), limits, ..task(id, command) }
}

fn healthy_while(id: &str, command: &str, check: &str) -> v1::TaskInfo {
    let check = v1::HealthCheck {
        r#type: Some(health_check::Type::Command as i32),
        command: Some(v1::CommandInfo { value: Some(check.to_owned()), ..v1::CommandInfo::default() }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.05),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(2),
        ..v1::HealthCheck::default()
    };
    v1::TaskInfo { health_check: Some(check), ..task(id, command) }
}

fn command(task: v1::TaskInfo) -> Run {
    Run { framework: framework(), executor: None, tasks: vec![task], group: false, launch_executor: true }
}

pub(crate) fn group(tasks: Vec<v1::TaskInfo>) -> Run {
    let executor = v1::ExecutorInfo {
        r#type: Some(executor_info::Type::Default as i32),
        executor_id: v1::ExecutorId { value: "group".to_owned() },
        framework_id: framework().id,
        resources: vec![resource("cpus", 0.1), resource("mem", 32.0)],
        ..v1::ExecutorInfo::default()
    };
    Run { framework: framework(), executor: Some(executor), tasks, group: true, launch_executor: true }
}

/// `STATE[ REASON][ healthy][: message]`, as one line.
fn text(status: &TaskStatus) -> String {
    let mut text = status.state().as_str_name().trim_start_matches("TASK_").to_owned();
    if status.reason.is_some() {
        text += &format!(" {}", status.reason().as_str_name().trim_start_matches("REASON_"));
    }
    if let Some(healthy) = status.healthy {
        text += if healthy { " healthy" } else { " unhealthy" };
    }
    if let Some(message) = &status.message {
        text += &format!(": {message}");
    }
    text
}

/// What is told until each of so many tasks has ended: of each, in order.
pub(crate) fn until_all_end(told: &Told, count: usize) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut ended = 0;
    while ended < count {
        let status = told.next();
        ended += usize::from(berth_tasks::is_terminal(status.state()));
        all.entry(status.task_id.value.clone()).or_default().push(text(&status));
    }
    all
}

/// What is told until so many tasks run.
pub(crate) fn until_running(told: &Told, count: usize) -> BTreeMap<String, TaskStatus> {
    let mut all = BTreeMap::new();
    while all.len() < count {
        let status = told.next();
        match status.state() {
            TaskState::TaskStarting => {}
            TaskState::TaskRunning => _ = all.insert(status.task_id.value.clone(), status),
            other => panic!("{} is told of {}", other.as_str_name(), text(&status)),
        }
    }
    all
}

/// The sandbox of an executor: of a group, or of a command by its task.
pub(crate) fn sandbox(ground: &Ground, executor: &str) -> PathBuf {
    let agent = ground.tasks().info().id.unwrap().value;
    ground.site.work_dir().join(format!("slaves/{agent}/frameworks/f/executors/{executor}/runs/latest"))
}

/// Waits until a task has made this file.
fn until_there(file: &Path) {
    berth_testing::until(&format!("{} is there", file.display()), || file.exists());
}

/// The memory limits of containers, by the last part of their ids.
pub(crate) fn limits(ground: &Ground) -> BTreeMap<String, Value> {
    let call = json!({ "type": "GET_CONTAINERS", "get_containers": { "show_nested": true } });
    let containers = ground.call(&call).json()["get_containers"]["containers"].clone();
    let limit = |container: &Value| {
        let id = container["container_id"]["value"].as_str().unwrap().to_owned();
        (id, container["resource_statistics"]["mem_limit_bytes"].clone())
    };
    containers.as_array().unwrap().iter().map(limit).collect()
}

#[test]
fn a_group_has_limits_of_its_own_for_each_and_ends_when_one_fails() {
    on("group", |ground| {
        ground.start();
        let told = Told::of(ground);
        told.give(group(vec![
            limited("a", "while [ ! -e go ]; do sleep 0.01; done; exit 3", 40.0),
            limited("b", "echo \"$MESOS_ALLOCATION_ROLE $MESOS_CONTAINER_IP\"; : > said; sleep 1000", 64.0),
            limited("d", "trap '' TERM; : > deaf; while :; do sleep 0.1; done", 96.0),
        ]));
        let running = until_running(&told, 3);
        let id = |task: &str| {
            let id = running[task].container_status.clone().unwrap().container_id.unwrap();
            assert!(id.parent.is_some(), "{id:?}");
            id.value
        };
        let limits = limits(ground);
        for (task, mib) in [("a", 40u64), ("b", 64), ("d", 96)] {
            assert_eq!(limits[&id(task)], json!(mib << 20), "{task}");
        }
        // It runs, which does not say how far its shell is.
        until_there(&sandbox(ground, "group").join("tasks/d/deaf"));
        until_there(&sandbox(ground, "group").join("tasks/b/said"));
        std::fs::write(sandbox(ground, "group").join("tasks/a/go"), "").unwrap();
        let all = until_all_end(&told, 3);
        assert_eq!(all["a"], ["FAILED: Command exited with status 3"]);
        assert_eq!(all["b"], ["KILLING", "KILLED: Command terminated with signal Terminated"]);
        assert_eq!(all["d"], ["KILLING", "KILLED: Command terminated with signal Killed"]);
        let wrote = std::fs::read_to_string(sandbox(ground, "group").join("tasks/b/stdout")).unwrap();
        assert_eq!(wrote, "web 127.0.0.1\n");
    });
}

#[test]
fn a_command_that_does_not_obey_is_ended_by_force() {
    on("force", |ground| {
        ground.start();
        let told = Told::of(ground);
        told.give(command(task("deaf", "trap '' TERM; : > deaf; while :; do sleep 0.1; done")));
        until_running(&told, 1);
        until_there(&sandbox(ground, "deaf").join("deaf"));
        let grace = v1::DurationInfo { nanoseconds: 200_000_000 };
        told.agent.kill("f", "deaf", Some(v1::KillPolicy { grace_period: Some(grace) }));
        let all = until_all_end(&told, 1);
        let told = &all["deaf"];
        assert_eq!(told[..], ["KILLING", "KILLED: Command terminated with signal Killed"]);
    });
}

#[test]
fn what_runs_too_long_has_failed_for_that() {
    on("longest", |ground| {
        ground.start();
        let told = Told::of(ground);
        let longest = Some(v1::DurationInfo { nanoseconds: 100_000_000 });
        told.give(command(v1::TaskInfo { max_completion_time: longest, ..task("long", "sleep 1000") }));
        let all = until_all_end(&told, 1);
        let last = all["long"].last().unwrap();
        // Asked and ended by force at once: either may be first.
        assert!(
            last.starts_with("FAILED MAX_COMPLETION_TIME_REACHED: Command terminated with signal "),
            "{last}"
        );
    });
}

#[test]
fn the_health_of_a_task_is_looked_at_in_its_container_and_kills_that_one() {
    on("health", |ground| {
        ground.start();
        let told = Told::of(ground);
        told.give(command(task("other", "sleep 1000")));
        until_running(&told, 1);
        let sick = healthy_while("sick", "touch well; sleep 0.3; rm well; sleep 1000", "test -e well");
        told.give(command(sick));
        let mut all = until_all_end(&told, 1);
        let sick = all.remove("sick").unwrap();
        assert!(all.is_empty(), "{all:?}");
        let checked = "RUNNING TASK_HEALTH_CHECK_STATUS_UPDATED";
        // Before it has made its file it may be found without.
        let first =
            sick.iter().position(|told| *told == format!("{checked} healthy")).expect("once it was well");
        assert_eq!(sick[..2], ["STARTING", "RUNNING"]);
        let bad = format!("{checked} unhealthy");
        let end = "KILLED unhealthy: Command terminated with signal Terminated".to_owned();
        assert_eq!(sick[first + 1..], [bad.clone(), bad, "KILLING".to_owned(), end]);
        told.agent.kill("f", "other", None);
        let killed = "KILLED: Command terminated with signal Terminated";
        assert_eq!(until_all_end(&told, 1)["other"], ["KILLING", killed]);
    });
}

#[test]
fn a_group_goes_on_without_an_agent_and_its_kill_too() {
    on("groupstop", |ground| {
        ground.start();
        let told = Told::of(ground);
        told.give(group(vec![
            task("a", "trap '' TERM; while :; do sleep 0.1; done"),
            task("b", "sleep 1000"),
        ]));
        let before = until_running(&told, 2);
        let grace = v1::DurationInfo { nanoseconds: 2_000_000_000 };
        told.agent.kill("f", "a", Some(v1::KillPolicy { grace_period: Some(grace) }));
        let killing = told.next();
        assert_eq!(text(&killing), "KILLING");
        ground.stop();
        ground.start();
        let told = Told::of(ground);
        let all = until_all_end(&told, 2);
        let last = |task: &str| all[task].last().unwrap().clone();
        assert_eq!(last("a"), "KILLED: Command terminated with signal Killed");
        assert_eq!(last("b"), "KILLED: Command terminated with signal Terminated");
        assert_eq!(
            killing.container_status.unwrap().container_id,
            before["a"].container_status.clone().unwrap().container_id
        );
    });
}
