// SPDX-License-Identifier: Apache-2.0
//! From a task of a group to the container that it gets, in that of its executor.

use berth_model::{CommandInfo, ContainerConfig};
use berth_proto::convert;
use berth_proto::v1::volume::source::{SandboxPath, sandbox_path};
use berth_proto::v1::{self, TaskInfo, container_info, environment, volume};

/// What holds a group's container, which is on the host's file system: it waits, ends when it is asked to, and reaps whom
/// nobody else does.
const HOLD: &str = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done";
/// By what it is known in a list of processes.
const MARK: &str = "berth-group";

/// The command of the container that groups of tasks are in. It needs a shell of the host, and nothing else.
pub fn group_command() -> CommandInfo {
    CommandInfo {
        shell: false,
        value: Some("/bin/sh".to_owned()),
        arguments: ["sh", "-c", HOLD, MARK].map(str::to_owned).into(),
        ..CommandInfo::default()
    }
}

/// The container of a task.
///
/// # Errors
/// What can not be as it is asked for.
pub(crate) fn container(task: &TaskInfo, address: Option<&str>) -> Result<ContainerConfig, String> {
    let text = |error: convert::Refused| error.to_string();
    let mut command = task.command.clone().ok_or("the task has no command; give it one")?;
    let variables = &mut command.environment.get_or_insert_default().variables;
    let mut set = |name: &str, value: &str| {
        variables.retain(|variable| variable.name != name);
        variables.push(environment::Variable {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..environment::Variable::default()
        });
    };
    if let Some(address) = address {
        set("MESOS_CONTAINER_IP", address);
    }
    if let Some(role) = role(task) {
        set("MESOS_ALLOCATION_ROLE", role);
    }
    let within = with_volumes(task);
    let container = within.as_ref().map(convert::container).transpose().map_err(text)?;
    let mut config = ContainerConfig {
        command_info: convert::command(&command).map_err(text)?,
        container_info: container,
        limits: convert::limits(&task.limits).map_err(text)?,
        ..ContainerConfig::default()
    };
    if has_own_groups(task) {
        config.resources = convert::resources(&task.resources).map_err(text)?;
    }
    Ok(config)
}

/// The role that a task's resources are of.
fn role(task: &TaskInfo) -> Option<&str> {
    task.resources.first()?.allocation_info.as_ref()?.role.as_deref()
}

/// Whether a task is limited by itself. If not, as in Mesos unless it asks for it, its resources are part of the group's.
fn has_own_groups(task: &TaskInfo) -> bool {
    let linux = task.container.as_ref().and_then(|container| container.linux_info.as_ref());
    match linux.and_then(|linux| linux.share_cgroups) {
        Some(shared) => !shared,
        None => !task.limits.is_empty(),
    }
}

/// The container of a task with the volumes of its disks, which are directories of its executor's sandbox.
fn with_volumes(task: &TaskInfo) -> Option<v1::ContainerInfo> {
    let mut container = task.container.clone();
    for resource in &task.resources {
        let Some(disk) = resource.disk.as_ref().and_then(|disk| disk.volume.as_ref()) else { continue };
        let source = volume::Source {
            r#type: Some(volume::source::Type::SandboxPath as i32),
            sandbox_path: Some(SandboxPath {
                r#type: Some(sandbox_path::Type::Parent as i32),
                path: disk.container_path.clone(),
            }),
            ..volume::Source::default()
        };
        let volume = v1::Volume {
            mode: disk.mode,
            container_path: disk.container_path.clone(),
            source: Some(source),
            ..v1::Volume::default()
        };
        let container = container.get_or_insert_with(|| v1::ContainerInfo {
            r#type: container_info::Type::Mesos as i32,
            ..v1::ContainerInfo::default()
        });
        container.volumes.push(volume);
    }
    container
}

#[cfg(test)]
mod tests {
    use berth_model::{SandboxPathType, VolumeMode};
    use berth_proto::v1::resource;

