// SPDX-License-Identifier: Apache-2.0
//! What `docker save` writes: `manifest.json` since Docker 1.10, `repositories` before.
//!
//! Such an archive has no manifest as registries have it, so one is made here: its layers are the files of the
//! archive, by the digest that the configuration gives (an uncompressed layer's blob is its content) or else by one
//! computed here.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use berth_image::config::ImageConfig;
use berth_image::manifest::{DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, LAYERS_MAX};
use berth_image::{
    CONFIG_MAX, Cancel, Descriptor, Document, Hashed, ManifestRef, PullError, Source, digest_of,
};
use berth_model::image::{Algorithm, Digest, Reference};
use serde::Deserialize;
use serde_json::json;

use super::archive::Files;
use super::{INDEX_MAX, open_archive};

/// An image in an archive of docker save.
pub struct DockerArchive {
    name: String,
    files: Files,
    manifest: Document,
    config: Vec<u8>,
    /// Names in the archive, by digest.
    blobs: HashMap<Digest, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct V1 {
    parent: Option<String>,
}

impl DockerArchive {
    /// Opens an archive; `reference` chooses among its images. See [`super::open`].
    ///
    /// # Errors
    /// [`PullError`].
    pub fn open(
        name: &str,
        path: &Path,
        reference: Option<&str>,
        scratch: &Path,
        cancel: &Cancel,
    ) -> Result<DockerArchive, PullError> {
        let files = Files::archive(name, open_archive(name, path, scratch, cancel)?)?;
        let found = match files.read(name, "manifest.json", INDEX_MAX)? {
            Some(bytes) => saved(name, &files, &bytes, reference)?,
            None => match files.read(name, "repositories", INDEX_MAX)? {
                Some(bytes) => old(name, &files, &bytes, reference)?,
                None => {
                    return Err(PullError::NotFound {
                        from: name.into(),
                        what: "manifest.json and no repositories".into(),
                        advice:
                            "it is not what `docker save` writes; for a root filesystem, say tar: instead"
                                .into(),
                    });
                }
            },
        };
        DockerArchive::new(name, files, found, cancel)
    }

    fn new(name: &str, files: Files, found: Found, cancel: &Cancel) -> Result<DockerArchive, PullError> {
        let refused =
            |what: &str, why: String| PullError::Refused { from: name.into(), what: what.into(), why };
        let config = ImageConfig::parse(&found.config).map_err(|why| refused("configuration", why))?;
        if found.layers.is_empty() || found.layers.len() > LAYERS_MAX {
            return Err(refused("the image", format!("it has {} layers", found.layers.len())));
        }
        let mut blobs = HashMap::new();
        let mut layers = Vec::new();
        for (index, layer) in found.layers.iter().enumerate() {
            let missing = || PullError::NotFound {
                from: name.into(),
                what: format!("layer {layer:?}"),
                advice: "it is incomplete: save it again".into(),
            };
            let (mut reader, size) = files.open(name, layer)?.ok_or_else(missing)?;
            let mut magic = [0; 2];
            let failed =
                |source| PullError::Io { from: name.into(), what: format!("read {layer:?}"), source };
            let plain =
                reader.read_exact(&mut magic).is_err() || !matches!(magic, [0x1f, 0x8b] | [0x28, 0xb5]);
            let digest = match config.contents.get(index) {
                Some(content) if plain && config.contents.len() == found.layers.len() => *content,
                _ => {
                    let (reader, _) = files.open(name, layer)?.ok_or_else(missing)?;
                    let mut hashed = Hashed::new(Stoppable { reader, cancel }, Algorithm::Sha256);
                    io::copy(&mut hashed, &mut io::sink()).map_err(|error| match cancel.is_cancelled() {
                        true => PullError::Cancelled { from: name.into() },
                        false => failed(error),
                    })?;
                    hashed.finish()
                }
            };
            layers.push(json!({"mediaType": DOCKER_LAYER, "digest": digest, "size": size}));
            blobs.insert(digest, layer.clone());
        }
        let of_config = digest_of(Algorithm::Sha256, &found.config);
        let config = json!({"mediaType": DOCKER_CONFIG, "digest": of_config, "size": found.config.len()});
        let bytes =
            json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers});
        let bytes = bytes.to_string().into_bytes();
        let digest = digest_of(Algorithm::Sha256, &bytes);
        let manifest = Document { media_type: Some(DOCKER_MANIFEST.into()), digest, bytes };
        Ok(DockerArchive { name: name.to_owned(), files, manifest, config: found.config, blobs })
    }
}

/// An image in the archive.
struct Found {
    config: Vec<u8>,
    /// Names in the archive, the lowest first.
    layers: Vec<String>,
}

