// SPDX-License-Identifier: Apache-2.0
//! What the cache keeps, gives out and lets go.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_fetcher::{Config, Fetcher, How, OpenError, RunAs};
use berth_model::{Class, Uri};
use support::*;

/// A server of noise of one size, whatever is asked for.
fn server(size: usize) -> Server {
    Server::of(noise(size))
}

#[test]
fn what_has_no_announced_size_is_fetched_directly_with_a_warning() {
    let ground = Ground::new(|_| {});
    let server = Server::new(|asked, stream| match asked.path.as_str() {
        "/empty" => head(stream, 200, &["Content-Length: 0"]),
        _ => {
            head(stream, 200, &[]);
            let _ = stream.write_all(b"no size");
        }
    });
    for (path, word) in
        [("x", "No URL content-length available"), ("empty", "URI reported content-length 0: http")]
    {
        let sandbox = ground.sandbox(path);
        let fetched = ground.fetch(&sandbox, &[cached(server.url(path))]).unwrap();
        assert_eq!(fetched[0].how, How::Fetched);
        let log = sandbox.log();
        assert!(log.contains("Reverting to fetching directly into the sandbox for"), "{log}");
        assert!(log.contains(word), "{log}");
    }
    assert_eq!(ground.fetcher.metrics().cache_size_used_bytes, 0);
}

#[test]
fn what_fails_through_the_cache_fails_for_its_own_reason() {
    let ground = Ground::new(|_| {});
    let server = Server::new(|_, stream| head(stream, 404, &["Content-Length: 0"]));
    let text = ground.fetch(&ground.sandbox("s"), &[cached(server.url("x"))]).unwrap_err().to_string();
    assert!(text.ends_with("received HTTP return code 404"), "{text}");
}

#[test]
fn a_cache_of_no_size_keeps_nothing_and_the_fetch_goes_on() {
    let (ground, server) = (Ground::new(|config| config.cache_size = 0), server(1000));
    let sandbox = ground.sandbox("s");
    let fetched = ground.fetch(&sandbox, &[cached(server.url("x"))]).unwrap();
    assert_eq!((fetched[0].how, sandbox.read("x")), (How::Fetched, noise(1000)));
    assert!(sandbox.log().contains("Could not free up enough fetcher cache space"), "{}", sandbox.log());
}

#[test]
fn the_least_recently_used_makes_room() {
    let (ground, server) = (Ground::new(|config| config.cache_size = 2500), server(1000));
    let fetch = |path: &str, n: usize| {
        ground.fetch(&ground.sandbox(&format!("{path}{n}")), &[cached(server.url(path))]).unwrap();
        server.asked().len()
    };
    assert_eq!((fetch("a", 1), fetch("b", 1), fetch("a", 2)), (1, 2, 2));
    // Room for two: `b` goes, `a` stays.
    assert_eq!((fetch("c", 1), fetch("a", 3), fetch("b", 2)), (3, 3, 4));
    assert_eq!(ground.fetcher.metrics().cache_size_used_bytes, 2000);
    assert_eq!(fs::read_dir(ground.dir.path().join("cache/files")).unwrap().count(), 2);
}

#[test]
fn one_uri_twice_in_a_request_is_downloaded_once() {
    let (ground, server) = (Ground::new(|_| {}), server(1000));
    let second = Uri { output_file: Some("y".into()), ..cached(server.url("x")) };
    let sandbox = ground.sandbox("s");
    ground.fetch(&sandbox, &[cached(server.url("x")), second]).unwrap();
    assert_eq!((sandbox.names(), server.asked().len()), (vec!["x".into(), "y".into()], 1));
}

#[test]
fn many_downloads_take_turns() {
    let ground = Ground::new(|_| {});
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (now.clone(), most.clone());
    let server = Server::new(move |_, stream| {
        highest.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        counted.fetch_sub(1, Ordering::SeqCst);
        ok(stream, b"x");
    });
    let uris: Vec<_> = (0..40).map(|number| cached(server.url(&number.to_string()))).collect();
    let sandbox = ground.sandbox("s");
    ground.fetch(&sandbox, &uris).unwrap();
    assert_eq!((sandbox.names().len(), server.asked().len(), now.load(Ordering::SeqCst)), (40, 40, 0));
    let most = most.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most}");
}

