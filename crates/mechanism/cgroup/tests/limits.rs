// SPDX-License-Identifier: Apache-2.0
//! Limits on this host's own hierarchies, whichever version they are: in force, told of, changed, put back.

#![expect(clippy::unwrap_used, reason = "in tests, helpers included")]

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use berth_cgroup::controller::devices;
use berth_cgroup::{
    Access, Bell, Bytes, Controller, Device, DeviceKind, DeviceRule, Error, Group, Hierarchies, IoLimit,
    Limit, Limits, MilliCpu, Mode, Rings, Version, Way, Ways,
};
use berth_model::Class;
use berth_sys::probe::{Sleeper, UserNamespace};
use berth_sys::process::Namespaces;
use rustix::event::{PollFd, PollFlags, Timespec};

mod common;

use common::{Host, join, soon, wait_for_members};

const MB: u64 = 1 << 20;

impl Host {
    /// The host's v2 hierarchy alone, also where v1 has the controllers.
    fn unified() -> Option<Host> {
        let mut host = Host::new()?;
        if host.hierarchies.mode() == Mode::V1 {
            println!("skipped: no cgroup2 is mounted");
            return None;
        }
        if host.hierarchies.mode() == Mode::Hybrid {
            host.hierarchies = Hierarchies::probe(Path::new("/sys/fs/cgroup/unified")).unwrap();
        }
        Some(host)
    }

    fn with(&self, id: &str, wanted: &[Controller], limits: &Limits) -> Group {
        Group::create(&self.hierarchies, &format!("{}/{id}", self.top), wanted, limits).unwrap()
    }

    fn has(&self, controller: Controller) -> bool {
        let has = self.hierarchies.version_of(controller).is_some();
        if !has {
            println!("skipped: this host has no cgroup controller {controller}");
        }
        has
    }
}

fn memory(bytes: u64) -> Limits {
    Limits { memory_limit: Some(Limit::At(Bytes(bytes))), ..Limits::default() }
}

const ZERO: DeviceRule = DeviceRule {
    kind: DeviceKind::Char,
    major: Some(1),
    minor: Some(5),
    access: Access { read: true, write: true, mknod: true },
};
const NULL: DeviceRule = DeviceRule { minor: Some(3), ..ZERO };

/// In the words of a shell: whether /dev/null and /dev/zero can be opened.
const TRY: &str = "(: </dev/null) 2>&- && echo null; (: </dev/zero) 2>&- && echo zero; exit 0";

fn opens(group: &Group) -> String {
    let output = join(group, TRY).wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_program_limits_devices_on_v2_and_another_takes_its_place() {
    let Some(host) = Host::unified() else { return };
    let list = |rules: &[DeviceRule]| Limits { devices: Some(rules.to_vec()), ..Limits::default() };
    for ways in [Ways::default(), Ways::default().without(Way::BpfReplace)] {
        let hierarchies = host.hierarchies.clone().with_ways(ways);
        let path = format!("{}/devices", host.top);
        let mut group = Group::create(&hierarchies, &path, &[], &list(&[NULL])).unwrap();
        assert_eq!(opens(&group), "null\n", "{ways:?}");
        let before = group.limits_applied().devices.unwrap();
        assert_eq!(before.len(), 1, "{before:?}");
        // The shell needs none of them for itself.
        group.update(&list(&[ZERO])).unwrap();
        assert_eq!(opens(&group), "zero\n", "{ways:?}");
        group.update(&list(&[NULL, ZERO])).unwrap();
        assert_eq!(opens(&group), "null\nzero\n", "{ways:?}");
        let after = group.limits_applied().devices.unwrap();
        assert!(after.len() == 1 && after != before, "one program in the place of another: {after:?}");
        group.update(&list(&devices::DEFAULT)).unwrap();
        group.remove(soon()).unwrap();
    }
}

#[test]
fn a_device_list_changes_without_a_moment_in_which_what_stays_is_denied() {
    let Some(host) = Host::new() else { return };
    if !host.has(Controller::Devices) {
        return;
    }
    let list = |rules: &[DeviceRule]| Limits { devices: Some(rules.to_vec()), ..Limits::default() };
    let mut group = host.with("a", &[Controller::Pids], &list(&[NULL, ZERO]));
    let mut shell = join(&group, "while (: </dev/null) 2>&-; do :; done; exit 7");
    for _ in 0..50 {
        group.update(&list(&[NULL])).unwrap();
        group.update(&list(&[NULL, ZERO])).unwrap();
    }
    assert_eq!(shell.try_wait().unwrap(), None, "it could not open /dev/null for a moment");
    group.update(&list(&[ZERO])).unwrap();
    assert_eq!(shell.wait().unwrap().code(), Some(7));
    group.remove(soon()).unwrap();
}

/// Waits for one of the bells, and says what it rings for.
fn rung(bells: &[Bell]) -> Option<Rings> {
    let flags = |bell: &Bell| if bell.urgent { PollFlags::PRI } else { PollFlags::IN };
    let mut polled: Vec<_> = bells.iter().map(|bell| PollFd::new(&bell.fd, flags(bell))).collect();
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&second)).unwrap();
    let at = polled.iter().position(|polled| !polled.revents().is_empty())?;
    berth_cgroup::silence(&bells[at].fd);
    Some(bells[at].rings)
}

