// SPDX-License-Identifier: Apache-2.0
//! The agent flags that touch containers, as data: name, type, and whether this version of berth has what is
//! behind them. A flag that is known but not built is refused with those words, never accepted in silence.

/// What a flag's text has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `1`, `false`, `0`; alone it is `true`, with `no-` in front `false`.
    Bool,
    /// Any text; `file://PATH` is the text of that file.
    Text,
    /// A path, taken as it stands.
    Path,
    /// Like `10secs`.
    Duration,
    /// Like `2GB`.
    Bytes,
    /// An unsigned whole number, decimal or `0x` hexadecimal.
    Integer,
    /// A number with a fraction.
    Number,
    /// Unsigned whole numbers with commas between them.
    Indices,
    /// A JSON value, or the path of a file that holds one.
    Json,
}

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The name, as in `--name=value` and (upper case, with a prefix) in the environment.
    pub name: &'static str,
    /// An older name for the same.
    pub alias: Option<&'static str>,
    /// What its text has to be.
    pub kind: Kind,
    /// Whether this version of berth does what the flag asks for.
    pub built: bool,
}

const fn flag(name: &'static str, kind: Kind) -> Known {
    Known { name, alias: None, kind, built: true }
}

impl Known {
    const fn or(mut self, alias: &'static str) -> Known {
        self.alias = Some(alias);
        self
    }

    const fn not_built(mut self) -> Known {
        self.built = false;
        self
    }
}

use Kind::{Bool, Bytes, Duration, Indices, Integer, Json, Number, Path, Text};

