// SPDX-License-Identifier: Apache-2.0
//! `filesystem/linux`: a mount namespace of its own, and the root file system.
//!
//! Acts on the host: for a root file system that others use too it makes a writable layer (`upper` and `scratch` in
//! the container's directory) and mounts overlay *detached* (fsopen(2)), so that nothing of it shows in the host's
//! mount table and the last descriptor's end is its unmount. Lower and upper are given as descriptors of ours, so
//! no character of a path can be mistaken for an option. The layer goes with the container's directory.
//!
//! Everything is mounted nodev: device files in a root file system are only files.

use crate::{Settings, text};
use berth_image::overlay::{self, Layers};
use berth_image::{Root, Top, clone_mount};
use berth_launcher::wire::Step;
use berth_launcher::{Container, Error, Isolator, Phase, Plan, Result, Rootfs};
use berth_sys::mounts::{Attributes, Reach};
use berth_sys::process::Namespaces;
use berth_sys::rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chmodat, chownat, fstatfs, mkdirat, openat};
use berth_sys::rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const NAME: &str = "filesystem/linux";

struct Linux;

pub(crate) fn make(_: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Linux))
}

impl Isolator for Linux {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        if container.rootfs.is_shared() {
            // A copy is made of the parent's, which is entered before.
            let step = Step::Unshare { namespaces: Namespaces::MOUNT.bits() };
            plan.step(NAME, Phase::Namespace, step, "copy the mounts of the container around it");
        } else {
            plan.namespaces(Namespaces::MOUNT);
        }
        let own = container.rootfs.is_own();
        let what = "cut the mounts off from the host's";
        plan.step(NAME, Phase::Root, Step::Propagation { slave: (!own).into() }, what);
        if !own {
            if read_only(container) {
                return Err(Error::Unsupported(
                    "a read-only root needs a root file system of its own: give --rootfs, or leave --read-only away"
                        .to_owned(),
                ));
            }
            plan.step(NAME, Phase::Root, Step::KeepRoot {}, "open the root");
        } else if read_only(container) {
            plan.step(NAME, Phase::Sealed, Step::SealRoot {}, "make the root file system read-only");
        }
        Ok(())
    }

    fn makes_root(&self) -> bool {
        true
    }

    fn isolate(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        let work =
            || container.work.ok_or_else(|| Error::Invalid("the container has no directory".to_owned()));
        let (tree, path) = match container.rootfs {
            Rootfs::Host | Rootfs::Around { .. } => return Ok(()),
            Rootfs::Layered { layers, path, top, .. } => {
                let upper = Upper::make(work()?, *top)
                    .map_err(|(what, e)| Error::io(format!("{what} for {}", path.display()), e))?;
                match &layers[..] {
                    [lower] => (upper.over(lower.as_fd(), container.skeleton), path),
                    _ => (Ok(upper.over_all(layers, container.skeleton)?), path),
                }
            }
            Rootfs::Own { dir, path } => (clone_mount(dir.as_fd(), Reach::One, Attributes::NODEV), path),
        };
        let tree = tree
            .map_err(|(what, e)| Error::io(format!("{what} for root file system {}", path.display()), e))?;
        if let Rootfs::Layered { directories, .. } = container.rootfs {
            make_directories(&tree, directories)?;
        }
        let tree = plan.descriptor(tree);
        let at = container.places.runtime.to_string_lossy();
        let step = Step::Root { tree, at: &text(&at)? };
        plan.step(NAME, Phase::Root, step, format!("make {} the root", path.display()));
        Ok(())
    }
}

fn read_only(container: &Container<'_>) -> bool {
    container.linux().is_some_and(|l| l.read_only_rootfs == Some(true))
}

/// tmpfs in statfs(2).
const TMPFS: u64 = 0x0102_1994;

type Step2<T> = std::result::Result<T, (&'static str, berth_sys::Errno)>;

/// The writable layer of a container, and the scratch directory beside it.
struct Upper {
    upper: OwnedFd,
    scratch: OwnedFd,
    /// The layer ends with the container: nothing is gained by writing it out at its unmount, as a disk's file system
    /// would. (The mark that this leaves costs more than it saves where there is nothing to write to.)
    volatile: bool,
}

impl Upper {
    fn make(work: BorrowedFd<'_>, top: Option<Top>) -> Step2<Upper> {
        for name in ["upper", "scratch"] {
            mkdirat(work, name, Mode::from_bits_truncate(0o755)).map_err(|e| ("make a writable layer", e))?;
        }
        let open = |name: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(work, name, flags, Mode::empty()).map_err(|e| ("open the writable layer", e))
        };
        if let Some(top) = top {
            // The root directory that is seen is the highest layer's.
            let give = || {
                let (uid, gid) = (Uid::from_raw(top.uid), Gid::from_raw(top.gid));
                chownat(work, "upper", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                chmodat(work, "upper", Mode::from_bits_truncate(top.mode & 0o7777), AtFlags::empty())
            };
            give().map_err(|e| ("give the writable layer the mode of the image's root", e))?;
        }
        let (upper, scratch) = (open("upper")?, open("scratch")?);
        let volatile = fstatfs(&upper).map_err(|e| ("look at the writable layer", e))?.f_type as u64 != TMPFS;
        Ok(Upper { upper, scratch, volatile })
    }

    /// Over one directory: named by numbers, which every kernel takes that has fsopen(2).
    fn over(&self, lower: BorrowedFd<'_>, skeleton: BorrowedFd<'_>) -> Step2<OwnedFd> {
        let failed = |e| ("mount an overlay", e);
        let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
        let by_number = |fd: BorrowedFd<'_>| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let layers = format!("{}:{}", by_number(lower), by_number(skeleton));
        let set = |key: &str, value: String| fsconfig_set_string(&context, key, value).map_err(failed);
        set("lowerdir", layers)?;
        set("upperdir", by_number(self.upper.as_fd()))?;
        set("workdir", by_number(self.scratch.as_fd()))?;
        if self.volatile {
            let _ = fsconfig_set_flag(&context, c"volatile");
        }
        fsconfig_create(&context).map_err(failed)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV).map_err(failed)
    }

    /// Over any number of them.
    fn over_all(&self, layers: &[OwnedFd], skeleton: BorrowedFd<'_>) -> Result<OwnedFd> {
        let layers = Layers {
            lower: layers.iter().map(AsFd::as_fd).chain([skeleton]).collect(),
            upper: Some((self.upper.as_fd(), self.scratch.as_fd())),
            volatile: self.volatile,
        };
        overlay::mount(&layers, MountAttrFlags::MOUNT_ATTR_NODEV)
            .map_err(|e| Error::mechanism("put the layers of the image together", e.class(), e))
    }
}

/// Makes what the image wants to be there, through the mount: whatever links its layers have, they lead nowhere else.
fn make_directories(tree: &OwnedFd, directories: &[String]) -> Result<()> {
    if directories.is_empty() {
        return Ok(());
    }
    let copy = tree.try_clone().map_err(|e| Error::io("copy a descriptor of the root", e))?;
    let failed = |e: berth_image::RootError| {
        Error::mechanism("make a directory that the image's configuration names", e.class(), e)
    };
    let root = Root::of(copy).map_err(failed)?;
    for path in directories {
        root.create_dir_all(path, Mode::from_bits_truncate(0o755)).map_err(failed)?;
    }
    Ok(())
}
