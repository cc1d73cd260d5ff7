// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with images on disk.

use std::io;
use std::path::PathBuf;

use berth_image::overlay::OverlayError;
use berth_image::{PullError, RootError, UnpackError};
use berth_model::Class;
use berth_model::image::Digest;

/// Why something could not be done with the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or directory of the store.
    #[error("{what} {path:?}{}", full(source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A record of the store.
    #[error("{what}")]
    Record {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<berth_record::Error>,
    },
    /// The source.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// A layer could not be unpacked.
    #[error("unpack layer {layer} from {from}{}", match source.class() { Class::Exhausted => FULL, _ => "" })]
    Unpack {
        /// The layer's blob.
        layer: Digest,
        /// Where it came from.
        from: String,
        /// Why.
        #[source]
        source: Box<UnpackError>,
    },
    /// A layer holds something else than the image's configuration says.
    #[error(
        "layer {layer} from {from} holds {found}, and the image's configuration says {wanted}; the image is corrupt or lies: get it elsewhere, or make it again"
    )]
    Content {
        /// The layer's blob.
        layer: Digest,
        /// Where it came from.
        from: String,
        /// What the configuration says.
        wanted: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// There is no such image here.
    #[error("there is no image {0:?} in the store; pull it first, or look at `berth image ls`")]
    NotFound(String),
    /// Parts of an image are gone: somebody removed files by hand, or the machine crashed.
    #[error("image {image:?} is incomplete ({what} is missing); pull it again")]
    Incomplete {
        /// Its name or digest.
        image: String,
        /// What is missing.
        what: String,
    },
    /// A name that can not be one of an image.
    #[error("{name:?} can not name an image: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Somebody else holds the store for longer than we wait.
    #[error(
        "the store at {path:?} is locked for longer than {seconds} s; a clean-up that hangs? see who holds {path:?}"
    )]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// Layers could not be mounted.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A tree could not be looked at.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The backend can not do this.
    #[error("{0}")]
    Unsupported(String),
    /// Something that was to be removed is still there.
    #[error("remove {path:?}: {count} entries stayed, the first because of: {first}")]
    Leftover {
        /// What was to be removed.
        path: PathBuf,
        /// How many stayed.
        count: u64,
        /// Why the first one did.
        first: String,
    },
}

const FULL: &str = " (the disk is full: remove what is not needed with `berth image prune`, then try again)";

fn full(source: &io::Error) -> &'static str {
    match Class::of_io(source) {
        Class::Exhausted => FULL,
        _ => "",
    }
}

impl StoreError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            StoreError::Io { source, .. } => Class::of_io(source),
            StoreError::Record { source, .. } => source.class(),
            StoreError::Pull(error) => error.class(),
            StoreError::Unpack { source, .. } => source.class(),
            StoreError::Content { .. } | StoreError::Name { .. } => Class::Invalid,
            StoreError::NotFound(_) => Class::NotFound,
            StoreError::Incomplete { .. } => Class::Gone,
            StoreError::Locked { .. } => Class::Conflict,
            StoreError::Overlay(error) => error.class(),
            StoreError::Root(error) => error.class(),
            StoreError::Unsupported(_) => Class::Unsupported,
            StoreError::Leftover { .. } => Class::Internal,
        }
    }

    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(rustix::io::Errno) -> StoreError {
        let path = path.into();
        move |errno| StoreError::Io { what, path, source: errno.into() }
    }

    pub(crate) fn record(what: &'static str) -> impl FnOnce(berth_record::Error) -> StoreError {
        move |source| StoreError::Record { what, source: Box::new(source) }
    }
}

/// The result of an operation on the store.
pub type Result<T> = std::result::Result<T, StoreError>;
