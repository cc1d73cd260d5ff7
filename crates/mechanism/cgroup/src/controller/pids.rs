// SPDX-License-Identifier: Apache-2.0
//! The number of processes and threads: `pids.max`, the same on both versions. It stops forks, not joins: who
//! joins a full group is let in. Source: cgroup-v1/pids in the kernel's documentation.

use crate::controller::Controller;
use crate::tree::{Files, field};
use crate::usage::{Applied, Sample, Usage};
use crate::{Check, Limit, Limits, Version, Write};

pub(super) const LIMIT: &str = "pids limit";
/// How often it stopped a fork, with a notice to whoever watches the file.
pub(crate) const EVENTS: &str = "pids.events";
/// The file, which [`crate::Group::kill_all`] sets to zero so that nothing forks any more.
pub(crate) const MAX: &str = "pids.max";

pub(super) fn writes(limits: &Limits, _same: Version, out: &mut Vec<Write>) {
    if let Some(limit) = limits.pids_limit {
        let value = match limit {
            Limit::At(count) => count.to_string().into(),
            Limit::Infinite => "max".into(),
        };
        out.push(Write {
            controller: Controller::Pids,
            limit: LIMIT,
            file: MAX.into(),
            value,
            check: Check::Exact,
            is_default: limit == Limit::Infinite,
            if_present: false,
        });
    }
}

/// What is asked for again and again: see [`crate::Group::sample`].
pub(super) fn sample(files: &Files<'_>, sample: &mut Sample) {
    sample.usage.pids = files.number("pids.current");
}

pub(super) fn measure(files: &Files<'_>, usage: &mut Usage) {
    usage.pids = files.number("pids.current");
    usage.pids_limit_hits = files.with(EVENTS, |text| field(text, "max")).flatten();
}

pub(super) fn read_back(files: &Files<'_>, applied: &mut Applied) {
    applied.pids_limit = files.with(MAX, |text| match text.trim_end().parse() {
        Ok(count) => Limit::At(count),
        Err(_) => Limit::Infinite,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_get_the_same_value() {
        for version in [Version::V1, Version::V2] {
            let mut out = Vec::new();
            writes(&Limits::default(), version, &mut out);
            assert!(out.is_empty());
            for (limit, value) in [(Limit::At(64), "64"), (Limit::At(0), "0"), (Limit::Infinite, "max")] {
                out.clear();
                writes(&Limits { pids_limit: Some(limit), ..Limits::default() }, version, &mut out);
                assert_eq!((out[0].file.as_ref(), out[0].value.as_ref()), ("pids.max", value));
            }
        }
    }
}
