// SPDX-License-Identifier: Apache-2.0
//! From a configuration to limits of a control group.
//!
//! Requests are Mesos's resources: `cpus`, `mem`; and `cpuset_cpus`, `cpuset_mems` as ranges. Limits are its map of limits,
//! in which these names are ours beside `cpus` and `mem` (docs/limits.md): a limit that is not known here is refused.

use berth_cgroup::{
    Access, Bytes, Device, DeviceKind, DeviceRule, HugePages, IdList, IoLimit, Limit, Limits, MilliCpu,
};
use berth_launcher::{Error, Result};
use berth_model::ContainerConfig;
use berth_model::resources::Value;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Ranges of processors and of memory nodes among the resources.
const CPUS: &str = "cpuset_cpus";
const MEMS: &str = "cpuset_mems";

/// The names of limits, for messages; those with a colon are followed by a disk or the size of a page.
const NAMES: &str = "cpus, mem, pids, cpu_shares, mem_reservation, swap, oom_group, io_weight, io_read_bps:DISK, \
     io_write_bps:DISK, io_read_iops:DISK, io_write_iops:DISK and hugetlb:SIZE";

/// The limits that a configuration asks for.
///
/// # Errors
/// A number that is none, negative or too large; a limit that is not known; a disk that is not there.
pub fn limits_of(config: &ContainerConfig) -> Result<Limits> {
    let mut limits = Limits::default();
    requests(config, &mut limits)?;
    for (name, value) in &config.limits {
        limit(name, *value, &mut limits)?;
    }
    Ok(limits)
}

fn bad(name: &str, value: f64) -> Error {
    Error::Invalid(format!("limit {name} = {value} is not a number from 0 up to what a machine can have"))
}

fn requests(config: &ContainerConfig, limits: &mut Limits) -> Result<()> {
    if let Some(cpus) = config.resources.cpus() {
        limits.cpu_request = Some(MilliCpu::from_cpus(cpus).ok_or_else(|| bad("cpus", cpus))?);
        limits.cpu_low_priority = config.resources.get("cpus").any(|resource| resource.revocable);
    }
    if let Some(mem) = config.resources.mem() {
        limits.memory_request = Some(megabytes(mem as f64));
        limits.memory_limit = limits.memory_request.map(Limit::At);
    }
    limits.cpuset_cpus = list(config, CPUS)?;
    limits.cpuset_mems = list(config, MEMS)?;
    Ok(())
}

fn list(config: &ContainerConfig, name: &str) -> Result<Option<IdList>> {
    if config.resources.get(name).any(|resource| !matches!(resource.value, Value::Ranges(_))) {
        return Err(Error::Invalid(format!("resource {name} has to be ranges of numbers, such as [0-1]")));
    }
    let Some(ranges) = config.resources.ranges(name) else { return Ok(None) };
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let list = IdList::from_ranges(ranges.iter().map(|range| (number(range.begin), number(range.end))));
    list.map(Some).map_err(|error| Error::Invalid(format!("resource {name}: {error}")))
}

fn limit(name: &str, value: f64, limits: &mut Limits) -> Result<()> {
    if value.is_nan() || value < 0.0 || (value.is_finite() && value > 1e15) {
        return Err(bad(name, value));
    }
    let whole = || if value.is_finite() { Ok(value as u64) } else { Err(bad(name, value)) };
    let count = || if value.is_finite() { Limit::At(value as u64) } else { Limit::Infinite };
    let memory = || if value.is_finite() { Limit::At(megabytes(value)) } else { Limit::Infinite };
    match name.split_once(':') {
        Some((kind, disk)) if kind.starts_with("io_") => return io(kind, disk, count(), limits),
        Some(("hugetlb", size)) => {
            let page = page(size)?;
            limits.huge_pages.push(HugePages { page, limit: memory() });
            return Ok(());
        }
        _ => {}
    }
    match name {
        "cpus" if value.is_infinite() => limits.cpu_limit = Some(Limit::Infinite),
        "cpus" => {
            let cpus = MilliCpu::from_cpus(value).ok_or_else(|| bad(name, value))?;
            limits.cpu_limit = Some(Limit::At(cpus));
        }
        "mem" => limits.memory_limit = Some(memory()),
        "pids" => limits.pids_limit = Some(count()),
        "cpu_shares" => limits.cpu_shares = Some(whole()?),
        "mem_reservation" => limits.memory_request = Some(megabytes(whole()? as f64)),
        "swap" => limits.swap_limit = Some(memory()),
        "oom_group" => limits.oom_group = Some(whole()? != 0),
        "io_weight" => limits.io_weight = Some(u16::try_from(whole()?).map_err(|_| bad(name, value))?),
        other => {
            return Err(Error::Unsupported(format!(
                "a limit on {other:?} can not be enforced by this version: {NAMES} can"
            )));
        }
    }
    Ok(())
}

