// SPDX-License-Identifier: Apache-2.0
//! What the store remembers, in records that people can read.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use berth_image::Top;
use berth_model::image::Digest;
use berth_record::Versioned;
use serde::{Deserialize, Serialize};

/// Bytes of a record. An image has at most 500 layers.
pub(crate) const CAP: usize = 4 << 20;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A name of an image, in `images/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// As it was asked for: `registry.example/library/debian:12`, `oci:/srv/layout:tag`.
    pub name: String,
    /// What it stands for.
    pub manifest: Digest,
    /// Where it came from.
    pub source: String,
    /// When.
    pub pulled: u64,
}

impl Versioned for Named {
    const KIND: &'static str = "image-name";
    const VERSION: u32 = 1;
}

/// An image, in `manifests/`: which layers make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its manifest, in `blobs/`.
    pub manifest: Digest,
    /// Its configuration, in `blobs/`.
    pub config: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerUse>,
    /// Mode and owner of its root directory.
    pub top: RootMode,
}

impl Versioned for Image {
    const KIND: &'static str = "image";
    const VERSION: u32 = 1;
}

impl Image {
    /// Bytes of the tars in its layers.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.content_size).sum()
    }
}

/// A layer, as an image has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerUse {
    /// Its name in `layers/`: the digest of its content, or where it depends on what is below it, of the chain.
    pub key: Digest,
    /// The digest of the tar in it.
    pub content: Digest,
    /// The digest of the blob that it came in.
    pub blob: Digest,
    /// Bytes of that blob.
    pub blob_size: u64,
    /// Bytes of the tar.
    pub content_size: u64,
    /// Whether it hides all that is below: those layers are not mounted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hides_all: bool,
}

/// Mode and owner of a root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootMode {
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl From<Top> for RootMode {
    fn from(top: Top) -> RootMode {
        RootMode { mode: top.mode, uid: top.uid, gid: top.gid }
    }
}

impl Default for RootMode {
    fn default() -> RootMode {
        RootMode { mode: 0o755, uid: 0, gid: 0 }
    }
}

/// A layer, beside its tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    #[serde(flatten)]
    pub(crate) layer: LayerUse,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) top: Option<RootMode>,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) skipped_devices: u64,
    pub(crate) dropped_xattrs: u64,
    /// The boot in which it was written, as long as nobody has made sure that it is on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unsynced_since_boot: Option<String>,
}

impl Versioned for LayerRecord {
    const KIND: &'static str = "layer";
    const VERSION: u32 = 1;
}

/// What a container holds, in `leases/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who.
    pub holder: String,
    /// Since when.
    pub since: u64,
    /// Images: a container may have several, for its volumes.
    pub images: Vec<Image>,
}

impl Versioned for Lease {
    const KIND: &'static str = "image-lease";
    const VERSION: u32 = 1;
}

/// What a pull relies on, in its staging directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Relied {
    pub(crate) name: String,
    pub(crate) layers: BTreeSet<Digest>,
    pub(crate) blobs: BTreeSet<Digest>,
}

impl Versioned for Relied {
    const KIND: &'static str = "image-pull";
    const VERSION: u32 = 1;
}

/// The store itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Whole {
    /// The boot in which it was last looked through.
    pub(crate) boot: String,
}

impl Versioned for Whole {
    const KIND: &'static str = "image-store";
    const VERSION: u32 = 1;
}
