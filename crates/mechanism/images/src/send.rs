// SPDX-License-Identifier: Apache-2.0
//! Images leave the store: to a registry, or into an archive of OCI.
//!
//! A registry that has an image's blobs (because they came from it) gets its manifest as it was, byte for byte. A layer
//! that it lacks is packed anew from its tree, and then the configuration and the manifest are new as well.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;

use berth_image::manifest::{
    ConfigSource, DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Manifest, OCI_CONFIG, OCI_INDEX,
    OCI_MANIFEST, Parsed, parse,
};
use berth_image::{Cancel, Hasher, digest_of};
use berth_model::image::{Algorithm, Digest, Reference};
use berth_registry::{Push, Pushed};
use berth_store::{Image, LayerUse, Store, StoreError};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use tar::{Builder, Header};

use crate::error::Result;
use crate::images::Images;
use crate::pack::pack;

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A blob that is at the registry now.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Which.
    pub blob: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// How it came there, for people.
    pub how: &'static str,
}

/// A layer as it is sent.
struct Ready {
    digest: Digest,
    size: u64,
    /// The digest of what is in it.
    content: Digest,
    /// Its bytes, where they were made here.
    file: Option<File>,
}

impl Images {
    /// Sends an image to `to`; its blobs are taken over from `from`, where the registry has them there. The digest of the
    /// manifest as the registry has it.
    ///
    /// # Errors
    /// The registry refuses, or the store can not be read.
    pub fn send(
        &self,
        image: &Image,
        to: &Reference,
        from: Option<&Reference>,
        cancel: &Cancel,
        tell: &dyn Fn(Sent),
    ) -> Result<Digest> {
        let store = self.store()?;
        let push = self.push(to, from)?;
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let (ready, how) = match there(&push, layer, from.is_some(), cancel)? {
                Some(how) => (as_it_came(layer), how),
                None => {
                    let ready = packed(&store, image, layer, cancel)?;
                    let how = put(&push, &ready, cancel)?;
                    (ready, how)
                }
            };
            tell(Sent { blob: ready.digest, bytes: ready.size, how });
            // Its file has been sent, and is not kept until the end.
            layers.push(Ready { file: None, ..ready });
        }
        let documents = Documents::of(&store, image, &layers)?;
        let bytes = documents.config.clone();
        let size = bytes.len() as u64;
        let config = digest_of(Algorithm::Sha256, &bytes);
        let how = push.blob(&config, size, &mut || Ok(Box::new(io::Cursor::new(bytes.clone()))), cancel)?;
        tell(Sent { blob: config, bytes: size, how: word(how) });
        Ok(push.manifest(&to.selector(), &documents.media_type, &documents.manifest, cancel)?)
    }

    /// Writes an image as an archive of OCI (`oci-archive:`), which is there when it is complete. The digest of its
    /// manifest.
    ///
    /// # Errors
    /// The file can not be written, or the store not be read.
    pub fn export(&self, image: &Image, name: Option<&str>, path: &Path, cancel: &Cancel) -> Result<Digest> {
        let store = self.store()?;
        let failed = |source: io::Error| StoreError::Io { what: "write", path: path.to_owned(), source };
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            layers.push(packed(&store, image, layer, cancel)?);
        }
        let documents = Documents::of(&store, image, &layers)?;
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut draft = temporary(above)?;
        let write = |draft: &mut File| -> io::Result<Digest> {
            let mut archive = Builder::new(io::BufWriter::with_capacity(1 << 20, draft));
            let mut put = |name: &str, size: u64, data: &mut dyn Read| -> io::Result<()> {
                let mut header = Header::new_ustar();
                header.set_mode(0o644);
                header.set_size(size);
                header.set_mtime(0);
                archive.append_data(&mut header, name, data)
            };
            let manifest = digest_of(Algorithm::Sha256, &documents.manifest);
            let config = digest_of(Algorithm::Sha256, &documents.config);
            put("oci-layout", 30, &mut &b"{\"imageLayoutVersion\":\"1.0.0\"}"[..])?;
            let index = documents.index(&manifest, name);
            put("index.json", index.len() as u64, &mut &index[..])?;
            for (digest, bytes) in [(&manifest, &documents.manifest), (&config, &documents.config)] {
                put(&format!("blobs/sha256/{}", digest.hex()), bytes.len() as u64, &mut &bytes[..])?;
            }
            let mut written: Vec<&Digest> = Vec::new();
            for layer in &layers {
                let Some(mut file) = layer.file.as_ref() else { continue };
                if written.contains(&&layer.digest) {
                    continue;
                }
                file.rewind()?;
                put(&format!("blobs/sha256/{}", layer.digest.hex()), layer.size, &mut file)?;
                written.push(&layer.digest);
            }
            archive.into_inner()?.flush()?;
            Ok(manifest)
        };
        let manifest = write(&mut draft).map_err(failed)?;
        publish(&draft, path).map_err(failed)?;
        Ok(manifest)
    }
}

