// SPDX-License-Identifier: Apache-2.0
//! Many containers that run: what they cost the agent in memory, how long it takes to list them, and how long another
//! agent takes to take them over.

use std::collections::HashSet;
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde::Serialize;

use super::daemon::{Daemon, Line, Network};
use super::rate::{self, Then};
use crate::error::Error;
use crate::memory::{is_supervisor, unique_kib};
use crate::report::{Table, line};
use crate::rounds::{Contestant, Pace, Stop, check, take_turns, whole_process};
use crate::stats::Summary;
use crate::{contestant, plan, procfs, stats};

/// How long an agent rests before its memory is read.
const REST: Duration = Duration::from_millis(500);
/// How long an agent that has nothing to do is looked at.
const IDLE: Duration = Duration::from_secs(10);
/// How often the agent is killed.
const RECOVERIES: usize = 10;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Fleet {
    storage: String,
    containers: usize,
    /// How many were launched in a second.
    launched_per_second: f64,
    memory: Memory,
    /// Of one core, while all run and nobody asks.
    idle_percent: f64,
    listing: Table,
    /// From the exec of an agent to its first list of containers.
    recovery: Summary,
}

/// Resident memory, in KiB.
#[derive(Debug, Serialize)]
struct Memory {
    /// An agent that has done nothing yet.
    idle_kib: f64,
    /// One that has launched all of them.
    full_kib: f64,
    per_container_kib: f64,
    /// One that has taken all of them over.
    recovered_kib: f64,
    /// What a supervisor shares with nobody.
    supervisor_median_kib: f64,
}

/// An agent that was just started is filled and emptied.
pub(crate) fn measure(
    daemon: &mut Daemon,
    storage: &str,
    containers: usize,
    in_flight: usize,
    times: usize,
    stop: &Stop,
) -> Result<Fleet, Error> {
    thread::sleep(REST);
    let idle_kib = resident_kib(daemon.pid());
    let launch = daemon.launch(plan::SLEEP, Network::None);
    let took = rate::launches(daemon, &launch, containers, in_flight, Then::Leave)?;
    thread::sleep(REST);
    let full_kib = resident_kib(daemon.pid());
    let idle_percent = idle_percent(daemon.pid());
    let agent = HashSet::from([daemon.pid()]);
    let supervisors = procfs::all().into_iter().filter(|pid| is_supervisor(*pid));
    let ours = supervisors.filter(|pid| procfs::descends_from(*pid, &agent));
    let supervisors: Vec<f64> = ours.filter_map(unique_kib).collect();
    let listing = list(daemon, storage, containers, times, stop)?;
    let mut recoveries = Vec::new();
    for _ in 0..RECOVERIES.min(times) {
        check(stop)?;
        thread::sleep(REST);
        recoveries.push(daemon.recover()?);
        listed(daemon, containers)?;
    }
    thread::sleep(REST);
    let recovered_kib = resident_kib(daemon.pid());
    Ok(Fleet {
        storage: storage.to_owned(),
        containers,
        launched_per_second: containers as f64 / took.as_secs_f64(),
        memory: Memory {
            idle_kib,
            full_kib,
            per_container_kib: (full_kib - idle_kib) / containers as f64,
            recovered_kib,
            supervisor_median_kib: stats::median(&supervisors).unwrap_or_default(),
        },
        idle_percent,
        listing,
        recovery: Summary::of(&recoveries).expect("there was one at least"),
    })
}

/// Lists all: with their use of resources by one call of the API, and by `berth ps` without and with it.
fn list(
    daemon: &Daemon,
    storage: &str,
    containers: usize,
    times: usize,
    stop: &Stop,
) -> Result<Table, Error> {
    let ps = |more: &[&str]| {
        let mut command = daemon.berth();
        command.arg("ps").args(more);
        command
    };
    contestant::prove(ps(&["--usage"]), "tried once before the rounds")?;
    let mut line = Line::new();
    let api = move || {
        let connection = line.get(daemon)?;
        let (duration, all) = daemon.ask("list the containers of", async {
            let start = Instant::now();
            let all = connection.containers().await?;
            Ok((start.elapsed(), all))
        })?;
        // One that was not measured in time is left without its use.
        let found = all.iter().filter(|one| one.resource_statistics.is_some()).count();
        if found == containers { Ok(duration) } else { Err(Error::Listed { found, wanted: containers }) }
    };
    let contestants: Vec<Contestant<'_>> =
        vec![Box::new(api), whole_process(ps(&[])), whole_process(ps(&["--usage"]))];
    let timed = take_turns(contestants, times.min(50), Pace::ONE_BY_ONE, stop)?;
    let names = ["GET_CONTAINERS", "berth ps", "berth ps --usage"];
    Ok(Table::new(storage.to_owned(), Pace::ONE_BY_ONE.name, &names, &timed))
}

fn listed(daemon: &Daemon, wanted: usize) -> Result<(), Error> {
    let mut connection = daemon.connect()?;
    let found = daemon.ask("list the containers of", connection.containers())?.len();
    if found == wanted { Ok(()) } else { Err(Error::Listed { found, wanted }) }
}

/// What a process that has nothing to do uses of a core, as the scheduler counts it (Linux
/// `Documentation/scheduler/sched-stats.rst`).
fn idle_percent(pid: i32) -> f64 {
    let (before, start) = (nanoseconds(pid), Instant::now());
    thread::sleep(IDLE);
    let used = nanoseconds(pid).saturating_sub(before);
    used as f64 / start.elapsed().as_nanos() as f64 * 100.0
}

/// The time on a processor of all threads that a process has.
fn nanoseconds(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |path: std::path::PathBuf| -> Option<u64> {
        fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
    };
    threads.filter_map(|thread| of(thread.path())).sum()
}

/// VmRSS of proc_pid_status(5); nothing for what is gone.
pub(crate) fn resident_kib(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

impl Fleet {
    pub(crate) fn text(&self, text: &mut String) {
        let Fleet { containers, storage, memory, recovery, .. } = self;
        let rate = self.launched_per_second;
        line(
            text,
            &format!("\n{containers} running containers on {storage} (launched at {rate:.0} a second)"),
        );
        self.listing.text(text);
        line(
            text,
            &format!(
                "  recovery after kill -9, exec to the first list, {} times: min {:.0} ms, median {:.0} ms, p90 {:.0} ms",
                recovery.count, recovery.min_ms, recovery.median_ms, recovery.p90_ms
            ),
        );
        line(
            text,
            &format!(
                "  resident memory of the agent: idle {:.1} MiB, with all {:.1} MiB ({:.1} KiB each), recovered {:.1} MiB",
                memory.idle_kib / 1024.0,
                memory.full_kib / 1024.0,
                memory.per_container_kib,
                memory.recovered_kib / 1024.0
            ),
        );
        line(
            text,
            &format!("  an agent of which nobody asks anything: {:.3} % of a core", self.idle_percent),
        );
        let supervisor = memory.supervisor_median_kib;
        line(text, &format!("  unique memory of a supervisor: median {supervisor:.1} KiB"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_this_process_is_some_and_that_of_none_is_nothing() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(resident_kib(me) > 100.0);
        assert_eq!(resident_kib(-1), 0.0);
        assert!(nanoseconds(me) > 0);
        assert_eq!(nanoseconds(-1), 0);
    }
}
