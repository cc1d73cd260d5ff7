// SPDX-License-Identifier: Apache-2.0
//! What a container's control group says of it, and what it is told: usage, limits, and whether it ended for lack of
//! memory.

use crate::live::Ending;
use berth_cgroup::{
    Applied, Bytes, Group, Hierarchies, HugePages, IdList, IoLimit, Limit, Limits, Sample, Version,
};
use berth_contract::Error;
use berth_isolator::GroupSettings;
use berth_model::{
    CgroupInfo, ContainerConfig, ContainerTermination, NetCls, Reason, Resource, ResourceStatistics,
    Resources, Scalar, TaskState,
};
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const MIB: u64 = 1 << 20;

/// Where containers have their control groups; nowhere, when the isolator is not used.
#[derive(Debug, Clone)]
pub(crate) struct Groups(pub(crate) Option<Hierarchies>, pub(crate) GroupSettings);

impl Groups {
    /// The container's group; none once it is gone, or when it never had one.
    fn open(&self, path: &str) -> Option<Group> {
        Group::open(self.0.as_ref()?, path).ok()
    }

    /// What the container uses now; what can not be measured is absent.
    pub(crate) fn usage(&self, path: &str) -> ResourceStatistics {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let mut statistics = ResourceStatistics { timestamp, ..ResourceStatistics::default() };
        let sample = self.0.as_ref().and_then(|hierarchies| Group::sample(hierarchies, path).ok());
        let Some(Sample { usage, applied, processes }) = sample else { return statistics };
        let seconds = |nanos: Option<u64>| nanos.map(|n| n as f64 / 1e9);
        let count = |n: Option<u64>| n.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        statistics.processes = count(processes.map(|count| count as u64));
        statistics.threads = count(usage.pids);
        statistics.cpus_user_time_secs = seconds(usage.cpu_user_nanos);
        statistics.cpus_system_time_secs = seconds(usage.cpu_system_nanos);
        statistics.cpus_nr_periods = count(usage.cpu_periods);
        statistics.cpus_nr_throttled = count(usage.cpu_throttled_periods);
        statistics.cpus_throttled_time_secs = seconds(usage.cpu_throttled_nanos);
        statistics.cpus_limit = at(applied.cpu_limit).map(|limit| limit.0 as f64 / 1000.0);
        statistics.mem_total_bytes = usage.memory.map(|b| b.0);
        statistics.mem_limit_bytes = at(applied.memory_limit).map(|b| b.0);
        statistics.mem_soft_limit_bytes = applied.memory_request.map(|b| b.0);
        let bytes = |b: Option<berth_cgroup::Bytes>| b.map(|b| b.0);
        (statistics.mem_file_bytes, statistics.mem_cache_bytes) =
            (bytes(usage.memory_file), bytes(usage.memory_file));
        (statistics.mem_anon_bytes, statistics.mem_rss_bytes) =
            (bytes(usage.memory_anonymous), bytes(usage.memory_anonymous));
        statistics.mem_mapped_file_bytes = bytes(usage.memory_mapped);
        statistics.mem_unevictable_bytes = bytes(usage.memory_unevictable);
        statistics.mem_swap_bytes = bytes(usage.swap);
        statistics.mem_total_memsw_bytes = bytes(usage.memory_and_swap);
        statistics.mem_kmem_usage_bytes = bytes(usage.memory_kernel);
        statistics.mem_kmem_tcp_usage_bytes = bytes(usage.memory_sockets);
        if let Some([low, medium, critical]) = self.1.pressure.read(path) {
            statistics.mem_low_pressure_counter = Some(low);
            statistics.mem_medium_pressure_counter = Some(medium);
            statistics.mem_critical_pressure_counter = Some(critical);
        }
        statistics
    }

    /// The mark of its packets, where containers get some.
    pub(crate) fn mark(&self, path: &str) -> Option<CgroupInfo> {
        self.1.net_cls?;
        let classid = self.open(path)?.limits_applied().net_classid?;
        Some(CgroupInfo { net_cls: Some(NetCls { classid: Some(classid) }) })
    }

    /// Sets the complete new requests and limits. A group that is gone is no error: the container ended.
    pub(crate) fn update(&self, path: &str, limits: &Limits) -> Result<(), Error> {
        let Some(mut group) = self.open(path) else { return Ok(()) };
        let mut asked = limits.clone();
        self.1.complete(&mut asked);
        match group.update(&complete(&asked, &group.limits_applied())) {
            Ok(()) => Ok(()),
            Err(_) if !group.exists() => Ok(()),
            Err(e) => {
                Err(Error::because(e.class(), format!("limit the container (control group {path})"), e))
            }
        }
    }

