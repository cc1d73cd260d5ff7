// SPDX-License-Identifier: Apache-2.0
//! Tests of what the kernel does for a container of `berth run`, on this host.
//!
//! What they stand on: the `berth` to be tested ([`berth`]), a place and a root file system of its own for each test
//! ([`Ground`]), what a command did ([`Exit`]), and a terminal to run it on ([`Terminal`]). `berth-probe`, beside, is
//! what runs inside where a shell can not ask the question.

mod binary;
mod exit;
mod ground;
mod terminal;

pub use binary::berth;
pub use exit::{Exit, Running};
pub use ground::{Ground, PATIENCE, soon, wait_for};
pub use terminal::Terminal;

use std::io::Write;
use std::time::Duration;

/// Says that a test lacks something, for people and for the lane (docs/checklists/adding-a-test.md).
///
/// # Panics
/// When the list of skipped tests can not be written.
pub fn skip(test: &str, lacked: &str) {
    eprintln!("skipped: {test}: {lacked}");
    let Some(list) = std::env::var_os("BERTH_SKIPS") else { return };
    let list = std::fs::OpenOptions::new().append(true).create(true).open(list);
    // One write: tests append side by side.
    let written = list.and_then(|mut list| list.write_all(format!("{test}: {lacked}\n").as_bytes()));
    assert!(written.is_ok(), "the list of skipped tests can not be written: {written:?}");
}

/// How long a test of a race goes on: some seconds, or as many as `BERTH_RACE_SECONDS` says.
pub fn race_time() -> Duration {
    let asked = std::env::var("BERTH_RACE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(4))
}

/// The name of the function that it stands in, as the test's output has it.
#[macro_export]
macro_rules! this_test {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here).trim_end_matches("::here");
        name.split_once("::").map_or(name, |(_, rest)| rest)
    }};
}

/// The ground of the test it stands in; ends the test where this machine lacks something.
#[macro_export]
macro_rules! ground {
    () => {
        match $crate::Ground::new($crate::this_test!()) {
            Ok(ground) => ground,
            Err(lacked) => return $crate::skip($crate::this_test!(), &lacked),
        }
    };
}
