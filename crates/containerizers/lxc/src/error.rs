// SPDX-License-Identifier: Apache-2.0
//! Failures as the contract has them.

use berth_contract::Error;
pub(crate) use berth_keeper::of_io;
use berth_model::Class;

/// Tells the operator what is not worth a failure.
pub(crate) fn warn(text: &str) {
    berth_keeper::warn::<crate::kept::Common>(text);
}

/// A failure of a tool.
pub(crate) fn of_tool(error: crate::tools::Error) -> Error {
    Error::other(error.class(), error.chain())
}

/// What is asked and not to be had.
pub(crate) fn unsupported(what: &str) -> Error {
    Error::other(
        Class::Unsupported,
        format!("{what} for containers of LXC: leave it out, or use another containerizer"),
    )
}

/// What is asked and makes no sense.
pub(crate) fn invalid(what: impl Into<String>) -> Error {
    Error::other(Class::Invalid, what)
}