#[test]
fn what_is_killed_for_lack_of_memory_is_told_of() {
    let Some(host) = Host::new() else { return };
    let limits = Limits { swap_limit: Some(Limit::At(Bytes(0))), ..memory(16 * MB) };
    let (group, other) = (host.create("a", &limits), host.create("b", &limits));
    let (bells, quiet) = (group.bells().unwrap(), other.bells().unwrap());
    let mut pressure = group.pressure().unwrap();
    assert_eq!(rung(&bells), None);
    // A child of the one that goes on.
    let mut shell = join(&group, "tail -n 1 /dev/zero; exec sleep 1000");
    let limit = soon();
    let mut rings = 0;
    while group.met().oom_kills == 0 || rings == 0 {
        match rung(&bells) {
            Some(Rings::OutOfMemory | Rings::Memory) => rings += 1,
            other => assert_eq!(other, None),
        }
        assert!(std::time::Instant::now() < limit, "rung {rings} times: {:?}", group.met());
    }
    assert_eq!((other.met().oom_kills, rung(&quiet)), (0, None));
    assert_eq!(shell.try_wait().unwrap(), None, "only one of them was killed");
    if let Some(pressure) = &mut pressure {
        let counted = pressure.read();
        assert!(counted.iter().any(|count| *count > 0), "{counted:?}");
        assert!(pressure.read() >= counted, "they only grow");
    }
    group.kill_all(soon()).unwrap();
    shell.wait().unwrap();
    group.remove(soon()).unwrap();
}

#[test]
fn a_fork_that_is_refused_is_told_of() {
    let Some(host) = Host::new() else { return };
    let group = host.create("a", &Limits { pids_limit: Some(Limit::At(2)), ..Limits::default() });
    let bells = group.bells().unwrap();
    let mut shell = join(&group, "(sleep 0.1; (:)) 2>&-; exit 0");
    shell.wait().unwrap();
    assert!(group.met().pids > 0);
    assert_eq!(group.usage().pids_limit_hits, Some(group.met().pids));
    match rung(&bells) {
        None if host.hierarchies.version_of(Controller::Pids) == Some(Version::V1) => {
            println!("skipped: this kernel does not tell of pids.events on v1");
        }
        told => assert_eq!(told, Some(Rings::Pids)),
    }
    group.remove(soon()).unwrap();
}

