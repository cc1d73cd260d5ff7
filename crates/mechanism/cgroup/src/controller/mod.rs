// SPDX-License-Identifier: Apache-2.0
//! The controllers, each in its file with v1 and v2 side by side: which values its limits become, purely, and
//! which of its files say what is used and what applies.

use std::fmt;

use crate::tree::Files;
use crate::usage::{Applied, Sample, Usage};
use crate::{Limits, Result, Version, Write};

pub mod cpu;
pub mod cpuset;
pub mod devices;
pub mod hugetlb;
pub mod io;
pub mod memory;
pub mod net_cls;
pub mod pids;

/// A controller that limits need, or that a group is to be a member of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Controller {
    /// On which processors, and memory from where.
    Cpuset,
    /// Processor time: shares and quota.
    Cpu,
    /// Processor time: accounting. On v1 a hierarchy of its own where it is not mounted with `cpu`; on v2 part
    /// of every group.
    Cpuacct,
    /// Memory and swap.
    Memory,
    /// The number of processes.
    Pids,
    /// Disks: `blkio` on v1, `io` on v2.
    Io,
    /// Huge pages.
    Hugetlb,
    /// Use of device files. On v2 not a controller but a program that is attached to the group.
    Devices,
    /// The mark of packets; v1 only.
    NetCls,
    /// The priority of packets; v1 only, and only membership: nothing is written.
    NetPrio,
    /// Membership for counters of performance; on v2 part of every group.
    PerfEvent,
    /// Stopping all processes. On v2 part of every group.
    Freezer,
}

impl Controller {
    /// All of them, in the order in which they are applied.
    pub const ALL: [Controller; 12] = [
        Controller::Cpuset,
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Memory,
        Controller::Pids,
        Controller::Io,
        Controller::Hugetlb,
        Controller::Devices,
        Controller::NetCls,
        Controller::NetPrio,
        Controller::PerfEvent,
        Controller::Freezer,
    ];

