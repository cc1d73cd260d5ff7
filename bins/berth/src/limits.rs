// SPDX-License-Identifier: Apache-2.0
//! What the options for limits mean: entries in the map of limits (docs/limits.md), ranges among the resources, devices.

use crate::cli::Limiting;
use crate::exit::Failure;
use berth_model::resources::Value;
use berth_model::{Bytes, Device, Ranges, Resource};
use std::collections::BTreeMap;

const MIB: f64 = 1024.0 * 1024.0;

/// Sets the limits that are given, beside those that are there.
pub(crate) fn set(limits: &mut BTreeMap<String, f64>, options: &Limiting) -> Result<(), Failure> {
    let mut put = |name: &str, value: f64| limits.insert(name.to_owned(), value);
    if let Some(shares) = options.cpu_shares {
        put("cpu_shares", shares as f64);
    }
    if let Some(text) = &options.memory_reservation {
        put("mem_reservation", bytes("--memory-reservation", text)? as f64 / MIB);
    }
    if let Some(group) = options.oom_group {
        put("oom_group", f64::from(u8::from(group)));
    }
    if let Some(weight) = options.blkio_weight {
        if !(10..=1000).contains(&weight) {
            return Err(Failure::text(format!("--blkio-weight {weight}: must be from 10 to 1000")));
        }
        put("io_weight", f64::from(weight));
    }
    let rates = [
        ("--device-read-bps", "io_read_bps", &options.device_read_bps, true),
        ("--device-write-bps", "io_write_bps", &options.device_write_bps, true),
        ("--device-read-iops", "io_read_iops", &options.device_read_iops, false),
        ("--device-write-iops", "io_write_iops", &options.device_write_iops, false),
    ];
    for (option, name, given, is_bytes) in rates {
        for text in given {
            let (disk, value) = rate(option, text, is_bytes)?;
            put(&format!("{name}:{disk}"), value);
        }
    }
    for text in &options.hugetlb {
        let wrong = || Failure::text(format!("--hugetlb {text}: write SIZE:BYTES, such as 2MB:64m"));
        let (size, limit) = text.rsplit_once(':').ok_or_else(wrong)?;
        let value = if limit == "-1" { f64::INFINITY } else { bytes("--hugetlb", limit)? as f64 / MIB };
        put(&format!("hugetlb:{size}"), value);
    }
    // The last, because it is what is left of the sum.
    if let Some(text) = &options.memory_swap {
        let swap = match text.as_str() {
            "-1" => f64::INFINITY,
            text => {
                let sum = bytes("--memory-swap", text)? as f64 / MIB;
                let memory = limits.get("mem").copied().filter(|memory| memory.is_finite());
                let memory = memory.ok_or_else(|| {
                    Failure::text(format!(
                        "--memory-swap {text}: it is memory and swap together: give --memory, too"
                    ))
                })?;
                if sum < memory {
                    return Err(Failure::text(format!(
                        "--memory-swap {text}: it is memory and swap together, and less than the memory"
                    )));
                }
                sum - memory
            }
        };
        limits.insert("swap".to_owned(), swap);
    }
    Ok(())
}

/// The resources that are given: lists of processors and of memory nodes.
pub(crate) fn lists(options: &Limiting) -> Result<Vec<Resource>, Failure> {
    let given = [
        ("--cpuset-cpus", "cpuset_cpus", &options.cpuset_cpus),
        ("--cpuset-mems", "cpuset_mems", &options.cpuset_mems),
    ];
    let mut resources = Vec::new();
    for (option, name, list) in given {
        let Some(text) = list else { continue };
        let ranges = ranges(text)
            .ok_or_else(|| Failure::text(format!("{option} {text}: write a list such as 0-1,3")))?;
        resources.push(Resource::new(name, Value::Ranges(ranges)));
    }
    Ok(resources)
}

fn ranges(text: &str) -> Option<Ranges> {
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    let range = |part: &str| match part.split_once('-') {
        Some((begin, end)) => {
            let (begin, end) = (number(begin)?, number(end)?);
            (begin <= end).then_some(begin..=end)
        }
        None => number(part).map(|one| one..=one),
    };
    text.split(',').map(range).collect()
}

/// `DISK:RATE`.
fn rate(option: &str, text: &str, is_bytes: bool) -> Result<(String, f64), Failure> {
    let wrong =
        |why: &str| Failure::text(format!("{option} {text}: {why}; write DISK:RATE, such as /dev/sda:1mb"));
    let (disk, rate) = text.rsplit_once(':').ok_or_else(|| wrong("there is no rate"))?;
    if !disk.starts_with('/') && !disk.contains(':') {
        return Err(wrong("name the disk by its path, or as MAJOR:MINOR"));
    }
    let value = match rate {
        "-1" => f64::INFINITY,
        rate if is_bytes => bytes(option, rate)? as f64,
        rate => rate.parse::<u32>().map_err(|_| wrong("the rate is no whole number"))?.into(),
    };
    match value {
        0.0 => Err(wrong("with a rate of zero nothing would ever be read or written")),
        value => Ok((disk.to_owned(), value)),
    }
}

