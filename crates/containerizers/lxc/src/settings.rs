// SPDX-License-Identifier: Apache-2.0
//! What the operator chose.

use std::path::PathBuf;
use std::time::Duration;

use crate::tools::LXC_PATH;

/// What the containerizer has to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--runtime_dir`: records are kept in `lxc/` below it.
    pub runtime_dir: PathBuf,
    /// `--work_dir`: root file systems are kept in `lxc/` below it.
    pub work_dir: PathBuf,
    /// `--lxc_path`: where containers are that may be cloned.
    pub lxc_path: PathBuf,
    /// `--sandbox_directory`: where a container sees its sandbox.
    pub sandbox_directory: PathBuf,
    /// The control group of all its containers, without a slash in front.
    pub cgroup: String,
    /// How URIs are fetched; without it, one who wants some is refused.
    pub fetcher: Option<berth_fetcher::Config>,
    /// How long a template may take.
    pub create: Duration,
    /// How long `lxc-start` may take until the first process is there.
    pub start: Duration,
    /// How long a system container has to stop cleanly.
    pub grace: Duration,
}

impl Settings {
    /// The defaults of the flags.
    pub fn new(runtime_dir: PathBuf, work_dir: PathBuf, cgroup: String) -> Settings {
        Settings {
            runtime_dir,
            work_dir,
            lxc_path: PathBuf::from(LXC_PATH),
            sandbox_directory: PathBuf::from("/mnt/mesos/sandbox"),
            cgroup,
            fetcher: None,
            create: Duration::from_secs(15 * 60),
            start: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }

    /// Where the containers are: an lxcpath of their own, so that no other container is ever met.
    pub(crate) fn containers(&self) -> PathBuf {
        self.work_dir.join("lxc/containers")
    }

    /// Where templates' results are kept.
    pub(crate) fn bases(&self) -> PathBuf {
        self.work_dir.join("lxc/bases")
    }
}
