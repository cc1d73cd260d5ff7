// SPDX-License-Identifier: Apache-2.0
//! What an operator decides about fetching.

use std::path::PathBuf;
use std::time::Duration;

use crate::egress::Egress;
use crate::wire::{Clients, Limits, Proxies};
use crate::worker::Program;

/// Whether URIs may name files of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Local {
    /// Those that the container's user may read, as in Mesos.
    #[default]
    Readable,
    /// None.
    Never,
}

/// How to fetch.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--fetcher_cache_dir`.
    pub cache_dir: PathBuf,
    /// `--fetcher_cache_size` in bytes; 0 keeps nothing.
    pub cache_size: u64,
    /// `--fetcher_stall_timeout`: less than one byte a second for this long ends a download.
    pub stall_timeout: Duration,
    /// `--frameworks_home`: what a relative path is relative to.
    pub frameworks_home: Option<PathBuf>,
    /// `--hadoop_home`; without it `HADOOP_HOME`, and then the PATH.
    pub hadoop_home: Option<PathBuf>,
    /// Where outside programs are looked for, in place of the agent's PATH.
    pub client_path: Option<String>,
    /// Environment variables of the agent, beside the usual ones, that outside programs get. Whatever is in them can be
    /// read by tasks of the same user.
    pub client_environment: Vec<String>,
    /// Which addresses are spoken to.
    pub egress: Egress,
    /// Proxies.
    pub proxies: Proxies,
    /// A file of certificates to trust instead of the host's.
    pub certificates: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
    /// Whether URIs may name files of this host.
    pub local: Local,
    /// Files of the cache above this size are linked into sandboxes of unprivileged users, where blocks can not be shared:
    /// such a file can not be written, only replaced. `None`: every container gets a copy of its own.
    pub share_above: Option<u64>,
    /// What children execute.
    pub program: Program,
}

impl Config {
    /// Mesos's defaults with a cache at `cache_dir`: 2 GB, a minute of stall; links for files above 16 MiB.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Config {
        Config {
            cache_dir: cache_dir.into(),
            cache_size: 2 << 30,
            stall_timeout: Duration::from_secs(60),
            frameworks_home: None,
            hadoop_home: None,
            client_path: None,
            client_environment: Vec::new(),
            egress: Egress::default(),
            proxies: Proxies::default(),
            certificates: None,
            limits: Limits::default(),
            local: Local::default(),
            share_above: Some(16 << 20),
            program: Program::default(),
        }
    }

    pub(crate) fn clients(&self) -> Clients {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = self.hadoop_home.clone().or_else(|| variable("HADOOP_HOME").map(PathBuf::from));
        let path = self.client_path.clone().or_else(|| variable("PATH"));
        let path = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let find = |name: &str| {
            std::env::split_paths(&path)
                .filter(|dir| dir.is_absolute())
                .map(|dir| dir.join(name))
                .find(|file| file.is_file())
        };
        let hadoop = home
            .as_ref()
            .map(|home| home.join("bin/hadoop"))
            .filter(|file| file.is_file())
            .or_else(|| find("hadoop"));
        let mut environment = vec![("PATH".to_owned(), path.clone())];
        for (name, value) in std::env::vars() {
            let usual = matches!(name.as_str(), "HOME" | "LANG" | "JAVA_HOME") || name.starts_with("HADOOP_");
            if (usual && name != "HADOOP_HOME") || self.client_environment.contains(&name) {
                environment.push((name, value));
            }
        }
        if let Some(home) = home {
            environment.push(("HADOOP_HOME".to_owned(), home.to_string_lossy().into_owned()));
        }
        Clients { hadoop, aws: find("aws"), environment, staging: None }
    }
}

impl Proxies {
    /// Those of the environment, by curl's names: `http_proxy` (only in small letters), `https_proxy`, `all_proxy`,
    /// `no_proxy`.
    pub fn from_environment() -> Proxies {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let either = |name: &str| get(name).or_else(|| get(&name.to_ascii_uppercase()));
        let all = either("all_proxy");
        Proxies {
            http: get("http_proxy").or_else(|| all.clone()),
            https: either("https_proxy").or(all),
            except: either("no_proxy"),
        }
    }
}
