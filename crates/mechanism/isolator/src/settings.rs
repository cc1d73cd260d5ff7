// SPDX-License-Identifier: Apache-2.0
//! What the operator decides for all containers.

use berth_cgroup::Hierarchies;
use std::path::PathBuf;

/// The operator's settings, as isolators need them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The host's control group hierarchies; none when the cgroups isolator is not used.
    pub hierarchies: Option<Hierarchies>,
    /// Where profiles are looked for by name (`--seccomp_config_dir`).
    pub seccomp_config_dir: Option<PathBuf>,
    /// Where compiled profiles are kept.
    pub seccomp_cache: Option<PathBuf>,
    /// Whether a profile may be named by an absolute path (the one-shot command line; never the API).
    pub seccomp_paths: bool,
    /// Isolators that are left out.
    pub without: Vec<String>,
}
