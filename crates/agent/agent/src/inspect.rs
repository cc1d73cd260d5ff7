// SPDX-License-Identifier: Apache-2.0
//! Inspections of one container. What is known is answered from the table; what has to be looked up is looked up within a
//! moment, or left out.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::sync::Arc;

use berth_api::Refusal;
use berth_cgroup::{Applied, Group, Hierarchies};
use berth_model::ContainerId;
use berth_proto::convert;
use berth_proto::own::{Inspection, inspection};
use tokio::time::timeout;

use crate::agent::Inner;
use crate::events;
use crate::host::moment;
use crate::lifecycle::known;
use crate::measure::{Measured, PATIENCE, measure_one};
use crate::table::Container;
use crate::watch::{hear, lives};

/// No table of mounts is read further: a container can make as many as it likes.
const MOUNTS: u64 = 1 << 20;

/// Everything that is known of a container.
pub(crate) async fn inspect(agent: &Arc<Inner>, id: &ContainerId) -> Result<Inspection, Refusal> {
    hear(agent);
    let container = known(agent, id)?;
    let mut inspection = remembered(agent, &container);
    if !lives(&container) {
        return Ok(inspection);
    }
    let measured = measure_one(agent, container.id.clone()).await;
    inspection.used = measured.usage.as_ref().map(convert::statistics_of);
    inspection.status = measured.status.as_ref().map(convert::status_of);
    let pid = |measured: &Measured| measured.status.as_ref().and_then(|status| status.executor_pid);
    let Some(first) = pid(&measured) else { return Ok(inspection) };
    let hierarchies = agent.hierarchies.clone();
    let (containerizer, own) = (Arc::clone(&agent.containerizer), container.id.clone());
    let looking = tokio::task::spawn_blocking(move || {
        (Inside::look(first, hierarchies.as_ref()), containerizer.stop_signal(&own))
    });
    let Ok(Ok((inside, stop_signal))) = timeout(PATIENCE, looking).await else { return Ok(inspection) };
    // What was seen under its pid is its own only if that is still its pid.
    let again = agent.containerizer.status(&container.id);
    let again = timeout(PATIENCE, again).await.ok().and_then(Result::ok);
    if again.and_then(|status| status.executor_pid) == Some(first) {
        inspection.applied_limits = inside.applied;
        inspection.pids = inside.pids;
        inspection.namespaces = inside.namespaces;
        inspection.mounts = inside.mounts;
        inspection.cgroup = inside.cgroup;
        inspection.stop_signal = stop_signal;
    }
    Ok(inspection)
}

/// What needs no look at the container.
fn remembered(agent: &Inner, container: &Container) -> Inspection {
    let (now, record) = (container.now(), container.record());
    let mut inspection = Inspection {
        container_id: convert::container_id_of(&container.id),
        containerizer: Some(agent.containerizer.name().to_owned()),
        created: container.created.map(moment),
        state: Some(events::state_of(&now)),
        termination: now.ended.as_ref().map(events::termination),
        output_lost: agent.places.losses(&container.id),
        ..Inspection::default()
    };
    let Some(record) = record else { return inspection };
    let config = &record.config;
    inspection.underlying_name =
        agent.containerizer.underlying_name(&container.id).or_else(|| record.name.clone());
    inspection.command = Some(convert::command_of(&config.command_info));
    inspection.container = config.container_info.as_ref().map(convert::container_of);
    inspection.user = config.user.clone();
    inspection.directory = Some(config.directory.display().to_string());
    inspection.rootfs = config.rootfs.as_ref().map(|path| path.display().to_string());
    inspection.resources = convert::resources_of(&config.resources);
    inspection.limits = convert::limits_of(&config.limits);
    inspection
}

/// What the kernel says of a container by its first process.
#[derive(Debug, Default)]
struct Inside {
    cgroup: Option<String>,
    applied: Vec<inspection::AppliedLimit>,
    pids: Vec<u32>,
    namespaces: Vec<inspection::Namespace>,
    mounts: Vec<inspection::Mount>,
}

