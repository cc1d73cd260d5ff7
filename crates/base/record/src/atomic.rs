// SPDX-License-Identifier: Apache-2.0
//! Whole files or none: write under a temporary name in the same directory, then rename.
//!
//! Without sync this costs four system calls (open, write, close, rename): right for tmpfs, where the machine's
//! death takes everything anyway. With sync two more: the file before the rename, the directory after it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::path_of;
use crate::{Error, Result};

/// What every temporary name begins with: `.tmp-<pid>-<counter>`.
const TEMPORARY: &str = ".tmp-";

/// A temporary file of a living process is left alone for so long after its last change.
const STALE_AFTER: Duration = Duration::from_secs(600);

/// Whether the content must survive a power failure once the call has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// No: for what is on tmpfs, and for what can be had again.
    No,
    /// Yes: the file is synced before it gets its name, the directory after.
    Yes,
}

/// Puts `bytes` under `name` in `dir`, in place of what was there. A reader sees all of the old content or all
/// of the new. The file gets mode 0600.
///
/// # Errors
/// [`Error::Name`], [`Error::NoSpace`], [`Error::Io`]: the old content stands and no temporary file is left.
/// [`Error::Unsynced`]: the new content stands.
pub fn write_atomic(dir: BorrowedFd<'_>, name: &str, bytes: &[u8], sync: Sync) -> Result<()> {
    check_name(name)?;
    let temporary = Temporary::write(dir, name, bytes, sync)?;
    temporary.replace(name)?;
    sync_directory(dir, name, sync)
}

/// As [`write_atomic`], but only if nothing has that name yet: of several callers exactly one succeeds.
///
/// # Errors
/// [`Error::Exists`] when there is such a name, of whatever kind; otherwise as [`write_atomic`].
pub fn create_atomic(dir: BorrowedFd<'_>, name: &str, bytes: &[u8], sync: Sync) -> Result<()> {
    check_name(name)?;
    let temporary = Temporary::write(dir, name, bytes, sync)?;
    temporary.link(name)?;
    drop(temporary);
    sync_directory(dir, name, sync)
}

/// The content of `name` in `dir`: a regular file of at most `cap` bytes, not reached by a symbolic link.
/// Never blocks on a FIFO or a device.
///
/// # Errors
/// [`Error::Missing`], [`Error::Foreign`] for what is no regular file, [`Error::TooLarge`], [`Error::Io`].
pub fn read_bytes(dir: BorrowedFd<'_>, name: &str, cap: usize) -> Result<Vec<u8>> {
    check_name(name)?;
    let foreign = |why: &str| Error::Foreign {
        path: path_of(dir, name),
        format: "berth".to_owned(),
        why: why.to_owned(),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Err(Error::Missing { path: path_of(dir, name) }),
        Err(Errno::LOOP) => return Err(foreign("it is a symbolic link")),
        Err(Errno::NXIO) => return Err(foreign("it is a socket or a device")),
        Err(errno) => return Err(Error::io("open", dir, name, errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| Error::io("stat", dir, name, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(foreign("it is not a regular file"));
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > cap {
        return Err(Error::TooLarge { path: path_of(dir, name), cap });
    }
    // One byte more than expected, so that the usual file is read to its end by two calls, and one that grows
    // meanwhile is noticed.
    let mut bytes = Vec::with_capacity(size + 1);
    loop {
        if bytes.len() > cap {
            return Err(Error::TooLarge { path: path_of(dir, name), cap });
        }
        bytes.reserve(1);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::io("read", dir, name, errno)),
        }
    }
}

/// Removes `name` from `dir`. That it was not there is fine.
///
/// # Errors
/// [`Error::Name`], [`Error::Io`], [`Error::Unsynced`].
pub fn remove(dir: BorrowedFd<'_>, name: &str, sync: Sync) -> Result<()> {
    check_name(name)?;
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => sync_directory(dir, name, sync),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::io("remove", dir, name, errno)),
    }
}

