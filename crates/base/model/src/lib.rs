// SPDX-License-Identifier: Apache-2.0
//! Ids, configurations, resources and error classes: pure data, no I/O

mod class;

pub use class::Class;
