// SPDX-License-Identifier: Apache-2.0
//! Why a containerizer's call failed. The texts that Mesos has for a failure are kept to the letter, because
//! clients and tests of that world match on them; hence the capitals, and hence causes that stand in the
//! message itself.

use std::io;
use std::sync::Arc;

use berth_model::{Class, ContainerId};

use crate::Phase;

/// A shared cause; errors are handed to every waiter of a container, so they can be cloned.
pub type Cause = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// The failure of one call of the contract.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// `attach` and `usage` of an id without a record.
    #[error("Unknown container {0}")]
    UnknownContainer(ContainerId),
    /// `status` of an id without a record (and `usage`, where Docker runs it): the same with a colon.
    #[error("Unknown container: {0}")]
    UnknownContainerColon(ContainerId),
    /// What the composing containerizer says of an id that none of its children has.
    #[error("Container not found")]
    ContainerNotFound,
    /// What the composing containerizer says of a nested id whose root it does not have.
    #[error("Root container {0} not found")]
    RootNotFound(ContainerId),
    /// The containerizer can not do this at all.
    #[error("Unsupported")]
    Unsupported,
    /// A launch with an id that runs, in Docker's words; the native containerizer answers
    /// [`LaunchResult::AlreadyLaunched`](crate::LaunchResult::AlreadyLaunched) instead.
    #[error("Container already started")]
    AlreadyStarted,
    /// An id with a parent, where there is no nesting.
    #[error("Nested containers are not supported")]
    NestedUnsupported,
    /// A nested container with an executor or a task of its own.
    #[error("Nested containers may not supply a TaskInfo/ExecutorInfo")]
    NestedWithTask,
    /// A nested container with a pid checkpoint.
    #[error("Nested containers may not be checkpointed")]
    NestedCheckpointed,
    /// The parent of a nested container has no record.
    #[error("Parent container {0} does not exist")]
    ParentMissing(ContainerId),
    /// The parent of a nested container is going.
    #[error("Parent container {0} is in 'DESTROYING' state")]
    ParentDestroying(ContainerId),
    /// `remove` of a nested container that lives.
    #[error("Nested container has not terminated yet")]
    NestedNotTerminated,
    /// `remove` of a top-level container that lives; Mesos can not remove those, so the words are ours.
    #[error("Container has not terminated yet")]
    NotTerminated,
    /// `remove` of a nested container whose root is not known.
    #[error("Unknown root container")]
    UnknownRoot,
    /// `remove` could not take the runtime directory away.
    #[error("Failed to remove the runtime directory: {0}")]
    RemoveRuntimeDirectory(String),
    /// `remove` could not take the sandbox away.
    #[error("Failed to remove the sandbox directory: {0}")]
    RemoveSandbox(String),
    /// `attach` to a container that was launched without a place to attach to.
    #[error("I/O switchboard server was disabled for this container")]
    AttachDisabled,
    /// `attach` where the containers share the agent's own stdio.
    #[error("Not supported in local mode")]
    AttachLocal,
    /// `attach` after the container's streams have ended.
    #[error("I/O switchboard has shutdown")]
    AttachEnded,
    /// `prune_images` can not tell which images this container uses.
    #[error("Container {0} does not have ContainerConfig checkpointed. Image pruning is disabled")]
    NotCheckpointed(ContainerId),
    /// `kill` found the container, but the kernel refused the signal.
    #[error("Unable to send signal to container: {0}")]
    Signal(String),
    /// A destroy came while the launch was in this phase; the launch stops there.
    #[error("Container destroyed during {}", .0.doing())]
    DestroyedDuring(Phase),
    /// A destroy was under way when the launch finished this phase.
    #[error("Container is being destroyed during {}", .0.doing())]
    BeingDestroyedDuring(Phase),
    /// A destroy came between two children of the composing containerizer.
    #[error("Container was destroyed while launching")]
    DestroyedWhileLaunching,
    /// Destroy: some processes did not go. The isolators were not cleaned up.
    #[error("Failed to kill all processes in the container: {0}")]
    KillProcesses(String),
    /// Destroy: isolators that could not clean up, joined by `; `.
    #[error("Failed to clean up an isolator when destroying container: {0}")]
    CleanUp(String),
    /// Destroy: nested containers that could not be destroyed, joined by `; `.
    #[error("Failed to destroy nested containers: {0}")]
    DestroyNested(String),
    /// Destroy: the root filesystem could not be taken away.
    #[error("Failed to destroy the provisioned rootfs when destroying container: {0}")]
    DestroyRootfs(String),
    /// Anything else, in the containerizer's own words.
    #[error("{message}")]
    Other {
        /// What kind of failure it is.
        class: Class,
        /// What was tried, on what, and what to do.
        message: String,
        /// Why it failed, when another error says so.
        #[source]
        source: Option<Cause>,
    },
}

