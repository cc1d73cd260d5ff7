// SPDX-License-Identifier: Apache-2.0
//! Removing trees that resist.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_image::{Removal, Root, remove_tree};
use berth_model::Class;
use rustix::fs::{Mode, OFlags};

use crate::archives::{Yard, is_root};

fn remove(dir: &Path, name: &str) -> Removal {
    remove_tree(open(dir).as_fd(), OsStr::new(name))
}

fn open(dir: &Path) -> OwnedFd {
    rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn a_tree_goes_with_all_kinds_of_entries_and_links_are_not_followed() {
    let yard = Yard::new();
    let tree = yard.path("target");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::write(tree.join("a/file"), "x").unwrap();
    std::os::unix::fs::symlink(yard.canary(), tree.join("a/canary")).unwrap();
    std::os::unix::fs::symlink(yard.canary() + "/secret", tree.join("secret")).unwrap();
    fs::hard_link(tree.join("a/file"), tree.join("a/b/hard")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, tree.join("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
        .unwrap();
    let socket = std::os::unix::net::UnixListener::bind(tree.join("sock")).unwrap();
    let removal = remove(tree.parent().unwrap(), "target");
    drop(socket);
    assert!(removal.is_complete(), "{removal:?}");
    assert_eq!(removal.removed, 10);
    yard.check(true);
}

#[test]
fn a_link_in_place_of_the_tree_goes_and_its_target_stays() {
    let yard = Yard::new();
    std::os::unix::fs::symlink(yard.canary(), yard.path("target")).unwrap();
    assert_eq!(remove(&yard.path(""), "target").removed, 1);
    yard.check(true);
}

#[test]
fn what_is_not_there_is_removed_already() {
    let yard = Yard::new();
    let removal = remove(&yard.path(""), "target");
    assert!(removal.is_complete() && removal.removed == 0);
}

#[test]
fn names_that_are_not_one_component_are_refused() {
    let yard = Yard::new();
    for name in ["", ".", "..", "a/b", "/", "canary/secret", "../x"] {
        let removal = remove(&yard.path("canary"), name);
        assert_eq!(removal.failures[0].class(), Class::Invalid);
    }
    yard.check(true);
}

#[test]
fn a_tree_4096_deep_goes_and_so_does_one_with_many_entries() {
    let dir = tempfile::tempdir().unwrap();
    let mut here = open(dir.path());
    for depth in 0..4096 {
        rustix::fs::mkdirat(&here, "deep", Mode::RWXU).unwrap();
        if depth % 500 == 0 {
            rustix::fs::mkdirat(&here, "beside", Mode::RWXU).unwrap();
        }
        here = rustix::fs::openat(&here, "deep", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(here);
    let removal = remove(dir.path(), "deep");
    assert!(removal.is_complete(), "{removal:?}");
    assert_eq!(removal.removed, 4096 + 8, "all levels, and those beside all but the first");

    let wide = dir.path().join("wide");
    for n in 0..300 {
        fs::create_dir_all(wide.join(format!("{n}/x"))).unwrap();
        fs::write(wide.join(format!("{n}-file")), "").unwrap();
    }
    let removal = remove(dir.path(), "wide");
    assert!(removal.is_complete(), "{removal:?}");
    assert_eq!(removal.removed, 901);
}

/// Unmounts and lets go of the immutable flag, however the test ends.
struct Undo<F: FnMut()>(F);
impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_mount_on_the_way_is_not_crossed_and_the_rest_goes() {
    if !is_root() {
        println!("skipped: mounting needs root");
        return;
    }
    let yard = Yard::new();
    let tree = yard.path("target");
    fs::create_dir_all(tree.join("a/mount")).unwrap();
    fs::create_dir_all(tree.join("a/other")).unwrap();
    fs::write(tree.join("file"), "").unwrap();
    fs::write(tree.join("z"), "").unwrap();
    // Of the same filesystem, so that device numbers would not tell.
    let unmount = |path: &Path| {
        let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
    };
    if let Err(errno) = rustix::mount::mount_bind(yard.path("canary"), tree.join("a/mount")) {
        println!("skipped: bind mounts are not possible here: {errno}");
        return;
    }
    let _undo = Undo(|| unmount(&tree.join("a/mount")));
    rustix::mount::mount_bind(yard.path("canary/secret"), tree.join("file")).unwrap();
    let _undo_file = Undo(|| unmount(&tree.join("file")));

    let removal = remove(&yard.path(""), "target");
    assert_eq!(removal.failures.len(), 2, "{removal:?}");
    for failure in &removal.failures {
        assert_eq!(failure.class(), Class::Conflict, "{failure}");
        assert!(["target/file", "target/a/mount"].contains(&failure.path.to_str().unwrap()));
    }
    assert!(!tree.join("a/other").exists() && !tree.join("z").exists());
    assert!(yard.path("canary/secret").exists());
    drop((_undo, _undo_file));
    assert!(remove(&yard.path(""), "target").is_complete());
    yard.check(true);
}

#[test]
fn what_can_not_be_removed_is_listed_and_the_rest_goes() {
    if !is_root() {
        println!("skipped: the immutable flag needs root");
        return;
    }
    let yard = Yard::new();
    let tree = yard.path("target");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/b/stays"), "").unwrap();
    fs::write(tree.join("a/b/goes"), "").unwrap();
    fs::write(tree.join("c"), "").unwrap();
    let file = fs::File::open(tree.join("a/b/stays")).unwrap();
    let set = |on: bool| {
        let flags = rustix::fs::ioctl_getflags(&file)?;
        let immutable = rustix::fs::IFlags::IMMUTABLE;
        rustix::fs::ioctl_setflags(&file, if on { flags | immutable } else { flags - immutable })
    };
    if let Err(errno) = set(true) {
        println!("skipped: this filesystem has no immutable flag: {errno}");
        return;
    }
    let _undo = Undo(|| {
        let _ = set(false);
    });
    let removal = remove(&yard.path(""), "target");
    assert_eq!(removal.failures.len(), 1, "{removal:?}");
    assert_eq!(removal.failures[0].path, Path::new("target/a/b/stays"));
    assert_eq!(removal.removed, 2);
    drop(_undo);
    assert!(remove(&yard.path(""), "target").is_complete());
}

#[test]
fn a_directory_moved_away_while_it_is_emptied_does_not_lead_out() {
    for _ in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("tree/a/moved"), dir.path().join("outside"));
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret"), "").unwrap();
        for n in 0..60 {
            fs::create_dir_all(inside.join(format!("{n}/x/y"))).unwrap();
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| remove(dir.path(), "tree"));
            // The remover is in there as soon as something is missing.
            while fs::read_dir(&inside).is_ok_and(|entries| entries.count() == 60) {
                assert!(std::time::Instant::now() < deadline, "nothing was removed");
            }
            let _ = fs::rename(&inside, outside.join("moved"));
            remover.join().unwrap();
        });
        assert!(outside.join("secret").exists(), "it went on outside of the tree");
    }
}

#[test]
fn directories_without_permissions_go_too() {
    let dir = tempfile::tempdir().unwrap();
    let shut = |path: &str, mode: u32| {
        fs::set_permissions(dir.path().join(path), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
    };
    fs::create_dir_all(dir.path().join("tree/none/deep")).unwrap();
    fs::create_dir_all(dir.path().join("tree/read/deep")).unwrap();
    fs::write(dir.path().join("tree/read/file"), "").unwrap();
    for (path, mode) in
        [("tree/none/deep", 0), ("tree/none", 0), ("tree/read/deep", 0o555), ("tree/read", 0o555)]
    {
        shut(path, mode);
    }
    shut("tree", 0o500);
    if is_root() {
        println!("not checked: permissions do not stop root");
    }
    let removal = remove(dir.path(), "tree");
    assert!(removal.is_complete(), "{removal:?}");
    assert_eq!(removal.removed, 6);
}

#[test]
fn a_root_removes_below_itself_only() {
    let yard = Yard::new();
    fs::create_dir_all(yard.path("target/a/b")).unwrap();
    std::os::unix::fs::symlink(yard.canary(), yard.path("target/out")).unwrap();
    let root = Root::at(&yard.path("target")).unwrap();
    root.remove_tree("..").unwrap_err();
    root.remove_tree("/").unwrap_err();
    assert_eq!(root.remove_tree("out/secret").unwrap().removed, 0);
    assert_eq!(root.remove_tree("/a").unwrap().removed, 2);
    assert_eq!(root.remove_tree("out").unwrap().removed, 1);
    fs::remove_dir(yard.path("target")).unwrap();
    yard.check(true);
}
