// SPDX-License-Identifier: Apache-2.0
//! An agent as the host sees it: a process with descriptors, threads and memory.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How long a runtime's threads wait for work, and a little.
const RUNTIME: Duration = Duration::from_millis(10_200);
/// How long it is looked at.
const MOMENTS: Duration = Duration::from_millis(800);

/// A running agent. Dropped, it is killed; its containers go on.
#[derive(Debug)]
pub struct Process(Child);

/// What it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory.
    pub kib: usize,
    /// What of it is its own, and not the program's text, of which the kernel gives back what nobody uses for a while.
    pub anonymous: usize,
}

impl Process {
    /// One that was started.
    pub fn new(child: Child) -> Process {
        Process(child)
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal, and waits for its end.
    ///
    /// # Panics
    /// It is gone already.
    pub fn end_by(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), signal).unwrap_or_else(|e| panic!("the agent is gone: {e}"));
        self.0.wait().unwrap_or_else(|e| panic!("wait for the agent: {e}"))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It can not be waited for.
    pub fn ends(mut self) -> ExitStatus {
        self.0.wait().unwrap_or_else(|e| panic!("wait for the agent: {e}"))
    }

    /// How it ended, if it did.
    ///
    /// # Panics
    /// It can not be waited for.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap_or_else(|e| panic!("wait for the agent: {e}"))
    }

    /// What it holds now.
    ///
    /// # Panics
    /// It is gone.
    pub fn numbers(&self) -> Numbers {
        let of = |what: &str| format!("/proc/{}/{what}", self.pid());
        let count = |what: &str| {
            let listing = fs::read_dir(of(what)).unwrap_or_else(|e| panic!("list {}: {e}", of(what)));
            listing.count()
        };
        let status = fs::read_to_string(of("status")).unwrap_or_else(|e| panic!("read its status: {e}"));
        let memory = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
            kib.unwrap_or_else(|| panic!("no {name} in {status:?}"))
        };
        Numbers {
            descriptors: count("fd"),
            threads: count("task"),
            kib: memory("VmRSS:"),
            anonymous: memory("RssAnon:"),
        }
    }

    /// What it holds when it has had nothing to do for so long that the threads which wait for work to block on are
    /// gone: its runtime lets them wait for ten seconds. What it does now and then on its own starts one anew, so the
    /// least of some moments counts.
    ///
    /// # Panics
    /// It is gone.
    pub fn idle(&self) -> Numbers {
        std::thread::sleep(RUNTIME);
        let mut least = self.numbers();
        let limit = Instant::now() + MOMENTS;
        while Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.numbers();
            least =
                if (now.threads, now.descriptors) < (least.threads, least.descriptors) { now } else { least };
        }
        least
    }

    /// Where its descriptors lead, for a test that counted too many.
    pub fn descriptors(&self) -> Vec<String> {
        let listing = fs::read_dir(format!("/proc/{}/fd", self.pid())).into_iter().flatten().flatten();
        let mut all: Vec<String> = listing
            .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()))
            .collect();
        all.sort();
        all
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
