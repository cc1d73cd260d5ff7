// SPDX-License-Identifier: Apache-2.0
//! What a group uses, and which limits stand in its control files.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use crate::tree::Files;
use crate::{
    Bytes, Controller, Device, Error, Group, Hierarchies, HugePages, IdList, Limit, MilliCpu, Result, Version,
};

/// What a group uses now or has used so far, groups below it included. Absent is what this kernel does not
/// count, or counts in a controller that the group is not in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time used, in nanoseconds.
    pub cpu_nanos: Option<u64>,
    /// The part of it in user space, in nanoseconds.
    pub cpu_user_nanos: Option<u64>,
    /// The part of it in the kernel, in nanoseconds.
    pub cpu_system_nanos: Option<u64>,
    /// In how many periods (of 100 ms) it had a cpu limit and ran.
    pub cpu_periods: Option<u64>,
    /// For how many periods (of 100 ms) the cpu limit stopped it.
    pub cpu_throttled_periods: Option<u64>,
    /// For how long in all, in nanoseconds.
    pub cpu_throttled_nanos: Option<u64>,
    /// Memory in use, page cache included.
    pub memory: Option<Bytes>,
    /// The most that was in use.
    pub memory_peak: Option<Bytes>,
    /// Anonymous memory.
    pub memory_anonymous: Option<Bytes>,
    /// Page cache, memory file systems and shared memory included.
    pub memory_file: Option<Bytes>,
    /// Memory file systems and shared memory.
    pub memory_shared: Option<Bytes>,
    /// Files mapped into memory.
    pub memory_mapped: Option<Bytes>,
    /// Memory that can not be reclaimed.
    pub memory_unevictable: Option<Bytes>,
    /// The kernel's own memory for it.
    pub memory_kernel: Option<Bytes>,
    /// Buffers of its connections.
    pub memory_sockets: Option<Bytes>,
    /// Memory and swap together; v1 only.
    pub memory_and_swap: Option<Bytes>,
    /// Swap in use.
    pub swap: Option<Bytes>,
    /// How often the memory limit was met, and memory reclaimed or refused.
    pub memory_limit_hits: Option<u64>,
    /// How often there was no memory to be had within the limit; v2 only.
    pub ooms: Option<u64>,
    /// How many processes the kernel killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// How often a process could not be made for that limit.
    pub pids_limit_hits: Option<u64>,
    /// What was read from and written to disks.
    pub disks: Vec<DiskUsage>,
}

/// What is asked of many groups again and again ([`Group::sample`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Processor time, memory, processes and threads; no maxima, no counts of limits that were met, no disks.
    pub usage: Usage,
    /// The limits of processor time and memory, and the request of memory.
    pub applied: Applied,
    /// Processes in the group and those below it.
    pub processes: Option<usize>,
}

/// What was read from and written to one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    /// Which disk.
    pub device: Device,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
}

impl DiskUsage {
    /// Nothing so far.
    pub fn of(device: Device) -> DiskUsage {
        DiskUsage { device, read_bytes: 0, written_bytes: 0, reads: 0, writes: 0 }
    }
}

/// What the control files say. Absent is what this group has no file for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The weight: 1024 for a processor on v1 (`cpu.shares`), 100 on v2 (`cpu.weight`).
    pub cpu_weight: Option<u64>,
    /// The most processor time.
    pub cpu_limit: Option<Limit<MilliCpu>>,
    /// The memory that is protected, where any is.
    pub memory_request: Option<Bytes>,
    /// The most memory.
    pub memory_limit: Option<Limit<Bytes>>,
    /// The most swap beside it.
    pub swap_limit: Option<Limit<Bytes>>,
    /// The most processes and threads.
    pub pids_limit: Option<Limit<u64>>,
    /// The processors it runs on.
    pub cpuset_cpus: Option<IdList>,
    /// The nodes it has memory from.
    pub cpuset_mems: Option<IdList>,
    /// Whether all end when one is killed for lack of memory; v2 only.
    pub oom_group: Option<bool>,
    /// The weight among users of a disk.
    pub io_weight: Option<u16>,
    /// The most of each disk: `254:0 rbps=1048576`.
    pub io: Vec<String>,
    /// The most in huge pages; sizes without a limit are left out.
    pub huge_pages: Vec<HugePages>,
    /// The lines of v1's device list, where `a *:* rwm` is everything; or v2's programs.
    pub devices: Option<Vec<String>>,
    /// The mark of its packets.
    pub net_classid: Option<u32>,
}

