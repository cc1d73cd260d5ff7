// SPDX-License-Identifier: Apache-2.0
//! `berth top`: the processes of a container, as `ps -ef` would show them on this host; it is this program that looks,
//! so that nothing has to be in the container.

use crate::cli::{Format, Global, Top};
use crate::exit::Failure;
use crate::find::Places;
use crate::text::{self, Look, escaped, show, show_json};
use berth_client::{Connection, block_on};
use berth_factory::oneshot::{Native, Standing};
use berth_model::ContainerId;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// In what times are counted (time(7)): the same on every machine that this runs on.
const USER_HZ: u64 = 100;
/// No command line is read further.
const LONGEST: usize = 4096;

/// Shows them.
pub(crate) fn top(global: &Global, args: &Top) -> Result<u8, Failure> {
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let there = async |c: &mut Connection, id: &ContainerId| Ok(c.inspect(id).await?.pids);
    let pids = block_on(places.at(&args.name, async |native, id| here(native, id), there));
    let pids = pids.map_err(|e| Failure::client(&e)).and_then(|pids| pids).map_err(|e| e.code(1))?;
    if pids.is_empty() {
        return Err(Failure::text(format!("container {} is not running", args.name)).code(1));
    }
    // One that ended meanwhile is none any more.
    let mut processes: Vec<Process> = pids.into_iter().filter_map(Process::look).collect();
    processes.sort_by_key(|process| process.pid);
    if args.output == Format::Json {
        show_json(&processes.iter().map(Process::json).collect());
    } else {
        let rows = processes.iter().map(|process| (Look::Plain, process.cells())).collect();
        show(&text::table(&["UID", "PID", "PPID", "STAT", "RSS", "TIME", "CMD"], rows, text::colours()));
    }
    Ok(0)
}

/// Of a container of a `berth run` its first process and what descends from it.
fn here(native: &Native, name: &str) -> Result<Vec<u32>, Failure> {
    let standing = native.look(name).map_err(|e| Failure::of(&e))?.map(|listed| listed.standing);
    let Some(Standing::Running { pid }) = standing else { return Ok(Vec::new()) };
    let Ok(first) = u32::try_from(pid) else { return Ok(Vec::new()) };
    let mut all: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        all.extend(pid.and_then(Process::look).map(|process| (process.pid, process.parent)));
    }
    let mut found = vec![first];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    Ok(found)
}

/// A process, as proc(5) has it.
#[derive(Debug, PartialEq)]
struct Process {
    uid: u32,
    pid: u32,
    parent: u32,
    state: char,
    resident: u64,
    /// Processor time, in seconds.
    seconds: u64,
    command: String,
}

impl Process {
    fn look(pid: u32) -> Option<Process> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        Process::read(pid, uid, &String::from_utf8_lossy(&stat), &status, &line)
    }

    /// `PID (NAME) STATE PPID …`, where a name may have anything in it, also `)` (proc_pid_stat(5)).
    fn read(pid: u32, uid: u32, stat: &str, status: &str, line: &[u8]) -> Option<Process> {
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let line: Vec<_> =
            line[..line.len().min(LONGEST)].split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        let line = line.join(" ");
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Some(Process {
            uid,
            pid,
            parent: u32::try_from(number(4)?).ok()?,
            state: fields.first()?.chars().next()?,
            resident: kilobytes.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024,
            seconds: (number(14)? + number(15)?) / USER_HZ,
            command: match line.trim_end() {
                "" => format!("[{name}]"),
                line => line.to_owned(),
            },
        })
    }

    fn cells(&self) -> Vec<String> {
        let s = self.seconds;
        vec![
            self.uid.to_string(),
            self.pid.to_string(),
            self.parent.to_string(),
            self.state.to_string(),
            text::binary(self.resident),
            format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
            escaped(&self.command),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "uid": self.uid, "pid": self.pid, "ppid": self.parent, "state": self.state.to_string(),
            "rss_bytes": self.resident, "cpu_seconds": self.seconds, "command": self.command,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "7 (a) b ( S) S 3 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 1 0 500 1000 42 1844 1 1";
        let status = "Name:\tx\nVmRSS:\t     168 kB\n";
        let process = Process::read(7, 1000, stat, status, b"sh\0-c\0\x1b[2Jx\0").unwrap();
        assert_eq!((process.pid, process.parent, process.state, process.uid), (7, 3, 'S', 1000));
        assert_eq!((process.resident, process.seconds), (42 * 4096, 4));
        assert_eq!(process.cells().last().unwrap(), "sh -c \\u{1b}[2Jx");
        let bare = Process::read(7, 0, stat, "", b"").unwrap();
        assert_eq!(bare.command, "[a) b ( S]", "one without a command line has its name");
        assert!(Process::read(7, 0, "7 (a", "", b"").is_none());
        assert!(Process::read(7, 0, "7 (a) S", "", b"").is_none());
    }

    #[test]
    fn this_process_is_seen() {
        let process = Process::look(std::process::id()).unwrap();
        assert_eq!(process.parent, std::os::unix::process::parent_id());
        assert!(process.resident > 0 && !process.command.is_empty());
    }
}
