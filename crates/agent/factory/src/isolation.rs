// SPDX-License-Identifier: Apache-2.0
//! What `--isolation` means: the list of isolators, completed, checked, and in the one order in which they
//! are created and asked (cleaned up: the reverse). Pure: nothing here looks at the host.

use std::collections::BTreeSet;

/// One isolator that there can be, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name in `--isolation`.
    pub name: &'static str,
    /// Whether it is asked about nested containers.
    pub nesting: bool,
    /// Whether it is asked about standalone containers and what is nested in them.
    pub standalone: bool,
    /// Whether it needs `--launcher=linux`.
    pub linux_launcher: bool,
    /// Whether it needs the isolator `filesystem/linux`.
    pub filesystem_linux: bool,
}

const fn isolator(name: &'static str) -> BuiltIn {
    BuiltIn { name, nesting: true, standalone: true, linux_launcher: false, filesystem_linux: false }
}

impl BuiltIn {
    const fn nesting_only(mut self) -> BuiltIn {
        self.standalone = false;
        self
    }

    const fn top_level_executors_only(mut self) -> BuiltIn {
        self.nesting = false;
        self.standalone = false;
        self
    }

    const fn linux(mut self) -> BuiltIn {
        self.linux_launcher = true;
        self
    }

    const fn rooted(mut self) -> BuiltIn {
        self.filesystem_linux = true;
        self
    }
}

/// All of them, in their order: dependency order, whoever is listed first is prepared first and cleaned up
/// last. However many `cgroups/*` names there are, they make one object, at the place of the first of them.
pub const ORDER: &[BuiltIn] = &[
    isolator("filesystem/posix").top_level_executors_only(),
    isolator("filesystem/linux").linux(),
    isolator("filesystem/shared").top_level_executors_only(),
    isolator("posix/cpu").top_level_executors_only(),
    isolator("posix/mem").top_level_executors_only(),
    isolator("posix/rlimits"),
    isolator("cgroups/all").linux(),
    isolator("cgroups/blkio").linux(),
    isolator("cgroups/cpu").linux(),
    isolator("cgroups/cpuset").linux(),
    isolator("cgroups/devices").linux(),
    isolator("cgroups/hugetlb").linux(),
    isolator("cgroups/mem").linux(),
    isolator("cgroups/net_cls").linux(),
    isolator("cgroups/net_prio").linux(),
    isolator("cgroups/perf_event").linux(),
    isolator("cgroups/pids").linux(),
    isolator("appc/runtime"),
    isolator("docker/runtime"),
    isolator("linux/devices").linux().rooted(),
    isolator("linux/capabilities"),
    isolator("linux/nnp"),
    isolator("namespaces/ipc").linux().rooted(),
    isolator("namespaces/pid").linux().rooted(),
    isolator("volume/sandbox_path"),
    isolator("docker/volume"),
    isolator("volume/host_path").linux().rooted(),
    isolator("volume/image").rooted(),
    isolator("volume/secret").nesting_only().linux().rooted(),
    isolator("volume/csi").nesting_only().rooted(),
    isolator("disk/du"),
    isolator("disk/xfs").top_level_executors_only(),
    isolator("linux/seccomp"),
    isolator("gpu/nvidia").rooted(),
    isolator("network/cni").nesting_only(),
    isolator("network/port_mapping").top_level_executors_only(),
    isolator("network/ports").nesting_only().linux(),
    isolator("environment_secret"),
];

/// The place of a name in [`ORDER`].
pub fn position(name: &str) -> Option<usize> {
    ORDER.iter().position(|built_in| built_in.name == name)
}

/// How the processes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// With namespaces and cgroups.
    Linux,
    /// Plain processes in sessions of their own.
    Posix,
}

impl Launcher {
    /// The value of `--launcher`.
    pub fn parse(text: &str) -> Result<Launcher, IsolationError> {
        match text {
            "linux" => Ok(Launcher::Linux),
            "posix" => Ok(Launcher::Posix),
            other => Err(IsolationError::UnknownLauncher(other.to_owned())),
        }
    }
}

/// Why a list of isolators can not be. The texts are those of Mesos; the last two are ours, where Mesos
/// aborts or fails later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsolationError {
    /// A name twice.
    #[error("Duplicate entries found in --isolation flag '[ {} ]'", .0.join(", "))]
    Duplicate(Vec<String>),
    /// More than one `filesystem/*`.
    #[error("Using multiple filesystem isolators simultaneously is disallowed")]
    Filesystems,
    /// More than one `network/*` (`network/ports` does not count).
    #[error("Using multiple network isolators simultaneously is disallowed")]
    Networks,
    /// Images without root filesystems.
    #[error("The 'filesystem/linux' isolator must be enabled for container image support")]
    ImagesNeedFilesystem,
    /// Images without mount namespaces.
    #[error("The 'linux' launcher must be used for container image support")]
    ImagesNeedLauncher,
    /// `--launcher` with another word.
    #[error("Failed to create launcher: Unknown or unsupported launcher: {0}")]
    UnknownLauncher(String),
    /// No isolator of this name.
    #[error("Unknown or unsupported isolator '{0}'")]
    Unknown(String),
    /// An isolator that makes namespaces or cgroups, with the launcher that makes none.
    #[error("Failed to create isolator '{0}': the 'linux' launcher must be used")]
    NeedsLauncher(String),
    /// An isolator that works on root filesystems, without any.
    #[error("Failed to create isolator '{0}': the 'filesystem/linux' isolator must be enabled")]
    NeedsFilesystem(String),
    /// Graphics cards without a way to let a container at them.
    #[error(
        "Failed to create isolator 'gpu/nvidia': the 'cgroups/devices' or the 'cgroups/all' isolator must be enabled"
    )]
    NeedsDevices,
}

