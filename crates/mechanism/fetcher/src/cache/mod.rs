// SPDX-License-Identifier: Apache-2.0
//! The cache: files that several containers of one user asked for.
//!
//! Whatever a child does, it can not change a file of the cache that others get: it writes through a descriptor that the
//! agent opened in a directory that only the agent can enter, the file belongs to the agent, the child can pass the
//! descriptor to nobody, and the file is taken into the cache when the child is dead.
//!
//! ```text
//! <fetcher_cache_dir>        0711, the agent's    lock
//!   files/                   0700                 c<serial>-<name>, mode 0444 or 0555
//!   staging/                 0711                 d<serial>/  of the user's, for outside programs, while they run
//! ```
//! Nothing survives the agent, as in Mesos: what was there is removed when it is opened.

mod table;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_image::remove_tree;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::OpenError;
use crate::stop::Stop;
use table::Table;
pub(crate) use table::{Found, Id, Key, Outcome, Ready, SoFar, Waiter};

const FILES: &str = "files";
const STAGING: &str = "staging";

pub(crate) struct Cache {
    path: PathBuf,
    files: OwnedFd,
    staging: OwnedFd,
    table: Mutex<Table>,
    /// Held for as long as this agent lives.
    _lock: File,
}

impl Cache {
    pub(crate) fn open(path: &Path, most: u64) -> Result<Cache, OpenError> {
        let failed =
            |what| move |error: Errno| OpenError::Io { what, path: path.into(), source: error.into() };
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(|source| OpenError::Io {
            what: "make the parents of",
            path: path.into(),
            source,
        })?;
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o711)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make the directory")(error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open the directory"))?;
        let stat = rustix::fs::fstat(&dir).map_err(failed("look at"))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(OpenError::NotOurs { path: path.into(), why: "belongs to somebody else" });
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(OpenError::NotOurs { path: path.into(), why: "may be written by others" });
        }
        let lock = lock(&dir, path)?;
        let made = |name: &str, mode: u32| -> Result<OwnedFd, OpenError> {
            // Only these two names are ours; whatever else an operator has there stays.
            let removal = remove_tree(dir.as_fd(), OsStr::new(name));
            if let Some(failure) = removal.failures.into_iter().next() {
                let path = path.join(name);
                return Err(OpenError::Io { what: "empty", path, source: failure.source });
            }
            rustix::fs::mkdirat(&dir, name, Mode::RWXU).map_err(failed("make a directory in"))?;
            let made = rustix::fs::openat(&dir, name, flags, Mode::empty())
                .map_err(failed("open a directory in"))?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(failed("set the mode of"))?;
            Ok(made)
        };
        let (files, staging) = (made(FILES, 0o700)?, made(STAGING, 0o711)?);
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o711)).map_err(failed("set the mode of"))?;
        Ok(Cache { path: path.into(), files, staging, table: Mutex::new(Table::new(most)), _lock: lock })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a resource up, and notes that somebody waits for it or has it. [`Cache::release`] follows.
    pub(crate) fn acquire(&self, key: &Key) -> io::Result<Found> {
        let mut table = self.table();
        if let Some(ready) = table.ready(key)
            && !self.is_sound(&ready)?
            && let Some(name) = table.forget(key)
        {
            self.unlink(&name);
        }
        table.acquire(key)
    }

    /// Whether a file is still there and as it was when it was whole. A task that has another name of it can not change
    /// it; this is for what somebody does who may do everything, such as a change of owner of a whole sandbox.
    fn is_sound(&self, ready: &Ready) -> io::Result<bool> {
        let stat = match self.open_file(ready) {
            Ok(file) => rustix::fs::fstat(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_mode & 0o222 == 0
            && u64::try_from(stat.st_size) == Ok(ready.size)
            && (stat.st_mtime as i64, stat.st_mtime_nsec as i64) == ready.written)
    }

    /// A requester has what it came for, or has gone. The download ends when it was the last.
    pub(crate) fn release(&self, id: Id) {
        let removed = self.table().release(id);
        if let Some(name) = removed {
            self.unlink(&name);
        }
    }

    /// Makes room for a download whose size is known now.
    pub(crate) fn reserve(&self, id: Id, size: u64) -> Result<(), String> {
        let victims = self.table().reserve(id, size)?;
        for victim in victims {
            self.unlink(&victim);
        }
        Ok(())
    }

    /// The file that a download goes to.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.files, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// The download is over: all who wait hear of it, and a good file stays.
    pub(crate) fn finish(&self, id: Id, outcome: Outcome) {
        let removed = self.table().finish(id, outcome);
        if let Some(name) = removed {
            self.unlink(&name);
        }
    }

    pub(crate) fn open_file(&self, ready: &Ready) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.files, &ready.name, flags, Mode::empty())?.into())
    }

    /// Another name of a file, elsewhere.
    pub(crate) fn link(&self, ready: &Ready, dir: impl AsFd, name: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::linkat(&self.files, &ready.name, dir, name, AtFlags::empty())
    }

    /// A directory that an outside program of `uid` may write to.
    pub(crate) fn stage(
        &self,
        name: &str,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<(OwnedFd, PathBuf)> {
        rustix::fs::mkdirat(&self.staging, name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.staging, name, flags, Mode::empty())?;
        if let (Some(uid), Some(gid)) = (uid, gid) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::fchown(&dir, Some(uid), Some(gid))?;
        }
        Ok((dir, self.path.join(STAGING).join(name)))
    }

    pub(crate) fn unstage(&self, name: &str) {
        let _ = remove_tree(self.staging.as_fd(), OsStr::new(name));
    }

    fn unlink(&self, name: &str) {
        // It may have been removed by somebody else; what can not be removed goes with the next start.
        let _ = rustix::fs::unlinkat(&self.files, name, AtFlags::empty());
    }

    /// Bytes in use and bytes in all.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        self.table().sizes()
    }

    /// What ends a download.
    pub(crate) fn stop_of(&self, id: Id) -> Option<Stop> {
        self.table().stop_of(id)
    }
}

fn lock(dir: &OwnedFd, path: &Path) -> Result<File, OpenError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, "lock", flags, Mode::RUSR | Mode::WUSR).map_err(|error| {
        OpenError::Io { what: "open the lock in", path: path.into(), source: error.into() }
    })?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse { path: path.into() }),
        Err(error) => Err(OpenError::Io { what: "lock", path: path.into(), source: error.into() }),
    }
}
