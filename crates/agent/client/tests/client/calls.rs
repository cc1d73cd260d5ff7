// SPDX-License-Identifier: Apache-2.0
//! Each call is the request of its golden file, and its answer is read.

use std::collections::BTreeMap;

use berth_client::{Connection, Error, Launch, Launched, block_on};
use berth_model::{CommandInfo, ContainerId, ContainerInfo};
use berth_proto::agent::Response;
use berth_proto::agent::response::{self, Type};
use berth_proto::{own, v1};

use crate::script::{Server, done, message, text};

fn id(text: &str) -> ContainerId {
    text.parse().unwrap()
}

fn answer(kind: Type) -> Response {
    Response { r#type: Some(kind.into()), ..Response::default() }
}

/// Asks a server that answers so; the request as golden files have it, and what was made of the answer.
fn asked<T>(
    says: &[u8],
    ask: impl AsyncFnOnce(&mut Connection) -> Result<T, Error>,
) -> (String, Result<T, Error>) {
    let server = Server::new();
    let agent = server.agent();
    std::thread::scope(|scope| {
        let request = scope.spawn(|| server.answer_one(says).text());
        let result = block_on(async { ask(&mut agent.connect().await?).await }).unwrap();
        (request.join().unwrap(), result)
    })
}

fn golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BERTH_GOLDEN_WRITE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{path}: BERTH_GOLDEN_WRITE=1 writes it anew");
}

#[test]
fn every_call_is_the_request_of_the_golden_file() {
    let mut all = String::new();
    let mut add = |request: String| {
        all.push_str(&request);
        all.push('\n');
    };
    let a = id("a");
    let (request, result) = asked(&done(), async |c| c.kill(&id("pod.a"), 15).await);
    result.unwrap();
    add(request);
    let (request, result) = asked(&done(), async |c| c.remove(&a).await);
    result.unwrap();
    add(request);
    let limits = BTreeMap::from([("cpus".to_owned(), 0.5), ("mem".to_owned(), f64::INFINITY)]);
    let (request, result) = asked(&done(), async |c| c.update(&a, Vec::new(), &limits).await);
    result.unwrap();
    add(request);
    let (request, result) = asked(&done(), async |c| c.rename(&a, "b").await);
    result.unwrap();
    add(request);
    let (request, result) = asked(&done(), async |c| c.pause(&a).await);
    result.unwrap();
    add(request);
    let (request, result) = asked(&done(), async |c| c.resume(&a).await);
    result.unwrap();
    add(request);
    let launch = Launch {
        command: CommandInfo {
            shell: false,
            value: Some("true".into()),
            arguments: vec!["true".into()],
            ..Default::default()
        },
        container: Some(ContainerInfo { hostname: Some("h".into()), ..Default::default() }),
        limits,
        ..Launch::default()
    };
    let (request, result) = asked(&done(), async |c| c.launch(&a, &launch).await);
    assert_eq!(result.unwrap(), Launched::Started);
    add(request);
    golden("told.txt", &all);
}

#[test]
fn questions_are_answered_with_the_part_that_was_asked_for() {
    let mut all = String::new();
    let says = Response {
        get_version: Some(response::GetVersion {
            version_info: v1::VersionInfo { version: "1.2.3".into(), ..Default::default() },
        }),
        ..answer(Type::GetVersion)
    };
    let (request, result) = asked(&message(&says), async |c| c.version().await);
    assert_eq!(result.unwrap().version, "1.2.3");
    all.push_str(&request);
    let says = Response { get_agent: Some(Default::default()), ..answer(Type::GetAgent) };
    let (request, result) = asked(&message(&says), async |c| c.agent().await);
    assert_eq!(result.unwrap().agent_info, None);
    all.push_str(&request);
    let (request, result) = asked(&message(&answer(Type::GetContainers)), async |c| c.containers().await);
    assert_eq!(result.unwrap(), [], "an agent without containers leaves the field out");
    all.push_str(&request);
    let waited = response::WaitContainer { exit_status: Some(256), ..Default::default() };
    let says = Response { wait_container: Some(waited.clone()), ..answer(Type::WaitContainer) };
    let (request, result) = asked(&message(&says), async |c| c.wait(&id("a")).await);
    assert_eq!(result.unwrap(), waited);
    all.push_str(&request);
    let container_id = v1::ContainerId { value: "a".into(), parent: None };
    let inspection = own::Inspection { container_id, cgroup: Some("/x".into()), ..Default::default() };
    let says = Response { inspect_container: Some(inspection.clone()), ..answer(Type::InspectContainer) };
    let (request, result) = asked(&message(&says), async |c| c.inspect(&id("a")).await);
    assert_eq!(result.unwrap(), inspection);
    all.push_str(&request);
    golden("asked.txt", &all);
}