/// Whether the registry has the blob that the layer came in, or takes it over from the repository it came from.
fn there(push: &Push, layer: &LayerUse, mount: bool, cancel: &Cancel) -> Result<Option<&'static str>> {
    if layer.blob_size == 0 {
        return Ok(None);
    }
    if !mount {
        let has = push.has_blob(&layer.blob, layer.blob_size, cancel)?;
        return Ok(has.then_some(word(Pushed::Present)));
    }
    let mut lacking = false;
    let mut open = || {
        lacking = true;
        Err(io::ErrorKind::Unsupported.into())
    };
    match push.blob(&layer.blob, layer.blob_size, &mut open, cancel) {
        Ok(how) => Ok(Some(word(how))),
        Err(_) if lacking => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn as_it_came(layer: &LayerUse) -> Ready {
    Ready { digest: layer.blob, size: layer.blob_size, content: layer.content, file: None }
}

fn put(push: &Push, ready: &Ready, cancel: &Cancel) -> Result<&'static str> {
    let mut open = || -> io::Result<Box<dyn Read>> {
        let mut file = ready.file.as_ref().ok_or(io::ErrorKind::NotFound)?.try_clone()?;
        file.rewind()?;
        Ok(Box::new(file))
    };
    Ok(word(push.blob(&ready.digest, ready.size, &mut open, cancel)?))
}

fn word(how: Pushed) -> &'static str {
    match how {
        Pushed::Present => "there already",
        Pushed::Mounted => "taken over",
        Pushed::Sent => "sent",
    }
}

/// Packs a layer into a file without a name in the store.
fn packed(store: &Store, image: &Image, layer: &LayerUse, cancel: &Cancel) -> Result<Ready> {
    let file = temporary(store.path())?;
    let alone = Image { layers: vec![layer.clone()], ..image.clone() };
    let tree = store.open_layers(&alone)?.remove(0);
    let failed =
        |source: io::Error| StoreError::Io { what: "pack a layer of", path: store.path().to_owned(), source };
    let pack = || -> io::Result<Ready> {
        let blob = Summed::new(io::BufWriter::with_capacity(1 << 20, file));
        let content = Summed::new(GzEncoder::new(blob, Compression::new(5)));
        let Summed { to, hasher: content, .. } = pack(tree.as_fd(), content, cancel)?;
        let Summed { to, hasher: blob, bytes } = to.finish()?;
        let file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Ready { digest: blob.finish(), size: bytes, content: content.finish(), file: Some(file) })
    };
    Ok(pack().map_err(failed)?)
}

fn temporary(dir: &Path) -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(dir, flags, Mode::from_bits_truncate(0o644)).map_err(|errno| {
        StoreError::Io { what: "make a temporary file in", path: dir.to_owned(), source: errno.into() }
    })?;
    Ok(File::from(file))
}

/// Gives a file without a name its name, in place of what has it.
fn publish(file: &File, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |to: &Path| {
        let flags = rustix::fs::AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(rustix::fs::CWD, &from, rustix::fs::CWD, to, flags)
    };
    match link(path) {
        Err(rustix::io::Errno::EXIST) => {}
        done => return Ok(done?),
    }
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    link(&draft)?;
    std::fs::rename(&draft, path)
}

