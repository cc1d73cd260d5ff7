// SPDX-License-Identifier: Apache-2.0
//! The store against real tools and bad days. Needs root; what else is missing is printed by the test that lacks it.

#![allow(clippy::unwrap_used, reason = "a test that can not prepare itself has failed")]

mod adversity;
mod collect;
mod differential;
mod ground;
mod hostile;
mod memory;
mod scale;
mod sources;
