// SPDX-License-Identifier: Apache-2.0
//! Each named fault point (`crates/containerizers/mesos/src/fault.rs`) × kill, error, delay.

use berth_test_faults::{Exit, Ground, State, skip};
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// Before the container is promised to anybody, in their order.
const BEFORE_GO: [&str; 9] = ["spawn", "lock", "record", "dirs", "begin", "isolate", "send", "forked", "pid"];
/// When it ended.
const AT_THE_END: [&str; 3] = ["exited", "cleanup", "remove"];
const SEVEN: i64 = 7 << 8;
const SIGKILL: i32 = 9;
const KEEP_OR_NOT: [&[&str]; 2] = [&[], &["--rm"]];

fn all() -> impl Iterator<Item = &'static str> {
    BEFORE_GO.into_iter().chain(["go"]).chain(AT_THE_END)
}

/// Runs `sh -c 'echo out; exit 7'` with the fault armed.
fn run(ground: &Ground, name: &str, fault: &str, options: &[&str]) -> Exit {
    let options: Vec<&str> = ["--name", name].into_iter().chain(options.iter().copied()).collect();
    let args: Vec<OsString> = ground.run_arguments(&options, &["sh", "-c", "echo out; exit 7"]);
    ground.finish(ground.command().args(args).env("BERTH_FAULT", fault))
}

#[test]
fn an_owner_that_is_killed_at_a_fault_point_is_collected() {
    let ground = match Ground::new("points-kill") {
        Ok(ground) => ground,
        Err(lacked) => return skip("an_owner_that_is_killed_at_a_fault_point_is_collected", &lacked),
    };
    for point in all() {
        for options in KEEP_OR_NOT {
            let name = ground.name(point);
            let exit = run(&ground, &name, &format!("{point}=kill"), options);
            assert_eq!(exit.signal, Some(SIGKILL), "{point} was not reached (--features faults?): {exit:?}");
            ground.quiet().unwrap();
            let state = ground.state(&name).unwrap();
            let fits = match (&state, point) {
                _ if options == ["--rm"] => state == State::None,
                (State::None, point) => BEFORE_GO.contains(&point),
                (State::Exited(SEVEN), point) => !BEFORE_GO.contains(&point),
                _ => false,
            };
            assert!(fits, "killed at {point}: {state:?}");
            if state != State::None {
                ground.remove(&name).unwrap();
            }
            ground.same().unwrap_or_else(|e| panic!("killed at {point}: {e}"));
        }
    }
}

#[test]
fn an_error_at_a_fault_point_leaves_nothing_and_exits_125() {
    let ground = match Ground::new("points-error") {
        Ok(ground) => ground,
        Err(lacked) => return skip("an_error_at_a_fault_point_leaves_nothing_and_exits_125", &lacked),
    };
    for point in BEFORE_GO.into_iter().chain(["go"]) {
        for options in KEEP_OR_NOT {
            let name = ground.name(point);
            let exit = run(&ground, &name, &format!("{point}=error"), options);
            assert_eq!(exit.code, Some(125), "{point}: {exit:?}");
            assert!(exit.stderr.contains(&format!("fault point {point}")), "{point}: {exit:?}");
            // Nothing, and without another command to collect it.
            ground.same().unwrap_or_else(|e| panic!("error at {point}: {e}"));
        }
    }
}

#[test]
fn an_error_while_cleaning_up_does_not_change_the_status() {
    let ground = match Ground::new("points-end") {
        Ok(ground) => ground,
        Err(lacked) => return skip("an_error_while_cleaning_up_does_not_change_the_status", &lacked),
    };
    for point in AT_THE_END {
        let name = ground.name(point);
        let exit = run(&ground, &name, &format!("{point}=error"), &[]);
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(7), "out\n"), "{point}: {exit:?}");
        assert_eq!(ground.state(&name), Ok(State::Exited(SEVEN)));
        ground.remove(&name).unwrap();
        ground.same().unwrap_or_else(|e| panic!("error at {point}: {e}"));
    }
}

#[test]
fn a_delay_at_a_fault_point_changes_nothing() {
    if let Err(lacked) = Ground::bare("points-delay") {
        return skip("a_delay_at_a_fault_point_changes_nothing", &lacked);
    }
    std::thread::scope(|scope| {
        for point in all() {
            scope.spawn(move || {
                let ground = Ground::new("points-delay").unwrap();
                let name = ground.name(point);
                let start = Instant::now();
                let exit = run(&ground, &name, &format!("{point}=delay"), &[]);
                assert!(start.elapsed() >= Duration::from_secs(1), "{point} was not reached: {exit:?}");
                assert_eq!((exit.code, exit.stdout.as_str()), (Some(7), "out\n"), "{point}: {exit:?}");
                assert_eq!(ground.state(&name), Ok(State::Exited(SEVEN)));
                ground.remove(&name).unwrap();
                ground.same().unwrap_or_else(|e| panic!("delay at {point}: {e}"));
            });
        }
    });
}

#[test]
fn a_command_that_is_killed_while_it_collects_is_followed_up() {
    let test = "a_command_that_is_killed_while_it_collects_is_followed_up";
    let ground = match Ground::new("points-collect") {
        Ok(ground) => ground,
        Err(lacked) => return skip(test, &lacked),
    };
    let killed = |args: &[&str], point: &str| {
        let fault = format!("{point}=kill");
        let exit = ground.finish(ground.command().args(args).env("BERTH_FAULT", fault));
        assert_eq!(exit.signal, Some(SIGKILL), "{point} was not reached: {exit:?}");
    };
    for point in ["cleanup", "remove"] {
        for options in KEEP_OR_NOT {
            let name = ground.name(point);
            run(&ground, &name, "exited=kill", options);
            ground.quiet().unwrap();
            // Twice: what a collector leaves is collected like what an owner leaves.
            killed(&["ps"], point);
            if options.is_empty() {
                assert_eq!(ground.state(&name), Ok(State::Exited(SEVEN)), "{point}");
                killed(&["rm", &name], point);
                if ground.state(&name) != Ok(State::None) {
                    ground.remove(&name).unwrap();
                }
            } else {
                killed(&["ps"], point);
                assert_eq!(ground.state(&name), Ok(State::None), "{point}");
            }
            ground.same().unwrap_or_else(|e| panic!("collecting, killed at {point}: {e}"));
        }
    }
}
