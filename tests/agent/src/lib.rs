// SPDX-License-Identifier: Apache-2.0
//! `berth agent` as a process, end to end.
//!
//! What the tests stand on: the `berth` to be tested ([`berth`]), an agent in a place of its own for each test
//! ([`Ground`]), its API ([`Api`]) and its command line ([`Exit`], [`Terminal`]). `berth-agent-sweep`, beside, is the
//! tracer that kills an agent at one of its system calls.
//!
//! Each test has a short form for every day and a long one, with `BERTH_AGENT=long`; numbers can be given by
//! variables ([`number`]).

mod api;
mod binary;
mod exit;
mod ground;
mod groups;
mod process;
mod terminal;

pub use api::{Api, Session, Wanted, shell};
pub use binary::berth;
pub use exit::Exit;
pub use ground::{Ground, PATIENCE, soon, until};
pub use groups::{Groups, Watch};
pub use process::{Numbers, Process};
pub use terminal::Terminal;

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

/// Whether the long form of a test is wanted: `BERTH_AGENT=long`.
pub fn long() -> bool {
    std::env::var_os("BERTH_AGENT").is_some_and(|v| v == "long")
}

/// How many: what the variable says, or else the number of the short or the long form.
pub fn number(variable: &str, short: usize, long: usize) -> usize {
    let given = std::env::var(variable).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(if self::long() { long } else { short })
}
