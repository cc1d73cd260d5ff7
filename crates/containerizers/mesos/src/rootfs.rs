// SPDX-License-Identifier: Apache-2.0
//! From what the operator named to a root file system, and the user in it.

use crate::request::RootSource;
use crate::{Error, Result};
use berth_image::overlay::{self, Layers};
use berth_image::{ResolvedUser, Root, resolve_user};
use berth_launcher::Rootfs;
use berth_model::Class;
use berth_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use berth_sys::rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The name of an unpacked archive's place in the container's directory.
pub(crate) const UNPACKED: &str = "image";

/// Opens what can be opened before anything is made; `None` for an archive or an image.
pub(crate) fn open(source: &RootSource) -> Result<Option<Rootfs>> {
    match source {
        RootSource::Host => Ok(Some(Rootfs::Host)),
        RootSource::Archive(path) => {
            let found = std::fs::metadata(path).map_err(|e| failed(path, Class::of_io(&e), e))?;
            if !found.is_file() {
                let why = "it is neither a directory nor a regular file".to_owned();
                return Err(failed(path, Class::Invalid, berth_launcher::Error::Invalid(why)));
            }
            Ok(None)
        }
        RootSource::Directory(path) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = openat(CWD, path, flags, Mode::empty()).map_err(|e| {
                let e = std::io::Error::from(e);
                failed(path, Class::of_io(&e), e)
            })?;
            let (path, layers) = (path.clone(), vec![dir]);
            Ok(Some(Rootfs::Layered { path, layers, top: None, directories: Vec::new() }))
        }
        RootSource::Image(_) => Ok(None),
    }
}

fn failed(path: &Path, class: Class, e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Rootfs { path: path.to_owned(), source: Box::new(e), class }
}

/// Unpacks an archive below the container's directory.
pub(crate) fn unpack(
    archive: &Path,
    work: &Path,
    progress: &mut dyn FnMut(berth_image::Progress),
) -> Result<Rootfs> {
    let target = work.join(UNPACKED);
    let unpacked = berth_image::unpack(archive, &target, &berth_image::Options::default(), progress)
        .map_err(|e| failed(archive, e.class(), e))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(&unpacked.root, c".", flags, Mode::empty()).map_err(|e| {
        let e = std::io::Error::from(e);
        failed(archive, Class::of_io(&e), e)
    })?;
    Ok(Rootfs::Own { path: unpacked.path, dir })
}

/// The user, looked up in the passwd of the root that it is to run in. Without one: root.
pub(crate) fn user(rootfs: &Rootfs, spec: Option<&str>) -> Result<ResolvedUser> {
    let Some(spec) = spec else {
        return Ok(ResolvedUser {
            uid: 0,
            gid: 0,
            supplementary: Vec::new(),
            home: "/root".into(),
            name: Some("root".to_owned()),
        });
    };
    let opened = match rootfs {
        Rootfs::Host => Root::at(Path::new("/")),
        Rootfs::Layered { layers, path, .. } if layers.len() > 1 => merged(layers, path).map(Root::of)?,
        Rootfs::Layered { layers, path, .. } => copy(layers.first().map(AsFd::as_fd), path).map(Root::of)?,
        Rootfs::Own { dir, path } | Rootfs::Around { dir, path, .. } => {
            copy(Some(dir.as_fd()), path).map(Root::of)?
        }
    };
    let root = opened.map_err(|e| failed(Path::new("/"), e.class(), e))?;
    resolve_user(&root, spec).map_err(Error::User)
}

fn copy(dir: Option<BorrowedFd<'_>>, path: &Path) -> Result<OwnedFd> {
    let none = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let copied = dir.ok_or_else(none).and_then(|dir| dir.try_clone_to_owned());
    copied.map_err(|e| failed(path, Class::of_io(&e), e))
}

/// The layers of an image as its container will see them, to look into only.
fn merged(layers: &[OwnedFd], path: &Path) -> Result<OwnedFd> {
    let layers = Layers { lower: layers.iter().map(AsFd::as_fd).collect(), upper: None, volatile: false };
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    overlay::mount(&layers, attributes).map_err(|e| failed(path, e.class(), e))
}
