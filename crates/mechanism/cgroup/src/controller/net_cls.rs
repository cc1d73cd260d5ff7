// SPDX-License-Identifier: Apache-2.0
//! The mark of a group's packets, which filters of the network look at: `net_cls.classid`, on v1 only (v2 matches by the
//! group's path instead). Source: cgroup-v1/net_cls in the kernel's documentation.

use crate::controller::Controller;
use crate::tree::Files;
use crate::usage::Applied;
use crate::{Check, Error, Limits, Result, Version, Write};

pub(super) const LIMIT: &str = "mark of packets";
const FILE: &str = "net_cls.classid";

pub(super) fn writes(limits: &Limits, version: Version, out: &mut Vec<Write>) -> Result<()> {
    let Some(classid) = limits.net_classid else { return Ok(()) };
    if version == Version::V2 {
        return Err(Error::Inexpressible { limit: LIMIT, why: "cgroup v2 has no net_cls" });
    }
    out.push(Write {
        controller: Controller::NetCls,
        limit: LIMIT,
        file: FILE.into(),
        value: classid.to_string().into(),
        check: Check::Exact,
        is_default: classid == 0,
        if_present: false,
    });
    Ok(())
}

pub(super) fn read_back(files: &Files<'_>, version: Version, applied: &mut Applied) {
    if version == Version::V1 {
        applied.net_classid =
            files.number(FILE).and_then(|number| u32::try_from(number).ok()).filter(|mark| *mark != 0);
    }
}
