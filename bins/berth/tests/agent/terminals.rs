// SPDX-License-Identifier: Apache-2.0
//! A person's terminal on a container: size, keys, signals.

use crate::ground::{Terminal, ground};
use rustix::process::Signal;

#[test]
fn a_further_command_has_the_terminal_its_size_and_its_changes() {
    let ground = ground!("a_further_command_has_the_terminal_its_size_and_its_changes");
    ground.started("web");
    let mut terminal = Terminal::start(ground.command(["exec", "-it", "web", "sh"]), 33, 77);
    terminal.types("stty size; tty\n");
    terminal.shows("33 77");
    terminal.shows("/dev/pts/");
    terminal.resize(44, 88);
    terminal.types("until [ \"$(stty size)\" = '44 88' ]; do :; done; echo resi''zed\n");
    terminal.shows("resized");
    terminal.types("exit 9\n");
    assert_eq!(terminal.end().0, Some(9));
}

#[test]
fn keys_typed_reach_the_command_as_signals() {
    let ground = ground!("keys_typed_reach_the_command_as_signals");
    ground.started("web");
    let script = "trap 'exit 4' INT; echo re''ady; while :; do sleep 0.05; done";
    let mut terminal = Terminal::start(ground.command(["exec", "-it", "web", "sh", "-c", script]), 24, 80);
    terminal.shows("ready");
    terminal.types("\u{3}");
    assert_eq!(terminal.end().0, Some(4));
}

#[test]
fn a_terminal_can_leave_its_container_and_come_back() {
    let ground = ground!("a_terminal_can_leave_its_container_and_come_back");
    let socket = ground.socket();
    let run = ground.command(["run", "--socket", &socket, "-it", "--name", "a", "--", "sh"]);
    let mut terminal = Terminal::start(run, 24, 80);
    terminal.types("x=kept; echo he''re\n");
    terminal.shows("here");
    terminal.types("\u{10}\u{11}");
    let (code, last) = terminal.end();
    assert_eq!((code, last.contains("read escape sequence")), (Some(0), true), "{last}");
    assert_eq!(ground.berth(["ps", "-q"]).good(), "a\n");
    let attach = ["attach", "--detach-keys", "ctrl-a,x", "a"];
    let mut terminal = Terminal::start(ground.command(attach), 24, 80);
    terminal.types("echo still $x\n");
    terminal.shows("still kept");
    terminal.types("\u{1}x");
    assert_eq!(terminal.end().0, Some(1));
    let mut terminal = Terminal::start(ground.command(["attach", "a"]), 24, 80);
    terminal.types("exit 6\n");
    terminal.shows("exit 6");
    assert_eq!(terminal.end().0, Some(6));
    assert_eq!(ground.berth(["wait", "a"]).good(), "6\n");
}

#[test]
fn signals_are_passed_on_and_enough_of_them_leave() {
    let ground = ground!("signals_are_passed_on_and_enough_of_them_leave");
    let socket = ground.socket();
    let script = "trap 'echo heard' INT; echo up; while :; do sleep 0.05; done";
    let run = ground.command(["run", "--socket", &socket, "--name", "a", "--", "sh", "-c", script]);
    let mut terminal = Terminal::start(run, 24, 80);
    terminal.shows("up");
    for _ in 0..2 {
        terminal.signal(Signal::INT);
        terminal.shows("heard");
    }
    terminal.signal(Signal::INT);
    assert_eq!(terminal.end().0, Some(130));
    assert_eq!(ground.berth(["ps", "-q"]).good(), "a\n", "it is left, not ended");
}

#[test]
fn a_terminal_that_is_none_is_refused() {
    let ground = ground!("a_terminal_that_is_none_is_refused");
    ground.started("web");
    ground.berth(["exec", "-it", "web", "true"]).refused(1, &["not a terminal"]);
    let socket = ground.socket();
    ground.berth(["run", "--socket", &socket, "-it", "--", "true"]).refused(125, &["not a terminal"]);
}

#[test]
fn what_is_piped_into_a_terminal_of_a_container_is_typed_there() {
    let ground = ground!("what_is_piped_into_a_terminal_of_a_container_is_typed_there");
    ground.berth(["run", "-d", "-t", "--name", "a", "--", "sh"]).good();
    let piped = ground.fed("echo he''re\nexit 3\n", &["attach", "a"]);
    assert_eq!((piped.code, piped.stdout.contains("here")), (Some(3), true), "{piped:?}");
    ground.berth(["run", "-d", "-t", "--name", "b", "--", "sh"]).good();
    let ended = ground.fed("echo he''re\n", &["attach", "b"]);
    assert_eq!((ended.code, ended.stdout.contains("here")), (Some(0), true), "its end is ctrl-d: {ended:?}");
}

#[test]
fn only_one_terminal_types() {
    let ground = ground!("only_one_terminal_types");
    let socket = ground.socket();
    let run = ground.command(["run", "--socket", &socket, "-it", "--name", "a", "--", "sh"]);
    let mut first = Terminal::start(run, 24, 80);
    first.types("echo he''re\n");
    first.shows("here");
    let second = Terminal::start(ground.command(["attach", "a"]), 24, 80);
    let (code, said) = second.end();
    assert_eq!((code, said.contains("can not send input to container a")), (Some(1), true), "{said}");
    let mut looker = Terminal::start(ground.command(["attach", "--no-stdin", "a"]), 24, 80);
    ground.until("it looks", || {
        first.types("echo both''see\n");
        first.shows("bothsee");
        looker.screen_has("bothsee")
    });
    first.types("exit\n");
    assert_eq!(first.end().0, Some(0));
    assert_eq!(looker.end().0, Some(0));
}
