// SPDX-License-Identifier: Apache-2.0
//! Persistent volumes: where they are on the host, and in the container. The engine mounts those that are there at launch;
//! those that come and go with an update are mounted by us, in the container's mount namespace, as the engine can not.
//!
//! **Where we differ from Mesos**: it mounts them into the sandbox on the host, where a mount that is forgotten lets the
//! sandbox's removal take the volume's data (MESOS-9352), and never for a custom executor. Here no mount is made on the host.
//!
//! Everything in the namespace is the container's: a path is followed by no link, and what it leads to has to be the very
//! directory that is known from the host.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use berth_contract::Error;
use berth_model::resources::{DiskSourceType, Resource};
use berth_model::{Class, Resources, VolumeMode};
use berth_sys::mounts::{Attributes, Reach, set_attributes};
use berth_sys::process::{Namespaces, enter, unshare_file_attributes};
use berth_sys::rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Stat, fchown, fstat, open, openat2};
use berth_sys::rustix::io::Errno;
use berth_sys::rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use berth_sys::rustix::process::{Gid, Uid, fchdir};
use serde::{Deserialize, Serialize};

use crate::error::{invalid, of_io, unsupported};
use crate::kept::{Entry, Shared, mounted};
use crate::process::Process;
use crate::sandbox;

/// A persistent volume of one container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Persistent {
    /// Where it is on the host.
    pub(crate) source: PathBuf,
    /// Where it is in the container; a relative path is below the sandbox.
    pub(crate) at: PathBuf,
    pub(crate) read_only: bool,
}

impl Persistent {
    /// Its place in the container.
    pub(crate) fn target(&self, sandbox_directory: &str) -> PathBuf {
        Path::new(sandbox_directory).join(&self.at)
    }
}

/// All that are among the resources.
///
/// # Errors
/// One has no place, or a name that leads elsewhere.
pub(crate) fn among(resources: &Resources, work_dir: &Path) -> Result<BTreeSet<Persistent>, Error> {
    resources.iter().filter_map(|resource| of(resource, work_dir).transpose()).collect()
}

fn of(resource: &Resource, work_dir: &Path) -> Result<Option<Persistent>, Error> {
    let Some(disk) = &resource.disk else { return Ok(None) };
    let Some(persistence) = &disk.persistence else { return Ok(None) };
    let id = &persistence.id;
    let volume = disk.volume.as_ref();
    let volume =
        volume.ok_or_else(|| invalid(format!("the persistent volume '{id}' has no container_path")))?;
    let names = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    let at = PathBuf::from(&volume.container_path);
    let below = at.strip_prefix("/").unwrap_or(&at);
    if below.as_os_str().is_empty() || !names(below) {
        let text = format!("the persistent volume '{id}' can not be at '{}': name a path", at.display());
        return Err(invalid(text));
    }
    // As the directories of Mesos are called.
    let role = resource.reservation_role().replace('/', " ");
    let one = |name: &str| Path::new(name).components().count() == 1 && !name.contains('/');
    if ![&role, id].into_iter().all(|name| one(name) && names(Path::new(name))) {
        return Err(invalid(format!(
            "the persistent volume '{id}' of role '{role}' has no name of a directory"
        )));
    }
    let named = |root: &Path| root.join("volumes/roles").join(&role).join(id);
    let rooted = |root: Option<&String>| {
        let missing = || invalid(format!("the disk of the persistent volume '{id}' has no root"));
        // A relative root is below the work directory.
        root.map(|root| work_dir.join(root)).ok_or_else(missing)
    };
    let source = match disk.source.as_ref().map(|source| (source.kind, source)) {
        None => named(work_dir),
        Some((DiskSourceType::Path, source)) => {
            named(&rooted(source.path.as_ref().and_then(|path| path.root.as_ref()))?)
        }
        Some((DiskSourceType::Mount, source)) => {
            rooted(source.mount.as_ref().and_then(|mount| mount.root.as_ref()))?
        }
        Some((kind, _)) => {
            let text = format!("the persistent volume '{id}' is on a disk of kind {}", kind.name());
            return Err(unsupported(format!("{text}: only those on PATH and MOUNT can be mounted")));
        }
    };
    Ok(Some(Persistent { source, at, read_only: volume.mode == VolumeMode::Ro }))
}