/// Counts and digests what goes through.
struct Summed<W> {
    to: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W> Summed<W> {
    fn new(to: W) -> Summed<W> {
        Summed { to, hasher: Hasher::new(Algorithm::Sha256), bytes: 0 }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A manifest and the configuration that it names.
struct Documents {
    media_type: String,
    manifest: Vec<u8>,
    config: Vec<u8>,
}

impl Documents {
    /// The image's own, if all of its layers are as they came; otherwise new ones.
    fn of(store: &Store, image: &Image, layers: &[Ready]) -> Result<Documents> {
        let (manifest, config) = (store.blob(&image.manifest)?, store.blob(&image.config)?);
        let damaged = |what: String| StoreError::Incomplete { image: image.manifest.to_string(), what };
        let old = match parse(&manifest, None).map_err(damaged)? {
            Parsed::Manifest(old) => old,
            Parsed::Index(_) => return Err(damaged("a manifest that is none".to_owned()).into()),
        };
        let said: Value = serde_json::from_slice(&manifest).unwrap_or_default();
        let docker = match said["mediaType"].as_str() {
            Some(kind) => kind == DOCKER_MANIFEST,
            None => matches!(old.config, ConfigSource::Inline(_)),
        };
        let same = layers.iter().zip(&image.layers).all(|(ready, layer)| ready.digest == layer.blob);
        if same && matches!(old.config, ConfigSource::Blob(_)) {
            let media_type = if docker { DOCKER_MANIFEST } else { OCI_MANIFEST }.to_owned();
            return Ok(Documents { media_type, manifest, config });
        }
        let config = config_with(&config, layers)
            .ok_or_else(|| damaged("a configuration that can be changed".to_owned()))?;
        Ok(Documents::made(&old, docker, config, layers))
    }

    fn made(old: &Manifest, docker: bool, config: Vec<u8>, layers: &[Ready]) -> Documents {
        let (own, config_type) =
            if docker { (DOCKER_MANIFEST, DOCKER_CONFIG) } else { (OCI_MANIFEST, OCI_CONFIG) };
        let gzip = if docker { format!("{DOCKER_LAYER}.gzip") } else { OCI_LAYER.to_owned() };
        let layers: Vec<Value> = layers
            .iter()
            .zip(&old.layers)
            .map(|(ready, old)| {
                let kept = ready.digest == old.digest && !old.media_type.is_empty();
                let kind = if kept { &old.media_type } else { &gzip };
                json!({"mediaType": kind, "digest": ready.digest.to_string(), "size": ready.size})
            })
            .collect();
        let digest = digest_of(Algorithm::Sha256, &config).to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": own,
            "config": {"mediaType": config_type, "digest": digest, "size": config.len()},
            "layers": layers,
        });
        Documents { media_type: own.to_owned(), manifest: manifest.to_string().into_bytes(), config }
    }

    fn index(&self, manifest: &Digest, name: Option<&str>) -> Vec<u8> {
        let tag = name.and_then(|name| name.parse::<Reference>().ok());
        let tag = tag.and_then(|reference| reference.tag().map(ToString::to_string));
        let annotations = name.map(|name| {
            let tag = tag.unwrap_or_else(|| "latest".to_owned());
            json!({"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name})
        });
        let mut entry = json!({
            "mediaType": self.media_type, "digest": manifest.to_string(), "size": self.manifest.len(),
        });
        if let Some(annotations) = annotations {
            entry["annotations"] = annotations;
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
        index.to_string().into_bytes()
    }
}

/// The configuration with other contents of its layers, all else as it was.
fn config_with(config: &[u8], layers: &[Ready]) -> Option<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(config).ok()?;
    let contents: Vec<String> = layers.iter().map(|layer| layer.content.to_string()).collect();
    let whole = config.as_object_mut()?;
    whole.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": contents}));
    // Docker's first schema knows neither.
    let host = berth_model::image::Platform::host();
    whole.entry("os").or_insert_with(|| json!(host.os));
    whole.entry("architecture").or_insert_with(|| json!(host.architecture));
    serde_json::to_vec(&config).ok()
}
