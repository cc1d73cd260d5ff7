// SPDX-License-Identifier: Apache-2.0
//! `cgroups/*`: the container's control group and its limits.
//!
//! Acts on the host: makes the group in each hierarchy before the container's first process exists, and removes
//! it when all have ended. The child puts itself in. What can not be applied refuses the launch, by name. A group is in a
//! hierarchy when something is limited there, when containers are measured and ended by it, or when the operator named it;
//! so a launch pays for those only.

use crate::limits::{devices_of, limits_of};
use crate::met::Knowledge;
use crate::net_cls::Marks;
use crate::{GroupSettings, Settings, capabilities, text};
use berth_cgroup::{Controller, Group, Hierarchies, Limits, Mode};
use berth_launcher::wire::Step;
use berth_launcher::{Container, Error, Heard, Isolator, Phase, Places, Plan, Result, Watched};
use berth_model::{Class, ContainerConfig, ContainerId};
use std::time::Instant;

const NAME: &str = "cgroups";
/// CAP_MKNOD and CAP_SYS_ADMIN: who has them can make or reach devices.
const MAKES_DEVICES: u64 = 1 << 27 | 1 << 21;

struct Cgroups {
    hierarchies: Hierarchies,
    settings: GroupSettings,
    marks: Option<Marks>,
    met: Knowledge,
    /// Whether root lacks the capability to make devices, if it does not ask for it.
    capabilities: bool,
}

pub(crate) fn make(settings: &Settings) -> Result<Box<dyn Isolator>> {
    match &settings.hierarchies {
        Some(hierarchies) => Ok(Box::new(Cgroups {
            hierarchies: hierarchies.clone(),
            settings: settings.groups.clone(),
            marks: settings.groups.net_cls.map(Marks::new),
            met: Knowledge::default(),
            capabilities: capabilities::is_on(settings),
        })),
        None => {
            Err(Error::Unsupported("the cgroups isolator needs control groups at /sys/fs/cgroup".to_owned()))
        }
    }
}

pub(crate) fn failed(e: berth_cgroup::Error) -> Error {
    let class = e.class();
    Error::mechanism("limit the container", class, e)
}

impl Cgroups {
    fn all_of(&self, container: &Container<'_>) -> Result<Limits> {
        let mut limits = limits_of(container.config)?;
        self.settings.complete(&mut limits);
        let devices = devices_of(container.config)?;
        let makes_devices =
            !self.capabilities || capabilities::sets(container)?.bounding & MAKES_DEVICES != 0;
        if makes_devices || !devices.is_empty() {
            let mut rules = berth_cgroup::controller::devices::DEFAULT.to_vec();
            rules.extend(&self.settings.allowed_devices);
            rules.extend(devices.into_iter().map(|device| device.rule));
            limits.devices = Some(rules);
        }
        Ok(limits)
    }
}

/// Whether a container in another one has limits of its own.
///
/// # Errors
/// What it asks for can not be.
pub fn owns_groups(config: &ContainerConfig) -> Result<bool> {
    owns(config, &limits_of(config)?)
}

fn owns(config: &ContainerConfig, limits: &Limits) -> Result<bool> {
    let linux = config.container_info.as_ref().and_then(|info| info.linux_info.as_ref());
    Ok(match linux.and_then(|linux| linux.share_cgroups) {
        Some(shared) => !shared,
        None => *limits != Limits::default(),
    })
}

/// The child moves itself into the group, in every hierarchy.
fn join(group: &Group, plan: &mut Plan) -> Result<()> {
    for fd in group.join_fds().map_err(failed)? {
        let fd = plan.descriptor(fd);
        plan.first(NAME, Phase::Join, Step::Join { fd }, "join the container's control group");
    }
    Ok(())
}

/// The same of a container's first process, around the making of its cgroup namespace.
fn join_as_first(group: &Group, plan: &mut Plan) -> Result<()> {
    let (before, after) = group.entrance_fds().map_err(failed)?;
    for fd in before {
        let fd = plan.descriptor(fd);
        plan.first(NAME, Phase::Join, Step::Join { fd }, "join the container's control group");
    }
    for fd in after {
        let fd = plan.descriptor(fd);
        plan.step(NAME, Phase::Join, Step::Join { fd }, "join the leaf of the container's control group");
    }
    Ok(())
}