impl Inside {
    fn look(pid: u32, hierarchies: Option<&Hierarchies>) -> Inside {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
        let cgroup = cgroup.as_deref().and_then(group_in).map(|path| Group::path_of_member(path).to_owned());
        let group = cgroup.as_deref().zip(hierarchies).and_then(|(path, all)| Group::open(all, path).ok());
        Inside {
            applied: group.as_ref().map(|group| applied(&group.limits_applied())).unwrap_or_default(),
            pids: group.as_ref().and_then(|group| group.processes().ok()).unwrap_or_else(|| vec![pid]),
            namespaces: namespaces(pid),
            mounts: mounts(pid),
            cgroup,
        }
    }
}

/// The group of a container in `/proc/PID/cgroup` (cgroups(7)): the memory controller's, or on v2 the only one. The
/// root is nobody's.
pub(crate) fn group_in(text: &str) -> Option<&str> {
    let mut best = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some(path).filter(|path| !path.is_empty());
        }
        if !path.is_empty() && (controllers.is_empty() || controllers == "pids") {
            best = best.or(Some(path));
        }
    }
    best
}

fn applied(limits: &Applied) -> Vec<inspection::AppliedLimit> {
    limits.lines().into_iter().map(|(name, value)| inspection::AppliedLimit { name, value }).collect()
}

/// The namespaces of a process, and which of them are the agent's own.
fn namespaces(pid: u32) -> Vec<inspection::Namespace> {
    let of = |pid: &str, kind: &str| -> Option<u64> {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
        link.to_str()?.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
    };
    ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
        .into_iter()
        .filter_map(|kind| {
            let inode = of(&pid.to_string(), kind)?;
            Some(inspection::Namespace {
                r#type: kind.to_owned(),
                inode,
                host: of("self", kind).map(|own| own == inode),
            })
        })
        .collect()
}

/// What a process sees mounted; of mounts over one another the first is left out.
fn mounts(pid: u32) -> Vec<inspection::Mount> {
    let Ok(file) = fs::File::open(format!("/proc/{pid}/mountinfo")) else { return Vec::new() };
    let mut bytes = Vec::new();
    if file.take(MOUNTS).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut seen = BTreeSet::new();
    let mut mounts: Vec<_> =
        text.lines().rev().filter_map(mount).filter(|mount| seen.insert(mount.target.clone())).collect();
    mounts.reverse();
    mounts
}

/// A line of mountinfo: `36 35 98:0 /root /target ro,nodev shared:1 - ext4 /dev/sda ro` (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<inspection::Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(4);
    let (target, options) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    Some(inspection::Mount {
        target: unescaped(target),
        filesystem: after.next().map(str::to_owned),
        source: after.next().map(unescaped),
        options: options.split(',').map(str::to_owned).collect(),
    })
}

/// Space, tab, newline and backslash stand as octal numbers in mountinfo.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_on_both_versions_and_the_root_is_none() {
        assert_eq!(group_in("9:pids:/a/b\n3:memory:/berth/1/c\n0::/x\n"), Some("berth/1/c"));
        assert_eq!(group_in("0::/berth/1/c\n"), Some("berth/1/c"));
        assert_eq!(group_in("4:cpu,memory:/\n0::/\n"), None);
        assert_eq!(group_in("nonsense\n"), None);
    }

    #[test]
    fn a_line_of_mountinfo_is_read_with_its_escapes() {
        let mount =
            mount("36 35 98:0 /r /mnt/a\\040b ro,nodev shared:1 master:2 - overlay over\\134lay rw").unwrap();
        assert_eq!((mount.target.as_str(), mount.source.as_deref()), ("/mnt/a b", Some("over\\lay")));
        assert_eq!(mount.filesystem.as_deref(), Some("overlay"));
        assert_eq!(mount.options, ["ro", "nodev"]);
        assert!(super::mount("nonsense").is_none());
    }

    #[test]
    fn this_process_is_in_its_own_namespaces_and_sees_a_root() {
        let pid = std::process::id();
        assert!(namespaces(pid).iter().all(|namespace| namespace.host == Some(true)));
        assert!(mounts(pid).iter().any(|mount| mount.target == "/"));
    }
}
