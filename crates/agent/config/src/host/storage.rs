// SPDX-License-Identifier: Apache-2.0
//! The file systems that work_dir and runtime_dir are on, or will be.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_model::Bytes;
use berth_sys::{Errno, rustix};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::mount::{fsconfig_create, fsconfig_set_fd, fsconfig_set_string, fsmount, fsopen, open_tree};

use super::{Found, Probe, Site, Subject, kernel, nearest, said};

const fn storage(name: &'static str, needed: bool, cost: &'static str, look: fn(&Site) -> Found) -> Probe {
    Probe { subject: Subject::Storage, name, needed, cost, look }
}

pub(super) const PROBES: &[Probe] = &[
    storage("overlay on work_dir", true, "no container from an image or with a layered root", |site| {
        overlay(site, Layers::OneText).into()
    }),
    storage("overlay, layer by layer", false, "images of many layers are given by short names", |site| {
        overlay(site, Layers::Appended).into()
    }),
    storage("overlay by descriptor", false, "layers are given by path", |site| {
        overlay(site, Layers::Descriptors).into()
    }),
    storage(
        "idmapped mounts on work_dir",
        false,
        "files of a root must be changed for a user namespace",
        |site| idmapped(site).into(),
    ),
    storage("space of work_dir", false, "containers fail to write, images to be unpacked", |site| {
        space(&site.work_dir, WORK)
    }),
    storage("space of runtime_dir", false, "no container can be launched", |site| {
        space(&site.runtime_dir, RUNTIME)
    }),
    storage(
        "runtime_dir in memory",
        false,
        "records of a former boot are read at the start, and told by its id",
        |site| in_memory(&site.runtime_dir),
    ),
];

/// Less than this is low.
struct Enough {
    bytes: u64,
    files: u64,
}

const WORK: Enough = Enough { bytes: 1 << 30, files: 10_000 };
const RUNTIME: Enough = Enough { bytes: 16 << 20, files: 1_000 };

/// How the lower layers are named.
#[derive(Clone, Copy)]
enum Layers {
    /// All in one text, at most a page.
    OneText,
    /// Each in a call of its own, any number.
    Appended,
    /// Each by its descriptor.
    Descriptors,
}

/// Directories of this process's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn make(site: &Site) -> Result<Scratch, String> {
        let name = format!(".berth-probe-{}", std::process::id());
        let path = nearest(&site.work_dir).join(name);
        fs::create_dir(&path).map_err(|error| format!("make {}: {error}", path.display()))?;
        let scratch = Scratch(path);
        for name in ["lower", "lower2", "upper", "work"] {
            let path = scratch.0.join(name);
            fs::create_dir(&path).map_err(|error| format!("make {}: {error}", path.display()))?;
        }
        Ok(scratch)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn open(&self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(CWD, self.0.join(name), flags, Mode::empty())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An overlay is made and not mounted anywhere: it goes with its descriptor, before its directories.
fn overlay(site: &Site, layers: Layers) -> Result<String, String> {
    let scratch = Scratch::make(site)?;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(said("fsopen overlay"))?;
    let set =
        |key: &str, value: &str| fsconfig_set_string(&context, key, value).map_err(|e| format!("{key}: {e}"));
    match layers {
        Layers::OneText => {
            set("lowerdir", &format!("{}:{}", scratch.path("lower"), scratch.path("lower2")))?;
        }
        Layers::Appended => {
            set("lowerdir+", &scratch.path("lower"))?;
            set("lowerdir+", &scratch.path("lower2"))?;
        }
        Layers::Descriptors => {
            for name in ["lower", "lower2"] {
                let fd = scratch.open(name).map_err(said("open a layer"))?;
                fsconfig_set_fd(&context, "lowerdir+", fd.as_fd()).map_err(said("lowerdir+"))?;
            }
        }
    }
    set("upperdir", &scratch.path("upper"))?;
    set("workdir", &scratch.path("work"))?;
    fsconfig_create(&context).map_err(said("make it"))?;
    let mount =
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(said("fsmount"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(&mount, "file", flags, Mode::RUSR).map_err(said("make a file in it"))?;
    Ok(match layers {
        Layers::OneText => format!("made on {}", kind_of(nearest(&site.work_dir))),
        Layers::Appended => "any number of layers".to_owned(),
        Layers::Descriptors => "layers that no path names".to_owned(),
    })
}

fn idmapped(site: &Site) -> Result<String, String> {
    let place = nearest(&site.work_dir);
    let (_sleeper, users) = kernel::mapped_users()?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount =
        open_tree(CWD, place, flags).map_err(|errno| format!("open_tree {}: {errno}", place.display()))?;
    berth_sys::mounts::set_id_map(mount.as_fd(), users.as_fd())
        .map_err(|errno| format!("mount_setattr: {errno}"))?;
    Ok(format!("made on {}", kind_of(place)))
}

fn space(path: &Path, enough: Enough) -> Found {
    let place = nearest(path);
    let stat = match rustix::fs::statvfs(place) {
        Ok(stat) => stat,
        Err(errno) => return Found::Missing(format!("statvfs {}: {errno}", place.display())),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let of = stat.f_blocks.saturating_mul(stat.f_frsize);
    // Some file systems make inodes as they are needed, and count none.
    let files = (stat.f_files > 0).then_some(stat.f_favail);
    let count = files.map_or_else(|| "any number of files".to_owned(), |files| format!("{files} files"));
    let (free_text, of_text) = (rounded(free), rounded(of));
    let text = format!("{free_text} of {of_text} and {count} on {} at {}", kind_of(place), place.display());
    if free < enough.bytes || files.is_some_and(|files| files < enough.files) {
        Found::Low(text)
    } else {
        Found::There(text)
    }
}

/// In the largest unit of which there is one, as people read it.
fn rounded(bytes: u64) -> String {
    let shift = [40, 30, 20, 10].into_iter().find(|shift| bytes >> shift > 0).unwrap_or(0);
    Bytes(bytes >> shift << shift).to_string()
}

fn in_memory(path: &Path) -> Found {
    match kind_of(nearest(path)).as_str() {
        "tmpfs" => Found::there("it is on tmpfs"),
        other => Found::Missing(format!("{} is on {other}", nearest(path).display())),
    }
}

/// The name of a file system, by its magic number (statfs(2), linux/magic.h).
fn kind_of(path: &Path) -> String {
    match rustix::fs::statfs(path).map(|stat| stat.f_type as u64) {
        Ok(0x0102_1994) => "tmpfs".to_owned(),
        Ok(0xef53) => "ext4".to_owned(),
        Ok(0x5846_5342) => "xfs".to_owned(),
        Ok(0x9123_683e) => "btrfs".to_owned(),
        Ok(0x794c_7630) => "overlay".to_owned(),
        Ok(0x6969) => "nfs".to_owned(),
        Ok(0x2fc1_2fc1) => "zfs".to_owned(),
        Ok(0xf2f5_2010) => "f2fs".to_owned(),
        Ok(0x0186_6170 | 0x0102_1997) => "9p".to_owned(),
        Ok(other) => format!("a file system of type {other:#x}"),
        Err(errno) => format!("a file system that can not be asked ({errno})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_to_their_unit() {
        assert_eq!(rounded(0), "0B");
        assert_eq!(rounded(1023), "1023B");
        assert_eq!(rounded((5 << 30) + 12345), "5GB");
        assert_eq!(rounded(3 << 20), "3MB");
    }
}