fn megabytes(mb: f64) -> Bytes {
    Bytes((mb * 1024.0 * 1024.0) as u64)
}

/// The most of one disk: all limits on it are one.
fn io(kind: &str, disk: &str, value: Limit<u64>, limits: &mut Limits) -> Result<()> {
    let device = disk_of(disk)?;
    let at = limits.io.iter().position(|limit| limit.device == device).unwrap_or_else(|| {
        limits.io.push(IoLimit::of(device));
        limits.io.len() - 1
    });
    let limit = &mut limits.io[at];
    let place = match kind {
        "io_read_bps" => &mut limit.read_bytes,
        "io_write_bps" => &mut limit.write_bytes,
        "io_read_iops" => &mut limit.read_operations,
        "io_write_iops" => &mut limit.write_operations,
        _ => {
            return Err(Error::Unsupported(format!(
                "a limit on {kind:?} can not be enforced by this version: {NAMES} can"
            )));
        }
    };
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::Invalid(format!("limit {kind} of {disk} is given twice, by other names"))),
    }
}

/// A whole disk by its path or `MAJOR:MINOR`; of a partition the disk that it is on.
fn disk_of(text: &str) -> Result<Device> {
    let numbers = |text: &str| -> Option<Device> {
        let (major, minor) = text.trim_end().split_once(':')?;
        Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? })
    };
    let device = match numbers(text) {
        Some(device) => device,
        None if text.starts_with('/') => {
            let meta = std::fs::metadata(text).map_err(|e| Error::Invalid(format!("disk {text}: {e}")))?;
            if !meta.file_type().is_block_device() {
                return Err(Error::Invalid(format!("{text} is not a disk (a block device)")));
            }
            Device { major: major(meta.rdev()), minor: minor(meta.rdev()) }
        }
        None => {
            return Err(Error::Invalid(format!(
                "disk {text:?}: name it by its path, such as /dev/sda, or by MAJOR:MINOR"
            )));
        }
    };
    let block = std::path::PathBuf::from(format!("/sys/dev/block/{device}"));
    if !block.join("partition").exists() {
        return Ok(device);
    }
    let whole = std::fs::read_to_string(block.join("../dev")).ok();
    whole.and_then(|text| numbers(&text)).ok_or_else(|| {
        Error::Invalid(format!("disk {text}: it is a partition, and what disk it is on is not known"))
    })
}

/// makedev(3).
fn major(device: u64) -> u32 {
    ((device >> 8) & 0xfff | (device >> 32) & !0xfff) as u32
}

fn minor(device: u64) -> u32 {
    (device & 0xff | (device >> 12) & !0xff) as u32
}

/// The size of a huge page, as the kernel names it.
fn page(size: &str) -> Result<Bytes> {
    let units = [("KB", 10), ("MB", 20), ("GB", 30)];
    let bytes = units.iter().find_map(|(unit, shift)| {
        let number: u64 = size.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(1 << shift)
    });
    bytes
        .map(Bytes)
        .ok_or_else(|| Error::Invalid(format!("{size:?} is no size of a huge page; write it as 2MB or 1GB")))
}

/// A device of the host that a container may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostDevice {
    /// What of it is allowed.
    pub(crate) rule: DeviceRule,
    /// Its name below the container's `/dev`.
    pub(crate) name: String,
    /// Permissions of the file.
    pub(crate) mode: u32,
}

