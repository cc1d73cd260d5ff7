// SPDX-License-Identifier: Apache-2.0
//! From what was asked to what the engine is told. Nothing is done here; what can be refused is refused before anything is
//! made.
//!
//! **Where we differ from Mesos**: mounts are objects and not text with colons, so a sandbox's path may hold one; the user
//! is passed on; GPU devices are really asked for; what of `linux_info` and `rlimit_info` the engine can do is done; and
//! whatever can not be done is refused by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use berth_contract::{Error, Variables};
use berth_model::{
    ContainerConfig, ContainerInfo, DockerInfo, DockerNetwork, IpcMode, LinuxInfo, MountPropagationMode,
    RLimitInfo, UserNamespaceMode, VariableType, Volume, VolumeMode, VolumeSourceType,
};

use crate::engine::{
    BindOptions, Create, Device, DeviceRequest, Empty, LogConfig, Mount, PortBinding, Ulimit, VolumeDriver,
    VolumeOptions,
};
use crate::error::{invalid, unsupported};
use crate::kept::Record;
use crate::limits::{Amounts, host_memory};
use crate::settings::{DefaultDns, DnsNetwork, Settings};
use crate::volumes::Persistent;
use crate::{names, parameters};

const MIB: i64 = 1 << 20;

/// A directory that a volume is made from, where it may not be there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Anywhere on the host, as its path says.
    Host(PathBuf),
    /// In the sandbox, below it whatever links are there.
    Sandbox(PathBuf),
}

/// What the engine is told, and what has to be there before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) create: Create,
    pub(crate) needed: Vec<Needed>,
    /// The persistent volumes among the mounts.
    pub(crate) volumes: BTreeSet<Persistent>,
    /// Whether somebody wants it brought though it may be there.
    pub(crate) force_pull: bool,
}

