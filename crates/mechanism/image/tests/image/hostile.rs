// SPDX-License-Identifier: Apache-2.0
//! Archives that try to get out, to smuggle or to confuse. `Yard` checks after each that the canary beside the
//! target is as it was and that a refused archive left nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;

use berth_image::{UnpackError, unpack, unpack_from};
use berth_model::Class;

use crate::archives::{Entry, Tar, Yard, options, record, seal};

#[test]
fn cve_2001_1267_names_that_climb_are_refused_in_every_place() {
    for name in ["../evil", "a/../../evil", "a/..", "/../evil", "./../evil", "a/../b"] {
        let text = Yard::new().refusal(&Tar::new().dir("a", 0o755).file(name, "x").end());
        assert!(text.contains("`..`") && text.contains("entry 2"), "{text}");
    }
    Yard::new().refusal(&Tar::new().file("f", "").hard_link("l", "../canary/secret").end());
    Yard::new().refusal(&Tar::new().long(b'L', "a/../../evil").file("short", "x").end());
    Yard::new().refusal(&Tar::new().pax(&[("path", b"../evil")]).file("short", "x").end());
    let yard = Yard::new();
    yard.unpack(&Tar::new().file("..evil", "x").file("a../b", "y").end()).unwrap();
    assert!(yard.exists("..evil") && yard.exists("a../b"));
}

#[test]
fn rustsec_2021_0080_links_do_not_lead_out_of_the_root() {
    let yard = Yard::new();
    let tar = Tar::new()
        .symlink("abs", yard.canary())
        .symlink("rel", "../../canary")
        .symlink("far", "../".repeat(50))
        .file("abs/secret", "1")
        .dir("abs/sub", 0o777)
        .file("rel/secret", "2")
        .file("far/etc/secret", "3");
    // The targets do not exist inside the root, so there is nowhere to put the entries.
    assert!(yard.refusal(&tar.end()).contains("leads nowhere"));

    let tar = Tar::new().dir("canary", 0o755).symlink("rel", "../../canary").file("rel/secret", "inside");
    yard.unpack(&tar.end()).unwrap();
    assert_eq!(yard.read("canary/secret"), "inside");
}

#[test]
fn absolute_links_mean_the_root_of_the_tree() {
    let yard = Yard::new();
    let inside = yard.canary();
    let tar =
        Tar::new().dir(&inside, 0o755).symlink("l", &inside).file("l/secret", "inside").dir("l/sub", 0o777);
    yard.unpack(&tar.end()).unwrap();
    assert_eq!(yard.read(&format!("{}/secret", inside.trim_start_matches('/'))), "inside");
}

#[test]
fn cve_2021_32760_a_link_and_then_an_entry_of_its_name_replaces_the_link() {
    let yard = Yard::new();
    let secret = yard.canary() + "/secret";
    let tar = Tar::new()
        .symlink("f", &secret)
        .file("f", "mine")
        .symlink("mode", &secret)
        .file_mode("mode", 0o4777)
        .symlink("pipe", &secret)
        .add(&Entry::new(b'6', "pipe"))
        .symlink("link", &secret)
        .symlink("link", "f");
    yard.unpack(&tar.end()).unwrap();
    assert_eq!((yard.read("f"), yard.mode("mode")), ("mine".into(), 0o4777));
}

#[test]
fn cve_2025_47290_a_directory_that_is_swapped_for_a_link_while_unpacking_leads_nowhere() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let yard = Yard::new();
    let mut tar = Tar::new().dir("d", 0o755);
    for number in 0..4000 {
        tar = tar.dir(format!("d/s{}", number % 40), 0o700).file_mode(format!("d/f{number}"), 0o4777);
    }
    let (archive, ended, swaps) = (tar.end(), AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (dir, link) = (yard.rootfs().join("d"), yard.rootfs().join("z"));
            while !ended.load(Ordering::SeqCst) {
                let _ = std::os::unix::fs::symlink(yard.canary(), &link);
                if renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).is_ok() {
                    swaps.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        // Whether it comes through or not: what counts is where it wrote.
        let _ = unpack_from(archive.as_slice(), &yard.path("target"), &options(), &mut |_| {});
        ended.store(true, Ordering::SeqCst);
    });
    assert!(swaps.load(Ordering::SeqCst) > 0, "nothing was swapped");
    let _ = fs::remove_dir_all(yard.path("target"));
    yard.check(true);
}

