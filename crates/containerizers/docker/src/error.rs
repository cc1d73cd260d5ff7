// SPDX-License-Identifier: Apache-2.0
//! What is told to the operator, and the failures that are not the engine's.

use berth_contract::Error;
use berth_model::Class;

/// Tells the operator what is not worth a failure.
pub(crate) fn warn(text: &str) {
    berth_keeper::warn::<crate::kept::Common>(text);
}

pub(crate) fn of_io(what: String, error: std::io::Error) -> Error {
    berth_keeper::of_io(what)(error)
}

pub(crate) fn invalid(text: impl Into<String>) -> Error {
    Error::other(Class::Invalid, text)
}

pub(crate) fn unsupported(text: impl Into<String>) -> Error {
    Error::other(Class::Unsupported, text)
}
