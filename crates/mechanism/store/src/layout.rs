// SPDX-License-Identifier: Apache-2.0
//! The store's directories, and the locks by which processes share them.
//!
//! ```text
//! store/ 0700
//!   lock                 flock: shared to publish or to lease, exclusive to remove; held for moments only
//!   store                record: version, and the boot in which it was last looked through
//!   blobs/sha256-<hex>   manifests and configurations, byte for byte
//!   layers/sha256-<hex>/ record, rootfs/: a layer as overlayfs wants it
//!   manifests/…          record: which layers make an image
//!   images/<hex>         record: a name, and the manifest that it stands for; its mtime is the last use
//!   staging/<name>/      of one pull: lock (held as long as it lives), relied (what it counts on), layers being made
//!   claims/…             flock: whoever fetches a blob or makes a layer; the others wait
//!   leases/<holder>      record: what a container holds
//!   trash/…              being removed
//! ```
//!
//! Whatever is there under its final name is complete: it was made elsewhere and renamed. Several processes (an
//! agent, one-shot commands) use one store at once; none needs another to be alive.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_image::Cancel;
use berth_model::image::Digest;
use rustix::fs::{CWD, FlockOperation, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

use crate::error::{Result, StoreError};

/// How long anybody may hold the lock before others give up. Removals hold it to decide and to rename.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Layout {
    pub(crate) path: PathBuf,
    pub(crate) root: OwnedFd,
    pub(crate) blobs: OwnedFd,
    pub(crate) layers: OwnedFd,
    pub(crate) manifests: OwnedFd,
    pub(crate) images: OwnedFd,
    pub(crate) staging: OwnedFd,
    pub(crate) claims: OwnedFd,
    pub(crate) leases: OwnedFd,
    pub(crate) trash: OwnedFd,
}

/// A lock that ends with it.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "its end is the unlock")] OwnedFd);

impl Layout {
    /// Opens the store at `path`, made if it is not there; its parent must be.
    pub(crate) fn open(path: &Path) -> Result<Layout> {
        let root = directory(CWD, path, path)?;
        let sub = |name: &str| directory(root.as_fd(), Path::new(name), &path.join(name));
        let staging = sub("staging")?;
        spread(&staging);
        Ok(Layout {
            path: path.to_owned(),
            blobs: sub("blobs")?,
            layers: sub("layers")?,
            manifests: sub("manifests")?,
            images: sub("images")?,
            staging,
            claims: sub("claims")?,
            leases: sub("leases")?,
            trash: sub("trash")?,
            root,
        })
    }

    /// Nothing is removed while this is held.
    pub(crate) fn share(&self) -> Result<Held> {
        self.lock(FlockOperation::NonBlockingLockShared)
    }

    /// Nothing is published or leased while this is held.
    pub(crate) fn exclude(&self) -> Result<Held> {
        self.lock(FlockOperation::NonBlockingLockExclusive)
    }

    fn lock(&self, how: FlockOperation) -> Result<Held> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(held) = try_lock(self.root.as_fd(), "lock", how, &self.path)? {
                return Ok(held);
            }
            if Instant::now() >= deadline {
                return Err(StoreError::Locked { path: self.path.join("lock"), seconds: PATIENCE.as_secs() });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Waits to be the only one who makes `what`, in all processes. `waiting` is called when it has to wait.
    pub(crate) fn claim(
        &self,
        what: &Digest,
        cancel: &Cancel,
        mut waiting: impl FnMut(),
    ) -> Result<Option<Held>> {
        let name = file_name(what);
        let how = FlockOperation::NonBlockingLockExclusive;
        let mut first = true;
        loop {
            if let Some(held) = try_lock(self.claims.as_fd(), &name, how, &self.path.join("claims"))? {
                return Ok(Some(held));
            }
            if std::mem::take(&mut first) {
                waiting();
            }
            if cancel.wait(Duration::from_millis(10)) {
                return Ok(None);
            }
        }
    }
}

/// Tries to lock a file that others may remove: what is locked must still have its name.
pub(crate) fn try_lock(
    dir: BorrowedFd<'_>,
    name: &str,
    how: FlockOperation,
    path: &Path,
) -> Result<Option<Held>> {
    loop {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(StoreError::io("open the lock", path.join(name)))?;
        match rustix::fs::flock(&file, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(StoreError::io("lock", path.join(name))(errno)),
        }
        let held = rustix::fs::fstat(&file).map_err(StoreError::io("look at the lock", path.join(name)))?;
        match rustix::fs::statat(dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino) => {
                return Ok(Some(Held(file)));
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(StoreError::io("look at the lock", path.join(name))(errno)),
        }
    }
}

/// The name of a file or directory that a digest names.
pub(crate) fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

/// And back.
pub(crate) fn digest_of_name(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Opens a directory of ours, made with mode 0700 if it is not there.
pub(crate) fn directory(dir: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<OwnedFd> {
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(StoreError::io("make the directory", path)(errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(StoreError::io("open the directory", path))
}

/// Has ext4 put what is made in `dir` into block groups far from one another, as it does below the top of a disk.
///
/// Otherwise all pulls write into the group of the store, and there a pull after a removal crawls: ext4 gives out no inode
/// that was freed in the last minute (five, where its block is not written yet), and looks at each of them for each file
/// that is made. Other file systems know no such mark, and need none.
fn spread(dir: &OwnedFd) {
    if let Ok(flags) = ioctl_getflags(dir)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = ioctl_setflags(dir, flags | IFlags::TOPDIR);
    }
}

/// The names in a directory of ours, without temporary ones.
pub(crate) fn names(dir: BorrowedFd<'_>, path: &Path) -> Result<Vec<String>> {
    let failed = |errno| StoreError::io("list", path)(errno);
    let again =
        rustix::fs::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(again).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().to_str()
            && !name.starts_with('.')
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Whether something of that name is there.
pub(crate) fn exists(dir: BorrowedFd<'_>, name: &str) -> bool {
    rustix::fs::statat(dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// A name that no other process gives.
pub(crate) fn fresh_name() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_nanos());
    format!("{}-{number}-{time:x}", std::process::id())
}
