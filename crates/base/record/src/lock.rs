// SPDX-License-Identifier: Apache-2.0
//! An exclusive lock that survives its taker when it is handed on.
//!
//! It is an flock(2), which belongs to the *open file description*: every copy of the descriptor, by dup, fork
//! or over a socket, holds the same lock, and it ends when the last copy is closed, however its holder died.
//! So the supervisor of a container is given a copy, and "is the lock held?" answers "does anybody still care
//! for this container?" without a pid that could be used again. The descriptor is close-on-exec: a program that
//! is executed holds the lock only if the descriptor was passed to it on purpose.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::atomic::check_name;
use crate::error::path_of;
use crate::{Error, Result};

/// How often to look again when only those who test the lock are in the way, or the file was replaced.
const TRIES: u32 = 100;
/// The longest pause between two looks at a lock that another holds.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A held lock. Dropping it closes this copy of the descriptor, which ends the lock if it was the last one.
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
}

impl Lock {
    /// Takes the lock `name` in `dir`, making the file if need be; none if another holds it.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Foreign`] when something else has that name, [`Error::Io`].
    pub fn try_acquire(dir: BorrowedFd<'_>, name: &str) -> Result<Option<Lock>> {
        check_name(name)?;
        for attempt in 0..TRIES {
            let fd = open(dir, name, OFlags::CREATE)?;
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) if held_exclusively(&fd, dir, name)? => return Ok(None),
                Err(Errno::WOULDBLOCK) => {
                    // Somebody was only testing it (see is_held), which is over at once.
                    std::thread::sleep(Duration::from_micros(10) * attempt);
                    continue;
                }
                Err(errno) => return Err(Error::io("lock", dir, name, errno)),
            }
            if has_name(&fd, dir, name)? {
                return Ok(Some(Lock { fd }));
            }
            // Its holder removed the file before it let go: what was locked is a file without a name.
        }
        Ok(None)
    }

    /// Takes the lock, waiting for it until `deadline`.
    ///
    /// # Errors
    /// [`Error::Locked`] when another held it until then; otherwise as [`Lock::try_acquire`].
    pub fn acquire(dir: BorrowedFd<'_>, name: &str, deadline: Instant) -> Result<Lock> {
        // flock(2) can wait, but not until a deadline.
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(lock) = Lock::try_acquire(dir, name)? {
                return Ok(lock);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Locked { path: path_of(dir, name) });
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether anybody holds the lock `name` in `dir`, without taking it. One that has no file is held by
    /// nobody.
    ///
    /// # Errors
    /// As [`Lock::try_acquire`].
    pub fn is_held(dir: BorrowedFd<'_>, name: &str) -> Result<bool> {
        check_name(name)?;
        match open(dir, name, OFlags::empty()) {
            Ok(fd) => held_exclusively(&fd, dir, name),
            Err(Error::Missing { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// The lock behind a descriptor that was inherited or received: of the description that another process
    /// locked. Nothing is checked.
    pub fn from_fd(fd: OwnedFd) -> Lock {
        Lock { fd }
    }

    /// The descriptor, which holds the lock from now on.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Removes the lock's file from `dir` while holding it, then lets go. Who waits for it notices, and starts
    /// over with a new file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(self, dir: BorrowedFd<'_>, name: &str) -> Result<()> {
        crate::remove(dir, name, crate::Sync::No)
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open(dir: BorrowedFd<'_>, name: &str, create: OFlags) -> Result<OwnedFd> {
    let foreign = |why: &str| Error::Foreign {
        path: path_of(dir, name),
        format: "berth".to_owned(),
        why: why.to_owned(),
    };
    let flags =
        OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | create;
    let fd = match rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => fd,
        Err(Errno::NOENT) if create.is_empty() => return Err(Error::Missing { path: path_of(dir, name) }),
        Err(Errno::LOOP) => return Err(foreign("it is a symbolic link")),
        Err(Errno::ISDIR) => return Err(foreign("it is a directory")),
        Err(Errno::NXIO) => return Err(foreign("it is a socket or a device")),
        Err(errno) => return Err(Error::io("open the lock", dir, name, errno)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|errno| Error::io("stat", dir, name, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(foreign("it is not a regular file"));
    }
    Ok(fd)
}

/// Whether an exclusive lock stands on the file. Asks with a shared lock, so that several may ask at once, and
/// that one who takes the lock meanwhile can tell an asker from a holder.
fn held_exclusively(fd: &OwnedFd, dir: BorrowedFd<'_>, name: &str) -> Result<bool> {
    match flock(fd, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            flock(fd, FlockOperation::Unlock).map_err(|errno| Error::io("unlock", dir, name, errno))?;
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(Error::io("test the lock", dir, name, errno)),
    }
}

/// Whether `name` still means the file that `fd` is.
fn has_name(fd: &OwnedFd, dir: BorrowedFd<'_>, name: &str) -> Result<bool> {
    let ours = rustix::fs::fstat(fd).map_err(|errno| Error::io("stat", dir, name, errno))?;
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::io("stat", dir, name, errno)),
    }
}

fn flock(fd: &OwnedFd, operation: FlockOperation) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(fd, operation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_second_taker_gets_none_until_the_first_lets_go() {
        let scratch = Scratch::new();
        assert!(!Lock::is_held(scratch.fd(), "lock").unwrap());
        assert!(scratch.names().is_empty(), "asking makes no file");
        let lock = Lock::try_acquire(scratch.fd(), "lock").unwrap().unwrap();
        assert!(Lock::is_held(scratch.fd(), "lock").unwrap());
        assert!(Lock::try_acquire(scratch.fd(), "lock").unwrap().is_none());
        let error =
            Lock::acquire(scratch.fd(), "lock", Instant::now() + Duration::from_millis(5)).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        drop(lock);
        // With a deadline, here and below: a process that another test is just starting has a copy of every
        // descriptor until it executes its program.
        drop(Lock::acquire(scratch.fd(), "lock", soon()).unwrap());
        let deadline = soon();
        while Lock::is_held(scratch.fd(), "lock").unwrap() {
            assert!(Instant::now() < deadline, "still held");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_that_was_given_the_descriptor_keeps_the_lock_until_it_ends() {
        let scratch = Scratch::new();
        let lock = Lock::try_acquire(scratch.fd(), "lock").unwrap().unwrap();
        let copy = lock.as_fd().try_clone_to_owned().unwrap();
        let mut heir = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(copy).spawn().unwrap();
        drop(lock);
        assert!(Lock::is_held(scratch.fd(), "lock").unwrap());
        drop(heir.stdin.take());
        heir.wait().unwrap();
        Lock::acquire(scratch.fd(), "lock", soon()).unwrap();
    }

    #[test]
    fn a_process_that_was_not_given_the_descriptor_does_not_hold_the_lock() {
        let scratch = Scratch::new();
        let lock = Lock::try_acquire(scratch.fd(), "lock").unwrap().unwrap();
        let mut other = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        drop(lock);
        Lock::acquire(scratch.fd(), "lock", soon()).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn takers_exclude_each_other_while_the_file_is_removed_again_and_again() {
        let scratch = Scratch::new();
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = Lock::acquire(scratch.fd(), "lock", soon()).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        lock.remove(scratch.fd(), "lock").unwrap();
                    }
                });
            }
        });
        assert!(scratch.names().is_empty());
    }

    #[test]
    fn those_who_only_ask_do_not_keep_a_taker_out() {
        let scratch = Scratch::new();
        drop(Lock::try_acquire(scratch.fd(), "lock").unwrap().unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        Lock::is_held(scratch.fd(), "lock").unwrap();
                    }
                });
            }
            let taken = (0..500).all(|_| Lock::acquire(scratch.fd(), "lock", soon()).is_ok());
            done.store(true, Ordering::Relaxed);
            assert!(taken);
        });
    }

    #[test]
    fn what_is_no_regular_file_is_no_lock() {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", scratch.path().join("link")).unwrap();
        rustix::fs::mknodat(scratch.fd(), "fifo", FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for name in ["dir", "link", "fifo"] {
            assert!(matches!(Lock::try_acquire(scratch.fd(), name), Err(Error::Foreign { .. })), "{name}");
            assert!(matches!(Lock::is_held(scratch.fd(), name), Err(Error::Foreign { .. })), "{name}");
        }
    }
}
