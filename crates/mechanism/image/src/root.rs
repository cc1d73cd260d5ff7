// SPDX-License-Identifier: Apache-2.0
//! A directory held open, and paths below it that the kernel resolves.
//!
//! A path in a hostile tree means whatever the tree's links say at the moment of each look. So a path is never
//! checked as text and then used as text: it is resolved once, by `openat2(2)` with `RESOLVE_IN_ROOT` (absolute
//! links and `..` stop at the root, as after chroot) and `RESOLVE_NO_MAGICLINKS` (no jump through `/proc`), and
//! what came out is judged by its descriptor.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use berth_model::Class;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::remove::{Removal, remove_tree};

/// How often a lookup is repeated that a rename elsewhere disturbed (`EAGAIN`, openat2(2)). An attacker who
/// renames without pause can make it fail, not make it wrong.
const RETRIES: usize = 256;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Flags that `openat2` accepts beside `O_PATH`.
const PATH_FLAGS: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A tree that may be hostile: an `O_PATH` descriptor of its top directory.
///
/// Paths are relative to it; a leading `/` means the top as well. The descriptor keeps naming the same directory
/// when somebody renames it or puts a link in its place.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

impl Root {
    /// Opens the directory at `path`. The path itself is trusted: it is the caller's, and its links are followed.
    pub fn at(path: &Path) -> Result<Root, RootError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| RootError::new("open the root directory", path, errno))?;
        Ok(Root { dir })
    }

    /// Takes a descriptor of a directory (`O_PATH` is enough).
    pub fn of(dir: OwnedFd) -> Result<Root, RootError> {
        let stat = rustix::fs::fstat(&dir)
            .map_err(|errno| RootError::new("look at the root directory", Path::new("/"), errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Root { dir }),
            found => {
                Err(RootError::Kind { path: "/".into(), found: kind_name(found), wanted: "a directory" })
            }
        }
    }

    /// Opens what `path` leads to. Close-on-exec is added, and no terminal becomes the controlling one.
    ///
    /// Does not create: `O_CREAT` and `O_TMPFILE` are refused ([`Root::create_file`] does it). Note that opening
    /// a FIFO or a device may block or act: [`Root::open_regular`] is the way to read a file.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, RootError> {
        let path = path.as_ref();
        // `O_TMPFILE` contains `O_DIRECTORY`, so it has to be compared whole.
        if flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE) {
            return Err(RootError::Path { path: path.into(), why: "open does not create; use create_file" });
        }
        self.resolve(path, flags).map_err(|errno| RootError::new("open", path, errno))
    }

    /// Opens the directory that `path` leads to, as `O_PATH`.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<OwnedFd, RootError> {
        let path = path.as_ref();
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|errno| RootError::new("open the directory", path, errno))
    }

    /// Looks at `path` without following a link in its last component.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Stat, RootError> {
        let path = path.as_ref();
        self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(rustix::fs::fstat)
            .map_err(|errno| RootError::new("look at", path, errno))
    }

    /// Opens a regular file of at most `max` bytes for reading. Links are followed inside the tree.
    ///
    /// Anything else (FIFO, device, socket, directory) is refused before it is opened, so that nothing blocks and
    /// no device acts; the descriptor is then checked again, against a swap between the two steps. The file may
    /// still grow: read it through [`Root::read_regular`] or a `take`.
    pub fn open_regular(&self, path: impl AsRef<Path>, max: u64) -> Result<File, RootError> {
        let path = path.as_ref();
        let failed = |errno| RootError::new("open the file", path, errno);
        let before = self.resolve(path, OFlags::PATH).and_then(rustix::fs::fstat).map_err(failed)?;
        regular(path, &before, max)?;
        let file = self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(failed)?;
        let after = rustix::fs::fstat(&file).map_err(failed)?;
        regular(path, &after, max)?;
        if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino) {
            return Err(RootError::Changed { path: path.into() });
        }
        Ok(File::from(file))
    }

    /// Reads a regular file whole, at most `max` bytes of it: see [`Root::open_regular`].
    pub fn read_regular(&self, path: impl AsRef<Path>, max: u64) -> Result<Vec<u8>, RootError> {
        let path = path.as_ref();
        let file = self.open_regular(path, max)?;
        let mut content = Vec::new();
        file.take(max.saturating_add(1)).read_to_end(&mut content).map_err(|source| RootError::Io {
            what: "read",
            path: path.into(),
            source,
        })?;
        if content.len() as u64 > max {
            return Err(RootError::TooLarge { path: path.into(), size: content.len() as u64, max });
        }
        Ok(content)
    }

    /// Makes `path` and its missing parents, and answers the last one as `O_PATH`. Existing parts may be links
    /// to directories in the tree. A new directory gets exactly `mode`, whatever the umask. `..` is refused.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd, RootError> {
        let path = path.as_ref();
        let failed = |errno| RootError::new("make the directory", path, errno);
        let mut so_far = PathBuf::new();
        let mut dir = self.resolve(&so_far, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
        for part in parts(path)? {
            so_far.push(part);
            dir = match self.resolve(&so_far, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => make_dir(dir.as_fd(), Path::new(part), mode).map_err(failed)?,
                found => found.map_err(failed)?,
            };
        }
        Ok(dir)
    }

    /// Makes a new file with exactly `mode`, open for writing. Its directory must exist; its name must not.
    pub fn create_file(&self, path: impl AsRef<Path>, mode: Mode) -> Result<File, RootError> {
        let path = path.as_ref();
        let failed = |errno| RootError::new("create the file", path, errno);
        let parts = parts(path)?;
        let Some((name, parents)) = parts.split_last() else {
            return Err(RootError::Path { path: path.into(), why: "it names no file" });
        };
        let parent = parents.iter().collect::<PathBuf>();
        let dir = self.resolve(&parent, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&dir, Path::new(name), flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        rustix::fs::fchmod(&file, mode).map_err(failed)?;
        Ok(File::from(file))
    }

    /// Removes `path` and all below it: see [`remove_tree`]. What is not there is not an error.
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> Result<Removal, RootError> {
        let path = path.as_ref();
        let parts = parts(path)?;
        let Some((name, parents)) = parts.split_last() else {
            return Err(RootError::Path { path: path.into(), why: "the root itself can not be removed" });
        };
        match self.resolve(&parents.iter().collect::<PathBuf>(), OFlags::PATH | OFlags::DIRECTORY) {
            Ok(dir) => Ok(remove_tree(dir.as_fd(), name)),
            Err(Errno::NOENT) => Ok(Removal::default()),
            Err(errno) => Err(RootError::new("remove", path, errno)),
        }
    }

    /// The one lookup that all others use.
    pub(crate) fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.look_up(path, flags, IN_ROOT)
    }

    /// A lookup that goes through no link; the last part may be one.
    pub(crate) fn resolve_plain(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.look_up(path, flags, IN_ROOT.union(ResolveFlags::NO_SYMLINKS))
    }

    fn look_up(&self, path: &Path, flags: OFlags, how: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        // `openat2` wants at least one byte; "." is the root as `/` is.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = match flags.contains(OFlags::PATH) {
            true => (flags & PATH_FLAGS) | OFlags::CLOEXEC,
            false => flags | OFlags::CLOEXEC | OFlags::NOCTTY,
        };
        for _ in 0..RETRIES {
            match rustix::fs::openat2(&self.dir, path, flags, Mode::empty(), how) {
                Err(Errno::AGAIN | Errno::INTR) => continue,
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Makes the directory `name` in `dir` with exactly `mode`, and opens it without following anything.
pub(crate) fn make_dir(dir: BorrowedFd<'_>, name: &Path, mode: Mode) -> rustix::io::Result<OwnedFd> {
    rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    rustix::fs::fchmod(&made, mode)?;
    Ok(made)
}

/// The plain components of a path that is to be created or removed. `..` has no safe meaning there: what it
/// leaves depends on links that may not exist yet.
fn parts(path: &Path) -> Result<Vec<&std::ffi::OsStr>, RootError> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(RootError::Path { path: path.into(), why: "`..` is not allowed here" });
            }
        }
    }
    Ok(parts)
}