fn keyring(container: &Container<'_>, plan: &mut Plan) -> Result<()> {
    let name = format!("berth-{}", container.id);
    plan.step(NAME, Phase::Namespace, Step::Keyring { name: &text(&name)? }, "make a session keyring");
    Ok(())
}

impl Cgroups {
    /// The child is in the groups of those around it, and then in its own.
    fn join_within(&self, container: &Container<'_>, group: &Group, plan: &mut Plan) -> Result<()> {
        // Each goes before those that are there.
        if container.rootfs.is_shared() {
            join(group, plan)?;
        } else {
            join_as_first(group, plan)?;
        }
        // On v2 its own is below theirs in the only hierarchy there is.
        if self.hierarchies.mode() != Mode::V2 {
            self.join_around(container, plan)?;
        }
        Ok(())
    }

    fn join_around(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let around = container.within.map_or(&[][..], |within| within.cgroups);
        for path in around.iter().rev() {
            let group = Group::open(&self.hierarchies, path).map_err(failed)?;
            join(&group, plan)?;
        }
        Ok(())
    }
}

/// In every container's group, so that it can be measured and killed.
const WANTED: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

impl Isolator for Cgroups {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let limits = self.all_of(container)?;
        if container.within.is_some() && !owns(container.config, &limits)? && limits != Limits::default() {
            return Err(Error::Invalid(
                "limits of its own need control groups of its own: leave 'share_cgroups' away, or set it to false"
                    .to_owned(),
            ));
        }
        if !container.rootfs.is_shared() {
            plan.step(NAME, Phase::Join, Step::CgroupNamespace {}, "make a cgroup namespace");
        }
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
        // On v2 its own is below the container's in the only hierarchy there is.
        if self.hierarchies.mode() != Mode::V2 {
            join(&group, plan)?;
            self.join_around(container, plan)?;
        }
        keyring(container, plan)
    }

    fn isolate(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let mut limits = self.all_of(container)?;
        let path = &container.places.cgroup;
        if container.within.is_some() && !owns(container.config, &limits)? {
            let group =
                Group::create(&self.hierarchies, path, &[Controller::Freezer], &limits).map_err(failed)?;
            return self.join_within(container, &group, plan);
        }
        let mut wanted = Vec::with_capacity(WANTED.len() + 2 + self.settings.member_of.len());
        wanted.extend(WANTED);
        if container.pausable {
            // An agent's: it can be paused, and is asked for the time that it used, which v1 may count in a hierarchy apart.
            wanted.extend([Controller::Freezer, Controller::Cpuacct]);
        }
        wanted.extend(&self.settings.member_of);
        let group = match &self.marks {
            None => Group::create(&self.hierarchies, path, &wanted, &limits).map_err(failed)?,
            Some(marks) => {
                let mark = marks.next(&self.hierarchies, path)?;
                limits.net_classid = Some(mark);
                let made = Group::create(&self.hierarchies, path, &wanted, &limits).map_err(failed);
                marks.settle(mark);
                made?
            }
        };
        match container.within {
            None => join_as_first(&group, plan),
            Some(_) => self.join_within(container, &group, plan),
        }
    }

    fn watch(&self, _: &ContainerId, places: &Places) -> Result<Vec<Watched>> {
        let group = match Group::open(&self.hierarchies, &places.cgroup) {
            Ok(group) => group,
            Err(e) if e.class() == Class::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        if let Some(pressure) = group.pressure().map_err(failed)? {
            self.settings.pressure.keep(&places.cgroup, pressure);
        }
        self.met.watch(&group).map_err(failed)
    }

    fn heard(&self, _: &ContainerId, places: &Places, watched: &Watched) -> Heard {
        let group = Group::open(&self.hierarchies, &places.cgroup).ok();
        self.met.hear(group.as_ref(), watched)
    }

    fn cleanup(&self, _: &ContainerId, places: &Places) -> Result<()> {
        self.met.forget(&places.cgroup);
        self.settings.pressure.forget(&places.cgroup);
        // Usually nothing is left in it: its pid namespace ended.
        if Group::remove_empty(&self.hierarchies, &places.cgroup).map_err(failed)? {
            return Ok(());
        }
        let group = match Group::open(&self.hierarchies, &places.cgroup) {
            Ok(group) => group,
            Err(e) if e.class() == Class::NotFound => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        let deadline = Instant::now() + self.settings.destroy_timeout;
        group.kill_all(deadline).map_err(failed)?;
        group.remove(deadline).map_err(failed)
    }
}