    /// Stops all processes.
    pub(crate) fn freeze(&self, path: &str, deadline: Instant) -> Result<(), Error> {
        self.must(path)?
            .freeze(deadline)
            .map_err(|e| Error::because(e.class(), format!("pause the container (control group {path})"), e))
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self, path: &str) -> Result<(), Error> {
        self.must(path)?
            .thaw()
            .map_err(|e| Error::because(e.class(), format!("resume the container (control group {path})"), e))
    }

    /// Whether all processes are stopped, or were told to.
    pub(crate) fn is_frozen(&self, path: &str) -> bool {
        self.open(path).and_then(|group| group.is_frozen()).unwrap_or(false)
    }

    /// Takes a process that was killed out of a container that is stopped. Best effort: it ends with the container
    /// otherwise.
    pub(crate) fn take_killed(&self, base: &str, pid: i32) {
        if let Some(group) = self.open(base) {
            let _ = group.take_killed(pid);
        }
    }

    fn must(&self, path: &str) -> Result<Group, Error> {
        let hierarchies = self.0.as_ref().ok_or(Error::Unsupported)?;
        Group::open(hierarchies, path)
            .map_err(|e| Error::because(e.class(), format!("open the container's control group {path}"), e))
    }

    /// How the container ended: its status, and the limit it met, if that was it.
    pub(crate) fn termination(&self, path: &str, ending: &Ending) -> ContainerTermination {
        let status = match ending {
            Ending::Status(status) => *status,
            Ending::Unknown(why) => {
                let message = Some(format!("the exit status is unknown: {why}"));
                return ContainerTermination { message, ..ContainerTermination::default() };
            }
        };
        let ended = ContainerTermination { status: Some(status.0), ..ContainerTermination::default() };
        // Whoever survived the kill of another process in it did not end for lack of memory. 137 is what a shell
        // makes of a child that was killed.
        if status.0 & 0x7f != 9 && status.0 != 137 << 8 {
            return ended;
        }
        let Some(group) = self.open(path) else { return ended };
        if group.usage().oom_kills.unwrap_or(0) == 0 {
            return ended;
        }
        self.short_of_memory(&group, ended)
    }

    /// The same of one that ended for lack of memory.
    pub(crate) fn short_of_memory(&self, group: &Group, ended: ContainerTermination) -> ContainerTermination {
        let usage = group.usage();
        let limit = match group.limits_applied().memory_limit {
            Some(Limit::At(limit)) => Some(limit.0),
            _ => None,
        };
        let peak = usage.memory_peak.map_or(0, |b| b.0);
        let requested = limit.map_or("no limit".to_owned(), |limit| berth_model::Bytes(limit).to_string());
        let maximum = berth_model::Bytes(peak);
        // In Mesos's words for each version; v2 of its time did not know the maximum.
        let message = match group.memory_statistics() {
            Some((Version::V2, text)) => {
                format!(
                    "Memory limit exceeded: Requested: {requested} Maximum Used: {maximum}\n\nMEMORY STATISTICS post-OOM: \n{text}"
                )
            }
            Some((Version::V1, text)) => {
                format!(
                    "Memory limit exceeded: Requested: {requested} Maximum Used: {maximum}\n\nMEMORY STATISTICS: \n{text}"
                )
            }
            None => format!("Memory limit exceeded: Requested: {requested} Maximum Used: {maximum}"),
        };
        // The kernels of some v2 hosts keep no maximum.
        let peak = if peak == 0 { limit.unwrap_or(0) } else { peak };
        let limited = Resource::scalar("mem", Scalar::from_whole(peak / MIB));
        let mut limited_resources = Resources::new();
        // Only a zero is refused, and then there is nothing to name.
        let _ = limited_resources.try_add(limited);
        ContainerTermination {
            message: Some(message),
            state: Some(TaskState::Failed),
            reason: Some(Reason::ContainerLimitationMemory),
            limited_resources,
            ..ended
        }
    }
}

fn at<T>(limit: Option<Limit<T>>) -> Option<T> {
    match limit {
        Some(Limit::At(limit)) => Some(limit),
        Some(Limit::Infinite) | None => None,
    }
}

