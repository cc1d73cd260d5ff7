// SPDX-License-Identifier: Apache-2.0
//! OCI image layouts, in a directory or in a tar.

use std::io::Read;
use std::path::Path;

use berth_image::manifest::{OCI_INDEX, OCI_MANIFEST};
use berth_image::{Cancel, Descriptor, Document, MANIFEST_MAX, ManifestRef, PullError, Source, digest_of};
use berth_model::image::{Algorithm, Digest, Platform};
use serde::Deserialize;

use super::archive::Files;
use super::{INDEX_MAX, open_archive};

/// An image in an image layout.
pub struct OciLayout {
    name: String,
    files: Files,
    top: Top,
}

/// What the reference means.
enum Top {
    Manifest {
        digest: Digest,
        media_type: Option<String>,
        size: u64,
    },
    /// Several manifests of one tag, for several platforms, or of no tag at all: the index itself.
    Index(Vec<u8>),
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u64,
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: Option<String>,
    digest: Digest,
    size: u64,
    platform: Option<serde_json::Value>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl Entry {
    fn tag(&self) -> Option<&str> {
        let annotations = self.annotations.as_ref()?;
        annotations.get("org.opencontainers.image.ref.name").map(String::as_str)
    }
}

impl OciLayout {
    /// Opens a layout in a directory.
    ///
    /// # Errors
    /// [`PullError`].
    pub fn directory(
        name: &str,
        path: &Path,
        tag: Option<&str>,
        platform: &Platform,
    ) -> Result<OciLayout, PullError> {
        OciLayout::new(name, Files::directory(name, path)?, tag, platform)
    }

    /// Opens a layout in a tar; see [`super::open`].
    ///
    /// # Errors
    /// [`PullError`].
    pub fn archive(
        name: &str,
        path: &Path,
        tag: Option<&str>,
        platform: &Platform,
        scratch: &Path,
        cancel: &Cancel,
    ) -> Result<OciLayout, PullError> {
        let file = open_archive(name, path, scratch, cancel)?;
        OciLayout::new(name, Files::archive(name, file)?, tag, platform)
    }

    fn new(name: &str, files: Files, tag: Option<&str>, platform: &Platform) -> Result<OciLayout, PullError> {
        let refused =
            |what: &str, why: String| PullError::Refused { from: name.into(), what: what.into(), why };
        let missing = |what: &str| PullError::NotFound {
            from: name.into(),
            what: what.into(),
            advice: "name a directory or archive in the form of an OCI image layout".into(),
        };
        let bytes = files.read(name, "oci-layout", INDEX_MAX)?.ok_or_else(|| missing("file oci-layout"))?;
        let version: Version =
            serde_json::from_slice(&bytes).map_err(|error| refused("oci-layout", error.to_string()))?;
        if !version.version.starts_with("1.") {
            let why = format!("its version is {:?}, and only 1.x is known", version.version);
            return Err(refused("oci-layout", why));
        }
        let bytes = files.read(name, "index.json", INDEX_MAX)?.ok_or_else(|| missing("file index.json"))?;
        let index: Index =
            serde_json::from_slice(&bytes).map_err(|error| refused("index.json", error.to_string()))?;
        if index.schema_version != 2 {
            return Err(refused("index.json", "'schemaVersion' field must be 2".into()));
        }
        let top = choose(name, &index, tag, platform, bytes)?;
        Ok(OciLayout { name: name.to_owned(), files, top })
    }

    fn read(&self, digest: &Digest, max: u64) -> Result<Vec<u8>, PullError> {
        let path = blob_path(digest);
        let bytes = self.files.read(&self.name, &path, max)?.ok_or_else(|| self.lacks(digest))?;
        let found = digest_of(digest.algorithm(), &bytes);
        match found == *digest {
            true => Ok(bytes),
            false => Err(PullError::Digest {
                from: self.name.clone(),
                what: "document".into(),
                wanted: Box::new(*digest),
                found: Box::new(found),
            }),
        }
    }

    fn lacks(&self, digest: &Digest) -> PullError {
        PullError::NotFound {
            from: self.name.clone(),
            what: format!("blob {digest}"),
            advice: "it is incomplete: make it again".into(),
        }
    }
}

fn choose(
    name: &str,
    index: &Index,
    tag: Option<&str>,
    platform: &Platform,
    bytes: Vec<u8>,
) -> Result<Top, PullError> {
    let named: Vec<&Entry> = match tag {
        Some(tag) => index.manifests.iter().filter(|entry| entry.tag() == Some(tag)).collect(),
        None => index.manifests.iter().collect(),
    };
    let entry = match named[..] {
        [] => {
            let tags: Vec<_> = index.manifests.iter().filter_map(Entry::tag).collect();
            let what = tag.map_or_else(|| "image in it".to_owned(), |tag| format!("tag {tag:?}"));
            let advice = match tags.is_empty() {
                true => "leave the tag away: its images have none".to_owned(),
                false => format!("it has {}", tags.join(", ")),
            };
            return Err(PullError::NotFound { from: name.into(), what, advice });
        }
        [one] => one,
        _ => {
            let of = |entry: &&Entry| entry.platform.clone().and_then(|p| serde_json::from_value(p).ok());
            let platforms: Vec<Option<Platform>> = named.iter().map(of).collect();
            match (platform.choose(platforms.iter().map(Option::as_ref)), tag) {
                (Some(best), _) => named[best],
                (None, None) if index.manifests.iter().all(|entry| entry.platform.is_some()) => {
                    return Ok(Top::Index(bytes));
                }
                _ => {
                    let tags: Vec<_> = index.manifests.iter().filter_map(Entry::tag).collect();
                    return Err(PullError::Refused {
                        from: name.into(),
                        what: "its index".into(),
                        why: format!(
                            "it has several images, and nothing says which: name a tag ({})",
                            tags.join(", ")
                        ),
                    });
                }
            }
        }
    };
    Ok(Top::Manifest { digest: entry.digest, media_type: entry.media_type.clone(), size: entry.size })
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Source for OciLayout {
    fn manifest(&self, which: &ManifestRef, _: &Cancel) -> Result<Document, PullError> {
        match (which, &self.top) {
            (ManifestRef::Top, Top::Index(bytes)) => Ok(Document {
                media_type: Some(OCI_INDEX.into()),
                digest: digest_of(Algorithm::Sha256, bytes),
                bytes: bytes.clone(),
            }),
            (ManifestRef::Top, Top::Manifest { digest, media_type, size }) => {
                let bytes = self.read(digest, (*size).min(MANIFEST_MAX))?;
                let media_type = media_type.clone().or(Some(OCI_MANIFEST.into()));
                Ok(Document { media_type, digest: *digest, bytes })
            }
            (ManifestRef::Digest(digest), _) => {
                Ok(Document { media_type: None, digest: *digest, bytes: self.read(digest, MANIFEST_MAX)? })
            }
        }
    }

    fn blob(&self, blob: &Descriptor, offset: u64, _: &Cancel) -> Result<Box<dyn Read + Send>, PullError> {
        let opened = self.files.open(&self.name, &blob_path(&blob.digest))?;
        let (mut reader, _) = opened.ok_or_else(|| self.lacks(&blob.digest))?;
        std::io::copy(&mut (&mut reader).take(offset), &mut std::io::sink()).map_err(|source| {
            PullError::Io { from: self.name.clone(), what: format!("read blob {}", blob.digest), source }
        })?;
        Ok(reader)
    }

    fn describe(&self) -> String {
        self.name.clone()
    }
}
