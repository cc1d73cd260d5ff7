// SPDX-License-Identifier: Apache-2.0
//! Fault sweeps and the leak ledger.
//!
//! What the tests stand on: the `berth` to be tested ([`berth`]), a place of its own for each test ([`Ground`]) and
//! what is seen there after something was killed ([`State`]). `berth-sweep`, beside, is the tracer that kills.

mod binary;
mod ground;
mod state;

pub use binary::berth;
pub use ground::{Ground, PATIENCE, soon};
pub use state::{Exit, State};

use std::io::Write;

/// Says that a test lacks something, for people and for the lane (docs/checklists/adding-a-test.md).
pub fn skip(test: &str, lacked: &str) {
    eprintln!("skipped: {test}: {lacked}");
    let Some(list) = std::env::var_os("BERTH_SKIPS") else { return };
    let list = std::fs::OpenOptions::new().append(true).create(true).open(list);
    // One write: tests append side by side.
    let written = list.and_then(|mut list| list.write_all(format!("{test}: {lacked}\n").as_bytes()));
    assert!(written.is_ok(), "the list of skipped tests can not be written: {written:?}");
}

/// Whether the long form of a test is wanted: `BERTH_SWEEP=long`.
pub fn long() -> bool {
    std::env::var_os("BERTH_SWEEP").is_some_and(|v| v == "long")
}
