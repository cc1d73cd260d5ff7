// SPDX-License-Identifier: Apache-2.0
//! From the model to the messages of Mesos 0.26, and back. What 0.26 does not know is left out.

use berth_contract::Limits;
use berth_model as model;
use berth_model::{
    ContainerConfig, ContainerId, ContainerTermination, ContainerType, Reason, ResourceStatistics, Resources,
    TaskState,
};
use prost::Message;

use crate::messages::mesos;
use crate::messages::mesos::containerizer as wire;
use crate::settings::Settings;

/// The framework of what has none: a container that an operator launched.
const OWN_FRAMEWORK: &str = "berth";
const ANYONE: &str = "*";

pub(crate) fn container_id(id: &ContainerId) -> mesos::ContainerId {
    mesos::ContainerId { value: id.value().to_owned() }
}

/// What the program is told at a launch.
pub(crate) fn launch(
    id: &ContainerId,
    config: &ContainerConfig,
    checkpoint: bool,
    settings: &Settings,
) -> wire::Launch {
    wire::Launch {
        container_id: container_id(id),
        task_info: config.task_info.as_ref().map(task),
        executor_info: Some(executor_of(id, config)),
        directory: Some(config.directory.to_string_lossy().into_owned()),
        user: config.user.clone(),
        slave_id: settings.agent_id.clone().map(|value| mesos::SlaveId { value }),
        slave_pid: settings.agent_pid.clone(),
        checkpoint: Some(checkpoint),
    }
}

/// The executor; of a standalone container, one that is made up of it.
fn executor_of(id: &ContainerId, config: &ContainerConfig) -> mesos::ExecutorInfo {
    let with = effective(&config.resources, &config.limits);
    let mut message = match &config.executor_info {
        Some(info) => executor(info),
        None => mesos::ExecutorInfo {
            executor_id: mesos::ExecutorId { value: id.value().to_owned() },
            framework_id: Some(mesos::FrameworkId { value: OWN_FRAMEWORK.to_owned() }),
            name: Some(id.value().to_owned()),
            container: config.container_info.as_ref().and_then(container),
            ..mesos::ExecutorInfo::default()
        },
    };
    let own = config.executor_info.as_ref().and_then(|info| info.container.as_ref());
    // The configuration's copies are what counts, for every containerizer.
    message.command = command(&config.command_info, config.container_info.as_ref().or(own));
    if message.container.is_none() {
        message.container = config.container_info.as_ref().and_then(container);
    }
    if !with.is_empty() || config.executor_info.is_none() {
        message.resources = with;
    }
    message
}

/// Resources as 0.26 has them, with the limits that were asked for in the place of requests: it knows one amount, and that
/// is the one which programs enforce. What has no limit keeps its request.
pub(crate) fn effective(resources: &Resources, limits: &Limits) -> Vec<mesos::Resource> {
    let mut list: Vec<mesos::Resource> = resources.iter().map(resource).collect();
    for (name, limit) in limits.iter().filter(|(_, limit)| limit.is_finite()) {
        if resources.scalar(name).is_some_and(|scalar| scalar.to_f64() == *limit) {
            continue;
        }
        list.retain(|resource| resource.name != *name);
        let scalar = Some(mesos::value::Scalar { value: *limit });
        list.push(mesos::Resource { scalar, ..plain(name, mesos::value::Type::Scalar) });
    }
    list
}

fn plain(name: &str, kind: mesos::value::Type) -> mesos::Resource {
    mesos::Resource {
        name: name.to_owned(),
        r#type: kind.into(),
        role: Some(ANYONE.to_owned()),
        ..mesos::Resource::default()
    }
}