/// A completed and checked list of isolators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// The names: built-in ones in the order of [`ORDER`], then others as the operator wrote them.
    pub names: Vec<String>,
    /// What the operator should be told.
    pub warnings: Vec<String>,
}

impl Isolation {
    /// Whether an isolator is in the list.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|held| held == name)
    }

    /// The `cgroups/*` names, which make one object.
    pub fn cgroups(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| name.starts_with("cgroups/"))
    }
}

/// Completes `--isolation`: replaces deprecated names, adds what is always there, and refuses lists that
/// contradict themselves. Empty elements are ignored, as in Mesos; nothing is trimmed.
pub fn normalise_isolation(flag: &str) -> Result<Isolation, IsolationError> {
    let given: Vec<&str> = flag.split(',').filter(|name| !name.is_empty()).collect();
    let mut seen = BTreeSet::new();
    if !given.iter().all(|name| seen.insert(*name)) {
        return Err(IsolationError::Duplicate(given.iter().map(|name| (*name).to_owned()).collect()));
    }

    let mut warnings = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !names.iter().any(|held| held == name) {
            names.push(name.to_owned());
        }
    };
    for name in given {
        match DEPRECATED.iter().find(|deprecated| deprecated.name == name) {
            Some(deprecated) => {
                warnings.push(deprecated.warning.to_owned());
                deprecated.now.iter().copied().for_each(&mut add);
            }
            None => add(name),
        }
    }

    match names.iter().filter(|name| name.starts_with("filesystem/")).count() {
        0 => names.push("filesystem/posix".to_owned()),
        1 => {}
        _ => return Err(IsolationError::Filesystems),
    }
    let is_network = |name: &&String| name.starts_with("network/") && *name != "network/ports";
    match names.iter().filter(is_network).count() {
        0 => names.push("network/cni".to_owned()),
        1 => {}
        _ => return Err(IsolationError::Networks),
    }
    let mut implied = vec!["environment_secret"];
    if names.iter().any(|name| name == "filesystem/linux") {
        implied.extend(["volume/image", "volume/host_path", "volume/sandbox_path"]);
    }
    for name in implied {
        if !names.iter().any(|held| held == name) {
            names.push(name.to_owned());
        }
    }
    // Stable: names that are not built in keep the operator's order behind the others.
    names.sort_by_key(|name| position(name).unwrap_or(ORDER.len()));
    Ok(Isolation { names, warnings })
}

/// Refuses names that this build has no isolator for, and isolators whose ground is missing. `has` says what
/// there is.
pub fn check_isolators(
    isolation: &Isolation,
    launcher: Launcher,
    has: impl Fn(&str) -> bool,
) -> Result<(), IsolationError> {
    // What the operator asked for first: an unknown name is worth more words than a missing ground.
    if let Some(name) = isolation.names.iter().find(|name| !has(name)) {
        return Err(IsolationError::Unknown(name.clone()));
    }
    let rooted = isolation.has("filesystem/linux");
    for built_in in ORDER.iter().filter(|built_in| isolation.has(built_in.name)) {
        if built_in.linux_launcher && launcher != Launcher::Linux {
            return Err(IsolationError::NeedsLauncher(built_in.name.to_owned()));
        }
        if built_in.filesystem_linux && !rooted {
            return Err(IsolationError::NeedsFilesystem(built_in.name.to_owned()));
        }
    }
    let devices = isolation.has("cgroups/devices") || isolation.has("cgroups/all");
    if isolation.has("gpu/nvidia") && !devices {
        return Err(IsolationError::NeedsDevices);
    }
    Ok(())
}

struct Deprecated {
    name: &'static str,
    now: &'static [&'static str],
    warning: &'static str,
}

