// SPDX-License-Identifier: Apache-2.0
//! On which processors to run, and from which nodes to have memory: `cpuset.cpus`, `cpuset.mems`, the same on both.
//!
//! A new group of v1 has neither, and nobody can join it: so [`crate::Hierarchies`] copies them from the group above
//! when it makes one. On v2 an empty list means those of the group above. v2 takes a list that the group above does not
//! have, and uses what is left of it; so there the effective list is compared, and the limit refused when something of it
//! is missing. Sources: cgroup-v1/cpusets and cgroup-v2 in the kernel's documentation.

use crate::controller::Controller;
use crate::tree::Files;
use crate::usage::Applied;
use crate::{Check, Error, IdList, Limits, Result, Version, Write};

pub(crate) const CPUS: &str = "cpuset.cpus";
pub(crate) const MEMS: &str = "cpuset.mems";

pub(super) const CPUS_LIMIT: &str = "list of processors";
pub(super) const MEMS_LIMIT: &str = "list of memory nodes";

pub(super) fn writes(limits: &Limits, version: Version, out: &mut Vec<Write>) -> Result<()> {
    for (list, limit, file) in
        [(&limits.cpuset_cpus, CPUS_LIMIT, CPUS), (&limits.cpuset_mems, MEMS_LIMIT, MEMS)]
    {
        let Some(list) = list else { continue };
        if list.is_empty() && version == Version::V1 {
            return Err(Error::Invalid { limit, why: "it is empty, and on cgroup v1 nobody could run then" });
        }
        // The kernel takes no empty write.
        let value = if list.is_empty() { "\n".into() } else { list.to_string().into() };
        out.push(Write {
            controller: Controller::Cpuset,
            limit,
            file: file.into(),
            value,
            check: Check::List,
            is_default: list.is_empty(),
            if_present: false,
        });
    }
    Ok(())
}

/// What of the list that was asked for is not effective, if anything is not.
pub(crate) fn missing(
    files: &Files<'_>,
    version: Version,
    limits: &Limits,
) -> Option<(&'static str, String)> {
    if version == Version::V1 {
        return None;
    }
    let lacks = |asked: &Option<IdList>, file: &str| -> Option<String> {
        let asked = asked.as_ref().filter(|asked| !asked.is_empty())?;
        let effective = files.with(file, |text| text.trim_end().to_owned())?;
        let all = effective.parse::<IdList>().is_ok_and(|effective| effective.contains(asked));
        (!all).then_some(effective)
    };
    lacks(&limits.cpuset_cpus, "cpuset.cpus.effective")
        .map(|found| (CPUS, found))
        .or_else(|| lacks(&limits.cpuset_mems, "cpuset.mems.effective").map(|found| (MEMS, found)))
}

pub(super) fn read_back(files: &Files<'_>, version: Version, applied: &mut Applied) {
    let list = |own: &str, effective: &str| match version {
        Version::V1 => files.with(own, |text| text.parse().ok()).flatten(),
        Version::V2 => files.with(effective, |text| text.parse().ok()).flatten(),
    };
    applied.cpuset_cpus = list(CPUS, "cpuset.cpus.effective");
    applied.cpuset_mems = list(MEMS, "cpuset.mems.effective");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(limits: &Limits, version: Version) -> Vec<(String, String)> {
        let mut out = Vec::new();
        writes(limits, version, &mut out).unwrap();
        out.into_iter().map(|write| (write.file.into_owned(), write.value.into_owned())).collect()
    }

    #[test]
    fn both_versions_get_the_list() {
        let limits = Limits {
            cpuset_cpus: Some("1,0".parse().unwrap()),
            cpuset_mems: Some("0".parse().unwrap()),
            ..Limits::default()
        };
        for version in [Version::V1, Version::V2] {
            let written = values(&limits, version);
            assert_eq!(
                written,
                [(CPUS.to_owned(), "0-1".to_owned()), (MEMS.to_owned(), "0".to_owned())],
                "{version:?}"
            );
            assert!(values(&Limits::default(), version).is_empty());
        }
    }

    #[test]
    fn an_empty_list_is_refused_on_v1_and_is_the_groups_above_on_v2() {
        let limits = Limits { cpuset_cpus: Some(IdList::default()), ..Limits::default() };
        assert!(writes(&limits, Version::V1, &mut Vec::new()).is_err());
        assert_eq!(values(&limits, Version::V2), [(CPUS.to_owned(), "\n".to_owned())]);
    }
}
