// SPDX-License-Identifier: Apache-2.0
//! The hierarchies of this host, as root: limits that bind, processes that are killed, nothing left behind.
//! Every group is below `berthtest-<pid>-<n>` and removed at the end of its test.

#![expect(clippy::unwrap_used, reason = "in tests, helpers included")]

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::{Duration, Instant};

use berth_cgroup::controller::devices;
use berth_cgroup::{Bytes, Controller, Error, Group, Limit, Limits, MilliCpu, Mode, Version};
use berth_model::Class;

mod common;

use common::{Host, WANTED, join, soon, wait_for_members};

const KILLED: i32 = 9;

#[test]
fn limits_are_in_the_files_and_the_group_goes_without_a_trace() {
    let Some(host) = Host::new() else { return };
    let limits = Limits {
        cpu_request: Some(MilliCpu(500)),
        cpu_limit: Some(Limit::At(MilliCpu(1500))),
        memory_request: Some(Bytes(16 << 20)),
        // Not a whole page: the kernel rounds down, and that is accepted.
        memory_limit: Some(Limit::At(Bytes((16 << 20) + 1))),
        pids_limit: Some(Limit::At(64)),
        ..Limits::default()
    };
    let mut group = host.create("a", &limits);
    let applied = group.limits_applied();
    assert_eq!(applied.cpu_limit, limits.cpu_limit);
    assert_eq!(applied.memory_limit, Some(Limit::At(Bytes(16 << 20))));
    assert_eq!(applied.memory_request, Some(Bytes(32 << 20)));
    assert_eq!(applied.pids_limit, limits.pids_limit);
    assert_eq!(host.left(), ["a"]);
    let infinite = Limits {
        cpu_limit: Some(Limit::Infinite),
        memory_limit: Some(Limit::Infinite),
        pids_limit: Some(Limit::Infinite),
        ..Limits::default()
    };
    group.update(&infinite).unwrap();
    let applied = group.limits_applied();
    assert_eq!(applied.cpu_limit, Some(Limit::Infinite));
    assert_eq!(applied.memory_limit, Some(Limit::Infinite));
    assert_eq!(applied.pids_limit, Some(Limit::Infinite));
    group.remove(soon()).unwrap();
    assert!(!group.exists() && host.left().is_empty());
}

#[test]
fn a_new_group_has_the_values_that_are_left_out_as_the_kernels_defaults() {
    let Some(host) = Host::new() else { return };
    let group = host.create("a", &Limits::default());
    let asked = Limits {
        cpu_request: Some(MilliCpu(1000)),
        cpu_limit: Some(Limit::Infinite),
        memory_limit: Some(Limit::Infinite),
        swap_limit: Some(Limit::Infinite),
        pids_limit: Some(Limit::Infinite),
        ..Limits::default()
    };
    for controller in WANTED {
        let mut writes = Vec::new();
        let version = host.hierarchies.version_of(controller).unwrap();
        controller.writes(&asked, version, &mut writes).unwrap();
        let place = match host.hierarchies.mode() {
            Mode::V2 => host.hierarchies.root().to_owned(),
            _ => host.hierarchies.root().join(controller.name()),
        };
        for write in writes.iter().filter(|write| write.is_default) {
            let file = place.join(group.path()).join(write.file.as_ref());
            let found = std::fs::read_to_string(&file).unwrap();
            let unlimited = write.value == "-1" && found.trim_end().parse::<u64>().is_ok_and(|n| n > 1 << 62);
            assert!(found.trim_end() == write.value || unlimited, "{}: {found}", file.display());
        }
    }
}

#[test]
fn swap_follows_the_memory_limit_up_and_down() {
    let Some(host) = Host::new() else { return };
    let with = |bytes| Limits {
        memory_limit: Some(Limit::At(Bytes(bytes))),
        swap_limit: Some(Limit::At(Bytes(0))),
        ..Limits::default()
    };
    let mut group =
        match Group::create(&host.hierarchies, &format!("{}/a", host.top), &WANTED, &with(32 << 20)) {
            Ok(group) => group,
            Err(error) if error.class() == Class::Unsupported => {
                println!("skipped: this kernel does not account swap ({error})");
                return;
            }
            Err(error) => panic!("{error}"),
        };
    for megabytes in [64, 16, 128] {
        group.update(&with(megabytes << 20)).unwrap();
        let applied = group.limits_applied();
        assert_eq!(applied.memory_limit, Some(Limit::At(Bytes(megabytes << 20))));
        assert_eq!(applied.swap_limit, Some(Limit::At(Bytes(0))));
    }
}

