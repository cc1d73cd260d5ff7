// SPDX-License-Identifier: Apache-2.0
//! Building what runs in the VM: `berth`, the test programs, and the programs that these start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::check::INIT;
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
    /// Builds `berth` and these test programs, by the folder of their crate and their target. It is the `berth` of the lane
    /// `faults`, with fault points, in the folder where that lane has it already; and each test program is built by a
    /// selection of crates that its own lane has built it by, since what dependencies offer depends on that.
    pub(super) fn build(
        workspace: &Workspace,
        target: &Path,
        wanted: &[(&str, &str)],
    ) -> Result<Programs, Error> {
        let mut programs = Programs::default();
        let mut berth = cargo();
        berth
            .args(["build", "-p", "berth", "--features", "faults", "--target-dir"])
            .arg(target.join("faults"));
        programs.add(workspace, berth)?;
        for arguments in selections(workspace, wanted) {
            let mut tests = cargo();
            tests.args(["test", "--no-run"]).args(arguments);
            programs.add(workspace, tests)?;
        }
        programs.tests.retain(|test| wanted.contains(&(test.folder.as_str(), test.target.as_str())));
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

/// What cargo is to build: the crates of the lane `unit` together, and each crate of `tests/` by itself.
fn selections(workspace: &Workspace, wanted: &[(&str, &str)]) -> Vec<Vec<String>> {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let is_lane = |folder: &str| folder.starts_with("tests/");
    let mut unit = words(&["--workspace", "--exclude", INIT]);
    for member in workspace.members.iter().filter(|m| is_lane(&m.folder)) {
        unit.extend(words(&["--exclude", &member.name]));
    }
    let (fixed, mut all) = (unit.len(), Vec::new());
    for member in &workspace.members {
        let own: Vec<&str> =
            wanted.iter().filter(|(folder, _)| *folder == member.folder).map(|(_, target)| *target).collect();
        // The tests within a crate are a target with its name.
        let (within, programs): (Vec<&str>, Vec<&str>) =
            own.into_iter().partition(|target| *target == member.name.replace('-', "_"));
        if !within.is_empty() {
            all.push(words(&["-p", &member.name, "--lib"]));
        }
        let tests = programs.iter().flat_map(|target| words(&["--test", target]));
        if is_lane(&member.folder) && !programs.is_empty() {
            all.push(words(&["-p", &member.name]).into_iter().chain(tests).collect());
        } else {
            unit.extend(tests);
        }
    }
    if unit.len() > fixed {
        all.insert(0, unit);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Member;

    #[test]
    fn each_test_program_is_built_as_its_lane_builds_it() {
        let member = |name: &str, folder: &str| Member {
            name: name.to_owned(),
            folder: folder.to_owned(),
            dependencies: Vec::new(),
        };
        let members = vec![member("a-b", "crates/x/a"), member("k", "tests/kernel"), member("t", "tests/t")];
        let workspace = Workspace { root: "/".into(), members };
        let wanted = [("crates/x/a", "a_b"), ("crates/x/a", "host"), ("tests/kernel", "kernel")];
        let built: Vec<String> =
            selections(&workspace, &wanted).iter().map(|words| words.join(" ")).collect();
        let unit = format!("--workspace --exclude {INIT} --exclude k --exclude t --test host");
        assert_eq!(built, [unit.as_str(), "-p a-b --lib", "-p k --test kernel"]);
        assert_eq!(selections(&workspace, &[]), Vec::<Vec<String>>::new());
    }

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
