// SPDX-License-Identifier: Apache-2.0
//! Containers that print as fast as they can.

use crate::{files, ground, leave, logs, run, seq};
use berth_test_agent::{Ground, number, until};
use std::fs;
use std::io::Write;

/// 100 bytes a line, in all 10 MB, or 1 GiB.
fn lines() -> usize {
    number("BERTH_LOG_LINES", 100_000, 10_737_419)
}

/// The supervisor of a container.
fn supervisor(ground: &Ground, name: &str) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", ground.api().pid(name))).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

/// Memory that is a process's alone, in KiB: its program is one copy for all supervisors.
fn own_memory(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let anonymous = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    anonymous.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn rotated_files_have_every_line_whole_and_the_supervisor_stays_small() {
    let ground = ground!(rotated_files_have_every_line_whole_and_the_supervisor_stays_small);
    let count = lines();
    // The second time it may find the gate open that is just being left.
    let script = format!(
        "mkfifo go; seq -f %099.0f 1 {count}; read word < go; seq 1 3; until read word < go; do :; done; echo $word"
    );
    let options = ["--log-opt", "max-size=1m", "--log-opt", "max-file=900"];
    let name = run(&ground, "c", &options, &script);
    // Nobody reads before all was written: a rotation waits for nobody who looks for the file to read from, and is put off.
    let mut gate = ground.gate(&name);
    let last = format!("{count:099}\n");
    until("it has printed all", || logs(&ground, &["--tail", "1"], &name) == last);
    let first = own_memory(supervisor(&ground, &name));
    writeln!(gate, "again").unwrap();
    drop(gate);
    until("it has printed more", || logs(&ground, &["--tail", "1"], &name) == "3\n");
    let memory = own_memory(supervisor(&ground, &name));
    println!("the supervisor has {memory} KiB of its own, and had {first} KiB after the flood");
    assert!(memory <= 128 && memory <= first + 8, "{memory} {first}");
    ground.let_go(&name, "end");
    assert_eq!(ground.api().code(&name).unwrap(), Some(0));
    let all = files(&ground, &name);
    assert!(all.len() > 9, "{} files", all.len());
    for file in &all {
        // A line that was begun before the limit is ended in the same file.
        assert!(file.len() <= (1 << 20) + 100 && file.ends_with('\n'), "{} bytes", file.len());
    }
    let mut expected = 1;
    let text = all.concat();
    let mut numbers = text.lines();
    if all.len() == 900 {
        // The oldest are gone.
        expected = text.lines().next().unwrap().parse().unwrap();
    }
    for number in expected..=count {
        assert_eq!(numbers.next(), Some(format!("{number:099}").as_str()));
    }
    assert_eq!(numbers.collect::<Vec<_>>(), ["1", "2", "3", "end"]);
    assert_eq!(ground.api().inspect(&name).unwrap().output_lost, [""; 0]);
    // The sandbox has the same names for the same files.
    let sandbox = ground.sandbox(&name);
    let dir = ground.work_dir().join("containers").join(&name);
    for file in ["stdout", "stdout.1", "stdout.2"] {
        assert_eq!(fs::read(sandbox.join(file)).unwrap(), fs::read(dir.join(file)).unwrap(), "{file}");
    }
    leave(ground);
}

#[test]
fn an_agent_killed_ten_times_in_a_flood_loses_no_byte_of_any_logger() {
    let mut ground = ground!(an_agent_killed_ten_times_in_a_flood_loses_no_byte_of_any_logger);
    let count = lines();
    let step = count / 10;
    let script = format!(
        "i=0; while [ $i -lt 10 ]; do seq $((i*{step}+1)) $((i*{step}+{step})); sleep 0.1; i=$((i+1)); done"
    );
    let options = ["--log-driver", "rotating", "--log-opt", "max-size=100k", "--log-opt", "max-file=1000"];
    let all = [run(&ground, "a", &[], &script), run(&ground, "b", &options, &script)];
    for _ in 0..10 {
        ground.kill();
        ground.start();
    }
    for name in &all {
        assert_eq!(ground.api().code(name).unwrap(), Some(0));
        assert!(logs(&ground, &[], name) == seq(1, step * 10), "{name}");
    }
    leave(ground);
}

#[test]
fn a_follower_gets_every_line_across_rotations() {
    let ground = ground!(a_follower_gets_every_line_across_rotations);
    let options = ["--log-opt", "max-size=64k", "--log-opt", "max-file=1000", "--log-opt", "compress=true"];
    let name = run(&ground, "c", &options, "mkfifo go; read word < go; seq 1 100000; echo $word");
    let follower = {
        let mut command = ground.command(["logs", "-f", &name]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    ground.let_go(&name, "end");
    let output = ground.output(follower, "berth logs -f");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap() == seq(1, 100_000) + "end\n");
    leave(ground);
}
