// SPDX-License-Identifier: Apache-2.0
//! A layer on top of others: what it takes from them, and what it hides.
//!
//! A layer is unpacked alone, into a directory that overlayfs merges with others later, so that layers can be unpacked
//! at the same time and shared between images. Mostly that is all there is to it. But an archive may count on what is
//! below: a directory that it uses and does not list has the mode and owner of the one below it, a link on the way to
//! an entry may be below, a hard link may name a file below. Such things are *taken up*: made in this layer as they
//! are there. Only then is the tree below asked for (its unpacking may have to be waited for), and the layer is
//! *bound* to what it was unpacked on. So is one that deletes things: a mark that hides nothing is dropped, because
//! overlayfs would show its name in a listing.
//!
//! Deletions become overlayfs's own marks: a character device 0:0 hides a name, `trusted.overlay.opaque` on a
//! directory hides all below it. A mark hides what is below this layer, never what this layer has itself, wherever in
//! the archive it stands.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use crate::archive::Kind;
use crate::error::Limit;
use crate::name::Name;
use crate::pax::{Time, kept};
use crate::root::Root;
use crate::tree::{Absent, Meta, Tree, TreeFault, refused, times, write};

/// Answers the merged tree below a layer, or nothing for the lowest. It may wait until that tree is complete.
pub type Lower<'a> = &'a dyn Fn() -> io::Result<Option<Root>>;

/// Links followed on the way to one entry, as in the kernel.
const LINKS: u32 = 40;
/// Bytes of all names of extended attributes of one file.
const XATTR_NAMES: usize = 64 << 10;

const OPAQUE: &str = "trusted.overlay.opaque";

pub(crate) struct Below<'a> {
    lower: Lower<'a>,
    /// The tree below, once somebody has asked for it.
    tree: Option<Option<Root>>,
    /// Marks that were made, by their real paths.
    marks: Vec<PathBuf>,
    names: u64,
    /// Directories that hide all below them.
    cuts: HashSet<PathBuf>,
}

impl<'a> Below<'a> {
    pub(crate) fn new(lower: Lower<'a>) -> Below<'a> {
        Below { lower, tree: None, marks: Vec::new(), names: 0, cuts: HashSet::new() }
    }

    fn tree(&mut self) -> Result<Option<&Root>, TreeFault> {
        if self.tree.is_none() {
            let tree =
                (self.lower)().map_err(|error| TreeFault::Write("look into the layers below", error))?;
            self.tree = Some(tree);
        }
        Ok(self.tree.as_ref().and_then(Option::as_ref))
    }
}

/// What there is below, at a path whose directories are all real ones.
enum Found {
    Nothing,
    Directory(OwnedFd, Stat),
    Link(Vec<u8>, Stat),
    File(OwnedFd, Stat),
    Other,
}

impl Tree<'_> {
    /// Whether the layer depends on what is below it: see the module.
    pub(crate) fn is_bound(&self) -> bool {
        self.below.as_ref().is_some_and(|below| matches!(below.tree, Some(Some(_))))
    }

    /// Whether the layer hides everything below it.
    pub(crate) fn hides_all(&self) -> bool {
        self.below.as_ref().is_some_and(|below| below.cuts.contains(Path::new("")))
    }

