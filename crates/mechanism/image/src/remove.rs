// SPDX-License-Identifier: Apache-2.0
//! Removing a tree that somebody else wrote.
//!
//! One directory is open at a time, so neither the stack nor the descriptor table limits the depth; the way
//! back up is `..`, believed only when it is the directory that we came from. Names of sub-directories are kept
//! in small batches: a directory with millions of them costs more passes, not more memory. Every step is
//! `openat2` with `NO_XDEV | NO_SYMLINKS`: a mount point or a link on the way is an entry, never a road.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use berth_model::Class;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Sub-directories remembered per level and pass.
const BATCH: usize = 64;

/// Failures that are listed one by one; more are only counted.
const LISTED: usize = 256;

/// What [`remove_tree`] did.
#[derive(Debug, Default)]
pub struct Removal {
    /// Files, links and directories that are gone.
    pub removed: u64,
    /// What could not be removed, and why. Directories that stay only because of something inside are not listed.
    pub failures: Vec<RemoveFailure>,
    /// Failures beyond those listed.
    pub more_failures: u64,
}

impl Removal {
    /// Whether nothing is left.
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    fn failed(&mut self, path: PathBuf, what: &'static str, errno: Errno) {
        match self.failures.len() < LISTED {
            true => self.failures.push(RemoveFailure { what, path, source: errno.into() }),
            false => self.more_failures += 1,
        }
    }
}

/// One thing that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path:?}")]
pub struct RemoveFailure {
    /// What was tried.
    pub what: &'static str,
    /// The path, beginning with the name given to [`remove_tree`].
    pub path: PathBuf,
    /// What the kernel said; `EXDEV` and `EBUSY` mean a mount point.
    #[source]
    pub source: io::Error,
}

impl RemoveFailure {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self.source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::XDEV | Errno::BUSY) => Class::Conflict,
            Some(Errno::INVAL) => Class::Invalid,
            _ => Class::of_io(&self.source),
        }
    }
}

/// Removes `name` in the directory `dir` with all that is below it.
///
/// Never follows a link, never crosses into another mount, goes on after an error, and answers what stayed.
/// What does not exist is removed already. A directory of ours that is not writable is made so. `name` is one component: `/`, `.` and `..` are refused.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> Removal {
    let mut removal = Removal::default();
    let Ok(name) = component(name) else {
        removal.failed(PathBuf::from(name), "remove, but that is not one plain name:", Errno::INVAL);
        return removal;
    };
    match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
        Ok(()) => removal.removed += 1,
        Err(Errno::NOENT) => {}
        // A directory: EISDIR says Linux, EPERM says POSIX.
        Err(Errno::ISDIR | Errno::PERM) => Walk::new(dir, name).run(&mut removal),
        Err(errno) => removal.failed(shown(&[], &name), "remove", errno),
    }
    removal
}

/// A directory that is being emptied.
struct Level {
    name: CString,
    id: (u64, u64),
    /// Sub-directories still to be entered in this pass.
    pending: Vec<CString>,
    /// What could not be removed, so that the next pass does not try again.
    stuck: HashSet<CString>,
}

struct Walk<'a> {
    base: BorrowedFd<'a>,
    first: CString,
    levels: Vec<Level>,
}