#[test]
fn a_value_that_the_kernel_refuses_fails_the_creation_by_name_and_leaves_nothing() {
    let Some(host) = Host::new() else { return };
    let limits = Limits { pids_limit: Some(Limit::At(u64::MAX)), ..Limits::default() };
    let path = format!("{}/a", host.top);
    let error = Group::create(&host.hierarchies, &path, &WANTED, &limits).unwrap_err();
    assert_eq!(error.class(), Class::Invalid);
    let text = error.to_string();
    assert!(
        text.starts_with("apply the pids limit: write \"18446744073709551615\" to /sys/fs/cgroup"),
        "{text}"
    );
    assert!(host.left().is_empty());
    // And one that it takes but does not keep.
    let limits = Limits { memory_limit: Some(Limit::At(Bytes(u64::MAX))), ..Limits::default() };
    let error = Group::create(&host.hierarchies, &path, &WANTED, &limits).unwrap_err();
    assert!(matches!(error, Error::NotApplied { limit: "memory limit", .. }), "{error}");
    assert!(host.left().is_empty());
}

#[test]
fn a_process_joins_by_itself_and_its_forks_are_limited() {
    let Some(host) = Host::new() else { return };
    let group = host.create("a", &Limits { pids_limit: Some(Limit::At(1)), ..Limits::default() });
    let mut shell = join(&group, "(exit 0) && exit 3; exit 4");
    let status = shell.wait().unwrap();
    assert_ne!(status.code(), Some(3), "the fork must have failed");
    assert!(!status.success());
    group.remove(soon()).unwrap();
}

#[test]
fn a_process_over_the_memory_limit_is_killed_and_counted() {
    let Some(host) = Host::new() else { return };
    let limits = Limits { memory_limit: Some(Limit::At(Bytes(16 << 20))), ..Limits::default() };
    let group = host.create("a", &limits);
    // One endless line, which tail keeps whole.
    let mut shell = join(&group, "exec tail -n 1 /dev/zero");
    assert_eq!(shell.wait().unwrap().signal(), Some(KILLED));
    let usage = group.usage();
    assert_eq!(usage.oom_kills, Some(1));
    assert!(usage.memory_limit_hits > Some(0));
    let sample = Group::sample(&host.hierarchies, group.path()).unwrap();
    assert_eq!(sample.applied.memory_limit, limits.memory_limit);
    assert!(usage.memory_peak <= Some(Bytes(16 << 20)) && usage.memory_peak > Some(Bytes(8 << 20)));
    group.remove(soon()).unwrap();
}

#[test]
fn everybody_is_killed_also_in_groups_below_and_the_groups_go() {
    let Some(host) = Host::new() else { return };
    let group = host.create("a", &Limits::default());
    let inner = host.create("a/x", &Limits::default());
    let deepest = host.create("a/x/y", &Limits::default());
    let mut children: Vec<Child> =
        [&group, &inner, &deepest, &deepest].map(|group| join(group, "exec sleep 1000")).into();
    wait_for_members(&group, 4);
    assert_eq!(Group::sample(&host.hierarchies, group.path()).unwrap().processes, Some(4));
    let error = group.remove(Instant::now()).unwrap_err();
    match &error {
        Error::Busy { pids, .. } => assert_eq!(pids.len(), 4),
        other => panic!("{other}"),
    }
    assert_eq!(error.class(), Class::Conflict);
    group.kill_all(soon()).unwrap();
    for child in &mut children {
        assert_eq!(child.wait().unwrap().signal(), Some(KILLED));
    }
    group.remove(soon()).unwrap();
    assert!(host.left().is_empty());
    group.kill_all(soon()).unwrap();
}

#[test]
fn a_process_that_forks_all_the_time_does_not_outrun_the_kill() {
    let Some(host) = Host::new() else { return };
    let group = host.create("a", &Limits { pids_limit: Some(Limit::At(60)), ..Limits::default() });
    // Each child forks another and ends: the pids are new at every look.
    let mut bombs: Vec<Child> =
        (0..3).map(|_| join(&group, "f() { while :; do (f) & sleep 0.01; done; }; f")).collect();
    let deadline = soon();
    while group.usage().pids < Some(20) {
        assert!(Instant::now() < deadline, "{:?}", group.usage());
        std::thread::yield_now();
    }
    group.kill_all(soon()).unwrap();
    assert!(group.processes().unwrap().is_empty());
    for bomb in &mut bombs {
        bomb.wait().unwrap();
    }
    group.remove(soon()).unwrap();
}

