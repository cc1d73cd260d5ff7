// SPDX-License-Identifier: Apache-2.0
//! Flags of networks.

use super::{Row, row};

pub(super) const NETWORK: &[Row] = &[
    row(
        "network_cni_plugins_dir",
        "Where CNI plugins are looked for; together with --network_cni_config_dir",
    )
    .not_built(),
    row(
        "network_cni_config_dir",
        "Where CNI networks are described; together with --network_cni_plugins_dir",
    )
    .not_built(),
    row("network_cni_root_dir_persist", "Keep the state of networks over a reboot").both("false").not_built(),
    row("network_cni_metrics", "Report what containers send and receive").both("true").not_built(),
    row("default_container_dns", "Name servers of containers, by network, as JSON").not_built(),
    row("container_ports_watch_interval", "How often listening ports are looked at")
        .both("30secs")
        .not_built(),
    row("enforce_container_ports", "End containers that listen on ports they were not given")
        .both("false")
        .not_built(),
    row("check_agent_port_range_only", "Look only at the ports of the agent").both("false").not_built(),
    row("container_ports_isolated_range", "Look only at these ports, such as [0-35000]").not_built(),
    row("ephemeral_ports_per_container", "How many ephemeral ports a container gets; a power of 2")
        .both("1024")
        .not_built(),
    row("eth0_name", "The host's public interface").not_built(),
    row("lo_name", "The host's loopback interface").not_built(),
    row("egress_rate_limit_per_container", "The most that a container sends in a second").not_built(),
    row("ingress_rate_limit_per_container", "The most that a container receives in a second").not_built(),
    row("egress_rate_per_cpu", "What each whole cpu lets it send in a second, or auto").not_built(),
    row("ingress_rate_per_cpu", "What each whole cpu lets it receive in a second, or auto").not_built(),
    row("minimum_egress_rate_limit", "The least of such a limit, outbound").not_built(),
    row("maximum_egress_rate_limit", "The most of such a limit, outbound").not_built(),
    row("minimum_ingress_rate_limit", "The least of such a limit, inbound").not_built(),
    row("maximum_ingress_rate_limit", "The most of such a limit, inbound").not_built(),
    row("egress_ceil_limit", "How fast a burst may be, outbound").not_built(),
    row("egress_burst", "How much a burst may be, outbound").not_built(),
    row("ingress_ceil_limit", "How fast a burst may be, inbound").not_built(),
    row("ingress_burst", "How much a burst may be, inbound").not_built(),
    row("egress_unique_flow_per_container", "Give each container a flow of its own")
        .both("false")
        .not_built(),
    row("egress_flow_classifier_parent", "Where flows are told apart").both("root").not_built(),
    row("ingress_isolate_existing_containers", "Apply inbound limits to running containers too")
        .both("true")
        .not_built(),
    row("network_link_speed", "The speed of the link, for auto").not_built(),
    row("network_enable_socket_statistics_summary", "Report sockets, summed up").both("false").not_built(),
    row("network_enable_socket_statistics_details", "Report sockets, one by one").both("false").not_built(),
    row("network_enable_snmp_statistics", "Report SNMP counters").both("false").not_built(),
    row("network_enable_rate_statistics", "Report percentiles of rates").both("false").not_built(),
    row("network_rate_statistics_window", "Over which time they are taken").not_built(),
    row("network_rate_statistics_interval", "How often they are taken").not_built(),
];
