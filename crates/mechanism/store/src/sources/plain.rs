// SPDX-License-Identifier: Apache-2.0
//! A root filesystem as a tar, compressed or not: an image of one layer, without any wishes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use berth_image::manifest::{OCI_CONFIG, OCI_MANIFEST};
use berth_image::{Cancel, Descriptor, Document, Hasher, ManifestRef, PullError, Source, digest_of};
use berth_model::image::{Algorithm, Digest, Platform};
use serde_json::json;

use super::{Part, open_regular};

/// A root filesystem in a tar.
pub struct PlainTar {
    name: String,
    file: File,
    size: u64,
    layer: Digest,
    config: Vec<u8>,
    manifest: Document,
}

impl PlainTar {
    /// Opens it, and reads it once for its digest.
    ///
    /// # Errors
    /// [`PullError`].
    pub fn open(
        name: &str,
        path: &Path,
        platform: &Platform,
        cancel: &Cancel,
    ) -> Result<PlainTar, PullError> {
        let file = open_regular(name, path)?;
        let failed =
            |source| PullError::Io { from: name.into(), what: format!("read {}", path.display()), source };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buf = vec![0; 256 << 10];
        let mut size = 0;
        loop {
            if cancel.is_cancelled() {
                return Err(PullError::Cancelled { from: name.into() });
            }
            let count = std::os::unix::fs::FileExt::read_at(&file, &mut buf, size).map_err(failed)?;
            if count == 0 {
                break;
            }
            hasher.update(&buf[..count]);
            size += count as u64;
        }
        let layer = hasher.finish();
        // It says nothing of what is in it, so a layer that is here already is not recognised: the manifest is.
        let config =
            json!({"os": platform.os, "architecture": platform.architecture, "variant": platform.variant});
        let config = config.to_string().into_bytes();
        let of_config = digest_of(Algorithm::Sha256, &config);
        let bytes = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": of_config, "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": size}],
        });
        let bytes = bytes.to_string().into_bytes();
        let digest = digest_of(Algorithm::Sha256, &bytes);
        let manifest = Document { media_type: Some(OCI_MANIFEST.into()), digest, bytes };
        Ok(PlainTar { name: name.to_owned(), file, size, layer, config, manifest })
    }
}

impl Source for PlainTar {
    fn manifest(&self, _: &ManifestRef, _: &Cancel) -> Result<Document, PullError> {
        Ok(self.manifest.clone())
    }

    fn blob(&self, blob: &Descriptor, offset: u64, _: &Cancel) -> Result<Box<dyn Read + Send>, PullError> {
        if blob.digest != self.layer {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.config.len());
            return Ok(Box::new(io::Cursor::new(self.config[from..].to_vec())));
        }
        let file = self.file.try_clone().map_err(|source| PullError::Io {
            from: self.name.clone(),
            what: "open it again".into(),
            source,
        })?;
        Ok(Box::new(Part { file, at: offset, left: self.size.saturating_sub(offset) }))
    }

    fn describe(&self) -> String {
        self.name.clone()
    }
}
