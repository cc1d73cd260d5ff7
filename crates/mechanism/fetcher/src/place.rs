// SPDX-License-Identifier: Apache-2.0
//! A file of the cache into a sandbox, by the agent.
//!
//! In this order, the first that works:
//!
//! 1. **Shared blocks** (`FICLONE`): a file of the user's own, at once, on filesystems that have it (btrfs, xfs, bcachefs).
//! 2. **A hard link**, at once, for files above [`crate::Config::share_above`]: the file stays the agent's and read-only,
//!    so it must be a user who can not get around that: not root, and no capabilities over files. Anybody else could
//!    write to it through the link, and into the sandboxes of all who come after.
//! 3. **A copy** in the kernel, a file of the user's own.
//!
//! A read-only mount of the file would be another way for privileged users. It would have to be made in each container's
//! mount namespace and held until its end, could not be removed or replaced by the task, and would keep the sandbox from
//! being collected; a copy is what Mesos gives and breaks nothing.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::cache::{Cache, Ready};
use crate::fetcher::{How, RunAs};
use crate::stop::Bell;

/// Bytes copied between two looks at whether it is to stop.
const PIECE: usize = 32 << 20;

/// Who gets the file, and how it may be given.
pub(crate) struct Order<'a> {
    pub(crate) sandbox: BorrowedFd<'a>,
    pub(crate) output: &'a Path,
    pub(crate) executable: bool,
    pub(crate) user: Option<&'a RunAs>,
    /// Files above this may be linked.
    pub(crate) share_above: Option<u64>,
}

/// Puts a file of the cache at its place in a sandbox. `None`: it was stopped.
pub(crate) fn put(cache: &Cache, ready: &Ready, order: &Order<'_>, stop: &Bell) -> io::Result<Option<How>> {
    let last = order.output.file_name().ok_or(Errno::INVAL)?;
    let dir = parents(order)?;
    let temporary = temporary();
    let made = fill(cache, ready, order, stop, dir.as_fd(), &temporary);
    let placed = made.and_then(|how| {
        if how.is_some() {
            rustix::fs::renameat(&dir, temporary.as_str(), &dir, last)?;
        }
        Ok(how)
    });
    if !matches!(placed, Ok(Some(_))) {
        let _ = rustix::fs::unlinkat(&dir, temporary.as_str(), AtFlags::empty());
    }
    placed
}

fn fill(
    cache: &Cache,
    ready: &Ready,
    order: &Order<'_>,
    stop: &Bell,
    dir: BorrowedFd<'_>,
    name: &str,
) -> io::Result<Option<How>> {
    let from = cache.open_file(ready)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to: File = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?.into();
    let how = if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        How::Cloned
    } else if is_linkable(ready, order) && link(cache, ready, dir, name)? {
        return Ok(Some(How::Linked));
    } else if copy(&from, &to, stop)? {
        How::Copied
    } else {
        return Ok(None);
    };
    if let Some(user) = order.user.filter(|_| rustix::process::geteuid().is_root()) {
        rustix::fs::fchown(&to, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
    }
    rustix::fs::fchmod(&to, Mode::from_raw_mode(if order.executable { 0o755 } else { 0o644 }))?;
    Ok(Some(how))
}

fn is_linkable(ready: &Ready, order: &Order<'_>) -> bool {
    let large = order.share_above.is_some_and(|above| ready.size > above);
    let stranger = order.user.is_some_and(|user| {
        let ours = rustix::process::geteuid().as_raw();
        ours == 0 && user.uid != 0 && !user.has_file_capabilities
    });
    large && stranger && ready.executable == order.executable
}

fn link(cache: &Cache, ready: &Ready, dir: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
    match cache.link(ready, dir, OsStr::new(name)) {
        Ok(()) => Ok(true),
        // Another filesystem, or no more links: the file that was there is made again.
        Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn copy(from: &File, to: &File, stop: &Bell) -> io::Result<bool> {
    loop {
        if stop.has_rung() {
            return Ok(false);
        }
        match rustix::fs::copy_file_range(from, None, to, None, PIECE) {
            Ok(0) => return Ok(true),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut from = from;
    let mut piece = vec![0; 1 << 20];
    loop {
        if stop.has_rung() {
            return Ok(false);
        }
        match io::Read::read(&mut from, &mut piece)? {
            0 => return Ok(true),
            count => io::Write::write_all(&mut { to }, &piece[..count])?,
        }
    }
}

/// The directory of the file, made if need be. The sandbox may be somebody's who is running, so no link is followed.
fn parents(order: &Order<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let still = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut dir = order.sandbox.try_clone_to_owned()?;
    let parent = order.output.parent().unwrap_or(Path::new(""));
    for component in parent.components() {
        let Component::Normal(name) = component else { return Err(Errno::INVAL.into()) };
        let open = || rustix::fs::openat2(&dir, name, flags, Mode::empty(), still);
        dir = match open() {
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(&dir, name, Mode::RWXU)?;
                let made = open()?;
                if let Some(user) = order.user.filter(|_| rustix::process::geteuid().is_root()) {
                    rustix::fs::fchown(&made, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
                }
                rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
                made
            }
            found => found?,
        };
    }
    Ok(dir)
}

fn temporary() -> String {
    let mut bytes = [0u8; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!(".fetch-{:016x}", u64::from_ne_bytes(bytes))
}
