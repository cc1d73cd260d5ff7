// SPDX-License-Identifier: Apache-2.0
//! Layers of images: what they delete, what they take from below, and what they can not be used for.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use berth_image::{Layer, LayerOptions, Root, UnpackError, unpack_layer};
use berth_model::Class;
use berth_model::image::Algorithm;
use flate2::{Compression, write::GzEncoder};

use crate::archives::{Entry, Tar, Yard, chain, is_root, options};

/// Unpacks a layer on top of the tree at `below`; the number says how often that was asked for.
fn layer(yard: &Yard, tar: &[u8], below: Option<&Path>) -> (Result<Layer, UnpackError>, u32) {
    let asked = AtomicU32::new(0);
    let lower = || {
        asked.fetch_add(1, SeqCst);
        Ok(below.map(|path| Root::at(path).unwrap()))
    };
    let how = LayerOptions {
        lower: &lower,
        blob: Algorithm::Sha256,
        content: Algorithm::Sha256,
        umask_is_zero: false,
        tree: None,
        failed: &|| {},
    };
    let unpacked = unpack_layer(tar, &yard.path("target"), &options(), &how, &mut |_| {});
    yard.check(unpacked.is_err());
    (unpacked, asked.load(SeqCst))
}

/// Unpacks what an archive has below `rootfs`.
fn within(yard: &Yard, tar: &[u8]) -> Result<Layer, UnpackError> {
    let how = LayerOptions {
        lower: &|| Ok(None),
        blob: Algorithm::Sha256,
        content: Algorithm::Sha512,
        umask_is_zero: false,
        tree: Some("rootfs"),
        failed: &|| {},
    };
    let unpacked = unpack_layer(tar, &yard.path("target"), &options(), &how, &mut |_| {});
    yard.check(unpacked.is_err());
    unpacked
}

#[test]
fn of_an_archive_with_its_tree_in_a_directory_only_that_is_unpacked() {
    let yard = Yard::new();
    let tar = Tar::new()
        .file("manifest", "{}")
        .dir("rootfs", 0o750)
        .dir("rootfs/a", 0o700)
        .file("./rootfs/a/f", "x")
        .hard_link("rootfs/h", "rootfs/a/f")
        .symlink("rootfs/l", "/a/f")
        .file("rootfs2/beside", "no")
        .file("beside", "no")
        .end();
    let made = within(&yard, &tar).unwrap();
    assert_eq!(made.top.unwrap().mode, 0o750);
    assert_eq!(made.content, berth_image::digest_of(Algorithm::Sha512, &tar));
    assert_eq!((yard.read("a/f"), yard.read("h")), ("x".into(), "x".into()));
    assert_eq!(fs::read_link(yard.rootfs().join("l")).unwrap(), Path::new("/a/f"));
    assert_eq!(fs::read_dir(yard.rootfs()).unwrap().count(), 3);
}

#[test]
fn nothing_leads_out_of_the_directory_that_is_the_tree() {
    for (tar, word) in [
        (Tar::new().file("rootfs/../x", "x"), ".."),
        (Tar::new().file("secret", "x").hard_link("rootfs/h", "secret"), "leads out"),
        (Tar::new().hard_link("rootfs/h", "rootfs"), ""),
        (Tar::new().file("rootfs", "x"), "something else"),
        (Tar::new().symlink("rootfs", "/etc"), "something else"),
        (
            Tar::new().dir("rootfs", 0o755).symlink("rootfs", "/etc").file("rootfs/passwd", "x"),
            "something else",
        ),
        (Tar::new().file("../beside", "x").dir("rootfs", 0o755), ".."),
    ] {
        let error = within(&Yard::new(), &tar.end()).unwrap_err();
        assert!(chain(&error).contains(word), "{}", chain(&error));
    }
}

