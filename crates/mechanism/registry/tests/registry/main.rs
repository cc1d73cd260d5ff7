// SPDX-License-Identifier: Apache-2.0
//! The client against real registries and against hostile ones. All of them are on the loopback, on ports of their
//! own; what a test lacks it says, and is then skipped.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod attacks;
mod blobs;
mod config;
mod credentials;
mod peers;
mod push;
mod support;
mod tls;
mod tokens;
