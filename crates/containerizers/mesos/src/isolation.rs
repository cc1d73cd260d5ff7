// SPDX-License-Identifier: Apache-2.0
//! From the names in `--isolation` to the isolators of this build. The names are Mesos's; some of them are one isolator
//! here, and some have nothing to do yet but to refuse, by name, what would need them.

/// The isolators that are left out or not, each with the names that bring it.
const BROUGHT_BY: &[(&str, &[&str])] = &[
    ("filesystem/linux", &["filesystem/linux"]),
    ("posix/rlimits", &["posix/rlimits"]),
    ("cgroups", CGROUPS),
    ("linux/capabilities", &["linux/capabilities"]),
    ("linux/nnp", &["linux/nnp"]),
    ("namespaces/ipc", &["namespaces/ipc"]),
    ("namespaces/pid", &["namespaces/pid"]),
    ("network/cni", &["network/cni"]),
    ("filesystem/mounts", &["filesystem/linux"]),
    ("volume/sandbox_path", &["volume/sandbox_path"]),
    ("volume/host_path", &["volume/host_path"]),
    ("volume/image", &["volume/image"]),
    ("disk/du", &["disk/du"]),
    ("linux/seccomp", &["linux/seccomp"]),
];

/// All of them are one isolator.
const CGROUPS: &[&str] = &[
    "cgroups/all",
    "cgroups/blkio",
    "cgroups/cpu",
    "cgroups/cpuset",
    "cgroups/devices",
    "cgroups/hugetlb",
    "cgroups/mem",
    "cgroups/net_cls",
    "cgroups/net_prio",
    "cgroups/perf_event",
    "cgroups/pids",
];

/// Names whose work is done elsewhere, or refused where it is asked for: images, and secrets.
const REFUSING: &[&str] = &["appc/runtime", "docker/runtime", "volume/secret", "environment_secret"];

/// Names without which no container can be made or limited.
const NEEDED: &[&str] = &["filesystem/linux", "cgroups/cpu", "cgroups/mem"];

/// Whether this build has an isolator of that name.
pub fn has_isolator(name: &str) -> bool {
    REFUSING.contains(&name) || BROUGHT_BY.iter().any(|(_, names)| names.contains(&name))
}

/// The isolators that are left out when these are named, for [`Settings::without`](crate::Settings).
///
/// # Errors
/// One is not named that this version can not do without.
pub fn isolators_left_out(named: &[String]) -> crate::Result<Vec<String>> {
    let has = |name: &&str| named.iter().any(|held| held == name);
    let among_all = |name: &str| name.starts_with("cgroups/") && has(&"cgroups/all");
    if let Some(missing) = NEEDED.iter().find(|name| !has(name) && !among_all(name)) {
        return Err(crate::Error::Invalid(format!(
            "containers without the isolator '{missing}' can not be made by this version: add it to --isolation"
        )));
    }
    let left_out = BROUGHT_BY.iter().filter(|(_, names)| !names.iter().any(&has));
    Ok(left_out.map(|(isolator, _)| (*isolator).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_isolator_is_brought_by_a_name() {
        let brought: Vec<&str> = BROUGHT_BY.iter().map(|(isolator, _)| *isolator).collect();
        let built_in: Vec<&str> = berth_isolator::BUILT_IN.iter().map(|(isolator, _)| *isolator).collect();
        assert_eq!(brought, built_in);
    }

    #[test]
    fn what_is_not_named_is_left_out_and_what_is_needed_must_be_named() {
        let left_out = |names: &[&str]| {
            isolators_left_out(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let without = left_out(&["filesystem/linux", "cgroups/cpu", "cgroups/mem", "network/cni"]).unwrap();
        assert!(without.contains(&"namespaces/pid".to_owned()), "{without:?}");
        for kept in ["filesystem/mounts", "cgroups", "network/cni"] {
            assert!(!without.contains(&kept.to_owned()), "{without:?}");
        }
        assert!(left_out(&["filesystem/linux", "cgroups/all"]).is_ok());
        let error = left_out(&["filesystem/posix", "cgroups/cpu", "cgroups/mem"]).unwrap_err();
        assert!(error.to_string().contains("'filesystem/linux'"), "{error}");
        assert!(!has_isolator("posix/cpu") && has_isolator("docker/runtime"));
    }
}
