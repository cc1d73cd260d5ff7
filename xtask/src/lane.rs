// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask lane`: runs tests and closes with one plain line, `N passed, N failed, N skipped`.
//!
//! A lane is `unit` (the tests within the crates), a folder of `tests/`, `vm`, `systemd` or `readme`. Cargo builds the test
//! programs of all of them by one selection of crates, and they are run from here: while cargo runs tests, nothing else
//! can be built in its folder.
//!
//! A test that lacks something appends `its name: what it lacked` to the file that the variable
//! [`SKIPS`] names, and returns (docs/checklists/adding-a-test.md has the lines). The file is new for each
//! lane; it goes with it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Verdict;
use crate::error::Error;
use crate::programs::{self, Programs, SELECTION, TestProgram};
use crate::readme;
use crate::skips::{self, Skips};
use crate::tally::{Listener, Skip, Tally};
use crate::vm;
use crate::workspace::{Workspace, cargo};

/// The variable that names the file of skipped tests.
const SKIPS: &str = "BERTH_SKIPS";

/// The variable that names the `berth` to be tested.
const BERTH: &str = "BERTH_BIN";

/// The lane of the tests within the crates.
const UNIT: &str = "unit";

/// Where the crates of the other lanes are.
const LANES: &str = "tests/";

/// How long the output may stay open after the tests have ended.
const DRAIN: Duration = Duration::from_secs(10);

/// The lanes that test `berth` as it ships, where it is built anyway.
const SHIPPED: &[&str] = &["kernel", "images", "lxc"];

/// Runs the lanes named.
pub(crate) fn run(workspace: &Workspace, names: &[String]) -> Result<Verdict, Error> {
    let lanes = chosen(workspace, names)?;
    let skips = Skips::read(&workspace.root)?;
    let mut total = Tally::default();
    for lane in &lanes {
        println!("lane {lane}");
        let begun = Instant::now();
        let mut tally = match *lane {
            "readme" => readme_lane(workspace)?,
            "vm" => vm::lane(workspace)?,
            "systemd" => vm::systemd_lane(workspace)?,
            // The README has it built.
            lane => tests_lane(workspace, lane, lanes.contains(&"readme") && SHIPPED.contains(&lane))?,
        };
        skips::judge(&skips, lane, &mut tally, skips::is_ci());
        println!("lane {lane}: {tally}, in {} s", begun.elapsed().as_secs());
        total += tally;
    }
    total.print_skips();
    println!("{total}");
    Ok(Verdict::of(total.failed == 0))
}

/// The lanes of this workspace, in the order in which `all` runs them.
fn known(workspace: &Workspace) -> Vec<&str> {
    let folders = workspace.members.iter().filter_map(|m| m.folder.strip_prefix(LANES));
    let mut lanes: Vec<&str> = folders.collect();
    lanes.sort_by_key(|lane| (*lane != "kernel", *lane));
    lanes.insert(0, UNIT);
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

/// The test programs of one lane, one after the other: those of a folder of `tests/`, or, of `unit`, all others with the
/// examples in the documentation. A build that fails is a failed test.
fn tests_lane(workspace: &Workspace, lane: &str, shipped: bool) -> Result<Tally, Error> {
    let built = programs_of(workspace, lane).and_then(|programs| {
        let berth = match std::env::var_os(BERTH) {
            Some(own) => PathBuf::from(own),
            None if shipped => programs::shipped(workspace)?,
            None => programs.berth()?.to_owned(),
        };
        Ok((programs, berth))
    });
    let (programs, berth) = match built {
        Ok(built) => built,
        Err(error) => {
            println!("lane {lane}: {}", error.chain());
            return Ok(Tally { failed: 1, ..Tally::default() });
        }
    };
    let mut tally = Tally::default();
    for program in &programs.tests {
        println!("     Running {} {}", program.folder, program.target);
        tally += heard(command_of(workspace, program).env(BERTH, &berth), lane, std::io::stdout())?;
    }
    if lane == UNIT {
        println!("     Running the examples in the documentation");
        let mut examples = cargo();
        examples.args(["test", "--doc", "--no-fail-fast", "--color", "never"]).args(SELECTION);
        tally += heard(examples.current_dir(&workspace.root), lane, std::io::stdout())?;
    }
    Ok(tally)
}

fn programs_of(workspace: &Workspace, lane: &str) -> Result<Programs, Error> {
    if lane == UNIT {
        let mut programs = Programs::all(workspace)?;
        programs.tests.retain(|test| test.within || !test.folder.starts_with(LANES));
        return Ok(programs);
    }
    let folder = format!("{LANES}{lane}");
    let member = workspace.members.iter().find(|member| member.folder == folder);
    let tests = member.iter().flat_map(|member| &member.tests);
    let wanted: Vec<(&str, &str)> = tests.map(|test| (folder.as_str(), test.as_str())).collect();
    Programs::some(workspace, &wanted)
}

/// As cargo runs it: in its crate's folder.
fn command_of(workspace: &Workspace, program: &TestProgram) -> Command {
    let folder = workspace.root.join(&program.folder);
    let mut command = Command::new(&program.path);
    command.env("CARGO_MANIFEST_DIR", &folder).current_dir(folder);
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

/// Runs tests, shows what they print on `screen` as it comes, and counts.
fn heard(command: &mut Command, lane: &str, screen: impl Write + Send + 'static) -> Result<Tally, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
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
        println!("lane {lane}: it has ended and a process that a test started still holds its output");
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
            tests: Vec::new(),
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
    fn a_program_is_run_in_its_crate() {
        let program = TestProgram {
            folder: "usr/bin".into(),
            target: "sh".into(),
            within: true,
            path: "/bin/sh".into(),
        };
        let mut command = command_of(&Workspace { root: "/".into(), members: Vec::new() }, &program);
        let said = command.args(["-c", "pwd; echo $CARGO_MANIFEST_DIR"]).output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&said), "/usr/bin\n/usr/bin\n");
    }

    #[test]
    fn output_and_skips_of_the_tests_become_a_tally() {
        let script = "echo 'running 2 tests'; echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; \
                      echo 'a: no dockerd' >>\"$BERTH_SKIPS\"";
        let tally = heard(Command::new("sh").args(["-c", script]), "made-up", sink()).unwrap();
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(tally.skips[0].reason, "no dockerd");
    }

    #[test]
    fn a_program_killed_in_the_middle_is_a_failure() {
        let script = "echo 'running 2 tests'; kill -KILL $$";
        let tally = heard(Command::new("sh").args(["-c", script]), "killed", sink()).unwrap();
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
