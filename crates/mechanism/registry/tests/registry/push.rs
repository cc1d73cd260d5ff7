// SPDX-License-Identifier: Apache-2.0
//! Pushing: what a registry may make of an upload. (Against a real one: `peers`.)

use berth_image::Cancel;

use crate::support::*;

fn push(
    server: &Server,
    bytes: &'static [u8],
) -> Result<berth_registry::Pushed, berth_registry::RegistryError> {
    let client = client_of(&server.registry(), "me", "hunter2", "");
    let push = client.push(&format!("{}/a", server.registry()).parse().unwrap(), None).unwrap();
    push.blob(&sha256(bytes), bytes.len() as u64, &mut || Ok(Box::new(bytes)), &Cancel::new())
}

#[test]
fn an_upload_stays_with_its_registry() {
    let stranger = Server::simple(|_| (201, Vec::new(), Vec::new()));
    for location in [
        stranger.url("/upload"),
        "file:///x".to_owned(),
        format!("https://localhost:{}/", stranger.address.port()),
    ] {
        let server = Server::simple(move |request| match request.method.as_str() {
            "HEAD" => (404, Vec::new(), Vec::new()),
            _ => (202, vec![("Location", location.clone())], Vec::new()),
        });
        let error = push(&server, b"secret content").unwrap_err();
        assert!(chain(&error).contains("redirect"), "{}", chain(&error));
    }
    assert!(stranger.seen().is_empty());
}

#[test]
fn a_registry_that_refuses_within_an_upload_is_listened_to() {
    let server = Server::start(|request, stream| match request.method.as_str() {
        "HEAD" => respond(stream, request, 404, &[], b""),
        "POST" => respond(stream, request, 202, &[("Location", "/v2/a/blobs/uploads/1".to_owned())], b""),
        _ => respond(
            stream,
            request,
            413,
            &[],
            br#"{"errors":[{"code":"SIZE_INVALID","message":"too large"}]}"#,
        ),
    });
    let error = push(&server, b"content").unwrap_err();
    assert!(chain(&error).contains("SIZE_INVALID: too large"), "{}", chain(&error));
}

#[test]
fn what_is_there_is_not_sent_and_of_another_size_is_refused() {
    let server = Server::simple(|_| (200, Vec::new(), b"content".to_vec()));
    assert_eq!(push(&server, b"content").unwrap(), berth_registry::Pushed::Present);
    assert_eq!(server.seen().len(), 1);
    let error = push(&server, b"longer content").unwrap_err();
    assert!(chain(&error).contains("7 bytes of a blob that has 14"), "{}", chain(&error));
}

#[test]
fn content_that_is_shorter_than_its_size_is_an_error_of_ours() {
    let server = Server::simple(|request| match request.method.as_str() {
        "HEAD" => (404, Vec::new(), Vec::new()),
        _ => (202, vec![("Location", "/v2/a/blobs/uploads/1".to_owned())], Vec::new()),
    });
    let client = client("");
    let push = client.push(&format!("{}/a", server.registry()).parse().unwrap(), None).unwrap();
    let error = push.blob(&sha256(b"x"), 100, &mut || Ok(Box::new(&b"x"[..])), &Cancel::new()).unwrap_err();
    assert!(chain(&error).contains("read the content"), "{}", chain(&error));
}

#[test]
fn a_password_that_is_asked_for_within_an_upload_is_given_with_the_next_try() {
    // The upload wants proof of its own, once.
    let server = Server::simple(|request| match (request.method.as_str(), request.header("authorization")) {
        ("HEAD", _) => (404, Vec::new(), Vec::new()),
        ("POST", _) => (202, vec![("Location", "/v2/a/blobs/uploads/1".to_owned())], Vec::new()),
        (_, None) => (401, vec![("WWW-Authenticate", "Basic realm=x".to_owned())], Vec::new()),
        _ => (201, Vec::new(), Vec::new()),
    });
    assert_eq!(push(&server, b"content").unwrap(), berth_registry::Pushed::Sent);
    let last = server.seen().pop().unwrap();
    assert_eq!((last.method.as_str(), last.body.as_slice()), ("PUT", &b"content"[..]));
}
