// SPDX-License-Identifier: Apache-2.0
//! `volume/image`: images mounted inside as volumes.
//!
//! Their layers come open and held by the container's lease. Acts on the host: what a container may write to gets a
//! writable layer of its own (`volumes/<n>` in the container's directory), which goes with that; what it may not is
//! the layers alone. Either is mounted *detached*, as the root file system is: its last descriptor's end is the unmount.
//! Nothing gains privileges by set-user-id bits of such a tree, and device files in it are only files.

use crate::volumes::target;
use crate::{Settings, text};
use berth_image::overlay::{self, Layers};
use berth_image::{Top, clone_mount};
use berth_launcher::wire::Step;
use berth_launcher::{Container, Error, ImageVolume, Isolator, Phase, Plan, Result};
use berth_model::{Volume, VolumeMode};
use berth_sys::Errno;
use berth_sys::mounts::{Attributes, Reach};
use berth_sys::rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chmodat, chownat, mkdirat, openat};
use berth_sys::rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const NAME: &str = "volume/image";

struct Images;

pub(crate) fn make(_: &Settings) -> Result<Box<dyn Isolator>> {
    Ok(Box::new(Images))
}

impl Isolator for Images {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, container: &Container<'_>, _: &mut Plan) -> Result<()> {
        for volume in volumes(container) {
            let target = target(container, volume)?;
            let exists = || std::path::Path::new("/").join(&target).exists();
            if !container.rootfs.is_own() && volume.container_path.starts_with('/') && !exists() {
                return Err(Error::Invalid(format!(
                    "Mount point '{}' is an absolute path. It must exist if the container shares the host filesystem",
                    volume.container_path
                )));
            }
        }
        Ok(())
    }

    fn isolate(&self, container: &Container<'_>, plan: &mut Plan) -> Result<()> {
        for (number, volume) in volumes(container).enumerate() {
            let target = target(container, volume)?;
            let image = container.image_volumes.get(number);
            let image = image.ok_or_else(|| Error::Unsupported("this container has no images".to_owned()))?;
            let tree = match volume.mode {
                VolumeMode::Ro => read_only(image)?,
                VolumeMode::Rw => {
                    let missing = || Error::Invalid("the container has no directory".to_owned());
                    writable(image, number, container.work.ok_or_else(missing)?)?
                }
            };
            let what = format!("mount image {} at {}", image.name, volume.container_path);
            let tree = plan.descriptor(tree);
            let step = Step::Volume { tree, target: &text(&target)?, file: false.into() };
            plan.step(NAME, Phase::Volumes, step, what);
        }
        Ok(())
    }
}

fn volumes<'a>(container: &'a Container<'_>) -> impl Iterator<Item = &'a Volume> {
    let all = container.config.container_info.iter().flat_map(|info| &info.volumes);
    all.filter(|volume| volume.image.is_some() && volume.host_path.is_none() && volume.source.is_none())
}

fn read_only(image: &ImageVolume) -> Result<OwnedFd> {
    if let [layer] = &image.layers[..] {
        let attributes = Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::RDONLY);
        return clone_mount(layer.as_fd(), Reach::One, attributes)
            .map_err(|(what, e)| Error::io(format!("{what} of image {}", image.name), e));
    }
    let lower = image.layers.iter().map(AsFd::as_fd).collect();
    mount(image, Layers { lower, ..Layers::default() }, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

fn writable(image: &ImageVolume, number: usize, work: BorrowedFd<'_>) -> Result<OwnedFd> {
    let failed = |e| Error::io(format!("make a writable layer over image {}", image.name), e);
    let (upper, scratch) = upper(work, number, image.top).map_err(failed)?;
    let lower = image.layers.iter().map(AsFd::as_fd).collect();
    let upper = Some((upper.as_fd(), scratch.as_fd()));
    mount(image, Layers { lower, upper, volatile: true }, MountAttrFlags::empty())
}

fn mount(image: &ImageVolume, layers: Layers<'_>, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let always = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    overlay::mount(&layers, attributes | always).map_err(|e| {
        Error::mechanism(
            format!("put the layers of image {} together for a volume", image.name),
            e.class(),
            e,
        )
    })
}

fn upper(
    work: BorrowedFd<'_>,
    number: usize,
    top: Option<Top>,
) -> std::result::Result<(OwnedFd, OwnedFd), Errno> {
    let make = |at: BorrowedFd<'_>, name: &str| match mkdirat(at, name, Mode::from_bits_truncate(0o755)) {
        Err(Errno::EXIST) | Ok(()) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(at, name, flags, Mode::empty())
        }
        Err(errno) => Err(errno),
    };
    let volume = make(make(work, "volumes")?.as_fd(), &number.to_string())?;
    let (upper, scratch) = (make(volume.as_fd(), "upper")?, make(volume.as_fd(), "scratch")?);
    if let Some(top) = top {
        let (uid, gid) = (Uid::from_raw(top.uid), Gid::from_raw(top.gid));
        chownat(&volume, "upper", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        chmodat(&volume, "upper", Mode::from_bits_truncate(top.mode & 0o7777), AtFlags::empty())?;
    }
    Ok((upper, scratch))
}
