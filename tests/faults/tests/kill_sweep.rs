// SPDX-License-Identifier: Apache-2.0
//! SIGKILL at every system call of the owner (`berth run`), of the supervisor, of both, of the container's first
//! process, and of `berth rm`; then the next command has to find everything.
//!
//! `BERTH_SWEEP=long` kills at every call; otherwise at every fifth (of the supervisor, which makes few, at each)
//! from a random one on, which is printed. `BERTH_SWEEP=57` kills at the 57th only.

use berth_test_faults::{Ground, State, long, skip};
use serde_json::Value;
use std::ffi::OsString;
use std::time::SystemTime;

/// Between two kills of the short form.
const STEP: u64 = 5;
const SUPERVISORS_STEP: u64 = 1;
/// `exit 7`.
const SEVEN: i64 = 7 << 8;
/// SIGKILL.
const KILLED: i64 = 9;

/// At which calls to kill.
struct Steps {
    first: u64,
    step: u64,
    last: u64,
}

fn steps(test: &str, short: u64) -> Steps {
    if let Some(only) = std::env::var("BERTH_SWEEP").ok().and_then(|v| v.parse().ok()) {
        return Steps { first: only, step: 1, last: only };
    }
    let step = if long() { 1 } else { short };
    let random = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let first = 1 + u64::from(random / 1000) % step;
    println!("{test}: every {step}th call, from number {first} on");
    Steps { first, step, last: 100_000 }
}

/// What one run under the tracer came to.
struct Run {
    killed: bool,
    at: String,
    code: Option<i64>,
}

fn traced(ground: &Ground, target: &str, at: u64, args: &[OsString]) -> Result<Run, String> {
    let output = ground.ends(&mut ground.traced(env!("CARGO_BIN_EXE_berth-sweep"), target, at, args))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let result: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("the tracer printed {:?}, {said}: {e}", output.stdout))?;
    let killed = result["killed"] == true;
    Ok(Run {
        killed,
        at: format!("{target} killed at call {at} (number {}); it said {said:?}", result["call"]),
        code: result["exit_code"].as_i64(),
    })
}

/// Kills at one call after the other, and tells all that went wrong.
fn sweep(
    test: &str,
    ground: &Ground,
    short: u64,
    mut one: impl FnMut(u64) -> (bool, String, Result<(), String>),
) {
    let steps = steps(test, short);
    let mut wrong = Vec::new();
    let mut at = steps.first;
    let mut reached = 0;
    while at <= steps.last && wrong.len() < 20 {
        let (killed, what, mut result) = one(at);
        reached += u64::from(killed);
        if result.is_ok() {
            result = ground.same();
        } else {
            ground.clear();
        }
        if let Err(why) = result {
            wrong.push(format!("{what}: {why}"));
        }
        if !killed {
            break;
        }
        at += steps.step;
    }
    println!("{test}: killed {reached} times");
    assert!(wrong.is_empty(), "{} of {reached} kills:\n{}", wrong.len(), wrong.join("\n"));
    assert!(reached > 0, "nothing was killed: the sweep looked at nothing");
}

/// One that ends at once, and one that runs on until its supervisor has executed a program of its own.
const SHORT: &str = "echo out; exit 7";
const LONG: &str = "echo out; sleep 0.08; exit 7";

/// One launch, killed at call `at` and then looked at.
fn launch(
    ground: &Ground,
    target: &str,
    at: u64,
    options: &[&str],
    script: &str,
) -> (bool, String, Result<(), String>) {
    let name = ground.name(at);
    let mut all = vec!["--name", name.as_str()];
    all.extend(options);
    let args = ground.run_arguments(&all, &["sh", "-c", script]);
    match traced(ground, target, at, &args) {
        Err(e) => (true, format!("{target} killed at call {at}"), Err(e)),
        Ok(run) => {
            let result = aftermath(ground, target, &name, options.contains(&"--rm"), &run);
            (run.killed, run.at, result)
        }
    }
}

