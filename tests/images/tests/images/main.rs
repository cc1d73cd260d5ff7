// SPDX-License-Identifier: Apache-2.0
//! Images as their users meet them.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod agent;
mod appc;
mod commands;
mod hostile;
mod interrupted;
mod provisioning;
mod run;
mod serving;
mod sources;
