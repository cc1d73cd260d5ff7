// SPDX-License-Identifier: Apache-2.0
//! What containerizers have in common whose containers are another program's: a Docker engine's, LXC's, the operator's own.
//! Those programs make and end them; what they were asked for, how far they are and how they ended is kept here, in memory
//! and on disk.
//!
//! * [`Records`] is what is written, in an order that makes any prefix of it understood by the next agent.
//! * [`Entry`] is a container as everybody sees it: moved on by its one owner, ended by whoever wishes, its termination kept
//!   until it is removed.
//! * [`Keeper`] has all of them, with the contract's answers that need no more.
//! * [`Threads`] runs owners and questions on threads, for kinds without a runtime of their own.
//! * [`Fetching`] brings what URIs name into sandboxes.
//! * [`sandbox`] has what the owner of a sandbox that may be hostile needs.
//!
//! What kinds differ in is a [`Kind`].

mod entry;
mod fetching;
mod keeper;
mod kind;
mod record;
pub mod sandbox;
mod threads;

use std::time::{SystemTime, UNIX_EPOCH};

use berth_contract::Error;
use berth_model::Class;

pub use entry::{Entry, Turn};
pub use fetching::{Fetching, Wanted};
pub use keeper::{Either, Keeper, Removal, check_signal, end_of};
pub use kind::{Kind, State};
pub use record::{Directory, Ended, Found, Record, Records, of_record};
pub use threads::{Bell, Threaded, Threads};

/// Tells the operator what is not worth a failure.
pub fn warn<K: Kind>(text: &str) {
    eprintln!("berth: {}: {text}", K::NAME);
}

/// A failure on a file.
pub fn of_io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |error| Error::because(Class::of_io(&error), what, error)
}

/// Seconds since 1970.
pub fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
