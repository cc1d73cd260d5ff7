// SPDX-License-Identifier: Apache-2.0
//! Manifests and indexes: Docker's second schema, OCI's, and Docker's first.
//!
//! One document must mean one thing to everybody (CVE-2021-41190): what it is comes from its `mediaType`, which has
//! to agree with what the registry said; without either, from its fields; and one that has the fields of two kinds is
//! refused whatever it calls itself. A key given twice is refused too.

use berth_model::image::{Algorithm, Digest, Platform};
use serde::Deserialize;

use crate::config::ImageConfig;
use crate::hash::digest_of;
use crate::source::Descriptor;

/// OCI's index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI's manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI's image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker's index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest, second schema.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's manifest, first schema.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// The same with signatures.
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// Docker's plain layer.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// An App Container image as a layer: an archive with a tree and a manifest beside it. The name is ours: no registry
/// has one for it, and one of tars would have two readers see two images in one manifest.
pub const ACI_LAYER: &str = "application/vnd.berth.aci.tar";

/// The most layers of an image: overlayfs stacks no more (`OVL_MAX_STACK`).
pub const LAYERS_MAX: usize = 500;

/// What a document turned out to be.
#[derive(Debug)]
pub enum Parsed {
    /// A choice of manifests.
    Index(Vec<Descriptor>),
    /// An image.
    Manifest(Manifest),
}

/// An image.
#[derive(Debug)]
pub struct Manifest {
    /// Its configuration.
    pub config: ConfigSource,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// Where an image's configuration is.
#[derive(Debug)]
pub enum ConfigSource {
    /// A blob.
    Blob(Descriptor),
    /// In the manifest itself, as in Docker's first schema, which knows no digests of what is in the layers. These
    /// are its bytes, for [`ImageConfig::parse`], which has read them once.
    Inline(Vec<u8>),
}

impl Manifest {
    /// The blobs that make the image.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let config = match &self.config {
            ConfigSource::Blob(config) => Some(config),
            ConfigSource::Inline(_) => None,
        };
        config.into_iter().chain(&self.layers)
    }
}

/// Whether a media type is that of a layer that can be unpacked.
pub fn is_layer(media_type: &str) -> bool {
    const LAYERS: &[&str] = &[
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        DOCKER_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ACI_LAYER,
    ];
    LAYERS.contains(&media_type)
}

/// The directory in a layer's archive that is the tree; nothing where the archive is the tree.
pub fn tree_of(media_type: &str) -> Option<&'static str> {
    (media_type == ACI_LAYER).then_some("rootfs")
}

/// What a layer's tree is known by, when it depends on nothing below it: the digest of its archive, and which part of
/// that is the tree.
pub fn tree_key(media_type: &str, content: &Digest) -> Digest {
    match tree_of(media_type) {
        None => *content,
        Some(tree) => digest_of(Algorithm::Sha256, format!("{tree} of {content}").as_bytes()),
    }
}

/// The fields of all kinds together, so that none can hide in a document of another kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    fs_layers: Option<Vec<FsLayer>>,
    history: Option<Vec<V1History>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: Digest,
    size: Option<i64>,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct FsLayer {
    #[serde(rename = "blobSum")]
    blob_sum: Digest,
}

#[derive(Deserialize)]
struct V1History {
    #[serde(rename = "v1Compatibility")]
    v1: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Index,
    Manifest,
    Schema1,
}

/// Reads a manifest or an index. `media_type` is what the source says, or what the index said that names it.
///
/// # Errors
/// What is wrong with it, for people; it follows "is refused:".
pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Parsed, String> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
    match kind(&raw, media_type)? {
        Kind::Index => {
            let all = raw.manifests.unwrap_or_default();
            all.into_iter().map(RawDescriptor::checked).collect::<Result<_, _>>().map(Parsed::Index)
        }
        Kind::Manifest => {
            let config = raw.config.ok_or("it names no configuration")?.checked()?;
            let layers = raw
                .layers
                .unwrap_or_default()
                .into_iter()
                .map(RawDescriptor::checked)
                .collect::<Result<Vec<_>, _>>()?;
            bounded(layers.len())?;
            Ok(Parsed::Manifest(Manifest { config: ConfigSource::Blob(config), layers }))
        }
        Kind::Schema1 => schema1(raw).map(Parsed::Manifest),
    }
}

