// SPDX-License-Identifier: Apache-2.0
//! Images in memory, which can be counted, slow, broken and wrong.

use std::collections::HashMap;
use std::io::{self, Cursor, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_image::manifest::{DOCKER_CONFIG, DOCKER_MANIFEST};
use berth_image::{Cancel, Descriptor, Document, ManifestRef, PullError, Source, digest_of};
use berth_model::image::{Algorithm, Digest};
use serde_json::json;

/// A layer: its blob, and the digest of what is in it.
pub(crate) struct Part {
    pub(crate) blob: Vec<u8>,
    pub(crate) content: Digest,
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    digest_of(Algorithm::Sha256, bytes)
}

/// A tar with these files, and directories for names that end with a slash.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_entry_type(if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// A layer of `count` files, `size` bytes each, that is different for each `seed`. Not compressed: that takes long in
/// a build for tests.
pub(crate) fn files(seed: u64, count: usize, size: usize) -> Part {
    let names: Vec<String> = (0..count).map(|number| format!("l{seed}/d{}/f{number}", number % 7)).collect();
    let content = [seed.to_le_bytes().as_slice(), &vec![b'x'; size]].concat();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), &content[..size])).collect();
    let content = tar(&all);
    Part { content: digest(&content), blob: content }
}

/// An image that is a source.
pub(crate) struct Memory {
    pub(crate) manifest: Vec<u8>,
    pub(crate) blobs: HashMap<Digest, Vec<u8>>,
    /// How often each blob was asked for.
    pub(crate) asked: Mutex<HashMap<Digest, u32>>,
    /// What is served for a blob the first time.
    pub(crate) first: Mutex<Option<(Digest, Vec<u8>)>>,
    /// Between pieces of 64 KiB.
    pub(crate) pause: Duration,
    /// After the first piece nothing more comes, until cancelled.
    pub(crate) stuck: AtomicBool,
}

impl Memory {
    pub(crate) fn new(parts: &[Part]) -> Memory {
        let contents: Vec<_> = parts.iter().map(|part| part.content).collect();
        Memory::with_config(
            parts,
            &json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": contents}}),
        )
    }

    pub(crate) fn with_config(parts: &[Part], config: &serde_json::Value) -> Memory {
        let config = config.to_string().into_bytes();
        let layers: Vec<_> = parts
            .iter()
            .map(|part| {
                json!({"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": part.blob.len(),
                    "digest": digest(&part.blob)})
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": layers,
            "config": {"mediaType": DOCKER_CONFIG, "size": config.len(), "digest": digest(&config)}});
        let mut blobs: HashMap<_, _> =
            parts.iter().map(|part| (digest(&part.blob), part.blob.clone())).collect();
        blobs.insert(digest(&config), config);
        Memory {
            manifest: manifest.to_string().into_bytes(),
            blobs,
            asked: Mutex::default(),
            first: Mutex::default(),
            pause: Duration::ZERO,
            stuck: AtomicBool::new(false),
        }
    }

    /// Serves something else for a blob.
    pub(crate) fn lie(mut self, blob: Digest, instead: Vec<u8>) -> Memory {
        self.blobs.insert(blob, instead);
        self
    }
}

impl Source for Memory {
    fn manifest(&self, _: &ManifestRef, _: &Cancel) -> Result<Document, PullError> {
        let digest = digest(&self.manifest);
        Ok(Document { media_type: None, digest, bytes: self.manifest.clone() })
    }

    fn blob(&self, blob: &Descriptor, _: u64, cancel: &Cancel) -> Result<Box<dyn Read + Send>, PullError> {
        *self.asked.lock().unwrap().entry(blob.digest).or_default() += 1;
        let first = self.first.lock().unwrap().take_if(|(digest, _)| *digest == blob.digest);
        let bytes = first.map_or_else(|| self.blobs[&blob.digest].clone(), |(_, bytes)| bytes);
        Ok(Box::new(Slow {
            bytes: Cursor::new(bytes),
            pause: self.pause,
            stuck: self.stuck.load(Ordering::SeqCst),
            cancel: cancel.clone(),
        }))
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}

struct Slow {
    bytes: Cursor<Vec<u8>>,
    pause: Duration,
    stuck: bool,
    cancel: Cancel,
}

impl Read for Slow {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let pause = match self.stuck && self.bytes.position() > 0 {
            true => Duration::from_secs(600),
            false => self.pause,
        };
        if !pause.is_zero() && self.cancel.wait(pause) {
            return Err(PullError::Cancelled { from: "memory".into() }.into_io());
        }
        let most = buf.len().min(64 << 10);
        self.bytes.read(&mut buf[..most])
    }
}
