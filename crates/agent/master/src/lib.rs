// SPDX-License-Identifier: Apache-2.0
//! The master of one node: schedulers run tasks on it with no cluster.
//!
//! It owns a listener and its connections, one task that owns all that is known (frameworks, offers, tasks), and a
//! file in which frameworks outlive the process. It decides what is offered to whom and what may be launched; what
//! runs is the agent's, which it calls by [`berth_tasks::link::AgentSide`].
//!
//! ```text
//! scheduler ── HTTP ──> http ──Ask──> actor ── state (pure) ──orders──> agent
//!           <─ events ── stream <────────┘  ^                            │
//!                                           └───────── Ear (Master) ─────┘
//! ```

mod accept;
mod actor;
mod amounts;
mod call;
mod checks;
mod clock;
mod endpoints;
mod event;
mod framework;
mod group;
mod http;
mod master;
mod metrics;
mod offers;
mod operator;
mod random;
mod record;
mod state;
mod stream;
mod subscribe;
mod task;
#[cfg(test)]
mod tests;
mod watch;

pub use master::{LocalMaster, Options, StartError};
