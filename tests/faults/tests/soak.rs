// SPDX-License-Identifier: Apache-2.0
//! Many launches, one after the other and sixteen at a time: the statuses are right, and nothing adds up.
//!
//! `BERTH_SWEEP=long` for 1,000 of each.

use berth_test_faults::{Ground, long, skip};

const AT_A_TIME: usize = 16;
/// Those that end a process which does not heed them, and have the same number everywhere.
const SIGNALS: [i32; 6] = [1, 2, 6, 9, 13, 15];

/// The `n`-th launch: every fourth ends by a signal, below a small init, since a first process gets none from
/// within; the others exit with 0 to 125.
fn launch(ground: &Ground, n: usize) -> Result<(), String> {
    let name = ground.name(n);
    let mut options = vec!["--rm", "--name", &name];
    let (script, expected) = if n % 4 == 3 {
        let signal = SIGNALS[n / 4 % SIGNALS.len()];
        options.push("--init");
        (format!("echo {n}; kill -{signal} $$"), 128 + signal)
    } else {
        let code = (n * 37 % 126) as i32;
        (format!("echo {n}; exit {code}"), code)
    };
    let exit = ground.run(&options, &["sh", "-c", &script]);
    let right = exit.code == Some(expected) && exit.stdout == format!("{n}\n") && exit.stderr.is_empty();
    if right { Ok(()) } else { Err(format!("launch {n}, {script:?}: {exit:?}")) }
}

#[test]
fn launches_in_a_row_tell_their_statuses_and_leave_nothing() {
    let ground = match Ground::new("soak-row") {
        Ok(ground) => ground,
        Err(lacked) => return skip("launches_in_a_row_tell_their_statuses_and_leave_nothing", &lacked),
    };
    for n in 0..if long() { 1000 } else { 60 } {
        launch(&ground, n).unwrap();
    }
    ground.same().unwrap();
}

#[test]
fn launches_beside_each_other_tell_their_statuses_and_leave_nothing() {
    let ground = match Ground::new("soak-wide") {
        Ok(ground) => ground,
        Err(lacked) => {
            return skip("launches_beside_each_other_tell_their_statuses_and_leave_nothing", &lacked);
        }
    };
    let each = if long() { 1000 / AT_A_TIME } else { 4 };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let ground = &ground;
        let some = move |t: usize| -> Vec<String> {
            (0..each).filter_map(|i| launch(ground, t * each + i).err()).collect()
        };
        let threads: Vec<_> = (0..AT_A_TIME).map(|t| scope.spawn(move || some(t))).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), AT_A_TIME * each, wrong.join("\n"));
    ground.same().unwrap();
}
