// SPDX-License-Identifier: Apache-2.0
//! Limits of containers that run: changed, met, told of; and an agent that answers whatever they do.

use crate::ground;
use berth_proto::own::Inspection;
use berth_test_agent::{Api, Ground, long, number, slow, until};
use std::time::{Duration, Instant};

const MB: u64 = 1 << 20;

/// `berth run -d` on the host's root file system.
#[track_caller]
fn run(ground: &Ground, last: &str, options: &[&str], script: &str) -> String {
    let name = ground.name(last);
    let mut words = vec!["run", "-d", "--name", &name];
    words.extend(options);
    words.extend(["--", "sh", "-c", script]);
    ground.berth(&words).good();
    name
}

/// A container that runs. What is late is left out of an inspection, on a busy machine.
fn inspected(api: &Api, name: &str) -> Inspection {
    let mut found = None;
    until("its limits are told", || {
        let inspection = api.inspect(name).unwrap();
        let all = !inspection.applied_limits.is_empty() && inspection.used.is_some();
        found = all.then_some(inspection);
        found.is_some()
    });
    found.unwrap()
}

fn applied(inspection: &Inspection, limit: &str) -> Option<String> {
    let found = inspection.applied_limits.iter().find(|applied| applied.name == limit);
    found.map(|applied| applied.value.clone())
}

/// 48 MB that nobody can take away: what is to be written at once, and nobody reads.
const ANONYMOUS: &str = "dd if=/dev/zero bs=48M count=1 2>/dev/null | sleep 1000";
/// As much that is only cached.
const CACHED: &str =
    "head -c 48000000 /dev/zero > file; sync; cat file > /dev/null; : > read; exec sleep 1000";

#[test]
fn a_memory_limit_below_what_is_in_use_is_refused_with_the_usage_and_below_page_cache_it_is_taken() {
    let mut ground = ground!(
        a_memory_limit_below_what_is_in_use_is_refused_with_the_usage_and_below_page_cache_it_is_taken
    );
    let api = ground.api();
    let options = ["--memory", "64m", "--memory-swap", "64m"];
    let name = run(&ground, "a", &options, ANONYMOUS);
    let anonymous = || api.inspect(&name).unwrap().used.and_then(|used| used.mem_anon_bytes).unwrap_or(0);
    until("it uses 45 MB", || anonymous() > 45 * MB);
    let refused = ground.berth(["update", "--memory", "32m", &name]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.stderr.contains("are in use") && refused.stderr.contains("MB anonymous"), "{refused:?}");
    println!("{}", refused.stderr);
    let now = inspected(&api, &name);
    assert_eq!(applied(&now, "memory.max"), Some((64 * MB).to_string()));
    assert_eq!((now.limits["mem"].value, api.state(&name).unwrap().as_str()), (64.0, "RUNNING"));
    ground.berth(["update", "--memory", "56m", &name]).good();
    ground.berth(["update", "--memory", "128m", &name]).good();
    assert_eq!(applied(&inspected(&api, &name), "memory.max"), Some((128 * MB).to_string()));

    let name = run(&ground, "c", &options, CACHED);
    until("it has read", || ground.sandbox(&name).join("read").exists());
    let used = inspected(&api, &name).used.unwrap();
    assert!(used.mem_file_bytes.unwrap_or(0) > 40 * MB, "{used:?}");
    assert!(used.cpus_user_time_secs.is_some() && used.cpus_system_time_secs.is_some(), "{used:?}");
    ground.berth(["update", "--memory", "32m", &name]).good();
    let now = inspected(&api, &name);
    assert_eq!(applied(&now, "memory.max"), Some((32 * MB).to_string()));
    assert!(now.used.and_then(|used| used.mem_total_bytes).unwrap_or(0) <= 32 * MB);
    assert_eq!(api.state(&name).unwrap(), "RUNNING");
    ground.leave().unwrap();
}

