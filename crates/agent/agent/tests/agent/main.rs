// SPDX-License-Identifier: Apache-2.0
//! Agents with the native containerizer, asked over their unix sockets. Needs root.

#![expect(clippy::unwrap_used, reason = "in tests, helpers included")]

mod adversity;
mod client;
mod driver;
mod dying;
mod executors;
mod frameworks;
mod ground;
mod hooks;
mod killed;
mod life;
mod lists;
mod logs;
mod process;
mod restart;
mod roots;
mod sessions;
mod stuck;
mod tasks;
mod tokens;