/// # Errors
/// What was asked for can not be, or is none.
pub(crate) fn plan(record: &Record, settings: &Settings) -> Result<Plan, Error> {
    let config = &record.config;
    let none = || invalid("No docker info found in container info");
    let container = config.container_info.as_ref().ok_or_else(none)?;
    let docker = container.docker.as_ref().ok_or_else(none)?;
    if docker.image.is_empty() {
        return Err(invalid("DockerInfo names no image: give it one"));
    }
    let mut create = Create {
        image: docker.image.clone(),
        labels: names::labels(&record.id, &record.own.launch, &settings.work_dir),
        ..Create::default()
    };
    create.host_config.log_config = LogConfig { r#type: "json-file".to_owned(), ..LogConfig::default() };
    create.host_config.privileged = docker.privileged;
    limits(config, settings, &mut create)?;
    let mut needed = Vec::new();
    volumes(config, container, docker, settings, &mut create, &mut needed)?;
    let persistent = persistent(config, settings, &mut create, &mut needed)?;
    network(container, docker, &mut create)?;
    ports(config, container, docker, &mut create)?;
    default_dns(container, docker, settings, &mut create);
    linux(container.linux_info.as_ref(), &mut create)?;
    rlimits(container.rlimit_info.as_ref(), &mut create)?;
    if container.tty_info.is_some() {
        (create.tty, create.open_stdin) = (true, true);
    }
    command(config, &mut create)?;
    create.env = environment(record, settings)?;
    parameters::apply(&docker.parameters, &mut create)?;
    if !container.hostname.as_deref().unwrap_or_default().is_empty() && is_host(&create) {
        return Err(invalid("Unable to set hostname with host network mode"));
    }
    Ok(Plan { create, needed, volumes: persistent, force_pull: docker.force_pull_image.unwrap_or(false) })
}

fn is_host(create: &Create) -> bool {
    create.host_config.network_mode == "host"
}

fn limits(config: &ContainerConfig, settings: &Settings, create: &mut Create) -> Result<(), Error> {
    let amounts = Amounts::of(&config.resources, &config.limits, settings.enable_cfs)?;
    create.host_config.limits = amounts.to_begin();
    create.host_config.oom_score_adj = amounts.oom_score_adj(host_memory());
    let Some(gpus) = config.resources.gpus().filter(|gpus| *gpus > 0.0) else { return Ok(()) };
    if gpus.fract() != 0.0 {
        return Err(invalid("The 'gpus' resource must be an unsigned integer"));
    }
    create.host_config.device_requests.push(DeviceRequest {
        count: gpus as i64,
        capabilities: vec![vec!["gpu".to_owned()]],
        ..DeviceRequest::default()
    });
    Ok(())
}

fn command(config: &ContainerConfig, create: &mut Create) -> Result<(), Error> {
    let command = &config.command_info;
    let value = command.value.as_ref();
    if command.shell {
        let value = value.ok_or_else(|| invalid("Shell specified but no command value provided"))?;
        create.entrypoint = Some(vec!["/bin/sh".to_owned()]);
        create.cmd = Some(vec!["-c".to_owned(), value.clone()]);
    } else {
        let words: Vec<String> = value.into_iter().chain(&command.arguments).cloned().collect();
        create.cmd = Some(words).filter(|words| !words.is_empty());
    }
    // A framework's user is one of the host, and stands in every task of its: only who is named for this command is meant.
    let given = if config.executor_info.is_some() { None } else { config.user.as_ref() };
    if let Some(user) = given.or(command.user.as_ref()) {
        create.user.clone_from(user);
    }
    if let Some(directory) = &command.working_directory {
        create.working_dir.clone_from(directory);
    }
    Ok(())
}

/// What the caller gives, below the command's own variables, below ours.
fn environment(record: &Record, settings: &Settings) -> Result<Vec<String>, Error> {
    let mut all: Variables = record.own.environment.clone();
    for variable in &record.config.command_info.environment.variables {
        let value = match (variable.r#type, &variable.value, &variable.secret) {
            (VariableType::Secret, _, Some(secret)) => {
                let text = secret.exposed().and_then(|bytes| std::str::from_utf8(bytes).ok());
                let text = text.ok_or_else(|| {
                    let name = &variable.name;
                    unsupported(format!(
                        "the secret in variable '{name}' is no text that was given: give its value"
                    ))
                })?;
                text.to_owned()
            }
            (_, value, _) => value.clone().unwrap_or_default(),
        };
        all.insert(variable.name.clone(), value);
    }
    all.insert("MESOS_SANDBOX".to_owned(), settings.sandbox_directory.clone());
    all.insert("MESOS_CONTAINER_NAME".to_owned(), record.own.name.clone());
    Ok(all.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn bind(source: impl Into<String>, target: impl Into<String>, mode: VolumeMode) -> Mount {
    Mount {
        r#type: "bind".to_owned(),
        source: source.into(),
        target: target.into(),
        read_only: mode == VolumeMode::Ro,
        ..Mount::default()
    }
}

fn volumes(
    config: &ContainerConfig,
    container: &ContainerInfo,
    docker: &DockerInfo,
    settings: &Settings,
    create: &mut Create,
    needed: &mut Vec<Needed>,
) -> Result<(), Error> {
    let mut drivers = Vec::new();
    drivers.extend(docker.volume_driver.clone());
    for volume in &container.volumes {
        let mount = mount(config, docker, settings, volume, needed)?;
        if let Some(options) = &mount.volume_options {
            let driver = &options.driver_config.name;
            if !driver.is_empty() && !drivers.contains(driver) {
                drivers.push(driver.clone());
            }
        }
        create.host_config.mounts.push(mount);
    }
    if drivers.len() > 1 {
        return Err(invalid("Only one volume driver per task is supported"));
    }
    let sandbox = text(&config.directory)?;
    create.host_config.mounts.push(bind(sandbox, &settings.sandbox_directory, VolumeMode::Rw));
    Ok(())
}

/// Those are directories, as those of the host are; the engine makes their places in the container.
fn persistent(
    config: &ContainerConfig,
    settings: &Settings,
    create: &mut Create,
    needed: &mut Vec<Needed>,
) -> Result<BTreeSet<Persistent>, Error> {
    let all = crate::volumes::among(&config.resources, &settings.work_dir)?;
    for volume in &all {
        needed.push(Needed::Host(volume.source.clone()));
        if volume.at.is_relative() {
            needed.push(Needed::Sandbox(volume.at.clone()));
        }
        let mode = if volume.read_only { VolumeMode::Ro } else { VolumeMode::Rw };
        let target = volume.target(&settings.sandbox_directory);
        create.host_config.mounts.push(bind(text(&volume.source)?, text(&target)?, mode));
    }
    Ok(all)
}

fn mount(
    config: &ContainerConfig,
    docker: &DockerInfo,
    settings: &Settings,
    volume: &Volume,
    needed: &mut Vec<Needed>,
) -> Result<Mount, Error> {
    let path = &volume.container_path;
    let target = match path.starts_with('/') {
        true => path.clone(),
        false => format!("{}/{path}", settings.sandbox_directory.trim_end_matches('/')),
    };
    let refuse =
        |what: &str| unsupported(format!("the volume at '{path}' is {what}: the engine has nothing like it"));
    if volume.image.is_some() {
        return Err(refuse("an image"));
    }
    let below = |relative: &str, needed: &mut Vec<Needed>| -> Result<Mount, Error> {
        let relative = Path::new(relative);
        if relative.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(invalid(format!(
                "the volume at '{path}' leads out of the sandbox: name a path below it"
            )));
        }
        needed.push(Needed::Sandbox(relative.to_owned()));
        Ok(bind(text(&config.directory.join(relative))?, &target, volume.mode))
    };
    if let Some(host) = &volume.host_path {
        let driver = docker.volume_driver.clone();
        return match (host.starts_with('/'), path.starts_with('/'), driver) {
            (true, _, _) => {
                needed.push(Needed::Host(PathBuf::from(host)));
                Ok(bind(host, target, volume.mode))
            }
            (false, false, _) => Err(invalid(format!(
                "Both host_path '{host}' and container_path '{path}' of a volume are relative"
            ))),
            (false, true, None) => below(host, needed),
            (false, true, Some(driver)) => Ok(named(host, target, volume.mode, driver, BTreeMap::new())),
        };
    }
    let source = volume.source.as_ref().ok_or_else(|| invalid("Host path or volume source is required"))?;
    match source.r#type {
        VolumeSourceType::DockerVolume => {
            let given = source.docker_volume.as_ref();
            let given =
                given.ok_or_else(|| invalid(format!("the volume at '{path}' names no docker volume")))?;
            let options = given.driver_options.iter().flat_map(|all| &all.parameter);
            let options = options.map(|option| (option.key.clone(), option.value.clone())).collect();
            let driver = given.driver.clone().or_else(|| docker.volume_driver.clone()).unwrap_or_default();
            Ok(named(&given.name, target, volume.mode, driver, options))
        }
        VolumeSourceType::HostPath => {
            let given = source.host_path.as_ref();
            let given = given.ok_or_else(|| invalid(format!("the volume at '{path}' names no path")))?;
            if !given.path.starts_with('/') {
                return below(&given.path, needed);
            }
            needed.push(Needed::Host(PathBuf::from(&given.path)));
            let mut mount = bind(&given.path, target, volume.mode);
            let propagation = given.mount_propagation.as_ref().and_then(|propagation| propagation.mode);
            let propagation = match propagation {
                Some(MountPropagationMode::HostToContainer) => "rslave",
                Some(MountPropagationMode::Bidirectional) => "rshared",
                Some(MountPropagationMode::Unknown) | None => return Ok(mount),
            };
            mount.bind_options = Some(BindOptions { propagation: propagation.to_owned() });
            Ok(mount)
        }
        VolumeSourceType::SandboxPath => {
            let given = source.sandbox_path.as_ref();
            let given = given.ok_or_else(|| invalid(format!("the volume at '{path}' names no path")))?;
            match given.r#type {
                berth_model::SandboxPathType::Parent => {
                    Err(refuse("in the sandbox of a parent, which there is none"))
                }
                _ => below(&given.path, needed),
            }
        }
        VolumeSourceType::Secret => Err(refuse("a secret")),
        VolumeSourceType::CsiVolume => Err(refuse("a CSI volume")),
        VolumeSourceType::Unknown => Err(refuse("of an unknown kind")),
    }
}

