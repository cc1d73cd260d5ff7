// SPDX-License-Identifier: Apache-2.0
//! Reading from and writing to disks: v1's `blkio`, v2's `io`.
//!
//! | | v1 | v2 |
//! |---|---|---|
//! | weight | `blkio.bfq.weight` | `io.bfq.weight`, `io.weight` |
//! | at most | `blkio.throttle.{read,write}_{bps,iops}_device` | `io.max` |
//!
//! Nobody heeds a weight but the scheduler bfq and v2's cost model (`io.cost.qos`): where no disk has one of them, a
//! weight is refused, not dropped in silence. Weights are the numbers of the kernel's files, so that they keep their
//! ratios on every host; the range is the one that both schedulers have in common with docker.
//!
//! v1 limits what a process itself sends to the disk: reads, synchronous and direct writes. What goes to the page cache
//! is written later by the kernel in the root's name, so a limit on writes does not hold there; v2 knows whose page it
//! is. Sources: cgroup-v1/blkio-controller and cgroup-v2 in the kernel's documentation.

use std::fmt::Write as _;

use crate::controller::Controller;
use crate::tree::Files;
use crate::usage::{Applied, DiskUsage, Usage};
use crate::{Check, Device, Error, IoLimit, Limit, Limits, Result, Version, Write};

pub(super) const WEIGHT: &str = "disk weight";
pub(super) const MAX: &str = "disk limit";

const LEAST_WEIGHT: u16 = 10;
const MOST_WEIGHT: u16 = 1000;

pub(super) fn writes(limits: &Limits, version: Version, out: &mut Vec<Write>) -> Result<()> {
    if let Some(weight) = limits.io_weight {
        if !(LEAST_WEIGHT..=MOST_WEIGHT).contains(&weight) {
            return Err(Error::Invalid { limit: WEIGHT, why: "it is not from 10 to 1000" });
        }
        let files: &[&'static str] = match version {
            Version::V1 => &["blkio.bfq.weight"],
            Version::V2 => &["io.bfq.weight", "io.weight"],
        };
        for file in files {
            out.push(Write {
                controller: Controller::Io,
                limit: WEIGHT,
                file: (*file).into(),
                value: weight.to_string().into(),
                check: Check::Line,
                is_default: false,
                if_present: version == Version::V2,
            });
        }
    }
    for (index, limit) in limits.io.iter().enumerate() {
        if limits.io[..index].iter().any(|other| other.device == limit.device) {
            return Err(Error::Invalid { limit: MAX, why: "a disk is named twice" });
        }
        let zero = parts(limit).iter().any(|(_, _, value)| *value == Some(Limit::At(0)));
        if zero {
            return Err(Error::Invalid { limit: MAX, why: "it is zero, which for the kernel is no limit" });
        }
        match version {
            Version::V1 => v1(limit, out),
            Version::V2 => v2(limit, out),
        }
    }
    Ok(())
}

/// The parts of a limit: v1's file, v2's key, the value.
fn parts(limit: &IoLimit) -> [(&'static str, &'static str, Option<Limit<u64>>); 4] {
    [
        ("blkio.throttle.read_bps_device", "rbps", limit.read_bytes),
        ("blkio.throttle.write_bps_device", "wbps", limit.write_bytes),
        ("blkio.throttle.read_iops_device", "riops", limit.read_operations),
        ("blkio.throttle.write_iops_device", "wiops", limit.write_operations),
    ]
}

fn write(file: &'static str, value: String, no_limit: bool) -> Write {
    Write {
        controller: Controller::Io,
        limit: MAX,
        file: file.into(),
        value: value.into(),
        check: Check::Line,
        is_default: no_limit,
        if_present: false,
    }
}

fn v1(limit: &IoLimit, out: &mut Vec<Write>) {
    for (file, _, value) in parts(limit) {
        match value {
            Some(Limit::At(value)) => out.push(write(file, format!("{} {value}", limit.device), false)),
            Some(Limit::Infinite) => out.push(write(file, format!("{} 0", limit.device), true)),
            None => {}
        }
    }
}

fn v2(limit: &IoLimit, out: &mut Vec<Write>) {
    let mut value = limit.device.to_string();
    let mut limited = false;
    for (_, key, part) in parts(limit) {
        // Writing to a text does not fail.
        let _ = match part {
            Some(Limit::At(number)) => {
                limited = true;
                write!(value, " {key}={number}")
            }
            Some(Limit::Infinite) => write!(value, " {key}=max"),
            None => Ok(()),
        };
    }
    if value.contains('=') {
        out.push(write("io.max", value, !limited));
    }
}

