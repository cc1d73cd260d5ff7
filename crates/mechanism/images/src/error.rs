// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between a name and an image.

use berth_image::PullError;
use berth_model::Class;
use berth_registry::RegistryError;
use berth_store::StoreError;

use crate::appc::AppcNameError;
use crate::name::NameError;

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagesError {
    /// The name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The name of an App Container image says too little.
    #[error(transparent)]
    Appc(#[from] AppcNameError),
    /// The store, or the source of a pull.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A source that is a file.
    #[error(transparent)]
    Source(#[from] PullError),
    /// What was asked for is nowhere.
    #[error("explain the pull of {what}: {problem}")]
    NotFound {
        /// What.
        what: String,
        /// Why not, in one line.
        problem: String,
    },
    /// Something that this version does not do.
    #[error("{0}")]
    Unsupported(String),
}

impl ImagesError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            ImagesError::Name(error) => error.class(),
            ImagesError::Store(error) => error.class(),
            ImagesError::Registry(error) => error.class(),
            ImagesError::Source(error) => error.class(),
            ImagesError::Appc(_) => Class::Invalid,
            ImagesError::NotFound { .. } => Class::NotFound,
            ImagesError::Unsupported(_) => Class::Unsupported,
        }
    }

    /// Whether parts of the image went away meanwhile: it can be had again.
    pub(crate) fn is_incomplete(&self) -> bool {
        matches!(self, ImagesError::Store(StoreError::Incomplete { .. }))
    }
}

/// The result of an operation on images.
pub type Result<T> = std::result::Result<T, ImagesError>;
