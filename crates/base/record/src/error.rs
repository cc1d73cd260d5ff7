// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a record.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use berth_model::Class;

/// Why a record could not be written, read or locked. Paths are for people: they are looked up from the
/// directory's descriptor when the error is made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no file of that name.
    #[error("{path} does not exist")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file of that name exists already and must not be replaced.
    #[error("{path} exists already")]
    Exists {
        /// What was to be created.
        path: PathBuf,
    },
    /// The file is empty, zeroed or cut off: its writer or the machine died while it was written.
    #[error("{path} is torn ({why}): its writer died while writing; remove it if nothing depends on it")]
    Torn {
        /// The record.
        path: PathBuf,
        /// Where the content stops making sense.
        why: String,
    },
    /// A later release wrote it.
    #[error(
        "{path} has version {found} of {format}, and this build reads up to {known}: use the release that wrote it, or a later one"
    )]
    Newer {
        /// The record.
        path: PathBuf,
        /// The record's format, `berth/<kind>`.
        format: String,
        /// The version found.
        found: u32,
        /// The newest version this build knows.
        known: u32,
    },
    /// A release wrote it that is too old to be read.
    #[error(
        "{path} has version {found} of {format}, and this build reads {known} and the one before: start a release in between once, or remove it"
    )]
    Older {
        /// The record.
        path: PathBuf,
        /// The record's format, `berth/<kind>`.
        format: String,
        /// The version found.
        found: u32,
        /// The newest version this build knows.
        known: u32,
    },
    /// What stands there is not our record.
    #[error("{path} is not a {format} record ({why}): move it away")]
    Foreign {
        /// What was read.
        path: PathBuf,
        /// The expected format, `berth/<kind>`, or `berth` where any file of ours would do.
        format: String,
        /// What it is instead.
        why: String,
    },
    /// The right format and version, but fields that can not be ours.
    #[error(
        "{path} has a field of {format} that can not be read ({why}): remove it if nothing depends on it"
    )]
    Malformed {
        /// The record.
        path: PathBuf,
        /// The record's format, `berth/<kind>`.
        format: String,
        /// Which field, and what is wrong with it.
        why: String,
    },
    /// The file is larger than such a record can be.
    #[error("{path} is larger than {cap} bytes and was not read: it is not a record of ours, move it away")]
    TooLarge {
        /// The record.
        path: PathBuf,
        /// The most that would have been read, in bytes.
        cap: usize,
    },
    /// The record can not be written as a JSON object. A fault of the caller.
    #[error("encode {format}: {why}")]
    Encode {
        /// The record's format, `berth/<kind>`.
        format: String,
        /// What the encoder said.
        why: String,
    },
    /// The name is not one that a record may have.
    #[error(
        "{name:?} can not be the name of a record: use 1 to 255 bytes without '/' that do not begin with '.tmp-'"
    )]
    Name {
        /// The name as given.
        name: String,
    },
    /// The file system is full, or the quota used up.
    #[error("write {bytes} bytes to {path}: no space left; free some on that file system and try again")]
    NoSpace {
        /// The record.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The new content stands, but might not survive a power failure.
    #[error("{path} is written, but the directory could not be synced")]
    Unsynced {
        /// The record.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another holds the lock, and did so until the deadline.
    #[error("{path} is locked by another process; wait for it or stop it, then try again")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("{what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            Error::Missing { .. } => Class::NotFound,
            Error::Exists { .. } | Error::Foreign { .. } | Error::Locked { .. } => Class::Conflict,
            Error::Newer { .. } | Error::Older { .. } => Class::Unsupported,
            Error::Name { .. } => Class::Invalid,
            Error::NoSpace { .. } => Class::Exhausted,
            Error::Torn { .. } | Error::Malformed { .. } | Error::TooLarge { .. } | Error::Encode { .. } => {
                Class::Internal
            }
            Error::Io { source, .. } | Error::Unsynced { source, .. } => Class::of_io(source),
        }
    }

    pub(crate) fn io(
        what: &'static str,
        dir: BorrowedFd<'_>,
        name: &str,
        source: rustix::io::Errno,
    ) -> Error {
        Error::Io { what, path: path_of(dir, name), source: source.into() }
    }
}

/// The path of `name` in `dir`, for messages only: it may have moved since. Where the descriptor's path is
/// not known, the name alone.
pub(crate) fn path_of(dir: BorrowedFd<'_>, name: &str) -> PathBuf {
    match std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())) {
        Ok(folder) => folder.join(name),
        Err(_) => PathBuf::from(name),
    }
}
