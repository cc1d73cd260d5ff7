// SPDX-License-Identifier: Apache-2.0
//! What may be asked of a group, in units that can not be mixed up, and the write that comes of it.

use std::borrow::Cow;
use std::fmt;

use crate::{Controller, IdList};

/// Processors, in thousandths of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MilliCpu(pub u64);

impl MilliCpu {
    /// From a number of processors, rounded to three places as Mesos does; none for what is negative, not a
    /// number, infinite, or beyond any machine.
    pub fn from_cpus(cpus: f64) -> Option<MilliCpu> {
        let milli = (cpus * 1000.0).round();
        // The comparison is false for NaN, and the range is exact in both types.
        if (0.0..=1e12).contains(&milli) { Some(MilliCpu(milli as u64)) } else { None }
    }
}

/// An amount of memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl From<Bytes> for berth_model::Bytes {
    fn from(bytes: Bytes) -> berth_model::Bytes {
        berth_model::Bytes(bytes.0)
    }
}

/// An upper bound, or the wish to have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit<T> {
    /// At most so much.
    At(T),
    /// As much as the host has.
    Infinite,
}

/// What is asked of a group. What is absent is left as the kernel makes it, and needs no controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// The share of the processors under contention.
    pub cpu_request: Option<MilliCpu>,
    /// Whether that share is one of revocable processors, which give way to all others (Mesos: a hundredth of the weight).
    pub cpu_low_priority: bool,
    /// The same as a bare weight, 1024 for one processor; it goes before the request.
    pub cpu_shares: Option<u64>,
    /// The most processor time, idle or not.
    pub cpu_limit: Option<Limit<MilliCpu>>,
    /// The only processors to run on; an empty list is those of the group above.
    pub cpuset_cpus: Option<IdList>,
    /// The only nodes to have memory from; an empty list is those of the group above.
    pub cpuset_mems: Option<IdList>,
    /// How much memory is protected when the host runs short; zero for none.
    pub memory_request: Option<Bytes>,
    /// The most memory, page cache included.
    pub memory_limit: Option<Limit<Bytes>>,
    /// The most swap beside that memory; zero for none.
    pub swap_limit: Option<Limit<Bytes>>,
    /// Whether all processes end when one is killed for lack of memory. v1 has no file for it: whoever watches the
    /// group does it.
    pub oom_group: Option<bool>,
    /// The most processes and threads.
    pub pids_limit: Option<Limit<u64>>,
    /// The share of the disks under contention, 10 to 1000; where nothing is asked it is 100.
    pub io_weight: Option<u16>,
    /// The most that may be read from and written to disks, each device once.
    pub io: Vec<IoLimit>,
    /// The most memory in huge pages, each size once.
    pub huge_pages: Vec<HugePages>,
    /// The only devices that may be used.
    pub devices: Option<Vec<DeviceRule>>,
    /// The mark of its packets (`net_cls`, v1 only).
    pub net_classid: Option<u32>,
}

/// A disk: major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// The driver's number.
    pub major: u32,
    /// The driver's number of the device.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The most of one disk, in each second. What is absent stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoLimit {
    /// Which disk; partitions are not limited by themselves.
    pub device: Device,
    /// Bytes read.
    pub read_bytes: Option<Limit<u64>>,
    /// Bytes written.
    pub write_bytes: Option<Limit<u64>>,
    /// Requests to read.
    pub read_operations: Option<Limit<u64>>,
    /// Requests to write.
    pub write_operations: Option<Limit<u64>>,
}

impl IoLimit {
    /// Nothing asked of a disk yet.
    pub fn of(device: Device) -> IoLimit {
        IoLimit { device, read_bytes: None, write_bytes: None, read_operations: None, write_operations: None }
    }
}

/// The most memory in huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePages {
    /// The size of a page.
    pub page: Bytes,
    /// The most of all of them together, in whole pages.
    pub limit: Limit<Bytes>,
}

/// The kinds of device files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Access {
    /// Open it for reading.
    pub read: bool,
    /// Open it for writing.
    pub write: bool,
    /// Make a file for it.
    pub mknod: bool,
}

impl Access {
    /// Everything.
    pub const ALL: Access = Access { read: true, write: true, mknod: true };
    /// Making a file for it, but not opening that.
    pub const MKNOD: Access = Access { read: false, write: false, mknod: true };
}

/// One allowed device, or all of a major number or kind. Displays as v1's `devices.allow` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceRule {
    /// Character or block.
    pub kind: DeviceKind,
    /// The major number, or all.
    pub major: Option<u32>,
    /// The minor number, or all.
    pub minor: Option<u32>,
    /// What is allowed.
    pub access: Access,
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |f: &mut fmt::Formatter<'_>, number: Option<u32>| match number {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("*"),
        };
        f.write_str(match self.kind {
            DeviceKind::Char => "c ",
            DeviceKind::Block => "b ",
        })?;
        number(f, self.major)?;
        f.write_str(":")?;
        number(f, self.minor)?;
        f.write_str(" ")?;
        let Access { read, write, mknod } = self.access;
        for (given, letter) in [(read, "r"), (write, "w"), (mknod, "m")] {
            if given {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// How to see that the kernel keeps what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The file reads as it was written.
    Exact,
    /// The file reads as the number rounded down to whole pages.
    Pages,
    /// The same with pages of this size in bytes.
    HugePages(u64),
    /// The file reads as the same list of numbers, written in another way perhaps.
    List,
    /// One line for each device: there is one that begins with the device and has all that was written, or none when
    /// all of it is no limit.
    Line,
    /// The file can not be read; the kernel refuses what it does not apply.
    None,
}

/// One value for one control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Whose file it is.
    pub controller: Controller,
    /// The limit that it is part of, for messages.
    pub limit: &'static str,
    /// The control file's name.
    pub file: Cow<'static, str>,
    /// What to write.
    pub value: Cow<'static, str>,
    /// What to expect when it is read back.
    pub check: Check,
    /// Whether the kernel's documentation says that a new group has this value already. Making a group leaves
    /// it out: each file costs 14 µs.
    pub is_default: bool,
    /// Whether the kernel may lack the file: then another write says the same, or it is not needed.
    pub if_present: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_thousandths_and_nonsense_becomes_none() {
        assert_eq!(MilliCpu::from_cpus(0.1), Some(MilliCpu(100)));
        assert_eq!(MilliCpu::from_cpus(2.0004), Some(MilliCpu(2000)));
        assert_eq!(MilliCpu::from_cpus(0.0), Some(MilliCpu(0)));
        for nonsense in [-1.0, f64::NAN, f64::INFINITY, 1e30] {
            assert_eq!(MilliCpu::from_cpus(nonsense), None);
        }
    }

    #[test]
    fn device_rules_read_as_the_kernel_takes_them() {
        let all = DeviceRule { kind: DeviceKind::Block, major: None, minor: None, access: Access::MKNOD };
        assert_eq!(all.to_string(), "b *:* m");
        let pts = DeviceRule { kind: DeviceKind::Char, major: Some(136), minor: None, access: Access::ALL };
        assert_eq!(pts.to_string(), "c 136:* rwm");
    }
}