fn named(
    name: &str,
    target: String,
    mode: VolumeMode,
    driver: String,
    options: BTreeMap<String, String>,
) -> Mount {
    Mount {
        r#type: "volume".to_owned(),
        source: name.to_owned(),
        target,
        read_only: mode == VolumeMode::Ro,
        volume_options: Some(VolumeOptions { driver_config: VolumeDriver { name: driver, options } }),
        ..Mount::default()
    }
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| invalid(format!("{} is no text, which the engine needs", path.display())))
}

fn network(container: &ContainerInfo, docker: &DockerInfo, create: &mut Create) -> Result<(), Error> {
    create.host_config.network_mode = match docker.network {
        DockerNetwork::Host => "host".to_owned(),
        DockerNetwork::Bridge => "bridge".to_owned(),
        DockerNetwork::None => "none".to_owned(),
        DockerNetwork::User => match &container.network_infos[..] {
            [] => return Err(invalid("No network info found in container info")),
            [one] => {
                let name = one.name.clone().filter(|name| !name.is_empty());
                name.ok_or_else(|| invalid("No network name found in network info"))?
            }
            _ => return Err(invalid("Only a single network can be defined in Docker run")),
        },
    };
    if let Some(hostname) = &container.hostname {
        create.hostname.clone_from(hostname);
    }
    Ok(())
}

