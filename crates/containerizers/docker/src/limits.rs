// SPDX-License-Identifier: Apache-2.0
//! Requests and limits as the engine takes them, at launch and later.

use std::collections::BTreeMap;

use berth_contract::Error;
use berth_model::Resources;

use crate::engine::Limits;
use crate::error::{invalid, unsupported};

const MIB: f64 = 1_048_576.0;
/// Mesos's least memory. The engine's own is 6 MB.
const LEAST_MEMORY: i64 = 32 << 20;
/// The engine's default, in microseconds.
const PERIOD: i64 = 100_000;
const LEAST_QUOTA: i64 = 1000;
const SHARES: i64 = 1024;
/// The engine has no word for "no longer limited"; this is what the kernel itself has for it: as many pages as can be counted.
const ALL_MEMORY: i64 = i64::MAX & !0xfff;
const LEAST_SHARES: i64 = 2;

/// What is asked for; absent is what is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    shares: Option<i64>,
    quota: Option<i64>,
    memory: Option<i64>,
    reservation: Option<i64>,
    pids: Option<i64>,
    /// The memory that was requested, where the limit is above it.
    burst_of: Option<i64>,
}

impl Amounts {
    /// # Errors
    /// A number that is none, or a limit on what is not limited here.
    pub(crate) fn of(
        requests: &Resources,
        limits: &BTreeMap<String, f64>,
        cfs: bool,
    ) -> Result<Amounts, Error> {
        for (name, limit) in limits {
            if !matches!(name.as_str(), "cpus" | "mem" | "pids") {
                let text = format!(
                    "a limit on '{name}' can not be enforced by the Docker containerizer: it limits cpus, mem and pids"
                );
                return Err(unsupported(text));
            }
            if limit.is_nan() || *limit <= 0.0 {
                return Err(invalid(format!("the limit {limit} on '{name}' is no amount: give more than 0")));
            }
        }
        let mut amounts = Amounts::default();
        let cpus = requests.cpus();
        amounts.shares = cpus.map(|cpus| ((cpus * SHARES as f64) as i64).max(LEAST_SHARES));
        let processors = match limits.get("cpus") {
            Some(limit) => Some(*limit).filter(|limit| limit.is_finite()),
            None => cpus.filter(|_| cfs),
        };
        amounts.quota = processors.map(|cpus| ((cpus * PERIOD as f64) as i64).max(LEAST_QUOTA));
        let pids = limits.get("pids").filter(|limit| limit.is_finite());
        amounts.pids = pids.map(|limit| (*limit as i64).max(1));
        let request = requests.scalar("mem").map(|mem| (mem.to_f64() * MIB) as i64);
        let floor = request.map(|request| request.max(LEAST_MEMORY));
        match limits.get("mem") {
            None => amounts.memory = floor,
            Some(limit) => {
                let limit = Some(limit).filter(|limit| limit.is_finite()).map(|limit| (limit * MIB) as i64);
                amounts.memory = limit;
                // The engine refuses to protect more than it gives.
                amounts.reservation = floor.map(|floor| limit.map_or(floor, |limit| floor.min(limit)));
                amounts.burst_of = request.filter(|request| limit.is_none_or(|limit| limit > *request));
            }
        }
        Ok(amounts)
    }

    /// For a new container: nothing is the engine's default.
    pub(crate) fn to_begin(self) -> Limits {
        Limits {
            cpu_shares: self.shares.unwrap_or(0),
            cpu_period: if self.quota.is_some() { PERIOD } else { 0 },
            cpu_quota: self.quota.unwrap_or(0),
            memory: self.memory.unwrap_or(0),
            memory_reservation: self.reservation.unwrap_or(0),
            memory_swap: 0,
            pids_limit: self.pids,
        }
    }

    /// For one that runs, where nothing is "as before": what is not asked for is lifted.
    pub(crate) fn to_change(self) -> Limits {
        Limits {
            cpu_shares: self.shares.unwrap_or(SHARES),
            cpu_period: PERIOD,
            cpu_quota: self.quota.unwrap_or(-1),
            memory: self.memory.unwrap_or(ALL_MEMORY),
            memory_reservation: self.reservation.unwrap_or(-1),
            // As much again as there is memory, which is the engine's default for a new one.
            memory_swap: self.memory.map_or(ALL_MEMORY, |memory| memory.saturating_mul(2)),
            pids_limit: Some(self.pids.unwrap_or(-1)),
        }
    }

    /// The same for its control groups, where the engine can change nothing: podman 4, for one.
    pub(crate) fn to_groups(self, with_swap: bool) -> berth_cgroup::Limits {
        use berth_cgroup::{Bytes, Limit, MilliCpu};
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let limit = |n: Option<i64>| n.map_or(Limit::Infinite, |n| Limit::At(number(n)));
        let bytes = |n: Option<i64>| n.map_or(Limit::Infinite, |n| Limit::At(Bytes(number(n))));
        let quota = |n: i64| MilliCpu(number(n).saturating_mul(1000) / number(PERIOD));
        berth_cgroup::Limits {
            cpu_shares: Some(number(self.shares.unwrap_or(SHARES))),
            cpu_limit: Some(self.quota.map_or(Limit::Infinite, |n| Limit::At(quota(n)))),
            memory_request: Some(Bytes(number(self.reservation.unwrap_or(0)))),
            memory_limit: Some(bytes(self.memory)),
            // As much again as there is memory, as the engine has it.
            swap_limit: with_swap.then(|| bytes(self.memory)),
            pids_limit: Some(limit(self.pids)),
            ..berth_cgroup::Limits::default()
        }
    }

