// SPDX-License-Identifier: Apache-2.0
//! How a question to the engine failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use berth_contract::Error;
use berth_model::Class;

/// The failure of one question.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EngineError {
    /// Nobody listens.
    #[error("the engine can not be reached at {}: {why}; start it, or name its socket with --docker_socket", socket.display())]
    Unreachable { socket: PathBuf, why: String },
    /// The program that is to connect to it does not.
    #[error("the engine can not be reached by --docker={}: {why}; see whether it works by hand", program.display())]
    Client { program: PathBuf, why: String },
    /// It listens and says nothing.
    #[error("the engine did not answer '{call}' within {limit:?}; see whether it is stopped or overloaded")]
    Late { call: &'static str, limit: Duration },
    /// It said no.
    #[error("{message}")]
    Refused { status: u16, message: String },
    /// It went away meanwhile.
    #[error("the connection to the engine broke during '{call}': {why}")]
    Lost { call: &'static str, why: String },
    /// It is not an engine that we know.
    #[error("the engine answered '{call}' with what can not be read: {why}")]
    Strange { call: &'static str, why: String },
    /// A download without a byte for too long.
    #[error("nothing came of image {image} for {limit:?}; see whether its registry can be reached")]
    Stalled { image: String, limit: Duration },
}

impl EngineError {
    pub(crate) fn unreachable(socket: &std::path::Path, error: &io::Error) -> EngineError {
        EngineError::Unreachable { socket: socket.to_owned(), why: error.to_string() }
    }

    /// Whether the engine itself may be gone, so that another try later may go better.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            EngineError::Unreachable { .. }
            | EngineError::Client { .. }
            | EngineError::Late { .. }
            | EngineError::Lost { .. } => true,
            // What an engine says that is being shut down.
            EngineError::Refused { status, .. } => *status == 503,
            EngineError::Strange { .. } | EngineError::Stalled { .. } => false,
        }
    }

    /// Whether there is no such thing.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, EngineError::Refused { status: 404, .. })
    }

    /// Whether it is in another state than was thought.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, EngineError::Refused { status: 409 | 304, .. })
    }

    pub(crate) fn class(&self) -> Class {
        match self {
            EngineError::Refused { status: 400, .. } => Class::Invalid,
            EngineError::Refused { status: 404, .. } => Class::NotFound,
            EngineError::Refused { status: 409, .. } => Class::Conflict,
            EngineError::Refused { status: 401 | 403, .. } => Class::Denied,
            EngineError::Unreachable { .. }
            | EngineError::Client { .. }
            | EngineError::Late { .. }
            | EngineError::Lost { .. } => Class::Gone,
            _ => Class::Internal,
        }
    }

    /// The failure of the contract's call: what was tried, and this.
    pub(crate) fn because(&self, tried: &str) -> Error {
        Error::other(self.class(), format!("{tried}: {self}"))
    }
}

/// hyper's errors have their reason behind them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
