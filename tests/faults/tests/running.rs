// SPDX-License-Identifier: Apache-2.0
//! Owner, supervisor or both die while a command runs (41.4).

use berth_sys::rustix::process::{Pid, Signal, kill_process, test_kill_process};
use berth_test_faults::{Ground, State, skip};
use serde_json::Value;
use std::process::Child;

const KILLED: i64 = 9;
const READY: &[&str] = &["sh", "-c", "echo ready; exec sleep 1000"];

/// A command that runs: its owner, and the pids of its first process and its supervisor.
fn running(ground: &Ground, name: &str, options: &[&str]) -> (Child, Pid, Pid) {
    let options: Vec<&str> = ["--name", name].into_iter().chain(options.iter().copied()).collect();
    let owner = ground.start(&options, READY);
    ground.wait_for("the command runs", || ground.written(name).as_deref() == Some("ready\n"));
    let record: Value = serde_json::from_str(&ground.record(name, "pid").expect("a pid")).expect("JSON");
    let pid = |key: &str| {
        let find = |v: &Value| v[key].as_i64();
        let number = find(&record).or_else(|| record.as_object()?.values().find_map(find));
        Pid::from_raw(number.expect("its pid") as i32).expect("a pid is not 0")
    };
    (owner, pid("pid"), pid("supervisor"))
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).expect("it runs");
}

#[test]
fn a_container_whose_supervisor_is_killed_is_ended_and_its_status_told() {
    let test = "a_container_whose_supervisor_is_killed_is_ended_and_its_status_told";
    let ground = match Ground::new("running") {
        Ok(ground) => ground,
        Err(lacked) => return skip(test, &lacked),
    };
    for (at, options) in [&[][..], &["--rm"], &["--init"], &["--user", "1000:1000"]].into_iter().enumerate() {
        let name = ground.name(at);
        let (owner, _, supervisor) = running(&ground, &name, options);
        kill(supervisor);
        let exit = ground.end(owner);
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(137), "ready\n"), "{options:?}: {exit:?}");
        let state = ground.state(&name).unwrap();
        if options == ["--rm"] {
            assert_eq!(state, State::None);
        } else {
            assert_eq!(state, State::Exited(KILLED), "{options:?}");
            ground.remove(&name).unwrap();
        }
        ground.same().unwrap_or_else(|e| panic!("{options:?}: {e}"));
    }
}

#[test]
fn a_container_whose_owner_is_killed_runs_on_and_can_be_killed() {
    let ground = match Ground::new("running") {
        Ok(ground) => ground,
        Err(lacked) => return skip("a_container_whose_owner_is_killed_runs_on_and_can_be_killed", &lacked),
    };
    let name = ground.name("x");
    let (mut owner, first, supervisor) = running(&ground, &name, &[]);
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(ground.state(&name), Ok(State::Live("running".to_owned())));
    assert!(test_kill_process(first).is_ok() && test_kill_process(supervisor).is_ok());
    let killed = ground.berth(&["kill", "-s", "KILL", &name]);
    assert_eq!(killed.code, Some(0), "{killed:?}");
    ground.quiet().unwrap();
    assert_eq!(ground.state(&name), Ok(State::Exited(KILLED)));
    ground.remove(&name).unwrap();
    ground.same().unwrap();
}

#[test]
fn a_container_whose_owner_and_supervisor_are_killed_is_ended_and_said_to_be_unknown() {
    let test = "a_container_whose_owner_and_supervisor_are_killed_is_ended_and_said_to_be_unknown";
    let ground = match Ground::new("running") {
        Ok(ground) => ground,
        Err(lacked) => return skip(test, &lacked),
    };
    for (at, options) in [&[][..], &["--rm"], &["--init", "--user", "1000:1000"]].into_iter().enumerate() {
        let name = ground.name(at);
        let (mut owner, _, supervisor) = running(&ground, &name, options);
        owner.kill().unwrap();
        kill(supervisor);
        owner.wait().unwrap();
        // The lock of a process that is being torn down is held a moment longer.
        ground
            .wait_for("it is told to have ended", || !matches!(ground.state(&name).unwrap(), State::Live(_)));
        ground.quiet().unwrap();
        match ground.state(&name).unwrap() {
            State::None => assert_eq!(options, ["--rm"]),
            State::Unknown(why) => {
                assert!(options != ["--rm"] && !why.is_empty());
                ground.remove(&name).unwrap();
            }
            other => panic!("{options:?}: {other:?}"),
        }
        ground.same().unwrap_or_else(|e| panic!("{options:?}: {e}"));
    }
}

#[test]
fn a_status_that_the_supervisor_can_not_record_is_recorded_by_the_owner() {
    let ground = match Ground::new("running") {
        Ok(ground) => ground,
        Err(lacked) => {
            return skip("a_status_that_the_supervisor_can_not_record_is_recorded_by_the_owner", &lacked);
        }
    };
    let name = ground.name("x");
    let (owner, first, _) = running(&ground, &name, &[]);
    std::fs::remove_file(ground.runtime_dir().join("oneshot").join(&name).join(".status")).unwrap();
    kill(first);
    let exit = ground.end(owner);
    assert_eq!(exit.code, Some(137), "{exit:?}");
    assert_eq!(ground.state(&name), Ok(State::Exited(KILLED)));
    ground.remove(&name).unwrap();
    ground.same().unwrap();
}
