// SPDX-License-Identifier: Apache-2.0
//! What containers write, under each logger: kept whole, rotated, found by time, told when it is lost.
//!
//! `BERTH_AGENT=long` floods with 1 GiB, `BERTH_LOG_LINES` says otherwise.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod flood;
mod full;
mod reading;
mod remote;

use berth_test_agent::{Ground, skip};

/// A ground with an agent; none, and that is told, where there can be none.
fn ground_of(test: &str) -> Option<Ground> {
    let name: String = test.split('_').filter_map(|word| word.chars().next()).take(8).collect();
    match Ground::with_agent(&format!("logs-{name}")) {
        Ok(ground) => Some(ground),
        Err(lacked) => {
            skip(test, &lacked);
            None
        }
    }
}

/// The name of the test that calls, as its function has it, made into a ground.
macro_rules! ground {
    ($test:ident) => {
        match $crate::ground_of(stringify!($test)) {
            Some(ground) => ground,
            None => return,
        }
    };
}
pub(crate) use ground;

/// `berth run --detach` by the agent, with a script; its name.
#[track_caller]
fn run(ground: &Ground, last: &str, options: &[&str], script: &str) -> String {
    let (name, socket) = (ground.name(last), ground.socket().display().to_string());
    let mut words = vec!["run", "--detach", "--socket", &socket, "--name", &name];
    words.extend(options);
    words.extend(["--", "sh", "-c", script]);
    ground.berth(&words).good();
    name
}

/// What `berth logs` shows on stdout.
#[track_caller]
fn logs(ground: &Ground, options: &[&str], name: &str) -> String {
    let words = ["logs"].iter().chain(options).chain([&name]);
    let exit = ground.berth(words);
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    exit.stdout
}

/// The files of a stream in the containerizer's directory, the oldest first, as text.
fn files(ground: &Ground, name: &str) -> Vec<String> {
    let dir = ground.work_dir().join("containers").join(name);
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
    let old = (1..).map_while(|number| read(&format!("stdout.{number}")));
    let mut all: Vec<String> = read("stdout").into_iter().chain(old).collect();
    all.reverse();
    all
}

/// The lines that `seq` prints.
fn seq(from: usize, to: usize) -> String {
    (from..=to).map(|number| format!("{number}\n")).collect()
}

/// As [`Ground::leave`].
#[track_caller]
fn leave(mut ground: Ground) {
    ground.leave().unwrap_or_else(|left| panic!("{left}"));
}
