// SPDX-License-Identifier: Apache-2.0
//! From an image to the root file systems of containers.
//!
//! ```text
//! <dir>/containers/<holder>/<n>/upper, work     overlay: what the container writes
//!                              /rootfs          copy: a tree of its own
//! ```
//!
//! A holder is a container, or whatever else needs an image: an agent's `agent/<id>`, a one-shot's `oneshot/<id>`.
//! It may have several root file systems (volumes that are images). The lease comes first and goes last, so what is
//! on disk for a holder never outlives what it is made of.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_image::config::ImageConfig;
use berth_image::overlay::{Layers, mount};
use berth_image::{Cancel, clone_mount, remove_tree};
use berth_sys::mounts::{Attributes, Reach};
use rustix::fs::{Gid, Mode, Uid};
use rustix::mount::MountAttrFlags;

use crate::copy::copy_image;
use crate::error::{Result, StoreError};
use crate::layout::{directory, names};
use crate::records::{Image, RootMode};
use crate::store::{Store, holder_file};

/// How layers become a root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backend {
    /// overlayfs: nothing is copied.
    #[default]
    Overlay,
    /// A copy of all layers, for file systems that overlayfs can not use.
    Copy,
    /// The one layer that there is, read-only.
    Bind,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Backend::Overlay => "overlay",
            Backend::Copy => "copy",
            Backend::Bind => "bind",
        })
    }
}

impl std::str::FromStr for Backend {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Backend> {
        match text {
            "overlay" => Ok(Backend::Overlay),
            "copy" => Ok(Backend::Copy),
            "bind" => Ok(Backend::Bind),
            other => Err(StoreError::Unsupported(format!(
                "the specified provisioner backend '{other}' is not supported; name overlay, copy or bind"
            ))),
        }
    }
}

/// Makes root file systems, in a directory beside a store.
#[derive(Debug, Clone)]
pub struct Provisioner {
    store: Store,
    path: PathBuf,
}

/// A root file system that was made.
#[derive(Debug)]
pub struct Rootfs {
    /// How.
    pub backend: Backend,
    /// The image's configuration.
    pub config: ImageConfig,
    /// Its directory below the provisioner's.
    pub path: PathBuf,
    /// Mode and owner of `/`.
    pub top: RootMode,
    /// Directories whose content counts as the container's own: what it writes to its root goes there.
    pub ephemeral: Vec<PathBuf>,
    made: Made,
}

#[derive(Debug)]
enum Made {
    /// The highest layer first.
    Overlay {
        layers: Vec<OwnedFd>,
        upper: OwnedFd,
        work: OwnedFd,
    },
    Tree {
        dir: OwnedFd,
    },
    Layer {
        dir: OwnedFd,
    },
}

impl Provisioner {
    /// Opens the directory `path` (`<work_dir>/provisioner`), made if it is not there; its parent must be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path, store: Store) -> Result<Provisioner> {
        directory(rustix::fs::CWD, path, path)?;
        let containers = path.join("containers");
        directory(rustix::fs::CWD, &containers, &containers)?;
        Ok(Provisioner { store, path: path.to_owned() })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes a root file system for `holder`, which holds the image from now on.
    ///
    /// # Errors
    /// [`StoreError`]; call [`Provisioner::destroy`] then, as for one that was made.
    pub fn provision(&self, holder: &str, image: &Image, backend: Backend) -> Result<Rootfs> {
        self.store.hold(holder, image)?;
        let config = self.store.config(image)?;
        let layers = self.store.open_layers(image)?;
        let place = self.container(holder)?;
        let container = directory(rustix::fs::CWD, &place, &place)?;
        let (number, dir) = fresh(&container, &place)?;
        let path = place.join(number);
        let sub = |name: &str| directory(dir.as_fd(), name.as_ref(), &path.join(name));
        let mut ephemeral = Vec::new();
        let made = match backend {
            Backend::Overlay => {
                let (upper, work) = (sub("upper")?, sub("work")?);
                dress(&upper, image.top, &path)?;
                ephemeral.extend([path.join("upper"), path.join("work")]);
                Made::Overlay { layers, upper, work }
            }
            Backend::Copy => {
                let dir = sub("rootfs")?;
                copy_image(&layers, image.top, &dir, &path.join("rootfs"), &Cancel::new())?;
                ephemeral.push(path.join("rootfs"));
                Made::Tree { dir }
            }
            Backend::Bind => match <[OwnedFd; 1]>::try_from(layers) {
                Ok([dir]) => Made::Layer { dir },
                Err(_) => {
                    let why = "Multiple layers are not supported by the bind backend; use overlay or copy";
                    return Err(StoreError::Unsupported(why.into()));
                }
            },
        };
        Ok(Rootfs { backend, config, path, top: image.top, ephemeral, made })
    }

