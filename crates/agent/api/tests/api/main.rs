// SPDX-License-Identifier: Apache-2.0
//! The face, over real sockets and with raw bytes, in front of an agent that is a double.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod bounds;
mod calls;
mod client;
mod double;
mod framing;
mod order;
mod sockets;
mod streams;
