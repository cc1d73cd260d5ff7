// SPDX-License-Identifier: Apache-2.0
//! `ps`, `inspect`, `logs`, `kill`, `rm` see what `run` does; and what a container says does not fool who reads it.

use berth_test_kernel::{Running, ground};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

fn ps(ground: &berth_test_kernel::Ground) -> Vec<serde_json::Value> {
    let ps = ground.berth(&["ps", "-a", "-o", "json"]);
    serde_json::from_str(ps.good()).unwrap()
}

#[test]
fn a_running_and_an_ended_container_are_listed_with_their_state() {
    let ground = ground!();
    let (one, other) = (ground.name("one"), ground.name("other"));
    let mut running = ground.start(&["--name", &one], "echo up; while :; do sleep 0.1; done");
    running.says("up");
    assert_eq!(ground.sh(&["--name", &other], "exit 6").code, Some(6));
    let listed = ps(&ground);
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (listed[0]["id"].as_str(), &listed[0]["state"]["exit_code"]),
        (Some(other.as_str()), &6.into())
    );
    assert_eq!(
        (listed[1]["id"].as_str(), listed[1]["state"]["status"].as_str()),
        (Some(one.as_str()), Some("running"))
    );
    let table = ground.berth(&["ps"]);
    assert!(
        table.good().contains(&one) && table.good().contains("Up") && !table.good().contains(&other),
        "{table:?}"
    );
    assert_eq!(ground.berth(&["ps", "-aq"]).good(), format!("{other}\n{one}\n"));
    // Its first process on the host is in a control group of ours, and goes by what is told.
    let pid = listed[1]["state"]["pid"].as_u64().unwrap();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.contains(&format!("/{one}")), "{groups}");
    ground.berth(&["kill", "-s", "KILL", &one]).good();
    assert_eq!(running.end().code, Some(137));
    ground.berth(&["rm", &one, &other]).good();
    assert!(ps(&ground).is_empty());
}

#[test]
fn inspect_shows_what_was_asked_and_what_is_applied() {
    let ground = ground!();
    let name = ground.name("a");
    let options = ["--name", &name, "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "-e", "A=1"];
    let mut running = ground.start(&options, "echo up; sleep 60");
    running.says("up");
    let shown: serde_json::Value = serde_json::from_str(ground.berth(&["inspect", &name]).good()).unwrap();
    let shown = &shown[0];
    assert_eq!(shown["state"]["status"], "running");
    let text = shown.to_string();
    for word in [
        "67108864",
        "\"mem\":64",
        "\"cpus\":0.5",
        "\"pids\":50",
        name.as_str(),
        ground.root().to_str().unwrap(),
    ] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    ground.berth(&["rm", "-f", &name]).good();
    assert_eq!(running.end().code, Some(137));
    let gone = ground.berth(&["inspect", &name]);
    assert_eq!((gone.code, gone.stdout.trim()), (Some(1), "[]"));
    assert!(gone.stderr.contains(&name));
}

#[test]
fn logs_are_what_it_wrote_and_can_be_followed_to_its_end() {
    let ground = ground!();
    let name = ground.name("a");
    let mut running = ground.start(
        &["--name", &name],
        "seq 3; echo err >&2; trap 'echo last; exit 0' TERM; echo up; while :; do sleep 0.05; done",
    );
    running.says("up");
    let now = ground.berth(&["logs", &name]);
    assert_eq!((now.stdout.as_str(), now.stderr.as_str()), ("1\n2\n3\nup\n", "err\n"));
    let mut followed = Running::start(ground.command().args(["logs", "-f", &name]));
    followed.says("up");
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.end().code, Some(0));
    let followed = followed.end();
    assert_eq!((followed.code, followed.stdout.as_str()), (Some(0), "1\n2\n3\nup\nlast\n"));
    // The last lines are those of both streams together; nobody knows in which order what came before was read.
    for (lines, stdout, stderr) in [("1", "last\n", ""), ("6", "1\n2\n3\nup\nlast\n", "err\n")] {
        let last = ground.berth(&["logs", "-n", lines, &name]);
        assert_eq!((last.stdout.as_str(), last.stderr.as_str()), (stdout, stderr), "{lines}");
    }
    let unknown = ground.berth(&["logs", "nothing"]);
    assert_eq!((unknown.code, unknown.stderr.contains("nothing")), (Some(1), true));
}

#[test]
fn a_name_is_used_once() {
    let ground = ground!();
    let name = ground.name("a");
    ground.run(&["--name", &name], &["true"]).good();
    ground.unchanged(|| ground.run(&["--name", &name], &["true"])).refused(125, &[&name]);
    ground.berth(&["rm", &name]).good();
    ground.run(&["--name", &name], &["true"]).good();
}