fn is_mark(yard: &Yard, name: &str) -> bool {
    fs::symlink_metadata(yard.rootfs().join(name))
        .is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

fn is_opaque(yard: &Yard, name: &str) -> bool {
    let mut value = [0; 8];
    let path = yard.rootfs().join(name);
    rustix::fs::lgetxattr(&path, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|n| &value[..n] == b"y")
}

/// A tree to lie below, and the test's reason not to run.
fn below() -> Option<tempfile::TempDir> {
    if !is_root() {
        eprintln!("skipped: overlayfs's marks can be made by root only");
        return None;
    }
    let below = tempfile::Builder::new().prefix("berth-below-").tempdir().unwrap();
    let at = |name: &str| below.path().join(name);
    for dir in ["usr/lib", "etc", "d/e"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    for file in ["usr/lib/so", "etc/passwd", "d/e/f", "file"] {
        fs::write(at(file), file).unwrap();
    }
    std::os::unix::fs::symlink("usr/lib", at("lib")).unwrap();
    std::os::unix::fs::symlink("/lib", at("lib64")).unwrap();
    std::os::unix::fs::chown(at("etc"), Some(7), Some(8)).unwrap();
    rustix::fs::chmod(at("etc"), rustix::fs::Mode::from_raw_mode(0o2750)).unwrap();
    Some(below)
}

#[test]
fn a_layer_that_needs_nothing_from_below_never_asks() {
    if below().is_none() {
        return;
    }
    let tar = Tar::new()
        .dir("./", 0o755)
        .dir("a", 0o700)
        .file("a/f", "x")
        .symlink("a/l", "f")
        .hard_link("h", "a/f");
    let tar = tar.hard_link("hl", "a/l").end();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let yard = Yard::new();
    let (made, asked) = layer(&yard, &gzip, None);
    let made = made.unwrap();
    assert_eq!((made.bound, asked, made.top.unwrap().mode), (false, 0, 0o755));
    assert_eq!(made.blob, berth_image::digest_of(Algorithm::Sha256, &gzip));
    assert_eq!(made.content, berth_image::digest_of(Algorithm::Sha256, &tar));
    assert_eq!((made.blob_size, made.content_size), (gzip.len() as u64, tar.len() as u64));
    assert_eq!(fs::read_link(yard.rootfs().join("hl")).unwrap(), Path::new("f"));
}

#[test]
fn marks_become_overlayfss_where_they_hide_something() {
    let Some(below) = below() else { return };
    let yard = Yard::new();
    let tar = Tar::new()
        .dir("etc", 0o755)
        .file("etc/.wh.passwd", "")
        .file("etc/.wh.nothing", "")
        .file("gone/.wh.x", "")
        .dir("d", 0o755)
        .file("d/.wh..wh..opq", "")
        .file("d/new", "")
        .file(".wh..wh.aufs", "")
        .end();
    let (made, _) = layer(&yard, &tar, Some(below.path()));
    assert!(made.unwrap().bound);
    assert!(is_mark(&yard, "etc/passwd") && is_opaque(&yard, "d") && yard.exists("d/new"));
    for absent in ["etc/nothing", "gone", "d/.wh..wh..opq", "etc/.wh.passwd", ".wh..wh.aufs"] {
        assert!(!yard.exists(absent), "{absent}");
    }
    let yard = Yard::new();
    let (made, _) = layer(&yard, &tar, None);
    assert!(!made.unwrap().bound, "there is nothing that it could be bound to");
    assert!(!yard.exists("etc/passwd"), "a mark in the lowest layer would show in listings");
}

#[test]
fn a_mark_never_hides_what_its_own_layer_has() {
    let Some(below) = below() else { return };
    for (first, then) in [(".wh.file", "file"), ("file", ".wh.file")] {
        let yard = Yard::new();
        layer(&yard, &Tar::new().file(first, "new").file(then, "new").end(), Some(below.path())).0.unwrap();
        assert_eq!(yard.read("file"), "new");
    }
    let mark_first = Tar::new().file(".wh.d", "").dir("d", 0o755).file("d/x", "");
    let mark_last = Tar::new().dir("d", 0o755).file("d/x", "").file(".wh.d", "");
    let unlisted = Tar::new().file(".wh.d", "").file("d/x", "");
    for tar in [mark_first, mark_last, unlisted] {
        let yard = Yard::new();
        layer(&yard, &tar.end(), Some(below.path())).0.unwrap();
        assert!(is_opaque(&yard, "d") && yard.exists("d/x"));
    }
}

#[test]
fn what_a_layer_does_not_list_is_as_it_is_below() {
    let Some(below) = below() else { return };
    let yard = Yard::new();
    let tar = Tar::new().file("etc/new", "").file("lib/a", "").file("lib64/b", "").file("x/y/z", "").end();
    let (made, asked) = layer(&yard, &tar, Some(below.path()));
    assert!(made.unwrap().bound && asked == 1);
    let etc = fs::metadata(yard.rootfs().join("etc")).unwrap();
    assert_eq!((etc.mode() & 0o7777, etc.uid(), etc.gid()), (0o2750, 7, 8));
    assert!(yard.exists("usr/lib/a") && yard.exists("usr/lib/b") && yard.exists("x/y/z"));
    assert_eq!(fs::read_link(yard.rootfs().join("lib64")).unwrap(), Path::new("/lib"));
}

#[test]
fn a_hard_link_to_a_file_below_takes_it_up() {
    let Some(below) = below() else { return };
    let yard = Yard::new();
    layer(&yard, &Tar::new().hard_link("so", "lib/so").end(), Some(below.path())).0.unwrap();
    let inode = |name: &str| fs::metadata(yard.rootfs().join(name)).unwrap().ino();
    assert_eq!(inode("so"), inode("usr/lib/so"));
    assert_eq!(yard.read("so"), "usr/lib/so");
    let hidden = Tar::new().file("usr/lib/.wh.so", "").hard_link("so", "usr/lib/so").end();
    for tar in [hidden, Tar::new().hard_link("l", "d").end(), Tar::new().hard_link("l", "nowhere/f").end()] {
        let error = layer(&Yard::new(), &tar, Some(below.path())).0.unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{error}");
    }
}

#[test]
fn whiteout_tricks_are_refused_or_mean_nothing() {
    let Some(below) = below() else { return };
    let canary = "../../canary";
    for tar in [
        Tar::new().file(".wh.", ""),
        Tar::new().file(".wh..", ""),
        Tar::new().file(".wh...", ""),
        Tar::new().file(format!(".wh.{canary}"), ""),
        Tar::new().dir(".wh.d", 0o755),
        Tar::new().symlink(".wh.d", "/"),
        Tar::new().file(".wh.d/x", ""),
        Tar::new().file("d/.wh.e/.wh.f", ""),
        Tar::new()
            .symlink("l", canary)
            .file("l/.wh.secret", "")
            .file("l/.wh..wh..opq", "")
            .file("l/x", "")
            .file("f", "")
            .file("f/x", ""),
    ] {
        let yard = Yard::new();
        let error = layer(&yard, &tar.end(), Some(below.path())).0.unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{error}");
    }
    // Attributes that steer overlayfs are dropped, and a device 0:0 is no device.
    let yard = Yard::new();
    let steer: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.kept", b"y"),
    ];
    let (made, _) = layer(&yard, &Tar::new().pax(steer).dir("d", 0o755).end(), Some(below.path()));
    assert_eq!(made.unwrap().dropped_xattrs, 3);
    assert!(!is_opaque(&yard, "d"));
    let yard = Yard::new();
    let (made, _) = layer(&yard, &Tar::new().add(&Entry::new(b'3', "etc/passwd")).end(), Some(below.path()));
    assert_eq!(made.unwrap().skipped_devices, 1);
    assert!(!yard.exists("etc/passwd"));
}

#[test]
fn links_below_lead_nowhere_but_into_the_tree() {
    let Some(below) = below() else { return };
    let yard = Yard::new();
    std::os::unix::fs::symlink(yard.canary(), below.path().join("out")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc", below.path().join("up")).unwrap();
    std::os::unix::fs::symlink("loop", below.path().join("loop")).unwrap();
    let tar = Tar::new().file("out/secret", "mine").file("up/passwd", "mine").end();
    layer(&yard, &tar, Some(below.path())).0.unwrap();
    assert_eq!(yard.read("etc/passwd"), "mine");
    assert_eq!(yard.read(&format!("{}/secret", &yard.canary()[1..])), "mine");
    let error = layer(&Yard::new(), &Tar::new().file("loop/x", "").end(), Some(below.path())).0.unwrap_err();
    assert!(chain(&error).contains("loop"), "{error}");
}

#[test]
fn a_layer_may_end_behind_the_data_of_its_last_file_and_nowhere_else() {
    if below().is_none() {
        return;
    }
    let whole = Tar::new().file("a", "first").file("b", "last").end();
    // Two entries of two blocks each; the data of the second begins in the fourth.
    for (length, good) in [
        (1536 + 4, true),
        (2048, true),
        (1024, true),
        (512 + 5, true),
        (1536 + 3, false),
        (1500, false),
        (511, false),
    ] {
        let yard = Yard::new();
        let (made, _) = layer(&yard, &whole[..length], None);
        assert_eq!(made.is_ok(), good, "{length}: {made:?}");
        assert!(!good || yard.read("a") == "first");
        Yard::new().refusal(&whole[..length]);
    }
}

#[test]
fn a_broken_blob_fails_as_a_whole_archive_does() {
    if below().is_none() {
        return;
    }
    for (blob, class) in [
        (&b""[..], Class::Invalid),
        (b"BZh9xxxxxxxxx", Class::Invalid),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0xx", Class::Invalid),
    ] {
        let error = layer(&Yard::new(), blob, None).0.unwrap_err();
        assert_eq!(error.class(), class, "{error}");
    }
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the line is dead"))
        }
    }
    let how = LayerOptions {
        lower: &|| Ok(None),
        blob: Algorithm::Sha256,
        content: Algorithm::Sha256,
        umask_is_zero: false,
        tree: None,
        failed: &|| {},
    };
    let yard = Yard::new();
    let error = unpack_layer(Failing, &yard.path("target"), &options(), &how, &mut |_| {}).unwrap_err();
    yard.check(true);
    assert!(chain(&error).contains("the line is dead"), "{}", chain(&error));
}
