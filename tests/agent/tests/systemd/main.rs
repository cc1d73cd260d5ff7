// SPDX-License-Identifier: Apache-2.0
//! The agent as a unit of systemd (`dist/berth.service`): what happens to the unit, and what may happen to its containers
//! then, nothing.
//!
//! The lane `systemd` makes the host for it: a VM with `berth` in /usr/bin, the unit, and nothing else that could be
//! harmed. Elsewhere these tests are skipped.

mod host;

use berth_test_agent::{Groups, Watch, skip, until};
use host::{Host, Snapshot, UNIT, group_of, members, until_replaced};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const COUNT: usize = 20;

macro_rules! host {
    ($test:ident) => {
        match Host::new() {
            Ok(host) => host,
            Err(lacked) => return skip(stringify!($test), &lacked),
        }
    };
}

fn launched(host: &Host, word: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| host.launch(&format!("{word}{n}"))).collect()
}

fn snapshots(host: &Host, names: &[String]) -> Vec<Snapshot> {
    names.iter().map(|name| host.snapshot(name)).collect()
}

/// All containers run on, are what they were, and the agent knows each of them.
#[track_caller]
fn unchanged(host: &Host, names: &[String], before: &[Snapshot], after_what: &str) {
    for (name, before) in names.iter().zip(before) {
        assert_eq!(&host.snapshot(name), before, "{name} after {after_what}");
    }
    let mut listed = host.api().living().expect("a list");
    let mut names = names.to_vec();
    listed.sort_unstable();
    names.sort_unstable();
    assert_eq!(listed, names, "after {after_what}");
}

#[test]
fn restart_and_daemon_reload_change_nothing_for_twenty_containers() {
    let host = host!(restart_and_daemon_reload_change_nothing_for_twenty_containers);
    let names = launched(&host, "r", COUNT);
    let before = snapshots(&host, &names);
    let of_limits = |s: &Snapshot| {
        s.settings.iter().any(|(file, text)| file.ends_with("memory.max") && text.trim() == "67108864")
    };
    assert!(before.iter().all(of_limits), "{before:#?}");
    names.iter().for_each(|name| host.devices_are_ruled(name));
    let groups: Vec<Groups> =
        before.iter().map(|s| Groups::of(Path::new(s.group.trim_start_matches('/')))).collect();
    let watch = Watch::over(&groups);
    for act in ["restart", "daemon-reload", "restart", "daemon-reexec"] {
        let agent = host.agent();
        let begun = Instant::now();
        match act {
            "restart" => host.systemctl(&["restart", UNIT]),
            other => host.systemctl(&[other]),
        };
        println!("{act} with {COUNT} containers: {:?}", begun.elapsed());
        assert_eq!(host.agent() == agent, act != "restart", "{act}");
        unchanged(&host, &names, &before, act);
    }
    assert_eq!(watch.written(), [""; 0], "nobody writes to a running container's group");
    names.iter().for_each(|name| host.devices_are_ruled(name));
    host.remove(&names);
}

#[test]
fn a_stopped_or_killed_agent_leaves_its_containers_and_is_brought_back() {
    let host = host!(a_stopped_or_killed_agent_leaves_its_containers_and_is_brought_back);
    let names = launched(&host, "s", 3);
    let before = snapshots(&host, &names);
    host.systemctl(&["stop", UNIT]);
    for snapshot in &before {
        assert_eq!(group_of(snapshot.process.0), snapshot.group, "without an agent");
        assert_eq!(group_of(snapshot.supervisor.0), snapshot.home, "without an agent");
    }
    assert_eq!(host.property("ControlGroup"), "", "nothing is left in the unit");
    host.systemctl(&["start", UNIT]);
    unchanged(&host, &names, &before, "a stop and a start");
    let agent = host.agent();
    host.systemctl(&["kill", "--signal=KILL", "--kill-who=main", UNIT]);
    until_replaced(&host, agent);
    unchanged(&host, &names, &before, "SIGKILL");
    host.remove(&names);
}

#[test]
fn containers_and_supervisors_are_in_a_scope_and_only_the_agent_is_in_its_unit() {
    let host = host!(containers_and_supervisors_are_in_a_scope_and_only_the_agent_is_in_its_unit);
    let names = launched(&host, "p", 2);
    for snapshot in snapshots(&host, &names) {
        let (scope, _) = snapshot.group.split_once("/containers/").expect("a group of its own");
        assert!(scope.starts_with("/berth.slice/berth-") && scope.ends_with(".scope"), "{scope}");
        assert_eq!(snapshot.home, format!("{scope}/supervisors"));
        let unit = scope.rsplit('/').next().unwrap();
        assert_eq!(host.systemctl(&["show", "--property=Delegate", "--value", unit]), "yes");
    }
    assert_eq!(members(&host.property("ControlGroup")), [host.agent()]);
    host.remove(&names);
}

#[test]
fn a_stopped_scope_ends_all_containers_and_the_next_agent_makes_another() {
    let host = host!(a_stopped_scope_ends_all_containers_and_the_next_agent_makes_another);
    let names = launched(&host, "e", 2);
    let group = host.snapshot(&names[0]).group;
    let unit = group.split('/').find(|part| part.ends_with(".scope")).expect("a scope").to_owned();
    host.systemctl(&["stop", &unit]);
    until("no container runs", || host.berth(&["ps", "-q"]).good().is_empty());
    for name in &names {
        let exit = host.berth(&["wait", name]);
        // Whether supervisor or container is killed first is systemd's choice.
        let known = ["137\n", "143\n"].contains(&exit.stdout.as_str());
        assert!(known || exit.stderr.contains("its supervisor was killed"), "{exit:?}");
    }
    host.remove(&names);
    // The next agent makes another scope.
    host.systemctl(&["restart", UNIT]);
    let names = launched(&host, "n", 1);
    assert!(host.snapshot(&names[0]).group.contains(&unit));
    host.remove(&names);
}

#[test]
fn the_shipped_unit_is_one_that_systemd_understands() {
    let host = host!(the_shipped_unit_is_one_that_systemd_understands);
    let file = host.property("FragmentPath");
    let verified = Command::new("systemd-analyze").args(["verify", &file]).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("berth.service:"), "{said}");
    assert_eq!(host.property("Type"), "notify");
    assert_eq!(host.property("StatusText"), "serving");
}
