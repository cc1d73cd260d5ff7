// SPDX-License-Identifier: Apache-2.0
//! Frameworks, executors and tasks: the agent's side of them.
//!
//! ```text
//! master ──[link]──> engine ──events──> executor: of a framework's, over HTTP; or built in, within the agent
//!        <──────────        <──calls───
//! ```
//!
//! The core of the engine decides and does nothing; the engine does what it decides; `store` has what must survive.
//! Containers are the agent's: [`contain`] is what is asked of it.

pub mod built_in;
pub mod contain;
mod core;
mod engine;
mod environment;
mod launch;
pub mod link;
mod made;
mod store;
mod stream;
mod text;
mod token;
mod uuid;

pub use crate::core::{ExecutorView, FrameworkView, Settings};
pub use engine::executors::{Events, Standing, Unheard};
pub use engine::{Engine, Parts};
pub use environment::Surroundings;
pub use store::{Error, tree as without_secrets};
pub use stream::is_terminal;
pub use text::duration;
pub use token::{Claims, Tokens};
pub use uuid::is_uuid;

/// A random uuid, in the form with dashes.
pub fn random_uuid() -> String {
    uuid::text(&uuid::random())
}
