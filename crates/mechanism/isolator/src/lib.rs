// SPDX-License-Identifier: Apache-2.0
//! The isolators of the native containerizer, one file each, in one ordered table.
//!
//! Each looks at the configuration and adds steps to the plan; only those whose doc says so act on the host, and
//! each of these releases what it made in its `cleanup`. Owns: the control groups, the writable layer's mount
//! (held by a descriptor only), detached mounts of volumes.

mod capabilities;
mod cgroups;
mod disk_du;
mod filesystem_linux;
mod filesystem_mounts;
mod limits;
mod linux_nnp;
mod linux_seccomp;
mod met;
mod namespaces_ipc;
mod namespaces_pid;
mod net_cls;
mod network;
mod posix_rlimits;
mod settings;
mod table;
mod volume_image;
mod volumes;

pub use capabilities::DEFAULT as DEFAULT_CAPABILITIES;
pub use cgroups::owns_groups;
pub use disk_du::DiskWatch;
pub use limits::{limits_of, rule as device_rule};
pub use net_cls::Handles;
pub use settings::{GroupSettings, PressureCounts, Settings};
pub use table::{BUILT_IN, Make, build};

use berth_launcher::{Error, Result};
use std::ffi::CString;

/// A text for the kernel.
fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| {
        Error::Invalid(format!("{text:?} has a NUL character inside, which no system call can take"))
    })
}