/// The devices that a configuration asks for.
///
/// # Errors
/// One that is not there or no device, a place outside of `/dev`, words that mean nothing.
pub(crate) fn devices_of(config: &ContainerConfig) -> Result<Vec<HostDevice>> {
    let linux = config.container_info.as_ref().and_then(|info| info.linux_info.as_ref());
    let asked = linux.map_or(&[][..], |linux| &linux.devices);
    let mut devices: Vec<HostDevice> = Vec::with_capacity(asked.len());
    for asked in asked {
        let (rule, mode) = rule(&asked.path, access(asked.access.as_deref().unwrap_or("rwm"))?)?;
        let seen = asked.container_path.as_deref().unwrap_or(&asked.path);
        let name = seen
            .strip_prefix("/dev/")
            .filter(|name| !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | "..")));
        let taken = ["pts", "shm", "mqueue", "fd"];
        let name = name
            .filter(|name| !taken.iter().any(|taken| name.split('/').next() == Some(taken)))
            .ok_or_else(|| {
                Error::Invalid(format!(
                    "device {} can not be at {seen}: only at a name of its own below /dev",
                    asked.path
                ))
            })?;
        if devices.iter().any(|other| other.name == name) {
            return Err(Error::Invalid(format!("two devices are to be at {seen}")));
        }
        devices.push(HostDevice { rule, name: name.to_owned(), mode });
    }
    Ok(devices)
}

/// The rule for a device of the host, and the permissions of its file.
///
/// # Errors
/// There is none.
pub fn rule(path: &str, access: Access) -> Result<(DeviceRule, u32)> {
    if !path.starts_with('/') {
        return Err(Error::Invalid(format!("device {path:?}: its path on the host has to be absolute")));
    }
    let meta = std::fs::metadata(path).map_err(|e| Error::Invalid(format!("device {path}: {e}")))?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => DeviceKind::Char,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return Err(Error::Invalid(format!("{path} is not a device"))),
    };
    let (major, minor) = (Some(major(meta.rdev())), Some(minor(meta.rdev())));
    Ok((DeviceRule { kind, major, minor, access }, meta.mode() & 0o777))
}

