// SPDX-License-Identifier: Apache-2.0
//! Processor time. The request becomes a weight against others, the limit a quota in each 100 ms.
//!
//! | | v1 | v2 |
//! |---|---|---|
//! | request | `cpu.shares` = 1024 for each processor | `cpu.weight` = 100 for each processor |
//! | revocable request | 10 for each processor | 1 for each processor |
//! | bare shares | as they are | 100 for each 1024, so that they stand beside requests in the same ratio |
//! | limit | `cpu.cfs_period_us`, `cpu.cfs_quota_us` | `cpu.max` |
//!
//! Weights are relative, so what is outside of the kernel's range (2 to 262144; 1 to 10000) gets its nearest
//! end, as v1 does by itself and v2 refuses to. The least quota is the kernel's, 1 ms: with this period a limit
//! below 0.01 processors is 0.01. Sources: sched-bwc and cgroup-v2 in the kernel's documentation.

use std::borrow::Cow;

use crate::controller::Controller;
use crate::tree::{Files, field};
use crate::usage::{Applied, Sample, Usage};
use crate::{Check, Limit, Limits, MilliCpu, Version, Write};

/// In microseconds.
const PERIOD: u64 = 100_000;
/// In microseconds: the least that the kernel takes.
const LEAST_QUOTA: u64 = 1_000;

/// What a new group has (sched-bwc, cgroup-v2).
const DEFAULTS: [(&str, &str); 5] = [
    ("cpu.shares", "1024"),
    ("cpu.cfs_period_us", "100000"),
    ("cpu.cfs_quota_us", "-1"),
    ("cpu.weight", "100"),
    ("cpu.max", "max 100000"),
];

pub(super) const REQUEST: &str = "cpu request";
pub(super) const SHARES: &str = "cpu shares";
pub(super) const LIMIT: &str = "cpu limit";

pub(super) fn writes(limits: &Limits, version: Version, out: &mut Vec<Write>) {
    let mut push = |limit, file, value: Cow<'static, str>| {
        let is_default = DEFAULTS.contains(&(file, &*value));
        out.push(Write {
            controller: Controller::Cpu,
            limit,
            file: file.into(),
            value,
            check: Check::Exact,
            is_default,
            if_present: false,
        });
    };
    let weights = match (limits.cpu_shares, limits.cpu_request) {
        (Some(bare), _) => {
            Some((SHARES, bare.clamp(2, 262_144), (bare.saturating_mul(100) / 1024).clamp(1, 10_000)))
        }
        (None, Some(request)) if limits.cpu_low_priority => {
            // 10 and 1 for each processor.
            Some((REQUEST, (request.0 / 100).clamp(2, 262_144), (request.0 / 1000).clamp(1, 10_000)))
        }
        (None, Some(request)) => Some((REQUEST, shares(request), weight(request))),
        (None, None) => None,
    };
    match (weights, version) {
        (Some((limit, shares, _)), Version::V1) => push(limit, "cpu.shares", shares.to_string().into()),
        (Some((limit, _, weight)), Version::V2) => push(limit, "cpu.weight", weight.to_string().into()),
        (None, _) => {}
    }
    if let Some(limit) = limits.cpu_limit {
        match (version, limit) {
            (Version::V1, limit) => {
                push(LIMIT, "cpu.cfs_period_us", "100000".into());
                push(
                    LIMIT,
                    "cpu.cfs_quota_us",
                    match limit {
                        Limit::At(cpus) => quota(cpus).to_string().into(),
                        Limit::Infinite => "-1".into(),
                    },
                );
            }
            (Version::V2, Limit::At(cpus)) => {
                push(LIMIT, "cpu.max", format!("{} {PERIOD}", quota(cpus)).into());
            }
            (Version::V2, Limit::Infinite) => push(LIMIT, "cpu.max", "max 100000".into()),
        }
    }
}

