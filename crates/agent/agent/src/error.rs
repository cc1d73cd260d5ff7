// SPDX-License-Identifier: Apache-2.0
//! Why an agent does not start, and how failures of containers become refusals.

use std::io;
use std::path::PathBuf;

use berth_api::{BindError, CredentialsError, Refusal};
use berth_config::DirsError;
use berth_factory::{CreateError, ResourcesError};
use berth_model::Class;

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directories can not be had.
    #[error(transparent)]
    Dirs(#[from] DirsError),
    /// One of the directories in them can not be made or read.
    #[error("{what} {path}")]
    Place {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no containerizer.
    #[error("Failed to create a containerizer: {0}")]
    Containerizer(#[from] CreateError),
    /// Its resources can not be told.
    #[error("Failed to determine agent resources: {0}")]
    Resources(#[from] ResourcesError),
    /// Nobody could come in.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Nobody could say who they are.
    #[error("read --http_credentials")]
    Credentials(#[from] CredentialsError),
    /// What is to be run beside tasks can not be.
    #[error(transparent)]
    Hooks(#[from] berth_factory::HooksError),
    /// Containers of an earlier agent could not be taken over.
    #[error("Failed to perform recovery: {what}; containers that run go on")]
    Recovery {
        /// What failed, and what to do.
        what: String,
        /// What kind of failure it is.
        class: Class,
    },
    /// The records of tasks can not be had.
    #[error("open the records of tasks")]
    Tasks(#[from] berth_tasks::Error),
    /// Schedulers can not be served.
    #[error("start the local master")]
    Master(#[from] berth_master::StartError),
    /// The kernel refused something that every process needs.
    #[error("{what}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl StartError {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            StartError::Dirs(error) => error.class(),
            StartError::Place { source, .. } | StartError::Process { source, .. } => Class::of_io(source),
            StartError::Containerizer(error) => error.class(),
            StartError::Resources(error) => error.class(),
            StartError::Bind(error) => error.class(),
            StartError::Credentials(error) => error.class(),
            StartError::Hooks(error) => error.class(),
            StartError::Recovery { class, .. } => *class,
            StartError::Tasks(error) => error.class(),
            StartError::Master(error) => error.class(),
        }
    }

    /// What failed, without saying of which step it is.
    pub(crate) fn what(&self) -> String {
        match self {
            StartError::Recovery { what, .. } => what.clone(),
            other => chain(other),
        }
    }

    pub(crate) fn recovery(class: Class, what: impl Into<String>) -> StartError {
        StartError::Recovery { what: what.into(), class }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// How a face is told of a containerizer's failure, by its class.
pub(crate) fn refusal(error: &berth_contract::Error) -> Refusal {
    Refusal::of(error.class(), error.chain())
}

/// The same where Mesos answers every failure with 500.
pub(crate) fn failure(error: &berth_contract::Error) -> Refusal {
    Refusal::failed(error.chain())
}
