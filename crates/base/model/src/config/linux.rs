// SPDX-License-Identifier: Apache-2.0
//! The parts of `ContainerInfo` that are about the kernel: capabilities, namespaces, seccomp, rlimits, terminals.

use crate::wire::{message, wire_enum};
use crate::{Capabilities, Capability};

message! {
    /// Linux only: what a container may do and what it shares.
    pub struct LinuxInfo {
        /// Deprecated: use `effective_capabilities`.
        capability_info: Option<CapabilityInfo>,
        /// The most capabilities its processes can ever have.
        bounding_capabilities: Option<CapabilityInfo>,
        /// The capabilities its command starts with.
        effective_capabilities: Option<CapabilityInfo>,
        /// Whether it sees the processes of the container around it.
        share_pid_namespace: Option<bool>,
        /// Which system calls it may make.
        seccomp: Option<SeccompInfo>,
        /// Whether System V IPC, POSIX queues and `/dev/shm` are its own.
        ipc_mode: Option<IpcMode>,
        /// The size of its own `/dev/shm`, in MiB.
        shm_size: Option<u32>,
        /// Whether a nested container is in the cgroups of the one around it; unset is true.
        share_cgroups: Option<bool>,
        /// Whether it has its own users; our extension.
        user_namespace: Option<UserNamespace>,
        /// Whether its root filesystem can not be written; our extension.
        read_only_rootfs: Option<bool>,
        /// Devices of the Container Device Interface, `vendor/class=name`; our extension.
        cdi_devices: Vec<String>,
        /// Devices of the host that it may use; our extension.
        devices: Vec<Device>,
    }
}

message! {
    /// A device of the host that a container may use; our extension.
    pub struct Device {
        /// Its path on the host.
        path: String,
        /// Where the container sees it, below `/dev`; unset: as on the host.
        container_path: Option<String>,
        /// What may be done with it: of `r`, `w` and `m` (make further files for it); unset: all of them.
        access: Option<String>,
    }
}

message! {
    /// A set of capabilities.
    pub struct CapabilityInfo {
        /// The capabilities; an empty list is the empty set.
        capabilities: Vec<Capability>,
    }
}

impl CapabilityInfo {
    /// The capabilities as a set.
    pub fn set(&self) -> Capabilities {
        self.capabilities.iter().copied().collect()
    }
}

impl From<Capabilities> for CapabilityInfo {
    fn from(set: Capabilities) -> CapabilityInfo {
        CapabilityInfo { capabilities: set.iter().collect() }
    }
}

message! {
    /// Which system calls a container may make. The two fields exclude each other.
    pub struct SeccompInfo {
        /// A profile in the agent's directory of profiles; unset: the agent's default.
        profile_name: Option<String>,
        /// Whether all are allowed.
        unconfined: Option<bool>,
    }
}

wire_enum! {
    /// Whose System V IPC, POSIX queues and `/dev/shm` a container uses.
    #[derive(Default)]
    pub enum IpcMode {
        /// Not known.
        #[default]
        Unknown = 0 => "UNKNOWN",
        /// Its own.
        Private = 1 => "PRIVATE",
        /// Those of the container around it, or the host's.
        ShareParent = 2 => "SHARE_PARENT",
    }
}

wire_enum! {
    /// Whose users a container has.
    #[derive(Default)]
    pub enum UserNamespaceMode {
        /// Not known.
        Unknown = 0 => "UNKNOWN",
        /// The host's.
        #[default]
        Host = 1 => "HOST",
        /// Its own.
        Private = 2 => "PRIVATE",
    }
}

message! {
    /// The users of a container (`user_namespaces(7)`).
    pub struct UserNamespace {
        /// Whose users it has.
        mode: UserNamespaceMode,
        /// How users map; empty: a range that the agent picks.
        uid_maps: Vec<IdMap>,
        /// How groups map; empty: a range that the agent picks.
        gid_maps: Vec<IdMap>,
    }
}

message! {
    /// A range of ids: `size` ids from `container_id` on inside are those from `host_id` on outside.
    pub struct IdMap {
        /// The first id inside.
        container_id: u32,
        /// The first id outside.
        host_id: u32,
        /// How many there are.
        size: u32,
    }
}

message! {
    /// Resource limits of the processes of a container (`setrlimit(2)`).
    pub struct RLimitInfo {
        /// The limits.
        rlimits: Vec<RLimit>,
    }
}

message! {
    /// One resource limit. Both values set, or both unset for no limit.
    pub struct RLimit {
        /// What is limited.
        r#type: RLimitType,
        /// The most that the process can raise `soft` to.
        hard: Option<u64>,
        /// What the kernel enforces.
        soft: Option<u64>,
    }
}

wire_enum! {
    /// What a resource limit is about. The numbers are Mesos's, not the kernel's.
    #[derive(Default)]
    pub enum RLimitType {
        /// Not known.
        #[default]
        Unknown = 0 => "UNKNOWN",
        /// Bytes of address space.
        As = 1 => "RLMT_AS",
        /// Bytes of a core file.
        Core = 2 => "RLMT_CORE",
        /// Seconds of CPU time.
        Cpu = 3 => "RLMT_CPU",
        /// Bytes of data segment.
        Data = 4 => "RLMT_DATA",
        /// Bytes of a file.
        Fsize = 5 => "RLMT_FSIZE",
        /// Locks; the kernel ignores it.
        Locks = 6 => "RLMT_LOCKS",
        /// Bytes of locked memory.
        Memlock = 7 => "RLMT_MEMLOCK",
        /// Bytes in POSIX message queues of the user.
        Msgqueue = 8 => "RLMT_MSGQUEUE",
        /// 20 minus the lowest nice value.
        Nice = 9 => "RLMT_NICE",
        /// One more than the highest file descriptor.
        Nofile = 10 => "RLMT_NOFILE",
        /// Threads of the user.
        Nproc = 11 => "RLMT_NPROC",
        /// Resident memory; the kernel ignores it.
        Rss = 12 => "RLMT_RSS",
        /// The highest real-time priority.
        Rtprio = 13 => "RLMT_RTPRIO",
        /// Microseconds of real-time scheduling without a blocking call.
        Rttime = 14 => "RLMT_RTTIME",
        /// Signals waiting for the user.
        Sigpending = 15 => "RLMT_SIGPENDING",
        /// Bytes of stack.
        Stack = 16 => "RLMT_STACK",
    }
}

message! {
    /// The terminal of a container.
    pub struct TtyInfo {
        /// Its size at the start.
        window_size: Option<WindowSize>,
    }
}

message! {
    /// The size of a terminal, in characters.
    pub struct WindowSize {
        /// Lines.
        rows: u32,
        /// Characters in a line.
        columns: u32,
    }
}
