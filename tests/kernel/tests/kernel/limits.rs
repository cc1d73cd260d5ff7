// SPDX-License-Identifier: Apache-2.0
//! Limits that hold, as a program in the container feels them: of processors, memory, processes, disks, devices.
//!
//! Each has a short form for every day and a long one, with `BERTH_LIMITS=long`. What is measured is told with the test's
//! output, also when it is good.

use crate::inside::status;
use berth_test_kernel::{Ground, Running, ground, skip};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

const PROBE: &str = env!("CARGO_BIN_EXE_berth-probe");
/// So heavy that nobody else on the machine takes the processors away.
pub(crate) const HEAVY: [&str; 2] = ["--cpu-shares", "262144"];

pub(crate) fn long() -> bool {
    std::env::var_os("BERTH_LIMITS").is_some_and(|form| form == "long")
}

/// An emulated machine is slow, and what is measured there is mostly the emulation: `BERTH_TEST_SLOW`, if it is set.
fn slow() -> u64 {
    std::env::var("BERTH_TEST_SLOW").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// For who measures processors: one after the other, since they would take them from each other, whatever weight each has
/// below a group of its own.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The two numbers that a probe prints.
fn numbers(text: &str) -> (f64, f64) {
    let mut words = text.split_whitespace().map(|word| word.parse::<f64>());
    match (words.next(), words.next()) {
        (Some(Ok(one)), Some(Ok(two))) => (one, two),
        _ => panic!("no two numbers: {text:?}"),
    }
}

/// How often something is measured, until it is what was wanted. What else this machine does takes from a measurement
/// and adds nothing: more than wanted is wrong each time, and less is only if it is so every time.
fn tries() -> usize {
    if long() { 1 } else { 5 }
}

/// What it measures is `wanted`, give or take that part of it.
#[track_caller]
fn within(what: &str, wanted: f64, part: f64, mut measure: impl FnMut() -> f64) {
    // Less than that may be all that an emulated machine gets of the real one; more may never be.
    let least = if slow() > 1 { wanted / 2.0 } else { wanted * (1.0 - part) };
    for last in (0..tries()).rev() {
        let found = measure();
        println!("{what}: {found:.3}, wanted {wanted:.3} within {:.0} %", part * 100.0);
        assert!(
            found <= wanted * (1.0 + part),
            "{what}: {found:.3} is more than {wanted:.3} and {part} of it"
        );
        if found >= least {
            return;
        }
        assert!(last > 0, "{what}: {found:.3} is less than {wanted:.3} without {part} of it, each time");
    }
}

/// One is `wanted` times the other, give or take that part of it. What else the machine does moves it to either side.
#[track_caller]
pub(crate) fn in_ratio(what: &str, wanted: f64, part: f64, mut measure: impl FnMut() -> f64) {
    let mut near = |_| {
        let found = measure();
        println!("{what}: {found:.3}, wanted {wanted:.3} within {:.0} %", part * 100.0);
        (found - wanted).abs() <= wanted * part
    };
    assert!((0..tries()).any(&mut near), "{what}: never {wanted:.3} within {part}");
}

/// Prints, behind a command, how often the limit held the container back.
pub(crate) const HELD_BACK: &str = "; cat $(find /sys/fs/cgroup -name cpu.stat | head -n 1)";

/// What a container got of a processor, and in which part of its periods the limit held it back.
pub(crate) struct Got {
    pub(crate) used: f64,
    held_back: f64,
}

impl Got {
    /// `stat` is its `cpu.stat`, among other lines. On cgroup v2 a container is in a group below the one with its limit,
    /// which it does not see: there the limit has to answer for everything.
    pub(crate) fn new(used: f64, stat: &str) -> Got {
        let number = |name: &str| -> Option<f64> {
            stat.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
        };
        let part = |throttled| Some(throttled / number("nr_periods ")?.max(1.0));
        Got { used, held_back: number("nr_throttled ").and_then(part).unwrap_or(1.0) }
    }
}

/// A container gets its limit and no more. If it never gets all of that, then it was not the limit that held it back, but
/// others on this machine.
#[track_caller]
pub(crate) fn all_of(what: &str, wanted: f64, part: f64, mut measure: impl FnMut() -> Got) {
    let least = if slow() > 1 { wanted / 2.0 } else { wanted * (1.0 - part) };
    for last in (0..tries()).rev() {
        let Got { used, held_back } = measure();
        println!(
            "{what}: {used:.3}, wanted {wanted:.3} within {:.0} %; held back in {held_back:.2}",
            part * 100.0
        );
        assert!(used <= wanted * (1.0 + part), "{what}: {used:.3} is more than {wanted:.3} and {part} of it");
        if used >= least {
            return;
        }
        let starved = !long() && held_back < 0.8;
        assert!(
            last > 0 || starved,
            "{what}: {used:.3}, and its limit held it back in {held_back:.2} of the time"
        );
    }
}

/// The probe, burning from `begin` on for `lasts` milliseconds.
fn burn(ground: &Ground, options: &[&str], begin: u64, lasts: u64, threads: &str) -> Running {
    ground.start(options, &format!("probe burn {begin} {} {threads}{HELD_BACK}", begin + lasts))
}

#[test]
fn a_container_gets_no_more_processor_time_than_its_limit_and_all_of_that() {
    let ground = ground!();
    ground.install_probe(PROBE);
    // The clock of an emulated machine goes on while its processors wait for the real one's.
    let part = if slow() > 1 { 2.0 } else { 1.0 } * if long() { 0.05 } else { 0.08 };
    let lasts = if long() { 5000 } else { 2000 };
    let _alone = alone();
    for cpus in ["0.3", "0.7"] {
        let options = [&HEAVY[..], &["--cpus", cpus]].concat();
        all_of(&format!("--cpus {cpus}"), cpus.parse().unwrap(), part, || {
            let end = burn(&ground, &options, now() + 500 * slow(), lasts, "2").end();
            let (used, wall) = numbers(end.good());
            Got::new(used / wall, &end.stdout)
        });
    }
}

#[test]
fn under_contention_processor_time_goes_by_weight() {
    let ground = ground!().accustomed_to(&["--cpuset-cpus", "0"]);
    ground.install_probe(PROBE);
    let lasts = if long() { 10_000 } else { 3000 };
    let _alone = alone();
    in_ratio("2048 to 1024", 2.0, if slow() > 1 { 0.25 } else { 0.10 }, || {
        let begin = now() + 1000 * slow();
        let one = |shares: &'static str| {
            burn(&ground, &["--cpuset-cpus", "0", "--cpu-shares", shares], begin, lasts, "1")
        };
        let (heavy, light) = (one("2048"), one("1024"));
        numbers(heavy.end().good()).0 / numbers(light.end().good()).0
    });
}

