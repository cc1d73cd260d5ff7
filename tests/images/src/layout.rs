// SPDX-License-Identifier: Apache-2.0
//! Images of the tests' own making: layouts of OCI, byte for byte as wanted.

use berth_image::digest_of;
use berth_model::image::Algorithm;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{Builder, EntryType, Header};

/// What mmdebstrap is asked for. A mirror that stands still is good enough.
const DEBIAN: [&str; 3] = ["--variant=minbase", "--aptopt=Acquire::Check-Valid-Until \"false\"", "stable"];

/// Something in a layer.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// A directory with this mode.
    Dir(&'a str, u32),
    /// A file with this mode and content.
    File(&'a str, u32, &'a [u8]),
    /// A symbolic link to what follows.
    Link(&'a str, &'a str),
    /// A further name of what follows.
    Same(&'a str, &'a str),
    /// A block device.
    Block(&'a str, u32, u32),
}

/// A layer under construction.
pub struct Layer {
    tar: Builder<Vec<u8>>,
}

impl Layer {
    /// One with these entries.
    ///
    /// # Panics
    /// When an entry can not be written.
    pub fn of(entries: &[Entry<'_>]) -> Layer {
        let mut layer = Layer { tar: Builder::new(Vec::new()) };
        entries.iter().for_each(|entry| layer.add(entry));
        layer
    }

    fn add(&mut self, entry: &Entry<'_>) {
        let mut header = Header::new_ustar();
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        header.set_mode(0o777);
        let (path, data): (&str, &[u8]) = match entry {
            Entry::Dir(path, mode) => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                (path, &[])
            }
            Entry::File(path, mode, data) => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(*mode);
                header.set_size(data.len() as u64);
                (path, data)
            }
            Entry::Link(path, to) | Entry::Same(path, to) => {
                let same = matches!(entry, Entry::Same(..));
                header.set_entry_type(if same { EntryType::Link } else { EntryType::Symlink });
                header.set_link_name_literal(to).unwrap_or_else(|e| panic!("{to}: {e}"));
                (path, &[])
            }
            Entry::Block(path, major, minor) => {
                header.set_entry_type(EntryType::Block);
                let numbers = header.set_device_major(*major).and_then(|()| header.set_device_minor(*minor));
                numbers.unwrap_or_else(|e| panic!("{path}: {e}"));
                (path, &[])
            }
        };
        // As it stands: names that the crate would refuse are what some tests are about.
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.name[..path.len()].copy_from_slice(path.as_bytes());
        }
        header.set_cksum();
        self.tar.append(&header, data).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Busybox with some of its names, and users.
    ///
    /// # Panics
    /// When there is no busybox.
    pub fn busybox() -> Layer {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|dir| dir.join("busybox")).find(|path| path.is_file());
        let bytes = found.and_then(|path| fs::read(path).ok()).unwrap_or_else(|| panic!("no busybox"));
        let mut layer = Layer::of(&[
            Entry::Dir("bin", 0o755),
            Entry::File("bin/busybox", 0o755, &bytes),
            Entry::Dir("etc", 0o755),
            Entry::File(
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n",
            ),
            Entry::File("etc/group", 0o644, b"root:x:0:\nbob:x:1000:\nstaff:x:50:bob\n"),
            Entry::Dir("tmp", 0o1777),
        ]);
        for name in [
            "sh", "cat", "mknod", "echo", "env", "id", "ls", "pwd", "stat", "sleep", "true", "wc", "head",
            "touch",
        ] {
            layer.add(&Entry::Link(&format!("bin/{name}"), "busybox"));
        }
        layer
    }

    /// Some bytes that do not compress, in a file of that name.
    pub fn noise(name: &str, bytes: usize, seed: u64) -> Layer {
        let mut state = seed | 1;
        let mut data = Vec::with_capacity(bytes + 8);
        while data.len() < bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            data.extend_from_slice(&state.to_le_bytes());
        }
        data.truncate(bytes);
        Layer::of(&[Entry::File(name, 0o644, &data)])
    }

    /// The tar.
    ///
    /// # Panics
    /// Never: it is in memory.
    pub fn bytes(self) -> Vec<u8> {
        self.tar.into_inner().unwrap_or_else(|e| panic!("end a tar: {e}"))
    }
}

