// SPDX-License-Identifier: Apache-2.0
//! Whether the contestants do the same work: a script inside each container says what it sees, the host says which
//! limits its groups have, and every difference from the floor program is shown.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::contestant::{self, Kind, Programs};
use crate::error::Error;
use crate::procfs;
use crate::rounds::{Stop, check};
use crate::site::{Site, Stage};

/// Writes facts to stderr, one a line, behind a mark that nothing else there has.
const SCRIPT: &str = r#"{
echo "pid $$"
echo "session $(awk '{print $6}' /proc/$$/stat)"
echo "hostname $(hostname)"
grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status
awk '{ ro = substr($6, 1, 2); for (i = 7; $i != "-"; i++); print "mount", $5, (($5 == "/") ? "" : $(i + 1)), ro }' /proc/self/mountinfo
sed 's/^[0-9]*:/cgroup /' /proc/self/cgroup
echo "loopback $(cat /sys/class/net/lo/flags)"
for device in /dev/*; do echo "device $(ls -ld "$device" | awk '{ print $1, $5, $6 }') $device"; done
for fd in /proc/$$/fd/*; do echo "descriptor ${fd##*/}"; done
echo "directory $(pwd)"
echo "environment $(cat /proc/$$/environ | tr '\0' ' ')"
for path in /proc/interrupts /proc/keys /proc/timer_list; do echo "readable $path $(cat $path | head -c 1 | wc -c)"; done
for path in /proc/acpi /sys/firmware; do echo "entries $path $(ls -A $path | wc -l)"; done
echo 1 2>/dev/null > /proc/sys/kernel/domainname && echo "writable /proc/sys"
} 2>&1 | sed 's/^/fact /' >&2"#;

const SLEEP: &[&str] = &["/bin/sleep", "1000"];
const DEADLINE: Duration = Duration::from_secs(10);

/// Files of a cgroup v1 hierarchy that hold what was asked for.
const LIMITS: [(&str, &str); 5] = [
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "cpu.cfs_period_us"),
    ("cpu", "cpu.shares"),
    ("memory", "memory.limit_in_bytes"),
    ("pids", "pids.max"),
];

/// What one contestant differs in from the floor program.
#[derive(Debug)]
pub(crate) struct Differences {
    pub(crate) name: &'static str,
    pub(crate) facts: usize,
    /// Facts under the floor program that this one does not have.
    pub(crate) missing: Vec<String>,
    /// Facts that only this one has.
    pub(crate) added: Vec<String>,
}

/// What is seen inside under the floor program, and what the others differ in.
pub(crate) fn compare(
    kinds: &[Kind],
    programs: &Programs,
    site: &Site,
    stage: &Stage,
    stop: &Stop,
) -> Result<(Vec<String>, Vec<Differences>), Error> {
    let mut floor = facts(&inspect_floor(site, stage)?);
    floor.extend(limits(contestant::command(Kind::Floor, programs, site, stage, SLEEP)?, site)?);
    let mut differences = Vec::new();
    for &kind in kinds.iter().filter(|kind| **kind != Kind::Floor && **kind != Kind::FloorNoLibc) {
        check(stop)?;
        let command = contestant::command(kind, programs, site, stage, &["/bin/sh", "-c", SCRIPT])?;
        let mut other = facts(&contestant::prove(command, "inspected from within")?);
        other.extend(limits(contestant::command(kind, programs, site, stage, SLEEP)?, site)?);
        differences.push(Differences {
            name: kind.name(),
            facts: other.len(),
            missing: floor.difference(&other).cloned().collect(),
            added: other.difference(&floor).cloned().collect(),
        });
    }
    Ok((floor.into_iter().collect(), differences))
}

/// With `-p` the floor program leaves stderr to the command.
fn inspect_floor(site: &Site, stage: &Stage) -> Result<String, Error> {
    let command = contestant::floor("floor", site, stage, &["-p"], &["/bin/sh", "-c", SCRIPT]);
    contestant::prove(command, "inspected from within")
}

fn facts(stderr: &str) -> BTreeSet<String> {
    let facts = stderr.lines().filter_map(|line| line.strip_prefix("fact "));
    facts.map(|fact| fact.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Starts a container that sleeps, reads the limits of the groups that it is in, and ends it.
fn limits(mut command: Command, site: &Site) -> Result<Vec<String>, Error> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child =
        command.spawn().map_err(|source| Error::Start { program: contestant::show(&command), source })?;
    let mut sleeper = Sleeper { child, pid: None };
    sleeper.find(site.group());
    Ok(match sleeper.pid {
        Some(pid) => LIMITS.iter().map(|(controller, file)| limit(pid, controller, file)).collect(),
        None => vec!["limits: no container with a process named sleep appeared".to_owned()],
    })
}

fn limit(pid: i32, controller: &str, file: &str) -> String {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let group = table.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    });
    let folder =
        Path::new("/sys/fs/cgroup").join(controller).join(group.unwrap_or_default().trim_start_matches('/'));
    let value = fs::read_to_string(folder.join(file));
    format!("limit {file} {}", value.as_deref().map_or("none", str::trim))
}

/// A running contestant and the sleeping process inside its container.
struct Sleeper {
    child: Child,
    pid: Option<i32>,
}

impl Sleeper {
    /// It descends from the command, or, if what holds it has been let go of, its root tells whose it is.
    fn find(&mut self, mark: &str) {
        let command: HashSet<i32> = i32::try_from(self.child.id()).into_iter().collect();
        let deadline = Instant::now() + DEADLINE;
        while self.pid.is_none() && Instant::now() < deadline {
            let ours = |pid: &i32| {
                procfs::name_of(*pid) == "sleep"
                    && (procfs::descends_from(*pid, &command) || procfs::has_mount_naming(*pid, mark))
            };
            self.pid = procfs::all().into_iter().find(ours);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Sleeper {
    /// Ends the container from within, so that the command cleans up as after any exit.
    fn drop(&mut self) {
        match self.pid {
            Some(pid) => procfs::kill(pid),
            // Fails only when it has ended already.
            None => drop(self.child.kill()),
        }
        // As above.
        let _ = self.child.wait();
    }
}
