// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a profile, a program or the cache.

use std::io;
use std::path::PathBuf;

use berth_model::Class;

/// Why a profile could not be read or compiled, or a cache not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is longer than any sensible profile.
    #[error(
        "read seccomp profile: it has {size} bytes, but at most {limit} are read; split or shorten the profile"
    )]
    TooLarge {
        /// What was given, in bytes.
        size: usize,
        /// What is taken, in bytes.
        limit: usize,
    },
    /// The text is not JSON, or not of the shape of Docker's profiles.
    #[error(
        "read seccomp profile as JSON: it is not in Docker's profile format, correct it as the cause says"
    )]
    Json(#[source] serde_json::Error),
    /// A value in the profile is not one of those that the format has.
    #[error("read seccomp profile: {place}: {problem}; {remedy}")]
    Invalid {
        /// Which part: `defaultAction`, `rule 12 (socket, socketpair)`; rules count from 1.
        place: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The profile is right, but asks for something that Berth does not do.
    #[error("read seccomp profile: {place}: {feature} is not supported; {remedy}")]
    Unsupported {
        /// Which part, as for [`Error::Invalid`].
        place: String,
        /// What it asks for.
        feature: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The compiled filter is longer than the kernel takes.
    #[error(
        "compile seccomp profile: the filter needs more than {limit} instructions, the most that the kernel \
         takes; use fewer rules with arguments"
    )]
    TooLong {
        /// The kernel's limit (BPF_MAXINSNS).
        limit: usize,
    },
    /// Bytes that should be a compiled filter are not one.
    #[error("load seccomp filter: {problem}; compile the profile again")]
    Damaged {
        /// What is wrong with them.
        problem: &'static str,
    },
    /// The cache's directory or a file in it could not be used.
    #[error(
        "{action} {path} for the seccomp cache; make it writable for this user or choose another directory"
    )]
    Cache {
        /// What was tried: `create`, `write`, ….
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The cache's directory could be changed by others, so nothing in it can be trusted.
    #[error(
        "open {path} as seccomp cache: {problem}; a filter from there could not be trusted, use a directory of \
         this user with mode 0700"
    )]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Error {
    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self {
            Error::TooLarge { .. } | Error::Json(_) | Error::Invalid { .. } => Class::Invalid,
            Error::TooLong { .. } => Class::Invalid,
            Error::Unsupported { .. } => Class::Unsupported,
            Error::Damaged { .. } => Class::Internal,
            Error::Cache { source, .. } => Class::of_io(source),
            Error::Untrusted { .. } => Class::Denied,
        }
    }
}
