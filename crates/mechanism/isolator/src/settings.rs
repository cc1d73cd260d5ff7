// SPDX-License-Identifier: Apache-2.0
//! What the operator decides for all containers.

use crate::Handles;
use berth_cgroup::{Bytes, Controller, DeviceRule, Hierarchies, Limit, Limits, Pressure};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The operator's settings, as isolators need them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The host's control group hierarchies; none when the cgroups isolator is not used.
    pub hierarchies: Option<Hierarchies>,
    /// Where profiles are looked for by name (`--seccomp_config_dir`).
    pub seccomp_config_dir: Option<PathBuf>,
    /// Where compiled profiles are kept.
    pub seccomp_cache: Option<PathBuf>,
    /// Whether a profile may be named by an absolute path (the one-shot command line; never the API).
    pub seccomp_paths: bool,
    /// Isolators that are left out.
    pub without: Vec<String>,
    /// What concerns control groups.
    pub groups: GroupSettings,
    /// How often what containers keep on the disk is looked at, where a quota on that is enforced.
    pub disk: Option<crate::DiskWatch>,
}

/// What the operator decides for control groups.
#[derive(Debug, Clone)]
pub struct GroupSettings {
    /// Controllers whose groups every container is in, also where nothing is limited by them (`cgroups/all`,
    /// `cgroups/perf_event`).
    pub member_of: Vec<Controller>,
    /// Whether the request of processors is also the most (`--cgroups_enable_cfs`).
    pub request_is_limit: bool,
    /// Whether who has a memory limit gets no swap (`--cgroups_limit_swap`).
    pub limit_swap: bool,
    /// Whether revocable processors give way to others (`--revocable_cpu_low_priority`).
    pub revocable_gives_way: bool,
    /// How long processes may take to leave a group after SIGKILL (`--cgroups_destroy_timeout`).
    pub destroy_timeout: Duration,
    /// Devices that every container may use beside the usual ones (`--allowed_devices`).
    pub allowed_devices: Vec<DeviceRule>,
    /// Marks of packets, if containers get some.
    pub net_cls: Option<Handles>,
    /// How often memory was short, of each group that is watched. Clones share it: the isolator counts, and who measures
    /// looks.
    pub pressure: PressureCounts,
}

/// How often the kernel said that memory is short (cgroup v1), by the paths of groups.
#[derive(Debug, Clone, Default)]
pub struct PressureCounts(Arc<Mutex<HashMap<String, Pressure>>>);

impl PressureCounts {
    /// How often so far: low, medium, critical. None of a group that is not watched.
    pub fn read(&self, group: &str) -> Option<[u64; 3]> {
        self.lock().get_mut(group).map(Pressure::read)
    }

    pub(crate) fn keep(&self, group: &str, pressure: Pressure) {
        self.lock().insert(group.to_owned(), pressure);
    }

    pub(crate) fn forget(&self, group: &str) {
        self.lock().remove(group);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pressure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            member_of: Vec::new(),
            request_is_limit: false,
            limit_swap: false,
            revocable_gives_way: true,
            destroy_timeout: Duration::from_secs(60),
            allowed_devices: Vec::new(),
            net_cls: None,
            pressure: PressureCounts::default(),
        }
    }
}

impl GroupSettings {
    /// What the operator's flags make of the limits that a container asks for.
    pub fn complete(&self, limits: &mut Limits) {
        limits.cpu_low_priority &= self.revocable_gives_way;
        if self.request_is_limit && limits.cpu_limit.is_none() {
            limits.cpu_limit = limits.cpu_request.map(Limit::At);
        }
        if self.limit_swap && limits.swap_limit.is_none() && matches!(limits.memory_limit, Some(Limit::At(_)))
        {
            limits.swap_limit = Some(Limit::At(Bytes(0)));
        }
    }
}