#[test]
fn rustsec_2026_0067_a_directory_entry_does_not_change_modes_through_a_link() {
    for name in ["foo", "foo/", "foo/.", "./foo//"] {
        let yard = Yard::new();
        let tar = Tar::new().symlink("foo", yard.canary()).dir(name, 0o777).file("foo/new", "x");
        yard.unpack(&tar.end()).unwrap();
        assert!(fs::symlink_metadata(yard.rootfs().join("foo")).unwrap().is_dir());
        assert_eq!(yard.read("foo/new"), "x");
    }
}

#[test]
fn a_hard_link_reaches_only_regular_files_of_the_archive() {
    let yard = Yard::new();
    let secret = yard.canary() + "/secret";
    for tar in [
        Tar::new().hard_link("l", &secret),
        Tar::new().symlink("s", &secret).hard_link("l", "s"),
        Tar::new().symlink("s", yard.canary()).hard_link("l", "s/secret"),
        Tar::new().file("f", "").symlink("s", "f").hard_link("l", "s"),
        Tar::new().dir("d", 0o755).hard_link("l", "d"),
        Tar::new().add(&Entry::new(b'6', "pipe")).hard_link("l", "pipe"),
        Tar::new().add(&Entry::new(b'3', "dev")).hard_link("l", "dev"),
        Tar::new().hard_link("l", "later").file("later", ""),
        Tar::new().hard_link("l", "/"),
        Tar::new().hard_link("l", ""),
    ] {
        let error = yard.unpack(&tar.end()).unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{error}");
    }
    yard.unpack(&Tar::new().file("f", "x").hard_link("l", "/f").hard_link("l", "./l").end()).unwrap();
    assert_eq!(yard.read("l"), "x");
    let yard = Yard::new();
    yard.unpack(&Tar::new().file("f", "x").hard_link("f", "f").end()).unwrap();
    assert_eq!(yard.read("f"), "x", "a link to itself lost the file");
}

#[test]
fn a_link_that_is_replaced_through_itself_is_refused() {
    for (link, name) in [(".", "l/l"), ("e/..", "l/e"), ("e/../e/..", "l/l")] {
        let tar = Tar::new().dir("e", 0o755).symlink("l", link).file("l/before", "").symlink(name, "x");
        let text = Yard::new().refusal(&tar.file("l/after", "").end());
        assert!(text.contains("goes through"), "{text}");
    }
    let yard = Yard::new();
    yard.unpack(&Tar::new().dir("e", 0o755).symlink("l", ".").symlink("l/e", "x").file("l/after", "").end())
        .unwrap();
    assert!(yard.exists("after"));
}

