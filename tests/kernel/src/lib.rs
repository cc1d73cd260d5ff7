// SPDX-License-Identifier: Apache-2.0
//! Tests of what the kernel does for a container of `berth run`, on this host.
//!
//! What they stand on: the `berth` to be tested ([`berth`]), a place and a root file system of its own for each test
//! ([`Ground`]), what a command did ([`Exit`]), and a terminal to run it on ([`Terminal`]). `berth-probe`, beside, is
//! what runs inside where a shell can not ask the question.

mod ground;

pub use berth_testing::{Exit, PATIENCE, Running, Terminal, skip, soon, this_test, until};
pub use ground::Ground;

use berth_testing::Build;
use std::path::Path;
use std::time::Duration;

/// The program to be tested.
///
/// # Errors
/// It can not be built, in words.
pub fn berth() -> Result<&'static Path, String> {
    berth_testing::berth(Build::Plain)
}

/// How long a test of a race goes on: some seconds, or as many as `BERTH_RACE_SECONDS` says.
pub fn race_time() -> Duration {
    let asked = std::env::var("BERTH_RACE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(4))
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