/// Every flag, by subject.
pub const KNOWN: &[Known] = &[
    // Containerizers and general.
    flag("work_dir", Path),
    flag("runtime_dir", Path),
    flag("launcher_dir", Path),
    flag("containerizers", Text),
    flag("isolation", Text),
    flag("launcher", Text),
    flag("resources", Text),
    flag("default_role", Text),
    flag("switch_user", Bool),
    flag("default_container_info", Json),
    flag("container_logger", Text),
    flag("sandbox_directory", Path),
    flag("executor_environment_variables", Json),
    flag("http_heartbeat_interval", Duration),
    flag("http_command_executor", Bool),
    flag("http_executor_domain_sockets", Bool),
    flag("domain_socket_location", Text).not_built(),
    flag("executor_registration_timeout", Duration),
    flag("executor_shutdown_grace_period", Duration),
    flag("jwt_secret_key", Path).or("executor_secret_key"),
    flag("authenticate_http_executors", Bool),
    flag("secret_resolver", Text).not_built(),
    flag("hooks", Text).not_built(),
    // Berth's own form of them.
    flag("hooks_dir", Path),
    flag("hooks_timeout", Duration),
    flag("modules", Json),
    flag("modules_dir", Path).not_built(),
    flag("volume_gid_range", Text).not_built(),
    flag("host_path_volume_force_creation", Text),
    flag("disallow_sharing_agent_pid_namespace", Bool),
    flag("disallow_sharing_agent_ipc_namespace", Bool),
    flag("default_container_shm_size", Bytes),
    flag("systemd_enable_support", Bool),
    flag("systemd_runtime_directory", Path),
    flag("max_completed_executors_per_framework", Integer),
    flag("frameworks_home", Text),
    flag("hadoop_home", Path),
    // The external containerizer's (gone from later versions of Mesos).
    flag("containerizer_path", Text),
    flag("default_container_image", Text),
    flag("containerizer_not_supported_status", Integer),
    flag("external_deadlines", Text),
    flag("strict_containerizers", Bool),
    // cgroups, limits, devices, security.
    flag("cgroups_hierarchy", Path),
    flag("cgroups_root", Text),
    flag("cgroups_destroy_timeout", Duration),
    flag("cgroups_enable_cfs", Bool),
    flag("cgroups_limit_swap", Bool),
    flag("cgroups_cpu_enable_pids_and_tids_count", Bool),
    flag("cgroups_net_cls_primary_handle", Text),
    flag("cgroups_net_cls_secondary_handles", Text),
    flag("revocable_cpu_low_priority", Bool),
    flag("agent_subsystems", Text).or("slave_subsystems"),
    flag("allowed_devices", Json),
    flag("perf_events", Text).not_built(),
    flag("perf_interval", Duration).not_built(),
    flag("perf_duration", Duration).not_built(),
    flag("effective_capabilities", Json).or("allowed_capabilities"),
    flag("bounding_capabilities", Json),
    flag("seccomp_config_dir", Path),
    flag("seccomp_profile_name", Text),
    flag("nvidia_gpu_devices", Indices),
    // Disk.
    flag("enforce_container_disk_quota", Bool),
    flag("container_disk_watch_interval", Duration),
    flag("xfs_project_range", Text).not_built(),
    flag("xfs_kill_containers", Bool).not_built(),
    flag("xfs_quota_headroom", Bytes).not_built(),
    flag("disk_watch_interval", Duration),
    flag("gc_delay", Duration),
    flag("gc_disk_headroom", Number),
    flag("gc_non_executor_container_sandboxes", Bool),
    // Network.
    flag("network_cni_plugins_dir", Text),
    flag("network_cni_config_dir", Path),
    flag("network_cni_root_dir_persist", Bool),
    flag("network_cni_metrics", Bool),
    flag("default_container_dns", Json),
    flag("container_ports_watch_interval", Duration).not_built(),
    flag("enforce_container_ports", Bool).not_built(),
    flag("check_agent_port_range_only", Bool).not_built(),
    flag("container_ports_isolated_range", Text).not_built(),
    flag("ephemeral_ports_per_container", Integer).not_built(),
    flag("eth0_name", Text).not_built(),
    flag("lo_name", Text).not_built(),
    flag("egress_rate_limit_per_container", Bytes).not_built(),
    flag("ingress_rate_limit_per_container", Bytes).not_built(),
    flag("egress_rate_per_cpu", Text).not_built(),
    flag("ingress_rate_per_cpu", Text).not_built(),
    flag("minimum_egress_rate_limit", Bytes).not_built(),
    flag("maximum_egress_rate_limit", Bytes).not_built(),
    flag("minimum_ingress_rate_limit", Bytes).not_built(),
    flag("maximum_ingress_rate_limit", Bytes).not_built(),
    flag("egress_ceil_limit", Bytes).not_built(),
    flag("egress_burst", Bytes).not_built(),
    flag("ingress_ceil_limit", Bytes).not_built(),
    flag("ingress_burst", Bytes).not_built(),
    flag("egress_unique_flow_per_container", Bool).not_built(),
    flag("egress_flow_classifier_parent", Text).not_built(),
    flag("ingress_isolate_existing_containers", Bool).not_built(),
    flag("network_link_speed", Bytes).not_built(),
    flag("network_enable_socket_statistics_summary", Bool).not_built(),
    flag("network_enable_socket_statistics_details", Bool).not_built(),
    flag("network_enable_snmp_statistics", Bool).not_built(),
    flag("network_enable_rate_statistics", Bool).not_built(),
    flag("network_rate_statistics_window", Duration).not_built(),
    flag("network_rate_statistics_interval", Duration).not_built(),
    // Images of the native containerizer.
    flag("image_providers", Text),
    flag("image_provisioner_backend", Text),
    flag("image_gc_config", Json),
    flag("docker_registry", Text),
    flag("docker_store_dir", Path),
    flag("docker_config", Json),
    flag("docker_ignore_runtime", Bool),
    flag("docker_volume_checkpoint_dir", Path).not_built(),
    flag("docker_volume_chown", Bool).not_built(),
    flag("appc_store_dir", Path),
    flag("appc_simple_discovery_uri_prefix", Text),
    // Fetcher.
    flag("fetcher_cache_dir", Path),
    flag("fetcher_cache_size", Bytes),
    flag("fetcher_stall_timeout", Duration),
    // Its own of berth.
    flag("fetcher_allow", Text),
    flag("fetcher_deny", Text),
    flag("fetcher_local_files", Bool),
    flag("fetcher_certificates", Path),
    // The Docker containerizer's.
    flag("docker", Text),
    flag("docker_socket", Text),
    flag("docker_mesos_image", Text).not_built(),
    flag("docker_kill_orphans", Bool),
    flag("docker_remove_delay", Duration),
    flag("docker_stop_timeout", Duration),
    // CSI and storage.
    flag("csi_plugin_config_dir", Path).not_built(),
    flag("resource_provider_config_dir", Path).not_built(),
    flag("disk_profile_adaptor", Text).not_built(),
    // Checkpoint and recovery.
    flag("recover", Text),
    flag("strict", Bool),
    flag("recovery_timeout", Duration),
    flag("reconfiguration_policy", Text),
    flag("executor_reregistration_timeout", Duration),
    flag("executor_reregistration_retry_interval", Duration),
    // Oversubscription.
    flag("resource_estimator", Text).not_built(),
    flag("qos_controller", Text).not_built(),
    flag("qos_correction_interval_min", Duration).not_built(),
    flag("oversubscribed_resources_interval", Duration).not_built(),
];

/// The flag that goes by this name or alias.
pub fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name || known.alias == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_name_stands_for_two_flags() {
        let mut names = BTreeSet::new();
        for known in KNOWN {
            assert!(names.insert(known.name), "{} is there twice", known.name);
            if let Some(alias) = known.alias {
                assert!(names.insert(alias), "{alias} is there twice");
            }
        }
    }

    #[test]
    fn a_flag_is_found_by_its_older_name() {
        assert_eq!(find("slave_subsystems").unwrap().name, "agent_subsystems");
        assert!(find("nope").is_none());
    }

    #[test]
    fn no_flag_could_be_taken_for_the_negation_of_another() {
        for known in KNOWN {
            assert!(!known.name.starts_with("no-"), "{}", known.name);
        }
    }
}
