// SPDX-License-Identifier: Apache-2.0
//! `berth lxc create`, `copy` and `destroy`, killed while they work: what they began is whole, or gone with the next command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use berth_testing::{Build, berth, script, until};

use crate::lacked;

/// A directory of containers that goes with all of them.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let place = std::env::temp_dir().join(format!("berth-lxc-{name}-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        fs::write(place.join("empty.conf"), "lxc.net.0.type = empty\n").unwrap();
        Place(place)
    }

    fn lxc(&self, command: &str, arguments: &[&str]) -> Command {
        let mut call = Command::new(berth(Build::Plain).unwrap());
        call.args(["lxc", command, "-P"]).arg(&self.0).args(arguments);
        call.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        call
    }

    fn create(&self, name: &str, template: &str) -> Command {
        let mut call = self.lxc("create", &["-n", name, "-t", template, "-f"]);
        call.arg(self.0.join("empty.conf"));
        call
    }

    /// The names of all.
    fn list(&self) -> String {
        good(self.lxc("ls", &["-1"]))
    }

    /// The processes of LXC's, or of a template's, that work in it.
    fn at_work(&self) -> Vec<String> {
        let place = self.0.display().to_string();
        let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(&place) && !line.contains("berth lxc")).then_some(line)
        });
        lines.collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn good(mut call: Command) -> String {
    let done = call.output().unwrap();
    assert!(done.status.success(), "{call:?}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn is_whole(place: &Path, name: &str) -> bool {
    let own = place.join(name);
    own.join("config").is_file() && !own.join("partial").exists()
}

#[test]
fn a_creation_that_is_killed_is_taken_away_by_the_next() {
    if let Some(lacked) = lacked() {
        return berth_test_agent::skip("a_creation_that_is_killed_is_taken_away_by_the_next", lacked);
    }
    let place = Place::new("create");
    let mark = format!("88{}", std::process::id());
    let template = place.0.join("slow");
    // Somebody of its own session stays, too.
    let text = format!(
        "#!/bin/sh\nsetsid sleep {mark} </dev/null >/dev/null 2>&1 &\n: >'{}/at-work'\nsleep {mark}\n",
        place.0.display()
    );
    script(&template, &text);
    let mut child = place.create("box", template.to_str().unwrap()).spawn().unwrap();
    until("the template works", || place.0.join("at-work").exists());
    let group = PathBuf::from("/sys/fs/cgroup/pids/berth").join(format!("lxc.create-{}", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();

    let done = place.create("box", "busybox").output().unwrap();
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && words.contains("half-made"), "{words}");
    assert!(is_whole(&place.0, "box"));
    assert!(!group.exists(), "{} is left", group.display());
    let lives = |pid: &fs::DirEntry| {
        fs::read(pid.path().join("cmdline")).is_ok_and(|line| line == format!("sleep\0{mark}\0").as_bytes())
    };
    assert!(
        !fs::read_dir("/proc").unwrap().flatten().any(|pid| lives(&pid)),
        "what the template started lives"
    );
    good(place.lxc("destroy", &["box"]));
    assert_eq!((place.list().as_str(), place.at_work()), ("", Vec::new()));
}

#[test]
fn a_copy_and_a_removal_that_are_killed_are_whole_or_not_there() {
    if let Some(lacked) = lacked() {
        return berth_test_agent::skip("a_copy_and_a_removal_that_are_killed_are_whole_or_not_there", lacked);
    }
    let place = Place::new("copy");
    good(place.create("box", "busybox"));
    for (number, more) in [&["-s"][..], &[]].into_iter().enumerate() {
        let copy = format!("copy{number}");
        let mut arguments = vec!["-n", "box", "-N", &copy];
        arguments.extend(more);
        killed(&place, place.lxc("copy", &arguments), "lxc-copy");
        let is_there = place.list().lines().any(|name| name == copy);
        assert_eq!(is_there, is_whole(&place.0, &copy), "{copy} is half there");
        if is_there {
            killed(&place, place.lxc("destroy", &[&copy]), "lxc-destroy");
        }
        assert_eq!(place.list(), "box\n");
        assert!(!place.0.join(&copy).exists());
    }
    good(place.lxc("destroy", &["box"]));
    assert_eq!((place.list().as_str(), place.at_work()), ("", Vec::new()));
}

/// Kills a command as soon as LXC's tool works for it, and waits for that tool's end.
fn killed(place: &Place, mut call: Command, tool: &str) {
    let mut child = call.spawn().unwrap();
    let works = || place.at_work().iter().any(|line| line.starts_with(tool));
    until("the tool works, or is done", || works() || matches!(child.try_wait(), Ok(Some(_))));
    let _ = child.kill();
    child.wait().unwrap();
    until("the tool is done", || !works());
}