/// Gives those to the sandbox's owner that nobody else has now. They are there already.
pub(crate) fn own(shared: &Shared, entry: &Entry, volumes: &BTreeSet<Persistent>) -> Result<(), Error> {
    let others: Vec<PathBuf> = shared
        .entries()
        .values()
        .filter(|other| other.id != entry.id && !other.is_over())
        .flat_map(|other| other.own.facts().volumes.into_iter().map(|volume| volume.source))
        .collect();
    for volume in volumes.iter().filter(|volume| !others.contains(&volume.source)) {
        let failed = |errno: Errno| {
            let text = format!(
                "Failed to change the ownership of the persistent volume at {}",
                volume.source.display()
            );
            of_io(text, errno.into())
        };
        let owner = sandbox::open_directory(&entry.record.config.directory)
            .map_err(|error| of_io("open the sandbox".to_owned(), error))?;
        let whose = fstat(&owner).map_err(failed)?;
        let source =
            open(&volume.source, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        fchown(source.map_err(failed)?, Some(Uid::from_raw(whose.st_uid)), Some(Gid::from_raw(whose.st_gid)))
            .map_err(failed)?;
    }
    Ok(())
}

/// # Errors
/// One has come that can not be mounted in what runs.
pub(crate) fn check(entry: &Entry, wanted: &BTreeSet<Persistent>) -> Result<(), Error> {
    let before = entry.own.facts().volumes;
    match wanted.difference(&before).find(|volume| volume.at.is_absolute()) {
        None => Ok(()),
        Some(volume) => {
            let text = format!("the persistent volume at {} comes after the launch", volume.at.display());
            Err(unsupported(format!("{text}: it can only be mounted below the sandbox then")))
        }
    }
}

/// Mounts those that have come, and unmounts those that have gone, in one that runs.
pub(crate) async fn update(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    wanted: BTreeSet<Persistent>,
) -> Result<(), Error> {
    let before = entry.own.facts().volumes;
    if before == wanted {
        return Ok(());
    }
    let Some(process) = entry.own.process() else {
        return Err(Error::other(
            Class::Internal,
            "mount a persistent volume: the container's process is not known",
        ));
    };
    let (own_shared, own_entry) = (Arc::clone(shared), Arc::clone(entry));
    let change = move || {
        let sandbox_directory = own_shared.own.settings.sandbox_directory.clone();
        let gone: Vec<_> = before.difference(&wanted).cloned().collect();
        let come: Vec<_> = wanted.difference(&before).cloned().collect();
        prepare(&own_shared, &own_entry, &come)?;
        let directory = own_entry.record.config.directory.clone();
        // A thread of its own: it does not come back from the container's namespace.
        let thread = std::thread::Builder::new().name("docker-volumes".to_owned());
        let thread =
            thread.spawn(move || in_namespace(&process, &directory, &sandbox_directory, &gone, &come));
        let thread = thread.map_err(|error| of_io("make a thread for volumes".to_owned(), error))?;
        let done =
            thread.join().unwrap_or_else(|_| Err(Error::other(Class::Internal, "a thread for volumes died")));
        done?;
        mounted(&own_shared, &own_entry.id, &wanted)?;
        own_entry.own.change(|facts| facts.volumes = wanted);
        Ok(())
    };
    let changed = tokio::task::spawn_blocking(change).await;
    changed.unwrap_or_else(|error| Err(Error::because(Class::Internal, "mount persistent volumes", error)))
}

/// What has to be there before: the volumes, and directories in the sandbox to mount them on.
fn prepare(shared: &Shared, entry: &Entry, come: &[Persistent]) -> Result<(), Error> {
    let mut needed = Vec::new();
    for volume in come {
        needed.push(crate::options::Needed::Host(volume.source.clone()));
        needed.push(crate::options::Needed::Sandbox(volume.at.clone()));
    }
    sandbox::make(&entry.record.config.directory, &needed)?;
    own(shared, entry, &come.iter().cloned().collect())
}

fn in_namespace(
    process: &Process,
    directory: &Path,
    sandbox_directory: &str,
    gone: &[Persistent],
    come: &[Persistent],
) -> Result<(), Error> {
    let failed = |what: &'static str, volume: &Persistent| {
        let text = format!("{what} {} at {}", volume.source.display(), volume.at.display());
        move |errno: Errno| of_io(text.clone(), errno.into())
    };
    // Everything of the host is opened before it is left.
    let mut trees = Vec::new();
    for volume in come {
        let failed = failed("Failed to mount persistent volume", volume);
        let tree = tree(volume).map_err(&failed)?;
        let source = fstat(&tree).map_err(&failed)?;
        let on = below(directory, &volume.at).and_then(fstat).map_err(&failed)?;
        trees.push((volume, tree, source, on));
    }
    let mut sources = Vec::new();
    for volume in gone {
        // One whose source is gone can not be told from another, and stays until the container ends.
        let stat = open(&volume.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).and_then(fstat);
        sources.push((volume, stat.map_err(failed("Failed to unmount persistent volume", volume))?));
    }
    let entered = unshare_file_attributes().and_then(|()| enter(process.fd(), Namespaces::MOUNT));
    entered.map_err(|errno| of_io("enter the mount namespace of a container".to_owned(), errno.into()))?;
    for (volume, stat) in sources {
        unmount_one(&volume.target(sandbox_directory), &stat)
            .map_err(failed("Failed to unmount persistent volume", volume))?;
    }
    for (volume, tree, source, on) in trees {
        let failed = failed("Failed to mount persistent volume", volume);
        let place = inside(&volume.target(sandbox_directory)).map_err(&failed)?;
        let found = fstat(&place).map_err(&failed)?;
        if is_same(&found, &source) {
            // By an update that did not come to its end.
            continue;
        }
        if !is_same(&found, &on) {
            return Err(failed(Errno::STALE));
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&tree, c"", &place, c"", flags).map_err(&failed)?;
    }
    Ok(())
}

