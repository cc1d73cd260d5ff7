// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lane`: runs tests and closes with one plain line, `N passed, N failed, N skipped`.
//!
//! A lane is `unit` (the tests within the crates), a folder of `tests/`, `vm` or `readme`. Plain `cargo test`
//! runs them: it is on every machine that can build the project.
//!
//! A test that lacks something appends `its name: what it lacked` to the file that the variable
//! [`SKIPS`] names, and returns (docs/checklists/adding-a-test.md has the lines). The file is new for each
//! lane; it goes with it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::Verdict;
use crate::check::INIT;
use crate::error::Error;
use crate::readme;
use crate::skips::{self, Skips};
use crate::tally::{Listener, Skip, Tally};
use crate::vm;
use crate::workspace::{Workspace, cargo};

/// The variable that names the file of skipped tests.
const SKIPS: &str = "BERTH_SKIPS";

/// How long the output may stay open after cargo has ended.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the lanes named.
pub(crate) fn run(workspace: &Workspace, names: &[String]) -> Result<Verdict, Error> {
    let lanes = chosen(workspace, names)?;
    let skips = Skips::read(&workspace.root)?;
    let mut total = Tally::default();
    for lane in &lanes {
        println!("lane {lane}");
        let mut tally = match *lane {
            "readme" => readme_lane(workspace)?,
            "vm" => vm::lane(workspace)?,
            "systemd" => vm::systemd_lane(workspace)?,
            lane => cargo_test(&mut lane_command(workspace, lane), lane, std::io::stdout())?,
        };
        skips::judge(&skips, lane, &mut tally, skips::is_ci());
        println!("lane {lane}: {tally}");
        total += tally;
    }
    total.print_skips();
    println!("{total}");
    Ok(Verdict::of(total.failed == 0))
}

/// The lanes of this workspace, in the order in which `all` runs them.
fn known(workspace: &Workspace) -> Vec<&str> {
    let folders = workspace.members.iter().filter_map(|m| m.folder.strip_prefix("tests/"));
    let mut lanes: Vec<&str> = folders.collect();
    lanes.sort_by_key(|lane| (*lane != "kernel", *lane));
    lanes.insert(0, "unit");
    lanes.extend(["vm", "systemd", "readme"]);
    lanes
}

fn chosen<'a>(workspace: &'a Workspace, names: &[String]) -> Result<Vec<&'a str>, Error> {
    let known = known(workspace);
    let list = known.join(", ");
    if names.is_empty() {
        return Err(Error::Usage(format!("lane needs a name: all, {list}")));
    }
    if let Some(unknown) = names.iter().find(|name| *name != "all" && !known.contains(&name.as_str())) {
        return Err(Error::Usage(format!("there is no lane {unknown:?}, only all, {list}")));
    }
    let all = names.iter().any(|name| name == "all");
    let wanted = |lane: &&str| all || names.iter().any(|name| name == lane);
    Ok(known.into_iter().filter(wanted).collect())
}

/// `cargo test` for one lane. A folder of `tests/` is one crate; `unit` is every other one.
fn lane_command(workspace: &Workspace, lane: &str) -> Command {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast", "--color", "never"]);
    let in_tests = workspace.members.iter().filter(|m| m.folder.starts_with("tests/"));
    if lane == "unit" {
        command.args(["--workspace", "--exclude", INIT]);
        for member in in_tests {
            command.args(["--exclude", &member.name]);
        }
    } else {
        let folder = format!("tests/{lane}");
        for member in in_tests.filter(|m| m.folder == folder) {
            command.args(["-p", &member.name]);
        }
    }
    command.current_dir(&workspace.root);
    command
}

fn readme_lane(workspace: &Workspace) -> Result<Tally, Error> {
    let file = workspace.root.join("README.md");
    match file.is_file() {
        true => readme::run(workspace, &file),
        false => {
            println!("{} does not exist", file.display());
            Ok(Tally { failed: 1, ..Tally::default() })
        }
    }
}

/// Runs cargo, shows what it prints on `screen` as it comes, and counts.
fn cargo_test(
    command: &mut Command,
    lane: &str,
    screen: impl Write + Send + 'static,
) -> Result<Tally, Error> {
    let program = format!("cargo test of lane {lane}");
    let skips = SkipFile::create(lane)?;
    let mut child = command
        .env(SKIPS, &skips.path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    let heard = listen(&mut child, screen);
    let status = child.wait().map_err(|source| Error::Wait { program, source })?;
    let (listener, left_behind) = finish(&heard);
    let mut tally = listener.tally(status.success(), &skips.read()?);
    if left_behind {
        println!("lane {lane}: cargo has ended and a process that a test started still holds its output");
        tally.failed += 1;
    }
    Ok(tally)
}

/// Shows and passes on each line. The thread ends with the last holder of the pipe.
fn listen(child: &mut Child, mut screen: impl Write + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                // Whoever reads us may be gone; the tests are still counted.
                let _ = screen.write_all(&line).and_then(|()| screen.flush());
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
    }
    receiver
}