fn kind(raw: &Raw, said: Option<&str>) -> Result<Kind, String> {
    let (index, schema1) = (raw.manifests.is_some(), raw.fs_layers.is_some());
    let manifest = raw.layers.is_some() || raw.config.is_some();
    if u8::from(index) + u8::from(manifest) + u8::from(schema1) > 1 {
        return Err("it is a manifest and an index at once, so that two readers would see two images".into());
    }
    let fields = match (index, manifest, schema1) {
        (true, ..) => Some(Kind::Index),
        (_, true, _) => Some(Kind::Manifest),
        (.., true) => Some(Kind::Schema1),
        _ => None,
    };
    // Registries say this of anything.
    let said = said
        .filter(|said| !matches!(*said, "" | "text/plain" | "application/json" | "application/octet-stream"));
    let named = raw.media_type.as_deref().filter(|named| !named.is_empty());
    if let (Some(said), Some(named)) = (said, named)
        && said != named
    {
        return Err(format!("it calls itself {named:?} and was announced as {said:?}"));
    }
    let by_name = match named.or(said) {
        None => None,
        Some(OCI_INDEX | DOCKER_LIST) => Some(Kind::Index),
        Some(OCI_MANIFEST | DOCKER_MANIFEST) => Some(Kind::Manifest),
        Some(DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED) => Some(Kind::Schema1),
        Some(other) => return Err(format!("{other:?} is no kind of image that can be used")),
    };
    let version = raw.schema_version.ok_or("it has no schemaVersion")?;
    let kind = match (by_name, fields) {
        (Some(by_name), Some(fields)) if by_name != fields => {
            return Err("its media type and its fields are of different kinds".into());
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => return Err("it has no layers and lists no manifests".into()),
    };
    let wanted = if kind == Kind::Schema1 { 1 } else { 2 };
    match version == wanted {
        true => Ok(kind),
        false => Err(format!("'schemaVersion' field must be {wanted}, and is {version}")),
    }
}

fn bounded(layers: usize) -> Result<(), String> {
    match layers {
        0 => Err("it has no layers; it may be something else than an image, such as an artifact".into()),
        1..=LAYERS_MAX => Ok(()),
        more => Err(format!("it has {more} layers, and the kernel stacks no more than {LAYERS_MAX}")),
    }
}

impl RawDescriptor {
    fn checked(self) -> Result<Descriptor, String> {
        let size = match self.size {
            None => return Err(format!("it gives no size of {}", self.digest)),
            Some(size) => {
                u64::try_from(size).map_err(|_| format!("{} has a size below zero", self.digest))?
            }
        };
        let platform = self.platform.filter(|p| !p.os.is_empty()).map(RawPlatform::named);
        let media_type = self.media_type.unwrap_or_default();
        Ok(Descriptor { media_type, digest: self.digest, size: Some(size), platform })
    }
}

impl RawPlatform {
    fn named(self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// Docker's first schema: layers the highest first, each with the configuration that it was committed with. Layers
/// that change nothing are marked, and so are left away.
fn schema1(raw: Raw) -> Result<Manifest, String> {
    let (layers, history) = (raw.fs_layers.unwrap_or_default(), raw.history.unwrap_or_default());
    if layers.is_empty() || layers.len() != history.len() {
        return Err(format!("it has {} layers and a history of {}", layers.len(), history.len()));
    }
    #[derive(Deserialize)]
    struct V1 {
        id: Option<String>,
        #[serde(default)]
        throwaway: bool,
    }
    let mut seen = std::collections::HashSet::new();
    let mut kept = Vec::new();
    for (layer, history) in layers.iter().zip(&history).rev() {
        let v1: V1 = serde_json::from_str(&history.v1).map_err(|error| format!("its history: {error}"))?;
        if v1.throwaway || v1.id.is_some_and(|id| !seen.insert(id)) {
            continue;
        }
        kept.push(Descriptor {
            media_type: "application/vnd.docker.image.rootfs.diff.tar.gzip".into(),
            digest: layer.blob_sum,
            size: None,
            platform: None,
        });
    }
    bounded(kept.len())?;
    let config = history.into_iter().next().map(|top| top.v1.into_bytes()).unwrap_or_default();
    ImageConfig::parse(&config).map_err(|why| format!("its history: {why}"))?;
    Ok(Manifest { config: ConfigSource::Inline(config), layers: kept })
}

/// The digests that name each layer together with all below it, the lowest first (OCI's ChainID).
pub fn chain(contents: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(contents.len());
    for content in contents {
        chain.push(match chain.last() {
            None => *content,
            Some(below) => digest_of(Algorithm::Sha256, format!("{below} {content}").as_bytes()),
        });
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn image() -> Value {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {"mediaType": OCI_CONFIG, "digest": A, "size": 1},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": B, "size": 2}]})
    }

    fn with(mut document: Value, key: &str, value: Value) -> Value {
        document[key] = value;
        document
    }

    fn read(document: &Value, said: Option<&str>) -> Result<Parsed, String> {
        parse(document.to_string().as_bytes(), said)
    }

    #[test]
    fn a_manifest_is_read_by_its_own_name_or_the_registrys() {
        let mut nameless = image();
        nameless.as_object_mut().unwrap().remove("mediaType");
        for (document, said) in [
            (image(), None),
            (image(), Some(OCI_MANIFEST)),
            (nameless.clone(), Some(OCI_MANIFEST)),
            (nameless.clone(), Some("application/json")),
            (nameless, None),
        ] {
            let Parsed::Manifest(manifest) = read(&document, said).unwrap() else { panic!("a manifest") };
            assert_eq!(manifest.layers.len(), 1);
            assert_eq!(manifest.blobs().count(), 2);
        }
    }

    #[test]
    fn cve_2021_41190_a_document_of_two_kinds_is_refused() {
        let both = with(image(), "manifests", json!([]));
        for said in [None, Some(OCI_MANIFEST), Some(OCI_INDEX)] {
            assert!(read(&both, said).unwrap_err().contains("at once"));
        }
        assert!(read(&with(image(), "fsLayers", json!([])), None).is_err());
        assert!(read(&image(), Some(OCI_INDEX)).unwrap_err().contains("announced"));
        let index = with(image(), "mediaType", json!(OCI_INDEX));
        assert!(read(&index, None).unwrap_err().contains("different kinds"));
        let twice = image().to_string().replacen('{', r#"{"layers":[],"#, 1);
        assert!(parse(twice.as_bytes(), None).is_err());
    }

    #[test]
    fn numbers_and_digests_that_are_none_are_refused() {
        for (key, value) in [
            ("schemaVersion", json!(1)),
            ("schemaVersion", json!(null)),
            ("layers", json!([])),
            ("layers", json!([{"digest": B, "size": -1}])),
            ("layers", json!([{"digest": B}])),
            ("layers", json!([{"digest": "md5:1", "size": 1}])),
            ("layers", json!(vec![json!({"digest": B, "size": 1}); LAYERS_MAX + 1])),
            ("mediaType", json!("application/vnd.oci.image.config.v1+json")),
            ("config", json!(null)),
        ] {
            assert!(read(&with(image(), key, value.clone()), None).is_err(), "{key} {value}");
        }
    }

    #[test]
    fn the_first_schema_is_turned_round_and_its_empty_layers_go() {
        let v1 = |text: &str| json!({"v1Compatibility": text});
        let document = json!({"schemaVersion": 1, "fsLayers": [{"blobSum": A}, {"blobSum": A}, {"blobSum": B}],
            "history": [v1(r#"{"id":"3","os":"linux","architecture":"amd64","config":{"Cmd":["x"]}}"#),
                v1(r#"{"id":"2","throwaway":true}"#), v1(r#"{"id":"1"}"#)]});
        let Parsed::Manifest(manifest) = read(&document, Some(DOCKER_SCHEMA1_SIGNED)).unwrap() else {
            panic!("a manifest")
        };
        let layers: Vec<_> = manifest.layers.iter().map(|layer| layer.digest.to_string()).collect();
        assert_eq!(layers, [B, A]);
        let ConfigSource::Inline(config) = manifest.config else { panic!("inline") };
        assert_eq!(ImageConfig::parse(&config).unwrap().runtime.cmd.unwrap(), ["x"]);
    }

    #[test]
    fn chains_are_those_of_the_specification() {
        let (a, b): (Digest, Digest) = (A.parse().unwrap(), B.parse().unwrap());
        let both = digest_of(Algorithm::Sha256, format!("{A} {B}").as_bytes());
        assert_eq!(chain(&[a, b]), [a, both]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = parse(text.as_bytes(), None);
        }
    }
}
