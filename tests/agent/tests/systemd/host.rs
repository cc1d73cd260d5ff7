// SPDX-License-Identifier: Apache-2.0
//! The host that the tests stand on, its unit and its containers.

use berth_test_agent::{Api, Exit, Groups, until};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The unit.
pub(crate) const UNIT: &str = "berth.service";

/// The host, for one test at a time: there is one unit.
#[derive(Debug)]
pub(crate) struct Host {
    _turn: MutexGuard<'static, ()>,
}

/// What is to stay as it is of a container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Its first process, and when that began.
    pub(crate) process: (u32, u64),
    /// The same of its supervisor.
    pub(crate) supervisor: (u32, u64),
    /// Its group.
    pub(crate) group: String,
    /// Its supervisor's.
    pub(crate) home: String,
    /// What is set in its group.
    pub(crate) settings: BTreeMap<PathBuf, String>,
}

impl Host {
    /// The host with the agent's unit started.
    ///
    /// # Errors
    /// What this machine lacks.
    pub(crate) fn new() -> Result<Host, String> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if !Path::new("/run/systemd/system").is_dir() {
            return Err("systemd as init".to_owned());
        }
        if !Path::new("/vm/list").exists() {
            return Err("a VM of ours: this would start a unit of this machine".to_owned());
        }
        let host = Host { _turn: turn };
        host.systemctl(&["start", UNIT]);
        Ok(host)
    }

    /// `systemctl`, which has to succeed.
    #[track_caller]
    pub(crate) fn systemctl(&self, args: &[&str]) -> String {
        let exit = run(Command::new("systemctl").args(args));
        assert_eq!(exit.code, Some(0), "systemctl {args:?}: {exit:?}\n{}", self.log());
        exit.stdout.trim().to_owned()
    }

    /// A property of the agent's unit.
    #[track_caller]
    pub(crate) fn property(&self, name: &str) -> String {
        self.systemctl(&["show", "--property", name, "--value", UNIT])
    }

    /// The agent's pid.
    #[track_caller]
    pub(crate) fn agent(&self) -> u32 {
        let pid = self.property("MainPID");
        pid.parse().unwrap_or_else(|_| panic!("no pid: {pid:?}"))
    }

    /// `berth`.
    #[track_caller]
    pub(crate) fn berth(&self, args: &[&str]) -> Exit {
        run(Command::new("berth").args(args))
    }

    /// The agent's API.
    pub(crate) fn api(&self) -> Api {
        Api::at(Path::new("/run/berth/berth.sock"))
    }

    /// A container of the agent with limits and device rules, which sleeps; its id.
    #[track_caller]
    pub(crate) fn launch(&self, name: &str) -> String {
        let limits = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cap-add", "MKNOD"];
        let start = ["run", "--detach", "--name", name];
        let command = ["--", "sleep", "100000"];
        let exit = self.berth(&[&start[..], &limits[..], &command[..]].concat());
        assert_eq!(exit.code, Some(0), "{exit:?}\n{}", self.log());
        exit.stdout.trim().to_owned()
    }

    /// What a container is now.
    #[track_caller]
    pub(crate) fn snapshot(&self, name: &str) -> Snapshot {
        let pid = self.api().pid(name);
        let supervisor = parent(pid);
        let group = group_of(pid);
        // What is set is in the container's own group, whichever leaf of it the process is in.
        let own = group.split_inclusive('/').collect::<Vec<_>>();
        let at = own.iter().position(|part| part.trim_end_matches('/') == "containers").map(|at| at + 2);
        let own = own[..at.unwrap_or(own.len())].concat();
        Snapshot {
            process: (pid, began(pid)),
            supervisor: (supervisor, began(supervisor)),
            home: group_of(supervisor),
            settings: Groups::of(Path::new(own.trim_matches('/'))).settings(),
            group,
        }
    }

    /// Sees that the device rules of a container hold: the null device can be written, the kernel's log not even opened.
    #[track_caller]
    pub(crate) fn devices_are_ruled(&self, name: &str) {
        let script = "echo x >/dev/null && ! head -c 1 /dev/kmsg 2>&1";
        let exit = self.berth(&["exec", name, "sh", "-c", script]);
        assert!(exit.code == Some(0) && exit.stdout.contains("not permitted"), "{exit:?}");
    }

    /// Removes containers.
    #[track_caller]
    pub(crate) fn remove(&self, names: &[String]) {
        for name in names {
            let exit = self.berth(&["rm", "-f", name]);
            assert_eq!(exit.code, Some(0), "{exit:?}");
        }
    }

    /// The end of the unit's log.
    pub(crate) fn log(&self) -> String {
        run(Command::new("journalctl").args(["-u", UNIT, "-n", "40", "-o", "cat", "--no-pager"])).stdout
    }
}

#[track_caller]
fn run(command: &mut Command) -> Exit {
    let done = command.stdin(Stdio::null()).output();
    done.unwrap_or_else(|e| panic!("start {:?}: {e}", command.get_program())).into()
}

/// A field of /proc/PID/stat, counted from the state on (proc_pid_stat(5): that one is 3).
fn stat(pid: u32, field: usize) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let word = rest.split_ascii_whitespace().nth(field - 3);
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("process {pid} is gone"))
}

fn parent(pid: u32) -> u32 {
    u32::try_from(stat(pid, 4)).unwrap_or(0)
}

fn began(pid: u32) -> u64 {
    stat(pid, 22)
}

/// The group of a process.
pub(crate) fn group_of(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}

/// The processes directly in a group.
pub(crate) fn members(group: &str) -> Vec<u32> {
    let file = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/')).join("cgroup.procs");
    fs::read_to_string(file).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

/// Waits until the unit is active with another agent than the one before.
pub(crate) fn until_replaced(host: &Host, before: u32) {
    until("another agent serves", || {
        host.property("ActiveState") == "active" && ![0, before].contains(&host.agent())
    });
}
