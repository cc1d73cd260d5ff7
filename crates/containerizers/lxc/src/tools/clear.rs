// SPDX-License-Identifier: Apache-2.0
//! Taking away what a creation that was ended left half-made.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use berth_sys::rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock, open};

use super::{Call, Error, Name, Result};

/// In a container's directory as long as LXC makes it.
const PARTIAL: &str = "partial";
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a container is half-made and nobody is making it: whoever does so has a lock on LXC's mark.
pub fn is_left(lxcpath: &Path, name: &Name) -> bool {
    let mark = name.place(lxcpath).join(PARTIAL);
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(mark) = open(&mark, flags, Mode::empty()) else { return false };
    fcntl_lock(&mark, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Removes a half-made container. One that is whole, or not LXC's, is left alone.
///
/// # Errors
/// Something of it stays.
pub fn clear(lxcpath: &Path, name: &Name) -> Result<()> {
    if name.place(lxcpath).join(PARTIAL).symlink_metadata().is_err() {
        return Ok(());
    }
    take_away(lxcpath, name)
}

/// Removes what there is of a container.
pub(crate) fn take_away(lxcpath: &Path, name: &Name) -> Result<()> {
    // LXC knows how its storage is taken down: volumes, loop devices. What that leaves is files.
    let _ = Call::new("lxc-destroy", lxcpath, name).argument("--force").deadline(PATIENCE).end(&mut |_| {});
    remove_tree(lxcpath, name.as_str())
}

/// Removes a directory by descriptors: no link in it is followed, and no other file system entered.
pub(crate) fn remove_tree(above: &Path, name: &str) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = match open(above, flags, Mode::empty()) {
        Err(berth_sys::rustix::io::Errno::NOENT) => return Ok(()),
        fd => fd.map_err(|errno| Error::file("open", above)(errno.into()))?,
    };
    let removal = berth_image::remove_tree(fd.as_fd(), OsStr::new(name));
    match removal.failures.first() {
        None => Ok(()),
        Some(failure) => {
            let error = std::io::Error::other(format!("{failure}: {}", failure.source));
            Err(Error::file("remove", above.join(name))(error))
        }
    }
}