fn resource(from: &model::Resource) -> mesos::Resource {
    use mesos::value::Type;
    let mut to = plain(&from.name, Type::Scalar);
    match &from.value {
        model::resources::Value::Scalar(scalar) => {
            to.scalar = Some(mesos::value::Scalar { value: scalar.to_f64() });
        }
        model::resources::Value::Ranges(ranges) => {
            to.r#type = Type::Ranges.into();
            let range = ranges
                .iter()
                .map(|range| mesos::value::Range { begin: range.begin, end: range.end })
                .collect();
            to.ranges = Some(mesos::value::Ranges { range });
        }
        model::resources::Value::Set(set) => {
            to.r#type = Type::Set.into();
            to.set = Some(mesos::value::Set { item: set.iter().map(str::to_owned).collect() });
        }
    }
    to.role = Some(from.reservation_role().to_owned());
    if from.is_dynamically_reserved() {
        let principal = from.reservations.last().and_then(|last| last.principal.clone());
        to.reservation = Some(mesos::resource::ReservationInfo { principal });
    }
    to.disk = from.disk.as_ref().map(|disk| mesos::resource::DiskInfo {
        persistence: disk
            .persistence
            .as_ref()
            .map(|volume| mesos::resource::disk_info::Persistence { id: volume.id.clone() }),
        volume: disk.volume.as_ref().map(volume),
    });
    to.revocable = from.revocable.then_some(mesos::resource::RevocableInfo {});
    to
}

fn command(from: &model::CommandInfo, within: Option<&model::ContainerInfo>) -> mesos::CommandInfo {
    let uri = |uri: &model::Uri| mesos::command_info::Uri {
        value: uri.value.clone(),
        executable: uri.executable,
        extract: Some(uri.extract),
        cache: uri.cache,
    };
    let external = within.and_then(|container| container.external.as_ref());
    let variables: Vec<_> = from.environment.variables.iter().filter_map(variable).collect();
    mesos::CommandInfo {
        uris: from.uris.iter().map(uri).collect(),
        environment: (!variables.is_empty()).then_some(mesos::Environment { variables }),
        value: from.value.clone(),
        container: external.map(|external| mesos::command_info::ContainerInfo {
            image: external.image.clone(),
            options: external.options.clone(),
        }),
        user: from.user.clone(),
        shell: Some(from.shell),
        arguments: from.arguments.clone(),
    }
}

/// 0.26 knows no secrets; the program gets the value of one that has it here.
fn variable(from: &model::Variable) -> Option<mesos::environment::Variable> {
    let value = match from.r#type {
        model::VariableType::Secret => String::from_utf8(from.secret.as_ref()?.exposed()?.to_vec()).ok()?,
        _ => from.value.clone().unwrap_or_default(),
    };
    Some(mesos::environment::Variable { name: from.name.clone(), value })
}

/// None where 0.26 has no word for it: it knows two kinds of containers, and one of another kind is described as Mesos's
/// own, if there is anything left to say of it.
fn container(from: &model::ContainerInfo) -> Option<mesos::ContainerInfo> {
    use mesos::container_info::Type;
    let kind = match from.r#type {
        ContainerType::Docker => Type::Docker,
        ContainerType::Mesos | ContainerType::Lxc | ContainerType::External => Type::Mesos,
    };
    let said = !from.volumes.is_empty()
        || from.hostname.is_some()
        || !from.network_infos.is_empty()
        || from.docker.is_some()
        || from.mesos.is_some();
    let foreign = matches!(from.r#type, ContainerType::Lxc | ContainerType::External);
    if foreign && !said {
        return None;
    }
    Some(mesos::ContainerInfo {
        r#type: kind.into(),
        volumes: from.volumes.iter().map(volume).collect(),
        docker: from.docker.as_ref().map(docker),
        hostname: from.hostname.clone(),
        mesos: from
            .mesos
            .as_ref()
            .map(|mesos| mesos::container_info::MesosInfo { image: mesos.image.as_ref().and_then(image) }),
        network_infos: from.network_infos.iter().map(network).collect(),
    })
}

fn docker(from: &model::DockerInfo) -> mesos::container_info::DockerInfo {
    use mesos::container_info::docker_info;
    let port = |port: &model::PortMapping| docker_info::PortMapping {
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: port.protocol.clone(),
    };
    let parameter = |parameter: &model::Parameter| mesos::Parameter {
        key: parameter.key.clone(),
        value: parameter.value.clone(),
    };
    mesos::container_info::DockerInfo {
        image: from.image.clone(),
        // A number that 0.26 does not know is skipped by its readers.
        network: Some(from.network.number()),
        port_mappings: from.port_mappings.iter().map(port).collect(),
        privileged: Some(from.privileged),
        parameters: from.parameters.iter().map(parameter).collect(),
        force_pull_image: from.force_pull_image,
    }
}

