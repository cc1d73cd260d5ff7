// SPDX-License-Identifier: Apache-2.0
//! What the flags say about images.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_mesos::Provision;
use berth_mesos::images::{AppcPrefix, Backend, Collecting, Images, Settings, Watermarks};
use berth_model::Image;

use crate::create::{ImageKind, Native};
use crate::flags::Flags;

/// Why there can be no images as the flags say.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    /// A flag that can not be read.
    #[error("--{flag}: {why}")]
    Flag {
        /// Its name.
        flag: &'static str,
        /// What is wrong.
        why: String,
    },
    /// What the operator says of registries and credentials.
    #[error("{0}")]
    Registries(String),
}

/// What can be refused for the flags alone.
pub(crate) fn check(flags: &Flags) -> Result<(), Wrong> {
    let registry = flags.loaded.get("docker_registry").unwrap_or_default();
    if registry.starts_with("hdfs:") {
        let why = "hdfs is not built into this version: name a registry, or a directory of archives";
        return Err(Wrong::Flag { flag: "docker_registry", why: why.to_owned() });
    }
    collecting(flags)?;
    backend(flags)?;
    let settings = settings(flags)?;
    // Mesos has a store for each kind of images, and this one store for all: what is given must be that.
    if let Some(given) = flags.loaded.get("appc_store_dir").filter(|given| settings.store != Path::new(given))
    {
        let store = settings.store.display();
        let why =
            format!("Appc images are kept with all others in {store}, and not in {given}: leave it away");
        return Err(Wrong::Flag { flag: "appc_store_dir", why });
    }
    // Nobody is asked anything: registries.toml and credentials are read, so that what is wrong with them is said now.
    let client = Images::new(settings).client();
    client.map(drop).map_err(|error| Wrong::Registries(error.to_string()))
}

/// Which images containers may have; none where no kind of them is provided.
pub(crate) fn provision(flags: &Flags, native: &Native) -> Result<Option<Provision>, Wrong> {
    if native.images.is_empty() {
        return Ok(None);
    }
    Ok(Some(Provision {
        images: Arc::new(Images::new(settings(flags)?)),
        docker: native.images.contains(&ImageKind::Docker),
        oci: native.images.contains(&ImageKind::Oci),
        appc: native.images.contains(&ImageKind::Appc),
        appc_runtime: native.isolation.names.iter().any(|name| name == "appc/runtime"),
        ignore_runtime: flags.loaded.flag("docker_ignore_runtime", false),
        backend: backend(flags)?,
        collecting: collecting(flags)?,
    }))
}

fn backend(flags: &Flags) -> Result<Backend, Wrong> {
    let Some(name) = &flags.image_provisioner_backend else { return Ok(Backend::default()) };
    name.parse().map_err(|error| wrong("image_provisioner_backend", &error))
}

