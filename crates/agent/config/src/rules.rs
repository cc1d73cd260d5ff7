// SPDX-License-Identifier: Apache-2.0
//! Values that are of their type and yet can not be, alone or together. Only flags that are built have rules:
//! the others are refused before anybody could ask what they mean.

use std::path::Path;

use crate::problem::{Problem, What};
use crate::resolved::{Resolved, Setting, not_allowed};
use crate::typed::Typed;
use crate::value::Value;

/// sun_path of sockaddr_un has 108 bytes, the last of them NUL (unix(7)).
const SOCKET_PATH: usize = 107;

/// Everything that the rules object to.
pub(crate) fn check(typed: &Typed, resolved: &Resolved) -> Vec<Problem> {
    let mut problems = Vec::new();
    let setting = |name: &str| resolved.setting(name).expect("rules name flags of the table");
    for name in ["http_heartbeat_interval", "disk_watch_interval"] {
        let setting = setting(name);
        if matches!(&setting.value, Some(Value::Duration(duration)) if duration.is_zero()) {
            problems.push(not_allowed(setting, "it must be more than nothing", "give a time such as 15secs"));
        }
    }
    if !(0.0..=1.0).contains(&resolved.gc_disk_headroom) {
        let why = "it is a part of the disk, from 0 to 1";
        problems.push(not_allowed(setting("gc_disk_headroom"), why, "give a number such as 0.1"));
    }
    problems.extend(directories(setting("work_dir"), setting("runtime_dir"), resolved));
    let length = resolved.socket.as_os_str().len();
    if length > SOCKET_PATH {
        let why = format!("a unix socket's path has at most {SOCKET_PATH} bytes, and this has {length}");
        problems.push(not_allowed(setting("socket"), why, "give a shorter --socket or --runtime_dir"));
    }
    problems.extend(crate::resolved::tcp(setting("ip"), setting("port")).err().map(|problem| *problem));
    if typed.get("socket_group").is_some() && resolved.socket_group.is_empty() {
        let advice = "leave it away, or name a group";
        problems.push(not_allowed(setting("socket_group"), "a group has a name", advice));
    }
    problems
}

fn directories(work: &Setting, runtime: &Setting, resolved: &Resolved) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (setting, path) in [(work, &resolved.work_dir), (runtime, &resolved.runtime_dir)] {
        if path.parent().is_none() || is_of_the_system(path) {
            let why = "the agent owns this directory, and sets its mode";
            let advice = "name a directory that is for the agent alone";
            problems.push(not_allowed(setting, why, advice));
        }
    }
    if resolved.work_dir == resolved.runtime_dir {
        let what = What::Conflict(format!(
            "--work_dir and --runtime_dir are both '{}'",
            resolved.work_dir.display()
        ));
        let advice = "one survives reboots and the other must not: give two directories";
        problems.push(Problem::new(what, Some(runtime.origin.clone()), advice).about("runtime_dir"));
    }
    problems
}

/// Directories that everybody else uses too.
fn is_of_the_system(path: &Path) -> bool {
    const SHARED: &[&str] = &[
        "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/mnt", "/opt", "/proc", "/root", "/run",
        "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/run", "/var/tmp",
    ];
    SHARED.iter().any(|shared| path == Path::new(shared))
}
