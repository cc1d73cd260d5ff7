// SPDX-License-Identifier: Apache-2.0
//! Containers in containers, each with a supervisor, a record and an end of its own.
//!
//! ```text
//! record, exit record, output    beside the parent's, under the id's text (`parent.child`)
//! control group                  in the parent's: with limits of its own, or only to be ended and stopped by
//! sandbox                        <the parent's>/containers/<child>
//! pid namespace                  below the parent's, or the parent's
//! network, host name, IPC        the parent's, or its own
//! mounts                         of an image of its own, or a copy of the parent's
//! ```
//! A parent's end is the end of all that is in it, the innermost first. The end of one in it is kept until it is removed, or
//! its parent is.
//!
//! A sandbox lies in a directory that the parent can write to: whatever leads to it is opened one level after the other,
//! beneath the outermost sandbox and through no link.

use crate::containerizer::MesosContainerizer;
use crate::entry::{Entry, Now};
use crate::native::Native;
use crate::owner::Job;
use crate::record::Record;
use crate::request::{Request, RootSource};
use crate::shared::Shared;
use crate::{Error, Result, containerizer};
use berth_contract::{Answer, Error as Refused, LaunchResult, NestedContainer, Nesting, Variables, ready};
use berth_launcher::{Phase, Plan, Rootfs, wire};
use berth_model::{
    Class, ContainerClass, ContainerConfig, ContainerId, ContainerType, ExecutorType, NativeState,
};
use berth_sys::Errno;
use berth_sys::process::Namespaces;
use berth_sys::rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many levels there may be below one at the top. (The kernel has 32 levels of pid namespaces.)
const DEPTH: usize = 8;

/// A file name can not be longer.
const LONGEST: usize = 255;

/// The directory of a sandbox in which those of the containers in it are.
const BELOW: &str = "containers";

/// Those around a container that is in another one.
#[derive(Debug, Clone)]
pub struct Around {
    /// The parent's record.
    pub(crate) parent: Record,
    /// Its first process.
    pub(crate) pid: i32,
    pub(crate) pidfd: Arc<OwnedFd>,
    /// Of all of them, the outermost first.
    pub(crate) cgroups: Vec<String>,
    /// The sandbox of the outermost.
    pub(crate) sandbox: PathBuf,
}

impl Around {
    /// Their root file system as the parent's processes see it, by the kernel's own link.
    ///
    /// # Errors
    /// It can not be opened; the process has ended.
    pub(crate) fn root(&self) -> Result<Rootfs> {
        let (path, own) = (PathBuf::from(&self.parent.root), self.parent.root != "host");
        Ok(Rootfs::Around { path, dir: root_of(self.pid, self.pidfd.as_fd())?, own })
    }

    /// Adds the step by which the child gets into all namespaces of the parent's that it has not of its own.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn share(&self, root: &Rootfs, plan: &mut Plan) -> Result<()> {
        let wanted = plan.wanted();
        let mut shared = Namespaces::default();
        for namespace in [Namespaces::NET, Namespaces::UTS, Namespaces::IPC] {
            if !wanted.has(namespace) {
                shared = shared.and(namespace);
            }
        }
        if root.is_shared() {
            shared = shared.and(Namespaces::MOUNT).and(Namespaces::CGROUP);
        }
        if shared == Namespaces::default() {
            return Ok(());
        }
        let pidfd = self.pidfd.try_clone();
        let fd = plan.descriptor(
            pidfd
                .map_err(|e| berth_launcher::Error::io("copy a descriptor of the container around it", e))?,
        );
        let step = wire::Step::Share { fd, namespaces: shared.bits() };
        plan.first(
            "nested",
            Phase::Namespace,
            step,
            "enter the namespaces of the container around it (setns)",
        );
        Ok(())
    }
}

