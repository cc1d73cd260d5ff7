// SPDX-License-Identifier: Apache-2.0
//! Several containerizers behind the one contract. A container belongs to the first of them, in the operator's order, that
//! takes it.
//!
//! This crate owns one thread, which carries launches from one child to the next, and remembers nothing but the launches
//! that are under way: whose a container is, its child knows ([`berth_contract::Containerizer::knows`]). So nothing here
//! can go stale, and nothing has to be recovered.

mod composing;
mod driver;
mod facets;
mod launch;

pub use composing::{ComposingContainerizer, Strict};