    /// Its name in the file system of v1, and of v2 but for [`Controller::Io`].
    pub const fn name(self) -> &'static str {
        match self {
            Controller::Cpuset => "cpuset",
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Io => "blkio",
            Controller::Hugetlb => "hugetlb",
            Controller::Devices => "devices",
            Controller::NetCls => "net_cls",
            Controller::NetPrio => "net_prio",
            Controller::PerfEvent => "perf_event",
            Controller::Freezer => "freezer",
        }
    }

    /// Its name in files of this version.
    pub const fn name_on(self, version: Version) -> &'static str {
        match (self, version) {
            (Controller::Io, Version::V2) => "io",
            _ => self.name(),
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether its files appear on v2 only once it is in the parent's `cgroup.subtree_control`.
    pub(crate) const fn is_enabled_by_parent(self) -> bool {
        matches!(
            self,
            Controller::Cpuset
                | Controller::Cpu
                | Controller::Memory
                | Controller::Pids
                | Controller::Io
                | Controller::Hugetlb
        )
    }

    /// Whether v2 has it in every group, without anything to enable.
    pub(crate) const fn is_in_every_group(self) -> bool {
        matches!(
            self,
            Controller::Cpuacct | Controller::Freezer | Controller::Devices | Controller::PerfEvent
        )
    }

    /// What to write for its part of the limits, in order. Devices on v2 have no file: see [`crate::Group::create`].
    ///
    /// # Errors
    /// [`crate::Error::Inexpressible`] and [`crate::Error::Invalid`].
    pub fn writes(self, limits: &Limits, version: Version, out: &mut Vec<Write>) -> Result<()> {
        match self {
            Controller::Cpuset => cpuset::writes(limits, version, out)?,
            Controller::Cpu => cpu::writes(limits, version, out),
            Controller::Memory => memory::writes(limits, version, out)?,
            Controller::Pids => pids::writes(limits, version, out),
            Controller::Io => io::writes(limits, version, out)?,
            Controller::Hugetlb => hugetlb::writes(limits, version, out)?,
            Controller::Devices => devices::writes(limits, version, out)?,
            Controller::NetCls => net_cls::writes(limits, version, out)?,
            Controller::Cpuacct | Controller::NetPrio | Controller::PerfEvent | Controller::Freezer => {}
        }
        Ok(())
    }

    /// The limit for which it is needed, if one is asked for.
    pub(crate) fn needed_for(self, limits: &Limits) -> Option<&'static str> {
        let first =
            |list: &[(bool, &'static str)]| list.iter().find(|(asked, _)| *asked).map(|(_, name)| *name);
        match self {
            Controller::Cpuset => first(&[
                (limits.cpuset_cpus.is_some(), cpuset::CPUS_LIMIT),
                (limits.cpuset_mems.is_some(), cpuset::MEMS_LIMIT),
            ]),
            Controller::Cpu => first(&[
                (limits.cpu_limit.is_some(), cpu::LIMIT),
                (limits.cpu_shares.is_some(), cpu::SHARES),
                (limits.cpu_request.is_some(), cpu::REQUEST),
            ]),
            Controller::Memory => first(&[
                (limits.memory_limit.is_some(), memory::LIMIT),
                (limits.memory_request.is_some(), memory::REQUEST),
                (limits.swap_limit.is_some(), memory::SWAP),
                (limits.oom_group == Some(true), memory::OOM_GROUP),
            ]),
            Controller::Pids => first(&[(limits.pids_limit.is_some(), pids::LIMIT)]),
            Controller::Io => {
                first(&[(limits.io_weight.is_some(), io::WEIGHT), (!limits.io.is_empty(), io::MAX)])
            }
            Controller::Hugetlb => first(&[(!limits.huge_pages.is_empty(), hugetlb::LIMIT)]),
            Controller::Devices => first(&[(limits.devices.is_some(), devices::LIMIT)]),
            Controller::NetCls => first(&[(limits.net_classid.is_some(), net_cls::LIMIT)]),
            Controller::Cpuacct | Controller::NetPrio | Controller::PerfEvent | Controller::Freezer => None,
        }
    }

    pub(crate) fn measure(self, files: &Files<'_>, version: Version, usage: &mut Usage) {
        match self {
            Controller::Cpu => cpu::measure(files, version, usage),
            Controller::Cpuacct => cpu::measure_time(files, version, usage),
            Controller::Memory => memory::measure(files, version, usage),
            Controller::Pids => pids::measure(files, usage),
            Controller::Io => io::measure(files, version, usage),
            _ => {}
        }
    }

    pub(crate) fn sample(self, files: &Files<'_>, version: Version, sample: &mut Sample) {
        match self {
            Controller::Cpu => cpu::sample(files, version, sample),
            Controller::Cpuacct => cpu::sample_time(files, version, sample),
            Controller::Memory => memory::sample(files, version, sample),
            Controller::Pids => pids::sample(files, sample),
            _ => {}
        }
    }

    pub(crate) fn read_back(self, files: &Files<'_>, version: Version, applied: &mut Applied) {
        match self {
            Controller::Cpuset => cpuset::read_back(files, version, applied),
            Controller::Cpu => cpu::read_back(files, version, applied),
            Controller::Memory => memory::read_back(files, version, applied),
            Controller::Pids => pids::read_back(files, applied),
            Controller::Io => io::read_back(files, version, applied),
            Controller::Hugetlb => hugetlb::read_back(files, version, applied),
            Controller::Devices => devices::read_back(files, version, applied),
            Controller::NetCls => net_cls::read_back(files, version, applied),
            Controller::Cpuacct | Controller::NetPrio | Controller::PerfEvent | Controller::Freezer => {}
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All that the limits become where every controller has this version, in the order in which to write it.
///
/// # Errors
/// [`crate::Error::Inexpressible`] for a limit that this version can not hold, [`crate::Error::Invalid`] for
/// limits that contradict each other.
pub fn writes(limits: &Limits, version: Version) -> Result<Vec<Write>> {
    let mut out = Vec::with_capacity(8);
    for controller in Controller::ALL {
        controller.writes(limits, version, &mut out)?;
    }
    Ok(out)
}
