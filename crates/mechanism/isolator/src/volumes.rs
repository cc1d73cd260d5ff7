// SPDX-License-Identifier: Apache-2.0
//! `volume/host_path` and `volume/sandbox_path`: directories and files of the host, or of the container's sandbox,
//! mounted inside.
//!
//! Acts on the host: opens the source and clones its mount, detached (open_tree(2)): it has no place in the host's
//! tree, and the last descriptor's end releases it. Its target is resolved inside the container, by descriptor. On
//! the host's root file system an absolute target must exist.

use crate::{Settings, text};
use berth_image::{Failure, clone_mount};
use berth_launcher::wire::Step;
use berth_launcher::{Container, Error, Isolator, Phase, Plan, Result};
use berth_model::{SandboxPathType, Volume, VolumeMode, VolumeSourceType};
use berth_sys::fd::open_within;
use berth_sys::mounts::{Attributes, Reach};
use berth_sys::rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, mkdirat, openat,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const HOST: &str = "volume/host_path";
const SANDBOX: &str = "volume/sandbox_path";

struct HostPath;
struct SandboxPath;

pub(crate) fn make_host_path(_: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(HostPath))
}

pub(crate) fn make_sandbox_path(_: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(SandboxPath))
}

/// Where a volume comes from.
enum Source<'a> {
    Host(&'a str),
    Sandbox(&'a str),
    /// The same of the container around it.
    Around(&'a str),
    /// `volume/image` has it.
    Image,
}

fn source(volume: &Volume) -> Result<Source<'_>> {
    let given = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()];
    if given.iter().filter(|g| **g).count() != 1 {
        return Err(Error::Invalid(
            "Invalid volume: Only one of them should be set: 'host_path', 'image' and 'source'".to_owned(),
        ));
    }
    if let Some(path) = &volume.host_path {
        return Ok(if path.starts_with('/') { Source::Host(path) } else { Source::Sandbox(path) });
    }
    let missing =
        |what: &str, kind: &str| Error::Invalid(format!("'source.{what}' is not set for {kind} volume"));
    match &volume.source {
        Some(s) => match s.r#type {
            VolumeSourceType::HostPath => {
                let path = s.host_path.as_ref().ok_or_else(|| missing("host_path", "HOST_PATH"))?;
                if !path.path.starts_with('/') {
                    return Err(Error::Invalid(format!(
                        "Path '{}' in HOST_PATH volume is not absolute",
                        path.path
                    )));
                }
                Ok(Source::Host(&path.path))
            }
            VolumeSourceType::SandboxPath => {
                let path = s.sandbox_path.as_ref().ok_or_else(|| missing("sandbox_path", "SANDBOX_PATH"))?;
                Ok(match path.r#type {
                    SandboxPathType::Parent => Source::Around(&path.path),
                    _ => Source::Sandbox(&path.path),
                })
            }
            other => {
                Err(Error::Unsupported(format!("volumes of type {other:?} are not built into this version")))
            }
        },
        None => Ok(Source::Image),
    }
}

fn volumes<'a>(container: &'a Container<'_>) -> impl Iterator<Item = &'a Volume> {
    container.config.container_info.iter().flat_map(|i| &i.volumes)
}

/// The target as the child takes it: relative to the root.
pub(crate) fn target(container: &Container<'_>, volume: &Volume) -> Result<String> {
    let path = &volume.container_path;
    if path.is_empty() || Path::new(path).components().any(|c| c.as_os_str() == "..") {
        return Err(Error::Invalid(format!(
            "volume target {path:?} must be a path inside the container without '..'"
        )));
    }
    let absolute = if path.starts_with('/') {
        path.clone()
    } else if container.rootfs.is_own() {
        format!("{}/{path}", container.sandbox_directory.display())
    } else {
        format!("{}/{path}", container.places.sandbox.display())
    };
    let relative = absolute.trim_matches('/').to_owned();
    let first = relative.split('/').find(|p| !p.is_empty() && *p != ".");
    match first {
        None => Err(Error::Invalid("a volume can not be mounted over the root: use --rootfs".to_owned())),
        Some("proc" | "sys") => Err(Error::Invalid(format!(
            "volume target {path:?} lies in /proc or /sys, which are the kernel's: choose another"
        ))),
        Some(_) => Ok(relative),
    }
}

