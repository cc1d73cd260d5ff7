// SPDX-License-Identifier: Apache-2.0
//! Who gets which password, and what is said when there is none.

use berth_image::{Cancel, ManifestRef, Source};
use berth_registry::{AuthFile, Client};

use crate::support::*;

/// A registry that takes one user with one password; base64 of both.
fn basic(pair: &'static str) -> (Server, Image) {
    let image = Image::new(noise(100));
    let served = image.clone();
    let server = Server::simple(move |request| match request.header("authorization") {
        Some(given) if given == format!("Basic {pair}") => served.serve(request),
        _ => (401, vec![("WWW-Authenticate", "Basic realm=\"The registry, ours\"".to_owned())], Vec::new()),
    });
    (server, image)
}

fn auths(registry: &str, user: &str, password: &str) -> String {
    format!(r#"{{"auths":{{"{registry}":{{"username":"{user}","password":"{password}"}}}}}}"#)
}

#[test]
fn a_password_is_sent_only_when_it_is_asked_for() {
    let (server, _) = basic("bWU6cHc=");
    let client = client_of(&server.registry(), "me", "pw", "");
    manifest_by(&client, &format!("{}/a", server.registry())).unwrap();
    let seen = server.seen();
    assert!(seen[0].header("authorization").is_none() && seen[1].header("authorization").is_some());
    let open = Server::simple({
        let image = Image::new(noise(10));
        move |request| image.serve(request)
    });
    let client = client_of(&open.registry(), "me", "pw", "");
    manifest_by(&client, &format!("{}/a", open.registry())).unwrap();
    assert!(open.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn the_images_own_secret_comes_first_then_the_section_then_the_flag() {
    let (server, _) = basic("aW1hZ2U6cHc=");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    std::fs::write(&file, auths(&server.registry(), "section", "pw")).unwrap();
    let config = format!("[registry.\"{}\"]\ncredentials = \"{}\"", server.registry(), file.display());
    let client = client_of(&server.registry(), "flag", "pw", &config);
    let reference = format!("{}/a", server.registry()).parse().unwrap();
    let secret = auths(&server.registry(), "image", "pw");
    let image = client.image(&reference, Some(secret.as_bytes())).unwrap();
    image.manifest(&ManifestRef::Top, &Cancel::new()).unwrap();
    let who = |secret: Option<&[u8]>| {
        let explained = client
            .explain(&reference, secret, &berth_model::image::Platform::host(), None, &Cancel::new())
            .unwrap();
        explained.hosts[0].credentials.clone().unwrap()
    };
    assert_eq!((who(Some(secret.as_bytes())).user.as_str(), who(None).user.as_str()), ("image", "section"));
    assert_eq!(who(None).source, file.display().to_string());
    assert_eq!(who(Some(br#"{"auths":{}}"#)).user, "section");
}

#[test]
fn a_wrong_password_is_told_with_its_source_and_tried_once() {
    let (server, _) = basic("bWU6cHc=");
    let client = client_of(&server.registry(), "me", "wrong-hunter2", "");
    let error = manifest_by(&client, &format!("{}/a", server.registry())).unwrap_err();
    let text = chain(&error);
    assert!(text.contains("the user 'me' of the test") && !text.contains("hunter2"), "{text}");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_missing_password_is_told_with_the_places_that_were_looked_at() {
    let (server, _) = basic("bWU6cHc=");
    let text = chain(&manifest_by(&client(""), &format!("{}/a", server.registry())).unwrap_err());
    assert!(text.contains("--docker_config") && text.contains(&server.registry()), "{text}");
    // One for another port is one for somebody else.
    let client = client_of("127.0.0.1:1", "me", "pw", "");
    manifest_by(&client, &format!("{}/a", server.registry())).unwrap_err();
    assert!(server.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn a_scheme_that_we_do_not_have_is_named() {
    for (challenge, word) in
        [("Negotiate", "negotiate"), ("Digest realm=\"x\", nonce=\"y\"", "digest"), ("", "does not say how")]
    {
        let server =
            Server::simple(move |_| (401, vec![("WWW-Authenticate", challenge.to_owned())], Vec::new()));
        let client = client_of(&server.registry(), "me", "pw", "");
        let text = chain(&manifest_by(&client, &format!("{}/a", server.registry())).unwrap_err());
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_registry_token_is_used_as_it_is() {
    let image = Image::new(noise(100));
    let server = Server::simple(move |request| match request.header("authorization") {
        Some("Bearer abc") => image.serve(request),
        _ => (
            401,
            vec![("WWW-Authenticate", "Bearer realm=\"https://never.example/\"".to_owned())],
            Vec::new(),
        ),
    });
    let mut settings = quick("");
    let json = format!(r#"{{"auths":{{"{}":{{"registrytoken":"abc"}}}}}}"#, server.registry());
    settings.credentials.push(AuthFile::parse("test", json.as_bytes()).unwrap());
    manifest_by(&Client::new(settings).unwrap(), &format!("{}/a", server.registry())).unwrap();
}

#[test]
fn nothing_of_a_client_prints_a_password() {
    let mut settings = quick("[proxy]\nhttp = \"http://me:hunter2@127.0.0.1:1\"");
    settings
        .credentials
        .push(AuthFile::parse("test", auths("r.example", "me", "hunter2").as_bytes()).unwrap());
    let text = format!("{settings:?}");
    assert!(!text.contains("hunter2") && !text.contains("bWU6aHVudGVyMg"), "{text}");
}

#[test]
fn a_broken_credential_file_fails_the_pull_that_needs_it_and_says_where() {
    let (server, _) = basic("bWU6cHc=");
    let mut settings = quick("");
    let json = format!(r#"{{"auths":{{"{}":{{"auth":"!!!"}}}}}}"#, server.registry());
    settings.credentials.push(AuthFile::parse("/home/u/auth.json", json.as_bytes()).unwrap());
    let text = chain(
        &manifest_by(&Client::new(settings).unwrap(), &format!("{}/a", server.registry())).unwrap_err(),
    );
    assert!(text.contains("/home/u/auth.json") && text.contains("base64"), "{text}");
    // It is the client's own secret that is wrong here: told before anything is sent.
    let client = client("");
    let reference = "r.example/a".parse().unwrap();
    assert!(client.image(&reference, Some(b"nonsense")).err().unwrap().to_string().contains("config secret"));
}
