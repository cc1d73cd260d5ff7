// SPDX-License-Identifier: Apache-2.0
//! The limits of `limits`, under a program that none of us wrote: stress-ng.

use crate::limits::{Got, HEAVY, HELD_BACK, all_of, alone, in_ratio, long};
use berth_test_kernel::{Ground, Running, ground, skip};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const STRESS: &str = "/usr/bin/stress-ng";

/// Puts it and its libraries into the root file system, or says that this machine has none.
fn install(ground: &Ground, test: &str) -> bool {
    if !Path::new(STRESS).exists() {
        skip(test, "stress-ng");
        return false;
    }
    // What ldd(1) does.
    let listed = Command::new(STRESS).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for file in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = ground.root().join(&file[1..]);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(file, place).unwrap();
    }
    fs::copy(STRESS, ground.root().join("bin/stress-ng")).unwrap();
    // Where the loader looks, wherever they are here.
    fs::create_dir_all(ground.root().join("usr")).unwrap();
    let _ = symlink("../lib", ground.root().join("usr/lib"));
    true
}

/// The processor time of all its processes, as a part of the time that it ran.
fn used(text: &str) -> f64 {
    let number = |line: &str| {
        let mut words =
            line.split_whitespace().filter_map(|word| word.trim_end_matches('s').parse::<f64>().ok());
        words.next_back().unwrap_or_else(|| panic!("no number: {line}"))
    };
    let line = |end: &str| {
        let found = text.lines().find(|line| line.contains(end));
        found.unwrap_or_else(|| panic!("no {end:?}: {text}")).split(end).next().unwrap()
    };
    number(line("s total time")) / number(line("s run time"))
}

fn stress<'a>(more: &[&'a str], seconds: &'a str) -> Vec<&'a str> {
    [&["stress-ng", "--temp-path", "/tmp", "--times", "-t", seconds], more].concat()
}

/// What it says goes to both streams.
fn said(exit: &berth_test_kernel::Exit) -> String {
    assert_eq!(exit.code, Some(0), "{exit:?}");
    format!("{}{}", exit.stdout, exit.stderr)
}

#[test]
fn stress_ng_gets_no_more_processor_time_than_the_limit_and_all_of_that() {
    let ground = ground!();
    if !install(&ground, "stress_ng_gets_no_more_processor_time_than_the_limit_and_all_of_that") {
        return;
    }
    let (seconds, part) = if long() { ("5", 0.05) } else { ("2", 0.08) };
    let _alone = alone();
    for cpus in ["0.3", "0.7"] {
        let options = [&HEAVY[..], &["--cpus", cpus]].concat();
        let script = stress(&["--cpu", "2"], seconds).join(" ") + HELD_BACK;
        all_of(&format!("stress-ng, --cpus {cpus}"), cpus.parse().unwrap(), part, || {
            let said = said(&ground.sh(&options, &script));
            Got::new(used(&said), &said)
        });
    }
}

#[test]
fn two_stress_ngs_share_a_processor_by_weight() {
    let ground = ground!();
    if !install(&ground, "two_stress_ngs_share_a_processor_by_weight") {
        return;
    }
    let ground = ground.accustomed_to(&["--cpuset-cpus", "0"]);
    let seconds = if long() { "10" } else { "4" };
    let _alone = alone();
    let one = |shares| {
        let options = ["--cpuset-cpus", "0", "--cpu-shares", shares];
        Running::start(&mut ground.run_command(&options, &stress(&["--cpu", "1"], seconds)))
    };
    in_ratio("stress-ng, 2 to 1", 2.0, 0.10, || {
        let (heavy, light) = (one("20480"), one("10240"));
        used(&said(&heavy.end())) / used(&said(&light.end()))
    });
}

#[test]
fn the_memory_of_stress_ng_ends_at_the_limit() {
    let ground = ground!();
    if !install(&ground, "the_memory_of_stress_ng_ends_at_the_limit") {
        return;
    }
    let eat = |bytes| stress(&["--vm", "1", "--vm-bytes", bytes, "--vm-keep"], "2");
    let options = ["--memory", "64m", "--memory-swap", "64m", "--oom-group"];
    said(&ground.run(&options, &eat("24m")));
    let killed = ground.run(&options, &eat("128m"));
    assert_eq!(killed.code, Some(137), "{killed:?}");
    assert!(
        killed.stderr.contains("Memory limit exceeded: Requested: 64MB Maximum Used: 64MB"),
        "{killed:?}"
    );
}

#[test]
fn the_processes_of_stress_ng_are_no_more_than_the_limit() {
    let ground = ground!();
    if !install(&ground, "the_processes_of_stress_ng_are_no_more_than_the_limit") {
        return;
    }
    // Read by the shell alone, which needs no process for that.
    let script = "f=$(find /sys/fs/cgroup -name pids.current | head -n 1); \
                  stress-ng --temp-path /tmp --fork 4 --fork-max 64 -t 2 >/dev/null 2>&1 & most=0; \
                  while kill -0 $! 2>/dev/null; do read -r n <$f; [ $n -gt $most ] && most=$n; done; echo $most";
    let seen = ground.sh(&["--pids-limit", "50"], script);
    let most: u32 = seen.stdout.trim().parse().unwrap_or_else(|_| panic!("{seen:?}"));
    println!("stress-ng had up to {most} processes of 50");
    assert!((30..=50).contains(&most), "{most}");
}
