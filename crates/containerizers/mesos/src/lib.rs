// SPDX-License-Identifier: Apache-2.0
//! The native containerizer (Mesos's `mesos`): states and pipeline, records, recovery.
//!
//! [`Native`] is the blocking core: it owns a runtime directory and a work directory, launches containers through
//! the isolators and collects what killed owners left. `berth run` uses it directly, as an agent for one container;
//! [`MesosContainerizer`] is the same behind the containerizers' contract, each container with an owner (`owner`).
//!
//! Owns on disk: `<runtime_dir>/<kind>/<id>/` (record, lock, pid, exit record, control socket) and
//! `<work_dir>/<kind>/<id>/` (sandbox, output, writable layer), where kind is `oneshot` or `containers`.

mod adopt;
mod attach;
mod collect;
mod containerizer;
mod entry;
mod error;
mod exec;
mod fault;
mod fetch;
mod follow;
mod isolation;
mod launch;
mod limited;
mod live;
mod measure;
mod native;
mod nested;
mod output;
mod owner;
mod pause;
mod pool;
mod provision;
mod record;
mod recover;
mod request;
mod rootfs;
mod session;
mod shared;
mod spare;
mod watcher;
mod watching;

pub use collect::Collected;
pub use containerizer::MesosContainerizer;
pub use error::Error;
pub use fetch::{AfterFetch, Fetching, WatchFetch};
pub use isolation::{has_isolator, isolators_left_out};
pub use live::{Ending, Live, Outcome, Written};
pub use native::{Directories, Kind, Native};
pub use nested::Around;
pub use provision::{ImageSource, Provision};
pub use record::{Listed, Record, Standing};
pub use request::{Output, Request, RootSource, Timings, Watch};

pub use berth_fetcher as fetcher;
pub use berth_images as images;
pub use berth_isolator::{DEFAULT_CAPABILITIES, DiskWatch, GroupSettings, Handles, Settings, device_rule};
pub use berth_launcher::{Error as IsolatorError, Event, early};
pub use berth_logger as logger;

/// The result of an operation on native containers.
pub type Result<T> = std::result::Result<T, Error>;
