// SPDX-License-Identifier: Apache-2.0
//! Without an agent, and with one that goes away.

use crate::ground::{Ground, Terminal, ground};
use rustix::process::Signal;

#[test]
fn without_an_agent_what_needs_one_says_where_it_looked() {
    let ground = Ground::bare();
    let socket = ground.socket();
    for (code, arguments) in [
        (125, &["run", "-d", "--", "true"][..]),
        (1, &["resources"]),
        (1, &["stats", "--no-stream"]),
        (1, &["events"]),
        (1, &["exec", "x", "true"]),
        (1, &["attach", "x"]),
        (1, &["pause", "x"]),
        (1, &["wait", "x"]),
        (125, &["run", "--socket", &socket, "--", "true"]),
    ] {
        let exit = ground.berth(arguments);
        exit.refused(code, &[&socket, "`berth agent`"]);
    }
    let version = ground.berth(["version", "-o", "json"]);
    assert_eq!((version.code, version.stdout.contains(r#""agent":null"#)), (Some(0), true), "{version:?}");
}

#[test]
fn a_socket_that_was_named_has_to_have_an_agent() {
    let ground = Ground::bare();
    if !rustix::process::geteuid().is_root() {
        return berth_testing::skip("a_socket_that_was_named_has_to_have_an_agent", "root");
    }
    assert_eq!(ground.berth(["ps", "-q"]).good(), "");
    ground.berth(["--socket", "/nowhere/s", "ps"]).refused(1, &["/nowhere/s"]);
    let mut command = ground.command(["ps"]);
    let named: berth_testing::Exit = command.env("BERTH_SOCKET", "/nowhere/v").output().unwrap().into();
    named.refused(1, &["/nowhere/v"]);
    ground.berth(["run", "--socket", "/nowhere/s", "--", "true"]).refused(125, &["/nowhere/s"]);
}

#[test]
fn a_container_outlives_the_agent_and_its_terminal_is_told() {
    let mut ground = ground!("a_container_outlives_the_agent_and_its_terminal_is_told");
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done";
    let socket = ground.socket();
    let run = ground.command(["run", "--socket", &socket, "--name", "a", "--", "sh", "-c", script]);
    let mut terminal = Terminal::start(run, 24, 80);
    terminal.shows("up");
    ground.signal_agent(Signal::KILL);
    let (code, said) = terminal.end();
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("the container a goes on without this terminal"), "{said}");
    ground.start_agent();
    assert_eq!(ground.berth(["ps", "-q"]).good(), "a\n");
    ground.berth(["kill", "-s", "TERM", "a"]).good();
    assert_eq!(ground.berth(["wait", "a"]).good(), "9\n");
}
