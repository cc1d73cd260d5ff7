// SPDX-License-Identifier: Apache-2.0
//! From what the operator named to a root file system, and the user in it.

use crate::request::RootSource;
use crate::{Error, Result};
use berth_image::{ResolvedUser, Root, resolve_user};
use berth_launcher::Rootfs;
use berth_model::Class;
use berth_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use std::os::fd::AsFd;
use std::path::Path;

/// The name of an unpacked archive's place in the container's directory.
pub(crate) const UNPACKED: &str = "image";

/// Opens what can be opened before anything is made; `None` for an archive.
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
            Ok(Some(Rootfs::Layered { path: path.clone(), dir }))
        }
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
        Rootfs::Layered { dir, path } | Rootfs::Own { dir, path } => {
            dir.as_fd().try_clone_to_owned().map_err(|e| failed(path, Class::of_io(&e), e)).map(Root::of)?
        }
    };
    let root = opened.map_err(|e| failed(Path::new("/"), e.class(), e))?;
    resolve_user(&root, spec).map_err(Error::User)
}