const DEPRECATED: &[Deprecated] = &[
    Deprecated {
        name: "process",
        now: &["posix/cpu", "posix/mem"],
        warning: "The 'process' isolation flag is deprecated, please update your flags to \
                  '--isolation=posix/cpu,posix/mem'.",
    },
    Deprecated {
        name: "cgroups",
        now: &["cgroups/cpu", "cgroups/mem"],
        warning: "The 'cgroups' isolation flag is deprecated, please update your flags to \
                  '--isolation=cgroups/cpu,cgroups/mem'.",
    },
    Deprecated {
        name: "posix/disk",
        now: &["disk/du"],
        warning: "'posix/disk' has been renamed as 'disk/du', please update your --isolation flag to use 'disk/du'",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(flag: &str) -> Vec<String> {
        normalise_isolation(flag).unwrap().names
    }

    #[test]
    fn the_least_list_is_completed() {
        assert_eq!(names(""), ["filesystem/posix", "network/cni", "environment_secret"]);
        assert_eq!(
            names(",posix/mem,,"),
            ["filesystem/posix", "posix/mem", "network/cni", "environment_secret"]
        );
    }

    #[test]
    fn root_filesystems_bring_volumes() {
        assert_eq!(
            names("filesystem/linux"),
            [
                "filesystem/linux",
                "volume/sandbox_path",
                "volume/host_path",
                "volume/image",
                "network/cni",
                "environment_secret"
            ]
        );
    }

    #[test]
    fn the_operators_order_of_built_in_names_does_not_matter() {
        assert_eq!(
            names("linux/nnp,cgroups/pids,cgroups/cpu,posix/rlimits,environment_secret,network/ports"),
            [
                "filesystem/posix",
                "posix/rlimits",
                "cgroups/cpu",
                "cgroups/pids",
                "linux/nnp",
                "network/cni",
                "network/ports",
                "environment_secret"
            ]
        );
    }

    #[test]
    fn names_that_are_not_built_in_stay_in_the_operators_order_at_the_end() {
        let list = names("org_b,posix/cpu,org_a");
        assert_eq!(list[list.len() - 3..], ["environment_secret", "org_b", "org_a"]);
    }

    #[test]
    fn deprecated_names_are_replaced_with_a_warning() {
        let isolation = normalise_isolation("process,cgroups,posix/disk,posix/cpu").unwrap();
        assert_eq!(
            isolation.names,
            [
                "filesystem/posix",
                "posix/cpu",
                "posix/mem",
                "cgroups/cpu",
                "cgroups/mem",
                "disk/du",
                "network/cni",
                "environment_secret"
            ]
        );
        assert_eq!(
            isolation.warnings,
            [
                "The 'process' isolation flag is deprecated, please update your flags to \
                 '--isolation=posix/cpu,posix/mem'.",
                "The 'cgroups' isolation flag is deprecated, please update your flags to \
                 '--isolation=cgroups/cpu,cgroups/mem'.",
                "'posix/disk' has been renamed as 'disk/du', please update your --isolation flag to use 'disk/du'",
            ]
        );
    }

    #[test]
    fn contradictions_are_refused_in_the_words_of_mesos() {
        let refused = |flag: &str| normalise_isolation(flag).unwrap_err().to_string();
        assert_eq!(
            refused("posix/cpu,posix/mem,posix/cpu"),
            "Duplicate entries found in --isolation flag '[ posix/cpu, posix/mem, posix/cpu ]'"
        );
        assert_eq!(
            refused("filesystem/linux,filesystem/shared"),
            "Using multiple filesystem isolators simultaneously is disallowed"
        );
        assert_eq!(
            refused("network/cni,network/port_mapping"),
            "Using multiple network isolators simultaneously is disallowed"
        );
        assert_eq!(
            Launcher::parse("").unwrap_err().to_string(),
            "Failed to create launcher: Unknown or unsupported launcher: "
        );
    }

    #[test]
    fn an_isolator_without_its_ground_is_refused_instead_of_aborting() {
        let refused = |flag: &str, launcher| {
            let isolation = normalise_isolation(flag).unwrap();
            check_isolators(&isolation, launcher, |name| position(name).is_some()).unwrap_err().to_string()
        };
        assert_eq!(
            refused("cgroups/mem", Launcher::Posix),
            "Failed to create isolator 'cgroups/mem': the 'linux' launcher must be used"
        );
        assert_eq!(
            refused("namespaces/pid", Launcher::Linux),
            "Failed to create isolator 'namespaces/pid': the 'filesystem/linux' isolator must be enabled"
        );
        assert!(refused("filesystem/linux,gpu/nvidia", Launcher::Linux).contains("'cgroups/devices'"));
        assert_eq!(refused("process,nope", Launcher::Linux), "Unknown or unsupported isolator 'nope'");
    }

    #[test]
    fn the_table_says_who_is_asked_about_nested_and_standalone_containers() {
        let of = |nesting, standalone| -> Vec<&str> {
            let these = ORDER.iter().filter(|b| b.nesting == nesting && b.standalone == standalone);
            these.map(|b| b.name).collect()
        };
        assert_eq!(
            of(false, false),
            [
                "filesystem/posix",
                "filesystem/shared",
                "posix/cpu",
                "posix/mem",
                "disk/xfs",
                "network/port_mapping"
            ]
        );
        assert_eq!(of(true, false), ["volume/secret", "volume/csi", "network/cni", "network/ports"]);
        assert_eq!(of(false, true), [""; 0]);
    }
}
