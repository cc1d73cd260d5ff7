// SPDX-License-Identifier: Apache-2.0
//! Mesos's JSON mapping: names as in the .proto file, enums by name, 64-bit numbers as numbers, bytes in base64.

mod parse;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use parse::parse;
pub use read::ConvertError;
pub(crate) use read::read;
pub(crate) use write::{Defaults, write};
