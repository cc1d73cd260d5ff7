// SPDX-License-Identifier: Apache-2.0
//! `berth lxc create`, `copy` and `destroy`, killed while they work: what they began is whole, or gone with the next command.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
        // Of a test that failed half-way: one of its own may be mounted here.
        let _ = Command::new("umount").args(["-q", "-l"]).arg(&self.0).stderr(Stdio::null()).status();
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

/// Whether a copy has all that its source has.
fn is_like(place: &Path, name: &str, source: &str) -> bool {
    let list = |name: &str| {
        let mut command = Command::new("find");
        command.current_dir(place.join(name)).args([".", "-path", "./rootfs/*", "-printf", "%p %s %m %U\\n"]);
        let mut lines: Vec<String> = good(command).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    place.join(name).join("rootfs").is_dir() && list(name) == list(source)
}

/// Kills a command and LXC's tool at once, some time after it began; whether it was done before.
fn killed_whole(mut call: Command, after: Duration) -> bool {
    let mut child = call.process_group(0).spawn().unwrap();
    let group = format!("-{}", child.id());
    // A moment of its work, whichever: there is nothing to wait for.
    std::thread::sleep(after);
    let _ = Command::new("sh")
        .args(["-c", "kill -s KILL -- \"$1\"", "sh", &group])
        .stderr(Stdio::null())
        .status();
    child.wait().unwrap().success()
}

#[test]
fn a_copy_and_a_removal_that_are_killed_with_lxcs_tool_are_made_good_by_the_next_command() {
    let test = "a_copy_and_a_removal_that_are_killed_with_lxcs_tool_are_made_good_by_the_next_command";
    if let Some(lacked) = lacked() {
        return berth_test_agent::skip(test, lacked);
    }
    let place = Place::new("whole");
    // LXC's group of one that is started bears its name alone.
    let own = format!("copy{}", std::process::id());
    good(place.create("box", "busybox"));
    let fill = "cd \"$1/box/rootfs\" && mkdir many && for n in $(seq 400); do echo $n >many/$n; done";
    good({
        let mut command = Command::new("sh");
        command.args(["-c", fill, "sh"]).arg(&place.0);
        command
    });
    let steps = berth_test_agent::number("BERTH_LXC_STEPS", 4, 60) as u32;
    let took = |call: Command| {
        let began = Instant::now();
        good(call);
        began.elapsed()
    };
    let (mut half, mut done) = (0, 0);
    for mode in [&["-s"][..], &[]] {
        let copy = || {
            let mut call = place.lxc("copy", &["-n", "box", "-N", &own]);
            call.args(mode);
            call
        };
        let (copying, removing) = (took(copy()), took(place.lxc("destroy", &[&own])));
        for step in 0..=steps {
            done += u32::from(killed_whole(copy(), copying * step / steps));
            let again = copy().output().unwrap();
            let words = String::from_utf8_lossy(&again.stderr).into_owned();
            half += u32::from(words.contains("half-made"));
            let at = format!("copy {mode:?} killed at {step} of {steps}: {again:?}");
            assert!(again.status.success() || words.contains("is there already"), "{at}");
            assert!(mode == ["-s"] || is_like(&place.0, &own, "box"), "{at}");
            assert_eq!(place.list().split_whitespace().collect::<Vec<_>>(), ["box", own.as_str()], "{at}");

            killed_whole(place.lxc("destroy", &[&own]), removing * step / steps);
            let start = place.lxc("start", &["-F", &own, "--", "/bin/true"]).output().unwrap();
            let words = String::from_utf8_lossy(&start.stderr).into_owned();
            half += u32::from(words.contains("half-made"));
            let again = place.lxc("destroy", &[&own]).output().unwrap();
            let at = format!("removal {mode:?} killed at {step} of {steps}: {again:?}");
            assert_eq!((place.list().as_str(), place.at_work()), ("box\n", Vec::new()), "{at}");
            let mut names: Vec<_> =
                fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["box", "empty.conf"], "{at}");
        }
    }
    assert!(half > 0, "nothing was killed half-way, and {done} were done");
    assert!(is_whole(&place.0, "box"));
    good(place.lxc("destroy", &["box"]));
}

#[test]
fn a_creation_and_a_copy_on_a_full_disk_fail_with_the_reason_and_leave_nothing() {
    let test = "a_creation_and_a_copy_on_a_full_disk_fail_with_the_reason_and_leave_nothing";
    if let Some(lacked) = lacked() {
        return berth_test_agent::skip(test, lacked);
    }
    let place = Place::new("full");
    let small = Place(place.0.join("small"));
    fs::create_dir(&small.0).unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "small"]).arg(&small.0);
        good(command);
    };
    mount("size=16k");
    let left = || {
        let names = fs::read_dir(&small.0).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != "box").collect::<Vec<_>>()
    };
    let create = || {
        let mut call = small.lxc("create", &["-n", "box", "-t", "busybox", "-f"]);
        call.arg(place.0.join("empty.conf"));
        call
    };
    // From no room for a directory's first file to nearly enough.
    for size in ["4k", "8k", "16k", "64k", "512k", "1m", "1900k"] {
        mount(&format!("remount,size={size}"));
        let done = create().output().unwrap();
        let told = [done.stdout.as_slice(), &done.stderr].concat();
        let words = String::from_utf8_lossy(&told);
        assert!(!done.status.success() && words.contains("No space left on device"), "{size}: {words}");
        assert!(!small.0.join("box").exists() && left().is_empty(), "{size}: {words}");
    }
    mount("remount,size=3m");
    good(create());
    assert!(is_whole(&small.0, "box"));
    let copy = || small.lxc("copy", &["-n", "box", "-N", "copy"]);
    let done = copy().output().unwrap();
    assert!(!done.status.success(), "{done:?}");
    assert!(left().is_empty(), "{:?}: {done:?}", left());
    mount("remount,size=16m");
    good(copy());
    assert!(is_like(&small.0, "copy", "box"));
    for name in ["copy", "box"] {
        good(small.lxc("destroy", &[name]));
    }
    assert!(left().is_empty());
    let mut command = Command::new("umount");
    command.arg(&small.0);
    good(command);
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
