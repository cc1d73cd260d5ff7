// SPDX-License-Identifier: Apache-2.0
//! How a call of the program failed, in the words of Mesos 0.26 (its misspelling too: people search for it).

use std::io;
use std::time::Duration;

use berth_contract::Error;
use berth_model::{Class, WaitStatus};

/// The failure of one call of the program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("containerizer_path not set")]
    NoPath,
    #[error("Failed to chown work directory: {}", plain(.0))]
    Chown(io::Error),
    #[error("Failed to execute the external containerizer: {}", plain(.0))]
    Spawn(io::Error),
    #[error("Failed to write protobuf to pipe: {}", plain(.0))]
    Write(io::Error),
    /// Of a status that is not success.
    #[error("Externel containerizer {}", WaitStatus(.0.0 & !0x80))]
    Status(WaitStatus),
    #[error("External containerizer has no status available")]
    NoStatus,
    #[error("Could not receive any result")]
    NoResult,
    #[error("Could not receive any result: {0}")]
    BadResult(String),
    #[error(
        "External containerizer did not end within {0:?} and was killed; if '{1}' may take longer, raise its deadline"
    )]
    Late(Duration, &'static str),
    #[error("External containerizer was ended because the container is destroyed")]
    Cancelled,
}

impl CallError {
    pub(crate) fn class(&self) -> Class {
        match self {
            CallError::NoPath => Class::Invalid,
            CallError::Chown(error) | CallError::Spawn(error) => Class::of_io(error),
            CallError::Cancelled => Class::Gone,
            _ => Class::Internal,
        }
    }

    /// The failure of the contract's call: what Mesos says was tried, and this.
    pub(crate) fn because(&self, tried: &str) -> Error {
        Error::other(self.class(), format!("{tried}: {self}"))
    }
}

/// The text of an error number as C prints it, without the number that Rust puts behind it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or(&text).to_owned()
}

/// Tells the operator what is not worth a failure.
pub(crate) fn warn(text: &str) {
    berth_keeper::warn::<crate::kept::Common>(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_those_of_the_reference() {
        let cases = [
            (CallError::Status(WaitStatus(3 << 8)), "Externel containerizer exited with status 3"),
            (CallError::Status(WaitStatus(9)), "Externel containerizer terminated with signal Killed"),
            (
                CallError::Status(WaitStatus(11 | 0x80)),
                "Externel containerizer terminated with signal Segmentation fault",
            ),
            (CallError::NoStatus, "External containerizer has no status available"),
            (CallError::NoResult, "Could not receive any result"),
            (
                CallError::BadResult("Failed to deserialize message".to_owned()),
                "Could not receive any result: Failed to deserialize message",
            ),
            (CallError::NoPath, "containerizer_path not set"),
            (
                CallError::Write(io::Error::from_raw_os_error(32)),
                "Failed to write protobuf to pipe: Broken pipe",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
        let error = CallError::NoResult.because("Usage on container 'a' failed");
        assert_eq!(error.to_string(), "Usage on container 'a' failed: Could not receive any result");
    }
}
