// SPDX-License-Identifier: Apache-2.0
//! Use of device files: everything is denied, then the list is allowed.
//!
//! On v1 these are commands to `devices.deny` and `devices.allow`. On v2 there is no such file but a program that is
//! attached to the group (`filter.rs`), so there is nothing to write. Source: cgroup-v1/devices in the kernel's
//! documentation.

use std::borrow::Cow;

use crate::controller::Controller;
use crate::tree::Files;
use crate::usage::Applied;
use crate::{Access, Check, DeviceKind, DeviceRule, Error, Limits, Result, Version, Write};

pub(super) const LIMIT: &str = "device list";
const DENY: &str = "devices.deny";
const ALLOW: &str = "devices.allow";
/// What is allowed now.
pub(crate) const LIST: &str = "devices.list";

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
    if rules.iter().any(|DeviceRule { access, .. }| !(access.read || access.write || access.mknod)) {
        return Err(Error::Invalid { limit: LIMIT, why: "a rule allows neither read, write nor mknod" });
    }
    if version == Version::V2 {
        return Ok(());
    }
    let write = |file, value| Write {
        controller: Controller::Devices,
        limit: LIMIT,
        file: Cow::Borrowed(file),
        value,
        check: Check::None,
        is_default: false,
        if_present: false,
    };
    out.push(write(DENY, "a".into()));
    for rule in rules {
        out.push(write(ALLOW, rule.to_string().into()));
    }
    Ok(())
}

/// The writes for a group of v1 that has a list already: what stays allowed is so at every moment. `now` is its
/// `devices.list`.
pub(crate) fn sort_for_update(writes: &mut Vec<Write>, now: &str) {
    let Some(at) = writes.iter().position(|write| write.file == DENY) else { return };
    // "Everything" has no list that could be taken away from.
    if now.lines().any(|line| line == "a *:* rwm") {
        return;
    }
    let asked: Vec<_> =
        writes.iter().filter(|write| write.file == ALLOW).map(|write| write.value.clone()).collect();
    let denied: Vec<Write> = now
        .lines()
        .filter(|line| !asked.iter().any(|asked| asked == line))
        .map(|line| Write { value: line.to_owned().into(), ..writes[at].clone() })
        .collect();
    // Taken away first: the kernel would take a part of a new rule along.
    let allowed: Vec<Write> = writes.iter().filter(|write| write.file == ALLOW).cloned().collect();
    writes.retain(|write| write.file != DENY && write.file != ALLOW);
    writes.extend(denied);
    writes.extend(allowed);
}

pub(super) fn read_back(files: &Files<'_>, version: Version, applied: &mut Applied) {
    if version == Version::V1 {
        applied.devices = files.with(LIST, |text| text.lines().map(str::to_owned).collect());
    } else {
        applied.devices = crate::filter::describe(files.dir());
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
        let lines: Vec<_> = out.iter().map(|write| (write.file.as_ref(), write.value.as_ref())).collect();
        assert_eq!(lines[0], ("devices.deny", "a"));
        assert_eq!(lines[1], ("devices.allow", "c *:* m"));
        assert_eq!(lines[6], ("devices.allow", "c 136:* rwm"));
        assert_eq!(lines.len(), 15);
    }

    #[test]
    fn what_stays_allowed_is_never_taken_away() {
        let list = |rules: Vec<DeviceRule>| {
            let mut out = Vec::new();
            writes(&Limits { devices: Some(rules), ..Limits::default() }, Version::V1, &mut out).unwrap();
            out
        };
        let mut update = list(vec![char(1, 3), char(10, 229)]);
        sort_for_update(&mut update, "c 1:3 rwm\nc 1:5 rwm\n");
        let lines: Vec<_> = update.iter().map(|write| (write.file.as_ref(), write.value.as_ref())).collect();
        assert_eq!(lines, [(DENY, "c 1:5 rwm"), (ALLOW, "c 1:3 rwm"), (ALLOW, "c 10:229 rwm")]);
        let mut first = list(vec![char(1, 3)]);
        sort_for_update(&mut first, "a *:* rwm\n");
        assert_eq!(first[0].value, "a");
    }

    #[test]
    fn an_empty_rule_is_refused_and_v2_has_no_file() {
        let limits = Limits { devices: Some(vec![]), ..Limits::default() };
        let mut out = Vec::new();
        writes(&limits, Version::V2, &mut out).unwrap();
        assert!(out.is_empty());
        let nothing = Access { read: false, write: false, mknod: false };
        let limits =
            Limits { devices: Some(vec![DeviceRule { access: nothing, ..char(1, 3) }]), ..Limits::default() };
        let error = writes(&limits, Version::V1, &mut Vec::new()).unwrap_err();
        assert_eq!(error.class(), Class::Invalid);
    }
}
