// SPDX-License-Identifier: Apache-2.0
//! Tests of images from a name to a container that runs, with Debian's registry and other people's tools.
//!
//! What they stand on: the `berth` to be tested ([`berth`]), a place of its own for each test ([`Ground`]), a registry
//! on loopback ([`Registry`]), and images of their own making ([`Layout`]).

mod binary;
mod ground;
mod layout;
mod registry;
mod tree;

pub use binary::berth;
pub use ground::{Done, Ground};
pub use layout::{Entry, Layer, Layout, debian};
pub use registry::Registry;
pub use tree::{Tree, difference, tree};

use std::io::Write;
use std::process::Command;

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

/// The first of these programs that is not here.
pub fn lacks(programs: &[&str]) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &&&str| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    programs.iter().find(has).map(|program| format!("the program {program}"))
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

/// The name of the function that it stands in, as the test's output has it.
#[macro_export]
macro_rules! this_test {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here).trim_end_matches("::here");
        name.split_once("::").map_or(name, |(_, rest)| rest)
    }};
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
