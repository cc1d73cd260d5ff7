// SPDX-License-Identifier: Apache-2.0
//! The messages, as far as we send or read them. Names and meanings are the API's.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Text by name, in the order of names.
pub(crate) type Texts = BTreeMap<String, String>;

/// `{}`, for sets that JSON does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Empty {}

/// What a container is made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Create {
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    pub(crate) user: String,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
    pub(crate) env: Vec<String>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) image: String,
    pub(crate) working_dir: String,
    pub(crate) labels: Texts,
    pub(crate) exposed_ports: BTreeMap<String, Empty>,
    pub(crate) mac_address: String,
    pub(crate) stop_signal: String,
    pub(crate) host_config: HostConfig,
    pub(crate) networking_config: Option<NetworkingConfig>,
}

/// What of it belongs to this host.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HostConfig {
    pub(crate) binds: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) volumes_from: Vec<String>,
    pub(crate) volume_driver: String,
    pub(crate) network_mode: String,
    pub(crate) port_bindings: BTreeMap<String, Vec<PortBinding>>,
    pub(crate) publish_all_ports: bool,
    pub(crate) privileged: bool,
    pub(crate) readonly_rootfs: bool,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) security_opt: Vec<String>,
    pub(crate) group_add: Vec<String>,
    pub(crate) devices: Vec<Device>,
    pub(crate) device_requests: Vec<DeviceRequest>,
    pub(crate) device_cgroup_rules: Vec<String>,
    pub(crate) dns: Vec<String>,
    pub(crate) dns_search: Vec<String>,
    pub(crate) dns_options: Vec<String>,
    pub(crate) extra_hosts: Vec<String>,
    pub(crate) links: Vec<String>,
    pub(crate) log_config: LogConfig,
    pub(crate) sysctls: Texts,
    pub(crate) storage_opt: Option<Texts>,
    pub(crate) tmpfs: Texts,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) ipc_mode: String,
    pub(crate) pid_mode: String,
    #[serde(rename = "UTSMode")]
    pub(crate) uts_mode: String,
    pub(crate) userns_mode: String,
    pub(crate) cgroup_parent: String,
    pub(crate) cgroupns_mode: String,
    pub(crate) runtime: String,
    pub(crate) isolation: String,
    pub(crate) init: Option<bool>,
    pub(crate) shm_size: i64,
    pub(crate) oom_score_adj: i64,
    pub(crate) oom_kill_disable: Option<bool>,
    pub(crate) memory_swappiness: Option<i64>,
    pub(crate) blkio_weight: u16,
    pub(crate) nano_cpus: i64,
    pub(crate) cpuset_cpus: String,
    pub(crate) cpuset_mems: String,
    #[serde(flatten)]
    pub(crate) limits: Limits,
}

/// What can be changed while it runs, too. Zero is the engine's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Limits {
    pub(crate) cpu_shares: i64,
    pub(crate) cpu_period: i64,
    pub(crate) cpu_quota: i64,
    pub(crate) memory: i64,
    pub(crate) memory_reservation: i64,
    pub(crate) memory_swap: i64,
    pub(crate) pids_limit: Option<i64>,
}

/// Something that is mounted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mount {
    pub(crate) r#type: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    pub(crate) bind_options: Option<BindOptions>,
    pub(crate) volume_options: Option<VolumeOptions>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BindOptions {
    pub(crate) propagation: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeOptions {
    pub(crate) driver_config: VolumeDriver,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeDriver {
    pub(crate) name: String,
    pub(crate) options: Texts,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PortBinding {
    pub(crate) host_ip: String,
    pub(crate) host_port: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Device {
    pub(crate) path_on_host: String,
    pub(crate) path_in_container: String,
    pub(crate) cgroup_permissions: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeviceRequest {
    pub(crate) driver: String,
    pub(crate) count: i64,
    #[serde(rename = "DeviceIDs")]
    pub(crate) device_ids: Vec<String>,
    pub(crate) capabilities: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LogConfig {
    pub(crate) r#type: String,
    pub(crate) config: Texts,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Ulimit {
    pub(crate) name: String,
    pub(crate) soft: i64,
    pub(crate) hard: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkingConfig {
    pub(crate) endpoints_config: BTreeMap<String, Endpoint>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Endpoint {
    pub(crate) aliases: Vec<String>,
    #[serde(rename = "IPAMConfig")]
    pub(crate) ipam: Option<Addresses>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Addresses {
    #[serde(rename = "IPv4Address")]
    pub(crate) v4: String,
    #[serde(rename = "IPv6Address")]
    pub(crate) v6: String,
}

/// What is run beside a container's own command.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ExecCreate {
    pub(crate) attach_stdin: bool,
    pub(crate) attach_stdout: bool,
    pub(crate) attach_stderr: bool,
    pub(crate) tty: bool,
    pub(crate) env: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) user: String,
    pub(crate) working_dir: String,
}

/// What the engine says of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Inspected {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) config: Configured,
    pub(crate) network_settings: NetworkSettings,
    pub(crate) host_config: Hosted,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct State {
    pub(crate) status: String,
    pub(crate) running: bool,
    pub(crate) paused: bool,
    pub(crate) restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub(crate) oom_killed: bool,
    pub(crate) pid: i64,
    pub(crate) exit_code: i64,
    pub(crate) error: String,
    pub(crate) started_at: String,
}

impl State {
    /// The pid of its first process, while it has one.
    pub(crate) fn pid(&self) -> Option<u32> {
        u32::try_from(self.pid).ok().filter(|pid| *pid != 0)
    }

    /// Whether it ever ran.
    pub(crate) fn has_started(&self) -> bool {
        !self.started_at.is_empty() && !self.started_at.starts_with("0001-")
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Configured {
    #[serde(deserialize_with = "null_is_nothing")]
    pub(crate) labels: Texts,
    pub(crate) stop_signal: Option<String>,
    pub(crate) tty: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Hosted {
    pub(crate) network_mode: String,
    pub(crate) memory: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NetworkSettings {
    #[serde(rename = "IPAddress")]
    pub(crate) address: String,
    #[serde(deserialize_with = "null_is_nothing")]
    pub(crate) networks: BTreeMap<String, Network>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Network {
    #[serde(rename = "IPAddress")]
    pub(crate) v4: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub(crate) v6: String,
}

/// What it says of what was run beside.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ExecInspected {
    pub(crate) running: bool,
    pub(crate) exit_code: Option<i64>,
    pub(crate) pid: i64,
}

impl ExecInspected {
    pub(crate) fn pid(&self) -> Option<u32> {
        u32::try_from(self.pid).ok().filter(|pid| *pid != 0)
    }
}

/// Some answers have `null` where there is nothing.
fn null_is_nothing<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
