// SPDX-License-Identifier: Apache-2.0
//! Launching: the [`Isolator`] trait, the [`Plan`] that isolators fill, and the [`Supervisor`] that carries it
//! out.
//!
//! ```text
//! plan     every isolator looks at the configuration and adds steps; nothing on the host changes yet
//! spawn    the supervisor exists and waits
//! isolate  every isolator makes what it needs on the host (groups, detached mounts), in table order; the first part of
//!          the plan goes to the child as soon as there is a root file system, and it begins with its mounts
//! release  the rest of the plan goes to the child; it sets itself up and waits at the gate; go
//! ```
//! Owns: the supervisor's socket and pidfd. Blocks; knows no runtime. Called by the native containerizer.

mod ask;
mod connection;
pub mod early;
mod error;
mod home;
mod isolator;
mod plan;
mod supervisor;

pub use ask::{Ask, ask};
pub use connection::{Connection, open_process};
pub use error::Error;
pub use home::place_supervisors;
pub use isolator::{Container, Heard, ImageVolume, Isolator, Places, Rootfs, Watched, Within};
pub use plan::{Encoded, Part, Phase, Plan};
pub use supervisor::{Event, Supervisor};

pub use berth_supervisor::{logging, supervise, wire};
pub use berth_sys as sys;

/// The result of a step of a launch.
pub type Result<T> = std::result::Result<T, Error>;

/// The program that stands beside each container, as built with this crate.
pub const INIT: &[u8] = include_bytes!(env!("BERTH_INIT"));
