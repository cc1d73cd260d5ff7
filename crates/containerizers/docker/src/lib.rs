// SPDX-License-Identifier: Apache-2.0
//! The Docker containerizer: containers of a Docker engine (or of one that speaks its API, such as podman), by its socket.
//!
//! It owns `<runtime_dir>/docker`, two threads, a connection for each question under way and one for each log that is
//! copied, and at the engine the containers that bear its `--work_dir` as a label; it touches no other.

mod attach;
mod auth;
mod containerizer;
mod engine;
mod error;
mod exec;
mod kept;
mod launch;
mod limits;
mod measure;
mod names;
mod options;
mod output;
mod owner;
mod parameters;
mod process;
mod reaper;
mod recover;
mod sandbox;
mod settings;
mod volumes;

pub use containerizer::Docker;
pub use settings::{Deadlines, DefaultDns, Dns, DnsNetwork, Settings};