    /// Removes all root file systems of `holder`, and lets go of its images; whether there was something. May be
    /// called twice, and after a crash at any moment.
    ///
    /// # Errors
    /// [`StoreError`]; what could be removed is. The images stay held until all of it is.
    pub fn destroy(&self, holder: &str) -> Result<bool> {
        let there = self.remove(&holder_file(holder)?)?;
        let held = self.store.release(holder)?;
        Ok(there || held)
    }

    /// Removes what was made for holders whose names begin with `prefix` and that are not `known`; answers how many.
    ///
    /// # Errors
    /// The first [`StoreError`]; the others are dealt with all the same.
    pub fn recover(&self, prefix: &str, known: &HashSet<String>) -> Result<usize> {
        let known_files: HashSet<String> =
            known.iter().filter_map(|holder| holder_file(holder).ok()).collect();
        let ours = holder_file(prefix)?;
        let mut first = None;
        let mut gone = HashSet::new();
        let containers = self.path.join("containers");
        let dir = directory(rustix::fs::CWD, &containers, &containers)?;
        for file in names(dir.as_fd(), &containers)? {
            if file.starts_with(&ours) && !known_files.contains(&file) {
                first = first.or(self.remove(&file).err());
                gone.insert(file);
            }
        }
        for lease in self.store.leases()? {
            if lease.holder.starts_with(prefix) && !known.contains(&lease.holder) {
                first = first.or(self.destroy(&lease.holder).err());
                gone.insert(holder_file(&lease.holder)?);
            }
        }
        first.map_or(Ok(gone.len()), Err)
    }

    fn container(&self, holder: &str) -> Result<PathBuf> {
        Ok(self.path.join("containers").join(holder_file(holder)?))
    }

    fn remove(&self, file: &str) -> Result<bool> {
        let containers = self.path.join("containers");
        let dir = directory(rustix::fs::CWD, &containers, &containers)?;
        if !crate::layout::exists(dir.as_fd(), file) {
            return Ok(false);
        }
        let removal = remove_tree(dir.as_fd(), OsStr::new(file));
        match removal.failures.first() {
            None => Ok(true),
            Some(first) => Err(StoreError::Leftover {
                path: containers.join(file),
                count: removal.failures.len() as u64 + removal.more_failures,
                first: first.source.to_string(),
            }),
        }
    }
}

impl Rootfs {
    /// The root file system as a detached mount, with `attributes`; `below` lies under all layers (mount points that an
    /// image lacks).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn mount(&self, below: Option<BorrowedFd<'_>>, attributes: Attributes) -> Result<OwnedFd> {
        match &self.made {
            Made::Overlay { layers, upper, work } => {
                let lower = layers.iter().map(AsFd::as_fd).chain(below).collect();
                let layers = Layers { lower, upper: Some((upper.as_fd(), work.as_fd())), volatile: true };
                let bits = u32::try_from(attributes.bits()).unwrap_or(0);
                Ok(mount(&layers, MountAttrFlags::from_bits_retain(bits))?)
            }
            Made::Tree { dir } => self.bind(dir, attributes),
            Made::Layer { dir } => self.bind(dir, attributes.and(Attributes::RDONLY)),
        }
    }

    fn bind(&self, dir: &OwnedFd, attributes: Attributes) -> Result<OwnedFd> {
        clone_mount(dir.as_fd(), Reach::One, attributes)
            .map_err(|(what, errno)| StoreError::io(what, &self.path)(errno))
    }

    /// The layers of an overlay, the highest first, for whoever mounts them with an upper directory of its own.
    pub fn layers(&self) -> &[OwnedFd] {
        match &self.made {
            Made::Overlay { layers, .. } => layers,
            Made::Tree { .. } | Made::Layer { .. } => &[],
        }
    }
}

/// A new directory with the next number.
fn fresh(container: &OwnedFd, place: &Path) -> Result<(String, OwnedFd)> {
    for number in 0..u32::MAX {
        let name = number.to_string();
        match rustix::fs::mkdirat(container, &name, Mode::RWXU) {
            Ok(()) => {
                let dir = directory(container.as_fd(), name.as_ref(), &place.join(&name))?;
                return Ok((name, dir));
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(StoreError::io("make a directory in", place)(errno)),
        }
    }
    Err(StoreError::Unsupported(format!("{} is full of root file systems", place.display())))
}

/// Gives a root directory what the image says of it.
pub(crate) fn dress(dir: &OwnedFd, top: RootMode, path: &Path) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(top.uid), Gid::from_raw(top.gid));
    rustix::fs::fchown(dir, Some(uid), Some(gid))
        .map_err(StoreError::io("set the owner of the root in", path))?;
    rustix::fs::fchmod(dir, Mode::from_raw_mode(top.mode))
        .map_err(StoreError::io("set the mode of the root in", path))
}
