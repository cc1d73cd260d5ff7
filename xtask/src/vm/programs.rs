// SPDX-License-Identifier: Apache-2.0
//! Building what runs in the VM: `berth`, the test programs, and the programs that these start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::Error;
use crate::workspace::{Workspace, cargo};

/// What was built.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// Programs with tests.
    pub(super) tests: Vec<TestProgram>,
    /// All others: `berth`, and what tests start under the path that they were built with.
    pub(super) others: Vec<PathBuf>,
}

/// One test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TestProgram {
    /// Its crate's folder within the workspace, and the name of its target there: `tests/kernel kernel`.
    pub(super) folder: String,
    pub(super) target: String,
    pub(super) path: PathBuf,
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
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

impl Programs {
    /// Builds `berth` and the test programs of these crates (by folder). It is the `berth` of the lane `faults`, with
    /// fault points, in the folder where that lane has it already.
    pub(super) fn build(workspace: &Workspace, target: &Path, folders: &[&str]) -> Result<Programs, Error> {
        let mut programs = Programs::default();
        let tests = workspace.members.iter().filter(|m| folders.contains(&m.folder.as_str()));
        let names: Vec<&str> = tests.map(|m| m.name.as_str()).collect();
        let mut berth = cargo();
        berth
            .args(["build", "-p", "berth", "--features", "faults", "--target-dir"])
            .arg(target.join("faults"));
        programs.add(workspace, berth)?;
        if !names.is_empty() {
            let mut tests = cargo();
            tests.args(["test", "--no-run"]);
            names.iter().for_each(|name| {
                tests.args(["-p", name]);
            });
            programs.add(workspace, tests)?;
        }
        Ok(programs)
    }

    fn add(&mut self, workspace: &Workspace, mut command: Command) -> Result<(), Error> {
        command.args(["--message-format=json-render-diagnostics", "--color", "never"]);
        command.current_dir(&workspace.root).stdin(Stdio::null()).stderr(Stdio::inherit());
        let done = command.output().map_err(|source| Error::Start { program: "cargo".to_owned(), source })?;
        if !done.status.success() {
            return Err(Error::Vm { what: "building the programs for the VM failed".into() });
        }
        self.hear(&workspace.root, &String::from_utf8_lossy(&done.stdout));
        Ok(())
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
                self.tests.push(TestProgram { folder, target: target.name, path });
            } else if !self.others.contains(&path) {
                self.others.push(path);
            }
        }
    }

    /// The `berth` to be tested.
    pub(super) fn berth(&self) -> Result<&Path, Error> {
        let found = self.others.iter().find(|path| path.file_name().is_some_and(|name| name == "berth"));
        found.map(PathBuf::as_path).ok_or(Error::Vm { what: "cargo built no berth".into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_with_tests_are_told_from_those_that_they_start() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/kernel/Cargo.toml","target":{"name":"kernel"},"profile":{"test":true},"executable":"/t/deps/kernel-1"}"#,
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
            path: "/t/deps/kernel-1".into(),
        };
        assert_eq!((programs.tests, programs.others.len()), (vec![test], 1));
    }
}
