// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with native containers.

use berth_model::{Class, ContainerId};
use std::io;
use std::path::PathBuf;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A container of that name is there already.
    #[error("container {0} exists already: choose another --name, or remove it with `berth rm {0}`")]
    Exists(ContainerId),
    /// No container has that name.
    #[error("no container is named {0}: `berth ps -a` lists them")]
    NotFound(String),
    /// It runs, and what was asked needs it ended.
    #[error("container {0} is running: end it first, or force it")]
    Running(ContainerId),
    /// A directory of ours.
    #[error("{what} {path}")]
    Directory {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A record.
    #[error("{what}")]
    Record {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: berth_record::Error,
    },
    /// The root file system.
    #[error("prepare root file system {path}")]
    Rootfs {
        /// As it was named.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        /// Its class.
        class: Class,
    },
    /// The image.
    #[error("provision image {name}")]
    Image {
        /// As it was named.
        name: String,
        /// Why not.
        #[source]
        source: Box<berth_images::ImagesError>,
    },
    /// A URI that can not be fetched, whatever the world looks like.
    #[error(transparent)]
    Uri(berth_fetcher::FetchError),
    /// The URIs.
    #[error("Failed to fetch all URIs for container '{id}'")]
    Fetch {
        /// The container.
        id: String,
        /// Why not.
        #[source]
        source: berth_fetcher::FetchError,
    },
    /// The fetcher's cache.
    #[error("Could not fetch URIs")]
    FetcherCache(#[source] berth_fetcher::OpenError),
    /// The user.
    #[error("resolve the user")]
    User(#[source] berth_image::UserError),
    /// The launcher or an isolator.
    #[error(transparent)]
    Launch(#[from] berth_launcher::Error),
    /// The launch failed, and undoing it did too.
    #[error("{cause}; and when undoing it: {}", .undoing.join("; "))]
    Undo {
        /// Why the launch failed.
        #[source]
        cause: Box<Error>,
        /// What is left.
        undoing: Vec<String>,
    },
    /// The request.
    #[error("{0}")]
    Invalid(String),
    /// The first process ended during the launch, and nobody says why.
    #[error("the container's first process ended before the program was executed: {0}")]
    Early(String),
    /// The container was destroyed while it was launched.
    #[error("{0}")]
    Destroyed(String),
}

impl Error {
    /// Its class.
    pub fn class(&self) -> Class {
        match self {
            Error::Exists(_) | Error::Running(_) => Class::Conflict,
            Error::NotFound(_) => Class::NotFound,
            Error::Directory { source, .. } => Class::of_io(source),
            Error::Record { source, .. } => source.class(),
            Error::Rootfs { class, .. } => *class,
            Error::Image { source, .. } => source.class(),
            Error::Uri(source) | Error::Fetch { source, .. } => source.class(),
            Error::FetcherCache(e) => e.class(),
            Error::User(e) => e.class(),
            Error::Launch(e) => e.class(),
            Error::Undo { cause, .. } => cause.class(),
            Error::Invalid(_) => Class::Invalid,
            Error::Early(_) => Class::Internal,
            Error::Destroyed(_) => Class::Gone,
        }
    }

    /// Whether it is the program that could not be executed, and then with which shell code: 127 when it was not
    /// found, 126 otherwise.
    pub fn execute_code(&self) -> Option<u8> {
        match self {
            Error::Launch(berth_launcher::Error::Execute { source, .. }) => {
                let missing = matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
                Some(if missing { 127 } else { 126 })
            }
            Error::Undo { cause, .. } => cause.execute_code(),
            _ => None,
        }
    }

    pub(crate) fn directory(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(berth_sys::Errno) -> Error {
        let path = path.into();
        move |e| Error::Directory { what, path, source: e.into() }
    }
}
