// SPDX-License-Identifier: Apache-2.0
//! Why the bench could not go on.

use std::io;
use std::path::PathBuf;

/// Every variant ends the bench; a contestant that merely can not take part is skipped with a reason instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("mounting and cgroups need root; run the bench as root")]
    NotRoot,
    #[error("{what} {path}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("start {program}")]
    Start { program: String, source: io::Error },
    #[error("{program} ended with {status} when {when}: {output}")]
    Failed { program: String, when: String, status: String, output: String },
    #[error("no static {0} on the path; install the package busybox-static")]
    NoBusybox(&'static str),
    #[error(
        "there is no cgroup v1 hierarchy with the controller {0}; the floor program and its figures are for v1"
    )]
    NoHierarchy(&'static str),
    #[error("compile the default seccomp profile")]
    Seccomp(#[source] berth_seccomp::Error),
    #[error("still in the mount namespace of the caller after unshare; nothing was mounted")]
    NotPrivate,
    #[error("interrupted; everything that the bench made was removed")]
    Interrupted,
    #[error("only {found} of {wanted} supervisors named berth-init appeared within {seconds} s")]
    Supervisors { found: usize, wanted: usize, seconds: u64 },
    #[error("no berth program at {0}; build it with --release or pass --berth")]
    NoBerth(PathBuf),
    #[error("{what} an agent of the bench's own (its log ends with:\n  {log}\n)")]
    Agent { what: &'static str, log: String, source: Box<berth_client::Error> },
    #[error("container {id} of the agent did not end well: status {status:?} {message}")]
    Ended { id: String, status: Option<i32>, message: String },
    #[error("the agent lists {found} of {wanted} running containers")]
    Listed { found: usize, wanted: usize },
    #[error("run tasks over the master of an agent of the bench's own")]
    Master { source: Box<berth_client::MasterError> },
    #[error("a task of the bench ended as {state}; only what finishes is measured")]
    Task { state: &'static str },
    #[error("measure {what}: {reason}")]
    Missing { what: &'static str, reason: String },
    #[error("write the result to stdout")]
    Output(#[source] io::Error),
}

impl Error {
    /// For `map_err`: a file operation and its path.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { what, path, source }
    }
}
