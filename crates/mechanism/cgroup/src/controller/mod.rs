// SPDX-License-Identifier: Apache-2.0
//! The controllers, each in its file with v1 and v2 side by side: which values its limits become, purely, and
//! which of its files say what is used and what applies.

use std::fmt;

use crate::tree::Files;
use crate::usage::{Applied, Usage};
use crate::{Limits, Result, Version, Write};

pub mod cpu;
pub mod devices;
pub mod memory;
pub mod pids;

/// A controller that limits need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Controller {
    /// Processor time: shares and quota.
    Cpu,
    /// Processor time: accounting. On v1 a hierarchy of its own where it is not mounted with `cpu`; on v2 part
    /// of every group.
    Cpuacct,
    /// Memory and swap.
    Memory,
    /// The number of processes.
    Pids,
    /// Use of device files. On v2 not a controller but a program, which this crate does not load.
    Devices,
    /// Stopping all processes. On v2 part of every group.
    Freezer,
}

impl Controller {
    /// All of them, in the order in which they are applied.
    pub const ALL: [Controller; 6] = [
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Memory,
        Controller::Pids,
        Controller::Devices,
        Controller::Freezer,
    ];

    /// Its name in the file system.
    pub const fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether its files appear on v2 only once it is in the parent's `cgroup.subtree_control`.
    pub(crate) const fn is_enabled_by_parent(self) -> bool {
        matches!(self, Controller::Cpu | Controller::Memory | Controller::Pids)
    }

    /// What to write for its part of the limits, in order.
    ///
    /// # Errors
    /// [`crate::Error::Inexpressible`] and [`crate::Error::Invalid`].
    pub fn writes(self, limits: &Limits, version: Version, out: &mut Vec<Write>) -> Result<()> {
        match self {
            Controller::Cpu => cpu::writes(limits, version, out),
            Controller::Cpuacct | Controller::Freezer => {}
            Controller::Memory => memory::writes(limits, version, out)?,
            Controller::Pids => pids::writes(limits, version, out),
            Controller::Devices => devices::writes(limits, version, out)?,
        }
        Ok(())
    }

    pub(crate) fn measure(self, files: &Files<'_>, version: Version, usage: &mut Usage) {
        match self {
            Controller::Cpu => cpu::measure(files, version, usage),
            Controller::Cpuacct => cpu::measure_time(files, version, usage),
            Controller::Memory => memory::measure(files, version, usage),
            Controller::Pids => pids::measure(files, usage),
            Controller::Devices | Controller::Freezer => {}
        }
    }

    pub(crate) fn read_back(self, files: &Files<'_>, version: Version, applied: &mut Applied) {
        match self {
            Controller::Cpu => cpu::read_back(files, version, applied),
            Controller::Cpuacct | Controller::Freezer => {}
            Controller::Memory => memory::read_back(files, version, applied),
            Controller::Pids => pids::read_back(files, applied),
            Controller::Devices => devices::read_back(files, version, applied),
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
