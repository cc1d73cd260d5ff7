// SPDX-License-Identifier: Apache-2.0
//! Profiles against programs: what the compiler writes must do, instruction by instruction, what the profile says.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod bpf;
mod cache;
mod default_profile;
mod equivalence;
mod json;
mod kernel;
mod oracle;
mod peers;