#[test]
fn a_hard_link_entry_does_not_change_the_file() {
    let yard = Yard::new();
    let link = Entry { link: b"f".to_vec(), mode: 0o4777, uid: 99, mtime: 1, ..Entry::new(b'1', "l") };
    yard.unpack(&Tar::new().file("f", "x").add(&link).end()).unwrap();
    assert_eq!(yard.mode("f"), 0o644);
    assert_eq!(fs::metadata(yard.rootfs().join("f")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn writing_to_one_name_of_a_hard_link_does_not_write_to_the_other() {
    let yard = Yard::new();
    yard.unpack(&Tar::new().file("f", "x").hard_link("l", "f").file("l", "new").end()).unwrap();
    assert_eq!((yard.read("f"), yard.read("l")), ("x".into(), "new".into()));
}

#[test]
fn cve_2026_48749_a_filled_directory_is_not_replaced() {
    for kind in [b'0', b'2', b'6'] {
        let yard = Yard::new();
        let entry = Entry { link: b"/".to_vec(), ..Entry::new(kind, "etc") };
        let text = yard.refusal(&Tar::new().file("etc/passwd", "root").add(&entry).end());
        assert!(text.contains("replace a directory"), "{text}");
    }
    let yard = Yard::new();
    yard.refusal(&Tar::new().file("f", "").file("etc/x", "").hard_link("etc", "f").end());
}

#[test]
fn the_root_itself_is_only_ever_a_directory() {
    for name in ["/", ".", "./", "//./"] {
        for kind in [b'1', b'2', b'6'] {
            let yard = Yard::new();
            let entry = Entry { link: b"f".to_vec(), ..Entry::new(kind, name) };
            assert!(yard.refusal(&Tar::new().file("f", "").add(&entry).end()).contains("root directory"));
        }
    }
    let yard = Yard::new();
    yard.unpack(&Tar::new().dir("/", 0o711).dir(".", 0o700).end()).unwrap();
    assert_eq!(yard.mode(""), 0o700);
}

#[test]
fn loops_of_links_and_files_as_directories_are_refused() {
    Yard::new().refusal(&Tar::new().symlink("a", "b").symlink("b", "a").file("a/f", "").end());
    Yard::new().refusal(&Tar::new().file("a", "").file("a/f", "").end());
    Yard::new().refusal(&Tar::new().symlink("a", "").end());
    Yard::new().refusal(&Tar::new().symlink("a", "nowhere").file("a/f", "").end());
}

#[test]
fn magic_links_are_no_way_out() {
    let yard = Yard::new();
    let text = yard.refusal(&Tar::new().symlink("p", "/proc/self/root").file("p/tmp/x", "").end());
    assert!(text.contains("leads nowhere"), "{text}");
}

#[test]
fn deletion_marks_of_layers_are_refused_at_every_depth() {
    for name in [".wh.etc", "a/.wh..wh..opq", "a/b/.wh.x", ".wh./x", ".wh.../x"] {
        for kind in [b'0', b'5', b'2', b'3'] {
            let entry = Entry { link: b"x".to_vec(), ..Entry::new(kind, name) };
            let text = Yard::new().refusal(&Tar::new().add(&entry).end());
            assert!(text.contains("layer"), "{text}");
        }
    }
    let yard = Yard::new();
    yard.unpack(&Tar::new().file("a.wh.b", "").file(".whx", "").end()).unwrap();
}

#[test]
fn cve_2025_62518_sizes_that_disagree_are_refused() {
    let inner = Tar::new().file("smuggled", "x").end();
    for (plain, pax) in [(0, inner.len()), (inner.len(), 0), (512, 1024)] {
        let entry = Entry { size: Some(plain as u64), data: inner.clone(), ..Entry::new(b'0', "outer") };
        let tar = Tar::new().pax(&[("size", pax.to_string().as_bytes())]).add(&entry);
        let text = Yard::new().refusal(&tar.end());
        assert!(text.contains("size"), "{text}");
    }
    let yard = Yard::new();
    let size = inner.len().to_string();
    yard.unpack(&Tar::new().pax(&[("size", size.as_bytes())]).file("outer", &inner).end()).unwrap();
    assert!(yard.exists("outer") && !yard.exists("smuggled"));
}

#[test]
fn an_extended_header_cut_at_newlines_can_not_hide_a_size() {
    // A reader that looks for newlines finds a broken record and gives up before `size`, and then reads the data
    // as entries. Ours sees the size, and that the two headers disagree.
    let inner = Tar::new().file("smuggled", "x").bytes;
    let records = [record("comment", b"a\nb"), record("size", inner.len().to_string().as_bytes())].concat();
    let tar = Tar::new().add(&Entry { data: records, ..Entry::new(b'x', "pax") }).add(&Entry {
        size: Some(0),
        data: inner,
        ..Entry::new(b'0', "outer")
    });
    assert!(Yard::new().refusal(&tar.end()).contains("size"));
}

#[test]
fn headers_that_two_readers_read_differently_are_refused() {
    let file = Entry::new(b'0', "f");
    let twice = [record("path", b"a"), record("path", b"b")].concat();
    let pax = |data: Vec<u8>| Tar::new().add(&Entry { data, ..Entry::new(b'x', "pax") }).add(&file);
    for (what, tar) in [
        ("key twice", pax(twice)),
        ("record too long", pax(b"99 path=a\n".to_vec())),
        ("garbage behind the records", pax([record("path", b"a"), b"junk".to_vec()].concat())),
        ("path with a zero", Tar::new().pax(&[("path", b"a\0b")]).add(&file)),
        ("empty path", Tar::new().pax(&[("path", b"")]).add(&file)),
        ("size that is no number", Tar::new().pax(&[("size", b"0x10")]).add(&file)),
        ("two extended headers", Tar::new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).add(&file)),
        ("two long names", Tar::new().long(b'L', "a").long(b'L', "b").add(&file)),
        ("two different names", Tar::new().long(b'L', "a").pax(&[("path", b"b")]).add(&file)),
        ("long name that goes on", Tar::new().long(b'L', "a\0b").add(&file)),
        ("global path", Tar::new().pax_kind(b'g', &[("path", b"evil")]).add(&file)),
        ("global size", Tar::new().pax_kind(b'g', &[("size", b"1024")]).add(&file)),
        ("directory with data", Tar::new().add(&Entry { data: vec![1; 512], ..Entry::new(b'5', "d") })),
        ("old directory with data", Tar::new().add(&Entry { data: vec![1; 512], ..Entry::new(b'0', "d/") })),
        ("link with data", {
            Tar::new().add(&Entry { data: vec![1; 512], link: b"x".to_vec(), ..Entry::new(b'2', "l") })
        }),
        ("hard link with data", {
            Tar::new().add(&file).add(&Entry {
                data: vec![1; 512],
                link: b"f".to_vec(),
                ..Entry::new(b'1', "l")
            })
        }),
        ("device with data", Tar::new().add(&Entry { data: vec![1; 512], ..Entry::new(b'3', "d") })),
        ("header without an entry", Tar::new().add(&file).long(b'L', "a")),
        ("empty name", Tar::new().add(&Entry::new(b'0', ""))),
        ("unknown type", Tar::new().add(&Entry::new(b'?', "f"))),
        ("multi-volume", Tar::new().add(&Entry::new(b'M', "f"))),
    ] {
        let error = Yard::new().unpack(&tar.end()).err().unwrap_or_else(|| panic!("{what} was unpacked"));
        assert!(matches!(error.class(), Class::Invalid | Class::Unsupported), "{what}: {error}");
    }
    Yard::new().unpack(&Tar::new().long(b'L', "a").pax(&[("path", b"a")]).add(&file).end()).unwrap();
}

#[test]
fn numbers_that_wrap_are_refused() {
    let with = |at: usize, bytes: &[u8]| {
        let mut header = Entry::new(b'0', "f").header();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut header);
        Tar::new().raw(&header).end()
    };
    for (what, archive) in [
        ("uid -1", with(108, b"\x80\0\0\0\xff\xff\xff\xff")),
        ("uid 2^32", with(108, b"\x80\0\0\x01\0\0\0\0")),
        ("negative uid", with(108, &[0xff; 8])),
        ("gid 2^32", with(116, b"\x80\0\0\x01\0\0\0\0")),
        ("size beyond 64 bits", with(124, &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("negative size", with(124, &[0xff; 12])),
        ("size that is text", with(124, b"00000000zzz\0")),
        ("uid with a sign", with(108, b"-000001\0")),
    ] {
        let error = Yard::new().unpack(&archive).err().unwrap_or_else(|| panic!("{what} was unpacked"));
        assert_eq!(error.class(), Class::Invalid, "{what}: {error}");
    }
    for value in [&b"4294967295"[..], b"4294967296", b"18446744073709551616", b"-1"] {
        Yard::new().refusal(&Tar::new().pax(&[("uid", value)]).file("f", "").end());
    }
    Yard::new().unpack(&with(108, b"0001750\0")).unwrap();
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut archive = Tar::new().file("f", "x").end();
    archive[0] ^= 1;
    assert!(Yard::new().refusal(&archive).contains("checksum"));
}

#[test]
fn sparse_files_that_lie_are_refused() {
    let sparse = |fields: &[u64], real: u64, stored: u64| {
        let mut header = Entry { gnu: true, size: Some(stored), ..Entry::new(b'S', "s") }.header();
        for (at, number) in fields.iter().enumerate() {
            header[386 + 12 * at..398 + 12 * at].copy_from_slice(format!("{number:011o}\0").as_bytes());
        }
        header[483..495].copy_from_slice(format!("{real:011o}\0").as_bytes());
        seal(&mut header);
        Tar::new().raw(&header).raw(&vec![b'x'; (stored as usize).next_multiple_of(512)])
    };
    Yard::new().unpack(&sparse(&[512, 512], 1024, 512).end()).unwrap();
    Yard::new().refusal(&sparse(&[512, 512], 1023, 512).end());
    Yard::new().refusal(&sparse(&[512, 512], 1024, 1024).end());
    Yard::new().refusal(&sparse(&[512, 512, 512, 512], 4096, 1024).end());
    // Beyond the limit for one file, though almost nothing is stored.
    Yard::new().refusal(&sparse(&[0, 512], 0o77_777_777_777, 512).end()).contains("limit");
    let pax = Tar::new().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"4096")]).file("s", "x");
    assert!(matches!(Yard::new().unpack(&pax.end()), Err(UnpackError::Malformed { .. })));
    // The map of the newest format stands in front of the data.
    let lines = |map: &str, data: usize, real: &str| {
        let mut content = map.as_bytes().to_vec();
        content.resize(content.len().next_multiple_of(512), 0);
        content.resize(content.len() + data, b'x');
        let header: &[(&str, &[u8])] = &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", real.as_bytes()),
        ];
        Tar::new().pax(header).file("GNUSparseFile.0/s", content).end()
    };
    let yard = Yard::new();
    yard.unpack(&lines("1\n5\n3\n", 3, "10")).unwrap();
    assert_eq!(yard.read("s"), "\0\0\0\0\0xxx\0\0");
    for (map, data, real) in [
        ("1\n5\n3\n", 3, "7"),
        ("1\n5\n3\n", 4, "10"),
        ("1\n5\n3\n", 2, "10"),
        ("2\n5\n3\n", 3, "10"),
        ("2\n5\n3\n4\n0\n", 3, "10"),
        ("1\n-5\n3\n", 3, "10"),
        ("\n", 3, "10"),
        ("99999999999999999999\n", 3, "10"),
        ("1\n18446744073709551615\n3\n", 3, "10"),
        ("99999999\n1\n1\n", 3, "10"),
    ] {
        let error = Yard::new().unpack(&lines(map, data, real)).unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{map:?}: {error}");
    }
    // The type without GNU's header has no map.
    Yard::new().refusal(&Tar::new().add(&Entry::new(b'S', "s")).end());
}