fn ports(
    config: &ContainerConfig,
    container: &ContainerInfo,
    docker: &DockerInfo,
    create: &mut Create,
) -> Result<(), Error> {
    let of_network = container.network_infos.iter().flat_map(|network| &network.port_mappings);
    let mappings: Vec<_> = docker.port_mappings.iter().chain(of_network).collect();
    if mappings.is_empty() {
        return Ok(());
    }
    let first =
        docker.parameters.iter().find(|parameter| matches!(parameter.key.as_str(), "net" | "network"));
    let network =
        first.map_or(create.host_config.network_mode.as_str(), |parameter| parameter.value.as_str());
    if matches!(network, "host" | "none") {
        return Err(invalid("Port mappings are only supported for bridge and user-defined networks"));
    }
    // What an operator launches by hand was offered no resources.
    let offered = config.executor_info.is_some() || config.task_info.is_some();
    if offered && config.resources.is_empty() {
        return Err(invalid("Port mappings require resources"));
    }
    let ranges = config.resources.ports();
    if offered && ranges.is_none() {
        return Err(invalid("Port mappings require port resources"));
    }
    for mapping in mappings {
        let (host, inside) = (mapping.host_port, mapping.container_port);
        if offered && !ranges.as_ref().is_some_and(|ranges| ranges.contains_number(u64::from(host))) {
            return Err(invalid(format!("Port [{host}] not included in resources")));
        }
        let protocol = mapping.protocol.as_deref().unwrap_or("tcp").to_ascii_lowercase();
        let port = format!("{inside}/{protocol}");
        create.exposed_ports.insert(port.clone(), Empty {});
        let binding = PortBinding { host_port: host.to_string(), ..PortBinding::default() };
        create.host_config.port_bindings.entry(port).or_default().push(binding);
    }
    Ok(())
}

fn default_dns(container: &ContainerInfo, docker: &DockerInfo, settings: &Settings, create: &mut Create) {
    if parameters::sets_dns(&docker.parameters) {
        return;
    }
    let of_kind = |kind: DnsNetwork| settings.default_dns.iter().filter(move |dns| dns.network_mode == kind);
    let found: Option<&DefaultDns> = match docker.network {
        DockerNetwork::Bridge => of_kind(DnsNetwork::Bridge).next(),
        DockerNetwork::User => {
            let name = container.network_infos.first().and_then(|network| network.name.as_ref());
            let of_name = of_kind(DnsNetwork::User)
                .find(|dns| dns.network_name.is_some() && dns.network_name.as_ref() == name);
            of_name.or_else(|| of_kind(DnsNetwork::User).find(|dns| dns.network_name.is_none()))
        }
        DockerNetwork::Host | DockerNetwork::None => None,
    };
    let Some(DefaultDns { dns, .. }) = found else { return };
    create.host_config.dns.clone_from(&dns.nameservers);
    create.host_config.dns_search.clone_from(&dns.search);
    create.host_config.dns_options.clone_from(&dns.options);
}

fn linux(info: Option<&LinuxInfo>, create: &mut Create) -> Result<(), Error> {
    let Some(info) = info else { return Ok(()) };
    let host = &mut create.host_config;
    // The engine has one set for all.
    let asked = info.bounding_capabilities.as_ref().or(info.effective_capabilities.as_ref());
    if let Some(capabilities) = asked.or(info.capability_info.as_ref()) {
        host.cap_drop = vec!["ALL".to_owned()];
        host.cap_add = capabilities.capabilities.iter().map(ToString::to_string).collect();
    }
    if info.share_pid_namespace == Some(true) {
        host.pid_mode = "host".to_owned();
    }
    match info.ipc_mode {
        Some(IpcMode::Private) => host.ipc_mode = "private".to_owned(),
        Some(IpcMode::ShareParent) => host.ipc_mode = "host".to_owned(),
        Some(IpcMode::Unknown) | None => {}
    }
    if let Some(size) = info.shm_size {
        host.shm_size = i64::from(size) * MIB;
    }
    host.readonly_rootfs = info.read_only_rootfs.unwrap_or(false);
    if let Some(seccomp) = &info.seccomp {
        if seccomp.profile_name.is_some() {
            return Err(unsupported(
                "a seccomp profile by name is one of the native containerizer: give parameter security-opt",
            ));
        }
        if seccomp.unconfined == Some(true) {
            host.security_opt.push("seccomp=unconfined".to_owned());
        }
    }
    if info.user_namespace.as_ref().is_some_and(|userns| userns.mode == UserNamespaceMode::Private) {
        return Err(unsupported("a user namespace for one container: the engine has one for all, or none"));
    }
    if !info.cdi_devices.is_empty() {
        return Err(unsupported("CDI devices are not passed to the engine: name the devices themselves"));
    }
    for device in &info.devices {
        host.devices.push(Device {
            path_on_host: device.path.clone(),
            path_in_container: device.container_path.clone().unwrap_or_else(|| device.path.clone()),
            cgroup_permissions: device.access.clone().unwrap_or_else(|| "rwm".to_owned()),
        });
    }
    Ok(())
}

