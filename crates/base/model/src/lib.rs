// SPDX-License-Identifier: Apache-2.0
//! Ids, configurations, resources and error classes: pure data, no I/O

mod class;
pub mod resources;

pub use class::Class;
pub use resources::{Resource, Resources};