#[test]
fn names_in_messages_can_not_forge_lines() {
    let text = Yard::new().refusal(&Tar::new().file("../x\n\x1b[31mERROR", "").end());
    assert!(!text.contains('\n') && !text.contains('\x1b'), "{text:?}");
}

#[test]
fn a_target_in_use_is_refused_and_stays_as_it_is() {
    let archive = Tar::new().file("f", "x").end();
    let yard = Yard::new();
    fs::create_dir(yard.path("target")).unwrap();
    let set_mode = |mode: u32| {
        fs::set_permissions(yard.path("target"), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let unpack = || berth_image::unpack_from(&archive[..], &yard.path("target"), &options(), &mut |_| {});
    set_mode(0o755);
    assert!(matches!(unpack(), Err(UnpackError::TargetInUse { .. })));
    set_mode(0o700);
    fs::write(yard.path("target").join("other"), "").unwrap();
    assert!(matches!(unpack(), Err(UnpackError::TargetInUse { .. })));
    assert!(yard.path("target").join("other").exists());
    fs::remove_file(yard.path("target").join("other")).unwrap();
    unpack().unwrap();
    assert_eq!(yard.read("f"), "x");
}

#[test]
fn a_target_that_was_there_stays_after_an_error_and_is_empty() {
    let yard = Yard::new();
    let dir = yard.path("target");
    fs::DirBuilder::new().create(&dir).unwrap();
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let archive = Tar::new().file("a/b/c", "x").file("..", "").end();
    berth_image::unpack_from(&archive[..], &dir, &options(), &mut |_| {}).unwrap_err();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_link_in_place_of_the_target_is_not_followed() {
    let yard = Yard::new();
    std::os::unix::fs::symlink(yard.canary(), yard.path("target")).unwrap();
    let archive = Tar::new().file("f", "x").end();
    berth_image::unpack_from(&archive[..], &yard.path("target"), &options(), &mut |_| {}).unwrap_err();
    fs::remove_file(yard.path("target")).unwrap();
    yard.check(true);
}

#[test]
fn an_archive_that_is_no_regular_file_is_refused_at_once() {
    let yard = Yard::new();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for (path, class) in [
        (fifo.as_path(), Class::Invalid),
        (dir.path(), Class::Invalid),
        (std::path::Path::new("/dev/zero"), Class::Invalid),
        (&dir.path().join("missing"), Class::NotFound),
    ] {
        let error = unpack(path, &yard.path("target"), &options(), &mut |_| {}).unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        yard.check(true);
    }
}

#[test]
fn a_panic_while_unpacking_leaves_nothing() {
    let yard = Yard::new();
    let archive = Tar::new().file("a/b", "x").file("c", "y").end();
    let panicked = std::panic::catch_unwind(|| {
        berth_image::unpack_from(&archive[..], &yard.path("target"), &options(), &mut |progress| {
            assert!(progress.entries < 2, "the caller's own fault");
        })
    });
    panicked.unwrap_err();
    yard.check(true);
}
