// SPDX-License-Identifier: Apache-2.0
//! The fetcher: brings the URIs of a command into its sandbox.
//!
//! ```text
//! agent                                   child, as the container's user, confined
//!   Fetcher ── plan ── cache ── Worker ──socket──> role ── http, ftp, files, programs
//!                        │                           └── unpacks into the sandbox
//!                        └── put: a file of the cache into the sandbox
//! ```
//! The agent decides and keeps the cache; all that speaks with servers or looks into archives happens in a child, which
//! is the agent's own program started anew ([`role`]). A child works for one fetch, or for one download of the cache:
//! such a download is shared by all containers of a user that want the URI, and goes on as long as one of them does.
//!
//! Owns: the cache directory, and a thread for each download of the cache. Blocks; [`Stop`] ends a fetch from any
//! thread. Behaviour and texts are Mesos's where it has any; `docs/fetcher.md` has what is different.

#![forbid(unsafe_code)]

mod cache;
mod config;
mod egress;
mod error;
mod fetcher;
mod place;
mod role;
mod stop;
mod uri;
mod wire;
mod worker;

pub use config::{Config, Local};
pub use egress::{Egress, Hop, Kind, Net, NetError, Refusal};
pub use error::{FetchError, OpenError};
pub use fetcher::{Fetched, Fetcher, How, Metrics, Progress, Request, RunAs};
pub use role::role;
pub use stop::Stop;
pub use uri::{Archive, Item, Source, UriError, shown};
pub use wire::{Limits, Proxies};
pub use worker::Program;
