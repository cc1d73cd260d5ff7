// SPDX-License-Identifier: Apache-2.0
//! Attacks that need a moment: names exchanged, again and again, while containers start. Some seconds long, or as many
//! as BERTH_RACE_SECONDS says.

use berth_test_kernel::{Ground, Running, ground, race_time};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PROBE: &str = env!("CARGO_BIN_EXE_berth-probe");

/// A directory of the host that must stay empty.
fn canary(ground: &Ground) -> PathBuf {
    ground.directory("canary")
}

#[track_caller]
fn empty(canary: &Path) {
    let inside: Vec<_> = fs::read_dir(canary).unwrap().flatten().map(|e| e.path()).collect();
    assert!(inside.is_empty(), "{inside:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(canary.to_str().unwrap()), "{mounts}");
}

/// A container that exchanges two names in a volume that others have too.
fn flipping(ground: &Ground, volume: &str, one: &str, other: &str) -> Running {
    let seconds = (race_time().as_secs() + 60).to_string();
    let script = format!("echo flipping; exec probe flip {one} {other} {seconds}");
    let mut running = ground.start(&["-v", volume], &script);
    running.says("flipping");
    running
}

/// Starts containers until the time is up; how many worked and how many were refused. On a slow machine the time is for a
/// few, and each of them may meet the link: it goes on to the first that works, as long as names are exchanged.
fn launches(mut launch: impl FnMut() -> Option<i32>) -> (u32, u32) {
    let limit = Instant::now() + race_time();
    let latest = limit + Duration::from_secs(50);
    let (mut worked, mut refused) = (0, 0);
    while Instant::now() < limit || (worked == 0 && Instant::now() < latest) {
        match launch() {
            Some(0) => worked += 1,
            Some(125..=127) => refused += 1,
            other => panic!("a launch ended with {other:?}"),
        }
    }
    (worked, refused)
}

fn shared(ground: &Ground, to: &str) -> (PathBuf, String) {
    ground.install_probe(PROBE);
    let shared = ground.directory("shared");
    fs::create_dir(shared.join("target")).unwrap();
    symlink(to, shared.join("link")).unwrap();
    let volume = format!("{}:/shared", shared.display());
    (shared, volume)
}

#[test]
fn cve_2021_30465_a_volume_target_that_is_exchanged_for_a_link_stays_inside() {
    let ground = ground!();
    let canary = canary(&ground);
    // As the container would reach it if it were resolved outside, absolute and upwards.
    let up = "../".repeat(20) + canary.to_str().unwrap().trim_start_matches('/');
    let (_, volume) = shared(&ground, &up);
    let evil = ground.directory("evil");
    fs::write(evil.join("marker"), "evil").unwrap();
    let flipper = flipping(&ground, &volume, "/shared/target", "/shared/link");
    let target = format!("{}:/shared/target/sub", evil.display());
    let direct = format!("{}:/shared/target", evil.display());
    let (mut n, before) = (0, fs::read_link("/proc/self/ns/mnt").unwrap());
    let (worked, refused) = launches(|| {
        n += 1;
        let target = if n % 2 == 0 { &target } else { &direct };
        let exit = ground.run(&["-v", &volume, "-v", target], &["true"]);
        empty(&canary);
        exit.code
    });
    assert!(worked > 0, "{worked} worked, {refused} were refused");
    assert_eq!(fs::read_link("/proc/self/ns/mnt").unwrap(), before);
    stop(flipper);
    assert!(fs::read_to_string(evil.join("marker")).is_ok());
}

#[test]
fn cve_2024_45310_mount_points_are_not_made_on_the_host() {
    let ground = ground!();
    let canary = canary(&ground);
    let (_, volume) = shared(&ground, canary.to_str().unwrap());
    let flipper = flipping(&ground, &volume, "/shared/target", "/shared/link");
    let file = ground.file("file", "x");
    let directory = ground.directory("directory");
    let mut n = 0;
    let (worked, _) = launches(|| {
        n += 1;
        let option = match n % 2 {
            0 => format!("{}:/shared/target/new-{n}", file.display()),
            _ => format!("{}:/shared/target/new-{n}/deep/er", directory.display()),
        };
        let exit = ground.run(&["-v", &volume, "-v", &option], &["true"]);
        empty(&canary);
        exit.code
    });
    assert!(worked > 0);
    stop(flipper);
}

#[test]
fn a_working_directory_that_is_exchanged_for_a_link_stays_inside() {
    let ground = ground!();
    let canary = canary(&ground);
    let (_, volume) = shared(&ground, &format!("/proc/self/fd/../../..{}", canary.display()));
    let flipper = flipping(&ground, &volume, "/shared/target", "/shared/link");
    let (worked, _) = launches(|| {
        let exit = ground.run(&["-v", &volume, "-w", "/shared/target/made"], &["touch", "here"]);
        empty(&canary);
        // The file may not be there to be made when the directory was exchanged before it.
        if exit.code == Some(1) { Some(0) } else { exit.code }
    });
    assert!(worked > 0);
    stop(flipper);
}

/// CVE-2025-31133, CVE-2025-52565, CVE-2025-52881 as a race: the entries of a root file system that another container
/// writes to are exchanged while containers start on it.
#[test]
fn cve_2025_31133_entries_of_the_root_that_are_exchanged_redirect_nothing() {
    let ground = ground!();
    ground.install_probe(PROBE);
    let canary = canary(&ground);
    let root = ground.another_root("shared-root");
    for name in ["proc", "sys", "dev"] {
        fs::create_dir_all(root.join(name)).unwrap();
        symlink(&canary, root.join(format!("{name}-link"))).unwrap();
    }
    let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let volume = format!("{}:/shared", root.display());
    let flippers = ["proc", "sys", "dev"]
        .map(|name| flipping(&ground, &volume, &format!("/shared/{name}"), &format!("/shared/{name}-link")));
    let script = "[ \"$(stat -c %t:%T /dev/null)\" = 1:3 ] && [ \"$(head -c 5 /proc/version)\" = Linux ] && [ -d /sys/kernel ] \
                  && [ \"$(head -c 1 /proc/keys | wc -c)\" = 0 ]";
    let (worked, refused) = launches(|| {
        let exit = ground.sh(&["--rootfs", root.to_str().unwrap()], script);
        empty(&canary);
        exit.code
    });
    assert!(worked + refused > 0);
    flippers.into_iter().for_each(stop);
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), pattern);
    assert_eq!(ground.run(&[], &["echo", "fine"]).good(), "fine\n");
}

fn stop(flipper: Running) {
    flipper.signal(Signal::KILL);
    flipper.end();
}
