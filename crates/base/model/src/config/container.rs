// SPDX-License-Identifier: Apache-2.0
//! `ContainerInfo`: image, volumes, networks and the parts that belong to one containerizer.

use super::{Labels, LinuxInfo, RLimitInfo, TtyInfo};
use crate::Secret;
use crate::wire::{message, wire_enum};

wire_enum! {
    /// Which technology a container is meant for.
    #[derive(Default)]
    pub enum ContainerType {
        /// Docker's daemon.
        Docker = 1 => "DOCKER",
        /// The native containerizer.
        #[default]
        Mesos = 2 => "MESOS",
        /// LXC; our extension.
        Lxc = 100 => "LXC",
        /// The external containerizer; our extension.
        External = 101 => "EXTERNAL",
    }
}

message! {
    /// The container that a framework or an operator asks for.
    pub struct ContainerInfo {
        /// Which technology it is meant for.
        r#type: ContainerType,
        /// What to mount into it.
        volumes: Vec<Volume>,
        /// Its host name.
        hostname: Option<String>,
        /// For [`ContainerType::Docker`].
        docker: Option<DockerInfo>,
        /// For [`ContainerType::Mesos`].
        mesos: Option<MesosInfo>,
        /// The networks it joins; none: the host's.
        network_infos: Vec<NetworkInfo>,
        /// Linux only: capabilities, namespaces, seccomp.
        linux_info: Option<LinuxInfo>,
        /// Resource limits of its processes (`setrlimit(2)`).
        rlimit_info: Option<RLimitInfo>,
        /// Set when it has a terminal.
        tty_info: Option<TtyInfo>,
        /// For [`ContainerType::Lxc`]; our extension.
        lxc: Option<LxcInfo>,
        /// For [`ContainerType::External`]; our extension.
        external: Option<ExternalInfo>,
    }
}

message! {
    /// What only the native containerizer needs.
    pub struct MesosInfo {
        /// The image of the root filesystem; unset: the host's root filesystem.
        image: Option<Image>,
    }
}

message! {
    /// What only Docker needs.
    pub struct DockerInfo {
        /// The reference of the image.
        image: String,
        /// The kind of network.
        network: DockerNetwork,
        /// Ports of the host that lead to ports of the container.
        port_mappings: Vec<PortMapping>,
        /// Whether nearly all protection is off.
        privileged: bool,
        /// Further options of `docker run`.
        parameters: Vec<Parameter>,
        /// Whether to pull though the image is there.
        force_pull_image: Option<bool>,
        /// Deprecated: use [`DockerVolume::driver`].
        volume_driver: Option<String>,
    }
}

wire_enum! {
    /// The kind of network of a Docker container.
    #[derive(Default)]
    pub enum DockerNetwork {
        /// The host's.
        #[default]
        Host = 1 => "HOST",
        /// Docker's default bridge.
        Bridge = 2 => "BRIDGE",
        /// Loopback only.
        None = 3 => "NONE",
        /// The one that `NetworkInfo.name` names.
        User = 4 => "USER",
    }
}

message! {
    /// A port of the host that leads to one of the container.
    pub struct PortMapping {
        /// The port of the host.
        host_port: u32,
        /// The port of the container.
        container_port: u32,
        /// `tcp` or `udp`; unset: `tcp`.
        protocol: Option<String>,
    }
}

message! {
    /// A key and its value.
    pub struct Parameter {
        /// The key.
        key: String,
        /// The value.
        value: String,
    }
}

message! {
    /// A list of keys and values.
    pub struct Parameters {
        /// The keys and values.
        parameter: Vec<Parameter>,
    }
}

wire_enum! {
    /// Whether the container may write to a volume.
    #[derive(Default)]
    pub enum VolumeMode {
        /// It may.
        #[default]
        Rw = 1 => "RW",
        /// It may not.
        Ro = 2 => "RO",
    }
}

message! {
    /// Something mounted into the container.
    pub struct Volume {
        /// Where the container sees it; a relative path is below the sandbox.
        container_path: String,
        /// Where it is on the host; a relative path is below the sandbox.
        host_path: Option<String>,
        /// Whether the container may write to it.
        mode: VolumeMode,
        /// An image whose root filesystem it is.
        image: Option<Image>,
        /// Where else it comes from.
        source: Option<VolumeSource>,
    }
}

wire_enum! {
    /// Where a volume comes from.
    #[derive(Default)]
    pub enum VolumeSourceType {
        /// Not known.
        #[default]
        Unknown = 0 => "UNKNOWN",
        /// A volume driver of Docker.
        DockerVolume = 1 => "DOCKER_VOLUME",
        /// A sandbox.
        SandboxPath = 2 => "SANDBOX_PATH",
        /// A file that holds a secret.
        Secret = 3 => "SECRET",
        /// A path of the host.
        HostPath = 4 => "HOST_PATH",
        /// A storage plugin.
        CsiVolume = 5 => "CSI_VOLUME",
    }
}

message! {
    /// Where a volume comes from; the field that `type` names is set.
    pub struct VolumeSource {
        /// Which of the other fields counts.
        r#type: VolumeSourceType,
        /// A volume driver of Docker.
        docker_volume: Option<DockerVolume>,
        /// A path in a sandbox.
        sandbox_path: Option<SandboxPath>,
        /// A secret.
        secret: Option<Secret>,
        /// A path of the host.
        host_path: Option<HostPath>,
        /// A storage plugin.
        csi_volume: Option<CsiVolume>,
    }
}

