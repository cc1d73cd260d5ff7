// SPDX-License-Identifier: Apache-2.0
//! The agent: it owns the containers of this host through one containerizer, remembers what must survive it, and
//! answers everybody who asks.
//!
//! ```text
//! client ── HTTP ──> berth-api ──> Core (core) ──> one module per kind of question ──> Containerizer
//!                                                       │
//!             table <── watch <── events of the containerizer      what lists and inspections read
//! ```
//!
//! **Who owns what.** The containerizer alone changes the state of a container. The agent follows its events and
//! keeps a table of snapshots, which lists and inspections read without ever waiting for a container. What
//! changes something runs in a task of its own, that ends with the work and not with the client. What blocks (small
//! files, `/proc`, the control files of a container) runs on the runtime's bounded blocking threads.
//!
//! **On disk**, beside what the containerizer keeps (places as in Mesos where they mean the same, in clear places of
//! our own where they do not):
//!
//! ```text
//! <work_dir>/meta/containers/<id>/   config        what was asked, its name, when and in which boot     (intent)
//!                                    forked.pid    by the containerizer, before the program may run
//!                                    termination   how it ended, so that a reboot does not forget it
//! <work_dir>/sandboxes/<id>/         the sandbox of a standalone container, until it is removed
//! ```
//!
//! Mesos has standalone sandboxes at `containers/<id>`; there the native containerizer has its own things of each
//! container, out of the container's reach, and its output files, which are linked into the sandbox.
//!
//! The order is: record, sandbox, launch; and backwards for a removal. A record is replaced by a rename, so a killed
//! agent leaves the old one or the new one. It is synced to the disk when something that was promised depends on it:
//! a new name, new limits. A launch is not: what a power failure takes from it is the memory of a container which
//! that failure ended anyway.

mod agent;
mod collect;
mod contain;
mod core;
mod counters;
mod driver;
mod error;
mod events;
mod executors;
mod files;
mod hooks;
mod host;
mod inspect;
mod level;
mod lifecycle;
mod list;
mod logs;
mod master;
mod measure;
mod notify;
mod operations;
mod pack;
mod places;
mod program;
mod pump;
mod record;
mod recover;
mod rest;
mod session;
mod table;
mod tasks;
mod watch;

pub use agent::Agent;
pub use error::StartError;
pub use program::main;
