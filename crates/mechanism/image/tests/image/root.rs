// SPDX-License-Identifier: Apache-2.0
//! Paths in a hostile tree.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use berth_image::{Root, RootError};
use berth_model::Class;
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};

use crate::archives::{Yard, is_root};

fn tree() -> (Yard, Root) {
    let yard = Yard::new();
    fs::create_dir_all(yard.path("target/etc")).unwrap();
    fs::write(yard.path("target/etc/file"), "inside").unwrap();
    let root = Root::at(&yard.path("target")).unwrap();
    (yard, root)
}

#[test]
fn links_lead_nowhere_but_into_the_tree() {
    let (yard, root) = tree();
    let at = |name: &str| yard.path("target").join(name);
    symlink("/etc/file", at("abs")).unwrap();
    symlink("../../../../etc/file", at("climb")).unwrap();
    symlink(yard.canary() + "/secret", at("out")).unwrap();
    symlink("../canary/secret", at("rel")).unwrap();
    symlink("/proc/self/root", at("magic")).unwrap();
    symlink("loop", at("loop")).unwrap();
    for good in ["etc/file", "/etc/file", "abs", "climb", "../../etc/file", "etc/../etc/./file"] {
        assert_eq!(root.read_regular(good, 100).unwrap(), b"inside", "{good}");
    }
    for bad in ["out", "rel", "magic", "../canary/secret", "missing"] {
        assert_eq!(root.read_regular(bad, 100).unwrap_err().class(), Class::NotFound, "{bad}");
    }
    assert_eq!(root.read_regular("loop", 100).unwrap_err().class(), Class::Denied);
    assert_eq!(FileType::from_raw_mode(root.stat("abs").unwrap().st_mode), FileType::Symlink);
    root.open("abs", OFlags::RDONLY).unwrap();
    root.open("abs", OFlags::RDONLY | OFlags::NOFOLLOW).unwrap_err();
}

#[test]
fn magic_links_of_a_real_proc_are_not_followed() {
    let root = Root::at(std::path::Path::new("/")).unwrap();
    let error = root.open_dir("proc/self/root").unwrap_err();
    assert_eq!(error.class(), Class::Denied, "{error}");
    root.open_dir("proc/self").unwrap();
}

#[test]
fn cve_2024_9676_fifos_devices_and_directories_are_not_opened_as_files() {
    let (yard, root) = tree();
    rustix::fs::mknodat(CWD, yard.path("target/fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    symlink("fifo", yard.path("target/to-fifo")).unwrap();
    for name in ["fifo", "to-fifo", "etc"] {
        let error = root.open_regular(name, 100).unwrap_err();
        assert!(matches!(error, RootError::Kind { .. }), "{error}");
        assert_eq!(error.class(), Class::Invalid);
    }
    if is_root() {
        let zero = rustix::fs::makedev(1, 5);
        rustix::fs::mknodat(CWD, yard.path("target/zero"), FileType::CharacterDevice, Mode::RUSR, zero)
            .unwrap();
        assert!(matches!(root.open_regular("zero", 100), Err(RootError::Kind { .. })));
    } else {
        println!("not checked: devices need root");
    }
}

#[test]
fn a_file_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let (_yard, root) = tree();
    assert!(matches!(root.open_regular("etc/file", 5), Err(RootError::TooLarge { max: 5, .. })));
    let mut text = String::new();
    root.open_regular("etc/file", 6).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "inside");
}

#[test]
fn directories_are_made_inside_and_with_the_mode_asked_for() {
    let (yard, root) = tree();
    symlink(yard.canary(), yard.path("target/out")).unwrap();
    symlink("/etc", yard.path("target/link")).unwrap();
    root.create_dir_all("link/a/b", Mode::from_raw_mode(0o1777)).unwrap();
    assert_eq!(fs::metadata(yard.path("target/etc/a/b")).unwrap().mode() & 0o7777, 0o1777);
    root.create_dir_all("/etc/a/b", Mode::RWXU).unwrap();
    root.create_dir_all("", Mode::RWXU).unwrap();
    root.create_dir_all("../evil", Mode::RWXU).unwrap_err();
    root.create_dir_all("out/evil", Mode::RWXU).unwrap_err();
    root.create_dir_all("etc/file/x", Mode::RWXU).unwrap_err();
    assert!(!yard.path("evil").exists() && !yard.path("canary/evil").exists());
}

#[test]
fn files_are_made_new_and_not_through_links() {
    let (yard, root) = tree();
    symlink(yard.canary() + "/new", yard.path("target/new")).unwrap();
    symlink(yard.canary(), yard.path("target/out")).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    root.create_file("etc/made", mode).unwrap().write_all(b"x").unwrap();
    assert_eq!(fs::metadata(yard.path("target/etc/made")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(root.create_file("etc/made", mode).unwrap_err().class(), Class::Conflict);
    root.create_file("new", mode).unwrap_err();
    root.create_file("out/new", mode).unwrap_err();
    root.create_file("", mode).unwrap_err();
    root.open("etc/other", OFlags::CREATE | OFlags::WRONLY).unwrap_err();
    root.open("etc", OFlags::TMPFILE | OFlags::WRONLY).unwrap_err();
    root.open("etc", OFlags::DIRECTORY).unwrap();
    assert!(!yard.path("canary/new").exists());
}

#[test]
fn a_root_is_the_directory_and_not_its_name() {
    let (yard, root) = tree();
    fs::rename(yard.path("target"), yard.path("moved")).unwrap();
    symlink(yard.canary(), yard.path("target")).unwrap();
    assert_eq!(root.read_regular("etc/file", 10).unwrap(), b"inside");
    root.read_regular("secret", 10).unwrap_err();
    assert!(Root::of(fs::File::open(yard.path("moved/etc/file")).unwrap().into()).is_err());
}

#[test]
fn cve_2021_30465_a_directory_that_flips_with_a_link_never_leads_out() {
    let (yard, root) = tree();
    fs::create_dir(yard.path("target/dir")).unwrap();
    fs::write(yard.path("target/dir/secret"), "decoy").unwrap();
    symlink(yard.canary(), yard.path("target/flip")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (dir, flip) = (yard.path("target/dir"), yard.path("target/flip"));
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &dir, CWD, &flip, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let (mut hits, mut wrong) = (0, None);
        for _ in 0..20_000 {
            match root.read_regular("dir/secret", 100) {
                Ok(content) if content == b"decoy" => hits += 1,
                Ok(content) => wrong = Some(content),
                Err(_) => {}
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None, "a file outside of the root was read");
        assert!(hits > 0, "the harmless reading never worked");
    });
}
