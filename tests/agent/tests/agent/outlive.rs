// SPDX-License-Identifier: Apache-2.0
//! SIGKILL to an agent whose containers run: nothing of them is lost, and nothing of them is touched.
//!
//! `BERTH_AGENT_CONTAINERS` says how many containers (10; 50 in the long form).

use crate::ground;
use berth_test_agent::{Ground, Watch, number, shell, until};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Instant;

/// Writes lines, waits for a word, writes lines again, and ends with a status of its own.
fn script(code: usize) -> String {
    let lines = |from: usize, to: usize| {
        format!("i={from}; while [ $i -lt {to} ]; do echo line $i; i=$((i+1)); done")
    };
    let before = lines(0, 100);
    let after = lines(100, 200);
    format!("mkfifo go; {before}; echo waits >&2; read word < go; {after}; echo $word; exit {code}")
}

fn code(n: usize) -> usize {
    1 + n % 125
}

/// All that the script writes.
fn written(word: &str) -> String {
    let lines: Vec<String> = (0..200).map(|n| format!("line {n}\n")).collect();
    lines.concat() + word + "\n"
}

/// Its process is gone, or a zombie that its supervisor is about to reap.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

fn launched(ground: &Ground, count: usize) -> Vec<(String, u32)> {
    let api = ground.api();
    let names: Vec<String> = (0..count).map(|n| ground.name(n)).collect();
    for (n, name) in names.iter().enumerate() {
        api.launch(name, &shell(script(code(n)))).unwrap();
    }
    for name in &names {
        until("it waits", || api.logs(name).unwrap().1 == "waits\n");
    }
    names.into_iter().map(|name| (name.clone(), api.pid(&name))).collect()
}

#[test]
fn a_killed_agent_loses_no_container_no_status_and_no_line_and_touches_no_control_group() {
    let mut ground =
        ground!(a_killed_agent_loses_no_container_no_status_and_no_line_and_touches_no_control_group);
    let all = launched(&ground, number("BERTH_AGENT_CONTAINERS", 10, 50));
    let of = |rest: usize| all.iter().enumerate().filter(move |(n, _)| n % 2 == rest);
    let going_on: Vec<_> = of(1).map(|(_, (name, _))| ground.groups(name)).collect();
    assert!(going_on.iter().all(|groups| groups.settings().len() > 5), "{going_on:?}");
    let before: Vec<_> = going_on.iter().map(|groups| groups.settings()).collect();
    let watch = Watch::over(&going_on);
    ground.kill();
    // The first is killed from outside, the other even ones end by themselves, each with its own status.
    let killed = Pid::from_raw(i32::try_from(all[0].1).unwrap()).unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    of(0).skip(1).for_each(|(n, (name, _))| ground.let_go(name, &format!("word {n}")));
    of(0).for_each(|(_, (name, pid))| until(&format!("{name} ends without an agent"), || is_gone(*pid)));
    let begun = Instant::now();
    ground.start();
    println!("an agent that took {} containers over answered after {:?}", all.len(), begun.elapsed());
    let api = ground.api();
    let mut living: Vec<String> = of(1).map(|(_, (name, _))| name.clone()).collect();
    living.sort();
    assert_eq!(api.living().unwrap(), living);
    for (n, (name, _)) in of(0) {
        let expected = if n == 0 { 128 + 9 } else { code(n) };
        assert_eq!(api.code(name).unwrap(), Some(i32::try_from(expected).unwrap()), "{name}");
        if n > 0 {
            assert_eq!(api.logs(name).unwrap().0, written(&format!("word {n}")), "{name}");
        }
    }
    for (_, (name, pid)) in of(1) {
        assert_eq!((api.state(name).unwrap().as_str(), api.pid(name)), ("RUNNING", *pid), "{name}");
    }
    assert_eq!(watch.written(), [""; 0], "control files of running containers were written to");
    for ((before, groups), (_, (name, _))) in before.iter().zip(&going_on).zip(of(1)) {
        assert_eq!(&groups.settings(), before, "{name}");
    }
    for (n, (name, _)) in of(1) {
        ground.let_go(name, &format!("word {n}"));
        assert_eq!(api.code(name).unwrap(), Some(i32::try_from(code(n)).unwrap()), "{name}");
        assert_eq!(api.logs(name).unwrap().0, written(&format!("word {n}")), "{name}");
    }
    ground.leave().unwrap();
}

#[test]
fn the_watch_over_control_groups_sees_a_write() {
    let mut ground = ground!(the_watch_over_control_groups_sees_a_write);
    let (name, api) = (ground.name("c"), ground.api());
    api.launch(&name, &shell("exec sleep 1000")).unwrap();
    let groups = ground.groups(&name);
    let (before, watch) = (groups.settings(), Watch::over([&groups]));
    let limits = [("mem".to_owned(), 96.0), ("pids".to_owned(), 64.0), ("cpus".to_owned(), 1.0)];
    let id = name.parse().unwrap();
    api.on(async |c| c.update(&id, Vec::new(), &limits.into()).await).unwrap();
    let written = watch.written();
    assert!(written.iter().any(|path| path.contains("memory")), "{written:?}");
    assert_ne!(groups.settings(), before);
    ground.leave().unwrap();
}

#[test]
fn agents_killed_one_after_the_other_take_over_what_the_first_launched() {
    let mut ground = ground!(agents_killed_one_after_the_other_take_over_what_the_first_launched);
    let all = launched(&ground, 2);
    for _ in 0..number("BERTH_AGENT_RESTARTS", 5, 50) {
        ground.kill();
        ground.start();
    }
    let api = ground.api();
    for (n, (name, pid)) in all.iter().enumerate() {
        assert_eq!(api.pid(name), *pid);
        ground.let_go(name, "on");
        assert_eq!(api.code(name).unwrap(), Some(i32::try_from(code(n)).unwrap()));
        assert_eq!(api.logs(name).unwrap(), (written("on"), "waits\n".to_owned()));
    }
    ground.leave().unwrap();
}
