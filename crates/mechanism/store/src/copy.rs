// SPDX-License-Identifier: Apache-2.0
//! Layers copied on top of one another, for file systems on which overlayfs does not work.
//!
//! What overlayfs does when it looks is done here once: a character device 0:0 removes what is below, an opaque
//! directory replaces it. Data is shared where the file system can (reflinks), holes stay holes, hard links within a
//! layer stay links. Directories are opened by the one before, never through links.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use berth_image::{Cancel, remove_tree};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use crate::error::{Result, StoreError};
use crate::records::RootMode;
use crate::rootfs::dress;

/// Directories within one another; layers have no more than 256.
const DEPTH: u32 = 1024;
const XATTRS: usize = 64 << 10;

type Step<T> = std::result::Result<T, (&'static str, PathBuf, io::Error)>;

/// A file is copied in pieces of so many bytes, and between two of them it may end.
const PIECE: u64 = 64 << 20;

/// Copies the layers of an image, the highest first as [`crate::Store::open_layers`] has them, into the directory `target`
/// (`path`), which is ours alone and empty. It takes as long as it takes, and ends at once when cancelled.
///
/// # Errors
/// [`StoreError`]; what was copied until then is there.
pub fn copy_image(
    layers: &[OwnedFd],
    top: RootMode,
    target: &OwnedFd,
    path: &Path,
    cancel: &Cancel,
) -> Result<()> {
    copy_layers(layers.iter().rev().map(AsFd::as_fd), target.as_fd(), path, cancel)?;
    dress(target, top, path)
}

/// Copies `layers`, the lowest first, into the directory `target`, which is ours alone.
fn copy_layers<'l>(
    layers: impl Iterator<Item = BorrowedFd<'l>>,
    target: BorrowedFd<'_>,
    path: &Path,
    cancel: &Cancel,
) -> Result<()> {
    for layer in layers {
        let mut copy = Copy { target, links: HashMap::new(), path: PathBuf::new(), cancel };
        copy.directory(layer, target, 0).map_err(|(what, at, source)| StoreError::Io {
            what,
            path: path.join(at),
            source,
        })?;
    }
    Ok(())
}

struct Copy<'t> {
    target: BorrowedFd<'t>,
    /// Files with several names, by inode: where the first one was copied to.
    links: HashMap<u64, PathBuf>,
    /// Where it is, relative to the top.
    path: PathBuf,
    cancel: &'t Cancel,
}