fn rlimits(info: Option<&RLimitInfo>, create: &mut Create) -> Result<(), Error> {
    for limit in info.into_iter().flat_map(|info| &info.rlimits) {
        let name = limit.r#type.name();
        let short = name.strip_prefix("RLMT_").ok_or_else(|| invalid("a resource limit without a type"))?;
        let number = |value: Option<u64>| value.map_or(-1, |value| i64::try_from(value).unwrap_or(i64::MAX));
        create.host_config.ulimits.push(Ulimit {
            name: short.to_ascii_lowercase(),
            soft: number(limit.soft),
            hard: number(limit.hard),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Asked;
    use berth_model::ContainerId;

    fn record(config: &str) -> Record {
        let config: ContainerConfig = serde_json::from_str(config).unwrap();
        let id = ContainerId::new("c").unwrap();
        let environment =
            Variables::from([("A".to_owned(), "agent".to_owned()), ("B".to_owned(), "b".to_owned())]);
        let own = Asked { name: names::name(&id), environment, launch: "1".to_owned() };
        Record { id, config, own }
    }

    fn planned(container: &str, rest: &str) -> Result<Plan, String> {
        let config =
            format!(r#"{{"directory": "/s:x", "container_info": {{"type": "DOCKER", {container}}} {rest}}}"#);
        let settings = Settings {
            default_dns: serde_json::from_str(
                r#"[{"network_mode": "BRIDGE", "dns": {"nameservers": ["10.0.0.1"]}},
                    {"network_mode": "USER", "network_name": "n", "dns": {"search": ["example"]}}]"#,
            )
            .unwrap(),
            ..Settings::new("/run".into(), "/work".into())
        };
        plan(&record(&config), &settings).map_err(|error| error.to_string())
    }

    const SHELL: &str = r#", "command_info": {"value": "true"}"#;

    #[test]
    fn a_shell_and_a_command_are_told_as_the_reference_says() {
        let image = r#""docker": {"image": "i"}"#;
        let plan = planned(image, SHELL).unwrap();
        assert_eq!(plan.create.entrypoint, Some(vec!["/bin/sh".to_owned()]));
        assert_eq!(plan.create.cmd, Some(vec!["-c".to_owned(), "true".to_owned()]));
        assert_eq!(plan.create.host_config.network_mode, "host");
        let rest = r#", "user": "app", "command_info": {"shell": false, "value": "ls", "arguments": ["-l"]}"#;
        let plan = planned(image, rest).unwrap();
        assert_eq!((plan.create.entrypoint, plan.create.cmd.unwrap().join(" ")), (None, "ls -l".to_owned()));
        assert_eq!(plan.create.user, "app");
        let plan = planned(image, r#", "command_info": {"shell": false}"#).unwrap();
        assert_eq!(plan.create.cmd, None, "the image's own");
        assert_eq!(planned(image, "").unwrap_err(), "Shell specified but no command value provided");
        assert_eq!(
            planned(r#""hostname": "h""#, SHELL).unwrap_err(),
            "No docker info found in container info"
        );
    }

    #[test]
    fn the_commands_own_variables_win_and_ours_are_there() {
        let rest = r#", "command_info": {"value": "true", "environment": {"variables": [{"name": "A", "value": "own"}]}}"#;
        let plan = planned(r#""docker": {"image": "i"}"#, rest).unwrap();
        assert_eq!(
            plan.create.env,
            ["A=own", "B=b", "MESOS_CONTAINER_NAME=mesos-c", "MESOS_SANDBOX=/mnt/mesos/sandbox"]
        );
    }

    #[test]
    fn every_kind_of_volume_is_a_mount_and_the_sandbox_is_the_last() {
        let container = r#""docker": {"image": "i"}, "volumes": [
            {"container_path": "/a", "host_path": "/h", "mode": "RO"},
            {"container_path": "b", "host_path": "/h"},
            {"container_path": "/c", "host_path": "rel/x"},
            {"container_path": "/d", "source": {"type": "DOCKER_VOLUME", "docker_volume":
                {"driver": "local", "name": "vol", "driver_options": {"parameter": [{"key": "k", "value": "v"}]}}}},
            {"container_path": "/e", "source": {"type": "HOST_PATH", "host_path":
                {"path": "/h", "mount_propagation": {"mode": "BIDIRECTIONAL"}}}},
            {"container_path": "/f", "source": {"type": "SANDBOX_PATH", "sandbox_path": {"type": "SELF", "path": "p"}}}]"#;
        let plan = planned(container, SHELL).unwrap();
        let mounts = &plan.create.host_config.mounts;
        let of: Vec<_> = mounts.iter().map(|m| (&*m.r#type, &*m.source, &*m.target)).collect();
        let expected = [
            ("bind", "/h", "/a"),
            ("bind", "/h", "/mnt/mesos/sandbox/b"),
            ("bind", "/s:x/rel/x", "/c"),
            ("volume", "vol", "/d"),
            ("bind", "/h", "/e"),
            ("bind", "/s:x/p", "/f"),
            ("bind", "/s:x", "/mnt/mesos/sandbox"),
        ];
        assert_eq!(of, expected);
        assert!(mounts[0].read_only && !mounts[1].read_only);
        assert_eq!(mounts[3].volume_options.as_ref().unwrap().driver_config.options["k"], "v");
        assert_eq!(mounts[4].bind_options.as_ref().unwrap().propagation, "rshared");
        assert_eq!(plan.needed[2], Needed::Sandbox("rel/x".into()));
    }

    #[test]
    fn what_is_no_volume_here_is_refused_by_name() {
        let refused = |volume: &str| {
            planned(&format!(r#""docker": {{"image": "i"}}, "volumes": [{volume}]"#), SHELL).unwrap_err()
        };
        assert_eq!(
            refused(r#"{"container_path": "a", "host_path": "b"}"#),
            "Both host_path 'b' and container_path 'a' of a volume are relative"
        );
        assert!(refused(r#"{"container_path": "/a", "host_path": "../b"}"#).contains("out of the sandbox"));
        assert_eq!(refused(r#"{"container_path": "/a"}"#), "Host path or volume source is required");
        assert!(refused(r#"{"container_path": "/a", "source": {"type": "SECRET"}}"#).contains("a secret"));
    }

    #[test]
    fn networks_and_ports_are_as_in_the_reference() {
        let network = |container: &str| planned(container, SHELL).map(|plan| plan.create.host_config);
        let of = |container: &str| network(container).unwrap().network_mode;
        assert_eq!(of(r#""docker": {"image": "i", "network": "NONE"}"#), "none");
        let user = r#""docker": {"image": "i", "network": "USER"}"#;
        assert_eq!(network(user).unwrap_err(), "No network info found in container info");
        assert_eq!(of(&format!(r#"{user}, "network_infos": [{{"name": "n"}}]"#)), "n");
        assert_eq!(
            network(&format!(r#"{user}, "network_infos": [{{}}]"#)).unwrap_err(),
            "No network name found in network info"
        );
        let ports = r#""docker": {"image": "i", "network": "BRIDGE", "port_mappings":
            [{"host_port": 8080, "container_port": 80, "protocol": "TCP"}]}"#;
        let host = network(ports).unwrap();
        assert_eq!(host.port_bindings["80/tcp"][0].host_port, "8080");
        assert_eq!(host.dns, ["10.0.0.1"]);
        assert_eq!(
            network(&ports.replace("BRIDGE", "HOST")).unwrap_err(),
            "Port mappings are only supported for bridge and user-defined networks"
        );
        let executor = format!(r#"{SHELL}, "executor_info": {{}}"#);
        assert_eq!(planned(ports, &executor).unwrap_err(), "Port mappings require resources");
        let hostname = r#""hostname": "h", "docker": {"image": "i"}"#;
        assert_eq!(network(hostname).unwrap_err(), "Unable to set hostname with host network mode");
    }
}
