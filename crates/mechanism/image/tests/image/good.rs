// SPDX-License-Identifier: Apache-2.0
//! What honest archives hold comes out as it went in.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use berth_image::{Compression, Options, Owners, Progress, unpack_from};

use crate::archives::{Entry, Tar, Yard, is_root, options, seal};

#[test]
fn a_small_root_filesystem_keeps_modes_owners_times_and_links() {
    let yard = Yard::new();
    let tar = Tar::new()
        .add(&Entry { mode: 0o751, mtime: 5, ..Entry::new(b'5', "./") })
        .dir("./usr/", 0o755)
        .add(&Entry { mode: 0o2755, mtime: 7, gid: 50, ..Entry::new(b'5', "./usr/bin/") })
        .symlink("./bin", "usr/bin")
        .add(&Entry { mode: 0o4755, mtime: 9, data: b"program".to_vec(), ..Entry::new(b'0', "./usr/bin/su") })
        .hard_link("./usr/bin/sudo", "./usr/bin/su")
        .add(&Entry { uid: 1000, gid: 1000, mode: 0o600, ..Entry::new(b'0', "./home/user/note") })
        .add(&Entry { uid: 12, gid: 34, mtime: 11, link: b"/etc/x".to_vec(), ..Entry::new(b'2', "./link") })
        .add(&Entry { mode: 0o622, ..Entry::new(b'6', "./run/pipe") });
    let unpacked = yard.unpack(&tar.end()).unwrap();
    assert_eq!((unpacked.entries, unpacked.bytes, unpacked.compression), (9, 7, Compression::None));
    assert_eq!(unpacked.path, yard.rootfs());

    assert_eq!(yard.mode(""), 0o751);
    assert_eq!(yard.mode("usr/bin"), 0o2755);
    assert_eq!(yard.mode("usr/bin/su"), 0o4755);
    assert_eq!(yard.mode("home/user"), 0o755);
    assert_eq!(yard.mode("home/user/note"), 0o600);
    assert_eq!(yard.mode("run/pipe"), 0o622);
    assert!(fs::metadata(yard.rootfs().join("run/pipe")).unwrap().file_type().is_fifo());
    let meta = |name: &str| fs::symlink_metadata(yard.rootfs().join(name)).unwrap();
    assert_eq!(meta("").mtime(), 5);
    assert_eq!(meta("usr/bin").mtime(), 7);
    assert_eq!(meta("bin/sudo").mtime(), 9);
    assert_eq!(meta("link").mtime(), 11);
    assert_eq!(meta("usr/bin/su").ino(), meta("usr/bin/sudo").ino());
    assert_eq!(fs::read_link(yard.rootfs().join("link")).unwrap().to_str(), Some("/etc/x"));
    if is_root() {
        assert_eq!((meta("home/user/note").uid(), meta("home/user/note").gid()), (1000, 1000));
        assert_eq!((meta("link").uid(), meta("link").gid()), (12, 34));
        assert_eq!(meta("usr/bin").gid(), 50);
    }
}

