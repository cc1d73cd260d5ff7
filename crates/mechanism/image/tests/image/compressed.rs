// SPDX-License-Identifier: Apache-2.0
//! Archives made by the tools that people use: GNU tar with gzip, xz and zstd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_image::{Compression, unpack};
use berth_model::Class;
use proptest::prelude::*;

use crate::archives::{Yard, is_root, options};

/// A program that is there, or a printed reason to skip.
fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A small root filesystem around busybox, if that is installed, or around this test.
fn rootfs(dir: &Path) -> PathBuf {
    let rootfs = dir.join("rootfs");
    for name in ["bin", "etc", "usr/lib", "tmp"] {
        fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    let program = match Path::new("/bin/busybox") {
        busybox if busybox.exists() => busybox.to_owned(),
        _ => std::env::current_exe().unwrap(),
    };
    fs::copy(program, rootfs.join("bin/busybox")).unwrap();
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    fs::hard_link(rootfs.join("bin/busybox"), rootfs.join("bin/sh")).unwrap();
    std::os::unix::fs::symlink("usr/lib", rootfs.join("lib")).unwrap();
    fs::write(rootfs.join("usr/lib").join("long-name-".repeat(20)), "long").unwrap();
    fs::set_permissions(rootfs.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    fs::File::create(rootfs.join("usr/sparse")).unwrap().set_len(3 << 20).unwrap();
    rootfs
}

/// `diff` by `tar --compare`: contents, modes, owners, times and links, judged by somebody else.
fn same(archive: &Path, tree: &Path) {
    let output =
        Command::new("tar").arg("--compare").arg("-C").arg(tree).arg("-f").arg(archive).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Without privileges owners can not be the same.
    assert!(!is_root() || output.status.success(), "{said}");
}

fn archive_and_back(format: &str, flags: &[&str], suffix: &str, compression: Compression) {
    let dir = tempfile::tempdir().unwrap();
    let rootfs = rootfs(dir.path());
    // The suffix is wrong on purpose: only the content counts.
    let archive = dir.path().join(format!("image.{suffix}"));
    let (rootfs, path) = (rootfs.to_str().unwrap(), archive.to_str().unwrap());
    run("tar", &[flags, &[format, "-C", rootfs, "-cf", path, "."]].concat());
    let yard = Yard::new();
    let unpacked = unpack(&archive, &yard.path("target"), &options(), &mut |_| {}).unwrap();
    assert_eq!(unpacked.compression, compression);
    assert_eq!((unpacked.skipped_devices, unpacked.dropped_xattrs), (0, 0));
    same(&archive, &unpacked.path);
    assert_eq!(yard.mode("tmp"), 0o1777);
}

#[test]
fn plain_tars_of_all_formats_come_back_as_they_were() {
    for format in ["--format=gnu", "--format=pax", "--format=posix", "--format=oldgnu"] {
        archive_and_back(format, &[], "wrong", Compression::None);
    }
    archive_and_back("--format=gnu", &["--sparse"], "tar", Compression::None);
}

#[test]
fn a_tar_with_gzip_comes_back_as_it_was() {
    if has("gzip") {
        archive_and_back("--format=gnu", &["-z"], "tar.xz", Compression::Gzip);
    }
}

#[test]
fn a_tar_with_xz_comes_back_as_it_was() {
    if has("xz") {
        archive_and_back("--format=gnu", &["-J"], "tar.gz", Compression::Xz);
    }
}

#[test]
fn a_tar_with_zstd_comes_back_as_it_was() {
    if has("zstd") {
        archive_and_back("--format=pax", &["--zstd"], "tar", Compression::Zstd);
    }
}

#[test]
fn a_sparse_tar_in_the_newest_pax_format_gets_its_holes_back() {
    archive_and_back("--format=pax", &["--sparse"], "tar", Compression::None);
}

#[test]
fn a_sparse_tar_in_an_older_pax_format_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let rootfs = rootfs(dir.path());
    let archive = dir.path().join("a.tar");
    let (rootfs, path) = (rootfs.to_str().unwrap(), archive.to_str().unwrap());
    for version in ["0.0", "0.1"] {
        run(
            "tar",
            &["--format=pax", "--sparse", "--sparse-version", version, "-C", rootfs, "-cf", path, "."],
        );
        let error = unpack(&archive, &Yard::new().path("target"), &options(), &mut |_| {}).unwrap_err();
        assert_eq!(error.class(), Class::Unsupported, "{error}");
        assert!(error.to_string().contains("--format=gnu"), "{error}");
    }
}

/// A stream made by a tool from a small tar.
fn compressed(tool: &str, arguments: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    let content: Vec<u8> = (0..30_000u32).flat_map(|n| (n % 251).to_le_bytes()).collect();
    fs::write(&plain, crate::archives::Tar::new().file("f", content).end()).unwrap();
    let output = Command::new(tool).args(arguments).arg("-c").arg(&plain).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

const TOOLS: [(&str, &[&str]); 4] =
    [("xz", &["-6"]), ("xz", &["-0", "--check=sha256"]), ("zstd", &["-3"]), ("zstd", &["-3", "--no-check"])];

#[test]
fn xz_and_zstd_cut_anywhere_are_refused() {
    for (tool, arguments) in TOOLS {
        if !has(tool) {
            continue;
        }
        let stream = compressed(tool, arguments);
        for cut in (0..stream.len()).step_by(7).chain([stream.len() - 1]) {
            Yard::new().refusal(&stream[..cut]);
        }
        Yard::new().unpack(&stream).unwrap();
        Yard::new().refusal(&[&stream[..], b"junk"].concat());
    }
}

#[test]
fn xz_and_zstd_with_a_checksum_notice_a_changed_byte() {
    for (tool, arguments) in &TOOLS[..3] {
        if !has(tool) {
            continue;
        }
        let stream = compressed(tool, arguments);
        let middle = stream.len() / 2;
        for at in middle..middle + 40 {
            let mut damaged = stream.clone();
            damaged[at] ^= 0x04;
            Yard::new().refusal(&damaged);
        }
    }
}

#[test]
fn an_xz_dictionary_over_128_mebibytes_is_refused_and_64_is_not() {
    if !has("xz") {
        return;
    }
    let text = Yard::new().refusal(&compressed("xz", &["--lzma2=preset=0,dict=256MiB"]));
    assert!(text.contains("mem"), "{text}");
    Yard::new().unpack(&compressed("xz", &["--lzma2=preset=0,dict=64MiB"])).unwrap();
}

#[test]
fn a_zstd_window_over_128_mebibytes_is_refused() {
    if !has("zstd") {
        return;
    }
    // From a pipe the size is not known, so the window is the one asked for.
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, crate::archives::Tar::new().file("f", "x").end()).unwrap();
    let with = |log: &str| {
        let input = fs::File::open(&plain).unwrap();
        let zstd =
            Command::new("zstd").args([&*format!("--long={log}"), "-c"]).stdin(input).output().unwrap();
        assert!(zstd.status.success());
        zstd.stdout
    };
    Yard::new().refusal(&with("28"));
    Yard::new().unpack(&with("27")).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn damaged_xz_and_zstd_never_panic(which in 0usize..4, changes in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..6)) {
        static STREAMS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
        let streams = STREAMS.get_or_init(|| {
            TOOLS.iter().map(|(tool, arguments)| match has(tool) {
                true => compressed(tool, arguments),
                false => Vec::new(),
            }).collect()
        });
        let mut stream = streams[which].clone();
        for (at, byte) in changes {
            let length = stream.len().max(1);
            if let Some(slot) = stream.get_mut(at as usize % length) {
                *slot = byte;
            }
        }
        let limits = berth_image::Limits { bytes: 1 << 24, ..Default::default() };
        let _ = Yard::new().unpack_with(&stream, &berth_image::Options { limits, ..options() });
    }
}
