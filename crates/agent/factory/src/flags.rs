// SPDX-License-Identifier: Apache-2.0
//! The flags that the factory itself looks at, with their defaults. What only one containerizer reads stays
//! in [`Flags::loaded`] for it to read.

use std::path::PathBuf;

use crate::load::{Loaded, parse_indices};

/// The isolators of a container when the operator names none: safe by default. `posix/cpu,posix/mem` is what
/// a Mesos agent would do.
pub const DEFAULT_ISOLATION: &str = "filesystem/linux,namespaces/pid,namespaces/ipc,cgroups/cpu,cgroups/mem,\
     cgroups/pids,cgroups/devices,linux/capabilities,linux/seccomp,linux/nnp,posix/rlimits,appc/runtime,\
     docker/runtime,volume/sandbox_path,volume/host_path,volume/image,volume/secret,network/cni";

/// The flags of [`create`](crate::create) and [`resources`](crate::resources), as the user wrote them.
#[derive(Debug, Clone, PartialEq)]
pub struct Flags {
    /// Containerizers, in the order in which they are asked.
    pub containerizers: String,
    /// Isolators of the native containerizer.
    pub isolation: String,
    /// `linux` or `posix`; `None`: what the isolators and the host call for.
    pub launcher: Option<String>,
    /// Kinds of images that the native containerizer makes root filesystems from; `None`: `docker` and `oci`
    /// if the isolators allow for images, otherwise none.
    pub image_providers: Option<String>,
    /// How root filesystems are put together; `None`: the best that works.
    pub image_provisioner_backend: Option<String>,
    /// The agent's resources; what is not named in it is detected.
    pub resources: Option<String>,
    /// Where containers have their control groups, relative to each hierarchy; `None`: a place that no other agent has.
    pub cgroups_root: Option<String>,
    /// The role of resources that name none.
    pub default_role: String,
    /// Sandboxes, records, images.
    pub work_dir: PathBuf,
    /// State that outlives the agent, not a reboot.
    pub runtime_dir: PathBuf,
    /// Where the operator's configuration is, of registries too.
    pub config_dir: PathBuf,
    /// Indices of NVIDIA devices.
    pub nvidia_gpu_devices: Option<Vec<u64>>,
    /// Everything that was given, for those who read more.
    pub loaded: Loaded,
}

impl Default for Flags {
    fn default() -> Self {
        Flags::from(Loaded::default())
    }
}

impl From<Loaded> for Flags {
    fn from(loaded: Loaded) -> Flags {
        let text = |name: &str| loaded.get(name).map(str::to_owned);
        Flags {
            containerizers: text("containerizers").unwrap_or_else(|| "mesos".to_owned()),
            isolation: text("isolation").unwrap_or_else(|| DEFAULT_ISOLATION.to_owned()),
            launcher: text("launcher"),
            image_providers: text("image_providers"),
            image_provisioner_backend: text("image_provisioner_backend"),
            resources: text("resources"),
            cgroups_root: text("cgroups_root"),
            default_role: text("default_role").unwrap_or_else(|| "*".to_owned()),
            work_dir: text("work_dir").map_or_else(|| PathBuf::from("/var/lib/berth"), PathBuf::from),
            runtime_dir: text("runtime_dir").map_or_else(|| PathBuf::from("/run/berth"), PathBuf::from),
            config_dir: PathBuf::from("/etc/berth"),
            nvidia_gpu_devices: loaded.get("nvidia_gpu_devices").and_then(|text| parse_indices(text).ok()),
            loaded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::{Launcher, check_isolators, normalise_isolation, position};

    #[test]
    fn the_default_isolators_are_complete_and_stand_on_their_ground() {
        let isolation = normalise_isolation(&Flags::default().isolation).unwrap();
        assert_eq!(isolation.warnings, [""; 0]);
        check_isolators(&isolation, Launcher::Linux, |name| position(name).is_some()).unwrap();
        assert_eq!(isolation.names.len(), DEFAULT_ISOLATION.split(',').count() + 1);
    }

    #[test]
    fn what_was_given_replaces_the_defaults() {
        let given = ["--work_dir=/w", "--nvidia_gpu_devices=0,3", "--default_role=ops", "--containerizers="];
        let flags = Flags::from(Loaded::read(given.map(str::to_owned), []).unwrap());
        assert_eq!(flags.work_dir, PathBuf::from("/w"));
        assert_eq!(flags.runtime_dir, PathBuf::from("/run/berth"));
        assert_eq!(flags.nvidia_gpu_devices, Some(vec![0, 3]));
        assert_eq!(flags.default_role, "ops");
        assert_eq!(flags.containerizers, "");
    }
}
