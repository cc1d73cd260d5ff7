// SPDX-License-Identifier: Apache-2.0
//! Durable records: atomic writes, schema versions, locks, and the identities that make a record mean
//! something after a restart (boot, process, instance).
//!
//! What this crate owns: the way in which small state files are written and read. It owns no directory and no
//! process; every function takes a descriptor of the directory in which to work, so that nothing here walks a
//! path that another could change. Everybody above may call it. It blocks, and knows no runtime.
//!
//! * [`write_atomic`] and [`create_atomic`] put bytes under a name so that a reader sees the old content or the
//!   new, never a part. [`collect_stale`] removes what a killed writer left.
//! * [`write()`] and [`read()`] do the same with a [`Versioned`] record: one JSON object that says its format and
//!   version first. Reading tells apart what is missing, torn, newer, older, and somebody else's.
//! * [`Lock`] is an exclusive lock that can be handed to another process.
//! * [`BootId`], [`Process`] and [`InstanceId`] answer "is it still the same one?".

mod atomic;
mod envelope;
mod error;
mod host;
mod instance;
mod lock;
#[cfg(test)]
mod scratch;

pub use atomic::{Sync, collect_stale, create_atomic, read_bytes, remove, write_atomic};
pub use envelope::{Versioned, decode, encode, read, write};
pub use error::Error;
pub use host::{BootId, Process};
pub use instance::{INSTANCE_FILE, InstanceId};
pub use lock::Lock;

/// The result of an operation on records.
pub type Result<T> = std::result::Result<T, Error>;
