// SPDX-License-Identifier: Apache-2.0
//! What the flags say about control groups.

use std::time::Duration;

use berth_cgroup::{Access, Controller, DeviceRule, Hierarchies, Mode};
use berth_mesos::{GroupSettings, Handles};

use crate::create::Native;
use crate::flags::Flags;

/// Why the control groups can not be as the flags say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    /// A flag that can not be read.
    #[error("--{flag}: {why}")]
    Flag {
        /// Its name.
        flag: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A flag that makes no sense without another.
    #[error("--cgroups_net_cls_secondary_handles needs --cgroups_net_cls_primary_handle")]
    Secondary,
    /// Marks need a hierarchy of v1.
    #[error(
        "--cgroups_net_cls_primary_handle needs the cgroup v1 controller net_cls, which this host has not: mount it at /sys/fs/cgroup/net_cls, or leave the flag away"
    )]
    NoMarks,
    /// An isolator whose controller is not there.
    #[error(
        "Failed to create isolator '{name}': this host has no cgroup controller {controller}: mount it, have it handed down, or leave the isolator away"
    )]
    Controller {
        /// The isolator.
        name: String,
        /// What it needs.
        controller: Controller,
    },
    /// A device that is not there.
    #[error(transparent)]
    Device(#[from] berth_mesos::IsolatorError),
}

/// The isolators of control groups, and what each is a member of.
const NAMES: &[(&str, Controller)] = &[
    ("cgroups/blkio", Controller::Io),
    ("cgroups/cpu", Controller::Cpu),
    ("cgroups/cpuset", Controller::Cpuset),
    ("cgroups/hugetlb", Controller::Hugetlb),
    ("cgroups/mem", Controller::Memory),
    ("cgroups/net_cls", Controller::NetCls),
    ("cgroups/net_prio", Controller::NetPrio),
    ("cgroups/perf_event", Controller::PerfEvent),
    ("cgroups/pids", Controller::Pids),
];

/// What can be refused for the flags alone.
pub(crate) fn check(flags: &Flags) -> Result<(), Wrong> {
    handles(flags)?;
    for name in ["cgroups_enable_cfs", "cgroups_limit_swap", "revocable_cpu_low_priority"] {
        boolean(flags, name)?;
    }
    destroy_timeout(flags)?;
    devices(flags).map(drop)
}

/// What isolators are told.
pub(crate) fn settings(
    flags: &Flags,
    native: &Native,
    hierarchies: &Hierarchies,
) -> Result<GroupSettings, Wrong> {
    let mut settings = GroupSettings {
        request_is_limit: boolean(flags, "cgroups_enable_cfs")?.unwrap_or(false),
        limit_swap: boolean(flags, "cgroups_limit_swap")?.unwrap_or(false),
        revocable_gives_way: boolean(flags, "revocable_cpu_low_priority")?.unwrap_or(true),
        net_cls: handles(flags)?,
        allowed_devices: devices(flags)?,
        ..GroupSettings::default()
    };
    if let Some(timeout) = destroy_timeout(flags)? {
        settings.destroy_timeout = timeout;
    }
    if settings.net_cls.is_some() && hierarchies.version_of(Controller::NetCls).is_none() {
        return Err(Wrong::NoMarks);
    }
    let all = native.isolation.has("cgroups/all");
    for (name, controller) in NAMES {
        let named = native.isolation.has(name);
        let there = hierarchies.version_of(*controller).is_some();
        if named && !there {
            return Err(Wrong::Controller { name: (*name).to_owned(), controller: *controller });
        }
        if there && (named || all) {
            settings.member_of.push(*controller);
        }
    }
    Ok(settings)
}

/// Whether this host's control groups have the isolator of that name: v2 has no `blkio`, `net_cls` and `net_prio`, and
/// knows nobody of these names.
pub(crate) fn has_isolator(name: &str) -> bool {
    let only_v1 = ["cgroups/blkio", "cgroups/net_cls", "cgroups/net_prio"];
    let is_v2 = || {
        Hierarchies::probe(std::path::Path::new(Hierarchies::ROOT))
            .is_ok_and(|hierarchies| hierarchies.mode() == Mode::V2)
    };
    berth_mesos::has_isolator(name) && !(only_v1.contains(&name) && is_v2())
}

