// SPDX-License-Identifier: Apache-2.0
//! Questions about processes, answered by /proc. A process that is gone has no children, no name and no files.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// Every process that is there now.
pub(crate) fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Ends a process at once.
pub(crate) fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself in between.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The pids of its children.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The name of the program that it runs, cut to 15 bytes; empty when it is gone.
pub(crate) fn name_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether it is one of these, or a child of a child of one.
pub(crate) fn descends_from(mut pid: i32, ancestors: &HashSet<i32>) -> bool {
    while pid > 1 {
        if ancestors.contains(&pid) {
            return true;
        }
        pid = parent_of(pid).unwrap_or(0);
    }
    false
}

/// Whether it has a file or its working directory below `folder`.
pub(crate) fn holds_file_below(pid: i32, folder: &Path) -> bool {
    let links =
        fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    links
        .chain([PathBuf::from(format!("/proc/{pid}/cwd"))])
        .any(|link| fs::read_link(link).is_ok_and(|target| target.starts_with(folder)))
}

/// Whether its mount namespace has a mount that names `text`, as the overlay of a container names its layers.
pub(crate) fn has_mount_naming(pid: i32, text: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|table| table.contains(text))
}

/// The fourth field of /proc/PID/stat; the second is in brackets and may hold anything (proc_pid_stat(5)).
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_descends_from_its_parent_and_from_no_stranger() {
        let me = i32::try_from(std::process::id()).unwrap();
        let parent = parent_of(me).unwrap();
        assert!(descends_from(me, &HashSet::from([parent])));
        assert!(!descends_from(me, &HashSet::from([-5])));
    }

    #[test]
    fn a_process_holds_the_files_that_it_has_open() {
        let folder = std::env::temp_dir()
            .canonicalize()
            .unwrap()
            .join(format!("berth-bench-test-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(!holds_file_below(me, &folder));
        let open = fs::File::create(folder.join("held")).unwrap();
        assert!(holds_file_below(me, &folder));
        drop(open);
        fs::remove_dir_all(&folder).unwrap();
    }
}
