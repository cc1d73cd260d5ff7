// SPDX-License-Identifier: Apache-2.0
//! App Container images (ACIs), found by simple discovery, as a source of the store.
//!
//! Each archive is a layer whose tree lies in its directory `rootfs`; an image is its dependencies, and itself on top.
//! There is no document that says so in the words of the store, so one is made here: layers by the sha512 of their
//! archives, which is what the specification calls an image's id, and a configuration from the manifest's app.
//!
//! Mesos runs the app of the *lowest* image of a chain, for it reads the first manifest in its list. Here it is the
//! image's own; only where that has none it is the one that Mesos would take.

mod fetch;
mod manifest;
mod name;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use berth_image::manifest::{ACI_LAYER, OCI_CONFIG, OCI_MANIFEST};
use berth_image::{Cancel, Descriptor, Document, Limits, ManifestRef, PullError, Source, digest_of};
use berth_model::image::{Algorithm, Digest, Platform};
use berth_registry::Client;
use serde_json::json;

use crate::error::Result;
use fetch::{Fetched, Fetching};
pub use fetch::{Place, Prefix, PrefixError};
pub(crate) use name::KIND;
pub use name::{AppcName, AppcNameError};

/// An image whose archives are all here.
pub(crate) struct AppcImage {
    name: String,
    document: Document,
    config: (Digest, Vec<u8>),
    archives: HashMap<Digest, (File, u64)>,
}

impl AppcImage {
    /// Finds it and what it depends on, and fetches all of it into files without names in `scratch`.
    pub(crate) fn open(
        name: &AppcName,
        prefix: &Prefix,
        client: &dyn Fn() -> Result<Client>,
        scratch: &Path,
        cancel: &Cancel,
    ) -> Result<AppcImage> {
        let mut fetching = Fetching { prefix, client, scratch, cancel, left: Limits::default().bytes };
        Ok(AppcImage::of(name, fetching.all(name)?))
    }

    /// `all`: the lowest first, the image itself last; at least one.
    fn of(name: &AppcName, all: Vec<Fetched>) -> AppcImage {
        let own = all.last().map(|image| &image.manifest);
        let first = all.first().map(|image| &image.manifest);
        let app = own.and_then(|own| own.app.clone()).or_else(|| first.and_then(|first| first.app.clone()));
        let label = |label: &str| {
            let said = own.and_then(|own| own.labels.get(label)).or_else(|| name.labels().get(label));
            said.cloned().unwrap_or_default()
        };
        let platform = Platform::new(&label("os"), &label("arch"), None);
        let ids: Vec<String> = all.iter().map(|image| image.id.to_string()).collect();
        let config = json!({
            "os": platform.os, "architecture": platform.architecture, "variant": platform.variant,
            "created": own.and_then(|own| own.created.clone()),
            "config": app.unwrap_or_default(),
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let config = config.to_string().into_bytes();
        let of_config = digest_of(Algorithm::Sha256, &config);
        let layers = all
            .iter()
            .map(|image| json!({"mediaType": ACI_LAYER, "digest": image.id.to_string(), "size": image.size}));
        let bytes = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": of_config.to_string(), "size": config.len()},
            "layers": layers.collect::<Vec<_>>(),
        });
        let bytes = bytes.to_string().into_bytes();
        let digest = digest_of(Algorithm::Sha256, &bytes);
        AppcImage {
            name: name.to_string(),
            document: Document { media_type: Some(OCI_MANIFEST.into()), digest, bytes },
            config: (of_config, config),
            archives: all.into_iter().map(|image| (image.id, (image.file, image.size))).collect(),
        }
    }
}

impl Source for AppcImage {
    fn manifest(&self, _: &ManifestRef, _: &Cancel) -> std::result::Result<Document, PullError> {
        Ok(self.document.clone())
    }

    fn blob(
        &self,
        blob: &Descriptor,
        offset: u64,
        _: &Cancel,
    ) -> std::result::Result<Box<dyn Read + Send>, PullError> {
        let failed =
            |source| PullError::Io { from: self.name.clone(), what: "open its archive again".into(), source };
        if blob.digest == self.config.0 {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.config.1.len());
            return Ok(Box::new(io::Cursor::new(self.config.1[from..].to_vec())));
        }
        let (file, size) = self.archives.get(&blob.digest).ok_or_else(|| PullError::NotFound {
            from: self.name.clone(),
            what: format!("blob {}", blob.digest),
            advice: "the image is made of its archives alone".into(),
        })?;
        Ok(Box::new(Rest { file: file.try_clone().map_err(failed)?, at: offset, end: *size }))
    }

    fn describe(&self) -> String {
        self.name.clone()
    }
}

/// An archive from some byte on; readers of one file do not share a position.
struct Rest {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Rest {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(into.len());
        let count = self.file.read_at(&mut into[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
