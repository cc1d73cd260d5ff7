// SPDX-License-Identifier: Apache-2.0
//! Use of device files: everything is denied, then the list is allowed.
//!
//! On v1 these are commands to `devices.deny` and `devices.allow`. On v2 there is no such file but a BPF program
//! that is attached to the group, which this crate does not make: a list that is asked for there is refused.
//! Source: cgroup-v1/devices in the kernel's documentation.

use crate::controller::Controller;
use crate::tree::Files;
use crate::usage::Applied;
use crate::{Access, Check, DeviceKind, DeviceRule, Error, Limits, Result, Version, Write};

const LIMIT: &str = "device list";

/// What every container may use: files for any device can be made, and these be opened.
pub const DEFAULT: [DeviceRule; 14] = [
    DeviceRule { kind: DeviceKind::Char, major: None, minor: None, access: Access::MKNOD },
    DeviceRule { kind: DeviceKind::Block, major: None, minor: None, access: Access::MKNOD },
    char(5, 1), // console
    char(4, 0), // tty0
    char(4, 1), // tty1
    DeviceRule { kind: DeviceKind::Char, major: Some(136), minor: None, access: Access::ALL }, // pts/*
    char(5, 2), // ptmx
    char(10, 200), // net/tun
    char(1, 3), // null
    char(1, 5), // zero
    char(1, 7), // full
    char(5, 0), // tty
    char(1, 9), // urandom
    char(1, 8), // random
];

const fn char(major: u32, minor: u32) -> DeviceRule {
    DeviceRule { kind: DeviceKind::Char, major: Some(major), minor: Some(minor), access: Access::ALL }
}

pub(super) fn writes(limits: &Limits, version: Version, out: &mut Vec<Write>) -> Result<()> {
    let Some(rules) = &limits.devices else { return Ok(()) };
    if version == Version::V2 {
        return Err(Error::Inexpressible {
            limit: LIMIT,
            why: "cgroup v2 filters devices with a BPF program, which this build does not load: start without it",
        });
    }
    let write = |file, value| Write {
        controller: Controller::Devices,
        limit: LIMIT,
        file,
        value,
        check: Check::None,
        is_default: false,
    };
    out.push(write("devices.deny", "a".into()));
    for rule in rules {
        let Access { read, write: writes, mknod } = rule.access;
        if !(read || writes || mknod) {
            return Err(Error::Invalid { limit: LIMIT, why: "a rule allows neither read, write nor mknod" });
        }
        out.push(write("devices.allow", rule.to_string().into()));
    }
    Ok(())
}

pub(super) fn read_back(files: &Files<'_>, version: Version, applied: &mut Applied) {
    if version == Version::V1 {
        applied.devices = files.with("devices.list", |text| text.lines().map(str::to_owned).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::Class;

    #[test]
    fn everything_is_denied_before_the_list_is_allowed() {
        let limits = Limits { devices: Some(DEFAULT.to_vec()), ..Limits::default() };
        let mut out = Vec::new();
        writes(&limits, Version::V1, &mut out).unwrap();
        let lines: Vec<_> = out.iter().map(|write| (write.file, write.value.as_ref())).collect();
        assert_eq!(lines[0], ("devices.deny", "a"));
        assert_eq!(lines[1], ("devices.allow", "c *:* m"));
        assert_eq!(lines[6], ("devices.allow", "c 136:* rwm"));
        assert_eq!(lines.len(), 15);
    }

    #[test]
    fn a_list_is_refused_on_v2_and_an_empty_rule_everywhere() {
        let limits = Limits { devices: Some(vec![]), ..Limits::default() };
        let error = writes(&limits, Version::V2, &mut Vec::new()).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported);
        let nothing = Access { read: false, write: false, mknod: false };
        let limits =
            Limits { devices: Some(vec![DeviceRule { access: nothing, ..char(1, 3) }]), ..Limits::default() };
        let error = writes(&limits, Version::V1, &mut Vec::new()).unwrap_err();
        assert_eq!(error.class(), Class::Invalid);
    }
}
