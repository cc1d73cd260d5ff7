// SPDX-License-Identifier: Apache-2.0
//! The command line against an agent: both are the program that was built. Each test has an agent of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod absent;
mod containers;
mod formats;
mod ground;
mod terminals;
