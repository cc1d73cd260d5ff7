// SPDX-License-Identifier: Apache-2.0
//! Frameworks, executors and tasks: the agent's side of them.
//!
//! ```text
//! master ──[link]──> engine ──events──> executor: of a framework's, over HTTP; or built in, within the agent
//!        <──────────        <──calls───
//! ```

pub mod built_in;
pub mod link;