impl Isolator for HostPath {
    fn name(&self) -> &'static str {
        HOST
    }

    fn prepare(&self, container: &Container<'_>, _: &mut Plan) -> Result<()> {
        for volume in volumes(container) {
            let target = target(container, volume)?;
            if let Source::Host(path) = source(volume)? {
                if !Path::new(path).exists() {
                    return Err(Error::Invalid(format!("Path '{path}' in HOST_PATH volume does not exist")));
                }
                if !container.rootfs.is_own() && !Path::new("/").join(&target).exists() {
                    return Err(Error::Invalid(format!(
                        "Mount point '{}' is an absolute path. It must exist if the container shares the host filesystem",
                        volume.container_path
                    )));
                }
            }
        }
        Ok(())
    }

    fn isolate(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        for volume in volumes(container) {
            if let Source::Host(path) = source(volume)? {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let fd = openat(CWD, path, flags, Mode::empty())
                    .map_err(|e| Error::io(format!("open volume source {path}"), e))?;
                attach(HOST, container, plan, volume, &fd, path)?;
            }
        }
        Ok(())
    }
}

impl Isolator for SandboxPath {
    fn name(&self) -> &'static str {
        SANDBOX
    }

    fn prepare(&self, container: &Container<'_>, _: &mut Plan) -> Result<()> {
        for volume in volumes(container) {
            if matches!(source(volume)?, Source::Around(_)) && container.within.is_none() {
                return Err(Error::Invalid(
                    "SANDBOX_PATH volume PARENT type only works for nested container".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn isolate(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        for volume in volumes(container) {
            let (path, sandbox) = match source(volume)? {
                Source::Sandbox(path) => (path, container.sandbox),
                Source::Around(path) => (path, container.within.and_then(|within| within.sandbox)),
                Source::Host(_) | Source::Image => continue,
            };
            if matches!(source(volume)?, Source::Sandbox(_)) && !volume.container_path.starts_with('/') {
                return Err(Error::Invalid(
                    "'container_path' is relative for SANDBOX_PATH volume SELF type".to_owned(),
                ));
            }
            let sandbox = sandbox.ok_or_else(|| Error::Invalid("the container has no sandbox".to_owned()))?;
            let fd = sandbox_directory(sandbox, path)
                .map_err(|e| Error::io(format!("open volume source {path} in the sandbox"), e))?;
            attach(SANDBOX, container, plan, volume, &fd, path)?;
        }
        Ok(())
    }
}

/// Opens or makes a directory below the sandbox, which the container may have filled with links.
fn sandbox_directory(sandbox: BorrowedFd<'_>, path: &str) -> std::result::Result<OwnedFd, berth_sys::Errno> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut so_far = String::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        if part == ".." {
            return Err(berth_sys::Errno::INVAL);
        }
        let parent = open_within(sandbox, if so_far.is_empty() { "." } else { so_far.as_str() }, flags, how)?;
        so_far.push_str(part);
        match open_within(sandbox, so_far.as_str(), flags, how) {
            Err(berth_sys::Errno::NOENT) => {
                mkdirat(&parent, part, Mode::from_bits_truncate(0o755))?;
                let (owner, no_links) = (fstat(sandbox)?, AtFlags::SYMLINK_NOFOLLOW);
                let (uid, gid) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
                chownat(&parent, part, Some(uid), Some(gid), no_links)?;
            }
            other => drop(other?),
        }
        so_far.push('/');
    }
    open_within(sandbox, so_far.trim_end_matches('/'), flags, how)
}

fn attach(
    name: &'static str,
    container: &Container<'_>,
    plan: &mut Plan,
    volume: &Volume,
    from: &OwnedFd,
    path: &str,
) -> Result<()> {
    let read_only = volume.mode == VolumeMode::Ro;
    let (tree, is_file) = clone(from.as_fd(), read_only)
        .map_err(|(what, e)| Error::io(format!("clone the mount of {path}: {what}"), e))?;
    let target = target(container, volume)?;
    let what = format!("mount volume {path} at {}", volume.container_path);
    let tree = plan.descriptor(tree);
    let step = Step::Volume { tree, target: &text(&target)?, file: is_file.into() };
    plan.step(name, Phase::Volumes, step, what);
    Ok(())
}

/// A detached, private clone of what `from` names and all mounted below it: devices can not be used through it, and
/// nothing gains privileges by its set-user-id bits.
pub(crate) fn clone(from: BorrowedFd<'_>, read_only: bool) -> std::result::Result<(OwnedFd, bool), Failure> {
    let stat = fstat(from).map_err(|errno| ("look at what is to be mounted", errno))?;
    let is_file = FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
    let mut set = Attributes::NOSUID.and(Attributes::NODEV);
    if read_only {
        set = set.and(Attributes::RDONLY);
    }
    Ok((clone_mount(from, Reach::Tree, set)?, is_file))
}
