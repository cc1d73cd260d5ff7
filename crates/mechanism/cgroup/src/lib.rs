// SPDX-License-Identifier: Apache-2.0
//! Controllers as data over cgroup v1 and v2 hierarchies.
//!
//! What this crate owns: the directories below the path that a [`Group`] was created with, in every hierarchy
//! that it needs, from [`Group::create`] to [`Group::remove`]; nothing else in a hierarchy is touched, but that
//! v2 controllers are enabled on the way down. It moves no process: who is to be limited joins by writing `0`
//! to the descriptors of [`Group::join_fds`], which on v1 avoids the wait for an RCU grace period that a writer
//! outside would cause. It blocks, has no thread, and reads no mount table: hierarchies are recognised by the
//! magic numbers of their file systems at the usual places.
//!
//! * [`Hierarchies`] says which controllers there are, where, and of which version.
//! * [`Limits`] is what may be asked; [`writes`] turns it into values for control files, purely, each
//!   controller in its own file with both versions side by side.
//! * [`Group`] makes, limits, stops, kills, measures and removes.
//!
//! A limit that can not be applied is an error that names it. After a write the value is read back, because
//! some files take a value and keep another.
//!
//! What runs where: the values and the walk through the tree are tested for both versions on a stand-in
//! directory ([`Hierarchies::stand_in`]); v1 is tested live on the build host; v2 with real controllers is tested
//! by the kernel tests in a virtual machine.

mod apply;
pub mod controller;
mod error;
mod filter;
mod freezer;
mod group;
mod hierarchy;
mod kill;
mod limits;
mod list;
mod lower;
mod tree;
mod usage;
mod watch;
mod ways;

pub use controller::{Controller, writes};
pub use error::Error;
pub use filter::probe as probe_device_filter;
pub use group::Group;
pub use hierarchy::{Hierarchies, Mode, Version};
pub use limits::{
    Access, Bytes, Check, Device, DeviceKind, DeviceRule, HugePages, IoLimit, Limit, Limits, MilliCpu, Write,
};
pub use list::{IdList, ListError};
pub use usage::{Applied, DiskUsage, Sample, Usage};
pub use watch::{Bell, Met, Pressure, Rings, silence};
pub use ways::{Way, Ways};

/// The result of an operation on cgroups.
pub type Result<T> = std::result::Result<T, Error>;
