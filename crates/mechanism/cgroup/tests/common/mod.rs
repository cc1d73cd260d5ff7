// SPDX-License-Identifier: Apache-2.0
//! What tests on this host's own hierarchies share.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth_cgroup::{Controller, Group, Hierarchies, Limits};

pub(crate) const WANTED: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

/// The hierarchies of this host, and a place of this test's own in them.
pub(crate) struct Host {
    pub(crate) hierarchies: Hierarchies,
    pub(crate) top: String,
}

impl Host {
    /// None, with the reason printed, where groups can not be made.
    pub(crate) fn new() -> Option<Host> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            println!("skipped: making cgroups needs root");
            return None;
        }
        let hierarchies = match Hierarchies::probe(Path::new(Hierarchies::ROOT)) {
            Ok(hierarchies) => hierarchies,
            Err(error) => {
                println!("skipped: {error}");
                return None;
            }
        };
        if let Some(missing) = WANTED.into_iter().find(|wanted| hierarchies.version_of(*wanted).is_none()) {
            println!("skipped: this host has no cgroup controller {missing}");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Some(Host { hierarchies, top: format!("berthtest-{}-{number}", std::process::id()) })
    }

    pub(crate) fn create(&self, id: &str, limits: &Limits) -> Group {
        Group::create(&self.hierarchies, &format!("{}/{id}", self.top), &WANTED, limits).unwrap()
    }

    pub(crate) fn left(&self) -> Vec<String> {
        self.hierarchies.list(&self.top).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // After a failed assertion too: whoever is still in there, then the groups.
        if let Ok(top) = Group::open(&self.hierarchies, &self.top) {
            let killed = top.kill_all(soon());
            let removed = top.remove(soon());
            if !std::thread::panicking() {
                killed.unwrap();
                removed.unwrap();
            }
        }
    }
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Runs a shell that puts itself into the group by writing `0`, then `script`. `/proc/PID/fd` opens our descriptors anew.
pub(crate) fn join(group: &Group, script: &str) -> Child {
    let fds = group.join_fds().unwrap();
    let me = std::process::id();
    let joins: String =
        fds.iter().map(|fd| format!("echo 0 > /proc/{me}/fd/{} || exit 99; ", fd.as_raw_fd())).collect();
    // The descriptors have to be open until the shell has written to them.
    let script = format!("{joins}echo; {script}");
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(script).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let mut one = [0];
    let said = child.stdout.as_mut().unwrap().read(&mut one).unwrap();
    assert_eq!(said, 1, "the shell could not join {}", group.path());
    child
}

pub(crate) fn wait_for_members(group: &Group, count: usize) {
    let deadline = soon();
    while group.processes().unwrap().len() != count {
        assert!(Instant::now() < deadline, "{:?}", group.processes());
        std::thread::yield_now();
    }
}
