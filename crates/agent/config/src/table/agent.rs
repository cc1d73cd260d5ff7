// SPDX-License-Identifier: Apache-2.0
//! Flags of the agent itself: places, faces, logging, recovery, modules, the cluster.

use super::{Row, row};
use berth_factory::FlagKind::{Bool, Duration, Integer, Json, Path, Text};

pub(super) const AGENT: &[Row] = &[
    row("work_dir", "Where sandboxes, records and images are kept; survives reboots, one agent each")
        .ours("/var/lib/berth"),
    row("runtime_dir", "Where the state of running containers is kept; lost on reboot, one agent each")
        .ours("/run/berth")
        .mesos("/var/run/mesos"),
    row("config_dir", "Where config.toml and the drop-ins config.d/*.toml are read from; not in those files")
        .of(Path)
        .ours("/etc/berth"),
    row(
        "socket",
        "The unix socket that the API is served on; mode 0660 for the group of --socket_group, else 0600",
    )
    .of(Path)
    .ours("<runtime_dir>/berth.sock"),
    row("socket_group", "The group that may use --socket, if a group of that name exists")
        .of(Text)
        .ours("berth"),
    row("log_format", "How log lines are written to standard error: for people, or one JSON object a line")
        .of(Text)
        .one_of(&["text", "json"])
        .ours("text"),
    row(
        "logging_level",
        "The least severe level that is logged; Mesos's INFO, WARNING and ERROR are taken too",
    )
    .of(Text)
    .one_of(&["error", "warn", "info", "debug", "trace", "ERROR", "WARNING", "INFO"])
    .ours("info")
    .mesos("INFO"),
    row("log_dir", "A directory for log files; log to standard error and let the service manager keep it")
        .of(Path)
        .not_built(),
    row("logbufsecs", "How many seconds of log messages may be held back").of(Integer).both("0").not_built(),
    row("initialize_driver_logging", "Whether drivers set up logging too").of(Bool).both("true").not_built(),
    row("external_log_file", "A log file that is shown instead of the agent's own").of(Path).not_built(),
    row("quiet", "Log nothing to standard error").of(Bool).both("false").not_built(),
    row("http_heartbeat_interval", "How often a quiet stream of the API carries a heartbeat").both("30secs"),
    row("launcher_dir", "Where helper programs are; berth carries its own within itself").not_built(),
    row("systemd_enable_support", "Keep containers in a scope of systemd's, on cgroup v2 with systemd")
        .both("true"),
    row("systemd_runtime_directory", "Where the slice's unit would be written")
        .both("/run/systemd/system")
        .not_built(),
    row("memory_profiling", "Collect profiles of the agent's memory").of(Bool).both("false").not_built(),
];

pub(super) const RECOVERY: &[Row] = &[
    row(
        "recover",
        "What to do with the containers of an agent before: keep them, or destroy them all and exit",
    )
    .one_of(&["reconnect", "cleanup"])
    .both("reconnect"),
    row("strict", "Whether a record that can not be read stops the agent, or only costs its container")
        .both("true"),
    row("recovery_timeout", "How long executors wait for an agent to come back").both("15mins"),
    row("reconfiguration_policy", "Which changes of resources and attributes a restart may bring")
        .one_of(&["equal", "additive"])
        .both("equal")
        .not_built(),
    row("executor_reregistration_timeout", "How long a restarted agent waits for executors; at most 15secs")
        .both("2secs"),
    row(
        "executor_reregistration_retry_interval",
        "How long executors that speak by messages have to come back before they are asked again",
    ),
    row("gc_delay", "How long an ended container and its sandbox are kept").both("1weeks"),
    row(
        "gc_disk_headroom",
        "The part of the disk that collection keeps free; the fuller, the sooner it collects",
    )
    .both("0.1"),
    row("gc_non_executor_container_sandboxes", "Collect sandboxes of nested containers on their own")
        .both("false")
        .not_built(),
    row("disk_watch_interval", "How often the space on the disk of work_dir is looked at").both("1mins"),
    row("max_completed_executors_per_framework", "How many ended executors of a framework are remembered")
        .both("150"),
];