impl Copy<'_> {
    fn go_on(&self) -> Step<()> {
        match self.cancel.is_cancelled() {
            true => {
                Err(("copy, until it was cancelled,", self.path.clone(), io::ErrorKind::Interrupted.into()))
            }
            false => Ok(()),
        }
    }

    fn directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Step<()> {
        if depth > DEPTH {
            return Err(("copy what is too deep:", self.path.clone(), io::ErrorKind::InvalidData.into()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let list = rustix::fs::openat(from, c".", flags, Mode::empty()).map_err(self.failed("list"))?;
        for entry in Dir::new(list).map_err(self.failed("list"))? {
            let entry = entry.map_err(self.failed("list"))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.path.push(OsStr::from_bytes(name.to_bytes()));
            self.entry(from, to, name, depth)?;
            self.path.pop();
        }
        Ok(())
    }

    fn entry(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Step<()> {
        self.go_on()?;
        let stat =
            rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(self.failed("look at"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(self.failed("open"))?;
            if is_opaque(&source) || !is_directory(to, name) {
                self.clear(to, name)?;
            }
            match rustix::fs::mkdirat(to, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.failed("make the directory")(errno)),
            }
            let made = rustix::fs::openat(to, name, flags, Mode::empty()).map_err(self.failed("open"))?;
            self.directory(source.as_fd(), made.as_fd(), depth + 1)?;
            return self.finish(&source, &made, &stat);
        }
        self.clear(to, name)?;
        match kind {
            FileType::CharacterDevice if stat.st_rdev == 0 => Ok(()),
            FileType::RegularFile => self.file(from, to, name, &stat),
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(from, name, Vec::new()).map_err(self.failed("read the link"))?;
                rustix::fs::symlinkat(target.as_c_str(), to, name).map_err(self.failed("make the link"))?;
                self.finish_other(to, name, &stat)
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                rustix::fs::mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)
                    .map_err(self.failed("make the special file"))?;
                self.finish_other(to, name, &stat)?;
                // Made a moment ago in a directory of ours: no link.
                rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())
                    .map_err(self.failed("set the mode of"))
            }
            FileType::Directory | FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    fn file(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Step<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                return rustix::fs::linkat(self.target, first, to, name, AtFlags::empty())
                    .map_err(self.failed("make the hard link"));
            }
            self.links.insert(stat.st_ino, self.path.clone());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(self.failed("open"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made =
            rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(self.failed("create"))?;
        if rustix::fs::ioctl_ficlone(&made, &source).is_err() {
            self.data(&source, &made, stat)?;
        }
        self.finish(&source, &made, stat)
    }

    /// Copies the data, piece by piece between the holes.
    fn data(&self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Step<()> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let (from, to) = (File::from(from.try_clone().map_err(self.broken("copy"))?), to);
        let to = File::from(to.try_clone().map_err(self.broken("copy"))?);
        let mut at = 0;
        while at < size {
            let begin = match rustix::fs::seek(&from, SeekFrom::Data(at)) {
                Ok(begin) => begin,
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(self.failed("find the data of")(errno)),
            };
            self.go_on()?;
            let end =
                rustix::fs::seek(&from, SeekFrom::Hole(begin)).map_err(self.failed("find the holes of"))?;
            let end = end.min(begin + PIECE);
            rustix::fs::seek(&from, SeekFrom::Start(begin)).map_err(self.failed("copy"))?;
            rustix::fs::seek(&to, SeekFrom::Start(begin)).map_err(self.failed("copy"))?;
            // copy_file_range(2) where the kernel has it for these two.
            io::copy(&mut io::Read::take(&from, end - begin), &mut &to).map_err(self.broken("copy"))?;
            at = end.max(begin + 1);
        }
        to.set_len(size).map_err(self.broken("copy"))
    }

    fn finish(&self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Step<()> {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(to, Some(uid), Some(gid)).map_err(self.failed("set the owner of"))?;
        self.xattrs(from, to)?;
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))
            .map_err(self.failed("set the mode of"))?;
        rustix::fs::futimens(to, &times(stat)).map_err(self.failed("set the time of"))
    }

    fn finish_other(&self, dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Step<()> {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags)
            .map_err(self.failed("set the owner of"))?;
        rustix::fs::utimensat(dir, name, &times(stat), flags).map_err(self.failed("set the time of"))
    }

    /// Layers have attributes that their archive may give, and overlayfs's marks, which end here.
    fn xattrs(&self, from: &OwnedFd, to: &OwnedFd) -> Step<()> {
        let mut list = vec![0; XATTRS];
        let count = match rustix::fs::flistxattr(from, &mut list[..]) {
            Ok(count) => count,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(self.failed("list the attributes of")(errno)),
        };
        for name in list[..count].split(|&byte| byte == 0) {
            if !(name.starts_with(b"user.") || name == b"security.capability") {
                continue;
            }
            let Ok(name) = CString::new(name) else { continue };
            let mut value = vec![0; XATTRS];
            let length = rustix::fs::fgetxattr(from, name.as_c_str(), &mut value[..])
                .map_err(self.failed("read an attribute of"))?;
            rustix::fs::fsetxattr(to, name.as_c_str(), &value[..length], XattrFlags::empty())
                .map_err(self.failed("set an attribute of"))?;
        }
        Ok(())
    }

    /// Removes what a lower layer has put there.
    fn clear(&self, dir: BorrowedFd<'_>, name: &CStr) -> Step<()> {
        let removal = remove_tree(dir, OsStr::from_bytes(name.to_bytes()));
        match removal.failures.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(("replace", self.path.clone(), first.source)),
        }
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(Errno) -> (&'static str, PathBuf, io::Error) + use<> {
        let path = self.path.clone();
        move |errno| (what, path, errno.into())
    }

    fn broken(
        &self,
        what: &'static str,
    ) -> impl FnOnce(io::Error) -> (&'static str, PathBuf, io::Error) + use<> {
        let path = self.path.clone();
        move |error| (what, path, error)
    }
}

fn is_directory(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0; 1];
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    rustix::fs::getxattr(path, "trusted.overlay.opaque", &mut value[..])
        .is_ok_and(|length| &value[..length] == b"y")
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}
