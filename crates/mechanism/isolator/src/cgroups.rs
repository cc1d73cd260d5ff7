// SPDX-License-Identifier: Apache-2.0
//! `cgroups/cpu`, `cgroups/mem`, `cgroups/pids` (and `cgroups/devices` where a capability makes devices): the
//! container's control group and its limits.
//!
//! Acts on the host: makes the group in each hierarchy before the container's first process exists, and removes
//! it when all have ended. The child puts itself in. What can not be applied refuses the launch, by name.
//!
//! Resources are requests and limits as in Mesos: `cpus` requests a share, `mem` a soft limit which is also the
//! hard one unless `limits` says otherwise. `pids` is a limit of ours (`limits["pids"]`).

use crate::{Settings, capabilities, text};
use berth_cgroup::{Bytes, Controller, Group, Hierarchies, Limit, Limits, MilliCpu};
use berth_launcher::wire::Step;
use berth_launcher::{Container, Error, Isolator, Phase, Places, Plan, Result};
use berth_model::{Class, ContainerConfig, ContainerId};
use std::time::{Duration, Instant};

const NAME: &str = "cgroups";
/// How long processes may take to leave after SIGKILL (`--cgroups_destroy_timeout`).
const DESTROY: Duration = Duration::from_secs(60);
/// CAP_MKNOD and CAP_SYS_ADMIN: who has them can make or reach devices.
const MAKES_DEVICES: u64 = 1 << 27 | 1 << 21;

struct Cgroups {
    hierarchies: Hierarchies,
}

pub(crate) fn make(settings: &Settings) -> Result<Box<dyn Isolator>> {
    match &settings.hierarchies {
        Some(hierarchies) => Ok(Box::new(Cgroups { hierarchies: hierarchies.clone() })),
        None => {
            Err(Error::Unsupported("the cgroups isolator needs control groups at /sys/fs/cgroup".to_owned()))
        }
    }
}

fn failed(e: berth_cgroup::Error) -> Error {
    let class = e.class();
    Error::mechanism("limit the container", class, e)
}

/// The limits that a configuration asks for.
///
/// # Errors
/// A number that is none, negative or too large.
pub fn limits_of(config: &ContainerConfig) -> Result<Limits> {
    let bad = |name: &str, value: f64| {
        Error::Invalid(format!("limit {name} = {value} is not a number from 0 up to what a machine can have"))
    };
    let mut limits = Limits::default();
    if let Some(cpus) = config.resources.cpus() {
        limits.cpu_request = Some(MilliCpu::from_cpus(cpus).ok_or_else(|| bad("cpus", cpus))?);
    }
    let megabytes = |mb: f64| Bytes((mb * 1024.0 * 1024.0) as u64);
    if let Some(mem) = config.resources.mem() {
        limits.memory_request = Some(megabytes(mem as f64));
        limits.memory_limit = limits.memory_request.map(Limit::At);
    }
    for (name, value) in &config.limits {
        let value = *value;
        if value.is_nan() || value < 0.0 || (value.is_finite() && value > 1e15) {
            return Err(bad(name, value));
        }
        match name.as_str() {
            "cpus" if value.is_infinite() => limits.cpu_limit = Some(Limit::Infinite),
            "cpus" => {
                limits.cpu_limit =
                    Some(Limit::At(MilliCpu::from_cpus(value).ok_or_else(|| bad("cpus", value))?));
            }
            "mem" if value.is_infinite() => limits.memory_limit = Some(Limit::Infinite),
            "mem" => limits.memory_limit = Some(Limit::At(megabytes(value))),
            "pids" if value.is_infinite() => limits.pids_limit = Some(Limit::Infinite),
            "pids" => limits.pids_limit = Some(Limit::At(value as u64)),
            other => {
                return Err(Error::Unsupported(format!(
                    "a limit on {other:?} can not be enforced by this version: cpus, mem and pids can"
                )));
            }
        }
    }
    Ok(limits)
}

fn all_of(container: &Container<'_>) -> Result<Limits> {
    let mut limits = limits_of(container.config)?;
    if capabilities::sets(container)?.bounding & MAKES_DEVICES != 0 {
        limits.devices = Some(berth_cgroup::controller::devices::DEFAULT.to_vec());
    }
    Ok(limits)
}

/// The child moves itself into the group, in every hierarchy.
fn join(group: &Group, plan: &mut Plan) -> Result<()> {
    for fd in group.join_fds().map_err(failed)? {
        let fd = plan.descriptor(fd);
        plan.first(NAME, Phase::Join, Step::Join { fd }, "join the container's control group");
    }
    Ok(())
}

fn keyring(container: &Container<'_>, plan: &mut Plan) -> Result<()> {
    let name = format!("berth-{}", container.id);
    plan.step(NAME, Phase::Namespace, Step::Keyring { name: &text(&name)? }, "make a session keyring");
    Ok(())
}

/// In every container's group, so that it can be measured and killed.
const WANTED: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];
/// The same for one that can be paused.
const WITH_PAUSE: [Controller; 4] =
    [Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Freezer];

impl Isolator for Cgroups {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        all_of(container)?;
        plan.step(NAME, Phase::Join, Step::CgroupNamespace {}, "make a cgroup namespace");
        keyring(container, plan)
    }

    /// What it uses counts as the container's; so that all of it can be ended, it has a group of its own below the
    /// container's, where nothing is limited.
    fn enter(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let group = Group::open(&self.hierarchies, &container.places.cgroup).map_err(failed)?;
        let path = format!("{}/{}", container.places.cgroup, container.id.value());
        let none = Limits::default();
        let own = Group::create(&self.hierarchies, &path, &[Controller::Freezer], &none).map_err(failed)?;
        // Each goes before those that are there: into the container's groups first, then into its own.
        join(&own, plan)?;
        join(&group, plan)?;
        keyring(container, plan)
    }

    fn isolate(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let limits = all_of(container)?;
        let wanted: &[Controller] = if container.pausable { &WITH_PAUSE } else { &WANTED };
        let group =
            Group::create(&self.hierarchies, &container.places.cgroup, wanted, &limits).map_err(failed)?;
        join(&group, plan)
    }

    fn cleanup(&self, _: &ContainerId, places: &Places) -> Result<()> {
        let group = match Group::open(&self.hierarchies, &places.cgroup) {
            Ok(group) => group,
            Err(e) if e.class() == Class::NotFound => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        let deadline = Instant::now() + DESTROY;
        // Usually nothing is left in it: its pid namespace ended.
        if group.remove(Instant::now()).is_ok() {
            return Ok(());
        }
        group.kill_all(deadline).map_err(failed)?;
        group.remove(deadline).map_err(failed)
    }
}