message! {
    /// A volume of one of Docker's drivers.
    pub struct DockerVolume {
        /// The driver; unset: Docker's own.
        driver: Option<String>,
        /// The name of the volume.
        name: String,
        /// Options of the driver.
        driver_options: Option<Parameters>,
    }
}

wire_enum! {
    /// Whose sandbox a path is in.
    #[derive(Default)]
    pub enum SandboxPathType {
        /// Not known.
        #[default]
        Unknown = 0 => "UNKNOWN",
        /// The container's own.
        Own = 1 => "SELF",
        /// That of the container around it.
        Parent = 2 => "PARENT",
    }
}

message! {
    /// A path in a sandbox.
    pub struct SandboxPath {
        /// Whose sandbox it is.
        r#type: SandboxPathType,
        /// The path, relative to that sandbox.
        path: String,
    }
}

message! {
    /// A path of the host.
    pub struct HostPath {
        /// The path.
        path: String,
        /// How mounts made later spread.
        mount_propagation: Option<MountPropagation>,
    }
}

wire_enum! {
    /// How mounts that one side makes later reach the other (`mount_namespaces(7)`).
    #[derive(Default)]
    pub enum MountPropagationMode {
        /// Not known.
        #[default]
        Unknown = 0 => "UNKNOWN",
        /// The host's reach the container (a slave mount).
        HostToContainer = 1 => "HOST_TO_CONTAINER",
        /// Both reach each other (a shared mount).
        Bidirectional = 2 => "BIDIRECTIONAL",
    }
}

message! {
    /// How mounts made later spread.
    pub struct MountPropagation {
        /// The direction.
        mode: Option<MountPropagationMode>,
    }
}

message! {
    /// A volume of a storage plugin. Carried only so far as to name the plugin when it is refused.
    pub struct CsiVolume {
        /// The plugin.
        plugin_name: String,
    }
}

wire_enum! {
    /// The format of an image.
    #[derive(Default)]
    pub enum ImageType {
        /// App Container image.
        Appc = 1 => "APPC",
        /// An image of a registry, named as Docker names it.
        #[default]
        Docker = 2 => "DOCKER",
        /// An image of a registry or of a layout on disk; our extension.
        Oci = 100 => "OCI",
    }
}

message! {
    /// An image; the field that `type` names is set.
    pub struct Image {
        /// Which of the other fields counts.
        r#type: ImageType,
        /// For [`ImageType::Appc`].
        appc: Option<AppcImage>,
        /// For [`ImageType::Docker`].
        docker: Option<DockerImage>,
        /// Whether a copy in the store will do; false asks the registry again.
        cached: bool = true,
        /// For [`ImageType::Oci`]; our extension.
        oci: Option<OciImage>,
    }
}

message! {
    /// An App Container image.
    pub struct AppcImage {
        /// Its name.
        name: String,
        /// Its digest.
        id: Option<String>,
        /// Labels that it must have.
        labels: Option<Labels>,
    }
}

message! {
    /// An image named as Docker names it.
    pub struct DockerImage {
        /// The reference.
        name: String,
        /// A Docker `config.json` with credentials.
        config: Option<Secret>,
    }
}

message! {
    /// An image of a registry or of a layout on disk.
    pub struct OciImage {
        /// The reference.
        reference: String,
        /// A Docker `config.json` with credentials.
        config: Option<Secret>,
    }
}

message! {
    /// A network that a container joins.
    pub struct NetworkInfo {
        /// Groups, for networks that keep groups apart.
        groups: Vec<String>,
        /// Labels for the network's plugin.
        labels: Option<Labels>,
        /// Addresses: those asked for, or in a status those given.
        ip_addresses: Vec<IpAddress>,
        /// The name of the network; unset: the host's.
        name: Option<String>,
        /// Ports of the host that lead to ports of the container.
        port_mappings: Vec<PortMapping>,
    }
}

wire_enum! {
    /// A family of addresses.
    #[derive(Default)]
    pub enum IpProtocol {
        /// Version 4.
        #[default]
        Ipv4 = 1 => "IPv4",
        /// Version 6.
        Ipv6 = 2 => "IPv6",
    }
}

message! {
    /// An address.
    pub struct IpAddress {
        /// Its family.
        protocol: IpProtocol,
        /// The address; unset: any one of this family.
        ip_address: Option<String>,
    }
}

wire_enum! {
    /// How LXC starts a container.
    #[derive(Default)]
    pub enum LxcMode {
        /// The command is (nearly) all that runs, as with `lxc-execute`.
        #[default]
        Application = 0 => "APPLICATION",
        /// The init of the root filesystem boots, and the command runs inside, as with `lxc-attach`.
        System = 1 => "SYSTEM",
    }
}

message! {
    /// What only LXC needs.
    pub struct LxcInfo {
        /// The name of a template, or the absolute path of one.
        template: Option<String>,
        /// Arguments of the template.
        template_options: Vec<String>,
        /// An LXC container to clone instead of running a template.
        clone_from: Option<String>,
        /// How to start it.
        mode: LxcMode,
        /// Further lines of LXC's configuration.
        config: Vec<Parameter>,
        /// Whether the LXC container stays when ours is destroyed.
        keep_rootfs: Option<bool>,
    }
}

message! {
    /// What only the external containerizer needs; passed on as `CommandInfo.container`.
    pub struct ExternalInfo {
        /// The image, in words that the program understands.
        image: String,
        /// Options of the program.
        options: Vec<String>,
    }
}