#[test]
fn a_root_that_is_not_listed_is_open_and_its_parent_is_not() {
    let yard = Yard::new();
    yard.unpack(&Tar::new().file("a", "b").end()).unwrap();
    assert_eq!(yard.mode(""), 0o755);
    assert_eq!(fs::metadata(yard.path("target")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn leading_slashes_and_dots_are_dropped() {
    let yard = Yard::new();
    yard.unpack(&Tar::new().file("/etc/a", "1").file("./etc/b", "2").file("//etc/.//c", "3").end()).unwrap();
    assert_eq!(yard.read("etc/a") + &yard.read("etc/b") + &yard.read("etc/c"), "123");
}

#[test]
fn entries_below_a_link_of_the_same_archive_land_where_it_points() {
    let yard = Yard::new();
    let tar = Tar::new()
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr")
        .file("lib/one", "1")
        .file("abs/lib/two", "2")
        .file("lib/new/three", "3");
    yard.unpack(&tar.end()).unwrap();
    assert_eq!(yard.read("usr/lib/one") + &yard.read("usr/lib/two") + &yard.read("usr/lib/new/three"), "123");
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let yard = Yard::new();
    let (gnu, pax) = ("g".repeat(120) + "/" + &"h".repeat(130), "p".repeat(200));
    let target = "t".repeat(150);
    let tar = Tar::new()
        .long(b'L', &gnu)
        .add(&Entry { data: b"gnu".to_vec(), gnu: true, ..Entry::new(b'0', &gnu) })
        .pax(&[("path", pax.as_bytes())])
        .file("short", "pax")
        .long(b'K', &target)
        .symlink("one", "cut")
        .pax(&[("linkpath", target.as_bytes())])
        .symlink("two", "cut");
    yard.unpack(&tar.end()).unwrap();
    assert_eq!(yard.read(&gnu), "gnu");
    assert_eq!(yard.read(&pax), "pax");
    for link in ["one", "two"] {
        assert_eq!(fs::read_link(yard.rootfs().join(link)).unwrap().to_str(), Some(&*target));
    }
}

#[test]
fn extended_headers_give_large_ids_and_exact_times() {
    let yard = Yard::new();
    let tar = Tar::new()
        .pax(&[
            ("uid", b"3000000000"),
            ("gid", b"4294967294"),
            ("mtime", b"1234.000000567"),
            ("comment", b"x"),
        ])
        .file("a", "")
        .pax_kind(b'g', &[("comment", b"0123456789abcdef")])
        .file("b", "");
    yard.unpack(&tar.end()).unwrap();
    let meta = fs::metadata(yard.rootfs().join("a")).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1234, 567));
    if is_root() {
        assert_eq!((meta.uid(), meta.gid()), (3_000_000_000, 4_294_967_294));
    }
}

#[test]
fn attributes_for_users_are_kept_and_those_for_overlays_are_not() {
    let yard = Yard::new();
    let caps: &[u8] = &[1, 0, 0, 2, 0x0a, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", caps),
            ("SCHILY.xattr.user.mine", b"a\nb\0c"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"system_u"),
        ])
        .add(&Entry { uid: 7, mode: 0o4755, ..Entry::new(b'0', "file") })
        .pax(&[("SCHILY.xattr.user.dir", b"1"), ("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("dir", 0o555);
    let unpacked = yard.unpack(&tar.end()).unwrap();
    let get = |file: &str, name: &str| {
        let mut value = Vec::with_capacity(100);
        rustix::fs::lgetxattr(yard.rootfs().join(file), name, rustix::buffer::spare_capacity(&mut value))
            .map(|_| value)
    };
    if get("file", "user.mine") == Err(rustix::io::Errno::OPNOTSUPP) {
        println!("skipped: the temporary directory has no extended attributes");
        return;
    }
    assert_eq!(get("file", "user.mine").unwrap(), b"a\nb\0c");
    assert_eq!(get("dir", "user.dir").unwrap(), b"1");
    for name in ["user.overlay.opaque", "trusted.overlay.opaque"] {
        get("file", name).unwrap_err();
        get("dir", name).unwrap_err();
    }
    assert_eq!(yard.mode("file"), 0o4755);
    if is_root() {
        assert_eq!(get("file", "security.capability").unwrap(), caps);
        assert_eq!(unpacked.dropped_xattrs, 4);
    }
}

#[test]
fn an_attribute_that_the_kernel_does_not_accept_is_refused() {
    if !is_root() {
        println!("skipped: capabilities of files need root");
        return;
    }
    let yard = Yard::new();
    let tar = Tar::new().pax(&[("SCHILY.xattr.security.capability", b"nonsense")]).file("f", "");
    assert!(yard.refusal(&tar.end()).contains("attribute"));
}

#[test]
fn devices_are_skipped_and_counted() {
    let yard = Yard::new();
    let tar = Tar::new()
        .dir("dev", 0o755)
        .add(&Entry::new(b'3', "dev/null"))
        .add(&Entry::new(b'4', "dev/sda"))
        .file("dev/file", "x");
    let unpacked = yard.unpack(&tar.end()).unwrap();
    assert_eq!((unpacked.skipped_devices, unpacked.entries), (2, 4));
    assert!(!yard.exists("dev/null") && !yard.exists("dev/sda"));
    assert_eq!(yard.read("dev/file"), "x");
}

#[test]
fn a_sparse_file_gets_its_holes_back() {
    let yard = Yard::new();
    let mut header = Entry { gnu: true, size: Some(1024), ..Entry::new(b'S', "sparse") }.header();
    let mut put = |at: usize, number: u64| {
        header[at..at + 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
    };
    put(386, 4096);
    put(398, 512);
    put(410, 1 << 20);
    put(422, 512);
    put(434, 3 << 20);
    put(446, 0);
    put(483, 3 << 20);
    seal(&mut header);
    let tar = Tar::new().raw(&header).raw(&[b'a'; 512]).raw(&[b'b'; 512]).file("after", "x");
    yard.unpack(&tar.end()).unwrap();
    let content = fs::read(yard.rootfs().join("sparse")).unwrap();
    let mut expected = vec![0; 3 << 20];
    expected[4096..4608].fill(b'a');
    expected[1 << 20..(1 << 20) + 512].fill(b'b');
    assert!(content == expected);
    assert!(fs::metadata(yard.rootfs().join("sparse")).unwrap().blocks() * 512 < 1 << 20);
    assert_eq!(yard.read("after"), "x");
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let yard = Yard::new();
    let tar = Tar::new()
        .file("f", "old")
        .file("f", "new")
        .dir("empty", 0o755)
        .symlink("empty", "f")
        .symlink("link", "f")
        .file("link", "own")
        .file("d", "a file first")
        .dir("d", 0o750)
        .file("d/inside", "x");
    yard.unpack(&tar.end()).unwrap();
    assert_eq!(
        (yard.read("f"), yard.read("link"), yard.read("empty")),
        ("new".into(), "own".into(), "new".into())
    );
    assert_eq!((yard.mode("d"), yard.read("d/inside")), (0o750, "x".into()));
}

#[test]
fn an_old_directory_is_a_file_with_a_slash() {
    let yard = Yard::new();
    yard.unpack(&Tar::new().add(&Entry { mode: 0o755, ..Entry::new(0, "old/") }).file("old/f", "x").end())
        .unwrap();
    assert_eq!(yard.read("old/f"), "x");
}

#[test]
fn directories_without_permissions_are_filled_first() {
    let yard = Yard::new();
    yard.unpack(&Tar::new().dir("shut", 0o000).file("shut/in/side", "x").end()).unwrap();
    assert_eq!(yard.mode("shut"), 0);
    if is_root() {
        assert_eq!(yard.read("shut/in/side"), "x");
    }
    fs::set_permissions(yard.rootfs().join("shut"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
}

#[test]
fn without_privileges_all_files_are_ours() {
    let yard = Yard::new();
    let options = Options { owners: Owners::Ours, ..Options::default() };
    let tar = Tar::new().add(&Entry { uid: 1000, gid: 1000, ..Entry::new(b'0', "f") });
    yard.unpack_with(&tar.end(), &options).unwrap();
    let meta = fs::metadata(yard.rootfs().join("f")).unwrap();
    assert_eq!(meta.uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn progress_counts_entries_and_bytes() {
    let yard = Yard::new();
    let tar = Tar::new().file("a", vec![1; 3 << 20]).file("b", "").end();
    let mut seen = Vec::new();
    unpack_from(&tar[..], &yard.path("target"), &options(), &mut |progress| seen.push(progress)).unwrap();
    assert!(seen.is_sorted_by_key(|progress| (progress.entries, progress.bytes)));
    assert!(seen.len() >= 5);
    assert_eq!(seen.last(), Some(&Progress { entries: 2, bytes: 3 << 20 }));
}

#[test]
fn what_the_tar_crate_writes_is_read_back_alike() {
    let yard = Yard::new();
    let mut builder = tar::Builder::new(Vec::new());
    let long = "deep/".repeat(40) + "file";
    for (name, size) in [("a", 0usize), ("b", 1), ("c", 511), ("d", 512), ("e", 513), (&*long, 100_000)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        header.set_mode(0o640);
        header.set_mtime(42);
        builder.append_data(&mut header, name, &vec![b'x'; size][..]).unwrap();
    }
    yard.unpack(&builder.into_inner().unwrap()).unwrap();
    for (name, size) in [("a", 0usize), ("b", 1), ("c", 511), ("d", 512), ("e", 513), (&*long, 100_000)] {
        let meta = fs::metadata(yard.rootfs().join(name)).unwrap();
        assert_eq!((meta.len(), meta.mtime(), meta.mode() & 0o7777), (size as u64, 42, 0o640));
    }
}