/// Whether what a file of lines says is what was written.
pub(crate) fn is_kept(written: &str, found: &str) -> bool {
    let mut words = written.split(' ');
    let Some(first) = words.next() else { return false };
    let rest: Vec<&str> = words.collect();
    if rest.is_empty() {
        // A weight: `default 100`, or just the number.
        let mut lines = found.lines().map(|line| line.strip_prefix("default ").unwrap_or(line));
        return lines.next() == Some(first);
    }
    let line = found.lines().find_map(|line| line.strip_prefix(first)?.strip_prefix(' '));
    let none = |word: &&str| *word == "0" || word.ends_with("=max");
    match line {
        Some(line) => rest.iter().all(|word| *word != "0" && line.split(' ').any(|found| found == *word)),
        None => rest.iter().all(none),
    }
}

/// Disks whose scheduler, or the cost model, heeds weights; none where no disk has it.
pub(crate) fn heeds_weights(root: &Files<'_>) -> bool {
    let bfq = |name: &std::path::Path| {
        std::fs::read_to_string(name.join("queue/scheduler")).is_ok_and(|text| text.contains("[bfq]"))
    };
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    disks.into_iter().any(|disk| bfq(&disk.path()))
        || root.with("io.cost.qos", |text| text.contains("enable=1")) == Some(true)
}

pub(super) fn measure(files: &Files<'_>, version: Version, usage: &mut Usage) {
    match version {
        Version::V1 => {
            let bytes = "blkio.throttle.io_service_bytes_recursive";
            let operations = "blkio.throttle.io_serviced_recursive";
            for (file, is_bytes) in [(bytes, true), (operations, false)] {
                files.with(file, |text| {
                    for (device, word, number) in text.lines().filter_map(v1_line) {
                        let disk = disk(&mut usage.disks, device);
                        match (word, is_bytes) {
                            ("Read", true) => disk.read_bytes = number,
                            ("Write", true) => disk.written_bytes = number,
                            ("Read", false) => disk.reads = number,
                            ("Write", false) => disk.writes = number,
                            _ => {}
                        }
                    }
                });
            }
        }
        Version::V2 => {
            files.with("io.stat", |text| {
                for line in text.lines() {
                    let mut words = line.split(' ');
                    let Some(device) = words.next().and_then(device) else { continue };
                    let mut found = DiskUsage::of(device);
                    for (key, value) in words.filter_map(|word| word.split_once('=')) {
                        let Ok(value) = value.parse() else { continue };
                        match key {
                            "rbytes" => found.read_bytes = value,
                            "wbytes" => found.written_bytes = value,
                            "rios" => found.reads = value,
                            "wios" => found.writes = value,
                            _ => {}
                        }
                    }
                    usage.disks.push(found);
                }
            });
        }
    }
}

/// `254:0 Read 4096`; the line `Total` has no device.
fn v1_line(line: &str) -> Option<(Device, &str, u64)> {
    let mut words = line.split(' ');
    Some((device(words.next()?)?, words.next()?, words.next()?.parse().ok()?))
}

