// SPDX-License-Identifier: Apache-2.0
//! What the flags say about fetching.

use std::path::PathBuf;
use std::time::Duration;

use berth_mesos::fetcher::{Config, Local, Net, Proxies};
use berth_model::Bytes;

use crate::flags::Flags;

/// A flag of the fetcher that can not be read.
#[derive(Debug, thiserror::Error)]
#[error("--{flag}: {why}")]
pub(crate) struct Wrong {
    flag: &'static str,
    why: String,
}

/// The fetcher's configuration. Nothing is made.
pub(crate) fn config(flags: &Flags) -> Result<Config, Wrong> {
    let text = |name: &str| flags.loaded.get(name).filter(|text| !text.is_empty());
    let path = |name: &str| text(name).map(PathBuf::from);
    let dir = path("fetcher_cache_dir").unwrap_or_else(|| flags.work_dir.join("fetch"));
    let mut config = Config::new(dir);
    if let Some(size) = text("fetcher_cache_size") {
        let bytes = size.parse::<Bytes>().map_err(|error| wrong("fetcher_cache_size", &error))?;
        config.cache_size = bytes.0;
    }
    if let Some(time) = text("fetcher_stall_timeout") {
        config.stall_timeout = stall(time)?;
    }
    config.frameworks_home = path("frameworks_home");
    config.hadoop_home = path("hadoop_home");
    config.certificates = path("fetcher_certificates");
    config.egress.allow = networks("fetcher_allow", text("fetcher_allow"))?;
    config.egress.deny = networks("fetcher_deny", text("fetcher_deny"))?;
    if !flags.loaded.flag("fetcher_local_files", true) {
        config.local = Local::Never;
    }
    config.proxies = Proxies::from_environment();
    Ok(config)
}

fn stall(text: &str) -> Result<Duration, Wrong> {
    let flag = "fetcher_stall_timeout";
    let time = berth_model::parse_duration(text).map_err(|error| wrong(flag, &error))?;
    match time.is_zero() {
        true => Err(wrong(flag, &"it must be more than nothing: give a time such as 1mins")),
        false => Ok(time),
    }
}

fn networks(flag: &'static str, text: Option<&str>) -> Result<Vec<Net>, Wrong> {
    let all = text.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|net| !net.is_empty());
    all.map(|net| net.parse().map_err(|error| wrong(flag, &error))).collect()
}

fn wrong(flag: &'static str, why: &dyn std::fmt::Display) -> Wrong {
    Wrong { flag, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    fn read(flags: &[&str]) -> Result<Config, Wrong> {
        let loaded = Loaded::read(flags.iter().map(|flag| (*flag).to_owned()), []).unwrap();
        config(&Flags::from(loaded))
    }

    #[test]
    fn what_was_given_is_in_the_configuration_and_all_else_is_as_in_mesos() {
        let plain = read(&["--work_dir=/w"]).unwrap();
        assert_eq!(plain.cache_dir, PathBuf::from("/w/fetch"));
        assert_eq!((plain.cache_size, plain.stall_timeout), (2 << 30, Duration::from_secs(60)));
        assert_eq!((plain.local, plain.frameworks_home), (Local::Readable, None));
        let given = read(&[
            "--fetcher_cache_dir=/c",
            "--fetcher_cache_size=10MB",
            "--fetcher_stall_timeout=5secs",
            "--frameworks_home=/srv/fw",
            "--hadoop_home=/opt/hadoop",
            "--fetcher_deny=10.0.0.0/8,fd00::/8",
            "--fetcher_allow=169.254.169.254",
            "--no-fetcher_local_files",
        ])
        .unwrap();
        assert_eq!((given.cache_dir, given.cache_size), (PathBuf::from("/c"), 10 << 20));
        assert_eq!(given.stall_timeout, Duration::from_secs(5));
        assert_eq!(given.frameworks_home, Some(PathBuf::from("/srv/fw")));
        assert_eq!(given.hadoop_home, Some(PathBuf::from("/opt/hadoop")));
        assert_eq!((given.egress.deny.len(), given.egress.allow.len()), (2, 1));
        assert_eq!(given.local, Local::Never);
    }

    #[test]
    fn a_network_or_a_time_that_is_none_is_refused_by_the_name_of_its_flag() {
        let text = read(&["--fetcher_deny=10.0.0.0/33"]).unwrap_err().to_string();
        assert!(text.starts_with("--fetcher_deny: \"10.0.0.0/33\" is not a network"), "{text}");
        let text = read(&["--fetcher_stall_timeout=0secs"]).unwrap_err().to_string();
        assert!(text.starts_with("--fetcher_stall_timeout: it must be more"), "{text}");
    }
}
