// SPDX-License-Identifier: Apache-2.0
//! What the flags say about images.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_mesos::Provision;
use berth_mesos::images::{Images, Settings};

use crate::create::{ImageKind, Native};
use crate::flags::Flags;
use crate::load::parse_bool;

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
    // Nobody is asked anything: registries.toml and credentials are read, so that what is wrong with them is said now.
    let client = Images::new(settings(flags)?).client();
    client.map(drop).map_err(|error| Wrong::Registries(error.to_string()))
}

/// Which images containers may have; none where no kind of them is provided.
pub(crate) fn provision(flags: &Flags, native: &Native) -> Result<Option<Provision>, Wrong> {
    if native.images.is_empty() {
        return Ok(None);
    }
    let ignore = flags.loaded.get("docker_ignore_runtime").is_some_and(|text| parse_bool(text) == Some(true));
    Ok(Some(Provision {
        images: Arc::new(Images::new(settings(flags)?)),
        docker: native.images.contains(&ImageKind::Docker),
        oci: native.images.contains(&ImageKind::Oci),
        ignore_runtime: ignore,
    }))
}

fn settings(flags: &Flags) -> Result<Settings, Wrong> {
    let text = |name: &str| flags.loaded.get(name).map(str::to_owned);
    let store = text("docker_store_dir").map_or_else(|| flags.work_dir.join("store"), PathBuf::from);
    let own = Settings::new(store);
    Ok(Settings {
        registries: flags.config_dir.clone(),
        docker_registry: text("docker_registry"),
        docker_config: text("docker_config"),
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