/// The volume, as a mount that is nowhere yet.
fn tree(volume: &Persistent) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, &volume.source, flags)?;
    let mut attributes = Attributes::NONE;
    if volume.read_only {
        attributes = attributes.and(Attributes::RDONLY);
    }
    set_attributes(tree.as_fd(), c"", Reach::One, attributes, true)?;
    Ok(tree)
}

/// A directory of the sandbox, on the host.
fn below(directory: &Path, at: &Path) -> Result<OwnedFd, Errno> {
    let directory = sandbox::open_directory(directory)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(&directory, at, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// A directory of the container, by no link.
fn inside(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// Takes away what is mounted there, if it is what is meant.
fn unmount_one(path: &Path, source: &Stat) -> Result<(), Errno> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let above = inside(above)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let there = openat2(&above, name, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    if !is_same(&fstat(&there)?, source) {
        // By an update that did not come to its end; or by the container itself, which may.
        return Ok(());
    }
    drop(there);
    // By its name in the directory that was opened, so that nothing else is meant by it meanwhile.
    fchdir(&above)?;
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    unmount(name.as_c_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
}

/// Something else there is what the container has put there.
fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::Volume;
    use berth_model::resources::{DiskInfo, DiskRoot, DiskSource, Persistence, Scalar};

    fn volume(id: &str, at: &str, source: Option<DiskSource>) -> Result<Option<Persistent>, Error> {
        let mut resource = Resource::scalar("disk", Scalar::from_whole(1));
        resource.disk = Some(DiskInfo {
            persistence: Some(Persistence { id: id.to_owned(), principal: None }),
            volume: Some(Volume { container_path: at.to_owned(), mode: VolumeMode::Ro, ..Volume::default() }),
            source,
        });
        of(&resource, Path::new("/w"))
    }

    #[test]
    fn it_is_where_mesos_has_it() {
        let root = |root: &str| Some(DiskRoot { root: Some(root.to_owned()) });
        let path = |at: &str| DiskSource { path: root(at), ..DiskSource::new(DiskSourceType::Path) };
        let mount = DiskSource { mount: root("/m"), ..DiskSource::new(DiskSourceType::Mount) };
        for (source, expected) in [
            (None, "/w/volumes/roles/*/v"),
            (Some(path("/disk")), "/disk/volumes/roles/*/v"),
            (Some(path("disk")), "/w/disk/volumes/roles/*/v"),
            (Some(mount), "/m"),
        ] {
            let found = volume("v", "data", source).unwrap().unwrap();
            assert_eq!((found.source.as_path(), found.read_only), (Path::new(expected), true));
            assert_eq!(found.target("/s"), Path::new("/s/data"));
        }
        assert_eq!(volume("v", "/abs/x", None).unwrap().unwrap().target("/s"), Path::new("/abs/x"));
        assert_eq!(of(&Resource::scalar("disk", Scalar::from_whole(1)), Path::new("/w")).unwrap(), None);
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for (id, at) in [("..", "data"), ("a/b", "data"), ("", "data"), ("v", "../up"), ("v", ""), ("v", "/")]
        {
            assert_eq!(volume(id, at, None).unwrap_err().class(), Class::Invalid, "{id} {at}");
        }
        let block = DiskSource::new(DiskSourceType::Block);
        assert_eq!(volume("v", "data", Some(block)).unwrap_err().class(), Class::Unsupported);
    }
}