fn access(text: &str) -> Result<Access> {
    let mut access = Access { read: false, write: false, mknod: false };
    for letter in text.chars() {
        match letter {
            'r' => access.read = true,
            'w' => access.write = true,
            'm' => access.mknod = true,
            other => {
                return Err(Error::Invalid(format!(
                    "{other:?} in {text:?} is no use of a device: give some of r, w and m"
                )));
            }
        }
    }
    match text {
        "" => Err(Error::Invalid(
            "a device that may not be used at all is none: give some of r, w and m".to_owned(),
        )),
        _ => Ok(access),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::{ContainerInfo, LinuxInfo, Resource, Resources, Scalar};
    use std::collections::BTreeMap;

    fn with(limits: &[(&str, f64)]) -> ContainerConfig {
        let limits = limits.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        ContainerConfig { limits, ..ContainerConfig::default() }
    }

    #[test]
    fn every_name_of_a_limit_arrives() {
        let all = with(&[
            ("cpus", 1.5),
            ("mem", 64.0),
            ("pids", 50.0),
            ("cpu_shares", 512.0),
            ("mem_reservation", 40.0),
            ("swap", 0.0),
            ("oom_group", 1.0),
            ("io_weight", 300.0),
            ("io_read_bps:254:7", 1048576.0),
            ("io_write_iops:254:7", f64::INFINITY),
            ("hugetlb:2MB", 8.0),
        ]);
        let limits = limits_of(&all).unwrap();
        assert_eq!(limits.cpu_limit, Some(Limit::At(MilliCpu(1500))));
        assert_eq!(limits.memory_limit, Some(Limit::At(Bytes(64 << 20))));
        assert_eq!(limits.memory_request, Some(Bytes(40 << 20)));
        assert_eq!((limits.pids_limit, limits.cpu_shares), (Some(Limit::At(50)), Some(512)));
        assert_eq!((limits.swap_limit, limits.oom_group), (Some(Limit::At(Bytes(0))), Some(true)));
        assert_eq!(limits.io_weight, Some(300));
        let disk = Device { major: 254, minor: 7 };
        let io = IoLimit {
            read_bytes: Some(Limit::At(1 << 20)),
            write_operations: Some(Limit::Infinite),
            ..IoLimit::of(disk)
        };
        assert_eq!(limits.io, [io]);
        let pages = HugePages { page: Bytes(2 << 20), limit: Limit::At(Bytes(8 << 20)) };
        assert_eq!(limits.huge_pages, [pages]);
    }

    #[test]
    fn what_can_not_be_enforced_or_means_nothing_is_refused_by_name() {
        for (name, value, said) in [
            ("gpus", 1.0, "gpus"),
            ("io_speed:1:1", 1.0, "io_speed"),
            ("io_read_bps:vda", 1.0, "MAJOR:MINOR"),
            ("io_read_bps:/dev/null", 1.0, "not a disk"),
            ("io_read_bps:/no/such", 1.0, "/no/such"),
            ("hugetlb:2", 1.0, "huge page"),
            ("cpu_shares", f64::INFINITY, "cpu_shares"),
            ("io_weight", 70_000.0, "io_weight"),
            ("mem", -1.0, "mem"),
            ("mem", f64::NAN, "mem"),
        ] {
            let error = limits_of(&with(&[(name, value)])).unwrap_err();
            assert!(error.to_string().contains(said), "{name}: {error}");
        }
    }

    #[test]
    fn processors_come_as_ranges_and_revocable_ones_weigh_less() {
        let mut resources = Resources::new();
        let ranges = Value::Ranges([0..=1, 3..=3].into_iter().collect());
        resources.try_add(Resource::new("cpuset_cpus", ranges)).unwrap();
        let cpus = Resource { revocable: true, ..Resource::scalar("cpus", Scalar::from_whole(2)) };
        resources.try_add(cpus).unwrap();
        let limits = limits_of(&ContainerConfig { resources, ..ContainerConfig::default() }).unwrap();
        assert_eq!(limits.cpuset_cpus, Some("0-1,3".parse().unwrap()));
        assert!(limits.cpu_low_priority);
        let mut resources = Resources::new();
        resources.try_add(Resource::scalar("cpuset_cpus", Scalar::from_whole(2))).unwrap();
        let error = limits_of(&ContainerConfig { resources, ..ContainerConfig::default() }).unwrap_err();
        assert!(error.to_string().contains("ranges"), "{error}");
    }

    fn devices(list: &[(&str, Option<&str>, Option<&str>)]) -> Result<Vec<HostDevice>> {
        let device = |(path, to, access): &(&str, Option<&str>, Option<&str>)| berth_model::Device {
            path: (*path).to_owned(),
            container_path: to.map(str::to_owned),
            access: access.map(str::to_owned),
        };
        let linux = LinuxInfo { devices: list.iter().map(device).collect(), ..LinuxInfo::default() };
        let info = ContainerInfo { linux_info: Some(linux), ..ContainerInfo::default() };
        let limits = BTreeMap::new();
        devices_of(&ContainerConfig { container_info: Some(info), limits, ..ContainerConfig::default() })
    }

    #[test]
    fn a_device_is_a_rule_and_a_name_below_dev() {
        let found = devices(&[("/dev/full", Some("/dev/x/y"), Some("r"))]).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].rule.to_string().as_str()), ("x/y", "c 1:7 r"));
        for (wrong, said) in [
            (("/dev/full", Some("/etc/x"), None), "/etc/x"),
            (("/dev/full", Some("/dev/../etc"), None), "/dev/../etc"),
            (("/dev/full", Some("/dev/pts/7"), None), "/dev/pts/7"),
            (("/dev/full", None, Some("rx")), "'x'"),
            (("/dev/full", None, Some("")), "not be used"),
            (("/etc/passwd", None, None), "not a device"),
            (("dev/full", None, None), "absolute"),
            (("/dev/no-such", None, None), "no-such"),
        ] {
            let error = devices(&[wrong]).unwrap_err();
            assert!(error.to_string().contains(said), "{wrong:?}: {error}");
        }
        assert!(
            devices(&[("/dev/full", Some("/dev/a"), None), ("/dev/null", Some("/dev/a"), None)]).is_err()
        );
    }

    #[test]
    fn device_numbers_are_taken_apart_as_the_kernel_puts_them_together() {
        let device = |major: u64, minor: u64| {
            (major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12
        };
        for (wide, narrow) in [(254, 0), (8, 300), (4095, 1_048_575), (70_000, 5)] {
            assert_eq!(
                (major(device(wide, narrow)), minor(device(wide, narrow))),
                (wide as u32, narrow as u32)
            );
        }
    }
}
