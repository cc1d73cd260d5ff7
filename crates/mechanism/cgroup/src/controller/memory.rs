// SPDX-License-Identifier: Apache-2.0
//! Memory and swap.
//!
//! | | v1 | v2 |
//! |---|---|---|
//! | request | `memory.soft_limit_in_bytes` | `memory.low` |
//! | limit | `memory.limit_in_bytes` | `memory.max` |
//! | swap | `memory.memsw.limit_in_bytes` = memory and swap together | `memory.swap.max` = swap alone |
//! | group kill | an attribute of ours; whoever watches does it | `memory.oom.group` |
//!
//! A request is at least 32 MB, as in Mesos: protecting less protects nothing. The hard limit has no such floor
//! here: whoever asks for 16 MB gets 16 MB, and the kernel takes it. Limits are kept in whole pages.
//!
//! On v1 memory must never exceed memory and swap together, so a limit that grows past the old sum is written
//! after the sum. Sources: cgroup-v1/memory and cgroup-v2 in the kernel's documentation.

use std::borrow::Cow;
use std::os::fd::AsRawFd;

use crate::controller::Controller;
use crate::tree::{Files, field};
use crate::usage::{Applied, Sample, Usage};
use crate::{Bytes, Check, Error, Limit, Limits, Result, Version, Write};

/// On v1, the attribute of the group's directory that says: all are to end when one is killed.
pub(crate) const GROUP_KILL: &str = "trusted.berth.oom_group";
/// The least that a request protects.
const LEAST_REQUEST: Bytes = Bytes(32 << 20);
/// What v1 shows for "no limit" is the largest number of whole pages, which depends on the page's size; nothing
/// from here on limits anything.
const UNLIMITED: u64 = (1 << 63) - (1 << 20);

pub(super) const REQUEST: &str = "memory request";
pub(crate) const LIMIT: &str = "memory limit";
pub(super) const SWAP: &str = "swap limit";
pub(super) const OOM_GROUP: &str = "group kill";

pub(crate) const V1_LIMIT: &str = "memory.limit_in_bytes";
pub(crate) const V1_SUM: &str = "memory.memsw.limit_in_bytes";

pub(super) fn writes(limits: &Limits, version: Version, out: &mut Vec<Write>) -> Result<()> {
    let mut push = |limit, file, amount: Limit<u64>| {
        let value = match (version, amount) {
            (_, Limit::At(bytes)) => bytes.to_string().into(),
            (Version::V1, Limit::Infinite) => "-1".into(),
            (Version::V2, Limit::Infinite) => "max".into(),
        };
        // A new group has no limit, and no protection, which is not asked for.
        let is_default = amount == Limit::Infinite;
        let controller = Controller::Memory;
        let file = Cow::Borrowed(file);
        out.push(Write {
            controller,
            limit,
            file,
            value,
            check: Check::Pages,
            is_default,
            if_present: false,
        });
    };
    if let Some(request) = limits.memory_request {
        let file = match version {
            Version::V1 => "memory.soft_limit_in_bytes",
            Version::V2 => "memory.low",
        };
        match (request.0, version) {
            // Nothing is protected: for v1 that is no soft limit.
            (0, Version::V1) => push(REQUEST, file, Limit::Infinite),
            (0, Version::V2) => push(REQUEST, file, Limit::At(0)),
            _ => push(REQUEST, file, Limit::At(request.max(LEAST_REQUEST).0)),
        }
    }
    if let Some(limit) = limits.memory_limit {
        let file = match version {
            Version::V1 => V1_LIMIT,
            Version::V2 => "memory.max",
        };
        push(LIMIT, file, bytes(limit));
    }
    match (limits.swap_limit, version) {
        (None, _) => {}
        (Some(swap), Version::V2) => push(SWAP, "memory.swap.max", bytes(swap)),
        (Some(swap), Version::V1) => push(SWAP, V1_SUM, sum(limits.memory_limit, swap)?),
    }
    if let (Some(group), Version::V2) = (limits.oom_group, version) {
        out.push(Write {
            controller: Controller::Memory,
            limit: OOM_GROUP,
            file: "memory.oom.group".into(),
            value: if group { "1".into() } else { "0".into() },
            check: Check::Exact,
            is_default: !group,
            if_present: false,
        });
    }
    Ok(())
}

