// SPDX-License-Identifier: Apache-2.0
//! The order in which a call is looked at: each request here is wrong in all that follows, too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use berth_api::{HttpBasic, Options, Realm};
use berth_proto::agent::call::Type;

use crate::client::{JSON, Site, said};

const POST: &str = "POST /api/v1 HTTP/1.1\r\n";
const HEALTH: &str = r#"{"type":"GET_HEALTH"}"#;

/// A call with these headers.
async fn with(site: &Site, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    site.ask(&format!("{POST}{lines}"), body.as_bytes()).await.says()
}

const JSON_CONTENT: (&str, &str) = ("Content-Type", "application/json");
const RECORDS: (&str, &str) = ("Content-Type", "application/recordio");
const RECORDS_OF_JSON: (&str, &str) = ("Message-Content-Type", "application/json");
const NO_ACCEPT: (&str, &str) = ("Accept", "text/html");

#[tokio::test]
async fn first_who_asks() {
    let json = br#"{"credentials": [{"principal": "p", "secret": "s"}]}"#;
    let basic = HttpBasic::new(json, [Realm::ReadWrite, Realm::ReadOnly]).unwrap();
    let site = Site::with(Options { authenticate: Some(Arc::new(basic)), ..Options::default() }).await;
    site.double.recovering.store(true, Ordering::SeqCst);
    let answer = site.ask("GET /api/v1 HTTP/1.1\r\n", b"").await;
    assert_eq!(answer.says(), said(401, "401 Unauthorized."));
    assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"mesos-agent-readwrite\""));
    let flags = site.ask("GET /flags HTTP/1.1\r\n", b"").await;
    assert_eq!(flags.header("www-authenticate"), Some("Basic realm=\"mesos-agent-readonly\""));
    assert_eq!(site.ask("GET /health HTTP/1.1\r\n", b"").await.status, 200, "which has no realm");
    site.double.recovering.store(false, Ordering::SeqCst);
    let head = format!("{JSON}Authorization: Basic cDpz\r\n");
    assert_eq!(site.ask(&head, br#"{"type":"GET_FLAGS"}"#).await.status, 200);
    let callers = site.double.callers.lock().unwrap().clone();
    assert_eq!(callers.last().unwrap().principal.as_deref(), Some("p"));
}

#[tokio::test]
async fn second_whether_the_agent_is_ready() {
    let site = Site::new().await;
    site.double.recovering.store(true, Ordering::SeqCst);
    let answer = site.ask("GET /api/v1 HTTP/1.1\r\n", b"").await;
    assert_eq!(answer.says(), said(503, "Agent has not finished recovery"));
}

#[tokio::test]
async fn third_the_method() {
    let site = Site::new().await;
    assert_eq!(site.ask("GET /api/v1 HTTP/1.1\r\nAccept: text/html\r\n", b"").await.status, 405);
}

#[tokio::test]
async fn fourth_and_fifth_the_form_of_the_request() {
    let site = Site::new().await;
    assert_eq!(with(&site, &[NO_ACCEPT], "").await, said(400, "Expecting 'Content-Type' to be present"));
    assert_eq!(
        with(&site, &[("Content-Type", "application/json; charset=utf-8"), NO_ACCEPT], "").await,
        said(
            415,
            "Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio"
        )
    );
    assert_eq!(
        with(&site, &[RECORDS, NO_ACCEPT], "0\n").await,
        said(400, "Expecting 'Message-Content-Type' to be set for streaming requests")
    );
    assert_eq!(
        with(&site, &[RECORDS, ("Message-Content-Type", "text/html"), NO_ACCEPT], "").await,
        said(415, "Expecting 'Message-Content-Type' of application/json or application/x-protobuf")
    );
    assert_eq!(
        with(&site, &[JSON_CONTENT, RECORDS_OF_JSON, NO_ACCEPT], "").await,
        said(415, "Expecting 'Message-Content-Type' to be not set for non-streaming requests")
    );
}

#[tokio::test]
async fn sixth_and_seventh_the_form_of_the_answer() {
    let site = Site::new().await;
    assert_eq!(
        with(&site, &[JSON_CONTENT, NO_ACCEPT], "hello").await,
        said(
            406,
            "Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio"
        )
    );
    let records = ("Accept", "application/recordio");
    assert_eq!(
        with(&site, &[JSON_CONTENT, records, ("Message-Accept", "text/html")], "hello").await,
        said(406, "Expecting 'Message-Accept' to allow application/json or application/x-protobuf")
    );
    assert_eq!(
        with(&site, &[JSON_CONTENT, ("Message-Accept", "application/json")], "hello").await,
        said(406, "Expecting 'Message-Accept' to be not set for non-streaming responses")
    );
}

#[tokio::test]
async fn eighth_the_body() {
    let site = Site::new().await;
    let records = [RECORDS, RECORDS_OF_JSON];
    let json = [JSON_CONTENT];
    assert_eq!(
        with(&site, &json, "").await,
        said(400, "Failed to parse body into JSON: syntax error at line 1 near: ")
    );
    assert_eq!(with(&site, &json, "[]").await, said(400, "Expecting a JSON object"));
    assert_eq!(
        with(&site, &json, r#"{"type": 1}"#).await,
        said(400, "Not expecting a JSON number for field 'type'")
    );
    assert_eq!(
        with(&site, &json, r#"{"type":"LAUNCH_CONTAINER","launch_container":{}}"#).await,
        said(400, "Missing required fields: launch_container.container_id")
    );
    assert_eq!(
        with(&site, &[("Content-Type", "application/x-protobuf")], "hello").await,
        said(400, "Failed to parse body into a protobuf object")
    );
    assert_eq!(with(&site, &records, "").await, said(400, "Received EOF while reading request body"));
    assert_eq!(with(&site, &records, "5\n{}").await, said(400, "Received EOF while reading request body"));
    assert_eq!(
        with(&site, &records, "x\n{}").await,
        said(400, "Failed to decode length 'x': Failed to convert 'x' to number")
    );
    assert_eq!(
        with(&site, &records, "5\nhello").await,
        said(400, "Failed to parse body into JSON: syntax error at line 1 near: hello")
    );
}

#[tokio::test]
async fn ninth_whether_the_call_makes_sense() {
    let site = Site::new().await;
    let invalid = |reason: &str| said(400, &format!("Failed to validate agent::Call: {reason}"));
    assert_eq!(with(&site, &[JSON_CONTENT], "{}").await, invalid("Expecting 'type' to be present"));
    // It should have been a stream, which is looked at later.
    assert_eq!(
        with(&site, &[JSON_CONTENT], r#"{"type":"ATTACH_CONTAINER_INPUT"}"#).await,
        invalid("Expecting 'attach_container_input' to be present")
    );
}

#[tokio::test]
async fn tenth_whether_streams_are_where_they_belong() {
    let site = Site::new().await;
    assert_eq!(
        with(&site, &[RECORDS, RECORDS_OF_JSON], &format!("{}\n{HEALTH}", HEALTH.len())).await,
        said(415, "Streaming 'Content-Type' application/recordio is not supported for GET_HEALTH call")
    );
    let input = r#"{"type":"ATTACH_CONTAINER_INPUT","attach_container_input":
        {"type":"CONTAINER_ID","container_id":{"value":"c"}}}"#;
    assert_eq!(
        with(&site, &[JSON_CONTENT], input).await,
        said(415, "Expecting 'Content-Type' to be application/recordio for ATTACH_CONTAINER_INPUT call")
    );
    assert_eq!(
        with(&site, &[JSON_CONTENT, ("Accept", "application/recordio")], HEALTH).await,
        said(406, "Streaming response is not supported for GET_HEALTH call")
    );
}

#[tokio::test]
async fn eleventh_whether_the_type_is_one() {
    let site = Site::new().await;
    assert_eq!(
        with(&site, &[JSON_CONTENT], r#"{"type":"UNKNOWN"}"#).await,
        said(501, "501 Not Implemented.")
    );
    assert_eq!(
        with(&site, &[JSON_CONTENT], r#"{"type":"NOPE"}"#).await,
        said(400, "Failed to validate agent::Call: Expecting 'type' to be present")
    );
}

#[tokio::test]
async fn last_whether_the_caller_may_do_it() {
    let site = Site::new().await;
    site.double.forbidden.lock().unwrap().push(Type::KillContainer);
    let kill =
        r#"{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"b","parent":{"value":"a"}}}}"#;
    assert_eq!(with(&site, &[JSON_CONTENT], kill).await, said(403, "403 Forbidden."));
    assert_eq!(site.double.asked(), ["may KILL_CONTAINER a.b"], "and nothing was killed");
}
