// SPDX-License-Identifier: Apache-2.0
//! The containerizers of this build, for [`create`](crate::create). Nobody else names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_cgroup::Hierarchies;
use berth_composing::{ComposingContainerizer, Strict};
use berth_contract::{Containerizer, EventLog};
use berth_docker::Docker;
use berth_external::External;
use berth_mesos::{Directories, DiskWatch, Fetching, MesosContainerizer, Settings};

use crate::create::{Cause, CreateError, Kind, Made, Makers, Native, Plan, plan};
use crate::flags::Flags;
use crate::host::Host;
use crate::isolation::Launcher;

/// Flags of the native containerizer with nothing behind them yet. Each changes what containers get, so that none may
/// be taken in silence.
const NOT_HONOURED: &[&str] = &[
    "bounding_capabilities",
    "cgroups_hierarchy",
    "default_container_dns",
    "default_container_shm_size",
    "effective_capabilities",
    "host_path_volume_force_creation",
    "network_cni_config_dir",
    "network_cni_plugins_dir",
    "network_cni_root_dir_persist",
    "nvidia_gpu_devices",
    "sandbox_directory",
    "seccomp_profile_name",
];

/// Why the native containerizer can not be made from the flags.
#[derive(Debug, thiserror::Error)]
enum Unmade {
    /// A flag without anything behind it.
    #[error("--{0} is not honoured by the native containerizer of this version: leave it away")]
    Flag(&'static str),
    /// The launcher without namespaces.
    #[error("the 'posix' launcher is not built into this version: leave --launcher away, or use 'linux'")]
    Posix,
    /// Quotas that nobody looks at.
    #[error("--enforce_container_disk_quota needs the isolator 'disk/du': add it to --isolation")]
    Quota,
    /// Quotas that are looked at all the time.
    #[error("--container_disk_watch_interval must be more than nothing: give a time such as 15secs")]
    Interval,
    /// An external containerizer without a program; Mesos finds that at the first call, and ends there.
    #[error("containerizer_path not set: name the program with --containerizer_path")]
    NoProgram,
    /// An exit status that is none, or that of success.
    #[error("--containerizer_not_supported_status={0} is no exit status of a failure: use 1 to 255")]
    NotSupportedStatus(String),
    /// A deadline of the external containerizer that is none.
    #[error("--external_deadlines")]
    Deadlines(#[source] berth_external::DeadlinesError),
    /// Not root.
    #[error("containers are made by root, and this is not root (rootless mode is not built yet)")]
    NotRoot,
    /// A root of control groups that is none.
    #[error("--cgroups_root must name a control group below the root of its hierarchy, such as 'mesos'")]
    Root,
}

/// What this build has: the native containerizer, a Docker engine's, the operator's program, and several in one.
pub fn makers() -> Makers<'static> {
    Makers {
        mesos: Some(Box::new(mesos)),
        docker: Some(Box::new(docker)),
        lxc: Some(Box::new(lxc)),
        external: Some(Box::new(external)),
        composing: Some(Box::new(composing)),
        has_isolator: Box::new(crate::groups::has_isolator),
        ..Makers::default()
    }
}

/// What [`create`](crate::create) with this build's [`makers`] would refuse for the flags alone, without making anything.
///
/// # Errors
/// The refusal.
pub fn check(flags: &Flags, host: &Host) -> Result<Plan, CreateError> {
    let plan = plan(flags, host, &makers())?;
    if let Some(native) = &plan.native {
        check_native(flags, native).map_err(|cause| CreateError::Child { kind: Kind::Mesos, cause })?;
    }
    if plan.kinds.contains(&Kind::Docker) {
        crate::docker::settings(flags)
            .map_err(|cause| CreateError::Child { kind: Kind::Docker, cause: cause.into() })?;
    }
    if plan.kinds.contains(&Kind::External) {
        external_settings(flags)
            .map_err(|cause| CreateError::Child { kind: Kind::External, cause: cause.into() })?;
    }
    Ok(plan)
}

/// What the native containerizer of this build can not do, and the isolators it leaves out.
fn check_native(flags: &Flags, native: &Native) -> Result<Vec<String>, Cause> {
    let beside = flags.containerizers.split(',').any(|name| name == "docker");
    let refused = |flag: &&&str| {
        flags.loaded.get(flag).is_some() && !(beside && crate::docker::HONOURED.contains(*flag))
    };
    if let Some(flag) = NOT_HONOURED.iter().find(refused) {
        return Err(Unmade::Flag(flag).into());
    }
    if native.launcher != Launcher::Linux {
        return Err(Unmade::Posix.into());
    }
    cgroups_root(flags)?;
    crate::images::check(flags)?;
    crate::fetcher::config(flags)?;
    crate::logger::settings(flags)?;
    crate::groups::check(flags)?;
    disk(flags, native)?;
    Ok(berth_mesos::isolators_left_out(&native.isolation.names)?)
}

fn mesos(flags: &Flags, native: &Native, events: &EventLog) -> Made {
    let without = check_native(flags, native)?;
    if !rustix::process::geteuid().is_root() {
        return Err(Unmade::NotRoot.into());
    }
    let hierarchies = Hierarchies::probe(Path::new(Hierarchies::ROOT))?;
    let settings = Settings {
        hierarchies: Some(hierarchies.clone()),
        seccomp_config_dir: flags.loaded.get("seccomp_config_dir").map(PathBuf::from),
        seccomp_cache: Some(flags.runtime_dir.join("seccomp")),
        seccomp_paths: false,
        without,
        groups: crate::groups::settings(flags, native, &hierarchies)?,
        disk: disk(flags, native)?,
    };
    let directories = Directories {
        runtime: flags.runtime_dir.clone(),
        work: flags.work_dir.clone(),
        cgroup: cgroups_root(flags)?,
    };
    let provision = crate::images::provision(flags, native)?;
    let fetching = Fetching::with_cache(crate::fetcher::config(flags)?).map_err(Cause::from)?;
    let fetching = fetching.followed_by(crate::hooks::after_fetch(flags)?);
    let containerizer =
        MesosContainerizer::with(&directories, &settings, provision, Some(fetching)).map_err(Cause::from)?;
    Ok(Arc::new(containerizer.publishing(events).with_logger(crate::logger::settings(flags)?)))
}

fn docker(flags: &Flags, events: &EventLog) -> Made {
    if !rustix::process::geteuid().is_root() {
        return Err(Unmade::NotRoot.into());
    }
    Ok(Arc::new(Docker::new(crate::docker::settings(flags)?, events.clone())?))
}

fn lxc(flags: &Flags, events: &EventLog) -> Made {
    use std::os::fd::AsFd;
    if !rustix::process::geteuid().is_root() {
        return Err(Unmade::NotRoot.into());
    }
    // Beside those of the native containerizer, and not below: that ends what it does not know.
    let cgroup = match cgroups_root(flags)? {
        Some(root) => format!("{root}.lxc"),
        None => {
            std::fs::create_dir_all(&flags.runtime_dir)?;
            let directory = std::fs::File::open(&flags.runtime_dir)?;
            format!("berth/{}.lxc", berth_record::InstanceId::open(directory.as_fd())?)
        }
    };
    let mut settings = berth_lxc::Settings::new(flags.runtime_dir.clone(), flags.work_dir.clone(), cgroup);
    // Each fetcher's cache is its own.
    let mut fetcher = crate::fetcher::config(flags)?;
    let name =
        fetcher.cache_dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    fetcher.cache_dir.set_file_name(format!("{name}-lxc"));
    settings.fetcher = Some(fetcher);
    Ok(Arc::new(berth_lxc::Lxc::new(settings, events.clone())?))
}

fn external(flags: &Flags, events: &EventLog) -> Made {
    Ok(Arc::new(External::new(external_settings(flags)?, events.clone())?))
}

/// What the flags say of the operator's program.
fn external_settings(flags: &Flags) -> Result<berth_external::Settings, Unmade> {
    let text = |name: &str| flags.loaded.get(name).map(str::to_owned);
    if text("containerizer_path").is_none_or(|path| path.trim().is_empty()) {
        return Err(Unmade::NoProgram);
    }
    let status = match text("containerizer_not_supported_status") {
        None => None,
        Some(status) => match status.parse::<u8>() {
            Ok(status @ 1..) => Some(status),
            _ => return Err(Unmade::NotSupportedStatus(status)),
        },
    };
    let deadlines = text("external_deadlines").unwrap_or_default();
    let deadlines = berth_external::Deadlines::from_flag(&deadlines).map_err(Unmade::Deadlines)?;
    Ok(berth_external::Settings {
        deadlines,
        path: text("containerizer_path"),
        default_container_image: text("default_container_image"),
        hadoop_home: text("hadoop_home"),
        not_supported_status: status,
        ..berth_external::Settings::new(flags.runtime_dir.clone(), flags.work_dir.clone())
    })
}

fn composing(flags: &Flags, children: Vec<Arc<dyn Containerizer>>, events: &EventLog) -> Made {
    Ok(Arc::new(ComposingContainerizer::new(children, events.clone(), strict(flags))?))
}

fn strict(flags: &Flags) -> Strict {
    if flags.loaded.flag("strict_containerizers", false) { Strict::Yes } else { Strict::No }
}

/// How often what containers keep on the disk is looked at; not at all where no quota is enforced.
fn disk(flags: &Flags, native: &Native) -> Result<Option<DiskWatch>, Unmade> {
    const DEFAULT: Duration = Duration::from_secs(15);
    if !flags.loaded.flag("enforce_container_disk_quota", false) {
        return Ok(None);
    }
    if !native.isolation.names.iter().any(|name| name == "disk/du") {
        return Err(Unmade::Quota);
    }
    let interval = flags.loaded.get("container_disk_watch_interval");
    let interval = interval.and_then(|text| berth_model::parse_duration(text).ok()).unwrap_or(DEFAULT);
    if interval.is_zero() {
        return Err(Unmade::Interval);
    }
    Ok(Some(DiskWatch { interval }))
}

/// Where containers have their control groups, relative to each hierarchy; not given: a place that no other agent has.
fn cgroups_root(flags: &Flags) -> Result<Option<String>, Unmade> {
    let root = flags.cgroups_root.as_deref().map(|root| root.trim_matches('/'));
    if root == Some("") { Err(Unmade::Root) } else { Ok(root.map(str::to_owned)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    #[test]
    fn every_flag_that_is_not_honoured_is_a_flag() {
        for name in NOT_HONOURED {
            assert!(crate::known::find(name).is_some_and(|known| known.built), "{name}");
        }
    }

    #[test]
    fn a_flag_is_set_in_every_way_that_flags_are() {
        let strict = |given: &str| strict(&Flags::from(Loaded::read([given.to_owned()], []).unwrap()));
        for given in ["--strict_containerizers", "--strict_containerizers=true", "--strict_containerizers=1"]
        {
            assert_eq!(strict(given), Strict::Yes, "{given}");
        }
        assert_eq!(strict("--no-strict_containerizers"), Strict::No);
    }

    #[test]
    fn the_root_of_control_groups_is_relative_and_not_the_hierarchy_itself() {
        let root = |text: &str| {
            let flags = Flags::from(Loaded::read([format!("--cgroups_root={text}")], []).unwrap());
            cgroups_root(&flags)
        };
        assert_eq!(root("/mesos/a/").unwrap().as_deref(), Some("mesos/a"));
        assert!(root("/").is_err());
        assert_eq!(cgroups_root(&Flags::default()).unwrap(), None);
    }
}
