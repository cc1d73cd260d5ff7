// SPDX-License-Identifier: Apache-2.0
//! Pausing containers, and what happens to those that are paused. Needs root.

mod ground;

use berth_conformance::{Script, Site, Subject, World, run};
use berth_contract::{Containerizer, ExecRequest, LaunchResult, Next, Phase, Variables, What};
use berth_model::{Class, CommandInfo, ContainerConfig, ContainerId};
use std::sync::Arc;
use std::time::Duration;

fn on_this_host(name: &str, test: fn(&mut World<'_>)) {
    match ground::lacked().or_else(|| ground::busybox().is_none().then(|| "a static busybox".to_owned())) {
        Some(lacked) => ground::skip(&lacked),
        None => run(name, test, &|site: &Site| Subject::new(ground::containerizer(site, &[]))),
    }
}

/// Counts, each 2 ms, into the file `count` of its sandbox.
fn counting(world: &World<'_>, id: &ContainerId) -> ContainerConfig {
    let mut config = world.config(id, &Script::Sleep);
    config.rootfs = Some(ground::rootfs(world.site));
    let text = "cd /mnt/mesos/sandbox; n=0; while :; do n=$((n+1)); echo $n > count; sleep 0.002; done";
    config.command_info.value = Some(text.to_owned());
    config
}

fn start(world: &World<'_>, id: &ContainerId) {
    let config = counting(world, id);
    assert_eq!(world.launch(id, config).map_err(|e| e.chain()), Ok(LaunchResult::Success));
    goes_on(world, id);
}

fn count(world: &World<'_>, id: &ContainerId) -> String {
    std::fs::read_to_string(world.sandbox(id).join("count")).unwrap_or_default()
}

fn goes_on(world: &World<'_>, id: &ContainerId) {
    let before = count(world, id);
    world.until("it counts on", || {
        let now = count(world, id);
        (!now.is_empty() && now != before).then_some(())
    });
}

fn stands_still(world: &World<'_>, id: &ContainerId) {
    let before = count(world, id);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(count(world, id), before, "it counts");
}

fn freeze(world: &World<'_>, id: &ContainerId) {
    let handle: Arc<dyn Containerizer> = world.handle();
    world.good("pause", handle.pause().expect("it can pause").freeze(id));
}

fn thaw(world: &World<'_>, id: &ContainerId) {
    let handle: Arc<dyn Containerizer> = world.handle();
    world.good("resume", handle.pause().expect("it can pause").thaw(id));
}

fn request(text: &str) -> ExecRequest {
    let command = CommandInfo { value: Some(text.to_owned()), shell: true, ..CommandInfo::default() };
    ExecRequest { command, environment: Variables::new(), terminal: None }
}

#[test]
fn a_paused_container_stands_still_and_still_answers() {
    on_this_host("a_paused_container_stands_still", |world| {
        let id = world.id("still");
        start(world, &id);
        freeze(world, &id);
        stands_still(world, &id);
        let usage = world.good("usage", world.containerizer().usage(&id));
        assert!(usage.processes.is_some_and(|processes| processes >= 1), "{usage:?}");
        assert!(world.good("status", world.containerizer().status(&id)).executor_pid.is_some());
        world.lists(&[&id]);
        thaw(world, &id);
        goes_on(world, &id);
        let mut moves = Vec::new();
        let mut events = world.containerizer().events(0);
        while let Some(next) = events.try_next() {
            if let Next::Event(event) = next
                && let What::Moved { from, to } = event.what
            {
                moves.push((from, to));
            }
        }
        assert!(
            moves.ends_with(&[(Phase::Running, Phase::Paused), (Phase::Paused, Phase::Running)]),
            "{moves:?}"
        );
    });
}

#[test]
fn a_paused_container_stays_so_under_the_next_agent() {
    on_this_host("a_paused_container_stays_so", |world| {
        let (resumed, destroyed) = (world.id("resumed"), world.id("destroyed"));
        for id in [&resumed, &destroyed] {
            start(world, id);
            freeze(world, id);
        }
        world.restart(None);
        stands_still(world, &resumed);
        let handle = world.handle();
        let exec = handle.exec().expect("it can run further commands");
        let refused = world.answer("exec", exec.run(&world.child(&resumed, "s"), request("true")));
        assert_eq!(refused.map_err(|e| e.class()).err(), Some(Class::Conflict));
        thaw(world, &resumed);
        goes_on(world, &resumed);
        let ended = world.good("destroy", world.containerizer().destroy(&destroyed));
        assert_eq!(ended.and_then(|ended| ended.status), Some(9));
    });
}

#[test]
fn a_kill_and_the_death_of_the_supervisor_end_a_paused_container() {
    on_this_host("a_kill_and_the_death", |world| {
        let killed = world.id("killed");
        start(world, &killed);
        freeze(world, &killed);
        assert!(world.good("kill", world.containerizer().kill(&killed, 9)));
        assert_eq!(world.wait(&killed).status, Some(9));
        for restarted in [false, true] {
            let id = world.id(if restarted { "adopted" } else { "launched" });
            start(world, &id);
            let pid = world.good("status", world.containerizer().status(&id)).executor_pid.expect("it runs");
            freeze(world, &id);
            if restarted {
                world.restart(None);
            }
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)).expect("its parent");
            world.signal()(parent.parse().expect("a number"), 9);
            let ended = world.wait(&id);
            assert_eq!(ended.status.unwrap_or(9), 9, "{ended:?}");
        }
    });
}

#[test]
fn sessions_are_stopped_with_their_container_and_can_be_ended() {
    on_this_host("sessions_are_stopped", |world| {
        let id = world.id("parent");
        start(world, &id);
        let handle = world.handle();
        let exec = handle.exec().expect("it can run further commands");
        let ids = ["one", "two"].map(|name| world.child(&id, name));
        let held = ids.each_ref().map(|id| world.good("exec", exec.run(id, request("exec sleep 1000"))));
        let pause = handle.pause().expect("it can pause");
        assert!(world.answer("pause", pause.freeze(&ids[0])).is_err_and(|e| e.class() == Class::Unsupported));
        freeze(world, &id);
        let ended = world.good("destroy", world.containerizer().destroy(&ids[0]));
        assert_eq!(ended.and_then(|ended| ended.status), Some(9));
        stands_still(world, &id);
        world.lists(&[&id, &ids[1]]);
        let ended = world.good("destroy", world.containerizer().destroy(&id));
        assert_eq!(ended.and_then(|ended| ended.status), Some(9));
        assert_eq!(world.wait(&ids[1]).status, Some(9));
        drop(held);
    });
}

/// Whoever is first: it ends.
#[test]
fn pauses_and_destroys_at_once_leave_nothing_stopped() {
    on_this_host("pauses_and_destroys", |world| {
        for round in 0..10 {
            let id = world.id(&format!("race{round}"));
            start(world, &id);
            let handle = world.handle();
            let pause = handle.pause().expect("it can pause");
            let freezes = [pause.freeze(&id), pause.freeze(&id)];
            std::thread::sleep(Duration::from_micros(100 * round));
            let destroy = world.containerizer().destroy(&id);
            let late = pause.freeze(&id);
            assert_eq!(world.good("destroy", destroy).and_then(|ended| ended.status), Some(9));
            for freeze in freezes.into_iter().chain([late]) {
                let _ = world.answer("pause", freeze);
            }
        }
    });
}
