// SPDX-License-Identifier: Apache-2.0
//! The supervisor that stands beside each container, the set-up that runs inside it before its program, and
//! the wire form of the plan and the protocol between them and whoever launches.
//!
//! ```text
//! owner (agent, berth run) ──socket──> supervisor ──clone──> child: set-up ──exec──> the program
//!        plan, go, signal               │  writes the exit record, then reaps
//!        <── forked, failed, exited ────┘  holds the terminal, the container's lock and its log files
//! ```
//!
//! Everything here runs in `berth-init`: one thread, no libc, no heap. It decides nothing: the plan is a list of
//! steps that the launcher wrote, and [`child`] carries them out in order. That keeps the part which runs with
//! all privileges next to a hostile root filesystem small enough to read in one sitting.
//!
//! Owns: the container's lock (an inherited open file description), the exit record, the pty's master, the
//! control socket `ctl`. Only `berth-init`'s `main` calls [`supervise::main`].
#![cfg_attr(not(feature = "encode"), no_std)]

pub mod child;
pub mod logging;
pub mod protocol;
pub mod supervise;
pub mod wire;

mod chunk;
mod init;
mod input;
mod logs;
mod look;
mod output;
mod state;
mod terminal;
mod within;

pub use state::{sealed, sealed_program};
