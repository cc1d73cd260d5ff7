// SPDX-License-Identifier: Apache-2.0
//! The Containerizer trait, its facets and events.
//!
//! This crate owns no task, thread, file or mount: it is the words that containerizers and faces share, and
//! the few lines of `std` that make asynchronous answers usable without a runtime ([`block_on`],
//! [`Settled`]).

mod answer;
mod containerizer;
mod error;
mod event;
mod facet;
mod kept;
mod settled;

pub use answer::{Answer, block_on, block_on_until, ready};
pub use containerizer::{
    AgentState, Containerizer, KnownRun, LaunchResult, Limits, UNKNOWN_DESTROYED, Variables,
};
pub use error::{Cause, Error};
pub use event::{Advance, DEFAULT_CAPACITY, Event, EventLog, Next, Phase, Subscription, What};
pub use facet::{
    Attach, Attached, Exec, ExecRequest, ExecSession, ImageKept, LayerExplained, NestedContainer, Nesting,
    Pause, Pull, PullExplained, Streams, WindowSize, require,
};
pub use kept::Kept;
pub use settled::{Settled, Wait};
