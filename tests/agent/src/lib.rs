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
mod ground;
mod groups;
mod process;

pub use api::{Api, Session, Wanted, shell};
pub use berth_testing::{Exit, PATIENCE, Terminal, skip, soon, until};
pub use ground::Ground;
pub use groups::{Groups, Watch};
pub use process::{Numbers, Process};

use berth_testing::Build;
use std::path::Path;

/// The program to be tested.
///
/// # Errors
/// It can not be built, in words.
pub fn berth() -> Result<&'static Path, String> {
    berth_testing::berth(Build::Faults)
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

/// How many times slower than usual this machine is, which an emulated one says by `BERTH_TEST_SLOW`.
pub fn slow() -> u32 {
    std::env::var("BERTH_TEST_SLOW").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}
