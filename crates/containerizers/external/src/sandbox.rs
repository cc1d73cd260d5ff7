// SPDX-License-Identifier: Apache-2.0
//! The sandbox as a call of the program has it: its working directory, and the file that its stderr goes to. What is in a
//! sandbox belongs to the container, so nothing in it is followed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_contract::Error;
use berth_sys::rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat, open, openat};
use berth_sys::rustix::io::Errno;

use crate::error::{CallError, warn};

/// A sandbox, and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub(crate) directory: PathBuf,
    pub(crate) user: Option<String>,
}

impl Sandbox {
    /// Gives the directory itself to its user, and opens the file for stderr: none, if the container has put something else
    /// there, and then the program's words are dropped.
    pub(crate) fn stderr(&self) -> Result<Option<File>, CallError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = open(&self.directory, flags, Mode::empty())
            .map_err(|errno| CallError::Spawn(named(errno.into(), &self.directory)))?;
        let owner = self.owner().map_err(CallError::Chown)?;
        if let Some((uid, gid)) = owner {
            fchown(&directory, Some(uid), Some(gid)).map_err(|errno| CallError::Chown(errno.into()))?;
        }
        match open_plain(&directory, owner) {
            Ok(file) => Ok(Some(file)),
            Err(error) => {
                let path = self.directory.join("stderr");
                warn(&format!("what the program says is not written to {}: {error}", path.display()));
                Ok(None)
            }
        }
    }

    /// Removes it, however deep and by whomever it was filled. One that is gone is removed.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let failed = |why: &dyn std::fmt::Display| {
            Error::RemoveSandbox(format!("{}: {why}", self.directory.display()))
        };
        let (Some(above), Some(name)) = (self.directory.parent(), self.directory.file_name()) else {
            return Err(failed(&"it is not the path of a directory"));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = match open(above, flags, Mode::empty()) {
            Ok(above) => above,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(&io::Error::from(errno))),
        };
        let removal = berth_image::remove_tree(above.as_fd(), name);
        match removal.failures.first() {
            None => Ok(()),
            Some(failure) => Err(failed(&format_args!("{failure}: {}", failure.source))),
        }
    }

    fn owner(&self) -> io::Result<Option<(Uid, Gid)>> {
        let Some(user) = &self.user else { return Ok(None) };
        let passwd = std::fs::read_to_string("/etc/passwd")?;
        match ids(user, &passwd) {
            Some((uid, gid)) => Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid)))),
            None => {
                let why = format!("user '{user}' is not in /etc/passwd");
                Err(io::Error::new(io::ErrorKind::NotFound, why))
            }
        }
    }
}

/// The numbers of a user, given by name or by number.
fn ids(user: &str, passwd: &str) -> Option<(u32, u32)> {
    let mut entries = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some((name, uid.parse::<u32>().ok()?, gid.parse::<u32>().ok()?))
    });
    let number = user.parse::<u32>().ok();
    let found = entries.find(|(name, uid, _)| *name == user || Some(*uid) == number);
    found.map(|(_, uid, gid)| (uid, gid))
}

/// A regular file with one name, opened to append.
fn open_plain(directory: &OwnedFd, owner: Option<(Uid, Gid)>) -> io::Result<File> {
    // NONBLOCK: a FIFO without a reader would keep us waiting.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let file = openat(directory, "stderr", flags, mode)?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file of its own"));
    }
    if let Some((uid, gid)) = owner {
        fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(File::from(file))
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("open the sandbox {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_of_any_depth_is_removed() {
        use berth_sys::rustix::fs::mkdirat;
        let directory = std::env::temp_dir().join(format!("berth-external-deep-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut deepest = open(&directory, flags, Mode::empty()).unwrap();
        for _ in 0..2000 {
            mkdirat(&deepest, "d", Mode::RWXU).unwrap();
            deepest = openat(&deepest, "d", flags, Mode::empty()).unwrap();
        }
        let sandbox = Sandbox { directory, user: None };
        let removed = {
            let sandbox = sandbox.clone();
            // Not enough for a call in each level.
            std::thread::Builder::new().stack_size(128 << 10).spawn(move || sandbox.remove().is_ok())
        };
        assert!(removed.unwrap().join().unwrap() && !sandbox.directory.exists());
        assert!(sandbox.remove().is_ok(), "what is gone is removed");
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/:/bin/sh\n#\nbob:x:1000:50:Bob:/h:/bin/sh\n";
        assert_eq!(ids("bob", passwd), Some((1000, 50)));
        assert_eq!(ids("1000", passwd), Some((1000, 50)));
        assert_eq!(ids("alice", passwd), None);
    }
}
