// SPDX-License-Identifier: Apache-2.0
//! Archives that are too large, in each way that there is.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

use berth_image::{Limit, Limits, Options, UnpackError};
use berth_model::Class;
use flate2::{Compression, write::GzEncoder};

use crate::archives::{Entry, Tar, Yard, options};

fn limited(limits: Limits) -> Options<'static> {
    Options { limits, ..options() }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Refused for this limit, and taken when the limit is one higher.
fn at_the_edge(archive: &[u8], limit: Limit, over: Limits, enough: Limits) {
    match Yard::new().unpack_with(archive, &limited(over)).unwrap_err() {
        UnpackError::TooMuch { limit: hit, .. } => assert_eq!(hit, limit),
        other => panic!("{other}"),
    }
    Yard::new().unpack_with(archive, &limited(enough)).unwrap();
}

#[test]
fn each_limit_stops_what_is_over_it_and_only_that() {
    let limits = Limits::default;
    let files = Tar::new().file("a", "").file("b", "").file("c", "").end();
    at_the_edge(&files, Limit::Entries, Limits { entries: 2, ..limits() }, Limits { entries: 3, ..limits() });
    let total = files.len() as u64;
    at_the_edge(
        &files,
        Limit::Bytes,
        Limits { bytes: total - 1, ..limits() },
        Limits { bytes: total, ..limits() },
    );
    let file = Tar::new().file("a", [1; 1000]).end();
    at_the_edge(&file, Limit::File, Limits { file: 999, ..limits() }, Limits { file: 1000, ..limits() });
    let deep = Tar::new().file("1/2/3/4", "").end();
    at_the_edge(&deep, Limit::Depth, Limits { depth: 3, ..limits() }, Limits { depth: 4, ..limits() });
    at_the_edge(&deep, Limit::Path, Limits { path: 7, ..limits() }, Limits { path: 8, ..limits() });
    let link = Tar::new().symlink("a", "1234567").end();
    at_the_edge(&link, Limit::Path, Limits { path: 7, ..limits() }, Limits { path: 8, ..limits() });
    let dirs = Tar::new().dir("aaa", 0o755).dir("bbb", 0o755).end();
    at_the_edge(
        &dirs,
        Limit::DirectoryNames,
        Limits { directory_names: 5, ..limits() },
        Limits { directory_names: 6, ..limits() },
    );
}

#[test]
fn a_gzip_bomb_is_stopped_by_its_ratio() {
    let bomb = gzip(&Tar::new().file("zeros", vec![0; 4 << 20]).end());
    let ratio = |ratio| Limits { ratio, ratio_free: 1 << 20, ..Limits::default() };
    let error = Yard::new().unpack_with(&bomb, &limited(ratio(100))).unwrap_err();
    assert!(matches!(error, UnpackError::TooMuch { limit: Limit::Ratio, allowed: 100, .. }), "{error}");
    assert!(error.to_string().contains("\"zeros\""), "{error}");
    assert_eq!(error.class(), Class::Invalid);
    Yard::new().unpack_with(&bomb, &limited(ratio(2000))).unwrap();
}

#[test]
fn a_bomb_hidden_behind_the_end_or_in_a_skipped_place_is_stopped_too() {
    let limits = Limits { ratio: 100, ratio_free: 1 << 20, ..Limits::default() };
    let behind = gzip(&[Tar::new().file("f", "").end(), vec![0; 4 << 20]].concat());
    Yard::new().refusal_with(&behind, &limited(limits.clone()));
    let nested = gzip(&gzip(&vec![0; 4 << 20]));
    Yard::new().refusal_with(&nested, &limited(limits));
}

#[test]
fn a_sparse_bomb_counts_with_its_holes() {
    let mut header = Entry { gnu: true, size: Some(0), ..Entry::new(b'S', "s") }.header();
    header[483..495].copy_from_slice(format!("{:011o}\0", 4u64 << 30).as_bytes());
    crate::archives::seal(&mut header);
    let archive = Tar::new().raw(&header).end();
    let error = Yard::new().unpack(&archive).unwrap_err();
    assert!(matches!(error, UnpackError::TooMuch { limit: Limit::Ratio, .. }), "{error}");
    let limits = Limits { ratio: u64::MAX, bytes: 2 << 30, ..Limits::default() };
    let error = Yard::new().unpack_with(&archive, &limited(limits)).unwrap_err();
    assert!(matches!(error, UnpackError::TooMuch { limit: Limit::Bytes, .. }), "{error}");
    Yard::new().unpack_with(&archive, &limited(Limits { ratio: u64::MAX, ..Limits::default() })).unwrap();
}