#[test]
fn two_creators_of_one_path_get_one_group_and_one_conflict() {
    let Some(host) = Host::new() else { return };
    let group = host.create("a", &Limits::default());
    let path = group.path().to_owned();
    let error = Group::create(&host.hierarchies, &path, &WANTED, &Limits::default()).unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(group.exists(), "the loser removes nothing of the winner's");
    let found = Group::open(&host.hierarchies, &path).unwrap();
    found.remove(soon()).unwrap();
    assert!(!group.exists());
}

#[test]
fn only_listed_devices_can_be_opened() {
    let Some(host) = Host::new() else { return };
    if host.hierarchies.version_of(Controller::Devices).is_none() {
        println!("skipped: this host can not limit devices");
        return;
    }
    // Everything on the list but /dev/zero.
    let rules = devices::DEFAULT.into_iter().filter(|rule| (rule.major, rule.minor) != (Some(1), Some(5)));
    let limits = Limits { devices: Some(rules.collect()), ..Limits::default() };
    let path = format!("{}/a", host.top);
    let group = Group::create(&host.hierarchies, &path, &[], &limits).unwrap();
    if host.hierarchies.version_of(Controller::Devices) == Some(Version::V1) {
        assert_eq!(group.limits_applied().devices.map(|lines| lines.len()), Some(devices::DEFAULT.len() - 1));
    }
    let mut shell = join(&group, "(: </dev/null) || exit 3; (: </dev/zero) && exit 4; exit 0");
    assert_eq!(shell.wait().unwrap().code(), Some(0));
    group.remove(soon()).unwrap();
}

#[test]
fn descriptors_for_joining_are_not_inherited_by_accident() {
    let Some(host) = Host::new() else { return };
    let group = host.create("a", &Limits::default());
    for fd in group.join_fds().unwrap() {
        let flags = rustix::io::fcntl_getfd(fd.as_fd()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
    group.remove(soon()).unwrap();
}

#[test]
fn a_frozen_group_stands_still_goes_on_and_ends_when_it_is_killed() {
    let Some(host) = Host::new() else { return };
    if host.hierarchies.version_of(Controller::Freezer).is_none() {
        return println!("skipped: this host has no freezer");
    }
    let wanted = [Controller::Memory, Controller::Pids, Controller::Freezer];
    let path = format!("{}/frozen", host.top);
    let group = Group::create(&host.hierarchies, &path, &wanted, &Limits::default()).unwrap();
    assert_eq!(group.is_frozen(), Some(false));
    let mut child = join(&group, "while :; do :; done");
    wait_for_members(&group, 1);
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        // The 14th word is its time in user space, proc_pid_stat(5); the 12th after its name.
        stat.rsplit(") ").next().unwrap().split(' ').nth(11).unwrap().parse::<u64>().unwrap()
    };
    for _ in 0..2 {
        group.freeze(soon()).unwrap();
        group.freeze(soon()).unwrap();
        assert_eq!(group.is_frozen(), Some(true));
        let before = ticks();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(ticks(), before);
        group.thaw().unwrap();
        group.thaw().unwrap();
        let deadline = soon();
        while ticks() == before {
            assert!(Instant::now() < deadline, "it does not go on");
        }
    }
    group.freeze(soon()).unwrap();
    group.kill_all(soon()).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(KILLED));
    group.remove(soon()).unwrap();
}

#[test]
fn a_killed_process_is_taken_out_of_a_group_that_stays_frozen() {
    let Some(host) = Host::new() else { return };
    if host.hierarchies.version_of(Controller::Freezer).is_none() {
        return println!("skipped: this host has no freezer");
    }
    let create = |id: &str| {
        let path = format!("{}/{id}", host.top);
        Group::create(&host.hierarchies, &path, &[Controller::Pids, Controller::Freezer], &Limits::default())
            .unwrap()
    };
    let (group, other) = (create("frozen"), create("other"));
    let mut child = join(&group, "exec sleep 100");
    wait_for_members(&group, 1);
    group.freeze(soon()).unwrap();
    child.kill().unwrap();
    other.take_killed(child.id() as i32).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(KILLED));
    other.take_killed(child.id() as i32).unwrap();
    assert_eq!(group.is_frozen(), Some(true));
    group.remove(soon()).unwrap();
    other.remove(soon()).unwrap();
}

#[test]
fn a_group_without_the_freezer_says_what_it_lacks() {
    let Some(host) = Host::new() else { return };
    let group = host.create("plain", &Limits::default());
    if host.hierarchies.mode() == Mode::V2 {
        return println!("skipped: on v2 every group can be frozen");
    }
    assert_eq!(group.is_frozen(), None);
    let error = group.freeze(soon()).unwrap_err();
    assert_eq!(error.class(), Class::Unsupported);
    assert!(error.to_string().contains("pause"), "{error}");
}