fn volume(from: &model::Volume) -> mesos::Volume {
    mesos::Volume {
        container_path: from.container_path.clone(),
        host_path: from.host_path.clone(),
        mode: from.mode.number(),
        image: from.image.as_ref().and_then(image),
    }
}

fn image(from: &model::Image) -> Option<mesos::Image> {
    use mesos::image::{AppC, Docker, Type};
    let named = |name: &String| Some(Docker { name: name.clone() });
    Some(match from.r#type {
        model::ImageType::Appc => {
            let appc = from.appc.as_ref()?;
            let labels = appc.labels.as_ref().map(labels);
            let appc = AppC { name: appc.name.clone(), id: appc.id.clone(), labels };
            mesos::Image { r#type: Type::Appc.into(), appc: Some(appc), docker: None }
        }
        model::ImageType::Docker => {
            let docker = named(&from.docker.as_ref()?.name);
            mesos::Image { r#type: Type::Docker.into(), appc: None, docker }
        }
        // A reference of the same grammar.
        model::ImageType::Oci => {
            let docker = named(&from.oci.as_ref()?.reference);
            mesos::Image { r#type: Type::Docker.into(), appc: None, docker }
        }
    })
}

fn network(from: &model::NetworkInfo) -> mesos::NetworkInfo {
    let address = |address: &model::IpAddress| mesos::network_info::IpAddress {
        protocol: Some(address.protocol.number()),
        ip_address: address.ip_address.clone(),
    };
    mesos::NetworkInfo {
        ip_address: None,
        groups: from.groups.clone(),
        labels: from.labels.as_ref().map(labels),
        ip_addresses: from.ip_addresses.iter().map(address).collect(),
    }
}

fn labels(from: &model::Labels) -> mesos::Labels {
    let label = |label: &model::Label| mesos::Label { key: label.key.clone(), value: label.value.clone() };
    mesos::Labels { labels: from.labels.iter().map(label).collect() }
}

fn discovery(from: &model::DiscoveryInfo) -> mesos::DiscoveryInfo {
    mesos::DiscoveryInfo {
        visibility: from.visibility.number(),
        name: from.name.clone(),
        environment: from.environment.clone(),
        location: from.location.clone(),
        version: from.version.clone(),
        labels: from.labels.as_ref().map(labels),
    }
}

fn executor(from: &model::ExecutorInfo) -> mesos::ExecutorInfo {
    let none = model::CommandInfo::default();
    mesos::ExecutorInfo {
        executor_id: mesos::ExecutorId { value: from.executor_id.clone() },
        data: (!from.data.is_empty()).then(|| from.data.clone()),
        resources: from.resources.iter().map(resource).collect(),
        command: command(from.command.as_ref().unwrap_or(&none), from.container.as_ref()),
        framework_id: Some(mesos::FrameworkId { value: from.framework_id.clone() }),
        name: from.name.clone(),
        source: from.source.clone(),
        container: from.container.as_ref().and_then(container),
        discovery: from.discovery.as_ref().map(discovery),
    }
}

fn task(from: &model::TaskInfo) -> mesos::TaskInfo {
    mesos::TaskInfo {
        name: from.name.clone(),
        task_id: mesos::TaskId { value: from.task_id.clone() },
        slave_id: mesos::SlaveId { value: from.agent_id.clone() },
        resources: from.resources.iter().map(resource).collect(),
        executor: from.executor.as_ref().map(executor),
        data: (!from.data.is_empty()).then(|| from.data.clone()),
        command: from.command.as_ref().map(|own| command(own, from.container.as_ref())),
        health_check: from.health_check.as_ref().map(health_check),
        container: from.container.as_ref().and_then(container),
        labels: from.labels.as_ref().map(labels),
        discovery: from.discovery.as_ref().map(discovery),
    }
}

fn health_check(from: &model::HealthCheck) -> mesos::HealthCheck {
    mesos::HealthCheck {
        http: from.http.as_ref().map(|http| mesos::health_check::Http {
            port: http.port,
            path: http.path.clone(),
            statuses: http.statuses.clone(),
        }),
        delay_seconds: Some(from.delay_seconds),
        interval_seconds: Some(from.interval_seconds),
        timeout_seconds: Some(from.timeout_seconds),
        consecutive_failures: Some(from.consecutive_failures),
        grace_period_seconds: Some(from.grace_period_seconds),
        command: from.command.as_ref().map(|own| command(own, None)),
    }
}

/// How a container ended, of both forms; none if the bytes are no such message.
pub(crate) fn termination(bytes: &[u8]) -> Option<ContainerTermination> {
    let read = wire::Termination::decode(bytes).ok()?;
    Some(ContainerTermination {
        // The older form always has one, and it may be empty.
        message: read.message.filter(|message| !message.is_empty()),
        status: read.status,
        state: read.state.and_then(TaskState::from_number),
        reason: read.reasons.iter().find_map(|number| Reason::from_number(*number)),
        limited_resources: Resources::default(),
    })
}

/// The ids that the program lists, as they are.
pub(crate) fn containers(bytes: &[u8]) -> Option<Vec<String>> {
    let read = wire::Containers::decode(bytes).ok()?;
    Some(read.containers.into_iter().map(|id| id.value).collect())
}

/// What a container uses. The numbers of 0.26 are today's, so the message of the agent's API reads it; a program that says
/// nothing of the time has not written one.
pub(crate) fn statistics(bytes: &[u8]) -> Option<ResourceStatistics> {
    let read = berth_proto::v1::ResourceStatistics::decode(bytes).ok().filter(|read| read.timestamp > 0.0)?;
    serde_json::from_slice(&berth_proto::encode_json(&read)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::mesos::containerizer as wire;
    use berth_model::{Resource, Scalar};

    #[test]
    fn both_forms_of_a_termination_are_read() {
        // killed = true (1), message = "" (2), status = 768 (3).
        let older = [0x08, 0x01, 0x12, 0x00, 0x18, 0x80, 0x06];
        assert_eq!(
            termination(&older),
            Some(ContainerTermination { status: Some(768), ..ContainerTermination::default() })
        );
        let newer = wire::Termination {
            message: Some("no room".to_owned()),
            status: Some(9),
            state: Some(3),
            reasons: vec![4711, 8],
        };
        let read = termination(&newer.encode_to_vec()).unwrap();
        assert_eq!((read.status, read.state), (Some(9), Some(TaskState::Failed)));
        assert_eq!(read.reason, Some(Reason::ContainerLimitationMemory));
        assert_eq!(read.message.as_deref(), Some("no room"));
        assert_eq!(termination(b"\xff\xff"), None);
        assert_eq!(termination(b""), Some(ContainerTermination::default()));
    }

    #[test]
    fn a_limit_takes_the_place_of_a_request() {
        let mut resources = Resources::new();
        resources.try_add(Resource::scalar("cpus", Scalar::from_whole(1))).unwrap();
        resources.try_add(Resource::scalar("mem", Scalar::from_whole(64))).unwrap();
        let limits = Limits::from([("cpus".to_owned(), 2.5), ("mem".to_owned(), f64::INFINITY)]);
        let amounts: Vec<(String, Option<f64>)> = effective(&resources, &limits)
            .into_iter()
            .map(|resource| (resource.name, resource.scalar.map(|scalar| scalar.value)))
            .collect();
        assert_eq!(amounts, [("mem".to_owned(), Some(64.0)), ("cpus".to_owned(), Some(2.5))]);
    }

    #[test]
    fn a_container_of_a_kind_that_0_26_does_not_know_is_not_sent_with_its_number() {
        let only_external = model::ContainerInfo {
            r#type: ContainerType::External,
            external: Some(model::ExternalInfo { image: "docker:///busybox".into(), options: vec![] }),
            ..model::ContainerInfo::default()
        };
        assert_eq!(container(&only_external), None);
        let with_host = model::ContainerInfo { hostname: Some("h".to_owned()), ..only_external };
        let sent = container(&with_host).unwrap();
        assert_eq!(sent.r#type, mesos::container_info::Type::Mesos as i32);
    }

    #[test]
    fn a_usage_without_a_time_is_no_usage() {
        // timestamp = 1.0 (1), mem_rss_bytes = 5 (5).
        let bytes = [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x28, 5];
        let read = statistics(&bytes).unwrap();
        assert_eq!((read.timestamp, read.mem_rss_bytes), (1.0, Some(5)));
        assert_eq!(statistics(b"\xff"), None);
        assert_eq!(statistics(b"\x28\x05"), None);
    }
}
