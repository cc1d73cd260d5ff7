// SPDX-License-Identifier: Apache-2.0
//! What a container says of itself: how it ended, what it uses, where it is.

use crate::config::NetworkInfo;
use crate::resources::Resources;
use crate::wire::{message, wire_enum};
use crate::{ContainerId, WaitStatus};

wire_enum! {
    /// The state of a task.
    pub enum TaskState {
        /// Accepted by the executor.
        Starting = 0 => "TASK_STARTING",
        /// Running.
        Running = 1 => "TASK_RUNNING",
        /// Ended well.
        Finished = 2 => "TASK_FINISHED",
        /// Ended badly.
        Failed = 3 => "TASK_FAILED",
        /// Killed because someone asked.
        Killed = 4 => "TASK_KILLED",
        /// Lost, in the words of old frameworks.
        Lost = 5 => "TASK_LOST",
        /// Not accepted by the executor yet.
        Staging = 6 => "TASK_STAGING",
        /// Its description is wrong.
        Error = 7 => "TASK_ERROR",
        /// Being killed.
        Killing = 8 => "TASK_KILLING",
        /// Never launched.
        Dropped = 9 => "TASK_DROPPED",
        /// On an agent that does not answer.
        Unreachable = 10 => "TASK_UNREACHABLE",
        /// Ended with its agent.
        Gone = 11 => "TASK_GONE",
        /// Declared gone by an operator.
        GoneByOperator = 12 => "TASK_GONE_BY_OPERATOR",
        /// Not known.
        Unknown = 13 => "TASK_UNKNOWN",
    }
}

wire_enum! {
    /// Why a task is in its state; of Mesos's list those that come from containers.
    pub enum Reason {
        /// The agent's own executor failed.
        CommandExecutorFailed = 0 => "REASON_COMMAND_EXECUTOR_FAILED",
        /// The executor ended.
        ExecutorTerminated = 1 => "REASON_EXECUTOR_TERMINATED",
        /// Over its memory limit.
        ContainerLimitationMemory = 8 => "REASON_CONTAINER_LIMITATION_MEMORY",
        /// Gave way to another.
        ContainerPreempted = 17 => "REASON_CONTAINER_PREEMPTED",
        /// Over one of its limits.
        ContainerLimitation = 19 => "REASON_CONTAINER_LIMITATION",
        /// Over its disk limit.
        ContainerLimitationDisk = 20 => "REASON_CONTAINER_LIMITATION_DISK",
        /// Its launch failed.
        ContainerLaunchFailed = 21 => "REASON_CONTAINER_LAUNCH_FAILED",
        /// Its limits could not be changed.
        ContainerUpdateFailed = 22 => "REASON_CONTAINER_UPDATE_FAILED",
        /// The executor did not register in time.
        ExecutorRegistrationTimeout = 23 => "REASON_EXECUTOR_REGISTRATION_TIMEOUT",
        /// The executor did not come back in time.
        ExecutorReregistrationTimeout = 24 => "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
        /// What carries its input and output ended.
        IoSwitchboardExited = 27 => "REASON_IO_SWITCHBOARD_EXITED",
        /// Its health changed.
        TaskHealthCheckStatusUpdated = 29 => "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
        /// It ran for as long as it may.
        MaxCompletionTimeReached = 33 => "REASON_MAX_COMPLETION_TIME_REACHED",
    }
}

message! {
    /// How a container ended.
    pub struct ContainerTermination {
        /// What happened, for people.
        message: Option<String>,
        /// The raw wait status; unset: not known. See [`ContainerTermination::wait_status`].
        status: Option<i32>,
        /// The state that its tasks end in.
        state: Option<TaskState>,
        /// Why.
        reason: Option<Reason>,
        /// The resources whose limit it hit.
        limited_resources: Resources,
    }
}

impl ContainerTermination {
    /// The wait status, when it is known.
    pub fn wait_status(&self) -> Option<WaitStatus> {
        self.status.map(WaitStatus)
    }
}

message! {
    /// A limit that a container hit.
    pub struct ContainerLimitation {
        /// The resources whose limit it is.
        resources: Resources,
        /// What happened, for people.
        message: Option<String>,
        /// Which kind of limit.
        reason: Option<Reason>,
    }
}

message! {
    /// Where a running container is.
    pub struct ContainerStatus {
        /// The networks it is in.
        network_infos: Vec<NetworkInfo>,
        /// Its marks in the cgroups.
        cgroup_info: Option<CgroupInfo>,
        /// The process id of its init, as the host sees it.
        executor_pid: Option<u32>,
        /// Its id.
        container_id: Option<ContainerId>,
    }
}

