// SPDX-License-Identifier: Apache-2.0
//! What the operator chose.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// What the Docker containerizer has to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--docker_socket`.
    pub socket: PathBuf,
    /// `--docker`: the client that connects to the socket; none: it is opened.
    pub client: Option<PathBuf>,
    /// `--runtime_dir`: records are kept in `docker/` below it.
    pub runtime_dir: PathBuf,
    /// `--work_dir`: written on every container, which is how the next agent knows its own.
    pub work_dir: PathBuf,
    /// `--sandbox_directory`: where containers find their sandbox.
    pub sandbox_directory: String,
    /// `--docker_remove_delay`: how long the engine keeps a container that has ended.
    pub remove_delay: Duration,
    /// `--docker_stop_timeout`: how long a container may take to heed SIGTERM.
    pub stop_timeout: Duration,
    /// `--docker_kill_orphans`: whether containers of ours that nobody knows are ended at recovery.
    pub kill_orphans: bool,
    /// `--cgroups_enable_cfs`: whether a request for processors is a limit, too.
    pub enable_cfs: bool,
    /// `--docker_config`: credentials for registries, the JSON of docker's own configuration.
    pub docker_config: Option<String>,
    /// `--default_container_dns`: the entries of `docker`.
    pub default_dns: Vec<DefaultDns>,
    /// How URIs are brought.
    pub fetcher: Option<berth_fetcher::Config>,
    /// How long the engine may take.
    pub deadlines: Deadlines,
}

impl Settings {
    /// The defaults of the flags.
    pub fn new(runtime_dir: PathBuf, work_dir: PathBuf) -> Settings {
        Settings {
            socket: PathBuf::from("/var/run/docker.sock"),
            client: None,
            runtime_dir,
            work_dir,
            sandbox_directory: "/mnt/mesos/sandbox".to_owned(),
            remove_delay: Duration::from_secs(6 * 3600),
            stop_timeout: Duration::ZERO,
            kill_orphans: true,
            enable_cfs: false,
            docker_config: None,
            default_dns: Vec::new(),
            fetcher: None,
            deadlines: Deadlines::default(),
        }
    }
}

/// Name servers for containers of one kind of network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DefaultDns {
    /// `BRIDGE` or `USER`.
    pub network_mode: DnsNetwork,
    /// The one network that it is for; none: all of the kind.
    #[serde(default)]
    pub network_name: Option<String>,
    /// What they get.
    pub dns: Dns,
}

/// The networks whose containers may have name servers of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DnsNetwork {
    /// The engine's own bridge.
    Bridge,
    /// Networks that were made.
    User,
}

/// Name servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Dns {
    /// Their addresses.
    #[serde(default)]
    pub nameservers: Vec<String>,
    /// Domains to look in.
    #[serde(default)]
    pub search: Vec<String>,
    /// As in resolv.conf(5).
    #[serde(default)]
    pub options: Vec<String>,
}

/// How long the engine may take for each question, and what follows when it does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Of questions that change nothing.
    pub ask: Duration,
    /// Of making a container.
    pub create: Duration,
    /// Of letting it run.
    pub start: Duration,
    /// Of ending one; then it is ended without the engine.
    pub kill: Duration,
    /// Of taking one away.
    pub remove: Duration,
    /// Of a pull without a byte.
    pub stall: Duration,
    /// How long recovery waits for an engine that does not answer; it goes on when that does.
    pub recover: Duration,
    /// How long the engine is waited for to say how a container ended whose process has; then the kernel's word is taken.
    pub late: Duration,
    /// How long what a container wrote last is waited for.
    pub output: Duration,
    /// How long to wait before an engine is asked again that did not answer.
    pub again: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            ask: Duration::from_secs(10),
            create: Duration::from_secs(60),
            start: Duration::from_secs(60),
            kill: Duration::from_secs(5),
            remove: Duration::from_secs(60),
            stall: Duration::from_secs(300),
            recover: Duration::from_secs(10),
            late: Duration::from_secs(3),
            output: Duration::from_secs(5),
            again: Duration::from_millis(500),
        }
    }
}