/// A layout with one image.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Makes one in `dir`, tagged `t`, with this `config` (docker's words).
    ///
    /// # Panics
    /// When it can not be written.
    pub fn make(dir: &Path, layers: Vec<Layer>, config: Value) -> Layout {
        Layout::of_tars(dir, layers.into_iter().map(Layer::bytes), config)
    }

    /// The same of whole tars.
    ///
    /// # Panics
    /// When it can not be written.
    pub fn of_tars(dir: &Path, layers: impl IntoIterator<Item = Vec<u8>>, config: Value) -> Layout {
        let blobs = dir.join("blobs/sha256");
        let fail = |e: std::io::Error| -> ! { panic!("make a layout in {}: {e}", dir.display()) };
        fs::create_dir_all(&blobs).unwrap_or_else(|e| fail(e));
        let put = |bytes: &[u8]| {
            let digest = digest_of(Algorithm::Sha256, bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap_or_else(|e| fail(e));
            (digest.to_string(), bytes.len())
        };
        let kind = |name: &str| format!("application/vnd.oci.image.{name}");
        let layers: Vec<_> = layers.into_iter().map(|layer| put(&layer)).collect();
        let contents: Vec<_> = layers.iter().map(|(digest, _)| digest).collect();
        let config = json!({
            "os": "linux", "architecture": berth_model::image::Platform::host().architecture, "config": config,
            "created": "2026-01-02T03:04:05Z", "rootfs": {"type": "layers", "diff_ids": contents},
        });
        let (config, size) = put(config.to_string().as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|(digest, size)| json!({"mediaType": kind("layer.v1.tar"), "digest": digest, "size": size}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": kind("manifest.v1+json"), "layers": layers,
            "config": {"mediaType": kind("config.v1+json"), "digest": config, "size": size},
        });
        let (manifest, size) = put(manifest.to_string().as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": kind("manifest.v1+json"), "digest": manifest, "size": size,
            "annotations": {"org.opencontainers.image.ref.name": "t"},
        }]});
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap_or_else(|e| fail(e));
        fs::write(dir.join("index.json"), index.to_string()).unwrap_or_else(|e| fail(e));
        Layout { dir: dir.to_owned() }
    }

    /// How it is named.
    pub fn name(&self) -> String {
        format!("oci:{}:t", self.dir.display())
    }

    /// Copies it somewhere, with skopeo.
    ///
    /// # Panics
    /// When that does not succeed.
    #[track_caller]
    pub fn copy(&self, to: &str) {
        let args = ["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &self.name(), to];
        crate::tool("skopeo", &args);
    }
}

/// A real root file system as a tar, made once on a machine; why not, where that can not be done.
///
/// # Errors
/// What is lacking.
pub fn debian() -> Result<PathBuf, String> {
    if let Some(lacked) = crate::lacks(&["mmdebstrap"]) {
        return Err(lacked);
    }
    let cache =
        std::env::var_os("BERTH_TEST_CACHE").map_or_else(|| "/var/tmp/berth-test".into(), PathBuf::from);
    let failed = |e: std::io::Error| format!("{}: {e}", cache.display());
    fs::create_dir_all(&cache).map_err(failed)?;
    let tar = cache.join("debian.tar");
    let lock = fs::File::create(cache.join("debian.lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if !tar.exists() {
        let new = cache.join("debian.new.tar");
        let made = Command::new("mmdebstrap").args(DEBIAN).arg(&new).output();
        let made = made.map_err(failed)?;
        if !made.status.success() {
            return Err(format!("a Debian mirror: {}", String::from_utf8_lossy(&made.stderr)));
        }
        fs::rename(new, &tar).map_err(failed)?;
    }
    Ok(tar)
}
