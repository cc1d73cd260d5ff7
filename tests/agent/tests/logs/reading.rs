// SPDX-License-Identifier: Apache-2.0
//! `berth logs`: by time, by lines, after the end, and safely.

use crate::{ground, leave, logs, run};
use berth_test_agent::{Ground, Terminal, skip, until};
use std::process::Command;

/// The time and the text of each line.
fn stamped(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(|line| line.split_once(' ').map(|(t, l)| (t.to_owned(), l.to_owned())).unwrap())
        .collect()
}

fn is_told(ground: &Ground, name: &str) {
    let all = stamped(&logs(ground, &["-t"], name));
    let lines: Vec<&str> = all.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(lines, ["one", "two", "three"], "{name}");
    assert!(all.is_sorted() && all[0].0 < all[1].0 && all[1].0 < all[2].0, "{all:?}");
    assert!(all.iter().all(|(time, _)| time.starts_with("20") && time.ends_with('Z')), "{all:?}");
    let (second, third) = (all[1].0.as_str(), all[2].0.as_str());
    assert_eq!(logs(ground, &["--since", second], name), "two\nthree\n", "{name}");
    assert_eq!(logs(ground, &["--until", third], name), "one\ntwo\n", "{name}");
    assert_eq!(logs(ground, &["--since", second, "--until", third], name), "two\n", "{name}");
    assert_eq!(logs(ground, &["--since", second, "--tail", "1"], name), "three\n", "{name}");
    assert_eq!(logs(ground, &["--since", "1h"], name), "one\ntwo\nthree\n", "{name}");
    assert_eq!(logs(ground, &["--tail", "2"], name), "two\nthree\n", "{name}");
    assert_eq!(logs(ground, &["--until", "1h"], name), "", "{name}");
}

const SLOWLY: &str = "echo one; sleep 0.3; echo two; sleep 0.3; echo three";

#[test]
fn lines_have_their_times_with_every_logger_also_after_the_agent_s_restart() {
    let mut ground = ground!(lines_have_their_times_with_every_logger_also_after_the_agent_s_restart);
    let (journald, program) =
        (["--log-driver", "journald"], ["--log-driver", "rotating", "--log-opt", "max-size=4k"]);
    let all = [
        run(&ground, "a", &[], SLOWLY),
        run(&ground, "b", &program, SLOWLY),
        run(&ground, "c", &journald, SLOWLY),
        run(&ground, "d", &["-t", "--log-driver", "rotating"], SLOWLY),
    ];
    for name in &all {
        assert_eq!(ground.api().code(name).unwrap(), Some(0));
    }
    let plain = &all[..3];
    plain.iter().for_each(|name| is_told(&ground, name));
    assert_eq!(logs(&ground, &["--tail", "1"], &all[3]), "three\r\n");
    ground.kill();
    ground.start();
    plain.iter().for_each(|name| is_told(&ground, name));
    leave(ground);
}

#[test]
fn without_an_agent_lines_have_times_too() {
    let ground = ground!(without_an_agent_lines_have_times_too);
    for (last, driver) in [("a", "sandbox"), ("b", "rotating")] {
        let name = ground.name(last);
        ground.berth(["run", "--name", &name, "--log-driver", driver, "--", "sh", "-c", SLOWLY]).good();
        is_told(&ground, &name);
        ground.berth(["rm", &name]).good();
    }
    let _ = std::fs::remove_file(ground.runtime_dir().join("oneshot/.door"));
    leave(ground);
}

#[test]
fn control_sequences_are_shown_to_a_terminal_and_left_alone_in_a_pipe() {
    let ground = ground!(control_sequences_are_shown_to_a_terminal_and_left_alone_in_a_pipe);
    let name = run(&ground, "c", &[], r"printf 'a\033]0;owned\007b\r\n\342\200\256c\n'");
    assert_eq!(ground.api().code(&name).unwrap(), Some(0));
    let raw = "a\u{1b}]0;owned\u{7}b\r\n\u{202e}c\n";
    assert_eq!(logs(&ground, &[], &name), raw);
    let on_terminal = |options: &[&str]| {
        let mut words = vec!["logs"];
        words.extend(options);
        words.push(&name);
        Terminal::start(&mut ground.command(words), 24, 80).end().stdout
    };
    let shown = on_terminal(&[]);
    assert!(shown.contains("a\\x1b]0;owned\\x07b") && shown.contains("\\u{202e}c"), "{shown:?}");
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{7}') && !shown.contains('\u{202e}'),
        "{shown:?}"
    );
    assert!(on_terminal(&["--raw"]).contains("\u{1b}]0;owned\u{7}b"));
    leave(ground);
}

#[test]
fn a_container_that_swaps_its_files_for_links_has_nobody_read_or_write_elsewhere() {
    let ground = ground!(a_container_that_swaps_its_files_for_links_has_nobody_read_or_write_elsewhere);
    let canary = ground.work_dir().with_file_name("canary");
    std::fs::write(&canary, "untouched\n").unwrap();
    let canary_text = canary.display().to_string();
    // As fast as it can, while its output is rotated and linked into the sandbox.
    let script = format!(
        "i=0; while [ $i -lt 150 ]; do for f in stdout stdout.1 stdout.2; do ln -sf {canary_text} $f; done; \
         seq -f 'a line that is long enough to have the files rotated again and again %g' 1 40; i=$((i+1)); done; rm -rf stdout*; \
         mkdir stdout stdout.1; echo end"
    );
    let options = ["--log-opt", "max-size=4k", "--log-opt", "max-file=3"];
    let name = run(&ground, "c", &options, &script);
    until("its log has its end", || {
        let text = logs(&ground, &["--stream", "stdout", "--tail", "1"], &name);
        assert!(!text.contains("untouched"));
        text == "end\n"
    });
    assert_eq!(ground.api().code(&name).unwrap(), Some(0));
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "untouched\n");
    std::fs::remove_file(canary).unwrap();
    leave(ground);
}

#[test]
fn journald_gets_each_line_with_its_container() {
    let test = "journald_gets_each_line_with_its_container";
    let socket = std::path::Path::new("/run/systemd/journal/socket");
    if !socket.exists() || Command::new("journalctl").arg("--version").output().is_err() {
        return skip(test, "systemd as init");
    }
    let ground = ground!(journald_gets_each_line_with_its_container);
    let name = run(&ground, "c", &["--log-driver", "journald"], "echo to the journal; echo wrong >&2");
    assert_eq!(ground.api().code(&name).unwrap(), Some(0));
    let of = |priority: &str| {
        let found = Command::new("journalctl")
            .args(["-o", "cat", "--no-pager", "-p", priority, &format!("CONTAINER_NAME={name}")])
            .output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };
    until("the journal has both lines", || of("info").lines().count() == 2);
    assert_eq!(of("err"), "wrong\n");
    assert!(of("info").contains("to the journal\n"));
    // And who reads it here finds it here.
    assert_eq!(logs(&ground, &["--stream", "stdout"], &name), "to the journal\n");
    leave(ground);
}
