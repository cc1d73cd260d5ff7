// SPDX-License-Identifier: Apache-2.0
//! Writing below a directory that somebody may be changing: each entry is made in a directory that was reached from the
//! first without any link, under a name of ours, and takes its own by a rename, which replaces a link and never follows it.

use super::node::{ITSELF, Meta, Node, Take};
use berth_sys::Errno;
use berth_sys::rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, fchmod, fchown, futimens, linkat,
    mkdirat, openat, openat2, renameat, symlinkat, unlinkat,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A place below which entries are made.
pub(super) struct Tree {
    base: OwnedFd,
    /// What the first entry is called here, instead of its own name; nothing: it is the base itself.
    top: PathBuf,
    /// How many of the first components of each path `top` stands for.
    replaced: usize,
    owner: Option<(u32, u32)>,
    /// Bits that no file gets.
    without: u32,
    made: u64,
}

impl Tree {
    /// Below `base`, where the first entry is called `top`; of each path the first `replaced` components are that.
    pub(super) fn new(base: OwnedFd, top: PathBuf, replaced: usize) -> Tree {
        Tree { base, top, replaced, owner: None, without: 0, made: 0 }
    }

    /// All that is made belongs to them; otherwise to whom it belongs where it comes from.
    pub(super) fn owned_by(mut self, uid: u32, gid: u32) -> Tree {
        self.owner = Some((uid, gid));
        self
    }

    /// Nothing that is made has these bits.
    pub(super) fn without(mut self, bits: u32) -> Tree {
        self.without = bits;
        self
    }

    fn place(&self, path: &Path) -> PathBuf {
        let rest: PathBuf = path.components().skip(self.replaced).collect();
        if rest.as_os_str().is_empty() { self.top.clone() } else { self.top.join(rest) }
    }

    fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            None => Ok(self.base.try_clone()?),
            Some(parent) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Ok(within(&self.base, parent, flags)?)
            }
        }
    }

    fn finish(&self, fd: impl AsFd, meta: &Meta) -> io::Result<()> {
        let (uid, gid) = self.owner.unwrap_or((meta.uid, meta.gid));
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        // After the owner, whose change takes bits away.
        Ok(fchmod(&fd, Mode::from_raw_mode(meta.mode & !self.without))?)
    }

    fn directory(&self, path: &Path, meta: &Meta) -> io::Result<()> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let parent = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => self.finish(openat(&parent, name, flags, Mode::empty())?, meta),
            // It stays as it is; a link or a file in its place is no directory.
            Err(Errno::EXIST) => Ok(openat(&parent, name, flags, Mode::empty()).map(drop)?),
            Err(error) => Err(error.into()),
        }
    }

    fn file(&self, parent: &OwnedFd, name: &str, meta: &Meta, reader: &mut dyn io::Read) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?.into();
        io::copy(reader, &mut file)?;
        self.finish(&file, meta)?;
        let time = Timespec { tv_sec: meta.mtime.0, tv_nsec: meta.mtime.1.into() };
        Ok(futimens(&file, &Timestamps { last_access: time, last_modification: time })?)
    }

    fn link(&self, parent: &OwnedFd, name: &str, meta: &Meta, target: &OsStr) -> io::Result<()> {
        symlinkat(target, parent, name)?;
        let (uid, gid) = self.owner.unwrap_or((meta.uid, meta.gid));
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(berth_sys::rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

impl Take for Tree {
    fn take(&mut self, path: &Path, meta: &Meta, node: Node<'_>) -> io::Result<()> {
        let path = self.place(path);
        if let Node::Directory = node {
            return self.directory(&path, meta);
        }
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let parent = self.parent(&path)?;
        self.made += 1;
        let temporary = format!(".berth-cp-{}-{}", std::process::id(), self.made);
        let made = match node {
            Node::File(_, reader) => self.file(&parent, &temporary, meta, reader),
            Node::Link(target) => self.link(&parent, &temporary, meta, target),
            Node::Same(other) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let other = within(&self.base, &self.place(other), flags)?;
                linkat(other, c"", &parent, &temporary, ITSELF).map_err(Into::into)
            }
            Node::Directory => Ok(()),
        };
        let placed = made.and_then(|()| Ok(renameat(&parent, &temporary, &parent, name)?));
        if placed.is_err() {
            let _ = unlinkat(&parent, &temporary, AtFlags::empty());
        }
        placed
    }
}

/// Opens something below a directory, without following any link.
fn within(base: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: something was renamed meanwhile, and the kernel can not be sure.
    loop {
        match openat2(base, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}