pub(crate) fn bytes(option: &str, text: &str) -> Result<u64, Failure> {
    Bytes::parse_docker(text).map(|bytes| bytes.0).map_err(|e| Failure::text(format!("{option}: {e}")))
}

/// `--device`: `/dev/on/host[:/dev/inside][:rwm]`.
pub(crate) fn device(text: &str) -> Result<Device, Failure> {
    let wrong = |why: &str| {
        Failure::text(format!("--device {text}: {why}; write /dev/NAME[:/dev/NAME_INSIDE][:rwm]"))
    };
    let access = |text: &str| !text.is_empty() && text.bytes().all(|byte| b"rwm".contains(&byte));
    let parts: Vec<&str> = text.split(':').collect();
    let (path, inside, may) = match parts[..] {
        [path] => (path, None, None),
        [path, may] if access(may) => (path, None, Some(may)),
        [path, inside] => (path, Some(inside), None),
        [path, inside, may] if access(may) => (path, Some(inside), Some(may)),
        [_, _, _] => return Err(wrong("what may be done with it is made of r, w and m")),
        _ => return Err(wrong("it has too many parts")),
    };
    if !path.starts_with('/') || inside.is_some_and(|inside| !inside.starts_with("/dev/")) {
        return Err(wrong("paths are absolute, and inside below /dev"));
    }
    Ok(Device {
        path: path.to_owned(),
        container_path: inside.map(str::to_owned),
        access: may.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &Limiting) -> Result<BTreeMap<String, f64>, Failure> {
        let mut limits = BTreeMap::from([("mem".to_owned(), 64.0)]);
        set(&mut limits, options).map(|()| limits)
    }

    #[test]
    fn dockers_options_become_entries() {
        let options = Limiting {
            cpu_shares: Some(512),
            memory_reservation: Some("32m".to_owned()),
            memory_swap: Some("96m".to_owned()),
            oom_group: Some(true),
            blkio_weight: Some(300),
            device_read_bps: vec!["/dev/sda:1mb".to_owned(), "8:16:5".to_owned()],
            device_write_iops: vec!["/dev/sda:-1".to_owned()],
            hugetlb: vec!["2MB:8m".to_owned()],
            ..Limiting::default()
        };
        let limits = of(&options).expect("all of it means something");
        for (name, value) in [
            ("mem", 64.0),
            ("cpu_shares", 512.0),
            ("mem_reservation", 32.0),
            ("swap", 32.0),
            ("oom_group", 1.0),
            ("io_weight", 300.0),
            ("io_read_bps:/dev/sda", 1_048_576.0),
            ("io_read_bps:8:16", 5.0),
            ("io_write_iops:/dev/sda", f64::INFINITY),
            ("hugetlb:2MB", 8.0),
        ] {
            assert_eq!(limits.get(name), Some(&value), "{name}");
        }
        assert!(Limiting::default().is_empty() && !options.is_empty());
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let texts = |text: &str| vec![text.to_owned()];
        for options in [
            Limiting { memory_swap: Some("32m".to_owned()), ..Limiting::default() },
            Limiting { blkio_weight: Some(5), ..Limiting::default() },
            Limiting { device_read_bps: texts("/dev/sda"), ..Limiting::default() },
            Limiting { device_read_bps: texts("/dev/sda:0"), ..Limiting::default() },
            Limiting { device_read_iops: texts("/dev/sda:1mb"), ..Limiting::default() },
            Limiting { device_read_iops: texts("sda:1"), ..Limiting::default() },
            Limiting { hugetlb: texts("2MB"), ..Limiting::default() },
        ] {
            assert!(of(&options).is_err(), "{options:?}");
        }
        for text in ["", "a", "1-", "3-1", "1,,2", "-1", "99999999"] {
            let options = Limiting { cpuset_cpus: Some(text.to_owned()), ..Limiting::default() };
            assert!(lists(&options).is_err(), "{text}");
        }
        for text in ["dev/x", "/dev/x:y", "/dev/x:/dev/y:q", "/dev/x:/etc/y", "/a:/dev/b:r:w"] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_has_up_to_three_parts() {
        let parts = |text: &str| {
            let device = device(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            (device.path, device.container_path, device.access)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("/dev/x"), ("/dev/x".to_owned(), None, None));
        assert_eq!(parts("/dev/x:rw"), ("/dev/x".to_owned(), None, some("rw")));
        assert_eq!(parts("/dev/x:/dev/y:r"), ("/dev/x".to_owned(), some("/dev/y"), some("r")));
        let lists = lists(&Limiting { cpuset_cpus: some("0-1,3"), ..Limiting::default() }).expect("a list");
        assert_eq!(
            (lists[0].name.as_str(), lists[0].value.to_string().as_str()),
            ("cpuset_cpus", "[0-1, 3-3]")
        );
    }
}