impl<'a> Walk<'a> {
    fn new(base: BorrowedFd<'a>, first: CString) -> Walk<'a> {
        Walk { base, first, levels: Vec::new() }
    }

    fn run(mut self, removal: &mut Removal) {
        let first = self.first.clone();
        let Some(mut here) = self.enter(self.base, first, removal) else { return };
        loop {
            here = match self.next_child(here.as_fd(), removal) {
                Some(child) => match self.enter(here.as_fd(), child.clone(), removal) {
                    Some(below) => below,
                    None => {
                        self.stick(child);
                        here
                    }
                },
                None => match self.leave(here, removal) {
                    Some(above) => above,
                    None => return,
                },
            }
        }
    }

    /// Opens a sub-directory and makes it the deepest level.
    fn enter(&mut self, dir: BorrowedFd<'_>, name: CString, removal: &mut Removal) -> Option<OwnedFd> {
        let opened = match open_here(dir, &name) {
            Err(Errno::ACCESS) => unlock(dir, &name).and_then(|()| open_here(dir, &name)),
            opened => opened,
        };
        match opened.and_then(|fd| Ok((make_writable(fd.as_fd())?, fd))) {
            Ok((id, fd)) => {
                self.levels.push(Level { name, id, pending: Vec::new(), stuck: HashSet::new() });
                Some(fd)
            }
            Err(errno) => {
                removal.failed(self.path(&name), "enter", errno);
                None
            }
        }
    }

    /// Removes plain entries of the deepest level and answers a sub-directory to enter, or nothing when the
    /// level is as empty as it gets.
    fn next_child(&mut self, here: BorrowedFd<'_>, removal: &mut Removal) -> Option<CString> {
        if let Some(child) = self.levels.last_mut()?.pending.pop() {
            return Some(child);
        }
        if let Err(errno) = self.pass(here, removal) {
            removal.failed(self.path(c"."), "list", errno);
            // Without a listing nothing here can go: the directory itself counts as stuck.
            self.stick(c".".to_owned());
        }
        self.levels.last_mut()?.pending.pop()
    }

    fn pass(&mut self, here: BorrowedFd<'_>, removal: &mut Removal) -> rustix::io::Result<()> {
        for entry in Dir::read_from(here)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(level) = self.levels.last_mut() else { return Ok(()) };
            if name == c"." || name == c".." || level.stuck.contains(name) {
                continue;
            }
            let known_dir = entry.file_type() == FileType::Directory;
            let gone = match known_dir {
                true => Err(Errno::ISDIR),
                false => rustix::fs::unlinkat(here, name, AtFlags::empty()),
            };
            match gone {
                Ok(()) => removal.removed += 1,
                Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => level.pending.push(name.to_owned()),
                // Filesystems that do not tell the type answer EPERM for a directory.
                Err(Errno::PERM) if is_dir(here, name) => level.pending.push(name.to_owned()),
                Err(errno) => {
                    level.stuck.insert(name.to_owned());
                    removal.failed(self.path(name), "remove", errno);
                }
            }
            if self.levels.last().is_some_and(|level| level.pending.len() >= BATCH) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes up one level and removes the directory that was left. Nothing when the walk is over.
    fn leave(&mut self, here: OwnedFd, removal: &mut Removal) -> Option<OwnedFd> {
        let level = self.levels.pop()?;
        let above = match self.levels.last() {
            None => None,
            Some(parent) => {
                let up = open_here(here.as_fd(), c"..").and_then(|fd| Ok((identity(fd.as_fd())?, fd)));
                match up {
                    Ok((id, fd)) if id == parent.id => Some(fd),
                    // Somebody moved the directory away under us. Whatever is above it now is not ours to touch.
                    Ok(_) => {
                        removal.failed(
                            self.path(&level.name),
                            "return from (it was moved meanwhile)",
                            Errno::XDEV,
                        );
                        return None;
                    }
                    Err(errno) => {
                        removal.failed(self.path(&level.name), "return from", errno);
                        return None;
                    }
                }
            }
        };
        drop(here);
        if !level.stuck.is_empty() {
            self.stick(level.name);
            return above;
        }
        let dir = above.as_ref().map_or(self.base, |fd| fd.as_fd());
        match rustix::fs::unlinkat(dir, &level.name, AtFlags::REMOVEDIR) {
            Ok(()) => removal.removed += 1,
            Err(Errno::NOENT) => {}
            Err(errno) => {
                removal.failed(self.path(&level.name), "remove the directory", errno);
                self.stick(level.name);
            }
        }
        above
    }

    fn stick(&mut self, name: CString) {
        if let Some(level) = self.levels.last_mut() {
            level.stuck.insert(name);
        }
    }

    fn path(&self, name: &CStr) -> PathBuf {
        shown(&self.levels, name)
    }
}

/// The path for a message: whole when it is short, its two ends when the tree is absurdly deep.
fn shown(levels: &[Level], name: &CStr) -> PathBuf {
    const ENDS: usize = 16;
    let mut path = PathBuf::new();
    let deep = levels.len() > 2 * ENDS;
    for (depth, level) in levels.iter().enumerate() {
        if !deep || depth < ENDS || depth >= levels.len() - ENDS {
            path.push(OsStr::from_bytes(level.name.to_bytes()));
        } else if depth == ENDS {
            path.push("…");
        }
    }
    path.push(OsStr::from_bytes(name.to_bytes()));
    path
}

fn component(name: &OsStr) -> Result<CString, ()> {
    let bytes = name.as_bytes();
    match bytes {
        b"" | b"." | b".." => Err(()),
        _ if bytes.contains(&b'/') => Err(()),
        _ => CString::new(bytes).map_err(|_| ()),
    }
}

fn open_here(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve)
}

fn identity(dir: BorrowedFd<'_>) -> rustix::io::Result<(u64, u64)> {
    rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino))
}

/// Opens a directory of ours for ourselves. Privileged processes never come here.
fn unlock(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let fd = rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve)?;
    // fchmod(2) does not take `O_PATH`; the way through /proc names the same directory.
    rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::RWXU)
}

/// The identity of a directory, which is made writable first: images have many that are not, and without
/// privileges their entries would stay. Whether it helped shows when they are removed.
fn make_writable(dir: BorrowedFd<'_>) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(dir)?;
    let me = rustix::process::geteuid();
    if stat.st_mode & 0o300 != 0o300 && !me.is_root() && stat.st_uid == me.as_raw() {
        let _ = rustix::fs::fchmod(dir, Mode::RWXU);
    }
    Ok((stat.st_dev, stat.st_ino))
}

fn is_dir(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
