// SPDX-License-Identifier: Apache-2.0
//! Flags from where they are written to what the agent runs with.

#![expect(clippy::unwrap_used, reason = "in tests, helpers included")]

mod names;
mod precedence;
mod refusals;
mod table;

use std::path::Path;

use berth_config::{Problem, Resolved, Sources, examine};

/// Flags on a command line and variables of an environment, in a directory without a configuration.
pub(crate) fn sources(arguments: &[&str], environment: &[(&str, &str)], config_dir: &Path) -> Sources {
    let config_dir = format!("--config_dir={}", config_dir.display());
    let arguments = arguments.iter().copied().chain([config_dir.as_str()]).map(Into::into).collect();
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Sources { arguments, environment, working_directory: "/cwd".into() }
}

/// What becomes of a command line and an environment, without configuration files.
pub(crate) fn given(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<Resolved>, Vec<Problem>) {
    let empty = tempfile::tempdir().unwrap();
    examine(&sources(arguments, environment, empty.path()))
}

/// The configuration of a command line that is right.
pub(crate) fn good(arguments: &[&str]) -> Resolved {
    let (resolved, problems) = given(arguments, &[]);
    assert_eq!(problems, []);
    resolved.unwrap()
}

/// The words with which a command line is refused.
pub(crate) fn refused(arguments: &[&str]) -> Vec<String> {
    let (_, problems) = given(arguments, &[]);
    assert!(!problems.is_empty(), "{arguments:?} was accepted");
    problems.iter().map(Problem::to_string).collect()
}
