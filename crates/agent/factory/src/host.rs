// SPDX-License-Identifier: Apache-2.0
//! The facts about this host that defaults depend on. Probed once and handed in, so that every rule that uses
//! them is a pure function.

use std::fs;
use std::path::Path;

use crate::isolation::Launcher;

/// What was found, or why it was not.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Processors that are online, whether or not this process may use them all.
    pub cpus: Result<u64, String>,
    /// Memory in bytes.
    pub memory: Result<u64, String>,
    /// The size in bytes of the file system that work_dir is on.
    pub disk: Result<u64, String>,
    /// The launcher to use when the operator names none.
    pub launcher: Launcher,
    /// How many devices NVIDIA's management library counts; `None` without that library, which this version
    /// of berth never loads.
    pub nvidia_devices: Option<u64>,
}

impl Host {
    /// Looks at the host. Never fails: what can not be found out is said in its field.
    pub fn probe(work_dir: &Path) -> Host {
        Host {
            cpus: read("/sys/devices/system/cpu/online").and_then(|text| {
                parse_online(&text).ok_or_else(|| format!("'{}' is no list of processors", text.trim()))
            }),
            memory: read("/proc/meminfo").and_then(|text| {
                parse_meminfo(&text).ok_or_else(|| "/proc/meminfo has no MemTotal".to_owned())
            }),
            disk: disk(work_dir),
            launcher: launcher(),
            nvidia_devices: None,
        }
    }
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"))
}

/// Counts `0-3,8,10-11` (the kernel's cpulist format, Documentation/admin-guide/cputopology.rst).
fn parse_online(text: &str) -> Option<u64> {
    let mut count = 0u64;
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// The bytes of the line `MemTotal:       16384 kB` (proc_meminfo(5)).
fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The total size of a file system, by statvfs(3) of the path or, as it may not have been made yet, of the
/// nearest directory above it that is there.
fn disk(path: &Path) -> Result<u64, String> {
    let there = path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(there).map_err(|error| format!("statvfs {}: {error}", there.display()))?;
    stat.f_blocks
        .checked_mul(stat.f_frsize)
        .ok_or_else(|| format!("statvfs {}: the size is out of range", there.display()))
}

/// `linux` for root where processes of a container can be found again: with the v1 freezer enabled, or with a
/// cgroup v2 hierarchy.
fn launcher() -> Launcher {
    let freezer = read("/proc/cgroups").is_ok_and(|text| freezer_enabled(&text));
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if unified || (freezer && rustix::process::geteuid().is_root()) {
        Launcher::Linux
    } else {
        Launcher::Posix
    }
}

/// Whether the last column of the line `freezer 3 40 1` is 1 (cgroups(7), /proc/cgroups).
fn freezer_enabled(text: &str) -> bool {
    let mut lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines.any(|fields| fields.first() == Some(&"freezer") && fields.get(3) == Some(&"1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_can_be_probed() {
        let host = Host::probe(Path::new("/nowhere/yet/work"));
        assert!(host.cpus.unwrap() >= 1);
        assert!(host.memory.unwrap() > 1 << 20);
        assert!(host.disk.unwrap() > 1 << 20);
        assert_eq!(host.nvidia_devices, None);
    }

    #[test]
    fn lists_of_processors_are_counted() {
        assert_eq!(parse_online("0-1\n"), Some(2));
        assert_eq!(parse_online("0-3,8,10-11"), Some(7));
        assert_eq!(parse_online("0"), Some(1));
        for bad in ["", "a", "3-1", "0-", "0-18446744073709551615"] {
            assert_eq!(parse_online(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_memory_line_is_read_in_kilobytes() {
        assert_eq!(parse_meminfo("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(parse_meminfo("MemTotal: 2048\n"), None);
        assert_eq!(parse_meminfo(""), None);
    }

    #[test]
    fn a_disabled_freezer_is_none() {
        assert!(freezer_enabled("#subsys_name hierarchy num_cgroups enabled\ncpu 1 1 1\nfreezer 4 9 1\n"));
        assert!(!freezer_enabled("cpu 1 1 1\nfreezer 4 9 0\n"));
        assert!(!freezer_enabled(""));
    }
}
