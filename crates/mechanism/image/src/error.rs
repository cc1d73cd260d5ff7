// SPDX-License-Identifier: Apache-2.0
//! Why an archive was not unpacked.

use std::fmt;
use std::io;
use std::path::PathBuf;

use berth_model::Class;

use crate::name::shown;
use crate::remove::Removal;

/// The entry of the archive that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 1. 0 is the start of the archive.
    pub number: u64,
    /// Its name as the archive spells it, escaped and shortened for printing.
    pub name: String,
    /// Whether the error came up behind this entry, where the next one was looked for.
    pub after: bool,
}

impl Place {
    pub(crate) fn start() -> Place {
        Place { number: 0, name: String::new(), after: true }
    }

    pub(crate) fn entry(number: u64, name: &[u8]) -> Place {
        Place { number, name: shown(name), after: false }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.number, self.after) {
            (0, _) => write!(f, "at the start of the archive"),
            (number, true) => write!(f, "after entry {number} {}", self.name),
            (number, false) => write!(f, "at entry {number} {}", self.name),
        }
    }
}

/// The limit (of [`crate::Limits`]) that an archive ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes in all.
    Bytes,
    /// Bytes that one byte of the archive turns into.
    Ratio,
    /// Entries.
    Entries,
    /// Directories below one another.
    Depth,
    /// Bytes of a name or link target.
    Path,
    /// Bytes of one file.
    File,
    /// Bytes of the names of all directories.
    DirectoryNames,
    /// Bytes of one entry's extended header, or pieces of a sparse file. Fixed, not in [`crate::Limits`].
    Header,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Bytes => "bytes when unpacked",
            Limit::Ratio => "bytes out of each compressed byte",
            Limit::Entries => "entries",
            Limit::Depth => "levels of directories",
            Limit::Path => "bytes of name (with the closing NUL)",
            Limit::File => "bytes in one file",
            Limit::DirectoryNames => "bytes of directory names in all",
            Limit::Header => "bytes of extended header or pieces of a sparse file",
        })
    }
}

/// Why an archive was not unpacked. Nothing of it is left on disk, unless the variant is [`Self::Leftover`].
///
/// Names from the archive are escaped before they are printed.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive file can not be opened.
    #[error("open archive {path:?}; give the path of a tar file that this process may read")]
    Open {
        /// The archive.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The archive is a directory, FIFO, socket or device.
    #[error("archive {path:?} is {found}; give a regular file")]
    NotAFile {
        /// The archive.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// It is neither a tar nor one that is compressed in a way we know.
    #[error("the archive {what}; give a tar, plain or compressed with gzip, zstd or xz")]
    Format {
        /// What it looks like instead.
        what: &'static str,
    },
    /// The directory to unpack into can not be made or used.
    #[error("{what} {path:?} to unpack into")]
    Target {
        /// What was tried.
        what: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The directory to unpack into exists, and is not an empty private one.
    #[error(
        "directory {path:?} to unpack into {why}; name one that does not exist, or an empty one of mode 0700"
    )]
    TargetInUse {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The stream can not be read: cut short, corrupt, or the disk failed.
    #[error(
        "read the archive {place}; it is cut short or corrupt if the disk is well: fetch or make it again"
    )]
    Read {
        /// How far it was good.
        place: Place,
        /// What the decompressor or the kernel said.
        #[source]
        source: io::Error,
    },
    /// The stream is no well-formed tar, or one that two readers would read differently.
    #[error("the archive is malformed {place}: {what}; make it again with a current tar")]
    Malformed {
        /// Where.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// The entry asks for something that no honest root filesystem needs.
    #[error("the archive is refused {place}: {why}")]
    Refused {
        /// Where.
        place: Place,
        /// What it asks for, and what to do.
        why: String,
    },
    /// The entry is of a kind that is not supported.
    #[error("the archive holds what is not supported {place}: {what}")]
    Unsupported {
        /// Where.
        place: Place,
        /// What, and what to do instead.
        what: String,
    },
    /// The archive is larger than allowed.
    #[error("the archive is refused {place}: more than {allowed} {limit}; raise the limit if you trust it")]
    TooMuch {
        /// Where.
        place: Place,
        /// Of what there is too much.
        limit: Limit,
        /// How much is allowed.
        allowed: u64,
    },
    /// The stop hook said so.
    #[error("unpacking was stopped {place}: cancelled, or its deadline passed")]
    Stopped {
        /// How far it had come.
        place: Place,
    },
    /// The tree can not be written.
    #[error("{what} {place}")]
    Write {
        /// The entry being written.
        place: Place,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It failed, and then not everything made could be removed.
    #[error("{} of what was unpacked could not be removed again from {target:?}; remove it by hand", removal.failures.len() as u64 + removal.more_failures)]
    Leftover {
        /// The directory that still has something in it.
        target: PathBuf,
        /// What stayed, and why.
        removal: Removal,
        /// Why unpacking failed in the first place.
        #[source]
        cause: Box<UnpackError>,
    },
}

impl UnpackError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            UnpackError::Open { source, .. } | UnpackError::Target { source, .. } => Class::of_io(source),
            UnpackError::Write { source, .. } => match Class::of_io(source) {
                // The tree is ours: what is missing or in the way there is our fault or the host's.
                Class::NotFound | Class::Conflict => Class::Internal,
                class => class,
            },
            // A failed read of the file has an error number; a stream that makes no sense has none.
            UnpackError::Read { source, .. } if source.raw_os_error().is_some() => Class::Internal,
            UnpackError::TargetInUse { .. } | UnpackError::Stopped { .. } => Class::Conflict,
            UnpackError::Unsupported { .. } => Class::Unsupported,
            UnpackError::NotAFile { .. }
            | UnpackError::Format { .. }
            | UnpackError::Read { .. }
            | UnpackError::Malformed { .. }
            | UnpackError::Refused { .. }
            | UnpackError::TooMuch { .. } => Class::Invalid,
            UnpackError::Leftover { cause, .. } => cause.class(),
        }
    }
}