/// Removes the temporary files that killed writers left in `dir`, and says how many. One whose writer still
/// lives is left, unless it has not changed for ten minutes; should that writer go on after all, its rename
/// fails and it is told so. To be called by recovery, once per directory.
///
/// # Errors
/// [`Error::Io`] when the directory can not be listed or a file in it not removed.
pub fn collect_stale(dir: BorrowedFd<'_>) -> Result<usize> {
    let mut collected = 0;
    let entries = Dir::read_from(dir).map_err(|errno| Error::io("list", dir, ".", errno))?;
    for entry in entries {
        let entry = entry.map_err(|errno| Error::io("list", dir, ".", errno))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !name.starts_with(TEMPORARY) || !is_stale(dir, name) {
            continue;
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) => collected += 1,
            Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(errno) => return Err(Error::io("remove", dir, name, errno)),
        }
    }
    Ok(collected)
}

fn is_stale(dir: BorrowedFd<'_>, name: &str) -> bool {
    let writer = name[TEMPORARY.len()..].split('-').next().and_then(|pid| pid.parse().ok());
    if let Some(pid) = writer.and_then(Pid::from_raw)
        && rustix::process::test_kill_process(pid) == Err(Errno::SRCH)
    {
        return true;
    }
    let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
    SystemTime::now().duration_since(changed).is_ok_and(|age| age > STALE_AFTER)
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.starts_with(TEMPORARY)
        && !name.bytes().any(|byte| byte == b'/' || byte == 0);
    if good { Ok(()) } else { Err(Error::Name { name: name.to_owned() }) }
}

fn sync_directory(dir: BorrowedFd<'_>, name: &str, sync: Sync) -> Result<()> {
    if sync == Sync::No {
        return Ok(());
    }
    let synced = match rustix::fs::fsync(dir) {
        // A descriptor made with O_PATH can not be synced; one opened through it can.
        Err(Errno::BADF) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(dir, ".", flags, Mode::empty()).and_then(|again| rustix::fs::fsync(&again))
        }
        other => other,
    };
    match synced {
        // fsync(2): this file system has nothing to sync for a directory.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(Error::Unsynced { path: path_of(dir, name), source: errno.into() }),
    }
}

/// A written file that has no name of its own yet. Dropped, it is removed.
struct Temporary<'a> {
    dir: BorrowedFd<'a>,
    name: String,
    there: bool,
}

