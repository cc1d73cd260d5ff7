// SPDX-License-Identifier: Apache-2.0
//! What stands beside each running container: the memory that its supervisor shares with nobody.
//!
//! Supervisors are the processes named `berth-init` that came after the bench had started, and that either
//! descend from a command of ours or hold a file below our folder: others on this host are not ours to measure.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::contestant::{self, Kind, Programs};
use crate::error::Error;
use crate::procfs::{children_of, descends_from, holds_file_below, kill, name_of};
use crate::rounds::{Stop, check};
use crate::site::{Site, Stage};
use crate::{procfs, stats};

const SUPERVISOR: &str = "berth-init";
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Unique set size (Private_Clean + Private_Dirty of smaps_rollup), in KiB.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) containers: usize,
    pub(crate) supervisors: usize,
    pub(crate) median_kib: f64,
    pub(crate) max_kib: f64,
}

/// Starts the containers, reads, and ends everything it started.
pub(crate) fn measure(
    containers: usize,
    programs: &Programs,
    site: &Site,
    stage: &Stage,
    stop: &Stop,
) -> Result<Memory, Error> {
    if programs.missing(Kind::Berth).is_some() {
        return Err(Error::NoBerth(programs.berth.clone()));
    }
    let mut fleet =
        Fleet { folder: stage.folder.clone(), before: supervisors().into_iter().collect(), children: vec![] };
    for _ in 0..containers {
        let mut command = contestant::command(Kind::Berth, programs, site, stage, &["/bin/sleep", "1000"])?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().map_err(|source| Error::Start { program: contestant::show(&command), source })?;
        fleet.children.push(child);
    }
    let found = fleet.wait_until_running(containers, stop)?;
    let sizes: Vec<f64> = found.iter().filter_map(|pid| unique_kib(*pid)).collect();
    Ok(Memory {
        containers,
        supervisors: sizes.len(),
        median_kib: stats::median(&sizes).unwrap_or_default(),
        max_kib: sizes.iter().copied().fold(0.0, f64::max),
    })
}

/// The commands that were started; dropping it ends them and what they started.
struct Fleet {
    folder: PathBuf,
    before: HashSet<i32>,
    children: Vec<Child>,
}

impl Fleet {
    /// A supervisor is ready when its container runs `sleep`: what it needed for the start is then given back.
    fn wait_until_running(&self, wanted: usize, stop: &Stop) -> Result<Vec<i32>, Error> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            check(stop)?;
            let ours = self.supervisors();
            let ready =
                ours.iter().filter(|pid| children_of(**pid).iter().any(|child| name_of(*child) == "sleep"));
            if ready.count() >= wanted {
                return Ok(ours);
            }
            if Instant::now() >= deadline {
                return Err(Error::Supervisors { found: ours.len(), wanted, seconds: DEADLINE.as_secs() });
            }
            thread::sleep(POLL);
        }
    }

    fn supervisors(&self) -> Vec<i32> {
        let commands: HashSet<i32> =
            self.children.iter().filter_map(|child| i32::try_from(child.id()).ok()).collect();
        let ours = |pid: i32| descends_from(pid, &commands) || holds_file_below(pid, &self.folder);
        supervisors().into_iter().filter(|pid| !self.before.contains(pid) && ours(*pid)).collect()
    }

    fn running(&mut self) -> bool {
        let commands = self.children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None)));
        commands || !self.supervisors().is_empty()
    }
}

impl Drop for Fleet {
    /// Ends the containers first, so that supervisors and commands clean up as after any exit; what is left at
    /// the deadline is killed too.
    fn drop(&mut self) {
        for supervisor in self.supervisors() {
            children_of(supervisor).into_iter().for_each(kill);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.running() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        self.supervisors().into_iter().for_each(kill);
        for child in &mut self.children {
            // Both fail only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn supervisors() -> Vec<i32> {
    procfs::all().into_iter().filter(|pid| is_supervisor(*pid)).collect()
}

pub(crate) fn is_supervisor(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    Path::new(&*String::from_utf8_lossy(first)).file_name().is_some_and(|name| name == SUPERVISOR)
}

/// Private_Clean + Private_Dirty (proc_pid_smaps(5)).
pub(crate) fn unique_kib(pid: i32) -> Option<f64> {
    private_kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn private_kib(rollup: &str) -> Option<f64> {
    let field = |key: &str| -> Option<f64> {
        rollup.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    Some(field("Private_Clean:")? + field("Private_Dirty:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_memory_is_private_clean_and_private_dirty() {
        let rollup =
            "00400000-7ff [rollup]\nRss:  900 kB\nPrivate_Clean:  12 kB\nPrivate_Dirty:  36 kB\nSwap: 0 kB\n";
        assert_eq!(private_kib(rollup), Some(48.0));
        assert_eq!(private_kib("Rss: 1 kB\n"), None);
    }
}
