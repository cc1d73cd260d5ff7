// SPDX-License-Identifier: Apache-2.0
//! Building what the lanes run: the test programs, the programs that these start, and `berth`.
//!
//! There is one selection of crates for all: what dependencies offer depends on it, and another selection would build half
//! of everything again. The `berth` in it has fault points.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::check::INIT;
use crate::error::Error;
use crate::workspace::{Workspace, cargo};

/// What cargo is told in each case. [`INIT`] has no standard library and no tests.
pub(crate) const SELECTION: &[&str] = &["--workspace", "--exclude", INIT, "--features", "berth/faults"];

/// Tests of `berth` itself: with them cargo builds the program.
const OWN: (&str, &str) = ("bins/berth", "agent");

/// What was built.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    /// Programs with tests, by crate.
    pub(crate) tests: Vec<TestProgram>,
    /// All others: `berth`, and what tests start under the path that they were built with.
    pub(crate) others: Vec<PathBuf>,
}

/// One test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestProgram {
    /// Its crate's folder within the workspace, and the name of its target there: `tests/kernel kernel`.
    pub(crate) folder: String,
    pub(crate) target: String,
    /// The tests within a library or a program, and not a program of their own.
    pub(crate) within: bool,
    pub(crate) path: PathBuf,
}

/// One line of `--message-format=json`, as far as it is of interest.
#[derive(Deserialize)]
struct Message {
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    #[serde(default)]
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

impl Programs {
    /// Builds all.
    pub(crate) fn all(workspace: &Workspace) -> Result<Programs, Error> {
        Programs::build(workspace, Vec::new())
    }

    /// Builds `berth` and these test programs, by the folder of their crate and their target.
    pub(crate) fn some(workspace: &Workspace, wanted: &[(&str, &str)]) -> Result<Programs, Error> {
        let mut programs = Programs::build(workspace, arguments(workspace, wanted))?;
        programs.tests.retain(|test| wanted.contains(&(test.folder.as_str(), test.target.as_str())));
        Ok(programs)
    }

    fn build(workspace: &Workspace, arguments: Vec<String>) -> Result<Programs, Error> {
        let mut command = cargo();
        command.args(["test", "--no-run"]).args(SELECTION).args(arguments);
        Programs::of(workspace, command, "the tests")
    }

    /// What cargo builds by this command.
    fn of(workspace: &Workspace, mut command: Command, what: &'static str) -> Result<Programs, Error> {
        command.args(["--message-format=json-render-diagnostics", "--color", "never"]);
        command.current_dir(&workspace.root).stdin(Stdio::null()).stderr(Stdio::inherit());
        let done = command.output().map_err(|source| Error::Start { program: "cargo".to_owned(), source })?;
        if !done.status.success() {
            return Err(Error::Build { what });
        }
        let mut programs = Programs::default();
        programs.hear(&workspace.root, &String::from_utf8_lossy(&done.stdout));
        Ok(programs)
    }

    fn hear(&mut self, root: &Path, messages: &str) {
        for line in messages.lines() {
            let Ok(message) = serde_json::from_str::<Message>(line) else { continue };
            let (Some(manifest), Some(target), Some(profile), Some(path)) =
                (message.manifest_path, message.target, message.profile, message.executable)
            else {
                continue;
            };
            if profile.test {
                let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root).ok());
                let folder = folder.unwrap_or(&manifest).to_string_lossy().into_owned();
                let within = !target.kind.iter().any(|kind| kind == "test");
                self.tests.push(TestProgram { folder, target: target.name, within, path });
            } else if !self.others.contains(&path) {
                self.others.push(path);
            }
        }
        self.tests.sort_by(|a, b| (&a.folder, !a.within, &a.target).cmp(&(&b.folder, !b.within, &b.target)));
    }

    /// The `berth` to be tested.
    pub(crate) fn berth(&self) -> Result<&Path, Error> {
        let found = self.others.iter().find(|path| path.file_name().is_some_and(|name| name == "berth"));
        found.map(PathBuf::as_path).ok_or(Error::Build { what: "berth" })
    }
}

/// `berth` as it ships, where the README's reader has it built.
pub(crate) fn shipped(workspace: &Workspace) -> Result<PathBuf, Error> {
    let mut command = cargo();
    command.args(["build", "--release", "-p", "berth"]).env_remove("CARGO_TARGET_DIR");
    Programs::of(workspace, command, "berth")?.berth().map(Path::to_path_buf)
}

/// What cargo is to build beside the selection, so that these are among it.
fn arguments(workspace: &Workspace, wanted: &[(&str, &str)]) -> Vec<String> {
    let mut words = Vec::new();
    for (folder, target) in wanted.iter().chain([&OWN]) {
        let member = workspace.members.iter().find(|member| member.folder == *folder);
        // The tests within a crate are a target with its name.
        let within = member.is_some_and(|member| member.name.replace('-', "_") == *target);
        let more: &[&str] = if within { &["--lib"] } else { &["--test", target] };
        if !words.windows(more.len()).any(|there| there == more) {
            words.extend(more.iter().map(|word| (*word).to_owned()));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Member;

    #[test]
    fn some_programs_are_built_by_the_selection_of_all_and_once_each() {
        let member = |name: &str, folder: &str| Member {
            name: name.to_owned(),
            folder: folder.to_owned(),
            dependencies: Vec::new(),
            tests: Vec::new(),
        };
        let members = vec![member("a-b", "crates/x/a"), member("k", "tests/kernel"), member("t", "tests/t")];
        let workspace = Workspace { root: "/".into(), members };
        let wanted =
            [("crates/x/a", "a_b"), ("crates/x/a", "host"), ("tests/kernel", "kernel"), ("tests/t", "host")];
        let built = arguments(&workspace, &wanted).join(" ");
        assert_eq!(built, "--lib --test host --test kernel --test agent");
    }

    #[test]
    fn programs_with_tests_are_told_from_those_that_they_start() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/kernel/Cargo.toml","target":{"kind":["test"],"name":"kernel"},"profile":{"test":true},"executable":"/t/deps/kernel-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/bins/berth/Cargo.toml","target":{"name":"berth"},"profile":{"test":false},"executable":"/t/berth"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"profile":{"test":false},"executable":null}"#,
            "\nno json\n",
        );
        let mut programs = Programs::default();
        programs.hear(Path::new("/w"), messages);
        assert_eq!(programs.berth().unwrap(), Path::new("/t/berth"));
        let test = TestProgram {
            folder: "tests/kernel".into(),
            target: "kernel".into(),
            within: false,
            path: "/t/deps/kernel-1".into(),
        };
        assert_eq!((programs.tests, programs.others.len()), (vec![test], 1));
    }
}
