// SPDX-License-Identifier: Apache-2.0
//! Writers for what containers print.
//!
//! ```text
//! container ──pipe──> supervisor ── chunks ──> Writer ── Output: Directory (files, rotated)
//!                                                │               a pipe or socket
//!                                                │               Journald
//!                                                └── Spill, for a reader that is slow for a while
//! ```
//! [`Writer`] decides before each write: whether the file is full and the next line begins another ([`Policy::max`]), and
//! what becomes of output that can not be written now. Whatever happens to the log, the container goes on: what is lost is
//! counted, and a line in the log says so at the place where it is missing.
//!
//! The crate needs neither the standard library nor an allocator, and does no work of its own: the supervisor, which has one
//! thread and no libc, calls it with what it has read. What a container's environment says about its logger is read by the
//! agent, with the feature `settings`; old files are compressed by it, and all are read, with the feature `compress`.

#![cfg_attr(not(any(feature = "settings", feature = "compress", test)), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "compress")]
mod compress;
mod directory;
mod journald;
mod loss;
#[cfg(feature = "compress")]
mod read;
#[cfg(feature = "settings")]
mod settings;
mod spill;
mod times;
#[cfg(feature = "compress")]
mod together;
#[cfg(feature = "compress")]
mod told;
mod writer;

pub use berth_sys::Errno;
#[cfg(feature = "compress")]
pub use compress::{Compressed, compress, compress_marked, mark_compressed};
pub use directory::{Directory, LOCK, now};
pub use journald::{Fields, Journald, LONGEST_LINE, Priority, Room};
pub use loss::{Loss, NOTICE};
#[cfg(feature = "compress")]
pub use read::{Piece, Reader, watch_path};
#[cfg(feature = "settings")]
pub use settings::{Driver, Mode, PREFIX, Settings, SettingsError, Stream};
pub use spill::{Spill, SpillFile, Store};
pub use times::{STEP, Times};
#[cfg(feature = "compress")]
pub use together::{Chunk, Range, Together};
#[cfg(feature = "compress")]
pub use told::losses;
pub use writer::{Output, Policy, Writer};