fn saved(name: &str, files: &Files, bytes: &[u8], wanted: Option<&str>) -> Result<Found, PullError> {
    let refused = |what: &str, why: String| PullError::Refused { from: name.into(), what: what.into(), why };
    let all: Vec<Saved> =
        serde_json::from_slice(bytes).map_err(|error| refused("manifest.json", error.to_string()))?;
    let tags = || all.iter().flat_map(|saved| saved.repo_tags.iter().flatten());
    let chosen = match wanted {
        Some(wanted) => {
            all.iter().find(|saved| saved.repo_tags.iter().flatten().any(|tag| same(tag, wanted)))
        }
        None => all.first().filter(|_| all.len() == 1),
    };
    let Some(saved) = chosen else {
        let has: Vec<_> = tags().map(String::as_str).collect();
        return Err(PullError::NotFound {
            from: name.into(),
            what: wanted.map_or_else(|| "one image alone".to_owned(), |wanted| format!("image {wanted:?}")),
            advice: format!("name one of {}", has.join(", ")),
        });
    };
    let config = files.read(name, &saved.config, CONFIG_MAX)?.ok_or_else(|| PullError::NotFound {
        from: name.into(),
        what: format!("configuration {:?}", saved.config),
        advice: "it is incomplete: save it again".into(),
    })?;
    Ok(Found { config, layers: saved.layers.clone() })
}

/// The form before manifest.json: a top layer for each tag, and each layer with the name of the one below it.
fn old(name: &str, files: &Files, bytes: &[u8], wanted: Option<&str>) -> Result<Found, PullError> {
    let refused = |what: &str, why: String| PullError::Refused { from: name.into(), what: what.into(), why };
    let not_found = |what: String| PullError::NotFound {
        from: name.into(),
        what,
        advice: "look into its file `repositories` for what it has".into(),
    };
    let repositories: HashMap<String, HashMap<String, String>> =
        serde_json::from_slice(bytes).map_err(|error| refused("repositories", error.to_string()))?;
    let mut tags = repositories
        .iter()
        .flat_map(|(repository, tags)| tags.iter().map(move |(tag, id)| (format!("{repository}:{tag}"), id)));
    let id = match wanted {
        Some(wanted) => tags.find(|(tag, _)| same(tag, wanted)).map(|(_, id)| id),
        None => tags.next().map(|(_, id)| id).filter(|_| tags.next().is_none()),
    };
    let what = || wanted.map_or_else(|| "one image alone".to_owned(), |wanted| format!("image {wanted:?}"));
    let mut id = id.ok_or_else(|| not_found(what()))?.clone();
    let mut config = None;
    let mut layers = Vec::new();
    loop {
        if id.is_empty() || id.contains('/') || layers.len() >= LAYERS_MAX {
            return Err(refused(
                "the chain of its layers",
                "it is a loop, too long, or has names that are none".into(),
            ));
        }
        let path = format!("{id}/json");
        let bytes =
            files.read(name, &path, CONFIG_MAX)?.ok_or_else(|| not_found(format!("file {path:?}")))?;
        let v1: V1 = serde_json::from_slice(&bytes).map_err(|error| refused(&path, error.to_string()))?;
        layers.push(format!("{id}/layer.tar"));
        config.get_or_insert(bytes);
        match v1.parent.filter(|parent| !parent.is_empty()) {
            Some(parent) => id = parent,
            None => break,
        }
    }
    layers.reverse();
    Ok(Found { config: config.unwrap_or_default(), layers })
}

/// Whether a tag in the archive is the reference: as written, or with the default registry and tag filled in.
fn same(tag: &str, wanted: &str) -> bool {
    let full = |text: &str| {
        let reference: Reference = text.parse().ok()?;
        let default = berth_model::image::Registry::docker();
        let registry = reference.registry_or(&default);
        let path = registry.path_of(reference.repository());
        Some((registry.host().to_owned(), registry.port(), path, reference.selector()))
    };
    tag == wanted || full(tag).is_some_and(|tag| Some(tag) == full(wanted))
}

struct Stoppable<'c> {
    reader: Box<dyn Read + Send>,
    cancel: &'c Cancel,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.cancel.is_cancelled() {
            true => Err(io::Error::other("cancelled")),
            false => self.reader.read(buf),
        }
    }
}

impl Source for DockerArchive {
    fn manifest(&self, which: &ManifestRef, _: &Cancel) -> Result<Document, PullError> {
        match which {
            ManifestRef::Digest(digest) if *digest != self.manifest.digest => Err(PullError::NotFound {
                from: self.name.clone(),
                what: format!("manifest {digest}"),
                advice: "such archives have no indexes".into(),
            }),
            _ => Ok(self.manifest.clone()),
        }
    }

    fn blob(&self, blob: &Descriptor, offset: u64, _: &Cancel) -> Result<Box<dyn Read + Send>, PullError> {
        let opened = match self.blobs.get(&blob.digest) {
            Some(name) => self.files.open(&self.name, name)?.map(|(reader, _)| reader),
            None if digest_of(blob.digest.algorithm(), &self.config) == blob.digest => {
                Some(Box::new(io::Cursor::new(self.config.clone())) as Box<dyn Read + Send>)
            }
            None => None,
        };
        let mut reader = opened.ok_or_else(|| PullError::NotFound {
            from: self.name.clone(),
            what: format!("blob {}", blob.digest),
            advice: "it is incomplete: save it again".into(),
        })?;
        io::copy(&mut (&mut reader).take(offset), &mut io::sink()).map_err(|source| PullError::Io {
            from: self.name.clone(),
            what: format!("read blob {}", blob.digest),
            source,
        })?;
        Ok(reader)
    }

    fn describe(&self) -> String {
        self.name.clone()
    }
}
