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

/// What a text of deadlines has that can not be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeadlinesError {
    /// Not `call=duration`.
    #[error("'{0}' is no deadline of a call: write it as launch=15mins")]
    Form(String),
    /// A call that there is not, or that has no deadline.
    #[error(
        "'{0}' is no call with a deadline: those are recover, containers, launch, update, usage, destroy and wait"
    )]
    Call(String),
    /// A time that is none.
    #[error("the deadline of '{call}' is '{text}', which is no time: {why}")]
    Time {
        /// Whose.
        call: String,
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Deadlines {
    /// The defaults but for those in a text such as `launch=1hrs,usage=5secs`. `wait` is that for a container which the
    /// program does not list any more; while a container runs there is none.
    ///
    /// # Errors
    /// It is no such text.
    pub fn from_flag(text: &str) -> Result<Deadlines, DeadlinesError> {
        let mut all = Deadlines::default();
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (call, time) = one.split_once('=').ok_or_else(|| DeadlinesError::Form(one.to_owned()))?;
            let place = match call {
                "recover" => &mut all.recover,
                "containers" => &mut all.containers,
                "launch" => &mut all.launch,
                "update" => &mut all.update,
                "usage" => &mut all.usage,
                "destroy" => &mut all.destroy,
                "wait" => &mut all.late_wait,
                _ => return Err(DeadlinesError::Call(call.to_owned())),
            };
            let wrong =
                |why: String| DeadlinesError::Time { call: call.to_owned(), text: time.to_owned(), why };
            *place = berth_model::parse_duration(time).map_err(|error| wrong(error.to_string()))?;
            if place.is_zero() {
                return Err(wrong("no call ends at once".to_owned()));
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_that_are_not_named_stay_as_they_are() {
        let given = Deadlines::from_flag("launch=1hrs, usage=500ms,wait=3secs").unwrap();
        let expected = Deadlines {
            launch: Duration::from_secs(3600),
            usage: Duration::from_millis(500),
            late_wait: Duration::from_secs(3),
            ..Deadlines::default()
        };
        assert_eq!(given, expected);
        assert_eq!(Deadlines::from_flag(""), Ok(Deadlines::default()));
    }

    #[test]
    fn a_deadline_that_can_not_be_is_refused() {
        for (text, says) in [
            ("launch", "'launch' is no deadline"),
            ("exec=1secs", "'exec' is no call"),
            ("usage=5", "'5', which is no time"),
            ("usage=0secs", "no call ends at once"),
        ] {
            let error = Deadlines::from_flag(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
