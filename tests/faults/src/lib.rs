// SPDX-License-Identifier: Apache-2.0
//! Fault sweeps and the leak ledger.
//!
//! What the tests stand on: the `berth` to be tested ([`berth`]), a place of its own for each test ([`Ground`]) and
//! what is seen there after something was killed ([`State`]). `berth-sweep`, beside, is the tracer that kills.

mod ground;
mod state;

pub use berth_testing::{Exit, PATIENCE, skip, soon};
pub use ground::Ground;
pub use state::State;

use berth_testing::Build;
use std::path::Path;

/// The program to be tested.
///
/// # Errors
/// It can not be built, in words.
pub fn berth() -> Result<&'static Path, String> {
    berth_testing::berth(Build::Faults)
}

/// Whether the long form of a test is wanted: `BERTH_SWEEP=long`.
pub fn long() -> bool {
    std::env::var_os("BERTH_SWEEP").is_some_and(|v| v == "long")
}