#[test]
fn a_container_runs_on_the_processors_of_its_list() {
    let ground = ground!().accustomed_to(&["--cpuset-cpus", "0"]);
    for list in ["0", "1", "0-1"] {
        if !Path::new("/sys/devices/system/cpu/cpu1").exists() && list != "0" {
            return skip("a_container_runs_on_the_processors_of_its_list", "a second processor");
        }
        let seen = status(&ground, &["--cpuset-cpus", list, "--cpuset-mems", "0"]);
        assert_eq!(seen["Cpus_allowed_list"], list);
    }
    let refused = ground.run(&["--cpuset-cpus", "0,4000"], &["true"]);
    assert_eq!(refused.code, Some(125), "{refused:?}");
    assert!(refused.stderr.contains("list of processors"), "{refused:?}");
}

#[test]
fn memory_ends_at_the_limit() {
    let ground = ground!();
    ground.install_probe(PROBE);
    let options = ["--memory", "32m", "--memory-swap", "32m"];
    assert_eq!(ground.run(&options, &["probe", "eat", "20"]).good(), "20 MB\n");
    let killed = ground.run(&options, &["probe", "eat", "64"]);
    assert_eq!((killed.code, killed.stdout.as_str()), (Some(137), ""), "{killed:?}");
    assert!(
        killed.stderr.contains("Memory limit exceeded: Requested: 32MB Maximum Used: 32MB"),
        "{killed:?}"
    );
    // One of several is killed, and the others go on; or all of them end.
    let script = "probe eat 64 & wait $!; echo child $?";
    let one = ground.sh(&options, script);
    assert_eq!((one.code, one.stdout.as_str()), (Some(0), "child 137\n"), "{one:?}");
    let together = [&options[..], &["--oom-group"]].concat();
    let killed = ground.sh(&together, &format!("{script}; sleep 20"));
    assert_eq!(killed.code, Some(137), "{killed:?}");
}