/// What is not named any more is not limited any more.
fn complete(limits: &Limits, now: &Applied) -> Limits {
    let mut all = limits.clone();
    if all.cpu_limit.is_none() && matches!(now.cpu_limit, Some(Limit::At(_))) {
        all.cpu_limit = Some(Limit::Infinite);
    }
    if all.memory_limit.is_none() && matches!(now.memory_limit, Some(Limit::At(_))) {
        all.memory_limit = Some(Limit::Infinite);
    }
    if all.memory_request.is_none() && now.memory_request.is_some() {
        all.memory_request = Some(Bytes(0));
    }
    if all.swap_limit.is_none() && matches!(now.swap_limit, Some(Limit::At(_))) {
        all.swap_limit = Some(Limit::Infinite);
    }
    if all.oom_group.is_none() && now.oom_group == Some(true) {
        all.oom_group = Some(false);
    }
    if all.pids_limit.is_none() && matches!(now.pids_limit, Some(Limit::At(_))) {
        all.pids_limit = Some(Limit::Infinite);
    }
    // Those of the group above.
    if all.cpuset_cpus.is_none() && now.cpuset_cpus.is_some() {
        all.cpuset_cpus = Some(IdList::default());
    }
    if all.cpuset_mems.is_none() && now.cpuset_mems.is_some() {
        all.cpuset_mems = Some(IdList::default());
    }
    for device in now.disks() {
        let at = all.io.iter().position(|limit| limit.device == device).unwrap_or_else(|| {
            all.io.push(IoLimit::of(device));
            all.io.len() - 1
        });
        let limit = &mut all.io[at];
        for part in [
            &mut limit.read_bytes,
            &mut limit.write_bytes,
            &mut limit.read_operations,
            &mut limit.write_operations,
        ] {
            part.get_or_insert(Limit::Infinite);
        }
    }
    for pages in &now.huge_pages {
        if !all.huge_pages.iter().any(|asked| asked.page == pages.page) {
            all.huge_pages.push(HugePages { limit: Limit::Infinite, ..*pages });
        }
    }
    all
}

/// Requests and limits as a control group takes them.
///
/// # Errors
/// A number that is none, or a limit on what can not be limited.
pub(crate) fn limits_of(requests: Resources, limits: BTreeMap<String, f64>) -> Result<Limits, Error> {
    let config = ContainerConfig { resources: requests, limits, ..ContainerConfig::default() };
    berth_isolator::limits_of(&config).map_err(|e| Error::other(e.class(), crate::collect::chain(&e)))
}

/// Makes the group that all containers' groups are in, with every controller that one of them may need.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn make_base(groups: &Groups, path: &str) -> Result<(), Error> {
    use berth_cgroup::Controller;
    let Some(hierarchies) = &groups.0 else { return Ok(()) };
    Group::ensure(hierarchies, path, &Controller::ALL)
        .map_err(|e| Error::because(e.class(), format!("make the control group {path} of all containers"), e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_cgroup::MilliCpu;
    use berth_model::Class;

    #[test]
    fn what_an_update_does_not_name_is_lifted_and_only_that() {
        let now = Applied {
            cpu_limit: Some(Limit::At(MilliCpu(500))),
            memory_limit: Some(Limit::At(Bytes(MIB))),
            pids_limit: Some(Limit::Infinite),
            ..Applied::default()
        };
        let asked = Limits { memory_limit: Some(Limit::At(Bytes(2 * MIB))), ..Limits::default() };
        let all = complete(&asked, &now);
        assert_eq!(all.cpu_limit, Some(Limit::Infinite));
        assert_eq!(all.memory_limit, Some(Limit::At(Bytes(2 * MIB))));
        assert_eq!(all.pids_limit, None, "it is not limited, and may not even be there");

        let disk = berth_cgroup::Device { major: 8, minor: 0 };
        let now = Applied {
            io: vec!["8:0 rbps=5".to_owned(), "8:16 wbps=5".to_owned()],
            cpuset_cpus: Some("0".parse().unwrap()),
            oom_group: Some(true),
            memory_request: Some(Bytes(MIB)),
            ..Applied::default()
        };
        let io = vec![IoLimit { write_bytes: Some(Limit::At(7)), ..IoLimit::of(disk) }];
        let all = complete(&Limits { io, ..Limits::default() }, &now);
        assert_eq!((all.io.len(), all.io[0].read_bytes), (2, Some(Limit::Infinite)));
        assert_eq!(all.io[0].write_bytes, Some(Limit::At(7)));
        assert_eq!(all.cpuset_cpus, Some(IdList::default()));
        assert_eq!((all.oom_group, all.memory_request), (Some(false), Some(Bytes(0))));
    }

    #[test]
    fn a_limit_that_can_not_be_enforced_is_refused() {
        let error = limits_of(Resources::new(), BTreeMap::from([("gpus".to_owned(), 1.0)])).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
        assert!(error.to_string().contains("gpus"), "{error}");
    }
}