#[test]
fn users_share_nothing() {
    if !is_root() {
        return println!("skipped: not root, so there is one user");
    }
    let (mut ground, server) = (Ground::new(|_| {}), server(1000));
    ground.fetch(&ground.sandbox("one"), &[cached(server.url("x"))]).unwrap();
    ground.user = Some(RunAs { name: "other".into(), uid: 12345, ..nobody().unwrap() });
    ground.fetch(&ground.sandbox("two"), &[cached(server.url("x"))]).unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_large_file_is_linked_and_can_not_be_written_by_its_user() {
    if !is_root() {
        return println!("skipped: not root, so no file could belong to somebody else");
    }
    let (ground, server) = (Ground::new(|config| config.share_above = Some(1000)), server(2000));
    let sandbox = ground.sandbox("s");
    let fetched = ground.fetch(&sandbox, &[cached(server.url("x"))]).unwrap();
    let stat = sandbox.path.join("x").metadata().unwrap();
    if fetched[0].how == How::Cloned {
        return println!("skipped: this filesystem shares blocks");
    }
    assert_eq!(fetched[0].how, How::Linked);
    assert_eq!((stat.uid(), stat.mode() & 0o7777, stat.nlink()), (0, 0o444, 2));
    // Its user may still remove or replace it: the directory is theirs.
    assert_eq!(fs::metadata(&sandbox.path).unwrap().uid(), NOBODY);
    // Another mode than the one in the cache needs a file of its own.
    let program = Uri { executable: Some(true), ..cached(server.url("x")) };
    let other = ground.sandbox("program");
    assert_eq!(ground.fetch(&other, &[program]).unwrap()[0].how, How::Copied);
    let stat = other.path.join("x").metadata().unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o7777, stat.nlink()), (NOBODY, 0o755, 1));
}

#[test]
fn who_could_write_through_a_link_gets_a_copy() {
    if !is_root() {
        return println!("skipped: not root");
    }
    let (mut ground, server) = (Ground::new(|config| config.share_above = Some(1000)), server(2000));
    for (name, user) in [
        ("root", RunAs { name: "root".into(), uid: 0, gid: 0, ..nobody().unwrap() }),
        ("powerful", RunAs { has_file_capabilities: true, ..nobody().unwrap() }),
    ] {
        ground.user = Some(user.clone());
        let sandbox = ground.sandbox(name);
        let fetched = ground.fetch(&sandbox, &[cached(server.url("x"))]).unwrap();
        assert!(matches!(fetched[0].how, How::Copied | How::Cloned), "{name}: {:?}", fetched[0].how);
        let stat = sandbox.path.join("x").metadata().unwrap();
        assert_eq!((stat.uid(), stat.mode() & 0o7777, stat.nlink()), (user.uid, 0o644, 1));
        fs::write(sandbox.path.join("x"), "changed").unwrap();
        let again = ground.sandbox(&format!("{name}-again"));
        ground.fetch(&again, &[cached(server.url("x"))]).unwrap();
        assert!(again.read("x") == noise(2000));
    }
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_file_that_somebody_changed_or_removed_is_fetched_anew() {
    let (ground, server) = (Ground::new(|_| {}), server(1000));
    let fetch = |name: &str| {
        let sandbox = ground.sandbox(name);
        ground.fetch(&sandbox, &[cached(server.url("x"))]).unwrap();
        assert!(sandbox.read("x") == noise(1000));
        server.asked().len()
    };
    let file =
        || fs::read_dir(ground.dir.path().join("cache/files")).unwrap().next().unwrap().unwrap().path();
    assert_eq!((fetch("a"), fetch("b")), (1, 1));
    fs::remove_file(file()).unwrap();
    assert_eq!(fetch("c"), 2);
    fs::set_permissions(file(), fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(file(), noise(999)).unwrap();
    assert_eq!(fetch("d"), 3);
    if is_root() {
        std::os::unix::fs::chown(file(), Some(NOBODY), None).unwrap();
        assert_eq!(fetch("e"), 4);
    }
}

#[test]
fn a_cache_directory_is_ours_alone_and_nothing_else_in_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/cache");
    let first = Fetcher::open(Config::new(&path)).unwrap();
    let error = Fetcher::open(Config::new(&path)).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }) && error.class() == Class::Conflict, "{error}");
    drop(first);
    fs::write(path.join("precious"), "x").unwrap();
    fs::write(path.join("files/c1-old"), "x").unwrap();
    let second = Fetcher::open(Config::new(&path)).unwrap();
    assert!(path.join("precious").exists() && !path.join("files/c1-old").exists());
    drop(second);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Fetcher::open(Config::new(&path)).unwrap_err();
    assert!(error.to_string().contains("may be written by others"), "{error}");
    if is_root() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
        let error = Fetcher::open(Config::new(&path)).unwrap_err();
        assert!(error.to_string().contains("belongs to somebody else"), "{error}");
    }
}
