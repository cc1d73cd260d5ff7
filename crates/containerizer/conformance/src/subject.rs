// SPDX-License-Identifier: Apache-2.0
//! What the suite has to be told about a containerizer in order to test it.

use std::fmt;
use std::process::Command;
use std::sync::Arc;

use berth_contract::{Containerizer, Error};
use berth_model::{ContainerConfig, ContainerId};

use crate::script::Script;

/// Changes a configuration before it is launched.
pub type Change = Box<dyn Fn(&mut ContainerConfig) + Send + Sync>;

/// How a script is put into a command's text.
pub type Tell = Box<dyn Fn(&Script) -> String + Send + Sync>;

/// How a process gets a signal from somebody else than the containerizer.
pub type Signal = Arc<dyn Fn(u32, i32) + Send + Sync>;

/// A containerizer, and what is special about it.
pub struct Subject {
    pub(crate) containerizer: Arc<dyn Containerizer>,
    pub(crate) tell: Tell,
    pub(crate) every: Option<Change>,
    pub(crate) foreign: Option<Change>,
    pub(crate) failing: Option<Change>,
    pub(crate) stalling: Option<Change>,
    pub(crate) signal: Signal,
    pub(crate) unknown_usage: fn(ContainerId) -> Error,
    pub(crate) unknown_status: Option<fn(ContainerId) -> Error>,
    pub(crate) unknown_root: fn(ContainerId) -> Error,
    pub(crate) unknown_parent: fn(ContainerId) -> Error,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("containerizer", &self.containerizer.name()).finish_non_exhaustive()
    }
}

impl Subject {
    /// A containerizer that runs shell text and has the texts of the native one. Without the further calls
    /// below, the rules that need them say that they were skipped.
    pub fn new(containerizer: impl Containerizer + 'static) -> Subject {
        Subject::shared(Arc::new(containerizer))
    }

    /// The same for one that the caller keeps a handle on.
    pub fn shared(containerizer: Arc<dyn Containerizer>) -> Subject {
        Subject {
            containerizer,
            tell: Box::new(Script::shell),
            every: None,
            foreign: None,
            failing: None,
            stalling: None,
            signal: Arc::new(signal_by_shell),
            unknown_usage: Error::UnknownContainer,
            unknown_status: Some(Error::UnknownContainerColon),
            unknown_root: |_| Error::UnknownRoot,
            unknown_parent: Error::ParentMissing,
        }
    }

    /// The same with another containerizer, one that wraps the first.
    pub fn replaced_by(mut self, containerizer: impl Containerizer + 'static) -> Subject {
        self.containerizer = Arc::new(containerizer);
        self
    }

    /// Commands are not shell text, but this.
    pub fn told_by(mut self, tell: impl Fn(&Script) -> String + Send + Sync + 'static) -> Subject {
        self.tell = Box::new(tell);
        self
    }

    /// Every configuration gets this, an image for one.
    pub fn with_every(mut self, change: impl Fn(&mut ContainerConfig) + Send + Sync + 'static) -> Subject {
        self.every = Some(Box::new(change));
        self
    }

    /// Makes a configuration one of another kind of containerizer.
    pub fn with_foreign(mut self, change: impl Fn(&mut ContainerConfig) + Send + Sync + 'static) -> Subject {
        self.foreign = Some(Box::new(change));
        self
    }

    /// Makes a launch fail, best late: after something has been made on the host.
    pub fn with_failing(mut self, change: impl Fn(&mut ContainerConfig) + Send + Sync + 'static) -> Subject {
        self.failing = Some(Box::new(change));
        self
    }

    /// Makes a launch stay under way until somebody destroys it.
    pub fn with_stalling(mut self, change: impl Fn(&mut ContainerConfig) + Send + Sync + 'static) -> Subject {
        self.stalling = Some(Box::new(change));
        self
    }

    /// Its processes are not this host's; this is how they get a signal from outside.
    pub fn signalled_by(mut self, signal: impl Fn(u32, i32) + Send + Sync + 'static) -> Subject {
        self.signal = Arc::new(signal);
        self
    }

    /// What it answers to `usage` and `status` of an unknown id. `None`: a status with nothing but the id.
    pub fn with_unknown(
        mut self,
        usage: fn(ContainerId) -> Error,
        status: Option<fn(ContainerId) -> Error>,
    ) -> Subject {
        self.unknown_usage = usage;
        self.unknown_status = status;
        self
    }

    /// What it answers to `remove` and `launch` of a nested id whose root, which is given, is unknown.
    pub fn with_unknown_root(mut self, root: fn(ContainerId) -> Error) -> Subject {
        self.unknown_parent = root;
        self.unknown_root = root;
        self
    }
}

/// As an operator would: `kill -15 123`, by the shell's own command.
fn signal_by_shell(pid: u32, signal: i32) {
    let done = Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}")).status();
    assert!(done.as_ref().is_ok_and(|status| status.success()), "kill -{signal} {pid}: {done:?}");
}

impl<C: Containerizer + 'static> From<C> for Subject {
    fn from(containerizer: C) -> Subject {
        Subject::new(containerizer)
    }
}
