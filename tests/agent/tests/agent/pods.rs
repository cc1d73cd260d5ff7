// SPDX-License-Identifier: Apache-2.0
//! Pods, as their users run them: what they share, how they end, who restarts, and an agent that is killed meanwhile.

use crate::ground;
use crate::sweep::{Traced, sweep};
use berth_test_agent::{Exit, Ground, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A pod's file.
fn file(ground: &Ground, text: &str) -> PathBuf {
    let path = ground.work_dir().with_file_name("pod.yaml");
    fs::write(&path, text).unwrap();
    path
}

fn words(file: &std::path::Path, more: &[&str]) -> Vec<String> {
    let first = ["pod", "run"].into_iter().chain(more.iter().copied()).map(str::to_owned);
    first.chain([file.display().to_string()]).collect()
}

/// `berth pod run`, which stays.
fn run(ground: &Ground, text: &str) -> Child {
    let words = words(&file(ground, text), &[]);
    ground.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Asks it to end, and waits.
fn end(ground: &Ground, child: Child) -> Exit {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    ground.output(child, "berth pod run").into()
}

/// An image of busybox.
fn image(ground: &Ground) -> Option<String> {
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file())?;
    let root = ground.work_dir().with_file_name("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    // A copy of another process's, so that nobody has it open for writing.
    assert!(Command::new("cp").arg(&busybox).arg(root.join("bin/busybox")).status().unwrap().success());
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
    let tar = root.with_file_name("busybox.tar");
    let made = Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg(".").status().unwrap();
    fs::remove_dir_all(&root).unwrap();
    made.success().then(|| format!("tar:{}", tar.display()))
}

/// Whether a container runs, and its first process.
fn pid(ground: &Ground, name: &str) -> Option<u32> {
    let inspection = ground.api().inspect_whole(name).ok()?;
    inspection.status.filter(|_| inspection.termination.is_none())?.executor_pid
}

fn applied(ground: &Ground, name: &str) -> Option<String> {
    let limits = ground.api().inspect_whole(name).unwrap().applied_limits;
    let memory = ["memory.max", "memory.limit_in_bytes"];
    limits.into_iter().find(|limit| memory.contains(&limit.name.as_str())).map(|limit| limit.value)
}

#[test]
fn a_pod_of_three_reach_each_other_by_loopback_with_limits_of_their_own_and_ends_from_the_inside() {
    let mut ground = ground!(
        a_pod_of_three_reach_each_other_by_loopback_with_limits_of_their_own_and_ends_from_the_inside
    );
    let Some(image) = image(&ground) else {
        return berth_test_agent::skip("a_pod_of_three_reach_each_other", "busybox");
    };
    let pod = ground.name("pod");
    let text = format!(
        "name: {pod}\nhostname: front\nlimits: {{memory: 256m, pids: 90}}\ncontainers:\n\
         - name: server\n  image: '{image}'\n  limits: {{memory: 64m}}\n  volumes: [{{name: d, path: /data}}]\n  \
           command: [busybox, nc, -ll, -p, 8080, -e, busybox, cat, /data/word]\n\
         - name: writer\n  image: '{image}'\n  limits: {{memory: 48m}}\n  volumes: [{{name: d, path: /data}}]\n  \
           command: busybox hostname > /data/word; exec busybox sleep 1000\n\
         - name: client\n  limits: {{memory: 32m}}\n  \
           command: until busybox nc 127.0.0.1 8080 </dev/null | grep front; do sleep 0.05; done; exec sleep 1000\n"
    );
    let child = run(&ground, &text);
    let name = |member: &str| format!("{pod}.{member}");
    let said = || ground.berth(["logs", &name("client")]).stdout;
    until("the client hears the server", || said() == "front\n");
    let members = ["server", "writer", "client"];
    for (member, memory) in members.into_iter().zip([64u64, 48, 32]) {
        assert_eq!(applied(&ground, &name(member)), Some((memory << 20).to_string()), "{member}");
    }
    assert_eq!(applied(&ground, &pod), Some((256u64 << 20).to_string()));
    let network =
        |name: &str| fs::read_link(format!("/proc/{}/ns/net", pid(&ground, name).unwrap())).unwrap();
    let networks = members.map(|member| network(&name(member)));
    assert!(networks.iter().all(|one| *one == network(&pod)), "{networks:?}");
    assert_ne!(networks[0], fs::read_link("/proc/self/ns/net").unwrap(), "it is not the host's");

    let listed = ground.berth(["pod", "ps", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(listed.good()).unwrap();
    assert_eq!((listed[0]["id"].as_str(), listed[0]["state"].as_str()), (Some(&*pod), Some("running")));
    assert_eq!(listed[0]["containers"].as_array().unwrap().len(), 3);
    assert_eq!(ground.berth(["exec", &name("server"), "busybox", "hostname"]).good(), "front\n");
    let refused = ground.berth(["pod", "rm", &pod]);
    assert!(refused.code == Some(1) && refused.stderr.contains("stop it first"), "{refused:?}");

    assert_eq!(ground.berth(["pod", "rm", "--force", &pod]).good(), format!("{pod}\n"));
    let log = ground.log();
    let at = |name: &str| {
        log.find(&format!("ended container={name} ")).unwrap_or_else(|| panic!("{name}:\n{log}"))
    };
    for member in members {
        assert!(at(&name(member)) < at(&pod), "{member} ends before its pod");
    }
    let exit: Exit = ground.output(child, "berth pod run").into();
    assert!(exit.stderr.contains("has ended"), "{exit:?}");
    // Images are kept.
    ground.stop();
    fs::remove_dir_all(ground.work_dir().join("store")).unwrap();
    ground.leave().unwrap();
}

#[test]
fn what_has_ended_is_started_again_by_its_rule_over_restarts_of_the_agent() {
    let mut ground = ground!(what_has_ended_is_started_again_by_its_rule_over_restarts_of_the_agent);
    let pod = ground.name("pod");
    let text = format!(
        "name: {pod}\ncontainers:\n\
         - {{name: steady, restart: always, command: \"trap 'exit 0' TERM; sleep 1000 & wait\"}}\n\
         - {{name: failing, restart: 'on-failure:2', command: exit 3}}\n\
         - {{name: once, command: 'true'}}\n"
    );
    let child = run(&ground, &text);
    let (steady, once) = (format!("{pod}.steady"), format!("{pod}.once"));
    until("all were launched", || ground.api().state(&once).is_ok_and(|state| state == "TERMINATED"));
    let failed = format!("ended container={pod}.failing ");
    until("one has failed for good", || ground.log().matches(&failed).count() == 3);
    let first = pid(&ground, &steady).unwrap();
    ground.kill();
    let killed = Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    ground.start();
    until("it runs again", || pid(&ground, &steady).is_some_and(|now| now != first));
    let exit = end(&ground, child);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let told = |line: &str| exit.stderr.lines().filter(|said| said.starts_with(line)).count();
    assert_eq!(told("failing: exited with status 3; restart"), 2, "{}", exit.stderr);
    assert_eq!(
        (told("failing: exited with status 3"), told("once: exited with status 0")),
        (3, 1),
        "{}",
        exit.stderr
    );
    assert_eq!(told("steady: terminated with signal Killed; restart 1"), 1, "{}", exit.stderr);
    assert!(told("the agent is away") >= 1, "{}", exit.stderr);
    assert_eq!(ground.api().state(&pod).unwrap(), "TERMINATED");
    ground.leave().unwrap();
}

#[test]
fn a_pod_is_taken_over_by_the_same_command_and_a_wrong_one_leaves_nothing() {
    let mut ground = ground!(a_pod_is_taken_over_by_the_same_command_and_a_wrong_one_leaves_nothing);
    let pod = ground.name("pod");
    let good = format!("name: {pod}\ncontainers:\n- {{name: a, command: exec sleep 1000}}\n");
    let wrong = good.replace("exec sleep 1000", "[/no/such/program]");
    let exit = ground.berth(words(&file(&ground, &wrong), &["--detach"]));
    assert!(exit.code == Some(125) && exit.stderr.contains("/no/such/program"), "{exit:?}");
    assert_eq!(ground.api().all().unwrap(), [""; 0]);
    let unknown = good.replace("command", "comand");
    let exit = ground.berth(words(&file(&ground, &unknown), &["--detach"]));
    assert!(exit.stderr.contains("did you mean command?"), "{exit:?}");
    let restarts = good.replace("}", ", restart: always}");
    let exit = ground.berth(words(&file(&ground, &restarts), &["--detach"]));
    assert!(exit.stderr.contains("nobody is there to restart a"), "{exit:?}");

    let more = format!("{good}- {{name: b, command: exec sleep 1000}}\n");
    ground.berth(words(&file(&ground, &good), &["--detach"])).good();
    let first = pid(&ground, &format!("{pod}.a"));
    let again = ground.berth(words(&file(&ground, &more), &["--detach"]));
    assert!(again.code == Some(0) && again.stderr.contains("taken over"), "{again:?}");
    assert_eq!(pid(&ground, &format!("{pod}.a")), first);
    assert!(pid(&ground, &format!("{pod}.b")).is_some());
    ground.berth(["pod", "stop", "-t", "0", &pod]).good();
    assert_eq!(ground.api().state(&pod).unwrap(), "TERMINATED");
    ground.berth(["pod", "rm", &pod]).good();
    assert_eq!(ground.api().all().unwrap(), [""; 0]);
    ground.leave().unwrap();
}

fn two(ground: &Ground, pod: &str) -> Vec<String> {
    let text = format!(
        "name: {pod}\ncontainers:\n- {{name: a, command: exec sleep 1000, limits: {{memory: 32m}}}}\n\
         - {{name: b, command: exec sleep 1000}}\n"
    );
    words(&file(ground, &text), &["--detach"])
}

#[derive(PartialEq)]
enum Ends {
    Yes,
    No,
}

/// Whatever runs is in something that runs; and one that was not to end is made whole by the same command.
fn stands(ground: &Ground, pod: &str, ends: &Ends) -> Result<(), String> {
    let api = ground.api();
    let failed = |error: berth_client::Error| error.to_string();
    let running = |name: &str| pid(ground, name).is_some();
    let all = api.all().map_err(failed)?;
    let lost: Vec<_> =
        all.iter().filter(|name| name.contains('.') && running(name) && !running(pod)).collect();
    if !lost.is_empty() {
        return Err(format!("{lost:?} run in a pod that does not"));
    }
    if all.iter().any(|name| name == pod) && !running(pod) {
        ground.berth(["pod", "rm", pod]).good();
    }
    if *ends == Ends::Yes {
        return Ok(());
    }
    let exit = ground.berth(two(ground, pod));
    let members = ["a", "b"].map(|member| format!("{pod}.{member}"));
    match exit.code == Some(0) && members.iter().all(|member| running(member)) {
        true => Ok(()),
        false => Err(format!("the pod is not made whole: {exit:?}, of {:?}", api.all())),
    }
}

#[test]
fn the_limits_that_a_container_of_a_pod_was_given_last_are_known_over_a_restart() {
    let mut ground = ground!(the_limits_that_a_container_of_a_pod_was_given_last_are_known_over_a_restart);
    let pod = ground.name("pod");
    ground.berth(two(&ground, &pod)).good();
    let name = format!("{pod}.a");
    ground.berth(["update", "--memory", "48m", &name]).good();
    for _ in 0..2 {
        let asked = ground.api().inspect_whole(&name).unwrap().limits["mem"].value;
        assert_eq!((asked, applied(&ground, &name).as_deref()), (48.0, Some("50331648")));
        ground.kill();
        ground.start();
    }
    ground.berth(["pod", "rm", "-f", &pod]).good();
    ground.leave().unwrap();
}

#[test]
fn an_agent_that_is_killed_anywhere_in_the_making_of_a_pod_leaves_what_can_be_made_whole() {
    let test = "an_agent_that_is_killed_anywhere_in_the_making_of_a_pod_leaves_what_can_be_made_whole";
    let mut ground =
        ground!(an_agent_that_is_killed_anywhere_in_the_making_of_a_pod_leaves_what_can_be_made_whole);
    ground.stop();
    sweep(test, &mut ground, |ground, at| {
        let mut traced = Traced::answering(ground);
        let pod = ground.name(at);
        traced.count(at);
        ground.berth(two(ground, &pod));
        let outcome = traced.end(ground);
        ground.start();
        (outcome, stands(ground, &pod, &Ends::No))
    });
}

#[test]
fn an_agent_that_is_killed_anywhere_in_the_end_of_a_pod_leaves_none_of_it_running_alone() {
    let test = "an_agent_that_is_killed_anywhere_in_the_end_of_a_pod_leaves_none_of_it_running_alone";
    let mut ground =
        ground!(an_agent_that_is_killed_anywhere_in_the_end_of_a_pod_leaves_none_of_it_running_alone);
    ground.stop();
    sweep(test, &mut ground, |ground, at| {
        let mut traced = Traced::answering(ground);
        let pod = ground.name(at);
        ground.berth(two(ground, &pod)).good();
        traced.count(at);
        ground.berth(["pod", "rm", "--force", &pod]);
        let outcome = traced.end(ground);
        ground.start();
        let stood = stands(ground, &pod, &Ends::Yes);
        if ground.api().all().is_ok_and(|all| all.contains(&pod)) {
            ground.berth(["pod", "rm", "--force", &pod]).good();
        }
        (outcome, stood)
    });
}
