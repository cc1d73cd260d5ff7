// SPDX-License-Identifier: Apache-2.0
//! A container in each state with its work stuck: whoever asks is answered at once and told where it is, and who ends it
//! need not wait for longer than what is stuck.
//!
//! The native containerizer's fault points hold its work for a second (`BERTH_FAULT=<point>=delay`, in a build with
//! `--features faults`), or for as much longer as the machine is slower.

use crate::ground_of;
use berth_client::Error;
use berth_test_agent::{Ground, PATIENCE, shell, slow, until};
use std::time::{Duration, Instant};

/// The aim is 50 ms. A shared machine may need more; a wait for what is stuck would take the rest of a second.
fn at_once() -> Duration {
    Duration::from_millis(500) * slow()
}

/// For how long it is stuck.
fn held_for() -> Duration {
    Duration::from_secs(1) * slow()
}

/// What a destroy may take: what is stuck, and then a moment.
fn destroyed() -> Duration {
    held_for() * 5
}

/// Fault points of a launch, in their order, and in which states a container is when it is stuck there.
const LAUNCH: [(&str, &[&str]); 10] = [
    ("spawn", &["STARTING", "PROVISIONING"]),
    ("lock", &["STARTING", "PROVISIONING"]),
    ("record", &["STARTING", "PROVISIONING"]),
    ("dirs", &["PROVISIONING", "PREPARING"]),
    ("begin", &["PREPARING"]),
    ("isolate", &["PREPARING", "ISOLATING"]),
    ("send", &["PREPARING", "ISOLATING"]),
    ("forked", &["PREPARING", "ISOLATING"]),
    ("pid", &["PREPARING", "ISOLATING"]),
    ("go", &["ISOLATING", "FETCHING"]),
];

/// An agent whose work is held at a point.
fn held(test: &str, point: &str) -> Option<Ground> {
    let mut ground = ground_of(test)?;
    ground.stop();
    let mut command = ground.agent();
    ground.start_as(command.env("BERTH_FAULT", format!("{point}=delay:{}", held_for().as_secs())));
    Some(ground)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}

/// Asks several times while it is stuck; in which state it was, and the longest time an answer took.
fn asked(ground: &Ground, point: &str, name: &str) -> (String, Duration) {
    let (mut longest, mut state) = (Duration::ZERO, String::new());
    for _ in 0..5 {
        let (listed, list) = timed(|| ground.api().living());
        let (inspection, inspect) = timed(|| ground.api().inspect(name).unwrap());
        longest = longest.max(list).max(inspect);
        assert!(listed.unwrap().iter().any(|id| id == name), "{point}: it is not listed");
        let now = inspection.state.unwrap();
        assert!(now.waiting_for.as_ref().is_some_and(|what| !what.is_empty()), "{point}: {now:?}");
        assert!(now.age.is_some(), "{point}: {now:?}");
        state = now.name;
    }
    assert!(longest < at_once(), "{point}: an answer took {longest:?}");
    (state, longest)
}

/// The same as a user asks.
fn typed(ground: &Ground, point: &str, name: &str) -> Duration {
    let (listed, ps) = timed(|| ground.berth(["ps", "-a", "--no-trunc"]));
    assert!(listed.good().contains(name), "{point}: {listed:?}");
    let (shown, inspect) = timed(|| ground.berth(["inspect", name]));
    assert!(shown.good().contains("waiting_for"), "{point}: {shown:?}");
    let longest = ps.max(inspect);
    assert!(longest < at_once(), "{point}: a command took {longest:?}");
    longest
}

#[test]
fn a_launch_that_is_stuck_anywhere_is_told_at_once_and_ended_soon() {
    let test = "a_launch_that_is_stuck_anywhere_is_told_at_once_and_ended_soon";
    std::thread::scope(|scope| {
        let stuck = |point: &'static str, states: &'static [&'static str]| {
            let Some(mut ground) = held(test, point) else { return };
            let name = ground.name(point);
            let (answer, took) = std::thread::scope(|scope| {
                let launch = scope.spawn(|| timed(|| ground.api().launch(&name, &shell("exec sleep 1000"))));
                until("it is being launched", || ground.api().inspect(&name).is_ok());
                // It goes through the states before the one in which it is stuck.
                std::thread::sleep(Duration::from_millis(100));
                let (state, longest) = asked(&ground, point, &name);
                let typed = typed(&ground, point, &name);
                println!("stuck at {point}: {state}, answers within {longest:?}, commands {typed:?}");
                assert!(states.contains(&state.as_str()), "{point}: {state}");
                let (_, killed) = timed(|| ground.api().kill(&name, 9).unwrap());
                assert!(killed < at_once(), "{point}: a kill took {killed:?}");
                let (_, ended) = timed(|| ground.api().wait(&name));
                assert!(ended < destroyed(), "{point}: the end took {ended:?}");
                launch.join().unwrap()
            });
            assert!(took > held_for() * 9 / 10, "{point} was not reached (--features faults?): {took:?}");
            assert!(took < PATIENCE, "{point}: {took:?}");
            match answer {
                Err(Error::Refused { text, .. }) => assert!(text.contains("estroyed"), "{point}: {text}"),
                other => panic!("{point}: a launch that was ended is answered by {other:?}"),
            }
            until("it is gone", || ground.api().all().unwrap().is_empty());
            ground.leave().unwrap_or_else(|left| panic!("{point}: {left}"));
        };
        for (point, states) in LAUNCH {
            scope.spawn(move || stuck(point, states));
        }
    });
}

#[test]
fn an_end_that_is_stuck_is_told_at_once_and_its_status_is_right() {
    let test = "an_end_that_is_stuck_is_told_at_once_and_its_status_is_right";
    std::thread::scope(|scope| {
        for point in ["exited", "cleanup"] {
            scope.spawn(move || {
                let Some(mut ground) = held(test, point) else { return };
                let (api, name) = (ground.api(), ground.name(point));
                api.launch(&name, &shell("exec sleep 1000")).unwrap();
                api.kill(&name, 9).unwrap();
                until("it ends", || api.state(&name).unwrap() == "DESTROYING");
                let (state, longest) = asked(&ground, point, &name);
                let typed = typed(&ground, point, &name);
                println!("stuck at {point}: {state}, answers within {longest:?}, commands {typed:?}");
                assert_eq!(state, "DESTROYING", "{point} was not reached (--features faults?)");
                // Its process is gone, so that there is nothing to be killed any more; its end is to be waited for.
                assert!(api.kill(&name, 9).map_or_else(|error| error.is_unknown(), |()| true), "{point}");
                let (code, took) = timed(|| api.code(&name).unwrap());
                assert_eq!(code, Some(137), "{point}");
                assert!(took < destroyed(), "{point}: {took:?}");
                ground.leave().unwrap_or_else(|left| panic!("{point}: {left}"));
            });
        }
    });
}

#[test]
fn one_launch_that_is_stuck_holds_up_no_other_container() {
    let test = "one_launch_that_is_stuck_holds_up_no_other_container";
    let Some(mut ground) = held(test, "isolate") else { return };
    let api = ground.api();
    let names: Vec<String> = (0..8).map(|n| ground.name(n)).collect();
    let ((), took) = timed(|| {
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| api.launch(name, &shell("exec sleep 1000")).unwrap());
            }
        });
    });
    // Eight of a second each, side by side.
    assert!(took > held_for() * 9 / 10, "it was not reached (--features faults?): {took:?}");
    assert!(took < held_for() * 4, "{took:?}");
    ground.leave().unwrap();
}
