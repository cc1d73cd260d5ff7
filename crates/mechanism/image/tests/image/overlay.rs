// SPDX-License-Identifier: Apache-2.0
//! Many layers on top of one another, in every way that a kernel may know.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_image::Root;
use berth_image::overlay::{Layers, Way, mount, mount_by};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use crate::archives::is_root;

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Directories with a file of their own number each, and one that all have.
fn layers(at: &Path, count: usize) -> Vec<OwnedFd> {
    let make = |number: usize| {
        let dir = at.join(format!("a layer, with: all=that,matters:{number}"));
        fs::create_dir_all(dir.join("d")).unwrap();
        fs::write(dir.join(format!("d/{number}")), "").unwrap();
        fs::write(dir.join("d/all"), number.to_string()).unwrap();
        open(&dir)
    };
    (0..count).map(make).collect()
}

#[test]
fn any_number_of_layers_is_mounted_in_each_way() {
    if !is_root() {
        eprintln!("skipped: overlays can be mounted by root only");
        return;
    }
    let dir = tempfile::Builder::new().prefix("berth-overlay-").tempdir().unwrap();
    let all = layers(dir.path(), 500);
    // Others may mount overlays meanwhile: ours have layers of this directory, by their names or by descriptors.
    let own = dir.path().file_name().unwrap().to_str().unwrap();
    let mounts = || {
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let overlays = all.lines().filter(|line| line.contains("overlay"));
        overlays.filter(|line| line.contains(own) || line.contains("/proc/")).count()
    };
    let before = mounts();
    for way in [Some(Way::Descriptors), Some(Way::Names), Some(Way::Page), None] {
        for count in [1, 2, 130, 499] {
            let place = dir.path().join(format!("{way:?}-{count}"));
            for name in ["upper", "work"] {
                fs::create_dir_all(place.join(name)).unwrap();
            }
            let (upper, work) = (open(&place.join("upper")), open(&place.join("work")));
            let lower = all[..count].iter().rev().map(AsFd::as_fd).collect();
            let layers = Layers { lower, upper: Some((upper.as_fd(), work.as_fd())), volatile: true };
            let nodev = MountAttrFlags::MOUNT_ATTR_NODEV;
            let mounted = match way {
                Some(way) => mount_by(way, &layers, nodev),
                None => mount(&layers, nodev),
            };
            let mounted = match mounted {
                Err(error)
                    if [Some(Way::Descriptors), Some(Way::Names)].contains(&way)
                        && error.class() == berth_model::Class::Unsupported =>
                {
                    eprintln!("skipped {way:?}: {error}");
                    continue;
                }
                mounted => mounted.unwrap(),
            };
            let root = Root::of(mounted).unwrap();
            assert_eq!(root.read_regular("d/all", 10).unwrap(), (count - 1).to_string().as_bytes());
            for number in 0..count {
                root.stat(format!("d/{number}")).unwrap();
            }
            root.create_file("d/new", Mode::RUSR).unwrap();
            assert!(place.join("upper/d/new").exists());
            let flags = rustix::fs::fstatvfs(&root).unwrap().f_flag;
            assert!(flags.contains(rustix::fs::StatVfsMountFlags::NODEV), "{way:?}");
        }
    }
    // Without an upper directory it is for looking only.
    for way in [None, Some(Way::Page)] {
        let lower = all[..3].iter().rev().map(AsFd::as_fd).collect();
        let layers = Layers { lower, ..Layers::default() };
        let read_only = match way {
            Some(way) => mount_by(way, &layers, MountAttrFlags::empty()),
            None => mount(&layers, MountAttrFlags::empty()),
        };
        let read_only = read_only.unwrap();
        let root = Root::of(read_only).unwrap();
        assert_eq!(root.read_regular("d/all", 10).unwrap(), b"2");
        root.create_file("d/new", Mode::RUSR).unwrap_err();
    }
    assert_eq!(mounts(), before, "a mount shows on the host");
}

#[test]
fn what_can_not_be_mounted_is_said_with_the_kernels_words() {
    if !is_root() {
        eprintln!("skipped: overlays can be mounted by root only");
        return;
    }
    let error = mount(&Layers::default(), MountAttrFlags::empty()).unwrap_err();
    assert!(error.to_string().contains("overlay of 0 layers"), "{error}");
}