    /// Hides `name` of the layers below.
    pub(crate) fn hide(&mut self, name: &Name) -> Result<(), TreeFault> {
        if self.find(name.parent(), Absent::Wait)?.is_none() && !self.is_directory_below(name.parent())? {
            return Ok(());
        }
        let here = self.parent(name)?;
        let (inode, last) = (here.inode, name.last());
        match rustix::fs::mknodat(&here.fd, last, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                return match rustix::fs::openat(&here.fd, last, flags, Mode::empty()) {
                    Ok(dir) => {
                        let inode = rustix::fs::fstat(&dir).map_err(write("look at"))?.st_ino;
                        self.cut(dir.as_fd(), inode)
                    }
                    Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                    Err(errno) => Err(write("open")(errno)),
                };
            }
            Err(errno) => return Err(write("make a deletion mark")(errno)),
        }
        let Some(path) = self.path_of(inode, last) else { return refused("its directory is gone") };
        let most = self.limits.directory_names;
        let Some(below) = &mut self.below else { return Ok(()) };
        below.names += path.as_os_str().len() as u64;
        below.marks.push(path);
        match below.names > most {
            true => Err(TreeFault::TooMuch(Limit::DirectoryNames, most)),
            false => Ok(()),
        }
    }

    /// Hides all that the layers below have in the directory of `name`.
    pub(crate) fn hide_others(&mut self, name: &Name) -> Result<(), TreeFault> {
        let here = self.parent(name)?;
        let (inode, path) = (here.inode, format!("/proc/self/fd/{}", here.fd.as_raw_fd()));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(write("open the directory of"))?;
        self.cut(dir.as_fd(), inode)
    }

    /// Makes a directory of this layer hide the one below it.
    pub(crate) fn cut(&mut self, dir: BorrowedFd<'_>, inode: u64) -> Result<(), TreeFault> {
        let Some(path) = self.directories.get(&inode).map(|directory| directory.path.clone()) else {
            return refused("its directory is gone");
        };
        let Some(below) = &mut self.below else { return Ok(()) };
        rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
            .map_err(write("mark a directory as opaque:"))?;
        below.cuts.insert(path);
        Ok(())
    }

    /// Drops the marks that hide nothing. Called once, after the last entry.
    pub(crate) fn settle(&mut self) -> Result<(), TreeFault> {
        let Some(below) = &mut self.below else { return Ok(()) };
        let marks = std::mem::take(&mut below.marks);
        for mark in marks {
            if !matches!(self.look_below(&mark)?, Found::Nothing) {
                continue;
            }
            let (Some(parent), Some(name)) = (mark.parent(), mark.file_name()) else { continue };
            // Gone with its directory, or replaced by an entry.
            let Some((dir, _)) = self.find(parent, Absent::Wait)? else { continue };
            if is_mark(dir.as_fd(), name) {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(write("drop a deletion mark"))?;
            }
        }
        Ok(())
    }

    /// Finds or makes the directory `path` where this layer does not have all of it, and answers it.
    ///
    /// Each part is opened in the directory before it, never through a link: links are read, and followed by the
    /// same steps, with `..` ending at the root.
    pub(crate) fn walk(&mut self, path: &Path) -> Result<(OwnedFd, u64), TreeFault> {
        let Some(top) = self.find(Path::new(""), Absent::Refuse)? else {
            return refused("the root directory is gone");
        };
        let mut at = vec![top];
        let mut todo = Vec::new();
        push_parts(&mut todo, path.as_os_str().as_bytes());
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                at.truncate((at.len() - 1).max(1));
                continue;
            }
            let Some((dir, inode)) = at.last() else { return refused("the root directory is gone") };
            let (inode, name) = (*inode, Path::new(OsStr::from_bytes(&part)));
            let link = match self.step(dir.as_fd(), inode, name)? {
                Step::Into(fd, inode) => {
                    at.push((fd, inode));
                    continue;
                }
                Step::Link(target) => target,
            };
            links += 1;
            if links > LINKS {
                return refused("its directory is a loop of links");
            }
            if link.first() == Some(&b'/') {
                at.truncate(1);
            }
            push_parts(&mut todo, &link);
        }
        at.pop().map_or_else(|| refused("the root directory is gone"), Ok)
    }

    fn step(&mut self, dir: BorrowedFd<'_>, inode: u64, name: &Path) -> Result<Step, TreeFault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => {
                let inode = rustix::fs::fstat(&fd).map_err(write("look at the directory of"))?.st_ino;
                return match self.directories.contains_key(&inode) {
                    true => Ok(Step::Into(fd, inode)),
                    false => refused("its directory is not one that the archive made"),
                };
            }
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(target) => return Ok(Step::Link(target.into_bytes())),
                Err(Errno::INVAL) if is_mark(dir, name.as_os_str()) => {
                    rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(write("replace a mark"))?;
                    let (fd, inode) = self.new_directory(dir, inode, name)?;
                    self.cut(fd.as_fd(), inode)?;
                    return Ok(Step::Into(fd, inode));
                }
                Err(Errno::INVAL) => return refused("its directory is not a directory"),
                Err(errno) => return Err(write("read a link on the way to")(errno)),
            },
            Err(Errno::NAMETOOLONG) => {
                return refused("a part of its name is longer than the filesystem allows");
            }
            Err(errno) => return Err(write("open the directory of")(errno)),
        }
        let Some(path) = self.path_of(inode, name) else { return refused("its directory is gone") };
        match self.look_below(&path)? {
            Found::Directory(below, stat) => {
                let (fd, inode) = self.new_directory(dir, inode, name)?;
                self.dress(inode, meta_of(&stat));
                let xattrs = xattrs_of(below.as_fd())?;
                self.set_xattrs(fd.as_fd(), &xattrs, Kind::Directory)?;
                Ok(Step::Into(fd, inode))
            }
            Found::Link(target, stat) => {
                take_link(dir, name, &target, &stat)?;
                Ok(Step::Link(target))
            }
            // A file below is replaced by a directory, as by one that is listed.
            Found::Nothing | Found::File(..) | Found::Other => {
                let (fd, inode) = self.new_directory(dir, inode, name)?;
                Ok(Step::Into(fd, inode))
            }
        }
    }

    /// Makes `name`, a file below, a file of this layer, and answers it (`O_PATH`); nothing if there is none.
    pub(crate) fn take_up(&mut self, name: &Name) -> Result<Option<OwnedFd>, TreeFault> {
        if name.is_root() {
            return Ok(None);
        }
        if self.find(name.parent(), Absent::Wait)?.is_none() && !self.is_directory_below(name.parent())? {
            return Ok(None);
        }
        let (dir, inode) = self.walk(name.parent())?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&dir, name.last(), flags, Mode::empty()) {
            // Found after all, behind a link that was below.
            Ok(_) if is_mark(dir.as_fd(), name.last().as_os_str()) => return Ok(None),
            Ok(file) => return Ok(Some(file)),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(write("find the target of the hard link")(errno)),
        }
        let Some(path) = self.path_of(inode, name.last()) else { return refused("its directory is gone") };
        match self.look_below(&path)? {
            Found::File(file, stat) => self.take_file(dir.as_fd(), name.last(), &file, &stat)?,
            Found::Link(target, stat) => take_link(dir.as_fd(), name.last(), &target, &stat)?,
            Found::Nothing | Found::Directory(..) | Found::Other => return Ok(None),
        }
        rustix::fs::openat(&dir, name.last(), flags, Mode::empty()).map(Some).map_err(write("open again"))
    }

    fn take_file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &Path,
        from: &OwnedFd,
        stat: &Stat,
    ) -> Result<(), TreeFault> {
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > self.limits.file {
            return Err(TreeFault::TooMuch(Limit::File, self.limits.file));
        }
        let failed = |error| TreeFault::Write("copy the target of the hard link of", error);
        let mut from = File::open(format!("/proc/self/fd/{}", from.as_raw_fd())).map_err(failed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(write("create the target of the hard link"))?;
        let mut to = File::from(to);
        io::copy(&mut from, &mut to).map_err(failed)?;
        let meta = meta_of(stat);
        self.own(to.as_fd(), &meta)?;
        let xattrs = xattrs_of(from.as_fd())?;
        self.set_xattrs(to.as_fd(), &xattrs, Kind::File)?;
        rustix::fs::fchmod(&to, meta.mode).map_err(write("set the mode of"))?;
        rustix::fs::futimens(&to, &times(&meta)).map_err(write("set the time of"))
    }

    /// What is below at `path`, as far as this layer lets it be seen.
    fn look_below(&mut self, path: &Path) -> Result<Found, TreeFault> {
        let Some(below) = &mut self.below else { return Ok(Found::Nothing) };
        if path.ancestors().skip(1).any(|dir| below.cuts.contains(dir)) {
            return Ok(Found::Nothing);
        }
        let Some(tree) = below.tree()? else { return Ok(Found::Nothing) };
        let found = match tree.resolve_plain(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Found::Nothing),
            Err(errno) => return Err(write("look below")(errno)),
        };
        let stat = rustix::fs::fstat(&found).map_err(write("look below"))?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Directory(found, stat),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&found, "", Vec::new()).map_err(write("read below"))?;
                Found::Link(target.into_bytes(), stat)
            }
            FileType::RegularFile => Found::File(found, stat),
            _ => Found::Other,
        })
    }

    /// Whether `path` leads to a directory in what is below, alone.
    fn is_directory_below(&mut self, path: &Path) -> Result<bool, TreeFault> {
        let Some(below) = &mut self.below else { return Ok(false) };
        let Some(tree) = below.tree()? else { return Ok(false) };
        Ok(tree.resolve(path, OFlags::PATH | OFlags::DIRECTORY).is_ok())
    }

    fn path_of(&self, directory: u64, name: &Path) -> Option<PathBuf> {
        self.directories.get(&directory).map(|directory| directory.path.join(name))
    }
}

