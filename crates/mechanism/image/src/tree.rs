// SPDX-License-Identifier: Apache-2.0
//! Writing entries into a tree, by descriptors only.
//!
//! The directory of an entry is resolved in the root each time it changes (links made by the archive itself count,
//! as in `lib -> usr/lib`, and can not lead out); the entry is then made in that descriptor, by its last name,
//! without following. What is in the way is unlinked, never written through, so "a link, then a file of the same
//! name" replaces the link. Directories get their modes, owners and times at the end, since adding entries needs
//! the former and changes the latter.
//!
//! The tree must be one that nobody else can reach: it is made in a directory of mode 0700.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::archive::{Kind, Member};
use crate::below::Below;
use crate::error::Limit;
use crate::limits::Limits;
use crate::name::{Name, shown};
use crate::pax::Time;
use crate::root::{Root, kind_name, make_dir};

/// Whose the files of the tree will be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Owners {
    /// Whose they are in the archive, by number. Needs `CAP_CHOWN`.
    #[default]
    Keep,
    /// Ours, whatever the archive says: for a process without privileges. File capabilities are dropped then.
    Ours,
}

/// Why an entry could not be made.
#[derive(Debug)]
pub(crate) enum TreeFault {
    Write(&'static str, io::Error),
    Refused(String),
    TooMuch(Limit, u64),
}

pub(crate) fn write(what: &'static str) -> impl Fn(Errno) -> TreeFault {
    move |errno| TreeFault::Write(what, errno.into())
}

pub(crate) fn refused<T>(why: impl Into<String>) -> Result<T, TreeFault> {
    Err(TreeFault::Refused(why.into()))
}

/// Mode, owner and time of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) mode: Mode,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Option<Time>,
}

impl Meta {
    /// For directories that the archive uses and does not list, and for a root that it does not list.
    pub(crate) const DEFAULT: Meta = Meta { mode: Mode::from_raw_mode(0o755), uid: 0, gid: 0, mtime: None };

    pub(crate) fn of(member: &Member) -> Meta {
        let mode = Mode::from_raw_mode(member.mode & 0o7777);
        Meta { mode, uid: member.uid, gid: member.gid, mtime: Some(member.mtime) }
    }
}

/// A directory of the tree: by its real path, without links.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    depth: u32,
    meta: Meta,
    /// Whether the archive has an entry for it.
    listed: bool,
}

/// The directory that the last entry went into.
pub(crate) struct Here {
    /// As the archive names it.
    name: PathBuf,
    pub(crate) fd: OwnedFd,
    pub(crate) inode: u64,
}

pub(crate) struct Tree<'a> {
    pub(crate) root: Root,
    pub(crate) limits: &'a Limits,
    owners: Owners,
    /// Whether files and directories may be made with their modes at once: see [`Tree::make_exactly`].
    exact: bool,
    /// Whether we are the super-user: then what we make is owned by 0 and 0 as it is.
    root_user: bool,
    /// For a layer of an image: what is below it, and what it hides of that.
    pub(crate) below: Option<Below<'a>>,
    device: u64,
    /// By inode number. Everything is on one filesystem, and directories leave the map when they are removed.
    pub(crate) directories: HashMap<u64, Directory>,
    names: u64,
    here: Option<Here>,
    /// Attributes that could not be kept.
    pub(crate) dropped_xattrs: u64,
}

impl<'a> Tree<'a> {
    /// Begins in `dir`, an empty directory.
    pub(crate) fn new(dir: OwnedFd, limits: &'a Limits, owners: Owners) -> Result<Tree<'a>, TreeFault> {
        let stat = rustix::fs::fstat(&dir).map_err(write("look at the root directory"))?;
        let top = Directory { path: PathBuf::new(), depth: 0, meta: Meta::DEFAULT, listed: false };
        let root = Root::of(dir)
            .map_err(|error| TreeFault::Write("use the root directory", io::Error::other(error)))?;
        let directories = HashMap::from([(stat.st_ino, top)]);
        Ok(Tree {
            root,
            limits,
            owners,
            exact: false,
            root_user: rustix::process::geteuid().is_root() && rustix::process::getegid().is_root(),
            below: None,
            device: stat.st_dev,
            directories,
            names: 0,
            here: None,
            dropped_xattrs: 0,
        })
    }

    /// Makes files with their modes instead of setting these afterwards, which the caller may ask for when this
    /// thread has a umask of 0: changing the mode of a new file costs as much as making it.
    pub(crate) fn make_exactly(&mut self) {
        self.exact = true;
    }

    /// Makes it a layer on top of something else.
    pub(crate) fn put_on(&mut self, below: Below<'a>) {
        self.below = Some(below);
    }

    /// Makes a file, open for writing; [`Tree::finish_file`] follows.
    pub(crate) fn file(&mut self, name: &Name, member: &Member) -> Result<File, TreeFault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = match self.exact {
            true => Mode::from_raw_mode(member.mode & 0o777),
            false => Mode::RUSR | Mode::WUSR,
        };
        self.place(name, "create", |dir, last| rustix::fs::openat(dir, last, flags, mode)).map(File::from)
    }