/// Everything heard, and whether the pipe is still open although nobody should hold it any more.
fn finish(heard: &mpsc::Receiver<String>) -> (Listener, bool) {
    let mut listener = Listener::default();
    loop {
        match heard.recv_timeout(DRAIN) {
            Ok(line) => listener.hear(&line),
            Err(mpsc::RecvTimeoutError::Disconnected) => return (listener, false),
            Err(mpsc::RecvTimeoutError::Timeout) => return (listener, true),
        }
    }
}

/// The file to which tests append what they skip; removed when dropped.
struct SkipFile {
    path: PathBuf,
}

impl SkipFile {
    fn create(lane: &str) -> Result<SkipFile, Error> {
        let name = OsString::from(format!("berth-skips-{lane}-{}", std::process::id()));
        let path = std::env::temp_dir().join(name);
        // A stranger may have put a link there first: the name must be new.
        match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(_) => Ok(SkipFile { path }),
            Err(source) => Err(Error::Write { path, source }),
        }
    }

    fn read(&self) -> Result<String, Error> {
        std::fs::read_to_string(&self.path).map_err(|source| Error::Read { path: self.path.clone(), source })
    }
}

impl Drop for SkipFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A lane that can not run at all counts as one skipped test.
pub(crate) fn skipped(test: &str, reason: &str) -> Tally {
    Tally { skips: vec![Skip { test: test.to_owned(), reason: reason.to_owned() }], ..Tally::default() }
}

#[cfg(test)]
mod tests {
    use std::io::sink;

    use super::*;
    use crate::workspace::Member;

    fn workspace() -> Workspace {
        let member = |name: &str, folder: &str| Member {
            name: name.to_owned(),
            folder: folder.to_owned(),
            dependencies: Vec::new(),
        };
        let members = vec![
            member("berth-model", "crates/base/model"),
            member("berth-test-faults", "tests/faults"),
            member("berth-test-kernel", "tests/kernel"),
        ];
        Workspace { root: "/".into(), members }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn arguments(lane: &str) -> String {
        let command = lane_command(&workspace(), lane);
        let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    #[test]
    fn all_is_every_lane_once_and_in_order() {
        let workspace = workspace();
        assert_eq!(
            chosen(&workspace, &names(&["all", "unit"])).unwrap(),
            ["unit", "kernel", "faults", "vm", "systemd", "readme"]
        );
        assert_eq!(chosen(&workspace, &names(&["vm", "all"])).unwrap().last(), Some(&"readme"));
        assert_eq!(chosen(&workspace, &names(&["vm"])).unwrap(), ["vm"]);
        assert_eq!(chosen(&workspace, &names(&["faults", "unit"])).unwrap(), ["unit", "faults"]);
    }

    #[test]
    fn an_unknown_lane_is_refused_and_the_known_ones_are_named() {
        let error = chosen(&workspace(), &names(&["unti"])).unwrap_err().to_string();
        assert!(
            error.contains("unti") && error.contains("unit, kernel, faults, vm, systemd, readme"),
            "{error}"
        );
        assert!(chosen(&workspace(), &[]).is_err());
    }

    #[test]
    fn the_unit_lane_leaves_out_what_other_lanes_run_and_the_program_without_a_harness() {
        let unit = arguments("unit");
        for left_out in ["berth-init", "berth-test-kernel", "berth-test-faults"] {
            assert!(unit.contains(&format!("--exclude {left_out}")), "{unit}");
        }
        let kernel = arguments("kernel");
        assert!(kernel.ends_with("-p berth-test-kernel"), "{kernel}");
    }

    #[test]
    fn output_and_skips_of_the_tests_become_a_tally() {
        let script = "echo 'running 2 tests'; echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; \
                      echo 'a: no dockerd' >>\"$BERTH_SKIPS\"";
        let tally = cargo_test(Command::new("sh").args(["-c", script]), "made-up", sink()).unwrap();
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(tally.skips[0].reason, "no dockerd");
    }

    #[test]
    fn a_program_killed_in_the_middle_is_a_failure() {
        let script = "echo 'running 2 tests'; kill -KILL $$";
        let tally = cargo_test(Command::new("sh").args(["-c", script]), "killed", sink()).unwrap();
        assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn the_file_of_skips_goes_with_the_lane() {
        let path = {
            let file = SkipFile::create("gone").unwrap();
            assert!(file.path.exists());
            file.path.clone()
        };
        assert!(!path.exists());
    }
}
