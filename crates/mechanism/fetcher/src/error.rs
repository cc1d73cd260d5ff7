// SPDX-License-Identifier: Apache-2.0
//! Why a fetch failed.

use std::io;
use std::path::PathBuf;

use berth_model::Class;

use crate::uri::UriError;

/// Why the URIs of a container are not all in its sandbox.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A URI can not be fetched, whatever the world looks like. Nothing was started.
    #[error("Could not fetch: {reason}")]
    Uri {
        /// The URI, without what may be secret.
        uri: String,
        /// What is wrong with it.
        #[source]
        reason: UriError,
    },
    /// A URI could not be fetched.
    #[error("Failed to fetch '{uri}': {text}")]
    Item {
        /// The URI, without what may be secret.
        uri: String,
        /// Why, as the child said it, escaped.
        text: String,
        /// What kind of failure.
        class: Class,
    },
    /// It was stopped.
    #[error("the fetch was stopped, because its container is destroyed")]
    Stopped,
    /// The child said nothing for longer than any stall that it would report itself.
    #[error("Failed to fetch '{uri}': the fetching process made no progress for {seconds} s and was killed")]
    Stuck {
        /// The URI, without what may be secret.
        uri: String,
        /// For how long.
        seconds: u64,
    },
    /// The child ended without an answer.
    #[error(
        "Failed to fetch '{uri}': the fetching process {how} before it was done; its words are in the container's stderr"
    )]
    Died {
        /// The URI, without what may be secret.
        uri: String,
        /// How it ended.
        how: String,
    },
    /// Something of the host failed.
    #[error("{what}")]
    Host {
        /// What was tried, on what, and what to do.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    pub(crate) fn host(what: impl Into<String>, source: impl Into<io::Error>) -> FetchError {
        FetchError::Host { what: what.into(), source: source.into() }
    }

    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            FetchError::Uri { .. } => Class::Invalid,
            FetchError::Item { class, .. } => *class,
            FetchError::Stopped => Class::Gone,
            FetchError::Stuck { .. } | FetchError::Died { .. } => Class::Internal,
            FetchError::Host { source, .. } => Class::of_io(source),
        }
    }
}

/// Why the cache can not be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory or file of it can not be made, opened or emptied.
    #[error("{what} {path:?} for the fetcher cache")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody else could change what is in it.
    #[error(
        "the fetcher cache directory {path:?} {why}, so its content could be somebody else's; \
         remove it, or name another with --fetcher_cache_dir"
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another agent uses it.
    #[error(
        "the fetcher cache directory {path:?} is used by another agent; name another with --fetcher_cache_dir"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

impl OpenError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            OpenError::Io { source, .. } => Class::of_io(source),
            OpenError::NotOurs { .. } => Class::Denied,
            OpenError::InUse { .. } => Class::Conflict,
        }
    }
}
