// SPDX-License-Identifier: Apache-2.0
//! Hooks of the operator's around tasks, and flags that say what tasks run with.

use std::path::{Path, PathBuf};

use berth_proto::v1::task_status::Reason;
use berth_proto::v1::{self, TaskState};
use serde_json::{Value, json};

use crate::ground::{Ground, on};
use crate::tasks::{Told, run};

/// A directory for hooks, which agents here run from now on.
fn directory(ground: &mut Ground) -> PathBuf {
    let directory = ground.site.work_dir().join("hooks");
    std::fs::create_dir(&directory).unwrap();
    ground.with(&format!("--hooks_dir={}", directory.display()));
    directory
}

fn hook(directory: &Path, name: &str, script: &str) {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    berth_testing::script(&path, &format!("#!/bin/sh\n{script}\n"));
}

fn end(told: &Told) -> v1::TaskStatus {
    told.all().pop().unwrap()
}

#[test]
fn hooks_give_variables_refuse_launches_and_hear_what_is_over() {
    on("hooks", |ground| {
        let hooks = directory(ground);
        let seen = hooks.join("../seen");
        let variables = |given: &str| format!("echo '{{\"environment\":{given}}}'");
        hook(&hooks, "executor-environment/a", &variables(r#"{"FROM":"executor","E":"1","COMMAND":"hook"}"#));
        hook(&hooks, "executor-environment/b", "exit 1");
        hook(&hooks, "task-environment/a", &variables(r#"{"FROM":"task"}"#));
        hook(&hooks, "pre-launch/a", "if grep -q unwanted; then echo 'not this one' >&2; exit 1; fi");
        hook(&hooks, "removal/a", &format!("{{ cat; echo; }} >> {}", seen.display()));
        ground.start();
        let told = Told::of(ground);
        // One that fails gives nothing; what the command itself says is above all.
        let mut good = run("good", "test \"$FROM $E $COMMAND\" = 'task 1 own'");
        let own = v1::environment::Variable {
            name: "COMMAND".to_owned(),
            value: Some("own".to_owned()),
            ..Default::default()
        };
        good.tasks[0].command.as_mut().unwrap().environment = Some(v1::Environment { variables: vec![own] });
        told.give(good);
        let status = end(&told);
        assert_eq!(
            (status.state(), status.message()),
            (TaskState::TaskFinished, "Command exited with status 0")
        );
        told.run("bad", "echo unwanted");
        let status = end(&told);
        assert_eq!((status.state(), status.reason()), (TaskState::TaskFailed, Reason::ContainerLaunchFailed));
        let message = status.message();
        assert!(message.starts_with("Failed to launch container: the hook "), "{message}");
        assert!(message.ends_with("/pre-launch/a failed (exit status: 1): not this one"), "{message}");
        let heard = || -> Vec<Value> {
            let text = std::fs::read_to_string(&seen).unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        berth_testing::until("both executors are over", || heard().len() == 2);
        let first =
            heard().into_iter().find(|one| one["executor"]["executor_id"]["value"] == "good").unwrap();
        assert_eq!((&first["hook"], &first["framework"]["id"]["value"]), (&json!("removal"), &json!("f")));
        assert!(first["container_id"].as_str().is_some_and(|id| id.len() == 36), "{first}");
    });
}

#[test]
fn a_hook_that_hangs_costs_its_time_and_its_task_and_no_other() {
    on("hookhang", |ground| {
        let hooks = directory(ground);
        ground.with("--hooks_timeout=300ms");
        hook(&hooks, "task-environment/a", "if grep -q slow; then sleep 1000; fi");
        ground.start();
        let told = Told::of(ground);
        told.run("slow", "true");
        let status = end(&told);
        assert_eq!((status.state(), status.reason()), (TaskState::TaskFailed, Reason::ContainerLaunchFailed));
        assert!(
            status.message().contains("did not end within 0.3 s, and was killed"),
            "{}",
            status.message()
        );
        told.run("other", "true");
        assert_eq!(end(&told).state(), TaskState::TaskFinished);
        // What becomes none while the agent runs is found before it is run.
        std::fs::set_permissions(
            hooks.join("task-environment/a"),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        told.run("third", "true");
        assert!(end(&told).message().contains("others than root may write it"));
    });
}

#[test]
fn an_agent_does_not_start_on_hooks_that_others_may_write() {
    on("hookopen", |ground| {
        let hooks = directory(ground);
        std::fs::set_permissions(&hooks, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let error = ground.try_start().unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(error.to_string().starts_with("--hooks_dir"), "{error}");
        assert!(cause.contains("others than root may write it"), "{cause}");
        ground.without();
    });
}

#[test]
fn every_executor_gets_the_operators_variables_below_its_own() {
    on("variables", |ground| {
        ground.with(r#"--executor_environment_variables={"COLOR":"red","MESOS_EXECUTOR_ID":"x"}"#);
        ground.start();
        let told = Told::of(ground);
        told.run("t", "test \"$COLOR $MESOS_EXECUTOR_ID\" = 'red t'");
        assert_eq!(end(&told).message(), "Command exited with status 0");
    });
}

#[test]
fn tasks_run_as_who_they_name_or_all_as_the_agent() {
    for (flag, expected) in [("--switch_user", 65534), ("--no-switch_user", 0)] {
        on("switch", |ground| {
            ground.with(flag);
            ground.start();
            let told = Told::of(ground);
            let mut task = run("t", &format!("test $(id -u) = {expected}"));
            task.framework.user = "nobody".to_owned();
            told.give(task);
            assert_eq!(end(&told).message(), "Command exited with status 0", "{flag}");
            let command = json!({ "value": format!("test $(id -u) = {expected}"), "user": "nobody" });
            let call = json!({ "type": "LAUNCH_CONTAINER", "launch_container": {
                "container_id": { "value": "c" }, "command": command,
            } });
            assert_eq!(ground.call(&call).status, 200);
            assert_eq!(ground.wait("c")["exit_status"], 0, "{flag}");
        });
    }
}