#[test]
fn a_path_4096_deep_is_refused_however_it_is_spelled() {
    let deep = "d/".repeat(4096);
    for tar in [
        Tar::new().long(b'L', &deep).dir("d", 0o755),
        Tar::new().pax(&[("path", deep.as_bytes())]).dir("d", 0o755),
        Tar::new().long(b'L', "d/".repeat(1000)).dir("d", 0o755),
    ] {
        let error = Yard::new().unpack(&tar.end()).unwrap_err();
        assert!(matches!(error, UnpackError::TooMuch { limit: Limit::Path | Limit::Depth, .. }), "{error}");
    }
    let yard = Yard::new();
    yard.unpack(&Tar::new().long(b'L', "d/".repeat(256)).dir("d", 0o755).end()).unwrap();
}

#[test]
fn links_do_not_make_a_tree_deeper_than_the_limit() {
    // Each link points one level down, so that short names go ever deeper.
    let mut tar = Tar::new().dir("d", 0o755).symlink("l", "d");
    for _ in 0..300 {
        tar = tar.dir("l/d", 0o755).symlink("l/l", "d").dir("l/l/d", 0o755);
        tar = tar.file("l/l/d/f", "");
    }
    Yard::new().unpack(&tar.end()).unwrap();
    let mut tar = Tar::new().dir("d", 0o755).symlink("l0", "d");
    for step in 0..300 {
        tar = tar.dir(format!("l{step}/d"), 0o755).symlink(format!("l{}", step + 1), format!("l{step}/d"));
    }
    // The kernel stops at 40 links, long before the limit: nothing gets deep that way.
    Yard::new().refusal(&tar.end());
    let limits = Limits { depth: 8, ..Limits::default() };
    let mut tar = Tar::new().dir("d", 0o755).symlink("l0", "d");
    for step in 0..10 {
        tar = tar.dir(format!("l{step}/d"), 0o755).symlink(format!("l{}", step + 1), format!("l{step}/d"));
    }
    let error = Yard::new().unpack_with(&tar.end(), &limited(limits)).unwrap_err();
    assert!(matches!(error, UnpackError::TooMuch { limit: Limit::Depth, allowed: 8, .. }), "{error}");
}

#[test]
fn extended_headers_and_long_names_are_capped_before_they_are_read() {
    // The headers promise data that is not there: only a reader that looks first can say what is wrong.
    for (kind, limit) in
        [(b'x', Limit::Header), (b'g', Limit::Header), (b'L', Limit::Path), (b'K', Limit::Path)]
    {
        let header = Entry { size: Some(60 << 30), ..Entry::new(kind, "x") };
        let error = Yard::new().unpack(&Tar::new().add(&header).bytes).unwrap_err();
        assert!(matches!(error, UnpackError::TooMuch { limit: hit, .. } if hit == limit), "{error}");
    }
    let large = vec![b'x'; 60_000];
    let tar = Tar::new().pax(&[("comment", &large)]).file("f", "x");
    Yard::new().unpack(&tar.end()).unwrap();
}

#[test]
fn the_stop_hook_ends_the_work_at_an_entry_and_inside_one() {
    let tar = Tar::new().file("a", "").file("large", vec![1; 8 << 20]).file("c", "").end();
    for asked_until in [1, 2, 5] {
        let asked = AtomicI32::new(0);
        let stop = || asked.fetch_add(1, SeqCst) + 1 > asked_until;
        let error = Yard::new().unpack_with(&tar, &Options { stop: &stop, ..options() }).unwrap_err();
        assert!(matches!(error, UnpackError::Stopped { .. }), "{error}");
        assert_eq!(asked.load(SeqCst), asked_until + 1, "it was asked again after it said stop");
    }
}

#[test]
fn the_stop_hook_is_asked_while_nothing_comes_out() {
    // Many empty members: much to read, nothing to unpack.
    let empty = gzip(b"");
    let stream: Vec<u8> = empty.iter().copied().cycle().take(empty.len() * 300_000).collect();
    let asked = AtomicBool::new(false);
    let stop = || asked.swap(true, SeqCst);
    let error = Yard::new().unpack_with(&stream, &Options { stop: &stop, ..options() }).unwrap_err();
    assert!(asked.load(SeqCst) && matches!(error, UnpackError::Stopped { .. }), "{error}");
}
