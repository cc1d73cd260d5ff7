// SPDX-License-Identifier: Apache-2.0
//! Where an image comes from: the door between the store, which knows what it needs, and registries, layouts and
//! archives, which have it.
//!
//! A source is bound to one image: a repository at a registry, a directory, a file. It blocks, and may be used by
//! several threads at once. It is not trusted by the store, which verifies every blob; a source verifies the
//! documents that it answers.

use std::fmt;
use std::io::{self, Read};

use berth_model::Class;
use berth_model::image::{Digest, Platform};

use crate::cancel::Cancel;

/// The most bytes of a manifest or an index. Registries accept no more than 4 MiB.
pub const MANIFEST_MAX: u64 = 4 << 20;
/// The most bytes of an image's configuration.
pub const CONFIG_MAX: u64 = 8 << 20;

/// Which document of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ManifestRef {
    /// What the source's reference names, by tag or digest: a manifest or an index.
    Top,
    /// A manifest that an index lists.
    Digest(Digest),
}

/// A manifest or index, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What the source says that it is, without parameters. It must agree with what it says of itself.
    pub media_type: Option<String>,
    /// Computed from `bytes` by the source, and compared with what was asked for.
    pub digest: Digest,
    /// At most [`MANIFEST_MAX`] of them.
    pub bytes: Vec<u8>,
}

/// A blob or manifest, as another document names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its content.
    pub digest: Digest,
    /// Its bytes. Unknown in Docker's first schema, which does not tell.
    pub size: Option<u64>,
    /// In an index: what it is for.
    pub platform: Option<Platform>,
}

/// Somewhere that has an image.
pub trait Source: Send + Sync {
    /// Brings a document, of at most [`MANIFEST_MAX`] bytes, its digest computed and (where one was asked for)
    /// compared.
    ///
    /// # Errors
    /// [`PullError`]; [`PullError::Cancelled`] soon after `cancel` is said.
    fn manifest(&self, which: &ManifestRef, cancel: &Cancel) -> Result<Document, PullError>;

    /// Opens a blob from byte `offset` on. The reader ends at the blob's end, repeats and resumes by itself where
    /// that makes sense, and fails soon after `cancel` is said. An error of it may carry a [`PullError`] inside
    /// ([`PullError::into_io`]). What it delivers need not be verified, nor be bounded: the caller does both.
    ///
    /// # Errors
    /// [`PullError`].
    fn blob(
        &self,
        blob: &Descriptor,
        offset: u64,
        cancel: &Cancel,
    ) -> Result<Box<dyn Read + Send>, PullError>;

    /// What people call it, for messages: `registry.example/library/debian:12`, `oci:/srv/images`.
    fn describe(&self) -> String;
}

/// Why something could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Somebody said so.
    #[error("the pull of {from} was cancelled")]
    Cancelled {
        /// [`Source::describe`].
        from: String,
    },
    /// The source does not have it.
    #[error("{from} has no {what}; {advice}")]
    NotFound {
        /// [`Source::describe`].
        from: String,
        /// What was looked for.
        what: String,
        /// What to do.
        advice: String,
    },
    /// The disk, or the file that is the source.
    #[error("{what} of {from}")]
    Io {
        /// [`Source::describe`].
        from: String,
        /// What was tried.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What came is not what it should be: malformed, ambiguous, or refused by a rule.
    #[error("{what} from {from} is refused: {why}")]
    Refused {
        /// [`Source::describe`].
        from: String,
        /// Which document or blob.
        what: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// What came has another digest than what was asked for.
    #[error("{from} sent {found} for {what} {wanted}; it is corrupt or lies: try again, or another source")]
    Digest {
        /// [`Source::describe`].
        from: String,
        /// Which document or blob.
        what: String,
        /// What was asked for.
        wanted: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// It is larger than allowed, or than was announced.
    #[error("{what} from {from} is refused: more than {allowed} bytes")]
    TooMuch {
        /// [`Source::describe`].
        from: String,
        /// Which document or blob.
        what: String,
        /// How much there may be.
        allowed: u64,
    },
    /// It is right, but not something that we can use.
    #[error("{from}: {what} is not supported; {advice}")]
    Unsupported {
        /// [`Source::describe`].
        from: String,
        /// What.
        what: String,
        /// What to do instead.
        advice: String,
    },
    /// An error of the source's own kind (a registry's answer, an authentication).
    #[error("{source}")]
    Other {
        /// Of which class.
        class: Class,
        /// The error; it says what was tried, on what, why it failed and what to do.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl PullError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            PullError::Cancelled { .. } => Class::Conflict,
            PullError::NotFound { .. } => Class::NotFound,
            PullError::Io { source, .. } => Class::of_io(source),
            PullError::Refused { .. } | PullError::Digest { .. } | PullError::TooMuch { .. } => {
                Class::Invalid
            }
            PullError::Unsupported { .. } => Class::Unsupported,
            PullError::Other { class, .. } => *class,
        }
    }

    /// Carries it through [`Read`].
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Takes it out again, or wraps what the reader said.
    pub fn of_io(error: io::Error, from: &str, what: impl fmt::Display) -> PullError {
        match error.downcast::<PullError>() {
            Ok(inner) => inner,
            Err(source) => PullError::Io { from: from.to_owned(), what: what.to_string(), source },
        }
    }
}