#[test]
fn the_wish_for_a_group_kill_stays_with_the_group() {
    let Some(host) = Host::new() else { return };
    let wish = |group| Limits { oom_group: Some(group), ..memory(64 * MB) };
    let group = host.create("a", &wish(true));
    let mut again = Group::open(&host.hierarchies, group.path()).unwrap();
    assert_eq!(again.limits_applied().oom_group, Some(true));
    again.update(&wish(false)).unwrap();
    assert_eq!(group.limits_applied().oom_group, Some(false));
    let without = host.create("b", &memory(64 * MB));
    assert_eq!(without.limits_applied().oom_group, Some(false));
    group.remove(soon()).unwrap();
    without.remove(soon()).unwrap();
}

#[test]
fn a_memory_limit_below_what_is_in_use_is_refused_and_changes_nothing() {
    let Some(host) = Host::new() else { return };
    let mut group = host.create("a", &Limits { cpu_request: Some(MilliCpu(500)), ..memory(64 * MB) });
    // The last "line" is kept in memory.
    let mut shell = join(&group, "(head -c 40000000 /dev/zero; sleep 1000) | tail -n 1");
    let limit = soon();
    while group.usage().memory_anonymous.unwrap_or(Bytes(0)) < Bytes(38 * MB) {
        assert!(std::time::Instant::now() < limit, "{:?}", group.usage());
        std::thread::sleep(Duration::from_millis(5));
    }
    let before = group.limits_applied();
    let error = group.update(&Limits { cpu_request: Some(MilliCpu(2000)), ..memory(24 * MB) }).unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(error.to_string().contains("MB anonymous"), "{error}");
    assert_eq!(group.limits_applied(), before);
    assert_eq!(group.met().oom_kills, 0);
    group.update(&memory(48 * MB)).unwrap();
    assert_eq!(group.limits_applied().memory_limit, Some(Limit::At(Bytes(48 * MB))));
    group.kill_all(soon()).unwrap();
    shell.wait().unwrap();
    group.remove(soon()).unwrap();
}

