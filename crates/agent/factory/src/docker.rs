// SPDX-License-Identifier: Apache-2.0
//! What the flags say of the Docker containerizer.

use std::path::PathBuf;
use std::time::Duration;

use berth_docker::{DefaultDns, DnsNetwork, Settings};

use crate::flags::Flags;

/// Flags of the native containerizer that are honoured by this one alone: who lists both means this one.
pub(crate) const HONOURED: &[&str] = &["default_container_dns", "sandbox_directory"];

/// A flag of the Docker containerizer that can not be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    /// Not an absolute path, in Mesos's words.
    #[error("Invalid Docker socket path: {0}")]
    Socket(String),
    /// Where containers find their sandbox.
    #[error("--sandbox_directory={0} must be an absolute path")]
    SandboxDirectory(String),
    /// No name servers.
    #[error("--default_container_dns: {0}")]
    Dns(String),
    /// Of the fetcher.
    #[error(transparent)]
    Fetcher(#[from] crate::fetcher::Wrong),
}

/// Its settings. Nothing is made.
pub(crate) fn settings(flags: &Flags) -> Result<Settings, Wrong> {
    let text = |name: &str| flags.loaded.get(name).filter(|text| !text.is_empty());
    let mut settings = Settings::new(flags.runtime_dir.clone(), flags.work_dir.clone());
    if let Some(socket) = text("docker_socket") {
        if !socket.starts_with('/') {
            return Err(Wrong::Socket(socket.to_owned()));
        }
        settings.socket = PathBuf::from(socket);
    }
    // The name alone is the default, and means that no client is needed.
    settings.client = text("docker").filter(|program| *program != "docker").map(PathBuf::from);
    if let Some(directory) = text("sandbox_directory") {
        if !directory.starts_with('/') {
            return Err(Wrong::SandboxDirectory(directory.to_owned()));
        }
        settings.sandbox_directory = directory.to_owned();
    }
    // Checked when the flags were loaded.
    let time = |name: &str, default: Duration| {
        text(name).and_then(|text| berth_model::parse_duration(text).ok()).unwrap_or(default)
    };
    settings.remove_delay = time("docker_remove_delay", settings.remove_delay);
    settings.stop_timeout = time("docker_stop_timeout", settings.stop_timeout);
    settings.kill_orphans = flags.loaded.flag("docker_kill_orphans", settings.kill_orphans);
    settings.enable_cfs = flags.loaded.flag("cgroups_enable_cfs", false);
    settings.docker_config = text("docker_config").map(str::to_owned);
    settings.default_dns = dns(text("default_container_dns"))?;
    let mut fetcher = crate::fetcher::config(flags)?;
    // Each containerizer's cache is emptied when it begins.
    let name =
        fetcher.cache_dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    fetcher.cache_dir.set_file_name(format!("{name}-docker"));
    settings.fetcher = Some(fetcher);
    Ok(settings)
}

fn dns(text: Option<&str>) -> Result<Vec<DefaultDns>, Wrong> {
    #[derive(serde::Deserialize)]
    struct All {
        #[serde(default)]
        docker: Vec<DefaultDns>,
    }
    let Some(text) = text else { return Ok(Vec::new()) };
    let all: All = serde_json::from_str(text).map_err(|error| Wrong::Dns(error.to_string()))?;
    for (at, one) in all.docker.iter().enumerate() {
        let same = |other: &DefaultDns| {
            other.network_mode == one.network_mode && other.network_name == one.network_name
        };
        if all.docker[..at].iter().any(same) {
            let name = one.network_name.as_deref().unwrap_or("all");
            let mode = if one.network_mode == DnsNetwork::Bridge { "BRIDGE" } else { "USER" };
            return Err(Wrong::Dns(format!(
                "two entries for network mode {mode} and network {name}: keep one"
            )));
        }
    }
    Ok(all.docker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    fn read(flags: &[&str]) -> Result<Settings, Wrong> {
        settings(&Flags::from(Loaded::read(flags.iter().map(|flag| (*flag).to_owned()), []).unwrap()))
    }

    #[test]
    fn what_was_given_is_in_the_settings_and_all_else_is_as_in_mesos() {
        let plain = read(&["--work_dir=/w"]).unwrap();
        assert_eq!(plain.socket, PathBuf::from("/var/run/docker.sock"));
        assert_eq!((plain.remove_delay, plain.stop_timeout), (Duration::from_secs(6 * 3600), Duration::ZERO));
        assert!(plain.kill_orphans && plain.sandbox_directory == "/mnt/mesos/sandbox");
        assert_eq!(plain.fetcher.unwrap().cache_dir, PathBuf::from("/w/fetch-docker"));
        let given = read(&[
            "--docker_socket=/d.sock",
            "--docker_remove_delay=1mins",
            "--docker_stop_timeout=2secs",
            "--no-docker_kill_orphans",
            "--sandbox_directory=/s",
            "--cgroups_enable_cfs",
            r#"--default_container_dns={"docker": [{"network_mode": "BRIDGE", "dns": {"nameservers": ["10.0.0.1"]}}]}"#,
        ])
        .unwrap();
        assert_eq!(given.remove_delay, Duration::from_secs(60));
        assert_eq!((given.stop_timeout, given.kill_orphans), (Duration::from_secs(2), false));
        assert_eq!((given.default_dns.len(), given.enable_cfs), (1, true));
    }

    #[test]
    fn what_can_not_be_is_refused_by_the_name_of_its_flag() {
        let refused = |flag: &str| read(&[flag]).unwrap_err().to_string();
        let client = |flag: &str| read(&[flag]).unwrap().client;
        assert_eq!(client("--docker=docker"), None);
        assert_eq!(client("--docker=/usr/bin/docker"), Some(PathBuf::from("/usr/bin/docker")));
        assert_eq!(refused("--docker_socket=d.sock"), "Invalid Docker socket path: d.sock");
        assert!(refused("--sandbox_directory=s").starts_with("--sandbox_directory=s"));
        let host = r#"--default_container_dns={"docker": [{"network_mode": "HOST", "dns": {}}]}"#;
        assert!(refused(host).contains("HOST"), "{}", refused(host));
        let two = r#"--default_container_dns={"docker": [{"network_mode": "USER", "dns": {}}, {"network_mode": "USER", "dns": {}}]}"#;
        assert!(refused(two).contains("two entries"));
    }
}
