// SPDX-License-Identifier: Apache-2.0
//! Archives made by hand, header by header, so that they can lie; and a place to unpack them in.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use berth_image::{Options, Owners, Progress, UnpackError, Unpacked, unpack_from};

/// One header; what is not set is an empty regular file of ours with mode 0644.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
    /// What the header says; the length of the data if not set.
    pub(crate) size: Option<u64>,
    pub(crate) data: Vec<u8>,
    pub(crate) gnu: bool,
}

impl Entry {
    pub(crate) fn new(kind: u8, name: impl AsRef<[u8]>) -> Entry {
        Entry {
            name: name.as_ref().to_vec(),
            kind,
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_000_000_000,
            size: None,
            data: Vec::new(),
            gnu: false,
        }
    }

    pub(crate) fn header(&self) -> [u8; 512] {
        let mut block = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, &number(self.uid, 8));
        put(116, &number(self.gid, 8));
        put(124, &number(self.size.unwrap_or(self.data.len() as u64), 12));
        put(136, &number(self.mtime, 12));
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, if self.gnu { b"ustar  \0" } else { b"ustar\x0000" });
        seal(&mut block);
        block
    }
}

/// Writes the checksum.
pub(crate) fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn number(value: u64, width: usize) -> Vec<u8> {
    let octal = format!("{value:0width$o}", width = width - 1);
    if octal.len() < width {
        return octal.into_bytes();
    }
    let mut binary = vec![0; width];
    let bytes = value.to_be_bytes();
    let count = width.min(8);
    binary[width - count..].copy_from_slice(&bytes[8 - count..]);
    binary[0] |= 0x80;
    binary
}

/// A growing archive.
#[derive(Default, Clone)]
pub(crate) struct Tar {
    pub(crate) bytes: Vec<u8>,
}

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar::default()
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Tar {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn add(self, entry: &Entry) -> Tar {
        let padding = vec![0; entry.data.len().next_multiple_of(512) - entry.data.len()];
        self.raw(&entry.header()).raw(&entry.data).raw(&padding)
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Tar {
        self.add(&Entry { data: data.as_ref().to_vec(), ..Entry::new(b'0', name) })
    }

    pub(crate) fn file_mode(self, name: impl AsRef<[u8]>, mode: u32) -> Tar {
        self.add(&Entry { mode, ..Entry::new(b'0', name) })
    }

    pub(crate) fn dir(self, name: impl AsRef<[u8]>, mode: u32) -> Tar {
        self.add(&Entry { mode, ..Entry::new(b'5', name) })
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Tar {
        self.add(&Entry { link: to.as_ref().to_vec(), mode: 0o777, ..Entry::new(b'2', name) })
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Tar {
        self.add(&Entry { link: to.as_ref().to_vec(), ..Entry::new(b'1', name) })
    }

    /// An extended header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        self.pax_kind(b'x', records)
    }

    pub(crate) fn pax_kind(self, kind: u8, records: &[(&str, &[u8])]) -> Tar {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.add(&Entry { data, ..Entry::new(kind, "pax") })
    }

    /// A long name (`L`) or link (`K`) of GNU tar for the next entry.
    pub(crate) fn long(self, kind: u8, text: impl AsRef<[u8]>) -> Tar {
        let data = [text.as_ref(), b"\0"].concat();
        self.add(&Entry { data, gnu: true, ..Entry::new(kind, "././@LongLink") })
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).bytes
    }
}

pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// A directory with a target to unpack into and a canary beside it that nothing may touch.
pub(crate) struct Yard {
    dir: tempfile::TempDir,
    canary: BTreeMap<PathBuf, String>,
}

impl Yard {
    pub(crate) fn new() -> Yard {
        let dir = tempfile::Builder::new().prefix("berth-image-").tempdir().unwrap();
        let canary = dir.path().join("canary");
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("secret"), "untouched").unwrap();
        fs::set_permissions(canary.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(canary.join("sub")).unwrap();
        fs::set_permissions(canary.join("sub"), fs::Permissions::from_mode(0o711)).unwrap();
        let canary = snapshot(&canary);
        Yard { dir, canary }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The canary's place as an archive would name it.
    pub(crate) fn canary(&self) -> String {
        self.path("canary").to_str().unwrap().to_owned()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path("target").join("rootfs")
    }

    pub(crate) fn unpack(&self, archive: &[u8]) -> Result<Unpacked, UnpackError> {
        self.unpack_with(archive, &options())
    }

    /// Unpacks, and checks what holds for every archive: the canary is as it was, and after an error nothing of
    /// the archive is left.
    pub(crate) fn unpack_with(&self, archive: &[u8], options: &Options<'_>) -> Result<Unpacked, UnpackError> {
        let unpacked = unpack_from(archive, &self.path("target"), options, &mut |_: Progress| {});
        self.check(unpacked.is_err());
        unpacked
    }

    pub(crate) fn check(&self, failed: bool) {
        assert_eq!(snapshot(&self.path("canary")), self.canary, "the canary was touched");
        if failed {
            assert!(!self.path("target").exists(), "something is left after an error");
        } else {
            assert_eq!(fs::metadata(self.path("target")).unwrap().mode() & 0o7777, 0o700);
        }
        let mut beside: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        beside.retain(|name| name != "target" && name != "canary");
        assert!(beside.is_empty(), "something appeared beside the target: {beside:?}");
    }

    /// The message of the refusal, with its causes.
    pub(crate) fn refusal(&self, archive: &[u8]) -> String {
        self.refusal_with(archive, &options())
    }

    pub(crate) fn refusal_with(&self, archive: &[u8], options: &Options<'_>) -> String {
        match self.unpack_with(archive, options) {
            Ok(unpacked) => panic!("it was unpacked: {unpacked:?}"),
            Err(error) => chain(&error),
        }
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.rootfs().join(name)).unwrap()
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.rootfs().join(name)).unwrap().mode() & 0o7777
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.rootfs().join(name)).is_ok()
    }
}

/// A tree may have directories that only our own remover gets rid of without privileges.
impl Drop for Yard {
    fn drop(&mut self) {
        if let Ok(dir) = fs::File::open(self.dir.path()) {
            berth_image::remove_tree(dir.as_fd(), OsStr::new("target"));
        }
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Owners are kept where that is possible.
pub(crate) fn options() -> Options<'static> {
    let owners = if is_root() { Owners::Keep } else { Owners::Ours };
    Options { owners, ..Options::default() }
}

/// Everything about a tree that an attack might change.
pub(crate) fn snapshot(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let facts =
            (meta.mode(), meta.uid(), meta.gid(), meta.nlink(), meta.mtime(), meta.ctime_nsec(), content);
        all.insert(path.clone(), format!("{facts:?}"));
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all
}
