// SPDX-License-Identifier: Apache-2.0
//! Tokens: challenges that lack something, both names of a token, its life, its scope.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::*;

/// A registry with its token server at the same origin; `challenge` is what it asks with, `{}` its address.
fn registry(challenge: &'static str, grant: &'static str) -> (Server, Image) {
    let image = Image::new(noise(2000));
    let served = image.clone();
    let server = Server::simple(move |request| {
        let host = request.header("host").unwrap().to_owned();
        let wants = |text: &str| vec![("WWW-Authenticate", text.replace("{}", &host))];
        match request.path() {
            "/token" => (200, Vec::new(), grant.as_bytes().to_vec()),
            "/v2/" => (401, wants(r#"Bearer realm="http://{}/token",service="root""#), Vec::new()),
            _ if request.header("authorization") == Some("Bearer t0") => served.serve(request),
            _ => (401, wants(challenge), Vec::new()),
        }
    });
    (server, image)
}

const FULL: &str = r#"Bearer realm="http://{}/token",service="my, service",scope="repository:a:pull""#;

#[test]
fn a_token_is_fetched_once_and_used_for_all_of_an_image() {
    for grant in [r#"{"token":"t0"}"#, r#"{"access_token":"t0","expires_in":3600}"#] {
        let (server, image) = registry(FULL, grant);
        let client = client("");
        let reference = format!("{}/a", server.registry());
        for _ in 0..3 {
            assert_eq!(manifest_by(&client, &reference).unwrap().bytes, image.manifest);
            assert!(blob_by(&client, &reference, &image.blob(), 0).unwrap() == image.layer);
        }
        assert_eq!(server.count("/token"), 1);
        let asked = server.seen().into_iter().find(|seen| seen.path() == "/token").unwrap();
        assert_eq!(
            asked.target,
            "/token?service=my%2C%20service&scope=repository:a:pull".replace("%2C", ",")
        );
        assert!(asked.header("authorization").is_none());
    }
}

#[test]
fn a_challenge_that_lacks_scope_service_or_realm_is_still_answered() {
    for (challenge, target) in [
        (r#"Bearer realm="http://{}/token",service="s""#, "/token?service=s&scope=repository:a:pull"),
        (r#"Bearer realm="http://{}/token""#, "/token?scope=repository:a:pull"),
        (r#"Bearer service="s""#, "/token?service=root&scope=repository:a:pull"),
        ("Bearer", "/token?service=root&scope=repository:a:pull"),
        (r#"Bearer realm="http://{}/token?x=1",service="s""#, "/token?x=1&service=s&scope=repository:a:pull"),
        (
            r#"Negotiate, Bearer realm="http://{}/token",error="invalid_token""#,
            "/token?scope=repository:a:pull",
        ),
    ] {
        let (server, _) = registry(challenge, r#"{"token":"t0"}"#);
        manifest_by(&client(""), &format!("{}/a", server.registry())).unwrap();
        let asked: Vec<String> =
            server.seen().into_iter().filter(|s| s.path() == "/token").map(|s| s.target).collect();
        assert_eq!(asked, [target], "{challenge}");
    }
}

#[test]
fn a_scope_that_is_not_ours_is_not_asked_for() {
    let (server, _) = registry(
        r#"Bearer realm="http://{}/token",scope="repository:other/secret:pull,push,delete""#,
        r#"{"token":"t0"}"#,
    );
    manifest_by(&client(""), &format!("{}/a", server.registry())).unwrap();
    assert_eq!(server.count("other"), 0);
    assert_eq!(server.count("/token?scope=repository:a:pull"), 1);
}

#[test]
fn a_token_that_ended_is_fetched_anew() {
    let image = Image::new(noise(2000));
    let (served, minted) = (image.clone(), Arc::new(AtomicUsize::new(0)));
    let server = Server::simple(move |request| {
        let host = request.header("host").unwrap();
        if request.path() == "/token" {
            let number = minted.fetch_add(1, Ordering::SeqCst) + 1;
            return (200, Vec::new(), format!(r#"{{"token":"t{number}","expires_in":3600}}"#).into_bytes());
        }
        // Blobs want the second token: the first was revoked.
        let wanted = if request.path().contains("/blobs/") { "Bearer t2" } else { "Bearer t1" };
        match request.header("authorization") == Some(wanted) {
            true => served.serve(request),
            false => (
                401,
                vec![("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#))],
                Vec::new(),
            ),
        }
    });
    let client = client("");
    let source = client.image(&format!("{}/a", server.registry()).parse().unwrap(), None).unwrap();
    use berth_image::{Cancel, ManifestRef, Source};
    source.manifest(&ManifestRef::Top, &Cancel::new()).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut source.blob(&image.blob(), 0, &Cancel::new()).unwrap(), &mut bytes)
        .unwrap();
    assert!(bytes == image.layer);
    assert_eq!(server.count("/token"), 2);
}

#[test]
fn a_registry_that_is_never_content_is_not_asked_for_ever() {
    let (server, _) = registry(FULL, r#"{"token":"other"}"#);
    let error = manifest_by(&client(""), &format!("{}/a", server.registry())).unwrap_err();
    assert!(chain(&error).contains("status 401"), "{}", chain(&error));
    assert!(server.seen().len() <= 4, "{}", server.seen().len());
}

#[test]
fn a_token_server_that_redirects_answers_nonsense_or_refuses_is_reported() {
    for (status, body, word) in [
        (302, "", "redirects, and credentials do not follow"),
        (307, "", "redirects, and credentials do not follow"),
        (200, "<html>", "not the JSON of a token server"),
        (200, "{}", "neither `token` nor `access_token`"),
        (200, r#"{"token":"a\r\nX: y"}"#, "characters that no header can have"),
        (401, r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
    ] {
        let stranger = Server::simple(|_| (200, Vec::new(), br#"{"token":"t0"}"#.to_vec()));
        let away = stranger.url("/token");
        let server = Server::simple(move |request| {
            let host = request.header("host").unwrap();
            match request.path() {
                "/token" => (status, vec![("Location", away.clone())], body.as_bytes().to_vec()),
                _ => (
                    401,
                    vec![("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token""#))],
                    Vec::new(),
                ),
            }
        });
        let client = client_of(&server.registry(), "me", "hunter2", "");
        let error = manifest_by(&client, &format!("{}/a", server.registry())).unwrap_err();
        assert!(chain(&error).contains(word), "{status}: {}", chain(&error));
        assert!(stranger.seen().is_empty());
    }
}

#[test]
fn a_realm_that_the_operator_names_gets_the_password() {
    let tokens = Server::simple(|request| match request.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") => (200, Vec::new(), br#"{"token":"t0"}"#.to_vec()),
        _ => (401, Vec::new(), Vec::new()),
    });
    let realm = tokens.url("/token");
    let image = Image::new(noise(100));
    let server = Server::simple(move |request| match request.header("authorization") {
        Some("Bearer t0") => image.serve(request),
        _ => (401, vec![("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#))], Vec::new()),
    });
    let config = format!("[registry.\"{}\"]\nrealms = [\"{}\"]", server.registry(), tokens.url("/"));
    let client = client_of(&server.registry(), "me", "hunter2", &config);
    manifest_by(&client, &format!("{}/a", server.registry())).unwrap();
    assert_eq!(tokens.count("account=me"), 1);
}

#[test]
fn an_identity_token_is_exchanged_by_post_and_never_in_an_address() {
    let image = Image::new(noise(100));
    let server = Server::simple(move |request| {
        let host = request.header("host").unwrap();
        match (request.path(), request.header("authorization")) {
            ("/token", None) if request.method == "POST" => {
                let form = String::from_utf8(request.body.clone()).unwrap();
                assert!(
                    form.contains("grant_type=refresh_token") && form.contains("refresh_token=id%2Btoken"),
                    "{form}"
                );
                assert!(form.contains("service=s") && form.contains("scope=repository%3Aa%3Apull"), "{form}");
                (200, Vec::new(), br#"{"access_token":"t0"}"#.to_vec())
            }
            (_, Some("Bearer t0")) => image.serve(request),
            _ => (
                401,
                vec![("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token",service="s""#))],
                Vec::new(),
            ),
        }
    });
    let mut settings = quick("");
    let json = format!(r#"{{"auths":{{"{}":{{"identitytoken":"id+token"}}}}}}"#, server.registry());
    settings.credentials.push(berth_registry::AuthFile::parse("test", json.as_bytes()).unwrap());
    let client = berth_registry::Client::new(settings).unwrap();
    manifest_by(&client, &format!("{}/a", server.registry())).unwrap();
    assert!(server.seen().iter().all(|seen| !seen.target.contains("id")), "{:?}", server.seen());
}