enum Step {
    Into(OwnedFd, u64),
    Link(Vec<u8>),
}

/// The parts of `path`, the first one last.
fn push_parts(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    todo.extend(parts.rev().map(<[u8]>::to_vec));
}

fn is_mark(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

fn take_link(dir: BorrowedFd<'_>, name: &Path, target: &[u8], stat: &Stat) -> Result<(), TreeFault> {
    rustix::fs::symlinkat(target, dir, name).map_err(write("make a link that is below"))?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags) {
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(write("set the owner of a link of")(errno)),
    }
    rustix::fs::utimensat(dir, name, &times(&meta_of(stat)), flags)
        .map_err(write("set the time of a link of"))
}

fn meta_of(stat: &Stat) -> Meta {
    let nsec = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Meta {
        mode: Mode::from_raw_mode(stat.st_mode & 0o7777),
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Some(Time { sec: stat.st_mtime, nsec }),
    }
}

/// Names and values.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The attributes of a file below that an archive could have given it.
fn xattrs_of(file: BorrowedFd<'_>) -> Result<Xattrs, TreeFault> {
    let path = PathBuf::from(std::ffi::OsString::from_vec(
        format!("/proc/self/fd/{}", file.as_raw_fd()).into_bytes(),
    ));
    let mut names = vec![0; XATTR_NAMES];
    let count = match rustix::fs::listxattr(&path, &mut names[..]) {
        Ok(count) => count,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(write("list the attributes below")(errno)),
    };
    names.truncate(count);
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| kept(name)) {
        let mut value = vec![0; XATTR_NAMES];
        match rustix::fs::getxattr(&path, OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(errno) => return Err(write("read an attribute below")(errno)),
        }
        found.push((name.to_vec(), value));
    }
    Ok(found)
}
