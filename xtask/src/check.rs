// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask check`: everything that can be said about the code without running it. All steps run, even
//! after one has failed, so that one run shows everything.

use std::process::{Command, Stdio};

use crate::Verdict;
use crate::error::Error;
use crate::workspace::{Workspace, cargo, has_cargo_command};
use crate::{layers, sources};

/// The supervisor has no standard library and a profile of its own, so it is always built apart from the
/// rest: with it in one build, cargo would give it the features that others ask for.
pub(crate) const INIT: &str = "berth-init";

type Step = fn(&Workspace) -> Result<Finding, Error>;

const STEPS: &[(&str, Step)] = &[
    ("fmt", fmt),
    ("layers", layers),
    ("spdx", spdx),
    ("unsafe", stray_unsafe),
    ("length", length),
    ("clippy", clippy),
    ("docs", docs),
    ("deny", deny),
];

/// What a step found.
enum Finding {
    Clean,
    /// Worth reading; stops nobody.
    Warnings(Vec<String>),
    /// The lines to print, if the tool has not printed them itself.
    Wrong(Vec<String>),
    Skipped(&'static str),
}

/// Runs the steps named, or all.
pub(crate) fn run(workspace: &Workspace, names: &[String]) -> Result<Verdict, Error> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|(step, _)| step != name)) {
        let known: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        return Err(Error::Usage(format!("check has no step {unknown:?}, only {}", known.join(", "))));
    }
    let mut failed = Vec::new();
    for (name, step) in STEPS.iter().filter(|(step, _)| names.is_empty() || names.iter().any(|n| n == step)) {
        let (word, lines) = match step(workspace)? {
            Finding::Clean => ("ok".to_owned(), Vec::new()),
            Finding::Warnings(lines) => ("warnings".to_owned(), lines),
            Finding::Skipped(reason) => (format!("skipped: {reason}"), Vec::new()),
            Finding::Wrong(lines) => {
                failed.push(*name);
                ("FAILED".to_owned(), lines)
            }
        };
        lines.iter().for_each(|line| println!("  {line}"));
        println!("check {name}: {word}");
    }
    if !failed.is_empty() {
        println!("check failed: {}", failed.join(", "));
    }
    Ok(Verdict::of(failed.is_empty()))
}

fn fmt(_: &Workspace) -> Result<Finding, Error> {
    if !has_cargo_command("fmt") {
        return Ok(Finding::Skipped("rustfmt is not installed (rustup component add rustfmt)"));
    }
    tool(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(_: &Workspace) -> Result<Finding, Error> {
    if !has_cargo_command("clippy") {
        return Ok(Finding::Skipped("clippy is not installed (rustup component add clippy)"));
    }
    // Every ignored test says why: the lanes print it.
    let lints = ["--", "-D", "warnings", "-D", "clippy::ignore_without_reason"];
    let most = tool(cargo().args(["clippy", "--workspace", "--exclude", INIT, "--all-targets"]).args(lints))?;
    let init = tool(cargo().args(["clippy", "-p", INIT, "--bins", "--profile", "init"]).args(lints))?;
    Ok(worse(most, init))
}

fn docs(_: &Workspace) -> Result<Finding, Error> {
    let strict = |command: &mut Command| {
        command.env("RUSTDOCFLAGS", "-D warnings");
        tool(command)
    };
    let most = strict(cargo().args(["doc", "--workspace", "--exclude", INIT, "--no-deps"]))?;
    let init = strict(cargo().args(["doc", "-p", INIT, "--no-deps", "--profile", "init"]))?;
    Ok(worse(most, init))
}

fn deny(_: &Workspace) -> Result<Finding, Error> {
    if !has_cargo_command("deny") {
        return Ok(Finding::Skipped("cargo-deny is not installed (cargo install cargo-deny --locked)"));
    }
    tool(cargo().args(["deny", "--workspace", "check", "licenses", "bans", "sources"]))
}

fn layers(workspace: &Workspace) -> Result<Finding, Error> {
    Ok(wrong_if_any(layers::violations(&workspace.members).iter().map(ToString::to_string).collect()))
}

fn spdx(workspace: &Workspace) -> Result<Finding, Error> {
    sources::without_licence(workspace).map(wrong_if_any)
}

fn stray_unsafe(workspace: &Workspace) -> Result<Finding, Error> {
    sources::stray_unsafe(workspace).map(wrong_if_any)
}

fn length(workspace: &Workspace) -> Result<Finding, Error> {
    let long = sources::long_files(workspace)?;
    Ok(if long.is_empty() { Finding::Clean } else { Finding::Warnings(long) })
}

fn wrong_if_any(lines: Vec<String>) -> Finding {
    if lines.is_empty() { Finding::Clean } else { Finding::Wrong(lines) }
}

fn worse(one: Finding, other: Finding) -> Finding {
    if matches!(one, Finding::Wrong(_)) { one } else { other }
}

/// Runs a tool that prints what it finds and says by its status whether it found anything.
fn tool(command: &mut Command) -> Result<Finding, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().map_err(|source| Error::Start { program, source })?;
    Ok(if status.success() { Finding::Clean } else { Finding::Wrong(Vec::new()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Workspace {
        Workspace { root: "/nonexistent".into(), members: Vec::new() }
    }

    #[test]
    fn an_unknown_step_is_refused_and_the_known_ones_are_named() {
        let error = run(&nowhere(), &["speling".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("speling") && error.contains("clippy"), "{error}");
    }

    #[test]
    fn a_refused_edge_makes_the_check_fail() {
        let stray = crate::workspace::Member {
            name: "stray".into(),
            folder: "crates/stray".into(),
            dependencies: Vec::new(),
            tests: Vec::new(),
        };
        let workspace = Workspace { members: vec![stray], ..nowhere() };
        assert_eq!(run(&workspace, &["layers".to_owned()]).unwrap(), Verdict::Bad);
        assert_eq!(run(&nowhere(), &["layers".to_owned()]).unwrap(), Verdict::Good);
    }

    #[test]
    fn a_tool_that_ends_with_another_status_than_0_has_found_something() {
        assert!(matches!(tool(&mut Command::new("true")).unwrap(), Finding::Clean));
        assert!(matches!(tool(&mut Command::new("false")).unwrap(), Finding::Wrong(_)));
        assert!(matches!(tool(&mut Command::new("/nonexistent/tool")), Err(Error::Start { .. })));
    }
}