#[test]
fn the_fifty_first_process_is_refused() {
    let ground = ground!();
    ground.install_probe(PROBE);
    // The probe is the first. EAGAIN is what fork(2) says.
    assert_eq!(ground.run(&["--pids-limit", "50"], &["probe", "forks", "60"]).good(), "49 11\n");
    assert_eq!(ground.run(&["--pids-limit", "50"], &["probe", "forks", "49"]).good(), "49 none\n");
}

/// A whole disk that can be limited, what to read and write of it, and the options for that.
struct Disk {
    name: String,
    inside: &'static str,
    options: Vec<String>,
}

/// `BERTH_TEST_DISK`, which may be written to; or a file on the disk that the ground is on.
fn disk(ground: &Ground) -> Option<Disk> {
    if let Some(disk) = std::env::var("BERTH_TEST_DISK").ok().filter(|disk| Path::new(disk).exists()) {
        let options = vec!["--device".to_owned(), format!("{disk}:/dev/disk:rw")];
        return Some(Disk { name: disk, inside: "/dev/disk", options });
    }
    let device = ground.root().metadata().unwrap().dev();
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    let mut block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    if block.join("partition").exists() {
        block.pop();
    }
    // Not one that is made of others, whose requests are theirs.
    let is_whole = fs::read_dir(block.join("slaves")).is_ok_and(|mut slaves| slaves.next().is_none());
    let name = format!("/dev/{}", block.file_name()?.to_str()?);
    if !is_whole || !Path::new(&name).exists() {
        return None;
    }
    let volume = ground.directory("io");
    fs::write(volume.join("file"), vec![1; 40 << 20]).unwrap();
    fs::File::open(volume.join("file")).unwrap().sync_all().unwrap();
    Some(Disk {
        name,
        inside: "/io/file",
        options: vec!["-v".to_owned(), format!("{}:/io", volume.display())],
    })
}

#[test]
fn reading_and_writing_a_disk_is_no_faster_than_its_limit() {
    let ground = ground!();
    let Some(disk) = disk(&ground) else {
        return skip("reading_and_writing_a_disk_is_no_faster_than_its_limit", "a whole disk");
    };
    let ground = ground.accustomed_to(&["--device-read-bps", &format!("{}:1gb", disk.name)]);
    ground.install_probe(PROBE);
    let milliseconds = if long() { "8000" } else { "2500" };
    let measure = |option: &str, rate: &str, word: &str| {
        let limit = format!("{}:{rate}", disk.name);
        let mut options: Vec<&str> = disk.options.iter().map(String::as_str).collect();
        options.extend([option, &limit]);
        let (bytes, time) = numbers(ground.run(&options, &["probe", word, disk.inside, milliseconds]).good());
        bytes * 1000.0 / time
    };
    for (option, word) in [("--device-read-bps", "read"), ("--device-write-bps", "write")] {
        within(&format!("{option} 4mb"), f64::from(4 << 20), 0.15, || measure(option, "4mb", word));
    }
    // By requests, of 128 KiB each.
    for (option, word) in [("--device-read-iops", "read"), ("--device-write-iops", "write")] {
        let requests = || measure(option, "40", word) / f64::from(128 << 10);
        within(&format!("{option} 40"), 40.0, 0.15, requests);
    }
}

