// SPDX-License-Identifier: Apache-2.0
//! A program of the operator's that takes output: fast, slow, and gone.

use crate::{ground, leave, logs};
use berth_test_agent::{Ground, until};
use std::fs;

/// Bytes that the container prints.
const PRINTED: usize = 588_895;

/// Runs a container whose stdout goes to a program; the bytes that the program took, and that were lost.
fn run(ground: &Ground, last: &str, options: &[&str], program: &str) -> (usize, usize) {
    let place = |what: &str| ground.work_dir().with_file_name(format!("{what}-{last}"));
    let (path, taken, done) = (place("program"), place("taken"), place("done"));
    let (to, over) = (taken.display(), done.display());
    let script =
        format!("#!/bin/sh\n[ $BERTH_STREAM = stdout ] || exec cat\n{program} > {to}\ntouch {over}\n");
    berth_testing::script(&path, &script);
    let (name, option) = (ground.name(last), format!("program={}", path.display()));
    let mut words = vec!["run", "--name", &name, "--log-driver", "external", "--log-opt", &option];
    words.extend(options);
    words.extend(["--", "sh", "-c", "seq 1 100000; exit 3"]);
    assert_eq!(ground.berth(words).code, Some(3));
    let inspected = ground.berth(["inspect", &name]);
    let lost = inspected.stdout.lines().find(|line| line.contains("of stdout are missing in program"));
    let lost = lost.map_or(0, |line| {
        line.trim().trim_start_matches('"').split(' ').next().unwrap().parse::<usize>().unwrap()
    });
    until("the program has ended", || done.exists());
    // Whatever became of the program: who reads here finds all.
    assert_eq!(logs(ground, &[], &name).len(), PRINTED);
    ground.berth(["rm", &name]).good();
    let took = fs::metadata(&taken).map_or(0, |file| usize::try_from(file.len()).unwrap());
    for file in [path, taken, done] {
        let _ = fs::remove_file(file);
    }
    (took, lost)
}

#[test]
fn a_program_takes_output_and_when_it_is_slow_the_container_waits_or_what_is_lost_is_counted() {
    let ground =
        ground!(a_program_takes_output_and_when_it_is_slow_the_container_waits_or_what_is_lost_is_counted);
    assert_eq!(run(&ground, "a", &[], "cat"), (PRINTED, 0));
    // It begins to read only after a while.
    assert_eq!(run(&ground, "b", &["--log-opt", "mode=block"], "sleep 0.5; cat"), (PRINTED, 0));
    let (taken, lost) = run(&ground, "c", &["--log-opt", "mode=drop"], "sleep 0.5; cat");
    assert!(lost > 0 && taken > 0 && taken < PRINTED, "{taken} {lost}");
    let options = ["--log-opt", "mode=spill", "--log-opt", "max-buffer-size=4m"];
    assert_eq!(run(&ground, "d", &options, "sleep 0.3; cat"), (PRINTED, 0));
    // It is gone at once, and the container goes on.
    let (taken, lost) = run(&ground, "e", &["--log-opt", "mode=block"], "true");
    assert!(taken == 0 && lost > 0, "{taken} {lost}");
    let _ = fs::remove_file(ground.runtime_dir().join("oneshot/.door"));
    leave(ground);
}
