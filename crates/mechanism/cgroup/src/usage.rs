// SPDX-License-Identifier: Apache-2.0
//! What a group uses, and which limits stand in its control files.

use std::os::fd::AsFd;

use crate::tree::Files;
use crate::{Bytes, Controller, Group, Limit, MilliCpu};

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
    /// For how many periods (of 100 ms) the cpu limit stopped it.
    pub cpu_throttled_periods: Option<u64>,
    /// For how long in all, in nanoseconds.
    pub cpu_throttled_nanos: Option<u64>,
    /// Memory in use, page cache included.
    pub memory: Option<Bytes>,
    /// The most that was in use.
    pub memory_peak: Option<Bytes>,
    /// How often the memory limit was met, and memory reclaimed or refused.
    pub memory_limit_hits: Option<u64>,
    /// How many processes the kernel killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
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
    /// The lines of v1's device list; `a *:* rwm` is everything.
    pub devices: Option<Vec<String>>,
}

impl Group {
    /// What the group uses, as far as it can be read. To know why a container ended, ask before
    /// [`Group::remove`].
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        self.for_each_controller(|controller, files, version| controller.measure(files, version, &mut usage));
        usage
    }

    /// The limits that its control files hold, as far as they can be read.
    pub fn limits_applied(&self) -> Applied {
        let mut applied = Applied::default();
        self.for_each_controller(|controller, files, version| {
            controller.read_back(files, version, &mut applied);
        });
        applied
    }

    fn for_each_controller(&self, mut look: impl FnMut(Controller, &Files<'_>, crate::Version)) {
        for controller in Controller::ALL {
            if let Some((dir, version)) = self.dir_of(controller) {
                look(controller, &Files::new(dir.as_fd()), version);
            }
        }
    }
}
