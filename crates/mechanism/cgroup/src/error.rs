// SPDX-License-Identifier: Apache-2.0
//! Why a group could not be made, limited, killed or removed.

use std::io;
use std::path::PathBuf;

use berth_model::Class;
use rustix::io::Errno;

use crate::Controller;

/// A failure, with what it was about and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no cgroup file system at the usual places.
    #[error(
        "no cgroup hierarchy is mounted under {root}: mount cgroup2 there, or a v1 controller in a folder of its name"
    )]
    NoHierarchy {
        /// Where they were looked for.
        root: PathBuf,
    },
    /// A limit needs a controller that this host does not offer.
    #[error(
        "the {limit} needs the cgroup controller {controller}, which is not there: {advice}, or start without the {limit}"
    )]
    NoController {
        /// Which limit.
        limit: &'static str,
        /// Which controller.
        controller: Controller,
        /// How to get it.
        advice: String,
    },
    /// The limit can not be expressed on this host.
    #[error("the {limit} can not be applied: {why}")]
    Inexpressible {
        /// Which limit.
        limit: &'static str,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The limits contradict each other or hold a number that means nothing.
    #[error("the {limit} is wrong: {why}")]
    Invalid {
        /// Which limit.
        limit: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The path is not one that a group can have.
    #[error("{path:?} can not be the path of a cgroup: {why}")]
    Path {
        /// As it was given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is such a group already.
    #[error("the cgroup {path} exists already: remove it, or choose another id")]
    Exists {
        /// Its directory.
        path: PathBuf,
    },
    /// No hierarchy has such a group.
    #[error("there is no cgroup {path} in any hierarchy under {root}")]
    NotFound {
        /// The group.
        path: String,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// The kernel refused the value.
    #[error("apply the {limit}: write {value:?} to {path}: {hint}")]
    Apply {
        /// Which limit.
        limit: &'static str,
        /// Of which controller.
        controller: Controller,
        /// The control file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// What that means, and what to do.
        hint: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel took the value but keeps another.
    #[error(
        "apply the {limit}: {path} was given {value:?} and says {found:?}: ask for a value that the kernel can hold"
    )]
    NotApplied {
        /// Which limit.
        limit: &'static str,
        /// Of which controller.
        controller: Controller,
        /// The control file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// What is read back.
        found: String,
    },
    /// More is in use than the new limit allows, and can not be taken away.
    #[error(
        "apply the {limit}: {asked} were asked for and {used} are in use ({what}) that can not be reclaimed: ask for more, or free some first"
    )]
    InUse {
        /// Which limit.
        limit: &'static str,
        /// What was asked.
        asked: berth_model::Bytes,
        /// What is in use.
        used: berth_model::Bytes,
        /// Of what kind.
        what: String,
    },
    /// A program that limits devices could not be put in force.
    #[error("apply the {limit}: {what} the program for it: {hint}")]
    Filter {
        /// Which limit.
        limit: &'static str,
        /// What was tried.
        what: &'static str,
        /// What that means, and what to do.
        hint: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// An update failed, and the limits before it could not all be put back.
    #[error("{cause}; and after that {left} could not be put back to what it was")]
    Half {
        /// The failure.
        cause: Box<Error>,
        /// The control file.
        left: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A v2 controller could not be handed down.
    #[error("enable {controllers} in {path}: {hint}")]
    Enable {
        /// The controllers, as written.
        controllers: String,
        /// The `cgroup.subtree_control` file.
        path: PathBuf,
        /// What that means, and what to do.
        hint: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Processes were still in the group at the deadline.
    #[error("the cgroup {path} still holds {} at the deadline{}", count(pids.len()), first(pids))]
    Busy {
        /// Its directory, or its path where several hierarchies have it.
        path: PathBuf,
        /// Who is in it, as far as can be seen. Empty where nobody is seen: they are exiting.
        pids: Vec<u32>,
    },
    /// It failed, and not all that had been made could be removed again.
    #[error("{cause}; and after that the cgroup {path} could not be removed")]
    Undo {
        /// The failure.
        cause: Box<Error>,
        /// What is left.
        path: PathBuf,
        /// Why it is left.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            Error::NoHierarchy { .. } | Error::NoController { .. } | Error::Inexpressible { .. } => {
                Class::Unsupported
            }
            Error::Invalid { .. } | Error::Path { .. } | Error::NotApplied { .. } => Class::Invalid,
            Error::Exists { .. } | Error::Busy { .. } | Error::InUse { .. } => Class::Conflict,
            Error::NotFound { .. } => Class::NotFound,
            Error::Undo { cause, .. } | Error::Half { cause, .. } => cause.class(),
            // The kernel has no such programs, or no such call.
            Error::Filter { source, .. }
                if matches!(Errno::from_io_error(source), Some(Errno::INVAL | Errno::NOSYS)) =>
            {
                Class::Unsupported
            }
            // A control file that is not there is a kernel built without it, not a thing that the caller named.
            Error::Apply { source, .. } if source.kind() == io::ErrorKind::NotFound => Class::Unsupported,
            Error::Enable { source, .. } if source.kind() == io::ErrorKind::NotFound => Class::Unsupported,
            // More than the file's number can hold.
            Error::Apply { source, .. } if source.raw_os_error() == Some(Errno::RANGE.raw_os_error()) => {
                Class::Invalid
            }
            Error::Apply { source, .. }
            | Error::Enable { source, .. }
            | Error::Filter { source, .. }
            | Error::Io { source, .. } => Class::of_io(source),
        }
    }
}

fn count(processes: usize) -> String {
    match processes {
        0 => "processes that are exiting".to_owned(),
        1 => "1 process".to_owned(),
        many => format!("{many} processes"),
    }
}

fn first(pids: &[u32]) -> String {
    match pids {
        [] => String::new(),
        [first, ..] => format!(", the first with pid {first}: see what it waits for in /proc/{first}/stack"),
    }
}
