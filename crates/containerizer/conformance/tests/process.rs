// SPDX-License-Identifier: Apache-2.0
//! The parts of the ledger that count what the whole process holds; a program of their own, so that nothing
//! else runs in it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use berth_conformance::{Breadth, Ledger, Site, diff, exclusive};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn a_dead_child_that_nobody_waited_for_is_seen() {
    let _alone = exclusive::alone();
    let site = Site::new("ledger-zombie").unwrap();
    let scope = site.scope().with_breadth(Breadth::Process);
    let before = Ledger::take(&scope);
    let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    let wanted = format!("left behind: dead child {}", child.id());
    let deadline = soon();
    while !diff(&before, &Ledger::take(&scope)).iter().any(|line| line.starts_with(&wanted)) {
        assert!(Instant::now() < deadline, "the dead child never showed");
        std::thread::yield_now();
    }
    child.wait().unwrap();
    before.settle(&scope, soon()).unwrap();
}

#[test]
fn a_descriptor_without_a_path_is_seen_when_the_process_is_ours() {
    let _alone = exclusive::alone();
    let site = Site::new("ledger-socket").unwrap();
    let scope = site.scope().with_breadth(Breadth::Process);
    let before = Ledger::take(&scope);
    let pair = std::os::unix::net::UnixStream::pair().unwrap();
    let difference = diff(&before, &Ledger::take(&scope));
    assert_eq!(difference.iter().filter(|line| line.contains("socket:")).count(), 2, "{difference:?}");
    drop(pair);
    before.settle(&scope, soon()).unwrap();
}
