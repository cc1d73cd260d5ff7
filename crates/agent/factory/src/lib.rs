// SPDX-License-Identifier: Apache-2.0
//! create(flags) and resources(flags): the one place that names all containerizers.
//!
//! Text becomes flags ([`Loaded`], [`Flags`]), the host is looked at once ([`Host`]), and from there on
//! everything is a pure function until a [`Makers`] entry is called. This crate keeps nothing: no thread, no
//! file, no state.

mod built;
mod create;
mod docker;
mod fetcher;
mod flags;
mod gpus;
mod groups;
mod hooks;
mod host;
mod images;
mod isolation;
mod known;
mod load;
mod logger;
pub mod oneshot;
mod resources;
mod scope;

/// LXC's own tools, for `berth lxc`.
pub use berth_lxc::tools as lxc;
/// How output is kept and read.
pub use berth_mesos::logger as output;
pub use built::{check as check_flags, makers};
pub use create::{
    Cause, ComposingMaker, CreateError, Created, ImageKind, Kind, Made, Maker, Makers, Native, NativeMaker,
    Plan, create, plan,
};
pub use flags::{DEFAULT_ISOLATION, Flags};
pub use gpus::GpuError;
pub use hooks::{HooksError, hooks};
pub use host::Host;
pub use isolation::{
    BuiltIn, Isolation, IsolationError, Launcher, ORDER, check_isolators, normalise_isolation, position,
};
pub use known::{KNOWN, Kind as FlagKind, Known, find};
pub use load::{LoadError, Loaded, check, fetch, hint, parse_bool, parse_indices, parse_integer};
pub use resources::{Determined, ResourcesError, resources};
pub use scope::{ScopeError, enter_scope};
