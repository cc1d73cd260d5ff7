// SPDX-License-Identifier: Apache-2.0
//! The container's control groups: made by LXC where we tell it to, measured and limited by us, and taken away by us, for LXC
//! leaves some of them behind.
//!
//! ```text
//! <cgroup>/<id>            the container
//! <cgroup>/<id>.monitor    lxc-start
//! <cgroup>/<id>.pivot      where lxc-start is while the first goes
//! <cgroup>/<base>.create   a template at work
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use berth_cgroup::{Group, Hierarchies, Limit, Limits, MilliCpu, Version, writes};
use berth_contract::Error;
use berth_isolator::limits_of;
use berth_model::{Class, ContainerConfig, ContainerId, ResourceStatistics};

use crate::error::warn;
use crate::settings::Settings;
use crate::tools::Line;

const PATIENCE: Duration = Duration::from_secs(10);
/// What a v1 group has where nothing is asked.
const SHARES: u64 = 1024;

/// The groups of a container, the container's own first.
pub(crate) fn paths(settings: &Settings, id: &ContainerId) -> [String; 3] {
    ["", ".monitor", ".pivot"].map(|kind| format!("{}/{}{kind}", settings.cgroup, id.value()))
}

fn hierarchies() -> Result<Hierarchies, Error> {
    Hierarchies::probe(Path::new(Hierarchies::ROOT))
        .map_err(|error| Error::because(error.class(), "look for control groups", error))
}

/// The lines that put what is asked in force before the first process runs.
pub(crate) fn lines(config: &ContainerConfig) -> Result<Vec<Line>, Error> {
    let limits = limits_of(config).map_err(|error| Error::because(error.class(), "limits", error))?;
    let hierarchies = hierarchies()?;
    let mut lines = Vec::new();
    for (version, prefix) in [(Version::V1, "lxc.cgroup."), (Version::V2, "lxc.cgroup2.")] {
        let all = writes(&limits, version).map_err(|error| Error::because(error.class(), "limits", error));
        let is_there =
            |write: &berth_cgroup::Write| hierarchies.version_of(write.controller) == Some(version);
        for write in all.unwrap_or_default().iter().filter(|write| is_there(write) && !write.is_default) {
            let line = Line::new(&format!("{prefix}{}", write.file), write.value.to_string());
            lines.push(line.map_err(crate::error::of_tool)?);
        }
    }
    let missing = [
        (limits.memory_limit.is_some(), berth_cgroup::Controller::Memory),
        (limits.cpu_limit.is_some(), berth_cgroup::Controller::Cpu),
        (limits.pids_limit.is_some(), berth_cgroup::Controller::Pids),
    ];
    match missing.iter().find(|(asked, controller)| *asked && hierarchies.version_of(*controller).is_none()) {
        None => Ok(lines),
        Some((_, controller)) => {
            let why =
                format!("this host has no controller {controller:?}, so that limit can not be enforced");
            Err(Error::other(Class::Unsupported, why))
        }
    }
}

/// Sets the complete new requests and limits.
pub(crate) fn update(settings: &Settings, id: &ContainerId, config: &ContainerConfig) -> Result<(), Error> {
    let mut limits = limits_of(config).map_err(|error| Error::because(error.class(), "limits", error))?;
    let Ok(mut group) = Group::open(&hierarchies()?, &paths(settings, id)[0]) else { return Ok(()) };
    let unlimited = Limits {
        cpu_request: limits.cpu_request.or(Some(MilliCpu(SHARES * 1000 / 1024))),
        cpu_limit: limits.cpu_limit.or(Some(Limit::Infinite)),
        memory_limit: limits.memory_limit.or(Some(Limit::Infinite)),
        pids_limit: limits.pids_limit.or(Some(Limit::Infinite)),
        ..std::mem::take(&mut limits)
    };
    match group.update(&unlimited) {
        Ok(()) => Ok(()),
        Err(_) if !group.exists() => Ok(()),
        Err(error) => {
            Err(Error::because(error.class(), format!("update the limits of container {id}"), error))
        }
    }
}

