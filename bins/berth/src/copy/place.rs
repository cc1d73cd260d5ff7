// SPDX-License-Identifier: Apache-2.0
//! What a path of a container means: its root as its first process has it, or its sandbox, opened once and then only by
//! descriptor.

use crate::exit::Failure;
use crate::find::Places;
use berth_client::{Connection, Error, block_on};
use berth_factory::oneshot::{Native, Standing};
use berth_model::ContainerId;
use berth_proto::own::Inspection;
use berth_sys::Errno;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use berth_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where a container with a root file system of its own has its sandbox.
const SANDBOX: &str = "/mnt/mesos/sandbox";

/// What is known of a container before its files are looked at.
struct Known {
    /// Its first process, while it runs.
    pid: Option<i32>,
    /// Its sandbox on the host.
    sandbox: PathBuf,
    /// Whether its root file system is its own.
    own: bool,
}

/// Where the paths of a container are resolved.
pub(super) struct Root {
    root: OwnedFd,
    /// What stands before a path in here.
    prefix: Option<PathBuf>,
    name: String,
}

impl Root {
    /// Opens it.
    pub(super) fn open(places: &Places, name: &str) -> Result<Root, Failure> {
        if !berth_sys::rustix::process::geteuid().is_root() {
            let text = "the files of containers are opened by root, and this is not root: run it with sudo";
            return Err(Failure::text(text));
        }
        let known = known(places, name)?;
        let failed = |what: &str, e: io::Error| Failure::text(format!("{what} of {name}: {e}"));
        let (root, prefix) = match (known.own, known.pid) {
            (true, Some(pid)) => {
                let process = hold(pid).map_err(|e| failed("open the root file system", e))?;
                // Told again, now that it is held: its number has not become another's meanwhile.
                let root = match self::known(places, name)?.pid == Some(pid) {
                    true => root_of(pid, &process),
                    false => Err(gone()),
                };
                (root.map_err(|e| failed("open the root file system", e))?, None)
            }
            // The host's root is not the container's alone, and of one that has ended nothing else is left.
            (own, _) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let sandbox = openat(CWD, &known.sandbox, flags, Mode::empty());
                let sandbox = sandbox.map_err(|e| failed("open the sandbox", e.into()))?;
                (sandbox, Some(if own { PathBuf::from(SANDBOX) } else { known.sandbox }))
            }
        };
        Ok(Root { root, prefix, name: name.to_owned() })
    }

    /// The path as it is resolved in here.
    fn within(&self, path: &Path) -> Result<PathBuf, Failure> {
        let Some(prefix) = &self.prefix else { return Ok(path.to_owned()) };
        if path.is_relative() {
            return Ok(path.to_owned());
        }
        let inside = path.strip_prefix(prefix).or_else(|_| path.strip_prefix(SANDBOX));
        inside.map(Path::to_owned).map_err(|_| {
            let name = &self.name;
            Failure::text(format!(
                "{name} has no root file system of its own now, only its sandbox: name a path relative to that, or below {}",
                prefix.display()
            ))
        })
    }

    /// Opens what a path leads to, with O_PATH; a link at its end itself, if that is not followed.
    pub(super) fn find(&self, path: &Path, follow: bool) -> Result<io::Result<OwnedFd>, Failure> {
        let path = self.within(path)?;
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        Ok(self.resolve(&path, flags).map_err(io::Error::from))
    }

    /// Opens the directory that something is to be made in, and its name there.
    pub(super) fn parent(&self, path: &Path) -> Result<io::Result<(OwnedFd, OsString)>, Failure> {
        let path = self.within(path)?;
        let Some(name) = path.file_name() else { return Ok(Err(io::ErrorKind::InvalidInput.into())) };
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = self.resolve(above, OFlags::PATH | OFlags::DIRECTORY);
        Ok(parent.map(|parent| (parent, name.to_owned())).map_err(io::Error::from))
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // Something was renamed meanwhile, and the kernel can not be sure.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }
}

fn known(places: &Places, name: &str) -> Result<Known, Failure> {
    let here = async |native: &Native, name: &str| of_run(native, name);
    let there = async |c: &mut Connection, id: &ContainerId| Ok::<_, Error>(of_agent(&c.inspect(id).await?));
    block_on(places.at(name, here, there)).map_err(|e| Failure::client(&e)).flatten()
}

fn of_run(native: &Native, name: &str) -> Result<Known, Failure> {
    let listed = native.look(name).map_err(|e| Failure::of(&e))?;
    let listed = listed.ok_or_else(|| Failure::text(format!("no container is named {name}")))?;
    let pid = match listed.standing {
        Standing::Running { pid } => Some(pid),
        Standing::Launching => {
            return Err(Failure::text(format!("{name} is being launched: try again when it runs")));
        }
        _ => None,
    };
    Ok(Known { pid, sandbox: listed.record.config.directory, own: listed.record.root != "host" })
}

fn of_agent(found: &Inspection) -> Known {
    let runs = found.state.as_ref().is_some_and(|state| matches!(state.name.as_str(), "RUNNING" | "PAUSED"));
    let pid = found.status.as_ref().and_then(|status| status.executor_pid).filter(|_| runs);
    let image = found.container.as_ref().and_then(|c| c.mesos.as_ref()).is_some_and(|m| m.image.is_some());
    Known {
        pid: pid.and_then(|pid| i32::try_from(pid).ok()),
        sandbox: PathBuf::from(found.directory.clone().unwrap_or_default()),
        own: image || found.rootfs.is_some(),
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "it has just ended")
}

/// Whoever has that number now.
fn hold(number: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(number).ok_or_else(gone)?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())
}

/// The root of a process that is held, and no other's that got its number meanwhile.
fn root_of(number: i32, process: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, format!("/proc/{number}/root"), flags, Mode::empty())?;
    // It lives now, so it lived when its root was opened.
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)) {
        Ok(0) => Ok(root),
        _ => Err(gone()),
    }
}
