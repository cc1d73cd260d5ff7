// SPDX-License-Identifier: Apache-2.0
//! What containers report, into messages: field by field, since a list of a thousand containers has each of them.

use berth_model::{ContainerStatus, ContainerTermination, ResourceStatistics};

use super::{back_through_json, container_id_of, resources_of, to_tree};
use crate::agent::response::{WaitContainer, WaitNestedContainer};
use crate::v1::{self, TaskResourceLimitation, cgroup_info};

/// Names each field once: the compiler refuses a field of the model that is not in the list.
macro_rules! same_fields {
    ($from:expr => $From:path, $To:path { $($field:ident),* $(,)? } $($rest:tt)*) => {{
        let $From { $($field),* } = $from;
        $To { $($field: $field.clone(),)* $($rest)* }
    }};
}

/// The message of statistics.
pub fn statistics_of(statistics: &ResourceStatistics) -> v1::ResourceStatistics {
    same_fields!(statistics => ResourceStatistics, v1::ResourceStatistics {
        timestamp, processes, threads,
        cpus_user_time_secs, cpus_system_time_secs, cpus_limit, cpus_soft_limit,
        cpus_nr_periods, cpus_nr_throttled, cpus_throttled_time_secs,
        mem_total_bytes, mem_total_memsw_bytes, mem_limit_bytes, mem_soft_limit_bytes,
        mem_file_bytes, mem_anon_bytes, mem_cache_bytes, mem_rss_bytes, mem_mapped_file_bytes,
        mem_swap_bytes, mem_unevictable_bytes, mem_kmem_usage_bytes, mem_kmem_tcp_usage_bytes,
        mem_low_pressure_counter, mem_medium_pressure_counter, mem_critical_pressure_counter,
        disk_limit_bytes, disk_used_bytes,
        net_rx_packets, net_rx_bytes, net_rx_errors, net_rx_dropped,
        net_tx_packets, net_tx_bytes, net_tx_errors, net_tx_dropped,
        net_tx_rate_limit, net_tx_burst_rate_limit, net_tx_burst_size,
        net_rx_rate_limit, net_rx_burst_rate_limit, net_rx_burst_size,
        net_tcp_rtt_microsecs_p50, net_tcp_rtt_microsecs_p90,
        net_tcp_rtt_microsecs_p95, net_tcp_rtt_microsecs_p99,
        net_tcp_active_connections, net_tcp_time_wait_connections,
    } disk_statistics: Vec::new(), net_ephemeral_ports: None)
}

/// The message of a status.
pub fn status_of(status: &ContainerStatus) -> v1::ContainerStatus {
    let ContainerStatus { network_infos, cgroup_info, executor_pid, container_id } = status;
    let net_cls = cgroup_info.as_ref().map(|info| info.net_cls.as_ref());
    v1::ContainerStatus {
        container_id: container_id.as_ref().map(container_id_of),
        network_infos: network_infos.iter().map(|network| back_through_json(&to_tree(network))).collect(),
        cgroup_info: net_cls.map(|net_cls| v1::CgroupInfo {
            net_cls: net_cls.map(|net_cls| cgroup_info::NetCls { classid: net_cls.classid }),
        }),
        executor_pid: *executor_pid,
    }
}

/// The answer to WAIT_CONTAINER.
pub fn termination_of(termination: &ContainerTermination) -> WaitContainer {
    let ContainerTermination { message, status, state, reason, limited_resources } = termination;
    let resources = resources_of(limited_resources);
    WaitContainer {
        exit_status: *status,
        state: state.map(|state| state.number()),
        reason: reason.map(|reason| reason.number()),
        limitation: (!resources.is_empty()).then_some(TaskResourceLimitation { resources }),
        message: message.clone(),
    }
}

/// The answer to WAIT_NESTED_CONTAINER, which is the same in another message.
pub fn termination_of_nested(termination: &ContainerTermination) -> WaitNestedContainer {
    let WaitContainer { exit_status, state, reason, limitation, message } = termination_of(termination);
    WaitNestedContainer { exit_status, state, reason, limitation, message }
}