/// What the container uses.
pub(crate) fn usage(settings: &Settings, id: &ContainerId) -> ResourceStatistics {
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let mut statistics = ResourceStatistics { timestamp, ..ResourceStatistics::default() };
    let group = hierarchies().ok().and_then(|all| Group::open(&all, &paths(settings, id)[0]).ok());
    let Some(group) = group else { return statistics };
    let (usage, applied) = (group.usage(), group.limits_applied());
    let seconds = |nanos: Option<u64>| nanos.map(|nanos| nanos as f64 / 1e9);
    let count = |number: Option<u64>| number.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    statistics.processes = group.processes().ok().map(|pids| pids.len() as u32);
    statistics.threads = count(usage.pids);
    statistics.cpus_user_time_secs = seconds(usage.cpu_user_nanos);
    statistics.cpus_system_time_secs = seconds(usage.cpu_system_nanos);
    statistics.cpus_nr_periods = count(usage.cpu_periods);
    statistics.cpus_nr_throttled = count(usage.cpu_throttled_periods);
    statistics.cpus_throttled_time_secs = seconds(usage.cpu_throttled_nanos);
    statistics.mem_total_bytes = usage.memory.map(|bytes| bytes.0);
    statistics.mem_rss_bytes = usage.memory_anonymous.map(|bytes| bytes.0);
    statistics.mem_cache_bytes = usage.memory_file.map(|bytes| bytes.0);
    if let Some(Limit::At(bytes)) = applied.memory_limit {
        statistics.mem_limit_bytes = Some(bytes.0);
    }
    if let Some(Limit::At(cpus)) = applied.cpu_limit {
        statistics.cpus_limit = Some(cpus.0 as f64 / 1000.0);
    }
    statistics
}

/// Stops or resumes all processes.
pub(crate) fn freeze(settings: &Settings, id: &ContainerId, freeze: bool) -> Result<(), Error> {
    let what = format!("{} container {id}", if freeze { "freeze" } else { "thaw" });
    let failed = |error: berth_cgroup::Error| Error::because(error.class(), what.clone(), error);
    let group = Group::open(&hierarchies()?, &paths(settings, id)[0]).map_err(failed)?;
    if freeze { group.freeze(Instant::now() + PATIENCE) } else { group.thaw() }.map_err(failed)
}

/// Ends everybody in the container's groups, and removes them.
pub(crate) fn remove(settings: &Settings, id: &ContainerId) {
    for path in paths(settings, id) {
        remove_path(&path);
    }
}

pub(crate) fn remove_path(path: &str) {
    if let Ok(hierarchies) = hierarchies()
        && let Ok(group) = Group::open(&hierarchies, path)
        && let Err(error) = group.kill_all(Instant::now() + PATIENCE)
    {
        warn(&error.to_string());
    }
    // LXC has them in every hierarchy, also where there is no controller.
    for root in roots() {
        remove_below(&root.join(path));
    }
}

fn roots() -> Vec<PathBuf> {
    let root = Path::new(Hierarchies::ROOT);
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut roots: Vec<PathBuf> = below.filter(|path| path.join("cgroup.procs").exists()).collect();
    roots.push(root.to_owned());
    roots
}

/// The deepest first. A group with somebody in it stays, and is told of.
fn remove_below(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).for_each(|entry| {
        remove_below(&entry.path());
    });
    let until = Instant::now() + PATIENCE;
    while let Err(error) = fs::remove_dir(path) {
        // Whoever was killed is in its group until its parent has reaped it.
        let is_busy = error.raw_os_error() == Some(berth_sys::rustix::io::Errno::BUSY.raw_os_error());
        if error.kind() == std::io::ErrorKind::NotFound {
            return;
        }
        if !is_busy || Instant::now() >= until {
            return warn(&format!("remove {}: {error}", path.display()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The ids of containers that have groups.
pub(crate) fn left(settings: &Settings) -> Vec<String> {
    let mut names: Vec<String> = roots()
        .iter()
        .flat_map(|root| crate::base::names(&root.join(&settings.cgroup)).unwrap_or_default())
        .filter(|name| roots().iter().any(|root| root.join(&settings.cgroup).join(name).is_dir()))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Makes the group above all of them.
pub(crate) fn make_root(settings: &Settings) {
    for root in roots().iter().filter(|root| root.join("cgroup.procs").exists()) {
        let path = root.join(&settings.cgroup);
        if let Err(error) = fs::create_dir_all(&path) {
            warn(&format!("make {}, which LXC will make if a container needs it: {error}", path.display()));
        }
        give_processors(root, &settings.cgroup);
    }
}

/// Nobody can join a new group of v1's cpuset, which has neither processors nor memory nodes. LXC sees to that in the first
/// group of a path alone; so those on the way get what is above them, and whatever is made in the last gets the same.
fn give_processors(root: &Path, cgroup: &str) {
    let mut path = root.to_owned();
    for part in Path::new(cgroup).components() {
        let above = path.clone();
        path.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let read = |place: &Path| fs::read_to_string(place.join(file));
            // v2 has no need of it, and the other hierarchies have no such file.
            if let (Ok(own), Ok(all)) = (read(&path), read(&above))
                && own.trim().is_empty()
                && let Err(error) = fs::write(path.join(file), all.trim())
            {
                warn(&format!("write {}: {error}", path.join(file).display()));
            }
        }
    }
    let inherit = path.join("cgroup.clone_children");
    if path.join("cpuset.cpus").exists()
        && inherit.exists()
        && let Err(error) = fs::write(&inherit, "1")
    {
        warn(&format!("write {}: {error}", inherit.display()));
    }
}
