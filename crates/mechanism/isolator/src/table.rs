// SPDX-License-Identifier: Apache-2.0
//! The table.

use crate::Settings;
use berth_launcher::{Isolator, Result};

/// Makes an isolator.
pub type Make = fn(&Settings) -> Result<Box<dyn Isolator>>;

/// Order is dependency order: whoever is listed first is prepared first and cleaned up last. It follows
/// Mesos's fixed order.
pub const BUILT_IN: &[(&str, Make)] = &[
    ("filesystem/linux", crate::filesystem_linux::make),
    ("posix/rlimits", crate::posix_rlimits::make),
    ("cgroups", crate::cgroups::make),
    ("linux/capabilities", crate::capabilities::make),
    ("linux/nnp", crate::linux_nnp::make),
    ("namespaces/ipc", crate::namespaces_ipc::make),
    ("namespaces/pid", crate::namespaces_pid::make),
    ("network/cni", crate::network::make),
    ("filesystem/mounts", crate::filesystem_mounts::make),
    ("volume/sandbox_path", crate::volumes::make_sandbox_path),
    ("volume/host_path", crate::volumes::make_host_path),
    ("volume/image", crate::volume_image::make),
    ("disk/du", crate::disk_du::make),
    ("linux/seccomp", crate::linux_seccomp::make),
];

/// All but those left out, in order.
///
/// # Errors
/// One could not be made.
pub fn build(settings: &Settings) -> Result<Vec<Box<dyn Isolator>>> {
    let left_out = |name: &str| settings.without.iter().any(|without| without == name);
    // This one knows itself what is left of it.
    let wanted = |(name, _): &&(&str, Make)| *name == crate::capabilities::NAME || !left_out(name);
    BUILT_IN.iter().filter(wanted).map(|(_, make)| make(settings)).collect()
}