fn bytes(limit: Limit<Bytes>) -> Limit<u64> {
    match limit {
        Limit::At(bytes) => Limit::At(bytes.0),
        Limit::Infinite => Limit::Infinite,
    }
}

/// What v1 is told of swap: the sum.
fn sum(memory: Option<Limit<Bytes>>, swap: Limit<Bytes>) -> Result<Limit<u64>> {
    match (memory, swap) {
        (_, Limit::Infinite) => Ok(Limit::Infinite),
        (Some(Limit::At(memory)), Limit::At(swap)) => match memory.0.checked_add(swap.0) {
            Some(sum) => Ok(Limit::At(sum)),
            None => Err(Error::Invalid { limit: SWAP, why: "memory and swap together are beyond 64 bits" }),
        },
        _ => Err(Error::Inexpressible {
            limit: SWAP,
            why: "cgroup v1 limits only memory and swap together: give a memory limit as well",
        }),
    }
}

/// Puts the writes for a group that has limits already into an order that v1 takes, given the sum of memory
/// and swap that applies now: sum first when memory grows past it.
pub(crate) fn sort_for_update(writes: &mut [Write], sum_now: Option<u64>) {
    let position = |file| writes.iter().position(|write| write.file == file);
    let (Some(limit), Some(sum)) = (position(V1_LIMIT), position(V1_SUM)) else { return };
    let grows = match writes[limit].value.parse::<u64>() {
        Ok(bytes) => sum_now.is_some_and(|now| bytes > now),
        Err(_) => true,
    };
    if grows {
        writes.swap(limit, sum);
    }
}

/// The sum of memory and swap that applies now, on v1.
pub(crate) fn sum_now(files: &Files<'_>) -> Option<u64> {
    files.number(V1_SUM)
}

/// Whether a number read back means "no limit".
pub(crate) fn is_unlimited(bytes: u64) -> bool {
    bytes >= UNLIMITED
}

/// What is asked for again and again: see [`crate::Group::sample`].
pub(super) fn sample(files: &Files<'_>, version: Version, sample: &mut Sample) {
    measure_now(files, version, &mut sample.usage);
    read_limit(files, version, &mut sample.applied);
}

pub(super) fn measure(files: &Files<'_>, version: Version, usage: &mut Usage) {
    measure_now(files, version, usage);
    let peak = match version {
        Version::V1 => "memory.max_usage_in_bytes",
        Version::V2 => "memory.peak",
    };
    usage.memory_peak = files.number(peak).map(Bytes);
    measure_events(files, version, usage);
}

/// What is in use.
fn measure_now(files: &Files<'_>, version: Version, usage: &mut Usage) {
    match version {
        Version::V1 => {
            usage.memory = files.number("memory.usage_in_bytes").map(Bytes);
            usage.memory_and_swap = files.number("memory.memsw.usage_in_bytes").map(Bytes);
            usage.memory_kernel = files.number("memory.kmem.usage_in_bytes").map(Bytes);
            usage.memory_sockets = files.number("memory.kmem.tcp.usage_in_bytes").map(Bytes);
            // The totals have the groups below in them.
            files.with("memory.stat", |text| {
                let bytes = |name| field(text, name).map(Bytes);
                usage.memory_anonymous = bytes("total_rss");
                usage.memory_file = bytes("total_cache");
                usage.memory_shared = bytes("total_shmem");
                usage.memory_mapped = bytes("total_mapped_file");
                usage.memory_unevictable = bytes("total_unevictable");
                usage.swap = bytes("total_swap");
            });
        }
        Version::V2 => {
            usage.memory = files.number("memory.current").map(Bytes);
            usage.swap = files.number("memory.swap.current").map(Bytes);
            files.with("memory.stat", |text| {
                let bytes = |name| field(text, name).map(Bytes);
                usage.memory_anonymous = bytes("anon");
                usage.memory_file = bytes("file");
                usage.memory_shared = bytes("shmem");
                usage.memory_mapped = bytes("file_mapped");
                usage.memory_unevictable = bytes("unevictable");
                usage.memory_kernel = bytes("kernel");
                usage.memory_sockets = bytes("sock");
            });
        }
    }
}

