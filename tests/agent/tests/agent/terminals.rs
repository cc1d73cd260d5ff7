// SPDX-License-Identifier: Apache-2.0
//! What a user types at a terminal on a container.

use crate::ground;
use berth_test_agent::{Ground, Terminal, shell};

fn start(ground: &Ground, arguments: &[&str]) -> Terminal {
    Terminal::start(&mut ground.command(arguments), 33, 77)
}

#[test]
fn exec_on_a_terminal_has_its_size_its_keys_and_its_exit_code() {
    let mut ground = ground!(exec_on_a_terminal_has_its_size_its_keys_and_its_exit_code);
    let name = ground.name("web");
    ground.api().launch(&name, &shell("exec sleep 1000")).unwrap();
    let mut terminal = start(&ground, &["exec", "-it", &name, "sh"]);
    terminal.types("stty size; tty\n");
    terminal.shows("33 77");
    terminal.shows("/dev/pts/");
    terminal.resize(44, 88);
    terminal.types("until [ \"$(stty size)\" = '44 88' ]; do :; done; echo resi''zed\n");
    terminal.shows("resized");
    terminal.types("trap 'echo int''errupted' INT; echo re''ady\n");
    terminal.shows("ready");
    terminal.types("\u{3}\n");
    terminal.shows("interrupted");
    terminal.types("exit 9\n");
    assert_eq!(terminal.end().code, Some(9));
    ground.leave().unwrap();
}

#[test]
fn a_terminal_detaches_by_its_keys_and_attaches_again() {
    let mut ground = ground!(a_terminal_detaches_by_its_keys_and_attaches_again);
    let (name, socket) = (ground.name("a"), ground.socket());
    let socket = socket.to_str().unwrap();
    let mut terminal = start(&ground, &["run", "--socket", socket, "-it", "--name", &name, "--", "sh"]);
    terminal.types("x=kept; echo he''re\n");
    terminal.shows("here");
    terminal.types("\u{10}\u{11}");
    let left = terminal.end();
    assert_eq!((left.code, left.stdout.contains("read escape sequence")), (Some(0), true), "{left:?}");
    assert_eq!(ground.berth(["ps", "-q"]).good(), format!("{name}\n"));
    let mut terminal = start(&ground, &["attach", "--detach-keys", "ctrl-a,x", &name]);
    terminal.types("echo still $x\n");
    terminal.shows("still kept");
    terminal.types("\u{1}x");
    assert_eq!(terminal.end().code, Some(1));
    let mut terminal = start(&ground, &["attach", &name]);
    terminal.types("exit 6\n");
    terminal.shows("exit 6");
    assert_eq!(terminal.end().code, Some(6));
    assert_eq!(ground.berth(["wait", &name]).good(), "6\n");
    ground.leave().unwrap();
}

#[test]
fn attach_without_a_terminal_shows_what_is_written_from_then_on() {
    let mut ground = ground!(attach_without_a_terminal_shows_what_is_written_from_then_on);
    let name = ground.name("a");
    let script = "echo before; mkfifo go; read x < go; echo first; until [ -e more ]; do sleep 0.02; done; echo err >&2; exit 4";
    ground.api().launch(&name, &shell(script)).unwrap();
    ground.api().wrote(&name, "before");
    let mut attach = start(&ground, &["attach", "--no-stdin", &name]);
    // Attached, it would see both; until it has, let it wait.
    std::thread::sleep(std::time::Duration::from_millis(300));
    ground.let_go(&name, "on");
    attach.shows("first");
    std::fs::write(ground.sandbox(&name).join("more"), "").unwrap();
    let ended = attach.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(4), "first\r\nerr\r\n"), "{ended:?}");
    ground.leave().unwrap();
}
