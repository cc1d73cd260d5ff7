// SPDX-License-Identifier: Apache-2.0
//! The external containerizer: containers of a program that the operator supplies, called as Mesos 0.26 called it
//! (`docs/external-containerizer.md` there; the feature was removed in 1.1).
//!
//! It owns `<runtime_dir>/external`, one thread for each container that has not ended, and the processes of calls under
//! way, each in a session of its own. The containers are the program's.

mod call;
mod containerizer;
mod convert;
mod error;
mod frame;
mod kept;
mod messages;
mod owner;
mod program;
mod recover;
mod sandbox;
mod session;
mod settings;

pub use containerizer::External;
pub use settings::{Deadlines, DeadlinesError, Settings};