/// How often the limit was met.
pub(crate) fn measure_events(files: &Files<'_>, version: Version, usage: &mut Usage) {
    match version {
        Version::V1 => {
            // With swap limited as tightly as memory, it is their sum that is met.
            let hits = ["memory.failcnt", "memory.memsw.failcnt"].map(|file| files.number(file));
            usage.memory_limit_hits = hits.into_iter().flatten().reduce(u64::saturating_add);
            // v1 counts a kill only in the group of the one killed, which may be one that the container made.
            let mut kills = None;
            files.descend(&mut |files| {
                if let Some(here) = files.with("memory.oom_control", |text| field(text, "oom_kill")).flatten()
                {
                    kills = Some(kills.unwrap_or(0) + here);
                }
            });
            usage.oom_kills = kills;
        }
        Version::V2 => {
            // Here groups below are counted in.
            files.with("memory.events", |text| {
                usage.memory_limit_hits = field(text, "max");
                usage.ooms = field(text, "oom");
                usage.oom_kills = field(text, "oom_kill");
            });
        }
    }
}

fn limit(files: &Files<'_>, file: &str) -> Option<Limit<Bytes>> {
    match files.with(file, |text| text.trim_end().parse::<u64>().ok()) {
        Some(Some(bytes)) if !is_unlimited(bytes) => Some(Limit::At(Bytes(bytes))),
        // "max", or v1's largest number.
        Some(_) => Some(Limit::Infinite),
        None => None,
    }
}

/// The limit and the request.
fn read_limit(files: &Files<'_>, version: Version, applied: &mut Applied) {
    match version {
        Version::V1 => {
            applied.memory_limit = limit(files, V1_LIMIT);
            // The kernel's default is "no limit", which protects nothing.
            applied.memory_request = match limit(files, "memory.soft_limit_in_bytes") {
                Some(Limit::At(bytes)) => Some(bytes),
                _ => None,
            };
        }
        Version::V2 => {
            applied.memory_limit = limit(files, "memory.max");
            applied.memory_request = files.number("memory.low").filter(|low| *low > 0).map(Bytes);
        }
    }
}

