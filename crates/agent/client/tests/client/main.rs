// SPDX-License-Identifier: Apache-2.0
//! The client against a server that says what its script says.

#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod calls;
mod failures;
mod script;
mod streams;