impl Applied {
    /// The disks that are limited.
    pub fn disks(&self) -> Vec<Device> {
        let device = |line: &String| -> Option<Device> {
            let (major, minor) = line.split(' ').next()?.split_once(':')?;
            Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        let mut disks: Vec<Device> = self.io.iter().filter_map(device).collect();
        disks.sort_unstable();
        disks.dedup();
        disks
    }

    /// All of it as names and values, under the names that v2 has for the same.
    pub fn lines(&self) -> Vec<(String, String)> {
        fn at<T, U: ToString>(limit: Option<Limit<T>>, value: impl Fn(T) -> U) -> Option<String> {
            Some(match limit? {
                Limit::At(limit) => value(limit).to_string(),
                Limit::Infinite => "max".to_owned(),
            })
        }
        let text = |list: &Option<IdList>| list.as_ref().map(ToString::to_string);
        let all = [
            ("cpu.weight", self.cpu_weight.map(|weight| weight.to_string())),
            ("cpu.max", at(self.cpu_limit, |cpus| cpus.0 as f64 / 1000.0)),
            ("cpuset.cpus", text(&self.cpuset_cpus)),
            ("cpuset.mems", text(&self.cpuset_mems)),
            ("memory.low", self.memory_request.map(|bytes| bytes.0.to_string())),
            ("memory.max", at(self.memory_limit, |bytes| bytes.0)),
            ("memory.swap.max", at(self.swap_limit, |bytes| bytes.0)),
            ("memory.oom.group", self.oom_group.map(|group| u8::from(group).to_string())),
            ("pids.max", at(self.pids_limit, |count| count)),
            ("io.weight", self.io_weight.map(|weight| weight.to_string())),
            ("io.max", (!self.io.is_empty()).then(|| self.io.join("; "))),
            ("devices", self.devices.as_ref().map(|devices| devices.join("; "))),
            ("net_cls.classid", self.net_classid.map(|mark| format!("{mark:#x}"))),
        ];
        let mut lines: Vec<_> =
            all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        for HugePages { page, limit } in &self.huge_pages {
            let value = at(Some(*limit), |bytes| bytes.0).unwrap_or_default();
            lines.push((format!("hugetlb.{}KB.max", page.0 >> 10), value));
        }
        lines
    }
}

impl Group {
    /// What the group uses, as far as it can be read. To know why a container ended, ask before
    /// [`Group::remove`].
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        self.for_each_controller(|controller, files, version| controller.measure(files, version, &mut usage));
        usage
    }

    /// What the group `path` uses, and within which limits, as cheap as that can be had: only the hierarchies are looked at
    /// that have it, and only files whose numbers are in a [`Sample`]. Every process of a group is in all its
    /// hierarchies, so they are counted in one.
    ///
    /// # Errors
    /// As [`Group::open`].
    pub fn sample(hierarchies: &Hierarchies, path: &str) -> Result<Sample> {
        const SAMPLED: [Controller; 4] =
            [Controller::Memory, Controller::Pids, Controller::Cpu, Controller::Cpuacct];
        let places: BTreeSet<usize> = SAMPLED.iter().filter_map(|one| hierarchies.place_of(*one)).collect();
        // A container that shares its parent's limits has a group only where it needs one to be found and ended by.
        let group = match Group::open_in(hierarchies, path, places) {
            Err(Error::NotFound { .. }) => Group::open(hierarchies, path)?,
            opened => opened?,
        };
        let mut sample = Sample::default();
        for controller in SAMPLED {
            if let Some((dir, version)) = group.dir_of(controller) {
                controller.sample(&Files::new(dir.as_fd()), version, &mut sample);
            }
        }
        sample.processes = group.count_processes().ok();
        Ok(sample)
    }

    /// The limits that its control files hold, as far as they can be read.
    pub fn limits_applied(&self) -> Applied {
        let mut applied = Applied::default();
        self.for_each_controller(|controller, files, version| {
            controller.read_back(files, version, &mut applied);
        });
        applied
    }

    /// What its memory is, for people: all that v1 says, or what counts of v2.
    pub fn memory_statistics(&self) -> Option<(Version, String)> {
        let (dir, version) = self.dir_of(Controller::Memory)?;
        let files = Files::new(dir);
        let text = match version {
            Version::V1 => files.with("memory.stat", str::to_owned)?,
            Version::V2 => files.with("memory.stat", |text| {
                let line = |name| format!("{name}: {}\n", crate::tree::field(text, name).unwrap_or_default());
                ["anon", "file", "kernel"].map(line).concat()
            })?,
        };
        Some((version, text))
    }

    fn for_each_controller(&self, mut look: impl FnMut(Controller, &Files<'_>, Version)) {
        for controller in Controller::ALL {
            if let Some((dir, version)) = self.dir_of(controller) {
                look(controller, &Files::new(dir.as_fd()), version);
            }
        }
    }
}
