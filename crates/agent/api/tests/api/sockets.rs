// SPDX-License-Identifier: Apache-2.0
//! Where clients come in, and the end.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use berth_api::{BindError, Limits, Listener, Options, UnixAccess};

use crate::client::{JSON, Site, request, soon};

const OWNER: UnixAccess = UnixAccess { mode: 0o600, gid: None };

#[tokio::test]
async fn a_socket_has_its_mode_and_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let own = std::fs::metadata(directory.path()).unwrap().gid();
    let listener = Listener::unix(&path, UnixAccess { mode: 0o660, gid: Some(own) }).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o7777, metadata.gid()), (0o660, own));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    drop(listener);
    assert!(!path.exists(), "the file goes with the listener");
}

#[test]
fn a_group_that_the_host_does_not_have_leaves_the_socket_to_its_owner() {
    assert_eq!(UnixAccess::of_group("no-such-group-on-any-host"), OWNER);
    assert_eq!(UnixAccess::of_group("root"), UnixAccess { mode: 0o660, gid: Some(0) });
}

#[tokio::test]
async fn a_socket_that_a_dead_agent_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    Listener::unix(&path, OWNER).unwrap();
}

#[tokio::test]
async fn a_socket_where_somebody_answers_is_not_taken_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _first = Listener::unix(&path, OWNER).unwrap();
    let error = Listener::unix(&path, OWNER).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    assert_eq!(error.class(), berth_model::Class::Conflict);
    assert!(path.exists());
}

#[tokio::test]
async fn what_is_not_a_socket_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::unix(&path, OWNER), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let nowhere = directory.path().join("no/such/directory/s");
    let error = Listener::unix(&nowhere, OWNER).unwrap_err();
    assert!(error.to_string().starts_with("bind socket "), "{error}");
    assert_eq!(error.class(), berth_model::Class::NotFound);
    let long = directory.path().join("x".repeat(200));
    assert!(matches!(Listener::unix(&long, OWNER), Err(BindError::Unix { step: "name", .. })));
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused() {
    let first = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let error = Listener::tcp(first.address().unwrap()).await.unwrap_err();
    assert_eq!(error.class(), berth_model::Class::Conflict);
}

#[tokio::test]
async fn the_agent_learns_who_is_at_the_other_end_of_a_unix_socket() {
    let site = Site::new().await;
    site.call(r#"{"type":"GET_FLAGS"}"#).await;
    let peer = site.double.callers.lock().unwrap()[0].peer.unwrap();
    assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
    let mut client = site.tcp().await;
    client.send(&request(JSON, br#"{"type":"GET_FLAGS"}"#)).await;
    client.answer().await;
    assert_eq!(site.double.callers.lock().unwrap()[1].peer, None);
}

#[tokio::test]
async fn the_end_answers_what_is_under_way_and_lets_nobody_in() {
    let mut site = Site::new().await;
    let mut idle = site.unix().await;
    idle.send(&request(JSON, br#"{"type":"GET_HEALTH"}"#)).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut busy = site.unix().await;
    let launch = r#"{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"slow"}}}"#;
    busy.send(&request(JSON, launch.as_bytes())).await;
    soon(async {
        while site.double.asked().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    site.stop();
    assert!(idle.ends().await);
    site.double.go_on.notify_one();
    assert_eq!(busy.answer().await.status, 200);
    assert!(busy.ends().await);
    soon(&mut site.serving).await.unwrap();
    assert!(!site.socket.exists());
    assert!(tokio::net::TcpStream::connect(site.address).await.is_err());
}

/// A process may end when `serve` has returned, whatever its other threads are about to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_end_the_socket_is_gone_at_once() {
    for turn in 0..2000 {
        let mut site = Site::new().await;
        site.stop();
        soon(&mut site.serving).await.unwrap();
        assert!(!site.socket.exists(), "it was there at the end of turn {turn}");
    }
}

#[tokio::test]
async fn the_end_does_not_wait_for_what_never_ends() {
    let limits = Limits { grace: Duration::from_millis(50), ..Limits::default() };
    let mut site = Site::with(Options { limits, ..Options::default() }).await;
    let mut client = site.unix().await;
    client.send(&request(JSON, br#"{"type":"SUBSCRIBE"}"#)).await;
    assert_eq!(client.head().await.0, 200);
    let sender = site.double.events.lock().unwrap().take().unwrap();
    site.stop();
    soon(&mut site.serving).await.unwrap();
    soon(sender.closed()).await;
    assert!(client.ends().await);
}
