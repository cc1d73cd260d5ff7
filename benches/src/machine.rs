// SPDX-License-Identifier: Apache-2.0
//! What the figures were measured on: a figure without its machine says nothing.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use serde::Serialize;

/// Read from /proc; what can not be read is empty.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    kernel: String,
    processor: String,
    processors: usize,
    memory: String,
    /// The load averages when the bench started: above the number of processors the figures are worth little.
    load: String,
    disk: String,
}

impl Machine {
    pub(crate) fn look(disk: &Path) -> Machine {
        let info = read("/proc/cpuinfo");
        let field = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        Machine {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field(&info, "model name"),
            processors: available_parallelism().map_or(0, usize::from),
            memory: field(&read("/proc/meminfo"), "MemTotal"),
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            disk: file_system_of(disk),
        }
    }

    pub(crate) fn lines(&self) -> String {
        format!(
            "kernel {}, {} x {}, {} memory, load {}, disk {}",
            self.kernel, self.processors, self.processor, self.memory, self.load, self.disk
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The type of the file system that a folder is on: that of the longest mount point above it.
fn file_system_of(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let table = read("/proc/self/mounts");
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(1)?;
        folder.starts_with(point).then_some((point.len(), fields.next()?))
    });
    // Of two mounts on one point the later one is seen.
    mounts.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_the_deepest_mount_above_it() {
        assert_eq!(file_system_of(Path::new("/proc/self")), "proc");
    }
}
