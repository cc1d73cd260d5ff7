// SPDX-License-Identifier: Apache-2.0
//! What can go wrong in a launch.

use berth_model::Class;
use std::io;
use std::path::PathBuf;

/// Why a launch failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration asks for something that can not be.
    #[error("{0}")]
    Invalid(String),
    /// It can be, but not here or not yet.
    #[error("{0}")]
    Unsupported(String),
    /// A system call on the host's side.
    #[error("{what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file or directory of ours.
    #[error("{what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another mechanism's error, with its own class.
    #[error("{what}")]
    Mechanism {
        /// What was tried.
        what: String,
        /// Its class.
        class: Class,
        /// The error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A step of the set-up inside the container.
    #[error("isolator {isolator} could not {what}")]
    Step {
        /// Whose step.
        isolator: &'static str,
        /// What it was to do.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("can not execute {file:?} in the container")]
    Execute {
        /// As it was asked for.
        file: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The supervisor went away.
    #[error("the supervisor of the container ended unexpectedly during {0}")]
    Gone(&'static str),
    /// The supervisor did not do what a client asked.
    #[error("{what}: {why}")]
    Asked {
        /// What was asked.
        what: &'static str,
        /// Why not, and what to do.
        why: &'static str,
        /// Its class.
        class: Class,
    },
    /// The supervisor did not take the plan.
    #[error("the supervisor refused the plan: {0}")]
    Refused(String),
}

impl Error {
    /// Its class.
    pub fn class(&self) -> Class {
        match self {
            Error::Invalid(_) => Class::Invalid,
            Error::Unsupported(_) => Class::Unsupported,
            Error::Io { source, .. } | Error::File { source, .. } | Error::Step { source, .. } => {
                Class::of_io(source)
            }
            Error::Execute { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Class::NotFound,
                io::ErrorKind::PermissionDenied => Class::Denied,
                _ => Class::Invalid,
            },
            Error::Mechanism { class, .. } | Error::Asked { class, .. } => *class,
            Error::Gone(_) | Error::Refused(_) => Class::Internal,
        }
    }

    /// A system call that failed.
    pub fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Io { what: what.into(), source: source.into() }
    }

    /// An error of another mechanism.
    pub fn mechanism(
        what: impl Into<String>,
        class: Class,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        Error::Mechanism { what: what.into(), class, source: Box::new(source) }
    }
}
