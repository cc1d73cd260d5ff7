// SPDX-License-Identifier: Apache-2.0
//! Containers of LXC, by LXC's own command line tools.
//!
//! The library behind them, liblxc, is LGPL and has to be linked dynamically or offered as objects, and berth is one
//! static program; its tools are a stable face with the same abilities, and each runs in a process that can be killed.
//! So nothing here links to LXC: what is asked for is an argument, a line of a configuration file, or a file of ours.
//!
//! [`tools`] is that face for the command line; [`Lxc`] is the containerizer. It owns `<runtime_dir>/lxc`,
//! `<work_dir>/lxc` (an lxcpath of its own, and another of what templates made), a control group, and one thread for each
//! container that has not ended. Beside each container stands `lxc-start`, which outlives the agent and writes down how it
//! ended.

mod asked;
mod attach;
mod base;
mod containerizer;
mod error;
mod fetch;
mod groups;
mod kept;
mod logs;
mod owner;
mod process;
mod recover;
mod sandbox;
mod session;
mod settings;
mod system;
mod terminal;
pub mod tools;

pub use containerizer::Lxc;
pub use settings::Settings;