fn boolean(flags: &Flags, flag: &'static str) -> Result<Option<bool>, Wrong> {
    let Some(text) = flags.loaded.get(flag) else { return Ok(None) };
    let why = || format!("{text:?} is neither true nor false");
    crate::load::parse_bool(text).map(Some).ok_or_else(|| Wrong::Flag { flag, why: why() })
}

fn destroy_timeout(flags: &Flags) -> Result<Option<Duration>, Wrong> {
    let flag = "cgroups_destroy_timeout";
    let Some(text) = flags.loaded.get(flag) else { return Ok(None) };
    let parsed = berth_model::parse_duration(text);
    parsed.map(Some).map_err(|error| Wrong::Flag { flag, why: error.to_string() })
}

fn handles(flags: &Flags) -> Result<Option<Handles>, Wrong> {
    let primary = flags.loaded.get("cgroups_net_cls_primary_handle");
    let secondary = flags.loaded.get("cgroups_net_cls_secondary_handles");
    match (primary, secondary) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Wrong::Secondary),
        (Some(primary), secondary) => Handles::parse(primary, secondary)
            .map(Some)
            .map_err(|why| Wrong::Flag { flag: "cgroups_net_cls_primary_handle", why }),
    }
}

/// `{"allowed_devices": [{"device": {"path": "/dev/fuse"}, "access": {"read": true}}]}`, Mesos's DeviceWhitelist.
fn devices(flags: &Flags) -> Result<Vec<DeviceRule>, Wrong> {
    let flag = "allowed_devices";
    let Some(text) = flags.loaded.get(flag) else { return Ok(Vec::new()) };
    let wrong = |why: &str| Wrong::Flag { flag, why: why.to_owned() };
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|error| Wrong::Flag { flag, why: error.to_string() })?;
    let list = json.get("allowed_devices").and_then(serde_json::Value::as_array);
    let list = list.ok_or_else(|| wrong("there is no list \"allowed_devices\" in it"))?;
    let mut rules = Vec::with_capacity(list.len());
    for entry in list {
        let path = entry.get("device").and_then(|device| device.get("path")).and_then(|path| path.as_str());
        let path = path.ok_or_else(|| wrong("an entry has no device.path"))?;
        let may = |name: &str| {
            entry.get("access").and_then(|access| access.get(name)).and_then(serde_json::Value::as_bool)
                == Some(true)
        };
        let access = Access { read: may("read"), write: may("write"), mknod: may("mknod") };
        if !(access.read || access.write || access.mknod) {
            return Err(wrong(&format!("the entry for {path} allows neither read, write nor mknod")));
        }
        rules.push(berth_mesos::device_rule(path, access)?.0);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    fn flags(given: &[&str]) -> Flags {
        Flags::from(Loaded::read(given.iter().map(|flag| (*flag).to_owned()), []).unwrap())
    }

    #[test]
    fn every_flag_of_control_groups_is_read() {
        let all = flags(&[
            "--cgroups_enable_cfs=true",
            "--cgroups_destroy_timeout=5secs",
            "--cgroups_net_cls_primary_handle=0x12",
            r#"--allowed_devices={"allowed_devices": [{"device": {"path": "/dev/full"}, "access": {"read": true}}]}"#,
        ]);
        check(&all).unwrap();
        assert_eq!(destroy_timeout(&all).unwrap(), Some(Duration::from_secs(5)));
        assert_eq!(handles(&all).unwrap().unwrap().primary, 0x12);
        assert_eq!(devices(&all).unwrap()[0].to_string(), "c 1:7 r");
    }

    #[test]
    fn what_means_nothing_is_refused_by_the_flags_name() {
        for (given, said) in [
            ("--cgroups_net_cls_secondary_handles=1,5", "needs --cgroups_net_cls_primary_handle"),
            ("--cgroups_net_cls_primary_handle=x", "primary handle"),
            (r#"--allowed_devices={"allowed_devices": [{"access": {"read": true}}]}"#, "device.path"),
            (
                r#"--allowed_devices={"allowed_devices": [{"device": {"path": "/dev/full"}, "access": {}}]}"#,
                "neither read",
            ),
        ] {
            let error = check(&flags(&[given])).unwrap_err();
            assert!(error.to_string().contains(said), "{given}: {error}");
        }
    }
}
