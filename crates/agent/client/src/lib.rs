// SPDX-License-Identifier: Apache-2.0
//! A client of the agent's API, over its unix socket.
//!
//! It owns the connections that it opens and nothing else. Who may call it: programs that talk to an agent. Everything
//! is asynchronous, because a session reads a terminal, an answer and signals at once; a program that only asks uses
//! [`block_on`], which brings a runtime of one thread that costs some ten microseconds.
//!
//! Messages travel as protobuf. HTTP is hyper's: a whole question to an agent took 0.1 ms more with it than with a
//! client of our own of forty lines (0.7 against 0.6 ms, process start included), which no person sees.
//!
//! ```text
//! Agent ── connect ──> Connection ── call ──> an answer                (any number, one after the other)
//!       ── call ──────────────────────────> an answer                  (on a connection of its own)
//!       ── stream ────────────────────────> Records<T>                 (dropping it ends the stream)
//!       ── attach_input ──────────────────> Input, and its answer
//! ```

mod agent;
mod calls;
mod error;
mod input;
mod records;
mod scheduler;
mod transport;

pub use agent::{Agent, Reply};
pub use calls::{Launch, Launched, List, LogRequest};
pub use error::Error;
pub use input::{Input, InputAnswer};
pub use records::Records;
pub use scheduler::{Events, MasterClient, MasterError};
pub use transport::Connection;

/// Runs what asks an agent, on this thread.
///
/// # Errors
/// The host has no descriptors left for a runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(|why| Error::Runtime { why })?;
    Ok(runtime.block_on(future))
}