/// v1: 1024 for each processor, rounded down.
fn shares(request: MilliCpu) -> u64 {
    (request.0.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// v2: 100 for each processor, rounded down.
fn weight(request: MilliCpu) -> u64 {
    (request.0 / 10).clamp(1, 10_000)
}

/// Microseconds of processor time in each period.
fn quota(limit: MilliCpu) -> u64 {
    limit.0.saturating_mul(PERIOD / 1000).max(LEAST_QUOTA)
}

pub(super) fn measure(files: &Files<'_>, version: Version, usage: &mut Usage) {
    files.with("cpu.stat", |stat| {
        usage.cpu_periods = field(stat, "nr_periods");
        usage.cpu_throttled_periods = field(stat, "nr_throttled");
        usage.cpu_throttled_nanos = match version {
            Version::V1 => field(stat, "throttled_time"),
            Version::V2 => field(stat, "throttled_usec").map(|micros| micros.saturating_mul(1000)),
        };
    });
}

/// Time used. On v1 it is `cpuacct`'s.
pub(super) fn measure_time(files: &Files<'_>, version: Version, usage: &mut Usage) {
    measure_parts(files, version, usage);
    if version == Version::V1 {
        usage.cpu_nanos = files.number("cpuacct.usage");
    }
}

/// In user space and in the kernel.
fn measure_parts(files: &Files<'_>, version: Version, usage: &mut Usage) {
    match version {
        Version::V1 => {
            usage.cpu_user_nanos = files.number("cpuacct.usage_user");
            usage.cpu_system_nanos = files.number("cpuacct.usage_sys");
        }
        Version::V2 => {
            files.with("cpu.stat", |stat| {
                let nanos = |name| field(stat, name).map(|micros: u64| micros.saturating_mul(1000));
                usage.cpu_nanos = nanos("usage_usec");
                usage.cpu_user_nanos = nanos("user_usec");
                usage.cpu_system_nanos = nanos("system_usec");
            });
        }
    }
}

/// What is asked for again and again: see [`crate::Group::sample`].
pub(super) fn sample(files: &Files<'_>, version: Version, sample: &mut Sample) {
    measure(files, version, &mut sample.usage);
    read_limit(files, version, &mut sample.applied);
}

/// The same of the time used.
pub(super) fn sample_time(files: &Files<'_>, version: Version, sample: &mut Sample) {
    measure_parts(files, version, &mut sample.usage);
}

pub(super) fn read_back(files: &Files<'_>, version: Version, applied: &mut Applied) {
    applied.cpu_weight = files.number(match version {
        Version::V1 => "cpu.shares",
        Version::V2 => "cpu.weight",
    });
    read_limit(files, version, applied);
}

fn read_limit(files: &Files<'_>, version: Version, applied: &mut Applied) {
    let cpus = |quota: u64, period: u64| MilliCpu(quota.saturating_mul(1000) / period.max(1));
    match version {
        Version::V1 => {
            let period = || files.number("cpu.cfs_period_us").unwrap_or(PERIOD);
            applied.cpu_limit = files.with("cpu.cfs_quota_us", |text| match text.trim_end().parse() {
                Ok(quota) => Limit::At(cpus(quota, period())),
                // "-1" is no such number.
                Err(_) => Limit::Infinite,
            });
        }
        Version::V2 => {
            applied.cpu_limit = files
                .with("cpu.max", |text| {
                    let (quota, period) = text.trim_end().split_once(' ')?;
                    match quota {
                        "max" => Some(Limit::Infinite),
                        quota => Some(Limit::At(cpus(quota.parse().ok()?, period.parse().ok()?))),
                    }
                })
                .flatten();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(file: Cow<'static, str>) -> &'static str {
        match file {
            Cow::Borrowed(name) => name,
            Cow::Owned(name) => panic!("{name} is made up"),
        }
    }

    fn values(limits: &Limits, version: Version) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        writes(limits, version, &mut out);
        out.into_iter().map(|write| (name(write.file), write.value.into_owned())).collect()
    }

    #[test]
    fn known_requests_and_limits_have_known_values() {
        let limits = Limits {
            cpu_request: Some(MilliCpu(1500)),
            cpu_limit: Some(Limit::At(MilliCpu(2000))),
            ..Limits::default()
        };
        assert_eq!(
            values(&limits, Version::V1),
            [
                ("cpu.shares", "1536".to_owned()),
                ("cpu.cfs_period_us", "100000".to_owned()),
                ("cpu.cfs_quota_us", "200000".to_owned())
            ]
        );
        assert_eq!(
            values(&limits, Version::V2),
            [("cpu.weight", "150".to_owned()), ("cpu.max", "200000 100000".to_owned())]
        );
    }

    #[test]
    fn no_limit_at_all_and_an_infinite_one_are_different_things() {
        assert!(values(&Limits::default(), Version::V1).is_empty());
        assert!(values(&Limits::default(), Version::V2).is_empty());
        let infinite = Limits { cpu_limit: Some(Limit::Infinite), ..Limits::default() };
        assert_eq!(values(&infinite, Version::V1)[1], ("cpu.cfs_quota_us", "-1".to_owned()));
        assert_eq!(values(&infinite, Version::V2), [("cpu.max", "max 100000".to_owned())]);
    }

    #[test]
    fn what_a_new_group_has_is_marked() {
        let limits = Limits {
            cpu_request: Some(MilliCpu(1000)),
            cpu_limit: Some(Limit::At(MilliCpu(1000))),
            ..Limits::default()
        };
        let defaults = |limits: &Limits, version| {
            let mut out = Vec::new();
            writes(limits, version, &mut out);
            out.iter()
                .filter(|write| write.is_default)
                .map(|write| name(write.file.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(defaults(&limits, Version::V1), ["cpu.shares", "cpu.cfs_period_us"]);
        assert_eq!(defaults(&limits, Version::V2), ["cpu.weight"]);
    }

    #[test]
    fn bare_shares_go_before_the_request_and_tiny_ones_become_the_least_weight() {
        let limits = |shares| Limits {
            cpu_shares: Some(shares),
            cpu_request: Some(MilliCpu(4000)),
            ..Limits::default()
        };
        for (bare, v1, v2) in [
            (1024, "1024", "100"),
            (2, "2", "1"),
            (0, "2", "1"),
            (512, "512", "50"),
            (u64::MAX, "262144", "10000"),
        ] {
            assert_eq!(values(&limits(bare), Version::V1), [("cpu.shares", v1.to_owned())], "{bare}");
            assert_eq!(values(&limits(bare), Version::V2), [("cpu.weight", v2.to_owned())], "{bare}");
        }
    }

    #[test]
    fn revocable_processors_weigh_a_hundredth() {
        let limits =
            Limits { cpu_request: Some(MilliCpu(4000)), cpu_low_priority: true, ..Limits::default() };
        assert_eq!(values(&limits, Version::V1), [("cpu.shares", "40".to_owned())]);
        assert_eq!(values(&limits, Version::V2), [("cpu.weight", "4".to_owned())]);
    }

    proptest! {
        #[test]
        fn weights_stay_in_the_kernels_range_and_never_fall_when_the_request_grows(a: u64, b: u64) {
            let (low, high) = (MilliCpu(a.min(b)), MilliCpu(a.max(b)));
            prop_assert!((2..=262_144).contains(&shares(low)) && shares(low) <= shares(high));
            prop_assert!((1..=10_000).contains(&weight(low)) && weight(low) <= weight(high));
        }

        #[test]
        fn weights_are_the_request_rounded_down(milli in 10u64..=100_000) {
            prop_assert_eq!(shares(MilliCpu(milli)), milli * 1024 / 1000);
            prop_assert_eq!(weight(MilliCpu(milli)), milli / 10);
        }

        #[test]
        fn the_quota_is_exact_from_a_hundredth_of_a_processor_on(milli in 10u64..1_000_000) {
            prop_assert_eq!(quota(MilliCpu(milli)) * 1000, milli * PERIOD);
        }

        #[test]
        fn the_quota_is_never_below_what_the_kernel_takes(milli: u64) {
            prop_assert!(quota(MilliCpu(milli)) >= LEAST_QUOTA);
        }
    }
}