fn aftermath(ground: &Ground, target: &str, name: &str, removed: bool, run: &Run) -> Result<(), String> {
    ground.quiet()?;
    let recorded = ground.record(name, "status");
    let output = ground.written(name).unwrap_or_default();
    let state = ground.state(name)?;
    let wrong = |why: &str| {
        Err(format!("{why}: {state:?}, exit code {:?}, status {recorded:?}, output {output:?}", run.code))
    };
    match &state {
        State::Exited(SEVEN) => {}
        State::Exited(KILLED) if target != "owner" => {}
        State::Unknown(why) if !why.is_empty() && ["owner", "both"].contains(&target) => {}
        State::None => {}
        _ => return wrong("this is no state to be in"),
    }
    if removed && state != State::None {
        return wrong("--rm, and it is still there");
    }
    if recorded.is_some() && !removed && !matches!(state, State::Exited(_)) {
        return wrong("its exit record was there and is not told");
    }
    if target == "owner" && !removed && output == "out\n" && state != State::Exited(SEVEN) {
        return wrong("it ran, its supervisor lived, and its status is not told");
    }
    if !run.killed && (run.code != Some(7) || (!removed && state != State::Exited(SEVEN))) {
        return wrong("nobody was killed");
    }
    // The owner that lives tells the same as the record.
    if ["supervisor", "container"].contains(&target) {
        let fits = match (&state, run.code) {
            (State::None, Some(7 | 137)) => removed,
            (State::None, Some(125)) => true,
            (State::Exited(status), Some(code)) => [(SEVEN, 7), (KILLED, 137)].contains(&(*status, code)),
            _ => false,
        };
        if !fits {
            return wrong("the owner tells something else");
        }
    }
    if state == State::None {
        return Ok(());
    }
    if ground.written(name).unwrap_or_default() != output {
        return wrong("its output changed when it was collected");
    }
    ground.remove(name)
}

fn launches(test: &str, target: &str, options: &[&str]) {
    launches_of(test, target, options, SHORT);
}

fn launches_of(test: &str, target: &str, options: &[&str], script: &str) {
    let ground = match Ground::new("sweep") {
        Ok(ground) => ground,
        Err(lacked) => return skip(test, &lacked),
    };
    let short = if target == "supervisor" { SUPERVISORS_STEP } else { STEP };
    sweep(test, &ground, short, |at| launch(&ground, target, at, options, script));
}

#[test]
fn an_owner_that_is_killed_anywhere_leaves_nothing_and_loses_no_status() {
    launches("an_owner_that_is_killed_anywhere_leaves_nothing_and_loses_no_status", "owner", &[]);
}

#[test]
fn an_owner_that_is_killed_anywhere_leaves_nothing_with_rm() {
    launches("an_owner_that_is_killed_anywhere_leaves_nothing_with_rm", "owner", &["--rm"]);
}

#[test]
fn a_supervisor_that_is_killed_anywhere_leaves_nothing_and_loses_no_status() {
    launches("a_supervisor_that_is_killed_anywhere_leaves_nothing_and_loses_no_status", "supervisor", &[]);
}

#[test]
fn a_supervisor_that_is_killed_anywhere_leaves_nothing_with_rm() {
    launches("a_supervisor_that_is_killed_anywhere_leaves_nothing_with_rm", "supervisor", &["--rm"]);
}

#[test]
fn a_supervisor_that_is_killed_while_it_becomes_a_program_of_its_own_loses_no_status() {
    let test = "a_supervisor_that_is_killed_while_it_becomes_a_program_of_its_own_loses_no_status";
    launches_of(test, "supervisor", &[], LONG);
}

#[test]
fn an_owner_and_a_supervisor_of_its_own_that_are_killed_together_leave_nothing() {
    let test = "an_owner_and_a_supervisor_of_its_own_that_are_killed_together_leave_nothing";
    launches_of(test, "both", &[], LONG);
}

#[test]
fn a_supervisor_of_an_init_that_is_killed_anywhere_leaves_nothing() {
    let options = ["--init", "--user", "1000:1000"];
    launches("a_supervisor_of_an_init_that_is_killed_anywhere_leaves_nothing", "supervisor", &options);
}

#[test]
fn an_owner_and_a_supervisor_that_are_killed_together_anywhere_leave_nothing() {
    launches("an_owner_and_a_supervisor_that_are_killed_together_anywhere_leave_nothing", "both", &[]);
}

#[test]
fn a_first_process_that_is_killed_anywhere_leaves_nothing_and_loses_no_status() {
    let test = "a_first_process_that_is_killed_anywhere_leaves_nothing_and_loses_no_status";
    launches(test, "container", &[]);
}

#[test]
fn a_removal_that_is_killed_anywhere_is_finished_or_can_be_made_again() {
    let test = "a_removal_that_is_killed_anywhere_is_finished_or_can_be_made_again";
    let ground = match Ground::new("sweep-rm") {
        Ok(ground) => ground,
        Err(lacked) => return skip(test, &lacked),
    };
    sweep(test, &ground, STEP, |at| {
        let name = ground.name(at);
        let run = ground.run(&["--name", &name], &["sh", "-c", "exit 7"]);
        assert_eq!(run.code, Some(7), "{run:?}");
        let removal = match traced(&ground, "owner", at, &["rm".into(), name.clone().into()]) {
            Ok(removal) => removal,
            Err(e) => return (true, format!("killed at call {at}"), Err(e)),
        };
        let result = match ground.state(&name) {
            Ok(State::None) => Ok(()),
            Ok(State::Exited(SEVEN)) => ground.remove(&name),
            Ok(other) => Err(format!("this is no state to be in: {other:?}")),
            Err(e) => Err(e),
        };
        (removal.killed, removal.at, result)
    });
}