    /// Gives a file its owner, attributes, mode and time: in this order, because a change of owner takes set-id
    /// bits and capabilities away.
    pub(crate) fn finish_file(&mut self, file: &File, member: &Member) -> Result<(), TreeFault> {
        let meta = Meta::of(member);
        self.own(file.as_fd(), &meta)?;
        self.set_xattrs(file.as_fd(), &member.xattrs, member.kind)?;
        if !self.exact || member.mode & 0o7000 != 0 {
            rustix::fs::fchmod(file, meta.mode).map_err(write("set the mode of"))?;
        }
        set_time(file.as_fd(), &meta)
    }

    /// Makes a directory, or takes the one that is there.
    pub(crate) fn directory(&mut self, name: &Name, member: &Member) -> Result<(), TreeFault> {
        let fd = match name.is_root() {
            true => {
                self.root.resolve(Path::new(""), OFlags::RDONLY | OFlags::DIRECTORY).map_err(write("open"))?
            }
            false => self.place_directory(name)?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(write("look at"))?;
        match self.directories.get_mut(&stat.st_ino) {
            Some(directory) => (directory.meta, directory.listed) = (Meta::of(member), true),
            None => return refused("a directory is there that the archive did not make"),
        }
        self.set_xattrs(fd.as_fd(), &member.xattrs, member.kind)
    }

    /// Makes a symbolic link, its target verbatim.
    pub(crate) fn symlink(&mut self, name: &Name, member: &Member) -> Result<(), TreeFault> {
        if member.link.is_empty() {
            return refused("a symbolic link to nothing");
        }
        if member.link.len() >= self.limits.path {
            return Err(TreeFault::TooMuch(Limit::Path, self.limits.path as u64));
        }
        let meta = Meta::of(member);
        let owners = self.owners;
        self.dropped_xattrs += member.xattrs.len() as u64;
        self.place(name, "make the link", |dir, last| rustix::fs::symlinkat(&member.link[..], dir, last))?;
        let already = self.is_ours(&meta);
        let here = self.parent(name)?;
        if owners == Owners::Keep && !already {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            rustix::fs::chownat(&here.fd, name.last(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(write("set the owner of"))?;
        }
        rustix::fs::utimensat(&here.fd, name.last(), &times(&meta), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(write("set the time of"))
    }

    /// Makes another name of a regular file. Its mode and owner stay: they came with the file.
    pub(crate) fn hard_link(&mut self, name: &Name, target: &Name) -> Result<(), TreeFault> {
        let file = match self.root.resolve(target.path(), OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(file) => Some(file),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if self.below.is_some() => {
                self.take_up(target)?
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(errno) => return Err(write("find the target of the hard link")(errno)),
        };
        let Some(file) = file else {
            return refused(format!(
                "a hard link to {}, which the archive did not make before",
                path(target)
            ));
        };
        let stat = rustix::fs::fstat(&file).map_err(write("look at the target of"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_dev == self.device => {}
            // Layers have these: a layer's links are ours, and a name more of one changes nothing.
            FileType::Symlink | FileType::Fifo if stat.st_dev == self.device && self.below.is_some() => {}
            other => {
                let why = format!(
                    "a hard link to {}, which is {}, not a regular file",
                    path(target),
                    kind_name(other)
                );
                return refused(why);
            }
        }
        let here = self.parent(name)?;
        match rustix::fs::statat(&here.fd, name.last(), AtFlags::SYMLINK_NOFOLLOW) {
            // Two names of one file already; clearing the way would remove its last name.
            Ok(there) if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) => return Ok(()),
            _ => {}
        }
        self.place(name, "make the hard link", |dir, last| link_fd(file.as_fd(), dir, last))
    }

    /// Makes a FIFO.
    pub(crate) fn fifo(&mut self, name: &Name, member: &Member) -> Result<(), TreeFault> {
        let meta = Meta::of(member);
        self.dropped_xattrs += member.xattrs.len() as u64;
        self.place(name, "make the FIFO", |dir, last| {
            rustix::fs::mkfifoat(dir, last, Mode::RUSR | Mode::WUSR)
        })?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let here = self.parent(name)?;
        let fifo = rustix::fs::openat(&here.fd, name.last(), flags, Mode::empty()).map_err(write("open"))?;
        self.own(fifo.as_fd(), &meta)?;
        rustix::fs::fchmod(&fifo, meta.mode).map_err(write("set the mode of"))?;
        set_time(fifo.as_fd(), &meta)
    }

    /// Makes a device file.
    pub(crate) fn device(
        &mut self,
        name: &Name,
        member: &Member,
        block: bool,
        device: u64,
    ) -> Result<(), TreeFault> {
        if !block && device == 0 {
            return refused("a character device 0:0 would delete what is below it in an overlay");
        }
        let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
        let meta = Meta::of(member);
        self.dropped_xattrs += member.xattrs.len() as u64;
        self.place(name, "make the device", |dir, last| {
            rustix::fs::mknodat(dir, last, kind, Mode::RUSR | Mode::WUSR, device)
        })?;
        let here = self.parent(name)?;
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&here.fd, name.last(), Some(uid), Some(gid), flags)
            .map_err(write("set the owner of"))?;
        // Just made by us in a directory that nobody else can reach: it is no link.
        rustix::fs::chmodat(&here.fd, name.last(), meta.mode, AtFlags::empty())
            .map_err(write("set the mode of"))?;
        rustix::fs::utimensat(&here.fd, name.last(), &times(&meta), flags).map_err(write("set the time of"))
    }

    /// What the archive says of its root directory, if it has an entry for it.
    pub(crate) fn top(&self) -> Option<Meta> {
        let top = self.directories.values().find(|directory| directory.depth == 0)?;
        top.listed.then_some(top.meta)
    }

    /// Gives all directories their owners, modes and times, deepest first, and answers the root. `go_on` is asked
    /// before each.
    pub(crate) fn finish(mut self, go_on: impl Fn() -> bool) -> Result<Option<Root>, TreeFault> {
        let mut all: Vec<_> = std::mem::take(&mut self.directories).into_iter().collect();
        all.sort_by_key(|(_, directory)| std::cmp::Reverse(directory.depth));
        for (inode, directory) in all {
            if !go_on() {
                return Ok(None);
            }
            let fd = self
                .root
                .resolve(&directory.path, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(write("open a directory again"))?;
            let stat = rustix::fs::fstat(&fd).map_err(write("look at a directory again"))?;
            if (stat.st_dev, stat.st_ino) != (self.device, inode) {
                return refused("a directory was replaced meanwhile; nobody else may write there");
            }
            self.own(fd.as_fd(), &directory.meta)?;
            rustix::fs::fchmod(&fd, directory.meta.mode).map_err(write("set the mode of a directory"))?;
            set_time(fd.as_fd(), &directory.meta)?;
        }
        Ok(Some(self.root))
    }

    /// Makes the last component of `name` with `make`; what is in the way goes first.
    fn place<T>(
        &mut self,
        name: &Name,
        what: &'static str,
        make: impl Fn(BorrowedFd<'_>, &Path) -> rustix::io::Result<T>,
    ) -> Result<T, TreeFault> {
        if name.is_root() {
            return refused("it would replace the root directory");
        }
        let here = self.parent(name)?;
        match make(here.fd.as_fd(), name.last()) {
            Err(Errno::EXIST) => {}
            made => return made.map_err(write(what)),
        }
        self.clear(name)?;
        let here = self.parent(name)?;
        make(here.fd.as_fd(), name.last()).map_err(write(what))
    }

    fn place_directory(&mut self, name: &Name) -> Result<OwnedFd, TreeFault> {
        let mut cleared = false;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let here = self.parent(name)?;
        match rustix::fs::openat(&here.fd, name.last(), flags, Mode::empty()) {
            Ok(there) => return Ok(there),
            Err(Errno::NOENT) => {}
            // A file or a link: a real directory takes its place, whatever the link pointed to.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                self.clear(name)?;
                cleared = true;
            }
            Err(errno) => return Err(write("open")(errno)),
        }
        let here = self.parent(name)?;
        let inode = here.inode;
        let fd = here.fd.try_clone().map_err(|error| TreeFault::Write("hold the directory of", error))?;
        let (fd, inode) = self.new_directory(fd.as_fd(), inode, name.last())?;
        if cleared {
            self.cut(fd.as_fd(), inode)?;
        }
        Ok(fd)
    }

    /// Removes what `name` is now, unless it is a directory with something in it.
    fn clear(&mut self, name: &Name) -> Result<(), TreeFault> {
        let here = self.parent(name)?;
        let inode = here.inode;
        let stat =
            rustix::fs::statat(&here.fd, name.last(), AtFlags::SYMLINK_NOFOLLOW).map_err(write("look at"))?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&here.fd, name.last(), flags) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                return refused("it would replace a directory that has something in it");
            }
            Err(errno) => return Err(write("replace")(errno)),
        }
        if is_dir && let Some(gone) = self.directories.remove(&stat.st_ino) {
            self.names -= gone.path.as_os_str().len() as u64;
        }
        // What is gone may have been a link on the way here (`l/l`, where `l` points to its own directory).
        match self.find(name.parent(), Absent::Refuse)? {
            Some((_, found)) if found == inode => Ok(()),
            _ => refused("it would replace a link that its own name goes through"),
        }
    }

    /// The directory that `name` goes into, made with its parents if need be.
    pub(crate) fn parent(&mut self, name: &Name) -> Result<&Here, TreeFault> {
        let wanted = name.parent();
        if self.here.as_ref().is_none_or(|here| here.name != wanted) {
            let (fd, inode) = match self.below.is_some() {
                true => match self.find(wanted, Absent::Wait)? {
                    Some(found) => found,
                    None => self.walk(wanted)?,
                },
                false => match self.find(wanted, Absent::Refuse)? {
                    Some(found) => found,
                    None => self.make_parents(name)?,
                },
            };
            self.here = Some(Here { name: wanted.into(), fd, inode });
        }
        match &self.here {
            Some(here) => Ok(here),
            None => refused("its directory can not be found"),
        }
    }

    /// Resolves a directory that must be one of ours.
    pub(crate) fn find(&self, path: &Path, absent: Absent) -> Result<Option<(OwnedFd, u64)>, TreeFault> {
        let fd = match self.root.resolve(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) if absent == Absent::Wait => return Ok(None),
            Err(Errno::NOTDIR) => return refused("its directory is not a directory"),
            Err(Errno::LOOP) => return refused("its directory is a loop of links"),
            Err(Errno::NAMETOOLONG) => return Err(self.name_too_long()),
            Err(errno) => return Err(write("find the directory of")(errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(write("look at the directory of"))?;
        match stat.st_dev == self.device && self.directories.contains_key(&stat.st_ino) {
            true => Ok(Some((fd, stat.st_ino))),
            false => refused("its directory is not one that the archive made"),
        }
    }

    fn make_parents(&mut self, name: &Name) -> Result<(OwnedFd, u64), TreeFault> {
        let mut so_far = PathBuf::new();
        let Some(mut dir) = self.find(&so_far, Absent::Refuse)? else {
            return refused("the root directory is gone");
        };
        let parts: Vec<_> = name.parts().collect();
        for part in &parts[..parts.len().saturating_sub(1)] {
            let part = Path::new(std::ffi::OsStr::from_bytes(part));
            so_far.push(part);
            dir = match self.find(&so_far, Absent::Refuse)? {
                Some(found) => found,
                None => self.new_directory(dir.0.as_fd(), dir.1, part)?,
            };
        }
        Ok(dir)
    }

    pub(crate) fn new_directory(
        &mut self,
        dir: BorrowedFd<'_>,
        parent: u64,
        name: &Path,
    ) -> Result<(OwnedFd, u64), TreeFault> {
        let Some(parent) = self.directories.get(&parent) else { return refused("its directory is gone") };
        let (path, depth) = (parent.path.join(name), parent.depth + 1);
        // Through links the real place can be deeper than the name says.
        if depth > self.limits.depth {
            return Err(TreeFault::TooMuch(Limit::Depth, self.limits.depth.into()));
        }
        let length = path.as_os_str().len();
        if length >= self.limits.path {
            return Err(TreeFault::TooMuch(Limit::Path, self.limits.path as u64));
        }
        self.names += length as u64;
        if self.names > self.limits.directory_names {
            return Err(TreeFault::TooMuch(Limit::DirectoryNames, self.limits.directory_names));
        }
        let made = match self.exact {
            true => make_dir_exactly(dir, name),
            false => make_dir(dir, name, Mode::RWXU),
        };
        let fd = match made {
            Ok(fd) => fd,
            Err(Errno::EXIST) => return refused("its directory is a link that leads nowhere"),
            Err(Errno::NAMETOOLONG) => return Err(self.name_too_long()),
            Err(errno) => return Err(write("make the directory of")(errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(write("look at the directory of"))?;
        let made = Directory { path, depth, meta: Meta::DEFAULT, listed: false };
        self.directories.insert(stat.st_ino, made);
        Ok((fd, stat.st_ino))
    }

    fn name_too_long(&self) -> TreeFault {
        TreeFault::Refused("a part of its name is longer than the filesystem allows".into())
    }

    /// Gives a directory that the archive does not list what the one below it has.
    pub(crate) fn dress(&mut self, inode: u64, meta: Meta) {
        if let Some(directory) = self.directories.get_mut(&inode) {
            directory.meta = meta;
        }
    }

    /// Whether something new has this owner as it is. (No directory of the tree has its set-group-id bit yet.)
    fn is_ours(&self, meta: &Meta) -> bool {
        self.root_user && meta.uid == 0 && meta.gid == 0
    }

    pub(crate) fn own(&self, fd: BorrowedFd<'_>, meta: &Meta) -> Result<(), TreeFault> {
        match self.owners {
            Owners::Ours => Ok(()),
            Owners::Keep if self.is_ours(meta) => Ok(()),
            Owners::Keep => {
                rustix::fs::fchown(fd, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
                    .map_err(write("set the owner of"))
            }
        }
    }

    /// Sets attributes; those that this filesystem or process can not have are counted.
    pub(crate) fn set_xattrs(
        &mut self,
        fd: BorrowedFd<'_>,
        xattrs: &[(Vec<u8>, Vec<u8>)],
        kind: Kind,
    ) -> Result<(), TreeFault> {
        for (name, value) in xattrs {
            let privileged = name.starts_with(b"security.");
            if privileged && (self.owners == Owners::Ours || kind != Kind::File) {
                self.dropped_xattrs += 1;
                continue;
            }
            match rustix::fs::fsetxattr(fd, &name[..], value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => self.dropped_xattrs += 1,
                Err(errno @ (Errno::INVAL | Errno::RANGE | Errno::TOOBIG)) => {
                    return refused(format!("its attribute {} is not a valid one ({errno})", shown(name)));
                }
                Err(errno) => return Err(write("set an attribute of")(errno)),
            }
        }
        Ok(())
    }
}

/// What a directory is that can not be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Refused, unless nothing at all is there.
    Refuse,
    /// Perhaps below: answered as nothing.
    Wait,
}

/// As [`make_dir`], where the umask is 0.
fn make_dir_exactly(dir: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn path(name: &Name) -> String {
    shown(name.path().as_os_str().as_bytes())
}

/// Links an open file (`O_PATH`) by its descriptor. Before Linux 6.10 that takes `CAP_DAC_READ_SEARCH`, and the
/// way without it is through `/proc` (linkat(2), `AT_EMPTY_PATH`).
fn link_fd(file: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    match rustix::fs::linkat(file, "", dir, name, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT) => {
            let magic = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(rustix::fs::CWD, magic, dir, name, AtFlags::SYMLINK_FOLLOW)
        }
        done => done,
    }
}

pub(crate) fn set_time(fd: BorrowedFd<'_>, meta: &Meta) -> Result<(), TreeFault> {
    match meta.mtime {
        Some(_) => rustix::fs::futimens(fd, &times(meta)).map_err(write("set the time of")),
        None => Ok(()),
    }
}

pub(crate) fn times(meta: &Meta) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let mtime = meta.mtime.map_or(omit, |time| Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() });
    Timestamps { last_access: omit, last_modification: mtime }
}
