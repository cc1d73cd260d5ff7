// SPDX-License-Identifier: Apache-2.0
//! http, from servers that behave and from servers that do not.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_fetcher::{How, Net, Stop};
use berth_model::{Class, Uri};
use support::*;

#[test]
fn a_file_arrives_with_its_name_mode_and_owner_and_the_log_says_so() {
    let (ground, server) = (Ground::new(|_| {}), Server::of(noise(300_000)));
    let sandbox = ground.sandbox("s");
    let uris = [
        uri(server.url("a.bin")),
        Uri { executable: Some(true), ..uri(server.url("run.tgz")) },
        Uri { output_file: Some("d/e/b".into()), ..uri(server.url("x?secret=1")) },
    ];
    let fetched = ground.fetch(&sandbox, &uris).unwrap();
    assert!(fetched.iter().all(|one| one.how == How::Fetched && one.bytes == 300_000));
    assert_eq!(sandbox.names(), ["a.bin", "d", "d/e", "d/e/b", "run.tgz"]);
    assert_eq!(sandbox.read("d/e/b"), noise(300_000));
    let stat = |name: &str| sandbox.path.join(name).metadata().unwrap();
    assert_eq!((stat("a.bin").mode() & 0o7777, stat("run.tgz").mode() & 0o7777), (0o644, 0o755));
    if is_root() {
        assert_eq!((stat("a.bin").uid(), stat("d").uid()), (NOBODY, NOBODY));
    }
    let log = sandbox.log();
    assert!(log.contains("Fetching URI 'http://127.0.0.1") && log.contains("Fetched"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    assert_eq!(ground.fetcher.metrics().task_fetches_succeeded, 1);
}

#[test]
fn errors_of_the_server_are_told_in_the_words_of_mesos() {
    let ground = Ground::new(|_| {});
    let server = Server::new(|_, stream| head(stream, 404, &["Content-Length: 0"]));
    let sandbox = ground.sandbox("s");
    let error = ground.fetch(&sandbox, &[uri(server.url("x"))]).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("Failed to fetch 'http://127.0.0.1"), "{text}");
    assert!(text.ends_with("Error downloading resource, received HTTP return code 404"), "{text}");
    assert_eq!((error.class(), sandbox.names().len()), (Class::NotFound, 0));
    assert_eq!(ground.fetcher.metrics().task_fetches_failed, 1);
}

#[test]
fn twenty_launches_share_one_download() {
    let ground = Arc::new(Ground::new(|_| {}));
    let body = noise(2_000_000);
    let server = Server::new({
        let body = body.clone();
        move |_, stream| {
            head(stream, 200, &[&format!("Content-Length: {}", body.len())]);
            for piece in body.chunks(200_000) {
                let _ = stream.write_all(piece);
                std::thread::sleep(Duration::from_millis(30));
            }
        }
    });
    let all: Vec<_> = (0..20)
        .map(|n| {
            let (ground, url) = (ground.clone(), server.url("big"));
            std::thread::spawn(move || {
                let sandbox = ground.sandbox(&format!("s{n}"));
                let fetched = ground.fetch(&sandbox, &[cached(url)]).unwrap();
                assert_ne!(fetched[0].how, How::Fetched);
                sandbox.read("big")
            })
        })
        .collect();
    for one in all {
        assert_eq!(one.join().unwrap(), body);
    }
    assert_eq!(server.asked().len(), 1);
    assert_eq!(ground.fetcher.metrics().cache_size_used_bytes, 2_000_000);
}

#[test]
fn the_first_who_wanted_a_download_may_go_and_the_others_get_it() {
    let ground = Arc::new(Ground::new(|_| {}));
    let server = Server::new(|_, stream| {
        head(stream, 200, &["Content-Length: 6"]);
        let _ = stream.write_all(b"abc");
        std::thread::sleep(Duration::from_millis(800));
        let _ = stream.write_all(b"def");
    });
    let begin = |name: &'static str| {
        let (ground, url, stop) = (ground.clone(), server.url("x"), Stop::new().unwrap());
        let theirs = stop.clone();
        let thread = std::thread::spawn(move || {
            let sandbox = ground.sandbox(name);
            ground.fetch_until(&sandbox, &[cached(url)], &theirs).map(|_| sandbox.read("x"))
        });
        (thread, stop)
    };
    let (first, stop) = begin("first");
    while server.asked().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (second, _) = begin("second");
    std::thread::sleep(Duration::from_millis(200));
    stop.kill();
    assert_eq!(first.join().unwrap().unwrap_err().class(), Class::Gone);
    assert_eq!(second.join().unwrap().unwrap(), b"abcdef");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_destroyed_container_ends_its_fetch_at_once_and_nothing_stays() {
    let ground = Arc::new(Ground::new(|config| config.stall_timeout = Duration::from_secs(60)));
    let gone = Arc::new(AtomicUsize::new(0));
    let noticed = gone.clone();
    let server = Server::new(move |_, stream| {
        head(stream, 200, &["Content-Length: 1000000"]);
        let _ = stream.write_all(b"begun");
        // Until the client is gone.
        let _ = std::io::Read::read(stream, &mut [0; 16]);
        noticed.fetch_add(1, Ordering::SeqCst);
    });
    for uri in [uri(server.url("x")), cached(server.url("y"))] {
        let sandbox = ground.sandbox(if uri.cache.is_some() { "cached" } else { "direct" });
        let stop = Stop::new().unwrap();
        let killer = stop.clone();
        let before = server.asked().len();
        std::thread::scope(|scope| {
            let fetch = scope.spawn(|| {
                let error = ground.fetch_until(&sandbox, &[uri], &stop).unwrap_err();
                (Instant::now(), error)
            });
            while server.asked().len() == before {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(100));
            let asked = Instant::now();
            killer.kill();
            let (ended, error) = fetch.join().unwrap();
            assert!(matches!(error, berth_fetcher::FetchError::Stopped), "{error}");
            let took = ended.duration_since(asked);
            assert!(took < Duration::from_millis(500), "{took:?}");
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        while gone.load(Ordering::SeqCst) <= before {
            assert!(Instant::now() < deadline, "the child still reads");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Who downloads it for the cache takes it away, a moment after its connection.
        let left = || std::fs::read_dir(ground.dir.path().join("cache/files")).unwrap().next().is_some();
        while left() {
            assert!(Instant::now() < deadline, "what was not fetched whole stays in the cache");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_stall_is_noticed_and_named() {
    let ground = Ground::new(|config| config.stall_timeout = Duration::from_secs(1));
    let silent = Server::new(|asked, stream| {
        if asked.path != "/never" {
            head(stream, 200, &["Content-Length: 100"]);
            let _ = stream.write_all(b"begun");
        }
        std::thread::sleep(Duration::from_secs(20));
    });
    for path in ["x", "never"] {
        let sandbox = ground.sandbox(path);
        let began = Instant::now();
        let text = ground.fetch(&sandbox, &[uri(silent.url(path))]).unwrap_err().to_string();
        assert!(text.contains("less than 1 byte/s for 1 s (--fetcher_stall_timeout)"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert_eq!(sandbox.names(), [""; 0]);
    }
}

#[test]
fn a_cut_connection_is_resumed_where_it_was() {
    let body = noise(1_000_000);
    let server = Server::new({
        let body = body.clone();
        move |asked, stream| {
            let from = asked
                .headers
                .get("range")
                .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
            let to = (from.unwrap_or(0) + 300_000).min(body.len());
            match from {
                None => head(stream, 200, &["Content-Length: 1000000", "ETag: \"v1\""]),
                Some(from) => {
                    assert_eq!(asked.headers["if-range"], "\"v1\"");
                    let range = format!("Content-Range: bytes {from}-999999/1000000");
                    let length = format!("Content-Length: {}", 1_000_000 - from);
                    head(stream, 206, &[&range, &length, "ETag: \"v1\""]);
                }
            }
            let _ = stream.write_all(&body[from.unwrap_or(0)..to]);
        }
    });
    let ground = Ground::new(|_| {});
    for uri in [uri(server.url("x")), cached(server.url("x"))] {
        let sandbox = ground.sandbox(if uri.cache.is_some() { "cached" } else { "direct" });
        ground.fetch(&sandbox, &[uri]).unwrap();
        assert!(sandbox.read("x") == body);
        assert!(sandbox.log().contains("going on at byte"), "{}", sandbox.log());
    }
    assert_eq!(server.asked().len(), 8);
}

#[test]
fn what_changed_meanwhile_is_fetched_anew_or_refused() {
    // The second answer is another file of the same length, whole.
    let same = Server::new(|asked, stream| match asked.number {
        0 => {
            head(stream, 200, &["Content-Length: 6", "ETag: \"v1\""]);
            let _ = stream.write_all(b"old");
        }
        _ => ok(stream, b"newnew"),
    });
    let ground = Ground::new(|_| {});
    let sandbox = ground.sandbox("same");
    ground.fetch(&sandbox, &[uri(same.url("x"))]).unwrap();
    assert_eq!(sandbox.read("x"), b"newnew");
    // A rest that is not the one asked for.
    let wrong = Server::new(|asked, stream| match asked.number {
        0 => {
            head(stream, 200, &["Content-Length: 6", "ETag: \"v1\""]);
            let _ = stream.write_all(b"old");
        }
        _ => {
            head(stream, 206, &["Content-Length: 4", "Content-Range: bytes 2-5/6"]);
            let _ = stream.write_all(b"evil");
        }
    });
    let sandbox = ground.sandbox("wrong");
    let text = ground.fetch(&sandbox, &[uri(wrong.url("x"))]).unwrap_err().to_string();
    assert!(text.contains("for something else"), "{text}");
}

#[test]
fn a_server_that_always_sends_less_than_it_says_is_given_up() {
    let server = Server::new(|_, stream| {
        head(stream, 200, &["Content-Length: 100"]);
        let _ = stream.write_all(b"short");
    });
    let ground = Ground::new(|_| {});
    let sandbox = ground.sandbox("s");
    let text = ground.fetch(&sandbox, &[uri(server.url("x"))]).unwrap_err().to_string();
    assert!(text.contains("Error downloading resource: "), "{text}");
    assert!((4..8).contains(&server.asked().len()), "{}", server.asked().len());
    assert_eq!(sandbox.names(), [""; 0]);
}

#[test]
fn a_server_that_sends_more_than_it_says_adds_nothing() {
    let server = Server::new(|_, stream| {
        head(stream, 200, &["Content-Length: 5"]);
        let _ = stream.write_all(b"exactand much more");
    });
    let ground = Ground::new(|_| {});
    for uri in [uri(server.url("x")), cached(server.url("x"))] {
        let sandbox = ground.sandbox(if uri.cache.is_some() { "cached" } else { "direct" });
        ground.fetch(&sandbox, &[uri]).unwrap();
        assert_eq!(sandbox.read("x"), b"exact");
    }
}

#[test]
fn endless_and_huge_resources_are_bounded() {
    let ground = Ground::new(|config| config.limits.download = 1 << 20);
    let endless = Server::new(|asked, stream| {
        match asked.path.as_str() {
            "/said" => head(stream, 200, &["Content-Length: 99999999999999"]),
            _ => head(stream, 200, &[]),
        }
        while stream.write_all(&[0; 65536]).is_ok() {}
    });
    for path in ["said", "unsaid"] {
        let sandbox = ground.sandbox(path);
        let error = ground.fetch(&sandbox, &[uri(endless.url(path))]).unwrap_err();
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
        assert_eq!((error.class(), sandbox.names().len()), (Class::Exhausted, 0));
    }
}

#[test]
fn redirects_stay_in_http_and_out_of_private_networks() {
    let elsewhere = Server::of(b"secret of another service".to_vec());
    let port = elsewhere.address.port();
    let server = Server::new(move |asked, stream| {
        let to = match asked.path.as_str() {
            "/private" => "http://10.255.255.1/x".to_owned(),
            "/neighbour" => format!("http://127.0.0.1:{port}/x"),
            "/name" => format!("http://localhost:{port}/x"),
            "/mapped" => format!("http://[::ffff:127.0.0.1]:{port}/x"),
            "/metadata" => "http://169.254.169.254/latest/meta-data/".to_owned(),
            "/file" => "file:///etc/passwd".to_owned(),
            "/ftp" => "ftp://127.0.0.1/x".to_owned(),
            "/loop" => "/loop".to_owned(),
            "/good" => "deep/../target".to_owned(),
            _ => return ok(stream, b"found"),
        };
        head(stream, 302, &[&format!("Location: {to}"), "Content-Length: 0"]);
    });
    let ground = Ground::new(|_| {});
    for (path, word) in [
        ("private", "a redirect to 10.255.255.1, which is an address of a private network"),
        ("neighbour", "a redirect to 127.0.0.1, which is an address of this host"),
        ("name", "which is an address of this host, is not followed"),
        ("mapped", "which is an address of this host, is not followed"),
        ("metadata", "metadata service"),
        ("file", "only http and https are"),
        ("ftp", "only http and https are"),
        ("loop", "more than 10 redirects"),
    ] {
        let sandbox = ground.sandbox(path);
        let text = ground.fetch(&sandbox, &[uri(server.url(path))]).unwrap_err().to_string();
        assert!(text.contains(word), "{path}: {text}");
        assert_eq!(sandbox.names(), [""; 0]);
    }
    assert!(elsewhere.asked().is_empty());
    let sandbox = ground.sandbox("good");
    ground.fetch(&sandbox, &[uri(server.url("good"))]).unwrap();
    assert_eq!(sandbox.read("good"), b"found");
    let ground = Ground::new(|config| config.egress.allow = vec!["127.0.0.0/8".parse::<Net>().unwrap()]);
    ground.fetch(&ground.sandbox("allowed"), &[uri(server.url("neighbour"))]).unwrap();
}

#[test]
fn the_metadata_service_is_never_asked() {
    let ground = Ground::new(|_| {});
    let sandbox = ground.sandbox("s");
    for value in [
        "http://169.254.169.254/latest/meta-data/x",
        "http://[::ffff:169.254.169.254]/x",
        "http://2852039166/x",
        "http://0xa9.0xfe.0xa9.0xfe/x",
        "ftp://169.254.169.254/x",
        "http://[fd00:ec2::254]/x",
    ] {
        let error = ground.fetch(&sandbox, &[uri(value)]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("metadata service"), "{value}: {text}");
        assert_eq!(error.class(), Class::Denied);
    }
}

#[test]
fn a_login_goes_to_its_own_server_only() {
    let other = Server::of(b"x".to_vec());
    let url = other.url("x");
    let server = Server::new(move |asked, stream| {
        assert_eq!(asked.headers["authorization"], "Basic dTpw");
        head(stream, 302, &[&format!("Location: {url}"), "Content-Length: 0"]);
    });
    let ground = Ground::new(|config| config.egress.allow = vec!["127.0.0.1".parse::<Net>().unwrap()]);
    let sandbox = ground.sandbox("s");
    let url = server.url("x").replace("http://", "http://u:p@");
    let fetched = ground.fetch(&sandbox, &[uri(url)]).unwrap();
    assert!(!fetched[0].uri.contains("u:p"));
    assert!(!other.asked()[0].headers.contains_key("authorization"));
}

#[test]
fn a_gigabyte_comes_from_the_cache_in_a_moment() {
    const SIZE: u64 = 1 << 30;
    let served = tempfile::tempdir().unwrap();
    std::fs::File::create(served.path().join("big")).unwrap().set_len(SIZE).unwrap();
    let mut python = std::process::Command::new("python3")
        .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"])
        .current_dir(served.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = python.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let port = line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let ground = Ground::new(|_| {});
    let uris = [cached(format!("http://127.0.0.1:{port}/big"))];
    let mut times = Vec::new();
    for name in ["first", "second", "third"] {
        let sandbox = ground.sandbox(name);
        let began = Instant::now();
        let fetched = ground.fetch(&sandbox, &uris).unwrap();
        times.push((began.elapsed(), fetched[0].how));
        assert_eq!(sandbox.path.join("big").metadata().unwrap().len(), SIZE);
    }
    let _ = python.kill();
    let _ = python.wait();
    println!("1 GiB by http: {:?}; from the cache: {:?}, {:?}", times[0], times[1], times[2]);
    if is_root() {
        assert!(times[1].0.min(times[2].0) < Duration::from_millis(50), "{times:?}");
    }
}