#[test]
fn control_characters_of_commands_and_paths_are_shown_escaped() {
    let ground = ground!();
    let name = ground.name("a");
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\nforged line \u{9b}31m";
    let root = ground.another_root("ro\u{1b}[31mot");
    ground.run(&["--name", &name, "--rootfs", root.to_str().unwrap()], &["echo", evil]).good();
    for arguments in
        [&["ps", "-a"][..], &["ps", "-a", "--no-trunc"], &["ps", "-a", "-o", "json"], &["inspect", &name]]
    {
        let shown = ground.berth(arguments);
        let bad = shown.good().chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{arguments:?}: {shown:?}");
        assert!(!shown.stdout.lines().any(|l| l.starts_with("forged")), "{shown:?}");
    }
    for name in ["a\u{1b}[2J", "a\nb"] {
        let refused = ground.unchanged(|| ground.run(&["--name", name], &["true"]));
        refused.refused(125, &["--name"]);
        assert!(!refused.stderr.trim_end().chars().any(char::is_control), "{refused:?}");
        let unknown = ground.berth(&["logs", name]);
        assert!(!unknown.stderr.trim_end().chars().any(char::is_control), "{unknown:?}");
    }
    // What can not be executed, likewise.
    let refused = ground.run(&[], &[evil]);
    assert!(!refused.stderr.trim_end().chars().any(char::is_control), "{refused:?}");
}

#[test]
fn no_name_leads_out_of_the_directories() {
    let ground = ground!();
    let canary = ground.file("canary", "x");
    for name in ["..", "../..", "/etc", "a/../..", ".", "", "../sandboxes/canary"] {
        for command in ["logs", "inspect", "kill", "rm"] {
            let exit = ground.berth(&[command, name]);
            assert_eq!(exit.code, Some(1), "{command} {name:?}: {exit:?}");
        }
        ground.unchanged(|| ground.run(&["--name", name], &["true"])).refused(125, &["--name"]);
    }
    assert!(canary.exists());
}

#[test]
fn directories_are_closed_to_others_and_the_control_socket_is_a_path() {
    let ground = ground!();
    let runtime = ground.path("fresh/run");
    let work = ground.path("fresh/work");
    let name = ground.name("a");
    let mut command = std::process::Command::new(ground.program());
    command
        .arg("--runtime-dir")
        .arg(&runtime)
        .arg("--work-dir")
        .arg(&work)
        .args(["run", "--name", &name, "--rootfs"]);
    command.arg(ground.root()).args(["sh", "-c", "echo up; while :; do sleep 0.1; done"]);
    command.stdin(std::process::Stdio::null());
    let mut running = Running::start(&mut command);
    running.says("up");
    let mode = |path: &std::path::Path| path.symlink_metadata().unwrap().permissions().mode() & 0o7777;
    let container = runtime.join("oneshot").join(&name);
    for (path, expected) in [
        (runtime.clone(), 0o711),
        (work.clone(), 0o711),
        (runtime.join("oneshot"), 0o700),
        (work.join("oneshot"), 0o700),
        (container.clone(), 0o700),
        (work.join("oneshot").join(&name), 0o700),
    ] {
        assert_eq!(format!("{:o}", mode(&path)), format!("{expected:o}"), "{}", path.display());
    }
    berth_test_kernel::until("the control socket", || container.join("ctl").exists());
    assert!(container.join("ctl").symlink_metadata().unwrap().file_type().is_socket());
    for entry in std::fs::read_dir(&container).unwrap().flatten() {
        assert_eq!(mode(&entry.path()) & 0o022, 0, "{}", entry.path().display());
    }
    let abstracts = std::fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!abstracts.lines().any(|l| l.contains(" @") && l.contains("berth")), "{abstracts}");
    let remove = |arguments: &[&str]| {
        let mut command = std::process::Command::new(ground.program());
        command.arg("--runtime-dir").arg(&runtime).arg("--work-dir").arg(&work).args(arguments);
        Running::start(command.stdin(std::process::Stdio::null())).end()
    };
    remove(&["rm", "-f", &name]).good();
    assert_eq!(running.end().code, Some(137));
    // This instance's groups are not the ground's to remove.
    let instance = std::fs::read_to_string(runtime.join("instance")).unwrap();
    let id = instance.split(|c: char| !c.is_ascii_hexdigit()).find(|w| w.len() >= 8).unwrap();
    for group in ground.groups() {
        let _ = std::fs::remove_dir(group.with_file_name(id));
    }
}
