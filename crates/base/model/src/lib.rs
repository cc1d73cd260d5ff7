// SPDX-License-Identifier: Apache-2.0
//! Ids, configurations, resources and error classes: pure data, no I/O

mod base64;
mod capability;
mod class;
pub mod config;
pub mod extensions;
mod id;
pub mod image;
mod number;
pub mod resources;
mod secret;
mod states;
mod status;
mod units;
mod wait_status;
mod wire;

pub use capability::{Capabilities, Capability, UnknownCapability};
pub use class::Class;
pub use config::*;
pub use id::*;
pub use resources::{DiskInfo, Ranges, Resource, Resources, Scalar};
pub use secret::{ExposedSecret, Secret, SecretBytes, SecretReference, SecretType, SecretValue};
pub use states::{Denied, NativeEvent, NativeState};
pub use status::*;
pub use units::{Bytes, DurationText, UnitError, parse_duration};
pub use wait_status::WaitStatus;
pub use wire::UnknownName;