message! {
    /// Marks of a container in its cgroups.
    pub struct CgroupInfo {
        /// The mark of its packets.
        net_cls: Option<NetCls>,
    }
}

message! {
    /// The mark of a container's packets (`net_cls.classid`).
    pub struct NetCls {
        /// Major number in the upper, minor in the lower 16 bits.
        classid: Option<u32>,
    }
}

message! {
    /// What a container uses. All but the time is unset when nothing measured it.
    pub struct ResourceStatistics {
        /// When it was measured, in seconds since 1970.
        timestamp: f64,
        /// Processes.
        processes: Option<u32>,
        /// Threads.
        threads: Option<u32>,
        /// Seconds of CPU time in user space.
        cpus_user_time_secs: Option<f64>,
        /// Seconds of CPU time in the kernel.
        cpus_system_time_secs: Option<f64>,
        /// CPUs that it may use.
        cpus_limit: Option<f64>,
        /// CPUs that it asked for.
        cpus_soft_limit: Option<f64>,
        /// Periods in which it ran.
        cpus_nr_periods: Option<u32>,
        /// Periods in which it was held back.
        cpus_nr_throttled: Option<u32>,
        /// Seconds for which it was held back.
        cpus_throttled_time_secs: Option<f64>,
        /// All memory, page cache included.
        mem_total_bytes: Option<u64>,
        /// All memory and swap.
        mem_total_memsw_bytes: Option<u64>,
        /// Memory that it may use.
        mem_limit_bytes: Option<u64>,
        /// Memory below which the kernel leaves it alone.
        mem_soft_limit_bytes: Option<u64>,
        /// Page cache.
        mem_file_bytes: Option<u64>,
        /// Anonymous memory.
        mem_anon_bytes: Option<u64>,
        /// Deprecated name of `mem_file_bytes`.
        mem_cache_bytes: Option<u64>,
        /// Deprecated name of `mem_anon_bytes`.
        mem_rss_bytes: Option<u64>,
        /// Files mapped into memory.
        mem_mapped_file_bytes: Option<u64>,
        /// Swap.
        mem_swap_bytes: Option<u64>,
        /// Memory that can not be reclaimed.
        mem_unevictable_bytes: Option<u64>,
        /// Memory of the kernel.
        mem_kmem_usage_bytes: Option<u64>,
        /// Buffers of TCP.
        mem_kmem_tcp_usage_bytes: Option<u64>,
        /// How often memory was short, a little.
        mem_low_pressure_counter: Option<u64>,
        /// How often memory was short, to be felt.
        mem_medium_pressure_counter: Option<u64>,
        /// How often memory was short, nearly out.
        mem_critical_pressure_counter: Option<u64>,
        /// Disk that it may use.
        disk_limit_bytes: Option<u64>,
        /// Disk that it uses.
        disk_used_bytes: Option<u64>,
        /// Packets received.
        net_rx_packets: Option<u64>,
        /// Bytes received.
        net_rx_bytes: Option<u64>,
        /// Errors while receiving.
        net_rx_errors: Option<u64>,
        /// Packets dropped while receiving.
        net_rx_dropped: Option<u64>,
        /// Packets sent.
        net_tx_packets: Option<u64>,
        /// Bytes sent.
        net_tx_bytes: Option<u64>,
        /// Errors while sending.
        net_tx_errors: Option<u64>,
        /// Packets dropped while sending.
        net_tx_dropped: Option<u64>,
        /// Bytes per second that it may send.
        net_tx_rate_limit: Option<u64>,
        /// Bytes per second that it may send in a burst.
        net_tx_burst_rate_limit: Option<u64>,
        /// Bytes of such a burst.
        net_tx_burst_size: Option<u64>,
        /// Bytes per second that it may receive.
        net_rx_rate_limit: Option<u64>,
        /// Bytes per second that it may receive in a burst.
        net_rx_burst_rate_limit: Option<u64>,
        /// Bytes of such a burst.
        net_rx_burst_size: Option<u64>,
        /// Round trip of TCP in microseconds, median.
        net_tcp_rtt_microsecs_p50: Option<f64>,
        /// Round trip of TCP in microseconds, 90 of 100 below.
        net_tcp_rtt_microsecs_p90: Option<f64>,
        /// Round trip of TCP in microseconds, 95 of 100 below.
        net_tcp_rtt_microsecs_p95: Option<f64>,
        /// Round trip of TCP in microseconds, 99 of 100 below.
        net_tcp_rtt_microsecs_p99: Option<f64>,
        /// Connections of TCP that are up.
        net_tcp_active_connections: Option<f64>,
        /// Connections of TCP that wait for stray packets.
        net_tcp_time_wait_connections: Option<f64>,
    }
}
