// SPDX-License-Identifier: Apache-2.0
//! THREATS 2.3, as far as it concerns a client: each attack by its name.
#![allow(non_snake_case)]

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_image::PullError;
use berth_model::Class;

use crate::support::*;

/// An address that nobody answers from costs 8 s.
const NO_CONNECTION: Duration = Duration::from_secs(7);

fn refused(client: &berth_registry::Client, reference: &str) -> String {
    let error = manifest_by(client, reference).expect_err("it must be refused");
    chain(&error)
}

/// A server that nobody may come to.
fn canary() -> Server {
    Server::simple(|_| (200, Vec::new(), b"{}".to_vec()))
}

fn bearer(realm: &str) -> Vec<(&'static str, String)> {
    vec![("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s",scope="repository:a:pull""#))]
}

/// A registry on the internet, as far as the client can tell: a name behind a proxy of the test's own.
fn public(
    answer: impl Fn(&Seen) -> (u16, Vec<(&'static str, String)>, Vec<u8>) + Send + Sync + 'static,
) -> (Server, String) {
    let proxy = Server::simple(answer);
    let config = format!("[registry.\"r.example\"]\nplain_http = true\nproxy = \"{}\"\n", proxy.url("/"));
    (proxy, config)
}

#[test]
fn CVE_2020_15157_credentials_stay_away_from_a_realm_of_somebody_else() {
    let stranger = canary();
    let realm = format!("https://localhost:{}/token", stranger.address.port());
    let server = Server::simple(move |_| (401, bearer(&realm), Vec::new()));
    let client = client_of(&server.registry(), "me", "hunter2", "");
    let text = refused(&client, &format!("{}/a", server.registry()));
    assert!(!text.contains("hunter2"), "{text}");
    // It speaks no TLS, so nothing but the beginning of a handshake can have come; and no request did.
    assert!(stranger.seen().is_empty());
}

#[test]
fn CVE_2020_15157_an_open_realm_is_refused_and_what_would_allow_it_is_told() {
    let stranger = canary();
    let realm = stranger.url("/token");
    let server = Server::simple(move |_| (401, bearer(&realm), Vec::new()));
    let client = client_of(&server.registry(), "me", "hunter2", "");
    let text = refused(&client, &format!("{}/a", server.registry()));
    assert!(text.contains("https only") && text.contains("`realms`"), "{text}");
    assert!(stranger.seen().is_empty());
}

#[test]
fn CVE_2026_48978_a_blob_somewhere_else_is_fetched_without_credentials_and_may_not_ask_for_them() {
    let image = Image::new(noise(5000));
    let served = image.clone();
    let elsewhere = Server::simple(move |request| match request.path() {
        "/asks" => (401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], Vec::new()),
        _ => (200, Vec::new(), served.layer.clone()),
    });
    let (gives, asks) = (elsewhere.url("/gives?sig=1"), elsewhere.url("/asks"));
    let server = Server::simple(move |request| match request.header("authorization") {
        None => (401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], Vec::new()),
        Some(_) if request.path().starts_with("/v2/asks") => {
            (307, vec![("Location", asks.clone())], Vec::new())
        }
        Some(_) => (307, vec![("Location", gives.clone())], Vec::new()),
    });
    let config = format!("[registry.\"{}\"]\nheaders = {{ X-Secret = \"s3\" }}", server.registry());
    let client = client_of(&server.registry(), "me", "hunter2", &config);
    let got = blob_by(&client, &format!("{}/gives", server.registry()), &image.blob(), 0).unwrap();
    assert!(got == image.layer);
    let error = blob_by(&client, &format!("{}/asks", server.registry()), &image.blob(), 0).unwrap_err();
    assert_eq!(error.class(), Class::Denied, "{}", chain(&error));
    for seen in elsewhere.seen() {
        assert!(seen.header("authorization").is_none() && seen.header("x-secret").is_none(), "{seen:?}");
    }
    assert!(
        server
            .seen()
            .iter()
            .any(|seen| seen.header("authorization").is_some() && seen.header("x-secret") == Some("s3"))
    );
}

#[test]
fn go_containerregistry_2193_a_realm_at_an_address_of_ours_is_not_asked() {
    let victim = canary();
    for host in ["127.0.0.1", "localhost", "[::1]", "127.1", "0x7f.1", "2130706433"] {
        let realm = format!("https://{host}:{}/token", victim.address.port());
        let (proxy, config) = public(move |_| (401, bearer(&realm), Vec::new()));
        let text = refused(&client(&config), "r.example/a");
        let resolves = !text.contains("has no address") && !text.contains("is refused: it is not an address");
        assert!(!resolves || text.contains("loopback address"), "{host}: {text}");
        assert!(matches!(host, "127.1" | "0x7f.1" | "2130706433" | "[::1]") || resolves, "{host}: {text}");
        assert!(proxy.seen().len() == 1 && victim.seen().is_empty());
    }
    for host in [
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "0.0.0.0",
    ] {
        let realm = format!("https://{host}/token");
        let (_proxy, config) = public(move |_| (401, bearer(&realm), Vec::new()));
        let began = Instant::now();
        let text = refused(&client(&config), "r.example/a");
        assert!(text.contains("address") && text.contains("may not send us"), "{host}: {text}");
        assert!(began.elapsed() < NO_CONNECTION, "{host}: it was connected to");
    }
}

#[test]
fn go_containerregistry_2440_a_redirect_by_name_to_an_address_of_ours_is_refused_when_connecting() {
    let victim = canary();
    for host in ["127.0.0.1", "localhost"] {
        let location = format!("http://{host}:{}/latest/meta-data", victim.address.port());
        let (_proxy, config) = public(move |_| (307, vec![("Location", location.clone())], Vec::new()));
        let text = refused(&client(&config), "r.example/a");
        assert!(text.contains("loopback address") && text.contains("`redirects`"), "{host}: {text}");
    }
    assert!(victim.seen().is_empty());
}

#[test]
fn go_containerregistry_2440_the_metadata_service_is_out_of_reach_for_everybody() {
    for (kind, location) in
        [("redirect", "http://169.254.169.254/latest"), ("redirect", "http://2852039166/latest")]
    {
        let server = Server::simple(move |_| (307, vec![("Location", location.to_owned())], Vec::new()));
        let began = Instant::now();
        let text = refused(&client(""), &format!("{}/a", server.registry()));
        assert!(text.contains("link-local address"), "{kind}: {text}");
        assert!(began.elapsed() < NO_CONNECTION);
    }
    let text = refused(&client(""), "169.254.169.254/a");
    assert!(text.contains("link-local address") && text.contains("a reference"), "{text}");
}

#[test]
fn GHSA_vh4v_2xq2_g5cg_authorization_is_dropped_on_any_change_of_origin() {
    let image = Image::new(noise(10));
    let served = image.clone();
    let other_port = Server::simple(move |request| served.serve(request));
    let target = other_port.address;
    let server = Server::simple(move |request| match request.header("authorization") {
        None => (401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], Vec::new()),
        Some(_) => (307, vec![("Location", format!("http://{target}{}", request.target))], Vec::new()),
    });
    let client = client_of(&server.registry(), "me", "hunter2", "");
    manifest_by(&client, &format!("{}/a", server.registry())).unwrap();
    assert!(other_port.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(other_port.seen().len(), 1);
}

#[test]
fn GHSA_vh4v_2xq2_g5cg_authorization_does_not_come_back_after_a_detour() {
    let detour = Arc::new(std::sync::OnceLock::<String>::new());
    let back = Arc::clone(&detour);
    let elsewhere =
        Server::simple(move |_| (307, vec![("Location", back.get().unwrap().clone())], Vec::new()));
    let away = elsewhere.url("/");
    let image = Image::new(noise(10));
    let server = Server::simple(move |request| match (request.path(), request.header("authorization")) {
        ("/back", _) => (200, vec![("Content-Type", MANIFEST.to_owned())], image.manifest.clone()),
        (_, None) => (401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], Vec::new()),
        _ => (307, vec![("Location", away.clone())], Vec::new()),
    });
    detour.set(server.url("/back")).unwrap();
    let client = client_of(&server.registry(), "me", "hunter2", "");
    manifest_by(&client, &format!("{}/a", server.registry())).unwrap();
    let back = server.seen().into_iter().find(|seen| seen.path() == "/back").unwrap();
    assert!(back.header("authorization").is_none());
}

#[test]
fn redirects_to_files_to_other_schemes_and_in_circles_are_refused() {
    for (location, word) in [
        ("file:///etc/shadow", "scheme is 'file'"),
        ("gopher://127.0.0.1:25/x", "scheme is 'gopher'"),
        ("http://user:pw@127.0.0.1/", "user information"),
        ("http://[::1", "not an address"),
        ("http:///x", "not an address"),
    ] {
        let server = Server::simple(move |_| (302, vec![("Location", location.to_owned())], Vec::new()));
        let text = refused(&client(""), &format!("{}/a", server.registry()));
        assert!(text.contains(word), "{location}: {text}");
    }
    let server = Server::simple(|request| (302, vec![("Location", request.target.clone())], Vec::new()));
    let text = refused(&client(""), &format!("{}/a", server.registry()));
    assert!(text.contains("in a row"), "{text}");
    let server = Server::simple(|_| (302, Vec::new(), Vec::new()));
    assert!(refused(&client(""), &format!("{}/a", server.registry())).contains("redirects to nowhere"));
}

#[test]
fn CVE_2021_41190_a_document_of_two_kinds_is_refused_whatever_it_is_called() {
    let part = format!(r#"{{"mediaType":"x","digest":"{}","size":1}}"#, sha256(b"x"));
    let text = format!(r#"{{"schemaVersion":2,"config":{part},"layers":[{part}],"manifests":[{part}]}}"#);
    for media_type in [MANIFEST, INDEX, "application/json"] {
        let body = text.clone().into_bytes();
        let server =
            Server::simple(move |_| (200, vec![("Content-Type", media_type.to_owned())], body.clone()));
        let text = refused(&client(""), &format!("{}/a", server.registry()));
        assert!(text.contains("a manifest and an index at once"), "{media_type}: {text}");
    }
}

#[test]
fn CVE_2021_41190_a_manifest_that_is_announced_as_something_else_is_refused() {
    for announced in [
        INDEX,
        "application/vnd.docker.distribution.manifest.v2+json",
        "text/html",
        "application/octet-stream",
    ] {
        let image = Image::new(noise(10));
        let server = Server::simple(move |_| {
            (200, vec![("Content-Type", announced.to_owned())], image.manifest.clone())
        });
        let error = manifest_by(&client(""), &format!("{}/a", server.registry())).unwrap_err();
        assert_eq!(error.class(), Class::Invalid, "{announced}: {}", chain(&error));
    }
}

#[test]
fn CVE_2023_25153_a_manifest_without_end_is_not_read_to_its_end() {
    // By its length, in chunks, until the connection closes.
    for head in ["Content-Length: 10737418240", "Transfer-Encoding: chunked", "X-None: x"] {
        let server = Server::start(move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\n{head}\r\n\r\n").unwrap();
            let part = vec![b' '; 1 << 16];
            for _ in 0..160_000 {
                let sent = match head.starts_with('T') {
                    true => stream
                        .write_all(b"10000\r\n")
                        .and_then(|()| stream.write_all(&part))
                        .and_then(|()| stream.write_all(b"\r\n")),
                    false => stream.write_all(&part),
                };
                if sent.is_err() {
                    return false;
                }
            }
            panic!("all of 10 GB was read");
        });
        let began = Instant::now();
        let text = refused(&client(""), &format!("{}/a", server.registry()));
        assert!(text.contains("more than the 4194304 bytes"), "{head}: {text}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_gzip_bomb_in_place_of_a_manifest_is_refused_unopened() {
    for encoding in ["gzip", "deflate", "br", "gzip, gzip"] {
        let image = Image::new(noise(10));
        let server = Server::simple(move |_| {
            let headers =
                vec![("Content-Type", MANIFEST.to_owned()), ("Content-Encoding", encoding.to_owned())];
            (200, headers, image.manifest.clone())
        });
        let text = refused(&client(""), &format!("{}/a", server.registry()));
        assert!(text.contains("nobody asked for that"), "{text}");
        assert!(server.seen()[0].header("accept-encoding").is_none());
    }
}

#[test]
fn a_registry_that_lies_about_digests_gets_nothing_from_us() {
    let image = Image::new(noise(10));
    let wanted = sha256(b"something else");
    let served = image.clone();
    let server = Server::simple(move |request| {
        let (status, mut headers, body) = served.serve(request);
        if request.path().ends_with("/lies") {
            headers.push(("Docker-Content-Digest", wanted.to_string()));
        }
        (status, headers, body)
    });
    let by_digest = manifest_by(&client(""), &format!("{}/a@{wanted}", server.registry())).unwrap_err();
    assert!(chain(&by_digest).contains("corrupt or lies"), "{}", chain(&by_digest));
    assert_eq!(by_digest.class(), Class::Invalid);
    assert!(refused(&client(""), &format!("{}/a:lies", server.registry())).contains("corrupt or lies"));
    let right = format!("{}/a@{}", server.registry(), sha256(&image.manifest));
    assert_eq!(manifest_by(&client(""), &right).unwrap().digest, sha256(&image.manifest));
}

#[test]
fn heads_that_are_huge_many_or_malformed_are_refused() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "x".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(10_000));
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(1000);
    let lengths = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!";
    for (sent, word) in [
        (huge.as_str(), "head"),
        (many.as_str(), "head"),
        (interim.as_str(), "interim"),
        (lengths, "malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "malformed"),
        ("SSH-2.0-OpenSSH\r\n", "malformed"),
        ("HTTP/1.1 999999 x\r\n\r\n", "malformed"),
        ("HTTP/2.0 200 OK\r\n\r\n", "malformed"),
        ("\0\0\0\0\0\0\0\0", "malformed"),
        ("", "broke"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\nContent-Type: application/json\r\n\r\n{", "broke"),
    ] {
        let sent = sent.to_owned();
        let server = Server::start(move |_, stream| {
            stream.write_all(sent.as_bytes()).ok();
            false
        });
        let text = refused(&client(""), &format!("{}/a", server.registry()));
        assert!(text.contains(word), "{word}: {text}");
        assert!(text.len() < 2000, "{}", text.len());
    }
}

#[test]
fn a_head_that_drips_is_given_up() {
    let server = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").ok();
        while stream.write_all(b"X: y\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    });
    let began = Instant::now();
    let text = refused(&client(""), &format!("{}/a", server.registry()));
    assert!(text.contains("no progress") || text.contains("head"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(8));
}

#[test]
fn what_comes_after_an_answer_is_not_taken_for_the_next() {
    let image = Image::new(noise(10));
    let forged = format!("HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: 2\r\n\r\n{{}}");
    let server = Server::start(move |_, stream| {
        let length = image.manifest.len();
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: {length}\r\n\r\n")
                .into_bytes();
        answer.extend_from_slice(&image.manifest);
        answer.extend_from_slice(forged.as_bytes());
        stream.write_all(&answer).is_ok()
    });
    let client = client("");
    for _ in 0..4 {
        manifest_by(&client, &format!("{}/a", server.registry())).unwrap();
    }
}

#[test]
fn what_a_registry_says_reaches_a_terminal_escaped_and_cut() {
    let body =
        format!(r#"{{"errors":[{{"code":"X","message":"\u001b]0;owned\u0007{}"}}]}}"#, "y".repeat(5000));
    for status in [400, 401, 403, 404, 500] {
        let body = body.clone().into_bytes();
        let server = Server::simple(move |_| (status, Vec::new(), body.clone()));
        let text = refused(&client(""), &format!("{}/a", server.registry()));
        assert!(text.contains("owned") && !text.contains('\u{1b}') && text.len() < 1500, "{status}: {text}");
    }
}

#[test]
fn a_name_can_not_become_another_request() {
    for text in [
        "r.example/a/../../v2/b",
        "r.example/a%2f..",
        "r.example/a?x=1",
        "r.example/a#x",
        "r.example/a b",
        "r.example/a\r\nX: y",
    ] {
        assert!(text.parse::<berth_model::image::Reference>().is_err(), "{text:?}");
    }
}

#[test]
fn errors_are_of_the_class_that_they_are() {
    for (status, class) in [
        (401, Class::Denied),
        (403, Class::Denied),
        (404, Class::NotFound),
        (429, Class::Exhausted),
        (500, Class::Internal),
    ] {
        let server = Server::simple(move |_| (status, Vec::new(), Vec::new()));
        let error = manifest_by(&client(""), &format!("{}/a", server.registry())).unwrap_err();
        assert_eq!(error.class(), class, "{status}");
        assert!(matches!(error, PullError::Other { .. }));
    }
}
