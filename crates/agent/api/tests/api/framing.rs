// SPDX-License-Identifier: Apache-2.0
//! Paths, methods, lengths, compression: section 1 of the reference.

use std::io::{Read as _, Write as _};

use crate::client::{JSON, Site, request, said};

const HEALTH: &str = r#"{"type":"GET_HEALTH"}"#;
const HEALTHY: &str = r#"{"type":"GET_HEALTH","get_health":{"healthy":true}}"#;
const METRICS: &str = r#"{"type":"GET_METRICS","get_metrics":{}}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn the_api_is_below_the_process_id_and_at_the_root() {
    let site = Site::new().await;
    for path in ["/api/v1", "/api/v1/", "/api/v1/xyz", "/slave(1)/api/v1", "/slave%281%29/api/v1"] {
        let answer = site.ask(&JSON.replace("/api/v1", path), HEALTH.as_bytes()).await;
        assert_eq!(answer.says(), said(200, HEALTHY), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("content-length"), Some("51"));
        assert!(answer.header("date").is_some());
    }
}

#[tokio::test]
async fn tcp_serves_the_same() {
    let site = Site::new().await;
    let mut client = site.tcp().await;
    client.send(&request(JSON, HEALTH.as_bytes())).await;
    assert_eq!(client.answer().await.says(), said(200, HEALTHY));
}

#[tokio::test]
async fn what_is_not_known_is_not_found() {
    let site = Site::new().await;
    for path in ["/nope", "/../etc/passwd", "/", "/slave(2)/api/v1", "/tasks"] {
        let answer = site.ask(&format!("GET {path} HTTP/1.1\r\n"), b"").await;
        assert_eq!(answer.says(), said(404, "404 Not Found."), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("content-length"), Some("14"));
    }
    let answer = site.ask("GET nope HTTP/1.1\r\n", b"").await;
    assert_eq!(answer.says(), said(400, "Request URL path must start with '/'"));
    let answer = site.ask("POST /api/v1/executor HTTP/1.1\r\n", b"").await;
    assert_eq!(answer.says(), said(501, "The executor API is not served by this agent"));
}

#[tokio::test]
async fn another_method_is_told_which_one_is_right() {
    let site = Site::new().await;
    for method in ["GET", "PUT", "DELETE"] {
        let answer = site.ask(&JSON.replace("POST", method), b"").await;
        let text = format!("405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'.");
        assert_eq!(answer.says(), said(405, &text));
        assert_eq!(answer.header("allow"), Some("POST"));
    }
}

#[tokio::test]
async fn requests_in_one_write_are_answered_in_order_on_one_connection() {
    let site = Site::new().await;
    let mut client = site.unix().await;
    let calls = [
        r#"{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"c"}}}"#,
        HEALTH,
        "hello",
        r#"{"type":"GET_LOGGING_LEVEL"}"#,
    ];
    let bytes: Vec<u8> = calls.iter().flat_map(|call| request(JSON, call.as_bytes())).collect();
    client.send(&bytes).await;
    let wanted = [
        said(200, r#"{"type":"WAIT_CONTAINER","wait_container":{"exit_status":15}}"#),
        said(200, HEALTHY),
        said(400, "Failed to parse body into JSON: syntax error at line 1 near: hello"),
        said(200, r#"{"type":"GET_LOGGING_LEVEL","get_logging_level":{"level":0}}"#),
    ];
    for wanted in wanted {
        assert_eq!(client.answer().await.says(), wanted);
    }
}

#[tokio::test]
async fn a_long_answer_is_compressed_when_the_client_asks() {
    let site = Site::new().await;
    let with = |accept: &str| format!("{JSON}Accept-Encoding: {accept}\r\n");
    let plain = site.ask(JSON, METRICS.as_bytes()).await;
    assert!(plain.body.len() >= 1024);
    assert_eq!(plain.header("content-encoding"), None);
    for accept in ["gzip", "deflate, gzip;q=0.5", "*"] {
        let answer = site.ask(&with(accept), METRICS.as_bytes()).await;
        assert_eq!(answer.header("content-encoding"), Some("gzip"), "{accept}");
        let mut body = Vec::new();
        flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut body).unwrap();
        assert_eq!(body, plain.body);
    }
    for accept in ["gzip;q=0", "deflate"] {
        let answer = site.ask(&with(accept), METRICS.as_bytes()).await;
        assert_eq!((answer.header("content-encoding"), &answer.body), (None, &plain.body), "{accept}");
    }
    let short = site.ask(&with("gzip"), HEALTH.as_bytes()).await;
    assert_eq!((short.header("content-encoding"), short.text().as_str()), (None, HEALTHY));
}

#[tokio::test]
async fn a_compressed_request_is_read() {
    let site = Site::new().await;
    let head = format!("{JSON}Content-Encoding: gzip\r\n");
    assert_eq!(site.ask(&head, &gzip(HEALTH.as_bytes())).await.says(), said(200, HEALTHY));
    let answer = site.ask(&head, HEALTH.as_bytes()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().starts_with("Failed to decompress request body: "), "{}", answer.text());
}

#[tokio::test]
async fn a_failure_is_500_with_its_text() {
    let site = Site::new().await;
    let wait = |id: &str| {
        format!(r#"{{"type":"WAIT_CONTAINER","wait_container":{{"container_id":{{"value":"{id}"}}}}}}"#)
    };
    assert_eq!(site.call(&wait("broken")).await.says(), said(500, "it is broken"));
    let remove = r#"{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"broken"}}}"#;
    assert_eq!(site.call(remove).await.says(), said(500, "it is broken"));
    let kill = r#"{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"panics"}}}"#;
    assert_eq!(site.call(kill).await.says(), said(500, "discarded future"));
    assert_eq!(site.call(HEALTH).await.says(), said(200, HEALTHY), "and the server goes on");
}

#[tokio::test]
async fn the_older_endpoints_answer() {
    let site = Site::new().await;
    let get = async |path: &str| site.ask(&format!("GET {path} HTTP/1.1\r\n"), b"").await;
    let health = get("/health").await;
    assert_eq!(health.says(), said(200, ""));
    assert_eq!(health.header("content-type"), None);
    assert_eq!(get("/slave(1)/health").await.status, 200);
    let version = get("/version").await;
    assert_eq!(version.says(), said(200, r#"{"build_time":1795452925.0,"version":"1.2.3"}"#));
    assert_eq!(version.header("content-type"), Some("application/json"));
    let flags = r#"{"flags":{"ip":"127.0.0.1","work_dir":"/w"}}"#;
    assert_eq!(get("/flags").await.says(), said(200, flags));
    let jsonp = get("/flags?x=1&jsonp=f").await;
    assert_eq!(jsonp.says(), said(200, &format!("f({flags})")));
    assert_eq!(jsonp.header("content-type"), Some("text/javascript"));
    assert_eq!(get("/version?jsonp=alert(1)//").await.status, 400, "a name, not a program");
    let of_state = r#""flags":{"ip":"127.0.0.1","work_dir":"/w"}"#;
    assert!(get("/state").await.says().1.contains(of_state));
    site.double.forbidden.lock().unwrap().push(berth_proto::agent::call::Type::GetFlags);
    assert_eq!(get("/flags").await.says(), said(403, "403 Forbidden."));
    let (status, state) = get("/state").await.says();
    assert!(status == 200 && state.contains("hostname") && !state.contains("work_dir"), "{state}");
}
