// SPDX-License-Identifier: Apache-2.0
//! The scripts as real shell text: every containerizer that runs real processes depends on what they do.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_conformance::{Ledger, Script, Site};

fn start(site: &Site, script: &Script) -> Child {
    Command::new("sh")
        .arg("-c")
        .arg(script.shell())
        .current_dir(site.sandboxes())
        .env("BERTH_SUITE", "a value; with $signs")
        .env("BERTH_TEST_MARKER", site.marker())
        .stdin(Stdio::null())
        .spawn()
        .expect("there is a shell")
}

fn signal(child: &Child, signal: i32) {
    let line = format!("kill -{signal} {}", child.id());
    assert!(Command::new("sh").arg("-c").arg(line).status().is_ok_and(|status| status.success()));
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[test]
fn an_exit_has_its_status() {
    let site = Site::new("script-exit").unwrap();
    for status in [0, 255] {
        assert_eq!(start(&site, &Script::Exit(status)).wait().unwrap().code(), Some(i32::from(status)));
    }
}

#[test]
fn a_sleeper_dies_of_a_signal_and_leaves_nobody() {
    use std::os::unix::process::ExitStatusExt;
    let site = Site::new("script-sleep").unwrap();
    let before = Ledger::take(&site.scope());
    let mut child = start(&site, &Script::Sleep);
    signal(&child, 15);
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    before.settle(&site.scope(), soon()).unwrap();
}

#[test]
fn a_trap_is_set_when_the_file_is_there_and_leaves_nobody() {
    let site = Site::new("script-trap").unwrap();
    let ready = site.sandboxes().join("ready");
    let before = Ledger::take(&site.scope());
    let mut child = start(&site, &Script::Trap { signal: 15, status: 7 });
    let deadline = soon();
    while !ready.exists() {
        assert!(Instant::now() < deadline, "the script never got ready");
        std::thread::yield_now();
    }
    signal(&child, 15);
    assert_eq!(child.wait().unwrap().code(), Some(7));
    std::fs::remove_file(ready).unwrap();
    before.settle(&site.scope(), soon()).unwrap();
}

#[test]
fn a_report_is_the_value_as_it_was_given() {
    let site = Site::new("script-report").unwrap();
    let mut child = start(&site, &Script::Report("BERTH_SUITE".to_owned()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let report = std::fs::read_to_string(site.sandboxes().join("report")).unwrap();
    assert_eq!(report, "a value; with $signs");
}