impl<'a> Temporary<'a> {
    fn write(dir: BorrowedFd<'a>, target: &str, bytes: &[u8], sync: Sync) -> Result<Temporary<'a>> {
        let (file, temporary) = Temporary::create(dir, target)?;
        let failed = |what, errno| match errno {
            Errno::NOSPC | Errno::DQUOT => {
                let path = path_of(dir, target);
                Error::NoSpace { path, bytes: bytes.len(), source: errno.into() }
            }
            _ => Error::io(what, dir, target, errno),
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&file, rest) {
                Ok(0) => return Err(failed("write", Errno::IO)),
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("write", errno)),
            }
        }
        if sync == Sync::Yes {
            rustix::fs::fsync(file.as_fd()).map_err(|errno| failed("sync", errno))?;
        }
        Ok(temporary)
    }

    fn create(dir: BorrowedFd<'a>, target: &str) -> Result<(OwnedFd, Temporary<'a>)> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pid = std::process::id();
        // A name can be taken by what an earlier process of the same pid left, so the number goes on until one
        // is free. O_EXCL makes it sure; no directory holds four billion files.
        loop {
            let name = format!("{TEMPORARY}{pid}-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
            match rustix::fs::openat(dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((file, Temporary { dir, name, there: true })),
                Err(Errno::EXIST | Errno::INTR) => {}
                Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => {
                    let path = path_of(dir, target);
                    return Err(Error::NoSpace { path, bytes: 0, source: errno.into() });
                }
                Err(errno) => return Err(Error::io("create a temporary file for", dir, target, errno)),
            }
        }
    }

    fn replace(mut self, target: &str) -> Result<()> {
        rustix::fs::renameat(self.dir, self.name.as_str(), self.dir, target)
            .map_err(|errno| Error::io("replace", self.dir, target, errno))?;
        self.there = false;
        Ok(())
    }

    fn link(&self, target: &str) -> Result<()> {
        match rustix::fs::linkat(self.dir, self.name.as_str(), self.dir, target, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Error::Exists { path: path_of(self.dir, target) }),
            Err(errno) => Err(Error::io("create", self.dir, target, errno)),
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.there {
            // Nothing more can be done about a failure here; collect_stale comes by later.
            let _ = rustix::fs::unlinkat(self.dir, self.name.as_str(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use berth_model::Class;
    use rustix::mount::{MountFlags, UnmountFlags};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_written_file_is_read_back_with_mode_0600() {
        let scratch = Scratch::new();
        for sync in [Sync::No, Sync::Yes] {
            write_atomic(scratch.fd(), "a", b"one", sync).unwrap();
            assert_eq!(read_bytes(scratch.fd(), "a", 3).unwrap(), b"one");
        }
        let mode = std::fs::metadata(scratch.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(scratch.names(), ["a"]);
    }

    #[test]
    fn syncing_works_through_a_path_only_descriptor() {
        let scratch = Scratch::new();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(scratch.path(), flags, Mode::empty()).unwrap();
        write_atomic(fd.as_fd(), "a", b"one", Sync::Yes).unwrap();
        assert_eq!(read_bytes(fd.as_fd(), "a", 3).unwrap(), b"one");
    }

    #[test]
    fn concurrent_writers_leave_one_whole_content_and_readers_never_see_a_part() {
        let scratch = Scratch::new();
        let content = |writer: u8| vec![b'a' + writer; 5000 + usize::from(writer)];
        write_atomic(scratch.fd(), "x", &content(0), Sync::No).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let scratch = &scratch;
                scope.spawn(move || {
                    for _ in 0..200 {
                        write_atomic(scratch.fd(), "x", &content(writer), Sync::No).unwrap();
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..400 {
                    let seen = read_bytes(scratch.fd(), "x", 10_000).unwrap();
                    assert_eq!(seen, content(seen[0] - b'a'));
                }
            });
        });
        assert_eq!(scratch.names(), ["x"]);
    }

    #[test]
    fn of_many_creators_exactly_one_succeeds() {
        let scratch = Scratch::new();
        let won: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u8)
                .map(|n| {
                    let scratch = &scratch;
                    scope.spawn(move || match create_atomic(scratch.fd(), "one", &[n], Sync::No) {
                        Ok(()) => 1,
                        Err(Error::Exists { .. }) => 0,
                        Err(other) => panic!("{other}"),
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
        assert_eq!(scratch.names(), ["one"]);
    }

    #[test]
    fn a_failed_replacement_removes_its_temporary_file() {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("taken")).unwrap();
        let error = write_atomic(scratch.fd(), "taken", b"x", Sync::No).unwrap_err();
        assert!(matches!(error, Error::Io { what: "replace", .. }), "{error}");
        assert_eq!(scratch.names(), ["taken"]);
    }

    #[test]
    fn names_that_leave_the_directory_or_look_temporary_are_refused() {
        let scratch = Scratch::new();
        for name in ["", ".", "..", "a/b", "/etc/x", "nul\0", ".tmp-1-1", &"n".repeat(256)] {
            assert!(
                matches!(write_atomic(scratch.fd(), name, b"", Sync::No), Err(Error::Name { .. })),
                "{name:?}"
            );
            assert!(matches!(read_bytes(scratch.fd(), name, 1), Err(Error::Name { .. })), "{name:?}");
            assert!(matches!(remove(scratch.fd(), name, Sync::No), Err(Error::Name { .. })), "{name:?}");
        }
        assert!(scratch.names().is_empty());
    }

    #[test]
    fn only_regular_files_within_the_cap_are_read() {
        let scratch = Scratch::new();
        let path = scratch.path();
        std::fs::write(path.join("four"), "1234").unwrap();
        std::os::unix::fs::symlink("four", path.join("link")).unwrap();
        std::fs::create_dir(path.join("dir")).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(scratch.fd(), "fifo", FileType::Fifo, mode, 0).unwrap();
        rustix::fs::mknodat(scratch.fd(), "socket", FileType::Socket, mode, 0).unwrap();
        for name in ["link", "dir", "fifo", "socket"] {
            let error = read_bytes(scratch.fd(), name, 100).unwrap_err();
            assert!(matches!(error, Error::Foreign { .. }), "{name}: {error}");
        }
        assert!(matches!(read_bytes(scratch.fd(), "four", 3), Err(Error::TooLarge { cap: 3, .. })));
        assert_eq!(read_bytes(scratch.fd(), "four", 4).unwrap(), b"1234");
        let error = read_bytes(scratch.fd(), "none", 4).unwrap_err();
        assert_eq!(error.class(), Class::NotFound);
        assert_eq!(error.to_string(), format!("{} does not exist", path.join("none").display()));
    }

    #[test]
    fn stale_temporary_files_go_and_those_of_living_writers_stay() {
        let scratch = Scratch::new();
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        child.wait().unwrap();
        let dead = format!(".tmp-{}-0", child.id());
        let mine = format!(".tmp-{}-4000000000", std::process::id());
        for name in [dead.as_str(), mine.as_str(), ".tmp-odd", "kept"] {
            std::fs::write(scratch.path().join(name), "").unwrap();
        }
        assert_eq!(collect_stale(scratch.fd()).unwrap(), 1);
        assert_eq!(scratch.names(), [mine.as_str(), ".tmp-odd", "kept"]);
    }

    #[test]
    fn a_temporary_name_left_by_an_earlier_process_of_our_pid_does_not_stop_a_write() {
        let scratch = Scratch::new();
        let (_, taken) = Temporary::create(scratch.fd(), "x").unwrap();
        let number: u32 = taken.name.rsplit('-').next().unwrap().parse().unwrap();
        for next in number + 1..number + 50 {
            std::fs::write(scratch.path().join(format!(".tmp-{}-{next}", std::process::id())), "").unwrap();
        }
        write_atomic(scratch.fd(), "x", b"x", Sync::No).unwrap();
        assert_eq!(read_bytes(scratch.fd(), "x", 1).unwrap(), b"x");
    }

    #[test]
    fn a_full_file_system_is_said_clearly_and_leaves_the_old_content() {
        let scratch = Scratch::new();
        let mount = scratch.path().join("small");
        std::fs::create_dir(&mount).unwrap();
        if let Err(errno) = rustix::mount::mount("berth", &mount, "tmpfs", MountFlags::empty(), c"size=64k") {
            println!("skipped: mounting a tmpfs needs root ({errno})");
            return;
        }
        let outcome = std::panic::catch_unwind(|| {
            let dir = std::fs::File::open(&mount).unwrap();
            write_atomic(dir.as_fd(), "record", b"old", Sync::No).unwrap();
            let error = write_atomic(dir.as_fd(), "record", &[b'x'; 200_000], Sync::Yes).unwrap_err();
            assert_eq!(error.class(), Class::Exhausted);
            assert!(error.to_string().contains("no space left"), "{error}");
            assert_eq!(read_bytes(dir.as_fd(), "record", 10).unwrap(), b"old");
            assert_eq!(std::fs::read_dir(&mount).unwrap().count(), 1);
        });
        // Lazily: a process that another test is just starting may still have a copy of the descriptor.
        rustix::mount::unmount(&mount, UnmountFlags::DETACH).unwrap();
        outcome.unwrap();
    }
}