#[test]
fn a_memory_limit_below_the_page_cache_drops_it_by_each_way() {
    let Some(host) = Host::new() else { return };
    let file = std::env::temp_dir().join(format!("{}-cache", host.top));
    fs::write(&file, vec![1; 40 << 20]).unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    for (id, ways) in [("a", Ways::default()), ("b", Ways::default().without(Way::Reclaim))] {
        let hierarchies = host.hierarchies.clone().with_ways(ways);
        let path = format!("{}/{id}", host.top);
        let mut group = Group::create(&hierarchies, &path, &common::WANTED, &memory(64 * MB)).unwrap();
        // What is in the page cache already belongs to whoever read it first.
        let read = fs::File::open(&file).unwrap();
        rustix::fs::fadvise(&read, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let mut shell = join(&group, &format!("cat {} | tail -c 1 >&-; exec sleep 1000", file.display()));
        let limit = soon();
        while group.usage().memory_file.unwrap_or(Bytes(0)) < Bytes(20 * MB) {
            assert!(std::time::Instant::now() < limit, "{:?}", group.usage());
            std::thread::sleep(Duration::from_millis(5));
        }
        group.update(&memory(16 * MB)).unwrap_or_else(|error| panic!("{ways:?}: {error}"));
        assert_eq!(group.limits_applied().memory_limit, Some(Limit::At(Bytes(16 * MB))));
        assert!(group.usage().memory.unwrap() <= Bytes(16 * MB));
        assert_eq!(group.met().oom_kills, 0);
        assert_eq!(shell.try_wait().unwrap(), None);
        group.kill_all(soon()).unwrap();
        shell.wait().unwrap();
        group.remove(soon()).unwrap();
    }
    fs::remove_file(&file).unwrap();
}

#[test]
fn processors_are_those_of_the_list_and_others_are_refused() {
    let Some(host) = Host::new() else { return };
    if !host.has(Controller::Cpuset) {
        return;
    }
    let on = |list: &str| Limits { cpuset_cpus: Some(list.parse().unwrap()), ..Limits::default() };
    let mut group = host.with("a", &[], &on("0"));
    let allowed = |group: &Group| {
        let output = join(group, "grep Cpus_allowed_list /proc/self/status").wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(allowed(&group), "0");
    let error = group.update(&on("0,4000")).unwrap_err();
    assert!(error.to_string().contains("list of processors"), "{error}");
    assert_eq!(group.limits_applied().cpuset_cpus, on("0").cpuset_cpus);
    let missing = Group::create(&host.hierarchies, &format!("{}/b", host.top), &[], &on("4000")).unwrap_err();
    assert!(missing.to_string().contains("list of processors"), "{missing}");
    assert_eq!(host.left(), ["a"]);
    group.remove(soon()).unwrap();
}

#[test]
fn a_limit_that_comes_later_takes_the_whole_group_to_its_hierarchy() {
    let Some(host) = Host::new() else { return };
    if !host.has(Controller::Cpuset) {
        return;
    }
    let group = host.create("a", &Limits::default());
    let mut shells: Vec<_> = (0..2).map(|_| join(&group, "sleep 1000 & sleep 1000")).collect();
    wait_for_members(&group, 6);
    let mut group = Group::open(&host.hierarchies, group.path()).unwrap();
    let list = |text: &str| Limits { cpuset_cpus: Some(text.parse().unwrap()), ..Limits::default() };
    let refused = group.update(&list("4000")).unwrap_err();
    assert!(refused.to_string().contains("list of processors"), "{refused}");
    group.update(&list("0")).unwrap();
    for pid in group.processes().unwrap() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    }
    group.update(&Limits { cpuset_cpus: Some("".parse().unwrap()), ..Limits::default() }).unwrap();
    group.kill_all(soon()).unwrap();
    for shell in &mut shells {
        shell.wait().unwrap();
    }
    group.remove(soon()).unwrap();
}

/// A disk that can be limited.
fn disk() -> Option<Device> {
    let entries = fs::read_dir("/sys/block").ok()?.flatten();
    let real = |name: &str| ["vd", "sd", "nvme", "xvd"].iter().any(|prefix| name.starts_with(prefix));
    let mut disks: Vec<_> = entries
        .filter(|entry| real(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    disks.sort();
    let text = fs::read_to_string(disks.first()?.join("dev")).ok()?;
    let (major, minor) = text.trim_end().split_once(':')?;
    Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[test]
fn a_disk_is_limited_more_less_and_no_more() {
    let Some(host) = Host::new() else { return };
    let (true, Some(disk)) = (host.has(Controller::Io), disk()) else { return };
    let at = |read, write| Limits {
        io: vec![IoLimit { read_bytes: read, write_operations: write, ..IoLimit::of(disk) }],
        ..Limits::default()
    };
    let mut group = host.with("a", &[], &at(Some(Limit::At(MB)), Some(Limit::At(100))));
    let shows = |group: &Group, words: &[&str]| {
        let lines = group.limits_applied().io.join(" ");
        assert!(words.iter().all(|word| lines.contains(word)), "{words:?} in {lines}");
    };
    shows(&group, &["rbps=1048576", "wiops=100"]);
    group.update(&at(Some(Limit::At(4 * MB)), None)).unwrap();
    shows(&group, &["rbps=4194304", "wiops=100"]);
    group.update(&at(Some(Limit::Infinite), Some(Limit::Infinite))).unwrap();
    assert_eq!(group.limits_applied().io, [""; 0]);
    let none = Device { major: 4000, minor: 9 };
    let wrong = Limits {
        io: vec![IoLimit { read_bytes: Some(Limit::At(MB)), ..IoLimit::of(none) }],
        ..Limits::default()
    };
    let error = group.update(&wrong).unwrap_err();
    assert!(error.to_string().contains("no such disk"), "{error}");
    group.remove(soon()).unwrap();
}

#[test]
fn a_weight_that_no_disk_heeds_is_refused() {
    let Some(host) = Host::new() else { return };
    if !host.has(Controller::Io) {
        return;
    }
    let heeded = fs::read_dir("/sys/block").unwrap().flatten().any(|disk| {
        fs::read_to_string(disk.path().join("queue/scheduler")).is_ok_and(|text| text.contains("[bfq]"))
    });
    let limits = Limits { io_weight: Some(200), ..Limits::default() };
    match Group::create(&host.hierarchies, &format!("{}/a", host.top), &[], &limits) {
        Ok(group) => {
            assert_eq!(group.limits_applied().io_weight, Some(200));
            group.remove(soon()).unwrap();
        }
        Err(error) => {
            assert!(!heeded, "{error}");
            assert!(matches!(error, Error::Inexpressible { limit: "disk weight", .. }), "{error}");
            assert_eq!(host.left(), [""; 0]);
        }
    }
}

#[test]
fn a_process_is_born_in_a_group_of_v2_or_not_where_that_is_switched_off() {
    let Some(host) = Host::unified() else { return };
    let group = host.with("a", &[], &Limits::default());
    let place = group.birth_place().unwrap().unwrap();
    let child = Sleeper::start(Namespaces::default(), UserNamespace::Shared, Some(place.as_fd())).unwrap();
    wait_for_members(&group, 1);
    assert_eq!(group.processes().unwrap(), [child.pid() as u32]);
    // What its pidfd tells afterwards, if anything, is another question.
    drop(child);
    group.remove(soon()).unwrap();
    host.hierarchies.prune(&host.top).unwrap();
    let hierarchies = host.hierarchies.clone().with_ways(Ways::default().without(Way::CloneInto));
    let group = Group::create(&hierarchies, &format!("{}/a", host.top), &[], &Limits::default()).unwrap();
    assert!(group.birth_place().unwrap().is_none());
    group.remove(soon()).unwrap();
}

#[test]
fn a_group_of_v2_is_killed_by_each_way_also_when_it_is_frozen() {
    let Some(host) = Host::unified() else { return };
    for (ways, frozen) in [
        (Ways::default(), false),
        (Ways::default(), true),
        (Ways::default().without(Way::Kill), false),
        (Ways::default().without(Way::Kill), true),
    ] {
        let hierarchies = host.hierarchies.clone().with_ways(ways);
        let group = Group::create(&hierarchies, &format!("{}/a", host.top), &[], &Limits::default()).unwrap();
        let mut shells: Vec<_> = (0..3).map(|_| join(&group, "sleep 1000 & sleep 1000")).collect();
        wait_for_members(&group, 9);
        if frozen {
            group.freeze(soon()).unwrap();
            assert_eq!(group.is_frozen(), Some(true));
        }
        group.kill_all(soon()).unwrap();
        for shell in &mut shells {
            shell.wait().unwrap();
        }
        group.remove(soon()).unwrap();
    }
}

#[test]
fn a_group_that_was_left_frozen_in_the_middle_of_its_end_is_ended_by_the_next() {
    let Some(host) = Host::new() else { return };
    if !host.has(Controller::Freezer) {
        return;
    }
    // Without pids the members are frozen before they are signalled; whoever did that was killed right then.
    let wanted = [Controller::Cpu, Controller::Freezer];
    let group = host.with("a", &wanted, &Limits::default());
    let mut shells: Vec<_> =
        (0..3).map(|_| join(&group, "f() { while :; do (f) & sleep 0.05; done; }; f")).collect();
    wait_for_members_at_least(&group, 6);
    group.freeze(soon()).unwrap();
    for pid in group.processes().unwrap() {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    drop(group);
    let group = Group::open(&host.hierarchies, &format!("{}/a", host.top)).unwrap();
    group.kill_all(soon()).unwrap();
    for shell in &mut shells {
        shell.wait().unwrap();
    }
    group.remove(soon()).unwrap();
}

fn wait_for_members_at_least(group: &Group, count: usize) {
    let limit = soon();
    while group.processes().unwrap().len() < count {
        assert!(std::time::Instant::now() < limit);
        std::thread::sleep(Duration::from_millis(2));
    }
}
