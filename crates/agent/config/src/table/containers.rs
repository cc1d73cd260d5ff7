// SPDX-License-Identifier: Apache-2.0
//! Flags of containerizers: which, how, within which limits.

use super::{Row, row};

pub(super) const GENERAL: &[Row] = &[
    row("containerizers", "The containerizers, in the order in which they are asked").both("mesos"),
    row("strict_containerizers", "Do not start when one of several containerizers can not recover")
        .ours("false"),
    row("isolation", "The isolators of native containers; posix/cpu,posix/mem is what Mesos does by default")
        .ours(berth_factory::DEFAULT_ISOLATION)
        .mesos("posix/cpu,posix/mem"),
    row("launcher", "How native containers get their processes: linux, with namespaces, or posix, plainly")
        .ours("linux"),
    row("executor_shutdown_grace_period", "How long a container has to end by itself before it is killed")
        .both("5secs"),
    row("executor_registration_timeout", "How long an executor has to register").both("1mins"),
    row("executor_environment_variables", "Variables that every executor gets, as JSON").secret(),
    row("default_container_info", "The ContainerInfo of executors that bring none, as JSON")
        .secret()
        .not_built(),
    row("switch_user", "Run executors and commands as the user they name").both("true"),
    row("sandbox_directory", "Where a container with its own root sees its sandbox")
        .both("/mnt/mesos/sandbox")
        .not_built(),
    row("http_command_executor", "Let the command executor use the HTTP API").both("false").not_built(),
    row("http_executor_domain_sockets", "Offer executors a unix socket").both("false"),
    row("domain_socket_location", "Where that socket is, or systemd:ID")
        .mesos("<runtime_dir>/agent.sock")
        .not_built(),
    row("frameworks_home", "What is put before relative URIs").both(""),
    row("hadoop_home", "Where the hadoop client is; not given: HADOOP_HOME, then the PATH"),
];

pub(super) const LIMITS: &[Row] = &[
    row(
        "cgroups_root",
        "The control group below which containers get theirs; not given: one of this agent alone",
    )
    .mesos("mesos"),
    row("cgroups_hierarchy", "Where control groups are mounted").both("/sys/fs/cgroup").not_built(),
    row("cgroups_destroy_timeout", "How long ending a control group may take").both("60secs"),
    row("cgroups_enable_cfs", "Make the cpus of a request a hard limit").both("false"),
    row("cgroups_limit_swap", "Let who has a memory limit have no swap beside it").both("false"),
    row(
        "cgroups_cpu_enable_pids_and_tids_count",
        "Report the number of processes and threads; berth always does",
    )
    .both("false"),
    row("cgroups_net_cls_primary_handle", "The primary handle of net_cls, such as 0x12; cgroup v1 only"),
    row("cgroups_net_cls_secondary_handles", "The range of secondary handles, such as 0xA,0xB"),
    row("revocable_cpu_low_priority", "Give revocable cpus a low weight").both("true"),
    row("agent_subsystems", "Control groups that the agent itself joins").not_built(),
    row("allowed_devices", "Devices that containers with a list of devices may use as well, as JSON"),
    row("perf_events", "Events to sample").not_built(),
    row("perf_interval", "How often they are sampled").both("60secs").not_built(),
    row("perf_duration", "How long a sample takes; not more than the interval").both("10secs").not_built(),
    row("effective_capabilities", "Capabilities that containers get, as JSON").not_built(),
    row("bounding_capabilities", "Capabilities that containers can get, as JSON").not_built(),
    row("seccomp_config_dir", "Where seccomp profiles are; without it, only the built-in one is there"),
    row("seccomp_profile_name", "The profile of containers that name none").not_built(),
    row("disallow_sharing_agent_pid_namespace", "Refuse containers that ask for the agent's pid namespace")
        .both("false")
        .not_built(),
    row("disallow_sharing_agent_ipc_namespace", "Refuse containers that ask for the agent's ipc namespace")
        .both("false")
        .not_built(),
    row("default_container_shm_size", "The size of a container's own /dev/shm").not_built(),
    row("nvidia_gpu_devices", "The NVIDIA devices that may be given to containers").not_built(),
];

pub(super) const DOCKER: &[Row] = &[
    row("docker", "The client that connects to the Docker daemon, by its path; 'docker': berth does, to --docker_socket")
        .both("docker"),
    row("docker_socket", "The socket of the Docker daemon").both("/var/run/docker.sock"),
    row("docker_mesos_image", "The image of executors when the agent runs in a container").not_built(),
    row(
        "docker_kill_orphans",
        "Kill containers of the daemon that bear this agent's work_dir and have no record",
    )
    .both("true"),
    row("docker_remove_delay", "How long an ended container stays in the daemon").both("6hrs"),
    row("docker_stop_timeout", "How long a container has to heed SIGTERM before it is killed").both("0ns"),
];

pub(super) const EXTERNAL: &[Row] = &[
    row(
        "containerizer_path",
        "The external containerizer's program: shell text that a subcommand is put behind",
    ),
    row("default_container_image", "The image of containers that name none, told to that program"),
    row("containerizer_not_supported_status", "The exit status with which its launch says: not mine"),
    row(
        "external_deadlines",
        "How long its calls may take, where not as long as usual: launch=1hrs,usage=5secs",
    ),
];