#[test]
fn devices_are_those_that_were_given_and_no_others() {
    let ground = ground!();
    let script = "head -c 1 /dev/x/full | od -An -tx1; (echo > /dev/x/full) 2>/dev/null || echo no writing; \
                  mknod /tmp/mem c 1 1 2>/dev/null; cat /tmp/mem >/dev/null 2>&1 || echo no memory";
    let seen = ground.sh(&["--device", "/dev/full:/dev/x/full:r", "--cap-add", "MKNOD"], script);
    assert_eq!(seen.good(), " 00\nno writing\nno memory\n");
    let node = "stat -c '%F %t:%T' /dev/kmsg";
    let seen = ground.sh(&["--device", "/dev/kmsg"], node);
    assert_eq!(seen.good(), "character special file 1:b\n");
    assert_eq!(ground.sh(&[], node).code, Some(1), "it is not there by itself");
    for (device, said) in
        [("/dev/no-such", "no-such"), ("/etc/passwd", "not a device"), ("/dev/full:/dev/pts/9", "/dev/pts/9")]
    {
        let refused = ground.unchanged(|| ground.run(&["--device", device], &["true"]));
        assert_eq!(refused.code, Some(125), "{refused:?}");
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
}

#[test]
fn what_can_not_be_applied_refuses_the_launch_by_name_and_leaves_nothing() {
    let ground = ground!();
    // The groups above those of containers are made, and stay.
    for options in [&["--device-read-bps", "4000:7:1mb"][..], &["--cpuset-mems", "900"]] {
        let _ = ground.run(options, &["true"]);
    }
    let ground = ground.accustomed_to(&[]);
    for (options, said) in [
        (&["--device-read-bps", "4000:7:1mb"][..], "disk limit"),
        (&["--device-read-bps", "/dev/null:1mb"], "not a disk"),
        (&["--hugetlb", "3MB:6m"], "huge pages"),
        (&["--cpuset-mems", "900"], "memory nodes"),
        (&["--memory", "64m", "--memory-swap", "32m"], "--memory-swap"),
    ] {
        let refused = ground.unchanged(|| ground.run(options, &["true"]));
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(125), ""), "{options:?}: {refused:?}");
        assert!(refused.stderr.contains(said), "{options:?}: {refused:?}");
    }
}

#[test]
fn a_weight_for_disks_is_in_force_or_refused() {
    let ground = ground!();
    let _ = ground.run(&["--blkio-weight", "300"], &["true"]);
    let ground = ground.accustomed_to(&[]);
    let heeded = fs::read_dir("/sys/block").unwrap().flatten().any(|disk| {
        fs::read_to_string(disk.path().join("queue/scheduler")).is_ok_and(|text| text.contains("[bfq]"))
    });
    let run = ground.run(&["--blkio-weight", "300"], &["true"]);
    match heeded {
        true => drop(run.good()),
        false => {
            assert_eq!(run.code, Some(125), "{run:?}");
            assert!(run.stderr.contains("disk weight") && run.stderr.contains("bfq"), "{run:?}");
        }
    }
}

#[test]
fn a_container_can_not_raise_its_own_limits() {
    let ground = ground!();
    // Its groups are read-only to it, also for root with all that berth gives by default; and with all capabilities.
    let script = "for f in $(find /sys/fs/cgroup -name 'memory.max' -o -name 'memory.limit_in_bytes' -o -name pids.max); do \
                  (echo 99999999999 > $f) 2>/dev/null && echo written $f; done; echo done";
    for options in [&["--memory", "64m"][..], &["--memory", "64m", "--cap-add", "ALL"]] {
        assert_eq!(ground.sh(options, script).good(), "done\n", "{options:?}");
    }
}