fn regular(path: &Path, stat: &Stat, max: u64) -> Result<(), RootError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        found => {
            let (path, found) = (path.into(), kind_name(found));
            return Err(RootError::Kind { path, found, wanted: "a regular file" });
        }
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    match size <= max {
        true => Ok(()),
        false => Err(RootError::TooLarge { path: path.into(), size, max }),
    }
}

pub(crate) fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "something unknown",
    }
}

/// Why a path in a root could not be used. Paths are printed quoted and escaped: they may be an attacker's.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The kernel refused or did not find it.
    #[error("{what} {path:?} inside its root")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path, relative to the root.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is not the kind of file that is allowed here.
    #[error("{path:?} in the root is {found}, and only {wanted} is accepted; fix the image")]
    Kind {
        /// On which path, relative to the root.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// It holds more than may be read.
    #[error("{path:?} in the root has {size} bytes or more, and at most {max} are read; make it smaller")]
    TooLarge {
        /// On which path, relative to the root.
        path: PathBuf,
        /// Its size in bytes, as far as it is known.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// Between two looks it became another file.
    #[error("{path:?} in the root was replaced while it was opened; stop what writes there and try again")]
    Changed {
        /// On which path, relative to the root.
        path: PathBuf,
    },
    /// The path itself makes no sense for the operation.
    #[error("path {path:?} in the root: {why}")]
    Path {
        /// The path, relative to the root.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The kernel has no `openat2`.
    #[error("openat2 is missing, so {path:?} can not be looked up safely; Linux 5.6 or newer is needed")]
    Kernel {
        /// On which path, relative to the root.
        path: PathBuf,
    },
}

impl RootError {
    fn new(what: &'static str, path: &Path, errno: Errno) -> RootError {
        match errno {
            Errno::NOSYS => RootError::Kernel { path: path.into() },
            errno => RootError::Io { what, path: path.into(), source: errno.into() },
        }
    }

    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            RootError::Io { source, .. } => match source.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::LOOP | Errno::XDEV) => Class::Denied,
                Some(Errno::NOTDIR | Errno::ISDIR | Errno::NAMETOOLONG) => Class::Invalid,
                Some(Errno::MFILE | Errno::NFILE) => Class::Exhausted,
                _ => Class::of_io(source),
            },
            RootError::Kind { .. } | RootError::TooLarge { .. } | RootError::Path { .. } => Class::Invalid,
            RootError::Changed { .. } => Class::Conflict,
            RootError::Kernel { .. } => Class::Unsupported,
        }
    }
}
