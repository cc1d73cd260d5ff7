// SPDX-License-Identifier: Apache-2.0
//! Sessions whose client or agent is killed, and many of them.
//!
//! `BERTH_AGENT_ATTACHES` says how often to attach (300; 10,000 in the long form).

use crate::ground;
use berth_test_agent::{Exit, Ground, Wanted, number, shell, slow, until};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How soon a session's processes are gone when nobody listens any more. It is a matter of milliseconds.
const SOON: Duration = Duration::from_secs(5);

fn parent(ground: &Ground) -> (String, u32) {
    let name = ground.name("c");
    ground.api().launch(&name, &shell("exec sleep 1000")).unwrap();
    let pid = ground.api().pid(&name);
    (name, pid)
}

/// Starts one that writes `in` first, and waits until it did.
fn begun(mut command: Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    child
}

/// Waits until the container's own process is all that runs in it, and says how long that took.
#[track_caller]
fn alone(ground: &Ground, name: &str, pid: u32) {
    let begun = Instant::now();
    until("only the container itself runs", || ground.groups(name).processes() == [pid]);
    let took = begun.elapsed();
    println!("gone after {took:?}");
    assert!(took < SOON * slow(), "{took:?}");
}

#[test]
fn a_killed_client_takes_its_session_along_and_the_container_goes_on() {
    let mut ground = ground!(a_killed_client_takes_its_session_along_and_the_container_goes_on);
    let (name, pid) = parent(&ground);
    let mut client = begun(ground.command(["exec", &name, "sh", "-c", "echo in; exec sleep 1001"]));
    assert_eq!(ground.groups(&name).processes().len(), 2);
    client.kill().unwrap();
    client.wait().unwrap();
    alone(&ground, &name, pid);
    until("no session is listed", || ground.api().living().unwrap() == [name.as_str()]);
    assert_eq!(ground.api().state(&name).unwrap(), "RUNNING");
    ground.leave().unwrap();
}

#[test]
fn a_killed_client_takes_all_processes_of_its_session_along() {
    let mut ground = ground!(a_killed_client_takes_all_processes_of_its_session_along);
    let (name, pid) = parent(&ground);
    let script = "sleep 1001 & (sleep 1002 &) ; echo in; exec sleep 1003";
    let mut client = begun(ground.command(["exec", &name, "sh", "-c", script]));
    until("all of them run", || ground.groups(&name).processes().len() == 4);
    client.kill().unwrap();
    client.wait().unwrap();
    alone(&ground, &name, pid);
    ground.leave().unwrap();
}

#[test]
fn a_killed_agent_leaves_nothing_of_a_session_when_the_next_has_recovered() {
    let mut ground = ground!(a_killed_agent_leaves_nothing_of_a_session_when_the_next_has_recovered);
    let (name, pid) = parent(&ground);
    let client = begun(ground.command(["exec", &name, "sh", "-c", "echo in; exec sleep 1001"]));
    ground.kill();
    let told: Exit = ground.output(client, "exec whose agent was killed").into();
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.stderr.contains("went away"), "{told:?}");
    ground.start();
    alone(&ground, &name, pid);
    until("no session is listed", || ground.api().living().unwrap() == [name.as_str()]);
    assert_eq!(ground.api().all().unwrap(), [name.as_str()]);
    assert_eq!(ground.berth(["exec", &name, "echo", "again"]).good(), "again\n");
    ground.leave().unwrap();
}

#[test]
fn sessions_end_with_their_container() {
    let mut ground = ground!(sessions_end_with_their_container);
    let (name, _) = parent(&ground);
    let script = "trap '' TERM; echo in; while :; do sleep 0.05; done";
    let clients: Vec<Child> =
        (0..3).map(|_| begun(ground.command(["exec", &name, "sh", "-c", script]))).collect();
    assert_eq!(ground.berth(["rm", "-f", &name]).good(), format!("{name}\n"));
    for client in clients {
        let told: Exit = ground.output(client, "exec whose container was removed").into();
        assert_eq!(told.code, Some(137), "{told:?}");
    }
    assert!(!ground.groups(&name).are_there());
    ground.leave().unwrap();
}

#[test]
fn cycles_of_attach_and_resize_and_of_sessions_leave_the_agent_as_it_was() {
    let mut ground = ground!(cycles_of_attach_and_resize_and_of_sessions_leave_the_agent_as_it_was);
    let (api, name) = (ground.api(), ground.name("t"));
    let script = "echo up; while read x; do stty size; done";
    api.launch(&name, &Wanted { terminal: true, ..shell(script) }).unwrap();
    api.wrote(&name, "up");
    let attach = |n: usize| {
        let (rows, columns) = (20 + n as u16 % 50, 60 + n as u16 % 100);
        api.attach_and_resize(&name, rows, columns).unwrap_or_else(|e| panic!("attach {n}: {e}"));
    };
    let session = |n: usize| {
        let wrote = api.session(&format!("{name}.s{n}"), &shell("echo x"), async |s| s.rest().await);
        assert_eq!(wrote.unwrap_or_else(|e| panic!("session {n}: {e}")), "x\n");
    };
    // So many ended sessions are kept.
    (0..100).for_each(session);
    (0..50).for_each(attach);
    let before = ground.process().idle();
    let cycles = number("BERTH_AGENT_ATTACHES", 300, 10_000);
    (0..cycles).for_each(attach);
    (100..100 + cycles / 5).for_each(session);
    let after = ground.process().idle();
    println!("{cycles} attaches, {} sessions: before {before:?}, after {after:?}", cycles / 5);
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads));
    assert!(after.kib <= before.kib + 1024, "{before:?} became {after:?}");
    ground.leave().unwrap();
}
