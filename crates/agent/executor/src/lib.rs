// SPDX-License-Identifier: Apache-2.0
//! Executors that are part of the agent: for commands, and for groups of tasks.
//!
//! ```text
//! engine ──events──> executor ──> Life, one per task: pure ──> acts ──> containers
//!        <──calls───          <── ends, checks, time                    reports
//! ```
//!
//! This crate owns the tasks' lives: when they are told to end, when they are ended by force, what is reported of them,
//! and how well they do. It owns no container and no process; what it does with them goes through
//! [`berth_tasks::built_in::Containers`]. What must survive the agent is written into the executor's directory of records
//! before it takes effect.

mod check;
mod clock;
mod command;
mod group;
mod kept;
mod life;
mod links;
mod prepare;
mod report;
#[cfg(test)]
mod testing;
mod ward;

pub use command::CommandExecutor;
pub use group::GroupExecutor;
pub use prepare::group_command;