pub(super) fn read_back(files: &Files<'_>, version: Version, applied: &mut Applied) {
    read_limit(files, version, applied);
    match version {
        Version::V1 => {
            applied.swap_limit = match (applied.memory_limit, limit(files, V1_SUM)) {
                (Some(Limit::At(memory)), Some(Limit::At(sum))) => {
                    Some(Limit::At(Bytes(sum.0.saturating_sub(memory.0))))
                }
                (_, sum) => sum.map(|_| Limit::Infinite),
            };
            let path = format!("/proc/self/fd/{}", files.dir().as_raw_fd());
            let mut wish = [0; 8];
            let wished = rustix::fs::getxattr(path, GROUP_KILL, &mut wish[..]).is_ok();
            applied.oom_group = applied.memory_limit.map(|_| wished);
        }
        Version::V2 => {
            applied.swap_limit = limit(files, "memory.swap.max");
            applied.oom_group = files.number("memory.oom.group").map(|group| group == 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::Class;
    use proptest::prelude::*;

    const MB: u64 = 1 << 20;

    fn written(limits: &Limits, version: Version) -> Vec<Write> {
        let mut out = Vec::new();
        writes(limits, version, &mut out).unwrap();
        out
    }

    fn values(limits: &Limits, version: Version) -> Vec<(&'static str, String)> {
        written(limits, version)
            .into_iter()
            .map(|write| (name(write.file), write.value.into_owned()))
            .collect()
    }

    fn name(file: Cow<'static, str>) -> &'static str {
        match file {
            Cow::Borrowed(name) => name,
            Cow::Owned(name) => panic!("{name} is made up"),
        }
    }

    fn limited(memory: u64, swap: u64) -> Limits {
        Limits {
            memory_limit: Some(Limit::At(Bytes(memory))),
            swap_limit: Some(Limit::At(Bytes(swap))),
            ..Limits::default()
        }
    }

    #[test]
    fn a_small_limit_is_kept_and_a_small_request_is_raised() {
        let limits = Limits { memory_request: Some(Bytes(16 * MB)), ..limited(16 * MB, 0) };
        assert_eq!(
            values(&limits, Version::V1),
            [
                ("memory.soft_limit_in_bytes", "33554432".to_owned()),
                ("memory.limit_in_bytes", "16777216".to_owned()),
                ("memory.memsw.limit_in_bytes", "16777216".to_owned())
            ]
        );
        assert_eq!(
            values(&limits, Version::V2),
            [
                ("memory.low", "33554432".to_owned()),
                ("memory.max", "16777216".to_owned()),
                ("memory.swap.max", "0".to_owned())
            ]
        );
    }

    #[test]
    fn a_request_of_nothing_takes_the_protection_away() {
        let limits = Limits { memory_request: Some(Bytes(0)), ..Limits::default() };
        assert_eq!(values(&limits, Version::V1), [("memory.soft_limit_in_bytes", "-1".to_owned())]);
        assert_eq!(values(&limits, Version::V2), [("memory.low", "0".to_owned())]);
    }

    #[test]
    fn the_group_kill_is_a_file_of_v2() {
        let limits = Limits { oom_group: Some(true), ..Limits::default() };
        assert!(written(&limits, Version::V1).is_empty());
        assert_eq!(values(&limits, Version::V2), [("memory.oom.group", "1".to_owned())]);
    }

    #[test]
    fn infinite_limits_are_written_out() {
        let limits = Limits {
            memory_limit: Some(Limit::Infinite),
            swap_limit: Some(Limit::Infinite),
            ..Limits::default()
        };
        assert!(written(&limits, Version::V1).iter().all(|write| write.value == "-1"));
        assert!(written(&limits, Version::V2).iter().all(|write| write.value == "max"));
    }

    #[test]
    fn swap_without_memory_is_refused_on_v1_and_written_on_v2() {
        let limits = Limits { swap_limit: Some(Limit::At(Bytes(0))), ..Limits::default() };
        let error = writes(&limits, Version::V1, &mut Vec::new()).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
        assert!(error.to_string().starts_with("the swap limit can not be applied"), "{error}");
        assert_eq!(values(&limits, Version::V2), [("memory.swap.max", "0".to_owned())]);
        let error = writes(&limited(u64::MAX, 1), Version::V1, &mut Vec::new()).unwrap_err();
        assert_eq!(error.class(), Class::Invalid);
    }

    #[test]
    fn a_limit_that_grows_past_the_sum_is_written_after_it() {
        let first = |memory, now| {
            let mut list = written(&limited(memory, 0), Version::V1);
            sort_for_update(&mut list, now);
            assert_eq!(list.len(), 2);
            name(list[0].file.clone())
        };
        assert_eq!(first(64 * MB, Some(32 * MB)), V1_SUM);
        assert_eq!(first(32 * MB, Some(32 * MB)), V1_LIMIT);
        assert_eq!(first(16 * MB, Some(32 * MB)), V1_LIMIT);
        assert_eq!(first(16 * MB, None), V1_LIMIT);
        let mut infinite =
            written(&Limits { memory_limit: Some(Limit::Infinite), ..limited(0, 0) }, Version::V2);
        let before = infinite.clone();
        sort_for_update(&mut infinite, Some(1));
        assert_eq!(infinite, before);
    }

    proptest! {
        #[test]
        fn limits_are_written_as_asked_and_the_sum_is_never_below_the_memory(memory in 0..=u64::MAX / 2, swap in 0..=u64::MAX / 2) {
            let v1 = written(&limited(memory, swap), Version::V1);
            prop_assert_eq!(&v1[0].value, &memory.to_string());
            prop_assert_eq!(v1[1].value.parse::<u64>().unwrap(), memory + swap);
            let v2 = written(&limited(memory, swap), Version::V2);
            prop_assert_eq!(&v2[0].value, &memory.to_string());
            prop_assert_eq!(&v2[1].value, &swap.to_string());
        }

        #[test]
        fn a_request_is_at_least_32_mb(request in 1u64..) {
            for version in [Version::V1, Version::V2] {
                let limits = Limits { memory_request: Some(Bytes(request)), ..Limits::default() };
                let value: u64 = written(&limits, version)[0].value.parse().unwrap();
                prop_assert_eq!(value, request.max(32 * MB));
            }
        }
    }
}