/// The root that a process sees. As long as it has not been reaped, its number is no other's.
pub(crate) fn root_of(pid: i32, pidfd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = PathBuf::from(format!("/proc/{pid}/root"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(CWD, &path, flags, Mode::empty());
    let alive = berth_sys::signal::send(pidfd, 0);
    alive.and(opened).map_err(Error::directory("open the container's root", &path))
}

/// Those around a container, the outermost first.
pub(crate) fn lineage(id: &ContainerId) -> Vec<ContainerId> {
    let mut all: Vec<ContainerId> = id.ancestors().cloned().collect();
    all.reverse();
    all
}

/// Where a sandbox is, from that of the outermost container on.
fn path_below(id: &ContainerId) -> PathBuf {
    match id.parent() {
        None => PathBuf::new(),
        Some(parent) => path_below(parent).join(BELOW).join(id.value()),
    }
}

/// The sandbox of a container in another one.
pub(crate) fn sandbox_of(outermost: &Path, id: &ContainerId) -> PathBuf {
    outermost.join(path_below(id))
}

/// Opens a directory beneath a sandbox.
fn beneath(at: BorrowedFd<'_>, path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    openat2(
        at,
        if path.as_os_str().is_empty() { Path::new(".") } else { path },
        flags,
        Mode::empty(),
        resolve,
    )
}

fn outermost(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the sandbox of a container in another one: its parent's, and its own.
///
/// # Errors
/// It can not be made, or what leads to it was replaced.
pub(crate) fn make_sandbox(around: &Around, id: &ContainerId) -> Result<(OwnedFd, OwnedFd)> {
    let path = sandbox_of(&around.sandbox, id);
    let make = || -> std::result::Result<_, Errno> {
        let top = outermost(&around.sandbox)?;
        let parent = beneath(top.as_fd(), &id.parent().map(path_below).unwrap_or_default())?;
        let made = |at: &OwnedFd, name: &str, mode| match mkdirat(at, name, Mode::from_bits_truncate(mode)) {
            Ok(()) | Err(Errno::EXIST) => beneath(at.as_fd(), Path::new(name)),
            Err(errno) => Err(errno),
        };
        let between = made(&parent, BELOW, 0o755)?;
        Ok((made(&between, id.value(), 0o750)?, parent))
    };
    make().map_err(Error::directory("make the sandbox", &path))
}

/// Removes the sandbox of a container in another one.
///
/// # Errors
/// What is left of it, and why.
pub(crate) fn remove_sandbox(top: &Path, id: &ContainerId) -> std::result::Result<(), String> {
    let failed = |errno| format!("open {}: {}", sandbox_of(top, id).display(), std::io::Error::from(errno));
    let above = path_below(id);
    let above = outermost(top).and_then(|top| beneath(top.as_fd(), above.parent().unwrap_or(&above)));
    let above = match above {
        Ok(above) => above,
        // What the parent has put in its place is the parent's, and goes with it.
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    let removal = berth_image::remove_tree(above.as_fd(), id.value().as_ref());
    let failures: Vec<String> = removal.failures.iter().map(|f| crate::collect::chain(f)).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

impl Native {
    /// What is around a container in this parent, which runs.
    pub(crate) fn around(&self, parent: Record, pid: i32, pidfd: Arc<OwnedFd>) -> Result<Around> {
        let mut ids = lineage(&parent.id);
        ids.push(parent.id.clone());
        let cgroups = ids.iter().map(|id| self.places(id).cgroup).collect();
        let top = match parent.id.parent() {
            None => parent.config.directory.clone(),
            Some(_) => self
                .outermost_sandbox(&parent.id)
                .ok_or_else(|| Error::NotFound(parent.id.root().to_string()))?,
        };
        // The operator's own links lead to it; from here on there is none.
        let sandbox = std::fs::canonicalize(&top).map_err(|source| Error::Directory {
            what: "find the sandbox",
            path: top.clone(),
            source,
        })?;
        Ok(Around { parent, pid, pidfd, cgroups, sandbox })
    }

    /// Where the outermost container around one has its sandbox, if its record is there.
    pub(crate) fn outermost_sandbox(&self, id: &ContainerId) -> Option<PathBuf> {
        let listed = self.look(&id.root().to_string()).ok().flatten()?;
        Some(listed.record.config.directory)
    }
}

/// Whether a container has ended, or is about to.
pub(crate) fn is_ending(now: &Now) -> bool {
    now.terminated || now.state == NativeState::Destroying
}

impl MesosContainerizer {
    pub(crate) fn launch_nested(
        &self,
        id: &ContainerId,
        parent: &ContainerId,
        config: ContainerConfig,
        environment: Variables,
        checkpointed: bool,
    ) -> Answer<'_, LaunchResult> {
        if config.executor_info.is_some() || config.task_info.is_some() {
            return ready(Err(Refused::NestedWithTask));
        }
        if checkpointed {
            return ready(Err(Refused::NestedCheckpointed));
        }
        if config.container_info.as_ref().is_some_and(|info| info.r#type != ContainerType::Mesos) {
            return ready(Ok(LaunchResult::NotSupported));
        }
        match self.begin_nested(id, parent, config, environment) {
            Ok(Some(entry)) => Box::pin(entry.launched.wait()),
            Ok(None) => ready(Ok(LaunchResult::AlreadyLaunched)),
            Err(e) => ready(Err(e)),
        }
    }

    fn begin_nested(
        &self,
        id: &ContainerId,
        parent: &ContainerId,
        mut config: ContainerConfig,
        environment: Variables,
    ) -> std::result::Result<Option<Arc<Entry>>, Refused> {
        let unsupported = |text: String| Err(Refused::other(Class::Unsupported, text));
        if config.container_class == ContainerClass::Debug {
            return unsupported(format!("{id} is to be a session: launch it as one"));
        }
        if id.depth() > DEPTH + 1 {
            return unsupported(format!(
                "{id} would be more than {DEPTH} levels below the container at the top"
            ));
        }
        if id.to_string().len() > LONGEST {
            let why = format!(
                "the id of a container is longer than {LONGEST} bytes with those around it: use shorter ones"
            );
            return Err(Refused::other(Class::Invalid, why));
        }
        let shared = self.shared();
        let missing = || Refused::ParentMissing(parent.clone());
        let outer = shared.get(parent).ok_or_else(missing)?;
        if outer.session {
            return unsupported(format!("{parent} is a session: launch {} in its container", id.value()));
        }
        let record = shared.native.look(&parent.to_string());
        let record = record.ok().flatten().ok_or_else(missing)?.record;
        let failed = |e: Error| Refused::other(e.class(), crate::collect::chain(&e));
        let top = match id.root() == parent {
            true => record.config.directory.clone(),
            false => shared.native.outermost_sandbox(id).ok_or_else(missing)?,
        };
        config.directory = sandbox_of(&top, id);
        let entry = Arc::new(Entry::new(id.clone(), config.directory.clone(), NativeState::Starting)?);
        if !shared.add(&entry) {
            return Ok(None);
        }
        // Only now: whoever ends the parent says so before it looks for what is to be ended first. So either this one is
        // found there, or the end is found here.
        let now = outer.now();
        let conflict = |text: String| Err(Refused::other(Class::Conflict, text));
        let begun = match (now.state, now.process) {
            _ if now.terminated => Err(missing()),
            (NativeState::Destroying, _) => Err(Refused::ParentDestroying(parent.clone())),
            (NativeState::Running, _) if now.paused => conflict(format!(
                "container {parent} is paused, and so would be what is in it: resume it first"
            )),
            (NativeState::Running, Some(process)) => {
                let around = shared.native.around(record, process.pid, process.pidfd).map_err(failed);
                around.and_then(|around| {
                    let request = request(id, config, environment, around);
                    shared.own(&entry, Job::Launch(Box::new(request)))
                })
            }
            _ => conflict(format!("container {parent} does not run yet: wait for its launch")),
        };
        match begun {
            Ok(()) => Ok(Some(entry)),
            Err(e) => {
                shared.forget(id);
                Err(e)
            }
        }
    }
}

fn request(id: &ContainerId, mut config: ContainerConfig, environment: Variables, around: Around) -> Request {
    let image = config.container_info.as_ref().and_then(|info| info.mesos.as_ref()?.image.as_ref());
    if image.is_none() && config.rootfs.is_none() {
        // In its parent's root it is its parent's user, if it names none.
        config.user = config.user.or_else(|| around.parent.config.user.clone());
    }
    // What runs in the container of a group is a task: as one with a container of its own, it heeds SIGTERM.
    let executor = around.parent.config.executor_info.as_ref();
    let init = executor.is_some_and(|executor| executor.r#type == Some(ExecutorType::Default));
    let request = containerizer::request(id, config, environment, None);
    Request { init, within: Some(Box::new(around)), ..request }
}

impl Request {
    /// Whether it is to be in the root file system of the container around it.
    pub(crate) fn shares_root(&self) -> bool {
        self.within.is_some() && matches!(self.root, RootSource::Host)
    }
}

impl Nesting for MesosContainerizer {
    fn depth(&self) -> usize {
        DEPTH
    }

    fn children(&self, id: &ContainerId) -> Answer<'_, Vec<ContainerId>> {
        let lives = |entry: &Arc<Entry>| !entry.session && !entry.now().terminated;
        let inside = self.shared().inside(id).into_iter().filter(lives);
        ready(Ok(inside.map(|entry| entry.id.clone()).collect()))
    }

    fn kept(&self, id: &ContainerId) -> Option<NestedContainer> {
        let record = self.shared().native.look(&id.to_string()).ok().flatten()?.record;
        let session = record.config.container_class == ContainerClass::Debug;
        Some(NestedContainer { config: record.config, created_ms: record.created_ms, session })
    }
}

/// Whether the container around one lives, so that it may go on.
pub(crate) fn has_parent(shared: &Shared, id: &ContainerId) -> bool {
    let Some(parent) = id.parent() else { return true };
    shared.get(parent).is_some_and(|entry| !is_ending(&entry.now()))
}
