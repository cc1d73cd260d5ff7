// SPDX-License-Identifier: Apache-2.0
//! Tests of images from a name to a container that runs, with Debian's registry and other people's tools.
//!
//! What they stand on: the `berth` to be tested ([`berth`]), a place of its own for each test ([`Ground`]), a registry
//! on loopback ([`Registry`]), and images of their own making ([`Layout`]).

pub mod appc;
mod ground;
mod layout;
mod registry;
mod tree;

pub use berth_testing::{lacks, skip, this_test};
pub use ground::{Done, Ground};
pub use layout::{Entry, Layer, Layout, debian};
pub use registry::Registry;
pub use tree::{Tree, difference, tree};

use berth_testing::Build;
use std::path::Path;
use std::process::Command;

/// The program to be tested.
///
/// # Errors
/// It can not be built, in words.
pub fn berth() -> Result<&'static Path, String> {
    berth_testing::berth(Build::Plain)
}

/// Runs somebody else's program, which has to succeed.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("start {program}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {out}{err}");
    out.into_owned()
}

/// The ground of the test it stands in; ends the test where this machine lacks something, among it the programs named.
#[macro_export]
macro_rules! ground {
    ($($program:literal),*) => {{
        let test = $crate::this_test!();
        match $crate::lacks(&[$($program),*]).map_or_else(|| $crate::Ground::new(test), Err) {
            Ok(ground) => ground,
            Err(lacked) => return $crate::skip(test, &lacked),
        }
    }};
}