    /// The less memory a container asked for of what it may use, the sooner it ends when there is none.
    pub(crate) fn oom_score_adj(self, host_memory: Option<i64>) -> i64 {
        match (self.burst_of, host_memory) {
            (Some(request), Some(host)) if host > 0 => 1000 - (1000 * request / host).clamp(0, 1000),
            _ => 0,
        }
    }
}

/// The memory of this host.
pub(crate) fn host_memory() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: i64 = line.trim().split(' ').next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(resources: &str, limits: &[(&str, f64)], cfs: bool) -> Result<Amounts, Error> {
        let resources = berth_model::resources::from_flag(resources, "*").unwrap().resources;
        let limits = limits.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect();
        Amounts::of(&resources, &limits, cfs)
    }

    #[test]
    fn requests_and_limits_become_the_options_of_the_reference() {
        let begin = |text, limits: &[_], cfs| amounts(text, limits, cfs).unwrap().to_begin();
        let one = begin("cpus:0.5;mem:64", &[], false);
        assert_eq!((one.cpu_shares, one.cpu_quota, one.memory), (512, 0, 64 << 20));
        assert_eq!(begin("cpus:0.5;mem:64", &[], true).cpu_quota, 50_000);
        let least = begin("cpus:0.001;mem:1", &[("cpus", 0.001)], false);
        assert_eq!((least.cpu_shares, least.cpu_quota, least.memory), (2, 1000, 32 << 20));
        let burst = begin("cpus:1;mem:64", &[("mem", 128.0), ("cpus", f64::INFINITY)], true);
        assert_eq!((burst.cpu_quota, burst.memory, burst.memory_reservation), (0, 128 << 20, 64 << 20));
        let low = begin("mem:8", &[("mem", 16.0)], false);
        assert_eq!((low.memory, low.memory_reservation), (16 << 20, 16 << 20));
        assert_eq!(begin("", &[], false), Limits::default());
    }

    #[test]
    fn what_a_change_does_not_name_is_lifted() {
        let none = amounts("", &[], false).unwrap().to_change();
        assert_eq!((none.cpu_shares, none.cpu_quota), (1024, -1));
        assert_eq!((none.memory, none.memory_swap, none.memory_reservation), (ALL_MEMORY, ALL_MEMORY, -1));
        let some = amounts("mem:64", &[], false).unwrap().to_change();
        assert_eq!((some.memory, some.memory_swap), (64 << 20, 128 << 20));
    }

    #[test]
    fn control_groups_get_what_the_engine_would() {
        use berth_cgroup::{Bytes, Limit, MilliCpu};
        let some =
            amounts("cpus:0.5;mem:64", &[("cpus", 1.5), ("pids", 7.0)], false).unwrap().to_groups(true);
        assert_eq!((some.cpu_shares, some.cpu_limit), (Some(512), Some(Limit::At(MilliCpu(1500)))));
        assert_eq!(some.memory_limit, Some(Limit::At(Bytes(64 << 20))));
        assert_eq!(
            (some.swap_limit, some.pids_limit),
            (Some(Limit::At(Bytes(64 << 20))), Some(Limit::At(7)))
        );
        let none = amounts("", &[], false).unwrap().to_groups(false);
        assert_eq!((none.cpu_limit, none.memory_limit), (Some(Limit::Infinite), Some(Limit::Infinite)));
        assert_eq!((none.swap_limit, none.pids_limit), (None, Some(Limit::Infinite)));
    }

    #[test]
    fn processes_are_limited_where_that_is_asked_for() {
        let pids = |limits: &[_]| amounts("", limits, false).unwrap();
        assert_eq!(pids(&[("pids", 64.0)]).to_begin().pids_limit, Some(64));
        assert_eq!(pids(&[]).to_begin().pids_limit, None);
        assert_eq!(pids(&[("pids", f64::INFINITY)]).to_change().pids_limit, Some(-1));
    }

    #[test]
    fn who_may_use_more_than_it_asked_for_ends_sooner() {
        let host = Some(1000 << 20);
        let score = |text, limits: &[_]| amounts(text, limits, false).unwrap().oom_score_adj(host);
        assert_eq!(score("mem:100", &[("mem", f64::INFINITY)]), 900);
        assert_eq!(score("mem:100", &[("mem", 200.0)]), 900);
        assert_eq!(score("mem:100", &[("mem", 100.0)]), 0);
        assert_eq!(score("mem:100", &[]), 0);
    }

    #[test]
    fn a_limit_that_is_not_enforced_is_refused() {
        assert!(amounts("", &[("disk", 5.0)], false).unwrap_err().to_string().contains("'disk'"));
        assert!(amounts("", &[("mem", f64::NAN)], false).is_err());
        assert!(amounts("", &[("cpus", -1.0)], false).is_err());
    }
}
