// SPDX-License-Identifier: Apache-2.0
//! The configuration of an image: what its layers hold, and how its maker wants it to run.

use std::collections::BTreeMap;

use berth_model::image::{Digest, Platform};
use serde::{Deserialize, Deserializer, Serialize};

/// An image's configuration. Fields that we have no use for are left away, and do no harm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// What it was made for, if it says.
    pub platform: Option<Platform>,
    /// When, as it says.
    pub created: Option<String>,
    /// The digests of the tars in its layers, the lowest first. Empty in Docker's first schema.
    pub contents: Vec<Digest>,
    /// How to run it.
    pub runtime: RuntimeConfig,
}

/// How an image's maker wants it to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RuntimeConfig {
    /// `name`, `uid`, `name:group`, …: looked up in the image.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments, or the program where there is no entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Where it runs.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Places for data that outlives the writable layer.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// `80/tcp`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `SIGTERM`, `15`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Kept apart from labels of ours.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What maps that are sets have as values: nothing that matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Empty, D::Error> {
        serde::de::IgnoredAny::deserialize(from).map(|_| Empty {})
    }
}

/// Docker writes null for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, deserialize_with = "or_default")]
    os: String,
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RuntimeConfig>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, for people; it follows "is refused:".
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, String> {
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no configuration: {error}"))?;
        let named = !raw.os.is_empty() && !raw.architecture.is_empty();
        let platform = named.then(|| Platform::new(&raw.os, &raw.architecture, raw.variant.as_deref()));
        let mut runtime = raw.config.unwrap_or_default();
        // Absent and empty are the same to Docker.
        runtime.entrypoint = runtime.entrypoint.filter(|words| !words.is_empty());
        runtime.cmd = runtime.cmd.filter(|words| !words.is_empty());
        let contents = raw.rootfs.map(|rootfs| rootfs.diff_ids).unwrap_or_default();
        Ok(ImageConfig { platform, created: raw.created, contents, runtime })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_do_no_harm() {
        let config = ImageConfig::parse(
            br#"{"os":"linux","architecture":"amd64","config":{"Env":null,"Cmd":null,"Entrypoint":[],
                "Volumes":{"/data":{}},"User":"1000:0","OnBuild":null,"Healthcheck":{"Test":["NONE"]}},"rootfs":{"type":"layers",
                "diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]},"history":[]}"#,
        )
        .unwrap();
        assert_eq!(config.platform.unwrap().to_string(), "linux/amd64");
        assert_eq!((config.runtime.entrypoint, config.runtime.cmd), (None, None));
        assert_eq!(config.runtime.volumes.keys().collect::<Vec<_>>(), ["/data"]);
        assert_eq!(config.contents.len(), 1);
        assert_eq!(ImageConfig::parse(b"{}").unwrap(), ImageConfig::default());
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for bad in [&b""[..], b"[]", b"{\"rootfs\":{\"diff_ids\":[\"x\"]}}", b"{\"config\":{\"Env\":1}}"] {
            ImageConfig::parse(bad).unwrap_err();
        }
    }
}
