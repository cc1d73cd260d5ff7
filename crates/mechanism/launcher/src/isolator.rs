// SPDX-License-Identifier: Apache-2.0
//! What an isolator is, and what it is told.

use crate::{Plan, Result};
use berth_image::{ResolvedUser, Top};
use berth_model::{ContainerConfig, ContainerId, ContainerLimitation};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One aspect of isolation of the native containerizer.
///
/// `prepare` only looks and adds data to the plan; bad input is refused there, before anything is made.
/// `isolate` makes what is needed on the host. `cleanup` undoes it and may be called twice, and for containers
/// whose `isolate` never ran or never ended.
pub trait Isolator: Send + Sync {
    /// Its name, as in `--isolation`.
    fn name(&self) -> &'static str;

    /// Adds steps to the plan.
    ///
    /// # Errors
    /// What is asked can not be; nothing was changed.
    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let _ = (container, plan);
        Ok(())
    }

    /// Whether it makes the root file system. Who does is isolated first, and then the child is sent what it can begin
    /// with: no other may add a step before [`crate::Phase::Join`] in its `isolate`.
    fn makes_root(&self) -> bool {
        false
    }

    /// Adds the steps by which one more process gets into a running container, once it is in its namespaces: as the
    /// container's first process was restrained, so is this one. `container` is the running one, but for the user and the
    /// terminal, which are the new process's.
    ///
    /// # Errors
    /// What is asked can not be; nothing was changed.
    fn enter(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let _ = (container, plan);
        Ok(())
    }

    /// Makes what the container needs on the host, and adds the steps that need it.
    ///
    /// # Errors
    /// It could not; `cleanup` follows.
    fn isolate(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let _ = (container, plan);
        Ok(())
    }

    /// Opens what tells of a container while it runs: events of its control group, for one. The container's owner waits for
    /// all of them, also when it was launched by an earlier agent.
    ///
    /// # Errors
    /// It could not; the container goes on without.
    fn watch(&self, id: &ContainerId, places: &Places) -> Result<Vec<Watched>> {
        let _ = (id, places);
        Ok(Vec::new())
    }

    /// One of them is ready. It is asked again as long as that is so: what is there has to be read here.
    fn heard(&self, id: &ContainerId, places: &Places, watched: &Watched) -> Heard {
        let _ = (id, places, watched);
        Heard::Over
    }

    /// Releases all that `isolate` made.
    ///
    /// # Errors
    /// Something is left; the others are cleaned up all the same.
    fn cleanup(&self, id: &ContainerId, places: &Places) -> Result<()> {
        let _ = (id, places);
        Ok(())
    }
}

/// What an isolator has watched for a running container.
#[derive(Debug)]
pub struct Watched {
    /// Ready when there is something to hear.
    pub fd: OwnedFd,
    /// Ready when it has an exceptional condition (POLLPRI), instead of something to read.
    pub urgent: bool,
    /// What it is, for its isolator.
    pub token: u32,
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// More may come.
    More,
    /// Nothing will come any more.
    Over,
    /// The container met a limit, and goes on; more may come.
    Tell(Box<ContainerLimitation>),
    /// The container met a limit, and is to end for it; more may come.
    Kill(Box<ContainerLimitation>),
}

/// Where a container has its things on the host.
#[derive(Debug, Clone)]
pub struct Places {
    /// Its runtime directory (records, lock, control socket); gone after a reboot.
    pub runtime: PathBuf,
    /// Its directory on disk (sandbox, output, writable layer).
    pub work: PathBuf,
    /// Its sandbox.
    pub sandbox: PathBuf,
    /// Its control group, relative to each hierarchy.
    pub cgroup: String,
}

/// The root file system that a container gets.
#[derive(Debug)]
pub enum Rootfs {
    /// The host's own.
    Host,
    /// Directories that are not written to: a writable layer lies above them.
    Layered {
        /// As the operator named it.
        path: PathBuf,
        /// The directories, the highest first: one, or the layers of an image.
        layers: Vec<OwnedFd>,
        /// Of an image: mode and owner of its root directory.
        top: Option<Top>,
        /// Directories inside that are made where they are missing.
        directories: Vec<String>,
    },
    /// A directory of the container's own.
    Own {
        /// Where it is.
        path: PathBuf,
        /// The directory.
        dir: OwnedFd,
    },
    /// That of the container around it, by a copy of its mounts.
    Around {
        /// What that one's is called.
        path: PathBuf,
        /// It, as that one sees it.
        dir: OwnedFd,
        /// Whether that is another than the host's.
        own: bool,
    },
}

impl Rootfs {
    /// Whether it is another than the host's.
    pub fn is_own(&self) -> bool {
        !matches!(self, Rootfs::Host | Rootfs::Around { own: false, .. })
    }

    /// Whether it is that of the container around it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Rootfs::Around { .. })
    }
}

/// An image that is mounted inside as a volume, held for the container.
#[derive(Debug)]
pub struct ImageVolume {
    /// Its name, for people.
    pub name: String,
    /// Its layers, the highest first.
    pub layers: Vec<OwnedFd>,
    /// Mode and owner of its root directory.
    pub top: Option<Top>,
}

/// What isolators are told of those around a container.
#[derive(Debug, Clone, Copy)]
pub struct Within<'a> {
    /// Their control groups, the outermost first; the last is the parent's.
    pub cgroups: &'a [String],
    /// The parent's sandbox, open; there from `isolate` on.
    pub sandbox: Option<BorrowedFd<'a>>,
}

/// What isolators are told of a container.
#[derive(Debug)]
pub struct Container<'a> {
    /// Its id.
    pub id: &'a ContainerId,
    /// What was asked.
    pub config: &'a ContainerConfig,
    /// Its root file system.
    pub rootfs: &'a Rootfs,
    /// Whom it runs as.
    pub user: &'a ResolvedUser,
    /// Its places.
    pub places: &'a Places,
    /// Its directory on disk, open.
    pub work: Option<BorrowedFd<'a>>,
    /// Its sandbox, open. Both are there from `isolate` on.
    pub sandbox: Option<BorrowedFd<'a>>,
    /// Its volumes that are images, in the order of the configuration; there from `isolate` on.
    pub image_volumes: &'a [ImageVolume],
    /// A directory with the mount points that every root file system needs, to lie below those that lack them.
    pub skeleton: BorrowedFd<'a>,
    /// Where the sandbox is seen inside, with a root file system of its own.
    pub sandbox_directory: &'a Path,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether a small init is to be its first process.
    pub init: bool,
    /// Whether its processes can be stopped, all at once.
    pub pausable: bool,
    /// Of one in another container: those around it.
    pub within: Option<Within<'a>>,
}

impl Container<'_> {
    /// `linux_info` of the configuration, if any.
    pub fn linux(&self) -> Option<&berth_model::LinuxInfo> {
        self.config.container_info.as_ref()?.linux_info.as_ref()
    }
}