#[test]
fn a_launch_of_a_name_that_is_there_is_told_from_one_that_started() {
    let says = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    let (_, result) = asked(says, async |c| c.launch(&id("a"), &Launch::default()).await);
    assert_eq!(result.unwrap(), Launched::AlreadyThere);
}

#[test]
fn several_calls_go_over_one_connection() {
    let server = Server::new();
    let agent = server.agent();
    std::thread::scope(|scope| {
        let heard = scope.spawn(|| {
            let mut peer = server.accept();
            let mut heard = Vec::new();
            for _ in 0..3 {
                heard.push(peer.request().call().kill_container.unwrap().signal);
                peer.say(&done());
            }
            assert!(peer.is_gone());
            heard
        });
        block_on(async {
            let mut connection = agent.connect().await.unwrap();
            for signal in 1..=3 {
                connection.kill(&id("a"), signal).await.unwrap();
            }
        })
        .unwrap();
        assert_eq!(heard.join().unwrap(), [Some(1), Some(2), Some(3)]);
    });
}

#[test]
fn a_refusal_has_the_words_of_the_agent_and_the_class_of_its_status() {
    use berth_model::Class;
    for (status, class) in [
        ("400 Bad Request", Class::Invalid),
        ("401 Unauthorized", Class::Denied),
        ("403 Forbidden", Class::Denied),
        ("404 Not Found", Class::NotFound),
        ("409 Conflict", Class::Conflict),
        ("410 Gone", Class::Gone),
        ("500 Internal Server Error", Class::Internal),
        ("501 Not Implemented", Class::Unsupported),
        ("503 Service Unavailable", Class::Exhausted),
    ] {
        let (_, result) =
            asked(&text(status, "Container a cannot be found"), async |c| c.wait(&id("a")).await);
        let error = result.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.class()), ("Container a cannot be found", class));
        assert_eq!(error.is_unknown(), class == Class::NotFound);
    }
    let (_, result) = asked(&text("400 Bad Request", "Parent container a does not exist"), async |c| {
        c.launch(&id("a.s"), &Launch::default()).await
    });
    assert!(result.unwrap_err().is_unknown());
    let (_, result) = asked(&text("404 Not Found", ""), async |c| c.remove(&id("a")).await);
    let words = result.unwrap_err().to_string();
    assert_eq!(words, "the agent refused REMOVE_CONTAINER with status 404 and no word why");
}

#[test]
fn a_program_that_can_not_be_executed_has_the_code_of_a_shell() {
    let code = |words: &str| {
        let (_, result) =
            asked(&text("400 Bad Request", words), async |c| c.launch(&id("a"), &Launch::default()).await);
        result.unwrap_err().execute_code()
    };
    assert_eq!(
        code("can not execute \"x\" in the container: No such file or directory (os error 2)"),
        Some(127)
    );
    assert_eq!(code("can not execute \"/x/y\" in the container: Not a directory (os error 20)"), Some(127));
    assert_eq!(code("can not execute \"/\" in the container: Permission denied (os error 13)"), Some(126));
    assert_eq!(code("unpack the image: No such file or directory"), None);
}