/// `--image_gc_config`: Mesos's `ImageGcConfig`. It begins when less than the headroom is free, as there; and ends once
/// that half as much again is, so that it does not have to begin anew at once.
fn collecting(flags: &Flags) -> Result<Option<Collecting>, Wrong> {
    const FLAG: &str = "image_gc_config";
    let Some(text) = flags.loaded.get(FLAG) else { return Ok(None) };
    let config: GcConfig = serde_json::from_str(text).map_err(|error| wrong(FLAG, &error))?;
    let headroom = config.image_disk_headroom;
    if !(0.0..=1.0).contains(&headroom) {
        let why = format!("image_disk_headroom is {headroom}: give a part of the disk from 0 to 1");
        return Err(Wrong::Flag { flag: FLAG, why });
    }
    let every = Duration::from_nanos(config.image_disk_watch_interval.nanoseconds);
    if every.is_zero() {
        let why = "image_disk_watch_interval is 0: give nanoseconds, such as 3600000000000 for an hour";
        return Err(Wrong::Flag { flag: FLAG, why: why.to_owned() });
    }
    let names = config.excluded_images.iter().map(Provision::key_of);
    let excluded = names.collect::<Result<_, _>>().map_err(|error| wrong(FLAG, &error))?;
    let marks = Watermarks { high: 1.0 - headroom, low: (1.0 - headroom * 1.5).max(0.0), excluded };
    Ok(Some(Collecting { marks, every }))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GcConfig {
    image_disk_headroom: f64,
    image_disk_watch_interval: Interval,
    excluded_images: Vec<Image>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Interval {
    nanoseconds: u64,
}

impl Default for GcConfig {
    fn default() -> GcConfig {
        let hour = Interval { nanoseconds: 3_600_000_000_000 };
        GcConfig { image_disk_headroom: 0.1, image_disk_watch_interval: hour, excluded_images: Vec::new() }
    }
}

fn settings(flags: &Flags) -> Result<Settings, Wrong> {
    let text = |name: &str| flags.loaded.get(name).map(str::to_owned);
    let store = text("docker_store_dir").map_or_else(|| flags.work_dir.join("store"), PathBuf::from);
    let own = Settings::new(store);
    Ok(Settings {
        registries: flags.config_dir.clone(),
        docker_registry: text("docker_registry"),
        docker_config: text("docker_config"),
        appc: match text("appc_simple_discovery_uri_prefix") {
            Some(prefix) => prefix.parse().map_err(|e| wrong("appc_simple_discovery_uri_prefix", &e))?,
            None => AppcPrefix::default(),
        },
        stall: text("fetcher_stall_timeout").map(|text| stall(&text)).transpose()?,
        ..own
    })
}

fn stall(text: &str) -> Result<Duration, Wrong> {
    berth_model::parse_duration(text).map_err(|error| wrong("fetcher_stall_timeout", &error))
}

fn wrong(flag: &'static str, why: &dyn std::fmt::Display) -> Wrong {
    Wrong::Flag { flag, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Loaded;

    fn read(argument: &str) -> Result<Option<Collecting>, Wrong> {
        let flags = Flags::from(Loaded::read([argument.to_owned()], []).unwrap());
        check(&flags)?;
        collecting(&flags)
    }

    #[test]
    fn collecting_is_configured_as_with_mesos() {
        assert!(collecting(&Flags::default()).unwrap().is_none());
        let own = read(
            r#"--image_gc_config={"image_disk_headroom":0.2,"image_disk_watch_interval":{"nanoseconds":5000000000},
            "excluded_images":[{"type":"DOCKER","docker":{"name":"busybox"}},{"type":"OCI","oci":{"reference":"debian:12"}}]}"#,
        );
        let own = own.unwrap().unwrap();
        assert_eq!((own.marks.high, own.every), (0.8, Duration::from_secs(5)));
        assert!((own.marks.low - 0.7).abs() < 1e-9);
        assert_eq!(own.marks.excluded, ["busybox", "debian:12"]);
        let plain = read("--image_gc_config={}").unwrap().unwrap();
        assert_eq!((plain.marks.high, plain.every), (0.9, Duration::from_secs(3600)));
    }

    #[test]
    fn where_appc_images_are_looked_for_and_kept_is_checked_before_anything_is_made() {
        let checked = |given: &[&str]| {
            let given = given.iter().map(|text| (*text).to_owned());
            check(&Flags::from(Loaded::read(given, []).unwrap())).map_err(|error| error.to_string())
        };
        for good in ["http://", "https://aci.example/", "/srv/aci/"] {
            checked(&[&format!("--appc_simple_discovery_uri_prefix={good}")]).unwrap();
        }
        for bad in ["ftp://x/", "aci.example/", "hdfs://x/", "http://user@x/", "http:///"] {
            let error = checked(&[&format!("--appc_simple_discovery_uri_prefix={bad}")]).unwrap_err();
            assert!(error.contains("Invalid simple discovery uri prefix: "), "{error}");
        }
        checked(&["--work_dir=/w", "--appc_store_dir=/w/store"]).unwrap();
        let error = checked(&["--work_dir=/w", "--appc_store_dir=/tmp/mesos/store/appc"]).unwrap_err();
        assert!(error.contains("--appc_store_dir") && error.contains("/w/store"), "{error}");
    }

    #[test]
    fn what_collecting_can_not_mean_is_refused() {
        for (bad, word) in [
            (r#"{"image_disk_headroom":1.5}"#, "from 0 to 1"),
            (r#"{"image_disk_watch_interval":{"nanoseconds":0}}"#, "for an hour"),
            (r#"{"image_disk_headrom":0.1}"#, "image_disk_headrom"),
            (r#"{"excluded_images":[{"type":"DOCKER","docker":{"name":"No"}}]}"#, "No"),
            (r#"{"excluded_images":[{"type":"APPC"}]}"#, "APPC"),
        ] {
            let error = read(&format!("--image_gc_config={bad}")).unwrap_err().to_string();
            assert!(error.contains("--image_gc_config") && error.contains(word), "{error}");
        }
    }
}
