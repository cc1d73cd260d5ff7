// SPDX-License-Identifier: Apache-2.0
//! Streams that end early, were damaged, or are no archive at all.

use std::io::Write;

use berth_image::{Options, UnpackError};
use berth_model::Class;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use crate::archives::{Entry, Tar, Yard, options, seal};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const CONTENT: &str = "some content, a little longer";

fn sample() -> Tar {
    Tar::new().dir("d", 0o755).file("d/f", CONTENT).symlink("l", "d/f").hard_link("h", "d/f")
}

#[test]
fn a_tar_cut_anywhere_is_refused() {
    let whole = sample().bytes;
    for cut in (0..whole.len()).step_by(128) {
        Yard::new().refusal(&whole[..cut]);
    }
    let yard = Yard::new();
    assert!(yard.refusal(&whole).contains("cut short"));
    yard.unpack(&[&whole[..], &[0; 512]].concat()).unwrap();
}

#[test]
fn something_behind_the_end_is_refused() {
    let archive = sample().end();
    Yard::new().refusal(&[&archive[..], b"x"].concat());
    Yard::new().refusal(&[&archive[..], &archive].concat());
    Yard::new().unpack(&[&archive[..], &[0; 8192]].concat()).unwrap();
    let behind_gzip = [gzip(&archive), b"junk".to_vec()].concat();
    Yard::new().refusal(&behind_gzip);
}

#[test]
fn a_gzip_cut_or_damaged_anywhere_is_refused_or_complete() {
    let archive = gzip(&sample().end());
    for cut in 0..archive.len() {
        Yard::new().refusal(&archive[..cut]);
    }
    for at in 10..archive.len() {
        let mut damaged = archive.clone();
        damaged[at] ^= 0x10;
        // A flipped bit may spell the same content in another way; then the checksum is right, and so is the tree.
        let yard = Yard::new();
        if yard.unpack(&damaged).is_ok() {
            assert_eq!(yard.read("d/f"), CONTENT, "bit at {at}");
        }
    }
    Yard::new().unpack(&archive).unwrap();
}

#[test]
fn members_of_gzip_one_after_the_other_are_one_stream() {
    let archive = sample().end();
    let (one, two) = archive.split_at(700);
    Yard::new().unpack(&[gzip(one), gzip(two)].concat()).unwrap();
}

#[test]
fn what_is_no_archive_is_named() {
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"BZh91AY", "bzip2"),
        (b"PK\x03\x04rest", "zip"),
        (b"#!/bin/sh\necho hello\n", "corrupt"),
        (&[b'x'; 2048], "checksum"),
    ] {
        let text = Yard::new().refusal(bytes);
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_failing_disk_is_not_blamed_on_the_archive() {
    struct Broken(usize, Vec<u8>);
    impl std::io::Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            if self.0 >= 1024 {
                return Err(std::io::Error::from_raw_os_error(5));
            }
            let count = buf.len().min(512);
            buf[..count].copy_from_slice(&self.1[self.0..self.0 + count]);
            self.0 += count;
            Ok(count)
        }
    }
    let yard = Yard::new();
    let source = Broken(0, sample().end());
    let error = berth_image::unpack_from(source, &yard.path("target"), &options(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, UnpackError::Read { .. }));
    assert_eq!(error.class(), Class::Internal);
    yard.check(true);
}

/// Entries that are almost right, in any order.
fn entry() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof!["[abc/.]{1,6}", "(\\.\\./){0,2}canary/secret", "\\PC{0,8}"];
    let kinds = prop_oneof![
        Just(b'0'),
        Just(b'1'),
        Just(b'2'),
        Just(b'5'),
        Just(b'6'),
        Just(b'L'),
        Just(b'x'),
        any::<u8>()
    ];
    let data = proptest::collection::vec(any::<u8>(), 0..20);
    (
        names.clone(),
        kinds,
        names,
        0u32..0o10000,
        data,
        any::<bool>(),
        proptest::option::of((0usize..512, any::<u8>())),
    )
        .prop_map(|(name, kind, link, mode, data, gnu, flip)| {
            let keeps_data = matches!(kind, b'0' | b'L' | b'x');
            let data = if keeps_data { data } else { Vec::new() };
            let entry = Entry { link: link.into_bytes(), mode, data, gnu, ..Entry::new(kind, name) };
            let mut bytes = Tar::new().add(&entry).bytes;
            if let (Some((at, byte)), Some(header)) = (flip, bytes.first_chunk_mut::<512>()) {
                header[at] = byte;
                seal(header);
            }
            bytes
        })
}

fn small() -> Options<'static> {
    let limits = berth_image::Limits { file: 1 << 20, bytes: 1 << 22, ..Default::default() };
    Options { limits, ..options() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn arbitrary_bytes_never_panic_and_leave_nothing(
        magic in prop_oneof![
            Just(&b""[..]), Just(&b"\x1f\x8b\x08\0"[..]), Just(&b"\x28\xb5\x2f\xfd"[..]),
            Just(&b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46"[..]), Just(&b"\x50\x2a\x4d\x18\x02\0\0\0"[..]),
        ],
        bytes in proptest::collection::vec(any::<u8>(), 0..4000),
    ) {
        let yard = Yard::new();
        // Refused, or by miracle an archive; `Yard` checks what is left in either case.
        let _ = yard.unpack_with(&[magic, &bytes].concat(), &small());
    }

    #[test]
    fn arbitrary_entries_never_panic_and_never_get_out(entries in proptest::collection::vec(entry(), 1..8)) {
        let yard = Yard::new();
        let _ = yard.unpack_with(&Tar::new().raw(&entries.concat()).end(), &small());
    }

    #[test]
    fn a_damaged_gzip_never_panics(at in 0usize..400, byte: u8) {
        let mut archive = gzip(&sample().end());
        let at = at % archive.len();
        archive[at] = byte;
        let _ = Yard::new().unpack_with(&archive, &small());
    }
}
