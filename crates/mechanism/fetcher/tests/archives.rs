// SPDX-License-Identifier: Apache-2.0
//! Archives, good and hostile, directly and from the cache.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use berth_fetcher::{How, UriError};
use berth_model::Class;
use support::*;
use zip::write::SimpleFileOptions;

fn tar(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

/// An entry as it stands, whatever the crate thinks of its name.
fn entry(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, link: &str, data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o640 });
    header.set_mtime(1_600_000_000);
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8]) {
    entry(builder, name, tar::EntryType::Regular, "", data);
}

fn sample() -> Vec<u8> {
    tar(|t| {
        entry(t, "top/", tar::EntryType::Directory, "", b"");
        file(t, "top/file", b"content");
        entry(t, "top/link", tar::EntryType::Symlink, "file", b"");
        file(t, "beside", &noise(100_000));
    })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(build: impl FnOnce(&mut zip::ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    build(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn sample_zip() -> Vec<u8> {
    zip(|z| {
        let plain = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        z.add_directory("top/", plain).unwrap();
        z.start_file("top/file", plain.unix_permissions(0o640)).unwrap();
        z.write_all(b"content").unwrap();
        z.add_symlink("top/link", "file", plain).unwrap();
        let deflated = plain.compression_method(zip::CompressionMethod::Deflated).unix_permissions(0o755);
        z.start_file("beside", deflated).unwrap();
        z.write_all(&noise(100_000)).unwrap();
        z.start_file(format!("top/{}", "n".repeat(180)), deflated).unwrap();
        z.write_all(b"long").unwrap();
    })
}

#[test]
fn trees_are_unpacked_whatever_wraps_them() {
    let ground = Ground::new(|_| {});
    for (name, body) in [
        ("x.tar", sample()),
        ("x.tgz", gzip(&sample())),
        ("x.tar.bz2", bzip2(&sample())),
        ("x.zip", sample_zip()),
        // The content decides, as with libarchive.
        ("y.tar.xz", gzip(&sample())),
    ] {
        let server = Server::of(body);
        for uri in [uri(server.url(name)), cached(server.url(name))] {
            let is_cached = uri.cache.is_some();
            let sandbox = ground.sandbox(&format!("{name}-{is_cached}"));
            let fetched = ground.fetch(&sandbox, &[uri]).unwrap();
            assert_eq!(sandbox.read("top/link"), b"content", "{name}");
            assert_eq!(sandbox.read("beside"), noise(100_000), "{name}");
            let stat = sandbox.path.join("top/file").metadata().unwrap();
            assert_eq!(stat.mode() & 0o7777, 0o640, "{name}");
            if is_root() {
                assert_eq!(stat.uid(), NOBODY);
            }
            // The archive itself stays only where it was fetched directly.
            assert_eq!(sandbox.path.join(name).exists(), !is_cached, "{name}");
            assert_eq!(fetched[0].how, if is_cached { How::Extracted } else { How::Fetched });
            assert!(!sandbox.names().iter().any(|name| name.contains(".fetch-")), "{:?}", sandbox.names());
        }
    }
}

#[test]
fn one_compressed_file_becomes_one_file() {
    let (ground, server) = (Ground::new(|_| {}), Server::of(gzip(b"plain words")));
    let sandbox = ground.sandbox("s");
    ground.fetch(&sandbox, &[uri(server.url("notes.gz"))]).unwrap();
    assert_eq!(sandbox.names(), ["notes", "notes.gz"]);
    assert_eq!(sandbox.read("notes"), b"plain words");
}

#[test]
fn archives_share_directories_and_the_later_wins() {
    let ground = Ground::new(|_| {});
    let second = tar(|t| {
        file(t, "top/file", b"newer");
        file(t, "top/other/deep", b"deep");
        file(t, "beside", b"newer");
    });
    let (one, two) = (Server::of(sample()), Server::of(second));
    let sandbox = ground.sandbox("s");
    ground.fetch(&sandbox, &[uri(one.url("1.tar")), uri(two.url("2.tar"))]).unwrap();
    assert_eq!(sandbox.read("top/link"), b"newer");
    assert_eq!(sandbox.read("top/other/deep"), b"deep");
    assert_eq!(sandbox.read("beside"), b"newer");
}

#[test]
fn directories_without_permissions_are_moved_as_they_are() {
    let ground = Ground::new(|_| {});
    let body = tar(|t| {
        let mut header = tar::Header::new_gnu();
        header.set_path("closed/").unwrap();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o555);
        header.set_cksum();
        t.append(&header, &[][..]).unwrap();
        file(t, "closed/file", b"x");
    });
    let server = Server::of(body);
    let sandbox = ground.sandbox("s");
    ground.fetch(&sandbox, &[uri(server.url("x.tar"))]).unwrap();
    assert_eq!(sandbox.read("closed/file"), b"x");
    assert_eq!(sandbox.path.join("closed").metadata().unwrap().mode() & 0o7777, 0o555);
    // And once more over itself.
    ground.fetch(&sandbox, &[uri(server.url("x.tar"))]).unwrap();
}

#[test]
fn what_climbs_out_is_refused_and_leaves_nothing() {
    let ground = Ground::new(|_| {});
    let canary = ground.dir.path().join("canary");
    fs::write(&canary, "untouched").unwrap();
    fs::set_permissions(&canary, fs::Permissions::from_mode(0o666)).unwrap();
    let outside = canary.to_str().unwrap();
    let kinds: Vec<(&str, &str, Vec<u8>)> = vec![
        ("up.tar", "`..`", tar(|t| file(t, "../canary", b"evil"))),
        ("deep.tar", "`..`", tar(|t| file(t, "a/../../canary", b"evil"))),
        (
            "link.tar",
            "",
            tar(|t| {
                entry(t, "l", tar::EntryType::Symlink, "..", b"");
                file(t, "l/canary", b"evil");
            }),
        ),
        (
            "hard.tar",
            "hard link",
            tar(|t| {
                entry(t, "l", tar::EntryType::Link, outside, b"");
                file(t, "l", b"evil");
            }),
        ),
        (
            "up.zip",
            "`..`",
            zip(|z| {
                z.start_file("../canary", SimpleFileOptions::default()).unwrap();
                z.write_all(b"evil").unwrap();
            }),
        ),
        (
            "link.zip",
            "",
            zip(|z| {
                z.add_symlink("l", "..", SimpleFileOptions::default()).unwrap();
                z.start_file("l/canary", SimpleFileOptions::default()).unwrap();
                z.write_all(b"evil").unwrap();
            }),
        ),
        ("absolute.tar", "-", tar(|t| file(t, "/canary", b"inside"))),
    ];
    for (name, word, body) in kinds {
        let server = Server::of(body);
        for uri in [uri(server.url(name)), cached(server.url(name))] {
            let sandbox = ground.sandbox(&format!("{name}-{}", uri.cache.is_some()));
            let done = ground.fetch(&sandbox, &[uri]);
            assert_eq!(fs::read(&canary).unwrap(), b"untouched", "{name}");
            match (word, done) {
                // Made harmless: a leading slash means the sandbox.
                ("-", done) => {
                    done.unwrap();
                    assert_eq!(sandbox.read("canary"), b"inside");
                }
                // A link may be made; what goes through it stays inside, or is refused.
                ("", done) => drop(done),
                (word, done) => {
                    let text = done.unwrap_err().to_string();
                    assert!(text.contains("Failed to extract archive"), "{name}: {text}");
                    assert!(text.contains(word), "{name}: {text}");
                    assert!(sandbox.names().iter().all(|left| left == name), "{name}: {:?}", sandbox.names());
                }
            }
        }
    }
}

#[test]
fn a_link_in_the_sandbox_leads_nobody_out() {
    let ground = Ground::new(|_| {});
    let outside = ground.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(outside.join("canary"), "untouched").unwrap();
    let server = Server::of(b"evil".to_vec());
    let tree = Server::of(tar(|t| file(t, "dir/canary", b"evil")));
    let requests = [
        berth_model::Uri { output_file: Some("dir/canary".into()), ..uri(server.url("x")) },
        berth_model::Uri { output_file: Some("dir/canary".into()), ..cached(server.url("x")) },
        uri(tree.url("x.tar")),
        berth_model::Uri { output_file: Some("canary".into()), ..uri(server.url("x")) },
        berth_model::Uri { output_file: Some("canary".into()), ..cached(server.url("x")) },
    ];
    for (number, request) in requests.into_iter().enumerate() {
        let sandbox = ground.sandbox(&format!("s{number}"));
        symlink(&outside, sandbox.path.join("dir")).unwrap();
        symlink(outside.join("canary"), sandbox.path.join("canary")).unwrap();
        let _ = ground.fetch(&sandbox, &[request]);
        assert_eq!(fs::read(outside.join("canary")).unwrap(), b"untouched", "{number}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{number}");
    }
}

#[test]
fn bombs_are_refused_by_size_by_ratio_and_by_shape() {
    let ground = Ground::new(|config| config.limits.bytes = 1 << 20);
    let zeros = vec![0; 2 << 20];
    let bombs = [
        ("tar.tgz", gzip(&tar(|t| file(t, "zeros", &zeros)))),
        ("tar.tar.bz2", bzip2(&tar(|t| file(t, "zeros", &zeros)))),
        ("zeros.gz", gzip(&zeros)),
        (
            "zeros.zip",
            zip(|z| {
                let deflated =
                    SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
                z.start_file("zeros", deflated).unwrap();
                z.write_all(&zeros).unwrap();
            }),
        ),
    ];
    for (name, body) in bombs {
        let server = Server::of(body);
        for uri in [uri(server.url(name)), cached(server.url(name))] {
            let sandbox = ground.sandbox(&format!("{name}-{}", uri.cache.is_some()));
            let text = ground.fetch(&sandbox, &[uri]).unwrap_err().to_string();
            assert!(text.contains("Failed to extract"), "{name}: {text}");
            assert!(text.contains("1048576"), "{name}: {text}");
            assert!(sandbox.names().iter().all(|left| left == name), "{name}: {:?}", sandbox.names());
        }
    }
    let ground = Ground::new(|config| (config.limits.ratio, config.limits.ratio_free) = (100, 1 << 16));
    let server = Server::of(gzip(&vec![0; 1 << 20]));
    let text =
        ground.fetch(&ground.sandbox("ratio"), &[uri(server.url("zeros.gz"))]).unwrap_err().to_string();
    assert!(text.contains("bomb"), "{text}");
}

#[test]
fn a_zip_that_lies_about_an_entry_is_refused() {
    let ground = Ground::new(|_| {});
    let good = zip(|z| {
        let plain = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        z.start_file("a", plain).unwrap();
        z.write_all(b"AAAAAAAA").unwrap();
        z.start_file("b", plain).unwrap();
        z.write_all(b"BBBBBBBB").unwrap();
    });
    let at = |pattern: &[u8], nth: usize| {
        good.windows(pattern.len()).enumerate().filter(|(_, w)| *w == pattern).nth(nth).unwrap().0
    };
    // The central directory (PK 1 2): the second entry's data is said to be where the first's is.
    let second = at(b"PK\x01\x02", 1);
    let mut shared = good.clone();
    shared[second + 42..second + 46].copy_from_slice(&0u32.to_le_bytes());
    let mut damaged = good.clone();
    damaged[at(b"AAAAAAAA", 0)] = b'X';
    for (body, word) in
        [(shared, "share their data"), (damaged, "checksum"), (good[..good.len() / 2].to_vec(), "")]
    {
        let server = Server::of(body);
        let sandbox = ground.sandbox(&format!("s{}", word.len()));
        let error = ground.fetch(&sandbox, &[uri(server.url("x.zip"))]).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(sandbox.names(), ["x.zip"]);
    }
}

#[test]
fn a_resource_that_is_no_archive_is_refused_with_words() {
    let (ground, server) = (Ground::new(|_| {}), Server::of(b"<html>not found</html>".to_vec()));
    for name in ["x.tar", "x.zip", "x.gz"] {
        let text = ground.fetch(&ground.sandbox(name), &[uri(server.url(name))]).unwrap_err().to_string();
        assert!(text.contains("Failed to extract"), "{text}");
    }
}

#[test]
fn nothing_is_started_for_a_wrong_uri() {
    let (ground, server) = (Ground::new(|_| {}), Server::of(b"x".to_vec()));
    let sandbox = ground.sandbox("s");
    let error = ground.fetch(&sandbox, &[uri(server.url("x")), uri("http://h/a'b")]).unwrap_err();
    assert_eq!(words(&error), "Could not fetch: Illegal characters in URI: Illegal characters in URI");
    assert!(matches!(error, berth_fetcher::FetchError::Uri { reason: UriError::Characters, .. }));
    assert_eq!(error.class(), Class::Invalid);
    assert!(server.asked().is_empty() && sandbox.names().is_empty());
}