    use super::*;
    use crate::testing::task;

    fn scalar(name: &str, value: f64) -> v1::Resource {
        v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            allocation_info: Some(resource::AllocationInfo { role: Some("web".to_owned()) }),
            ..v1::Resource::default()
        }
    }

    fn sharing(share_cgroups: Option<bool>) -> Option<v1::ContainerInfo> {
        let linux = v1::LinuxInfo { share_cgroups, ..v1::LinuxInfo::default() };
        Some(v1::ContainerInfo {
            r#type: container_info::Type::Mesos as i32,
            linux_info: Some(linux),
            ..v1::ContainerInfo::default()
        })
    }

    #[test]
    fn a_task_knows_its_role_and_its_address() {
        let mut task = TaskInfo { resources: vec![scalar("cpus", 0.1)], ..task("t") };
        let stale = environment::Variable {
            name: "MESOS_CONTAINER_IP".to_owned(),
            value: Some("10.9.9.9".to_owned()),
            ..environment::Variable::default()
        };
        let command = task.command.get_or_insert_default();
        command.environment = Some(v1::Environment { variables: vec![stale] });
        let config = container(&task, Some("10.0.0.7")).unwrap();
        let variables: Vec<_> = config
            .command_info
            .environment
            .variables
            .iter()
            .map(|variable| (variable.name.as_str(), variable.value.as_deref().unwrap()))
            .collect();
        assert_eq!(variables, [("MESOS_CONTAINER_IP", "10.0.0.7"), ("MESOS_ALLOCATION_ROLE", "web")]);
    }

    #[test]
    fn a_task_is_limited_by_itself_only_when_it_asks_for_it() {
        let limit = v1::value::Scalar { value: 64.0 };
        let limits = std::collections::BTreeMap::from([("mem".to_owned(), limit)]);
        let of = |share, limits| {
            let resources = vec![scalar("mem", 32.0)];
            let task = TaskInfo { resources, container: sharing(share), limits, ..task("t") };
            let config = container(&task, None).unwrap();
            (!config.resources.is_empty(), config.limits.get("mem").copied())
        };
        let none = std::collections::BTreeMap::new;
        assert_eq!(of(None, none()), (false, None));
        assert_eq!(of(Some(true), none()), (false, None));
        assert_eq!(of(Some(false), none()), (true, None));
        assert_eq!(of(Some(false), limits.clone()), (true, Some(64.0)));
        assert_eq!(of(None, limits.clone()), (true, Some(64.0)));
        // What can not be is told by who would have to do it.
        assert_eq!(of(Some(true), limits), (false, Some(64.0)));
    }

    #[test]
    fn the_volume_of_a_disk_is_a_directory_of_the_executors_sandbox() {
        let volume = v1::Volume {
            mode: volume::Mode::Ro as i32,
            container_path: "data".to_owned(),
            ..v1::Volume::default()
        };
        let disk = resource::DiskInfo { volume: Some(volume), ..resource::DiskInfo::default() };
        let disk = v1::Resource { disk: Some(Box::new(disk)), ..scalar("disk", 8.0) };
        for given in [None, sharing(None)] {
            let task = TaskInfo { resources: vec![disk.clone()], container: given, ..task("t") };
            let container = container(&task, None).unwrap().container_info.unwrap();
            let [volume] = &container.volumes[..] else { panic!("{:?}", container.volumes) };
            assert_eq!((volume.container_path.as_str(), volume.mode), ("data", VolumeMode::Ro));
            let path = volume.source.as_ref().unwrap().sandbox_path.as_ref().unwrap();
            assert_eq!((path.r#type, path.path.as_str()), (SandboxPathType::Parent, "data"));
        }
    }

    #[test]
    fn a_task_without_a_command_is_refused_in_words() {
        let refused = container(&TaskInfo { command: None, ..task("t") }, None);
        assert_eq!(refused.unwrap_err(), "the task has no command; give it one");
    }
}