#[test]
fn every_limit_goes_up_and_down_and_away() {
    let mut ground = ground!(every_limit_goes_up_and_down_and_away);
    let api = ground.api();
    let first = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "--cpuset-cpus", "0"];
    let name = run(&ground, "a", &first, "exec sleep 1000");
    let shows = |wanted: &[(&str, Option<&str>)]| {
        let now = inspected(&api, &name);
        for (limit, value) in wanted {
            assert_eq!(applied(&now, limit).as_deref(), *value, "{limit}: {:?}", now.applied_limits);
        }
    };
    shows(&[("cpu.max", Some("0.5")), ("pids.max", Some("50")), ("cpuset.cpus", Some("0"))]);
    let update = |options: &[&str]| {
        ground.berth([&["update"], options, &[&name]].concat()).good();
    };
    update(&["--cpus", "0.25", "--pids-limit", "20", "--cpu-shares", "2048"]);
    shows(&[("cpu.max", Some("0.25")), ("pids.max", Some("20")), ("cpuset.cpus", Some("0"))]);
    update(&["--cpus", "1", "--pids-limit", "-1", "--memory-reservation", "40m", "--memory-swap", "96m"]);
    shows(&[
        ("cpu.max", Some("1")),
        ("pids.max", Some("max")),
        ("memory.low", Some("41943040")),
        ("memory.swap.max", Some("33554432")),
    ]);
    update(&["--memory-swap", "-1", "--memory-reservation", "0", "--oom-group"]);
    shows(&[("memory.low", None), ("memory.swap.max", Some("max")), ("memory.oom.group", Some("1"))]);
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    if processors > 1 {
        update(&["--cpuset-cpus", "0-1"]);
        shows(&[("cpuset.cpus", Some("0-1"))]);
    }
    let refused = ground.berth(["update", "--cpuset-cpus", "0,4000", "--cpus", "0.1", &name]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("list of processors"), "{refused:?}");
    // Nothing of an update that is refused is in force.
    shows(&[("cpu.max", Some("1"))]);
    ground.leave().unwrap();
}

#[test]
fn what_ends_for_lack_of_memory_says_so_and_what_goes_on_is_told_of() {
    let mut ground = ground!(what_ends_for_lack_of_memory_says_so_and_what_goes_on_is_told_of);
    let api = ground.api();
    let options = ["--memory", "24m", "--memory-swap", "24m"];
    let bomb = "tail -n 1 /dev/zero";
    // Longer than an owner stays with a container itself, so that the watcher is in its place.
    let name = run(&ground, "a", &options, &format!("sleep 0.2; exec {bomb}"));
    until("it ends", || api.inspect(&name).unwrap().termination.is_some());
    let ended = api.inspect(&name).unwrap().termination.unwrap();
    let message = ended.message().to_owned();
    assert_eq!(ended.reason().as_str_name(), "REASON_CONTAINER_LIMITATION_MEMORY", "{message}");
    assert!(
        message.starts_with("Memory limit exceeded: Requested: 24MB Maximum Used: 24MB\n\nMEMORY STATISTICS"),
        "{message}"
    );
    assert!(ended.limitation.is_some(), "{ended:?}");

    let name = run(&ground, "b", &options, &format!("sleep 0.2; {bomb}; echo went on; exec sleep 1000"));
    api.wrote(&name, "went on");
    until("the agent tells of it", || ground.log().contains("met a limit"));
    assert_eq!(api.state(&name).unwrap(), "RUNNING");

    let together = [&options[..], &["--oom-group"]].concat();
    let name = run(&ground, "c", &together, &format!("sleep 0.2; {bomb}; exec sleep 1000"));
    until("all of it ends", || api.inspect(&name).unwrap().termination.is_some());
    let ended = api.inspect(&name).unwrap().termination.unwrap();
    assert_eq!(ended.reason().as_str_name(), "REASON_CONTAINER_LIMITATION_MEMORY", "{ended:?}");

    // An agent that comes later finds the wish with the group.
    let name = run(
        &ground,
        "d",
        &together,
        &format!("until [ -e go ]; do sleep 0.05; done; {bomb}; exec sleep 1000"),
    );
    ground.kill();
    ground.start();
    std::fs::write(ground.sandbox(&name).join("go"), "").unwrap();
    until("all of it ends", || ground.api().inspect(&name).unwrap().termination.is_some());
    ground.leave().unwrap();
}

#[test]
fn an_agent_answers_in_a_second_whatever_its_containers_do() {
    let mut ground = ground!(an_agent_answers_in_a_second_whatever_its_containers_do);
    let api = ground.api();
    let options = ["--memory", "24m", "--memory-swap", "24m", "--pids-limit", "40"];
    let bombs = [
        ("fork", "while :; do (f() { while :; do (f) & done; }; f) 2>/dev/null; done"),
        ("memory", "while :; do tail -n 1 /dev/zero; done 2>/dev/null"),
        ("loop", "while :; do :; done"),
    ];
    let names: Vec<String> = (0..10)
        .map(|number| {
            let (kind, script) = bombs[number % bombs.len()];
            run(&ground, &format!("{kind}{number}"), &options, script)
        })
        .collect();
    let lasts = Duration::from_secs(number("BERTH_BOMBS_SECONDS", 4, 30) as u64);
    let end = Instant::now() + lasts;
    let (mut longest, mut answers) = (Duration::ZERO, 0);
    while Instant::now() < end {
        let start = Instant::now();
        // Some of them give up when they can not fork any more.
        let living = api.living().unwrap();
        longest = longest.max(start.elapsed());
        answers += 1;
        assert!(living.len() >= 3, "{living:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{answers} answers, the longest after {longest:?} (long form: {})", long());
    assert!(longest <= Duration::from_secs(1) * slow(), "an answer took {longest:?}");
    for name in &names {
        api.destroy(name).unwrap();
    }
    ground.leave().unwrap();
}