fn device(text: &str) -> Option<Device> {
    let (major, minor) = text.split_once(':')?;
    Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn disk(disks: &mut Vec<DiskUsage>, device: Device) -> &mut DiskUsage {
    let at = disks.iter().position(|disk| disk.device == device).unwrap_or_else(|| {
        disks.push(DiskUsage::of(device));
        disks.len() - 1
    });
    &mut disks[at]
}

pub(super) fn read_back(files: &Files<'_>, version: Version, applied: &mut Applied) {
    let weight = |file: &str| {
        let first =
            |text: &str| text.lines().next().map(|line| line.trim_start_matches("default ").parse().ok());
        files.with(file, first).flatten().flatten()
    };
    match version {
        Version::V1 => {
            applied.io_weight = weight("blkio.bfq.weight");
            for (file, key, _) in parts(&IoLimit::of(Device { major: 0, minor: 0 })) {
                files.with(file, |text| {
                    for (device, value) in text.lines().filter_map(|line| line.split_once(' ')) {
                        applied.io.push(format!("{device} {key}={value}"));
                    }
                });
            }
        }
        Version::V2 => {
            applied.io_weight = weight("io.bfq.weight").or_else(|| weight("io.weight"));
            files.with("io.max", |text| applied.io.extend(text.lines().map(str::to_owned)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DISK: Device = Device { major: 254, minor: 0 };

    fn values(limits: &Limits, version: Version) -> Vec<(String, String)> {
        let mut out = Vec::new();
        writes(limits, version, &mut out).unwrap();
        out.into_iter().map(|write| (write.file.into_owned(), write.value.into_owned())).collect()
    }

    fn text(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_part_is_a_file_on_v1_and_a_word_on_v2() {
        let io = IoLimit {
            read_bytes: Some(Limit::At(1 << 20)),
            write_operations: Some(Limit::At(50)),
            read_operations: Some(Limit::Infinite),
            ..IoLimit::of(DISK)
        };
        let limits = Limits { io: vec![io], ..Limits::default() };
        assert_eq!(
            values(&limits, Version::V1),
            text(&[
                ("blkio.throttle.read_bps_device", "254:0 1048576"),
                ("blkio.throttle.read_iops_device", "254:0 0"),
                ("blkio.throttle.write_iops_device", "254:0 50")
            ])
        );
        assert_eq!(
            values(&limits, Version::V2),
            text(&[("io.max", "254:0 rbps=1048576 riops=max wiops=50")])
        );
    }

    #[test]
    fn nothing_asked_is_nothing_written_and_zero_is_no_limit() {
        let nothing = Limits { io: vec![IoLimit::of(DISK)], ..Limits::default() };
        for version in [Version::V1, Version::V2] {
            assert!(values(&nothing, version).is_empty());
            let zero = IoLimit { write_bytes: Some(Limit::At(0)), ..IoLimit::of(DISK) };
            let zero = Limits { io: vec![zero], ..Limits::default() };
            assert!(writes(&zero, version, &mut Vec::new()).is_err());
            let twice = Limits { io: vec![IoLimit::of(DISK); 2], ..Limits::default() };
            assert!(writes(&twice, version, &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_line_is_kept_when_it_has_all_that_was_written() {
        assert!(is_kept("254:0 1048576", "7:0 5\n254:0 1048576\n"));
        assert!(!is_kept("254:0 1048576", "254:0 5\n"));
        assert!(!is_kept("254:0 1048576", "254:01 1048576\n"));
        assert!(is_kept("254:0 0", ""));
        assert!(!is_kept("254:0 0", "254:0 5\n"));
        assert!(is_kept("254:0 rbps=5 riops=max", "254:0 rbps=5 wbps=max riops=max wiops=max\n"));
        assert!(!is_kept("254:0 rbps=5", "254:0 rbps=55 wbps=max riops=max wiops=max\n"));
        assert!(is_kept("254:0 rbps=max", ""));
        assert!(is_kept("200", "default 200\n254:0 300\n"));
        assert!(is_kept("200", "200\n"));
        assert!(!is_kept("200", "default 100\n"));
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_they_are(bytes in 1u64.., operations in 1u64.., major: u32, minor: u32) {
            let device = Device { major, minor };
            let io = IoLimit {
                read_bytes: Some(Limit::At(bytes)),
                write_operations: Some(Limit::At(operations)),
                ..IoLimit::of(device)
            };
            let limits = Limits { io: vec![io], ..Limits::default() };
            let v1 = values(&limits, Version::V1);
            prop_assert_eq!(&v1[0].1, &format!("{major}:{minor} {bytes}"));
            prop_assert_eq!(&v1[1].1, &format!("{major}:{minor} {operations}"));
            prop_assert_eq!(&values(&limits, Version::V2)[0].1, &format!("{major}:{minor} rbps={bytes} wiops={operations}"));
        }

        #[test]
        fn weights_are_kept_or_refused(weight: u16) {
            for version in [Version::V1, Version::V2] {
                let limits = Limits { io_weight: Some(weight), ..Limits::default() };
                let mut out = Vec::new();
                match writes(&limits, version, &mut out) {
                    Ok(()) => prop_assert!((10..=1000).contains(&weight) && out.iter().all(|w| w.value == weight.to_string())),
                    Err(_) => prop_assert!(!(10..=1000).contains(&weight)),
                }
            }
        }
    }
}