pub(super) const MODULES: &[Row] = &[
    row(
        "modules",
        "Parameters of the built-in container loggers, as JSON or its file; berth loads no code into itself",
    )
    .secret(),
    row("modules_dir", "A directory of module manifests; not together with --modules").not_built(),
    row("hooks", "Hook modules to run").deprecated("--hooks_dir"),
    row(
        "hooks_dir",
        "A directory with programs that are run at points in the life of a task; see docs/hooks.md",
    ),
    row("hooks_timeout", "How long each of them may take").ours("5secs"),
    row(
        "container_logger",
        "Who takes standard output and error: sandbox (the container writes files), rotating or Mesos's module \
         org_apache_mesos_LogrotateContainerLogger, journald, external, none",
    ),
    row("secret_resolver", "The module that looks secrets up").not_built(),
    row("resource_estimator", "The module that estimates what may be oversubscribed").not_built(),
    row("qos_controller", "The module that corrects oversubscribed containers").not_built(),
    row("qos_correction_interval_min", "The least time between two corrections").both("0ns").not_built(),
    row("oversubscribed_resources_interval", "How often oversubscribed resources are reported")
        .both("15secs")
        .not_built(),
];

pub(super) const MASTER: &[Row] = &[
    row(
        "local_master",
        "Serve schedulers of this node on IP:PORT (IP alone: 5050; PORT alone: 127.0.0.1), with no cluster",
    )
    .of(Text),
    row("allocation_interval", "How often the local master offers what is free").of(Duration).both("1secs"),
    row("offer_timeout", "How long an offer of the local master stands; otherwise until it is answered")
        .of(Duration),
];

pub(super) const CLUSTER: &[Row] = &[
    row("master", "The Mesos master to register with").of(Text).not_built(),
    row("master_detector", "The module that finds the master").of(Text).not_built(),
    row("zk_session_timeout", "The session timeout with ZooKeeper").of(Duration).both("10secs").not_built(),
    row(
        "resources",
        "The agent's resources, as 'name(role):value;...' or JSON; what is not named is detected",
    ),
    row("default_role", "The role of resources that name none").both("*"),
    row("attributes", "Attributes of this agent, as 'name:value;...'").of(Text).not_built(),
    row("hostname", "The name that the agent reports; otherwise the host's").of(Text).not_built(),
    row("hostname_lookup", "Whether the name is resolved first").of(Bool).both("true").not_built(),
    row("domain", "The fault domain of this agent").of(Json).not_built(),
    row("agent_features", "Features that the agent says it has").of(Json).not_built(),
    row("ip", "The address to serve on over TCP; needs --authenticate_http_readwrite").of(Text),
    row("ip_discovery_command", "A command that prints the address").of(Path).not_built(),
    row("port", "The port to serve on over TCP; 5051 with --ip alone, and without --ip on 127.0.0.1")
        .of(Integer)
        .mesos("5051"),
    row("advertise_ip", "The address that others are told").of(Text).not_built(),
    row("advertise_port", "The port that others are told").of(Integer).not_built(),
    row("registration_backoff_factor", "The base of the pauses between registrations")
        .of(Duration)
        .both("1secs")
        .not_built(),
    row("credential", "The file with the agent's credential for the master").of(Path).secret().not_built(),
    row("authenticatee", "How the agent authenticates with the master").of(Text).both("crammd5").not_built(),
    row("authentication_backoff_factor", "The base of the pauses between authentications")
        .of(Duration)
        .both("1secs")
        .not_built(),
    row("authentication_timeout_min", "The least time for an authentication")
        .of(Duration)
        .both("5secs")
        .not_built(),
    row("authentication_timeout_max", "The most time for an authentication")
        .of(Duration)
        .both("1mins")
        .not_built(),
    row("http_authenticators", "How clients that come over TCP authenticate")
        .of(Text)
        .both("basic")
        .one_of(&["basic"]),
    row(
        "http_credentials",
        "Who may authenticate, as JSON or its file: {\"credentials\":[{\"principal\":...,\"secret\":...}]}",
    )
    .of(Json)
    .secret(),
    row("authenticate_http_readonly", "Ask who comes over TCP who they are, for the endpoints that read")
        .of(Bool)
        .both("false"),
    row(
        "authenticate_http_readwrite",
        "Ask who comes over TCP who they are, for the API; TCP is not served without, but by an explicit 'false'",
    )
    .of(Bool)
    .both("false"),
    row("authenticate_http_executors", "Ask executors of frameworks for the token that they were given").both("false"),
    row("jwt_secret_key", "The file with the key of executors' tokens").secret(),
    row("acls", "Who may do what, as JSON or its file").of(Json).not_built(),
    row("authorizers", "Which authorizer decides").of(Text).both("local").not_built(),
    row("firewall_rules", "Endpoints that are closed").of(Json).not_built(),
];
