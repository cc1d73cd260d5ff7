// SPDX-License-Identifier: Apache-2.0
//! Many launches, sixteen at a time: the statuses are right, and the agent holds nothing more afterwards.
//!
//! `BERTH_AGENT_LAUNCHES` says how many (200; 5,000 in the long form).

use crate::ground;
use berth_test_agent::{Ground, Numbers, long, number, shell};
use std::sync::atomic::{AtomicUsize, Ordering};

const AT_A_TIME: usize = 16;
/// After so many, what an agent keeps for later is there.
const WARM: usize = 100;
/// How often its memory is looked at.
const STEP: usize = 500;

/// One life. Every eighth is killed, the others end with 0 to 125.
fn life(ground: &Ground, n: usize) -> Result<(), String> {
    let (api, name) = (ground.api(), ground.name(n));
    let failed = |what: &str, error: berth_client::Error| format!("{what} {n}: {error}");
    let (script, expected) = match n % 8 {
        7 => ("exec sleep 1000".to_owned(), 137),
        _ => (format!("exit {}", n * 37 % 126), n * 37 % 126),
    };
    api.launch(&name, &shell(script)).map_err(|e| failed("launch", e))?;
    if n % 8 == 7 {
        api.kill(&name, 9).map_err(|e| failed("kill", e))?;
    }
    let code = api.code(&name).map_err(|e| failed("wait for", e))?;
    api.remove(&name).map_err(|e| failed("remove", e))?;
    let right = code == i32::try_from(expected).ok();
    if right { Ok(()) } else { Err(format!("{n} ended with {code:?}, not {expected}")) }
}

/// Lives `from` to `to`; what went wrong.
fn lives(ground: &Ground, from: usize, to: usize) -> Vec<String> {
    let next = AtomicUsize::new(from);
    let some = || {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|n| *n < to);
        numbers.filter_map(|n| life(ground, n).err()).collect::<Vec<String>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn sixteen_launches_in_flight_tell_their_statuses_and_the_agent_holds_nothing_more() {
    let mut ground = ground!(sixteen_launches_in_flight_tell_their_statuses_and_the_agent_holds_nothing_more);
    let all = number("BERTH_AGENT_LAUNCHES", 200, 5000).max(WARM);
    let none: [&str; 0] = [];
    assert_eq!(lives(&ground, 0, WARM), none);
    let before = ground.process().idle();
    let begun = std::time::Instant::now();
    for from in (WARM..all).step_by(STEP) {
        assert_eq!(lives(&ground, from, all.min(from + STEP)), none);
        println!("after {} launches: {:?}", all.min(from + STEP), ground.process().numbers());
    }
    let took = begun.elapsed();
    let after = ground.process().idle();
    println!("{} launches in {took:?}; before {before:?}, after {after:?}", all - WARM);
    let held = |numbers: Numbers| (numbers.descriptors, numbers.threads);
    assert_eq!(held(after), held(before), "{:#?}", ground.process().descriptors());
    // Of few launches an allocator's whims are the larger part.
    if long() {
        assert!(after.kib <= before.kib + 1024, "{before:?} became {after:?}");
    }
    ground.leave().unwrap();
}
