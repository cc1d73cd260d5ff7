// SPDX-License-Identifier: Apache-2.0
//! The agent's flags, configuration, host check, directories and logging: everything between `main` and the
//! first container.
//!
//! What this crate owns: the table of flags ([`table`]); reading them ([`Sources`], [`load`]); the two
//! directories of an agent with their locks; the log on standard error. It starts no thread, and
//! keeps nothing but what it hands out. Who may call it: the agent and the programs.

mod check;
mod dirs;
mod file;
mod help;
mod host;
pub mod log;
mod problem;
mod resolved;
mod rules;
mod signals;
pub mod table;
mod typed;
mod value;

pub use check::{ConfigReport, Finding, FlagLine, check_config};
pub use dirs::{AgentDirs, Degraded, DirsError, Which};
pub use help::help;
pub use host::{Facility, HostReport, Presence, Subject, check_host};
pub use problem::{Origin, Problem, Problems, What};
pub use resolved::{ExecutorTokens, Http, LocalMaster, Recover, Resolved, Setting, examine, load};
pub use signals::{Signal, Signals};
pub use typed::{Ask, Given, Sources, Typed};
pub use value::Value;
