// SPDX-License-Identifier: Apache-2.0
//! What the operator chose.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the external containerizer has to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--containerizer_path`: shell text that names the program; the subcommand is put behind it.
    pub path: Option<String>,
    /// `--runtime_dir`: records are kept in `external/` below it.
    pub runtime_dir: PathBuf,
    /// `--work_dir`, told to the program as `MESOS_WORK_DIRECTORY`.
    pub work_dir: PathBuf,
    /// `--launcher_dir`, told to the program as `MESOS_LIBEXEC_DIRECTORY`.
    pub launcher_dir: PathBuf,
    /// `--default_container_image`, told to `launch` as `MESOS_DEFAULT_CONTAINER_IMAGE`.
    pub default_container_image: Option<String>,
    /// `--hadoop_home`, told to `launch` as `HADOOP_HOME`.
    pub hadoop_home: Option<String>,
    /// `--recovery_timeout`, told to the `launch` of what is checkpointed as `MESOS_RECOVERY_TIMEOUT`.
    pub recovery_timeout: Option<String>,
    /// The agent's id, if it has one.
    pub agent_id: Option<String>,
    /// The agent's address, `slave(1)@ip:port`, if executors can speak to it.
    pub agent_pid: Option<String>,
    /// `--containerizer_not_supported_status`: the exit status by which `launch` says that a container is not for it.
    pub not_supported_status: Option<u8>,
    /// How long calls may take.
    pub deadlines: Deadlines,
    /// The environment of every call, below what is told.
    pub environment: Vec<(OsString, OsString)>,
}

impl Settings {
    /// No program, the environment of this process, and the defaults of the flags.
    pub fn new(runtime_dir: PathBuf, work_dir: PathBuf) -> Settings {
        Settings {
            path: None,
            runtime_dir,
            work_dir,
            launcher_dir: PathBuf::from("/usr/local/libexec/mesos"),
            default_container_image: None,
            hadoop_home: None,
            recovery_timeout: None,
            agent_id: None,
            agent_pid: None,
            not_supported_status: None,
            deadlines: Deadlines::default(),
            environment: std::env::vars_os().collect(),
        }
    }
}

/// How long each call of the program may take before it is killed. Mesos has none of them; `wait` has none here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Of `recover`.
    pub recover: Duration,
    /// Of `containers`.
    pub containers: Duration,
    /// Of `launch`, which may bring an image.
    pub launch: Duration,
    /// Of `update`.
    pub update: Duration,
    /// Of `usage`.
    pub usage: Duration,
    /// Of `destroy`.
    pub destroy: Duration,
    /// Of `wait` for a container that the program no longer lists.
    pub late_wait: Duration,
    /// How long `wait` may go on after `destroy` has ended; then its session is killed.
    pub grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            recover: Duration::from_secs(60),
            containers: Duration::from_secs(30),
            launch: Duration::from_secs(15 * 60),
            update: Duration::from_secs(30),
            usage: Duration::from_secs(10),
            destroy: Duration::from_secs(60),
            late_wait: Duration::from_secs(10),
            grace: Duration::from_secs(2),
        }
    }
}