impl Error {
    /// A failure in the containerizer's own words, without a cause behind it.
    pub fn other(class: Class, message: impl Into<String>) -> Error {
        Error::Other { class, message: message.into(), source: None }
    }

    /// A failure in the containerizer's own words; `source` says why.
    pub fn because<E>(class: Class, message: impl Into<String>, source: E) -> Error
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Error::Other { class, message: message.into(), source: Some(Arc::new(source)) }
    }

    /// What `kill` answers when the kernel refused the signal.
    pub fn signal(error: &io::Error) -> Error {
        Error::Signal(plain(error))
    }

    /// What kind of failure this is. Each face maps it to its own codes.
    pub fn class(&self) -> Class {
        match self {
            Error::UnknownContainer(_)
            | Error::UnknownContainerColon(_)
            | Error::ContainerNotFound
            | Error::RootNotFound(_)
            | Error::ParentMissing(_)
            | Error::UnknownRoot => Class::NotFound,
            Error::Unsupported | Error::NestedUnsupported | Error::AttachDisabled | Error::AttachLocal => {
                Class::Unsupported
            }
            Error::AlreadyStarted
            | Error::ParentDestroying(_)
            | Error::NestedNotTerminated
            | Error::NotTerminated
            | Error::NotCheckpointed(_) => Class::Conflict,
            Error::NestedWithTask | Error::NestedCheckpointed => Class::Invalid,
            Error::AttachEnded
            | Error::DestroyedDuring(_)
            | Error::BeingDestroyedDuring(_)
            | Error::DestroyedWhileLaunching => Class::Gone,
            Error::RemoveRuntimeDirectory(_)
            | Error::RemoveSandbox(_)
            | Error::Signal(_)
            | Error::KillProcesses(_)
            | Error::CleanUp(_)
            | Error::DestroyNested(_)
            | Error::DestroyRootfs(_) => Class::Internal,
            Error::Other { class, .. } => *class,
        }
    }

    /// The message and every cause behind it, joined by `: `, for logs and for answers that carry one text.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// The text of an error number as C prints it, without the number that Rust puts behind it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) if text.ends_with(')') => text[..end].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_signal_reads_as_in_mesos() {
        let error = Error::signal(&io::Error::from_raw_os_error(22));
        assert_eq!(error.to_string(), "Unable to send signal to container: Invalid argument");
    }

    #[test]
    fn the_phase_is_named_by_what_was_being_done() {
        assert_eq!(
            Error::DestroyedDuring(Phase::Preparing).to_string(),
            "Container destroyed during preparing"
        );
        assert_eq!(
            Error::BeingDestroyedDuring(Phase::Fetching).to_string(),
            "Container is being destroyed during fetching"
        );
    }

    #[test]
    fn ids_are_printed_from_root_to_leaf() {
        let id = ContainerId::nested(ContainerId::new("p").unwrap(), "c").unwrap();
        let texts = [
            (Error::UnknownContainer(id.clone()), "Unknown container p.c"),
            (Error::UnknownContainerColon(id.clone()), "Unknown container: p.c"),
            (Error::ParentMissing(id.clone()), "Parent container p.c does not exist"),
            (Error::ParentDestroying(id.clone()), "Parent container p.c is in 'DESTROYING' state"),
            (
                Error::NotCheckpointed(id),
                "Container p.c does not have ContainerConfig checkpointed. Image pruning is disabled",
            ),
        ];
        for (error, text) in texts {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn the_chain_names_every_cause() {
        let error =
            Error::because(Class::Internal, "read /x for container a", io::Error::from_raw_os_error(2));
        assert_eq!(error.to_string(), "read /x for container a");
        assert_eq!(error.chain(), "read /x for container a: No such file or directory (os error 2)");
        assert_eq!(error.class(), Class::Internal);
    }
}
