// SPDX-License-Identifier: Apache-2.0
//! What calls come to, in Mesos's words.

use berth_proto::agent::Response;
use berth_proto::decode_protobuf;

use crate::client::{JSON, Site, said};

const ID: &str = r#""container_id":{"value":"c"}"#;

/// A call with this payload in the field of its name.
async fn of(site: &Site, kind: &str, payload: &str) -> (u16, String) {
    site.call(&format!(r#"{{"type":"{kind}","{}":{{{payload}}}}}"#, kind.to_lowercase())).await.says()
}

fn id(value: &str) -> String {
    ID.replace("\"c\"", &format!("\"{value}\""))
}

fn nested(value: &str) -> String {
    format!(r#""container_id":{{"value":"{value}","parent":{{"value":"a"}}}}"#)
}

#[tokio::test]
async fn a_launch_is_answered_by_what_came_of_it() {
    let site = Site::new().await;
    assert_eq!(of(&site, "LAUNCH_CONTAINER", ID).await, said(200, ""));
    assert_eq!(of(&site, "LAUNCH_CONTAINER", &id("taken")).await, said(202, ""));
    let docker = format!(r#"{ID},"container":{{"type":"DOCKER","docker":{{"image":"x"}}}}"#);
    assert_eq!(
        of(&site, "LAUNCH_CONTAINER", &docker).await,
        said(400, "The provided ContainerInfo is not supported")
    );
    let rich = format!(
        r#"{},"command":{{"value":"true"}},"resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":0.1}}}}],
        "limits":{{"mem":{{"value":"Infinity"}}}}"#,
        id("rich")
    );
    assert_eq!(of(&site, "LAUNCH_CONTAINER", &rich).await, said(200, ""));
    let (launched, config) = site.double.launched.lock().unwrap().last().cloned().unwrap();
    assert_eq!((launched.value(), config.command_info.value.as_deref()), ("rich", Some("true")));
    assert_eq!((config.resources.cpus(), config.limits["mem"]), (Some(0.1), f64::INFINITY));
    assert_eq!(of(&site, "LAUNCH_NESTED_CONTAINER", &nested("b")).await, said(200, ""));
    assert_eq!(site.double.launched.lock().unwrap().last().unwrap().0.to_string(), "a.b");
}

#[tokio::test]
async fn an_empty_answer_has_no_type() {
    let site = Site::new().await;
    let answer = site.call(&format!(r#"{{"type":"PAUSE","pause":{{{ID}}}}}"#)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, None));
    assert_eq!(answer.header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_wait_tells_how_it_ended() {
    let site = Site::new().await;
    let status = |kind: &str, field: &str| {
        said(200, &format!(r#"{{"type":"{kind}","{field}":{{"exit_status":15}}}}"#))
    };
    assert_eq!(of(&site, "WAIT_CONTAINER", ID).await, status("WAIT_CONTAINER", "wait_container"));
    assert_eq!(
        of(&site, "WAIT_NESTED_CONTAINER", &nested("b")).await,
        status("WAIT_NESTED_CONTAINER", "wait_nested_container")
    );
    assert_eq!(of(&site, "WAIT_CONTAINER", &id("nope")).await, said(404, "Container nope cannot be found"));
    assert_eq!(
        of(&site, "WAIT_NESTED_CONTAINER", &nested("nope")).await,
        said(404, "Container a.nope cannot be found")
    );
}

#[tokio::test]
async fn a_kill_sends_sigkill_unless_it_says_otherwise() {
    let site = Site::new().await;
    assert_eq!(of(&site, "KILL_CONTAINER", ID).await, said(200, ""));
    assert_eq!(
        of(&site, "KILL_NESTED_CONTAINER", &format!(r#"{},"signal":15"#, nested("b"))).await,
        said(200, "")
    );
    assert_eq!(
        of(&site, "KILL_CONTAINER", &id("nope")).await,
        said(404, "Container 'nope' cannot be found (or is already killed)")
    );
    let kills: Vec<_> = site.double.asked().into_iter().filter(|asked| asked.starts_with("kill")).collect();
    assert_eq!(kills, ["kill c 9", "kill a.b 15", "kill nope 9"]);
}

#[tokio::test]
async fn a_list_of_no_containers_leaves_the_field_out() {
    let site = Site::new().await;
    assert_eq!(
        site.call(r#"{"type":"GET_CONTAINERS"}"#).await.says(),
        said(200, r#"{"type":"GET_CONTAINERS"}"#)
    );
    assert_eq!(
        of(&site, "GET_CONTAINERS", r#""show_standalone":true"#).await,
        said(
            200,
            r#"{"type":"GET_CONTAINERS","get_containers":{"containers":[{"container_id":{"value":"c2"}}]}}"#
        )
    );
}

#[tokio::test]
async fn information_is_given_in_both_forms() {
    let site = Site::new().await;
    let head = JSON.replace("Accept: application/json", "Accept: application/x-protobuf");
    let answer = site.ask(&head, br#"{"type":"GET_HEALTH"}"#).await;
    assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(answer.body, b"\x08\x01\x12\x02\x08\x01");
    let head = head.replace("Content-Type: application/json", "Content-Type: application/x-protobuf");
    let answer = site.ask(&head, b"\x08\x03").await;
    let version = decode_protobuf::<Response>(&answer.body).unwrap().get_version.unwrap();
    assert_eq!(version.version_info.version, "1.2.3");
}

#[tokio::test]
async fn every_question_about_the_agent_is_answered() {
    let site = Site::new().await;
    let ask = async |kind: &str| site.call(&format!(r#"{{"type":"{kind}"}}"#)).await.says();
    let lists = |kind: &str, field: &str, lists: &[&str]| {
        let lists: Vec<String> = lists.iter().map(|list| format!("\"{list}\":[]")).collect();
        said(200, &format!(r#"{{"type":"{kind}","{field}":{{{}}}}}"#, lists.join(",")))
    };
    assert_eq!(
        ask("GET_TASKS").await,
        lists(
            "GET_TASKS",
            "get_tasks",
            &["pending_tasks", "queued_tasks", "launched_tasks", "terminated_tasks", "completed_tasks"]
        )
    );
    assert_eq!(
        ask("GET_EXECUTORS").await,
        lists("GET_EXECUTORS", "get_executors", &["executors", "completed_executors"])
    );
    assert_eq!(
        ask("GET_FRAMEWORKS").await,
        lists("GET_FRAMEWORKS", "get_frameworks", &["frameworks", "completed_frameworks"])
    );
    assert!(ask("GET_STATE").await.1.contains(r#""get_executors":{"executors":[],"#));
    assert_eq!(ask("GET_AGENT").await, said(200, r#"{"type":"GET_AGENT","get_agent":{}}"#));
    assert_eq!(ask("GET_OPERATIONS").await, said(200, r#"{"type":"GET_OPERATIONS","get_operations":{}}"#));
    assert_eq!(
        ask("GET_RESOURCE_PROVIDERS").await,
        said(200, r#"{"type":"GET_RESOURCE_PROVIDERS","get_resource_providers":{}}"#)
    );
    assert_eq!(
        ask("GET_FLAGS").await,
        said(
            200,
            r#"{"type":"GET_FLAGS","get_flags":{"flags":[{"name":"work_dir","value":"/w"},{"name":"ip","value":"127.0.0.1"}]}}"#
        )
    );
    assert_eq!(
        of(&site, "SET_LOGGING_LEVEL", r#""level":1,"duration":{"nanoseconds":1000000000}"#).await,
        said(200, "")
    );
    assert!(site.double.asked().contains(&"logging level 1 for 1s".to_owned()));
    assert_eq!(of(&site, "GET_METRICS", r#""timeout":{"nanoseconds":5000000000}"#).await.0, 200);
    assert!(site.double.asked().contains(&"metrics Some(5s)".to_owned()));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_404_without_a_word() {
    let site = Site::new().await;
    let answer = site.call(r#"{"type":"LIST_FILES","list_files":{"path":"/no"}}"#).await;
    assert_eq!(answer.says(), said(404, ""));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(
        of(&site, "READ_FILE", r#""path":"/f","offset":100000"#).await,
        said(200, r#"{"type":"READ_FILE","read_file":{"size":30,"data":""}}"#)
    );
}

#[tokio::test]
async fn our_own_calls_reach_the_agent() {
    let site = Site::new().await;
    let update = format!(
        r#"{ID},"resources":[{{"name":"mem","type":"SCALAR","scalar":{{"value":64}}}}],"limits":{{"mem":{{"value":128}}}}"#
    );
    assert_eq!(of(&site, "UPDATE_CONTAINER", &update).await, said(200, ""));
    assert_eq!(of(&site, "RENAME", &format!(r#"{ID},"name":"d""#)).await, said(200, ""));
    assert_eq!(of(&site, "RESUME", ID).await, said(200, ""));
    assert_eq!(of(&site, "REMOVE_CONTAINER", ID).await, said(200, ""));
    assert_eq!(
        of(&site, "INSPECT_CONTAINER", ID).await,
        said(
            200,
            r#"{"type":"INSPECT_CONTAINER","inspect_container":{"container_id":{"value":"c"},"underlying_name":"x"}}"#
        )
    );
    assert_eq!(
        of(&site, "EXPLAIN_PULL", r#""image":{"type":"DOCKER","docker":{"name":"busybox"}}"#).await,
        said(200, r#"{"type":"EXPLAIN_PULL","explain_pull":{"reference":"busybox"}}"#)
    );
    for kind in ["EXPLAIN_GC", "GET_OPERATIONS_IN_FLIGHT"] {
        let text = format!(r#"{{"type":"{kind}","{}":{{}}}}"#, kind.to_lowercase());
        assert_eq!(site.call(&format!(r#"{{"type":"{kind}"}}"#)).await.says(), said(200, &text));
    }
    assert_eq!(
        of(&site, "PRUNE_IMAGES", r#""excluded_images":[{"type":"DOCKER","docker":{"name":"b"}}]"#).await,
        said(200, "")
    );
    let asked: Vec<_> = site.double.asked().into_iter().filter(|asked| !asked.starts_with("may ")).collect();
    assert_eq!(
        asked,
        ["update c mem:64 {\"mem\": 128.0}", "rename c d", "resume c", "remove c", "prune but 1"]
    );
}

#[tokio::test]
async fn resource_providers_are_refused_as_an_agent_without_them_does() {
    let site = Site::new().await;
    let info = r#""info":{"type":"t","name":"n"}"#;
    assert_eq!(
        of(&site, "ADD_RESOURCE_PROVIDER_CONFIG", info).await,
        said(
            400,
            "Failed to validate resource provider config with type 't' and name 'n': Unknown local resource provider \
             type 't'"
        )
    );
    assert_eq!(
        of(&site, "UPDATE_RESOURCE_PROVIDER_CONFIG", info).await,
        said(409, "Resource provider with type 't' and name 'n' does not exist")
    );
    assert_eq!(of(&site, "REMOVE_RESOURCE_PROVIDER_CONFIG", r#""type":"t","name":"n""#).await, said(200, ""));
    assert_eq!(
        of(&site, "MARK_RESOURCE_PROVIDER_GONE", r#""resource_provider_id":{"value":"i"}"#).await,
        said(500, "Resource provider 'i' does not exist")
    );
}

#[tokio::test]
async fn a_launch_goes_on_though_the_client_is_gone() {
    let site = Site::new().await;
    let mut client = site.unix().await;
    let call = format!(r#"{{"type":"LAUNCH_CONTAINER","launch_container":{{{}}}}}"#, id("slow"));
    client.send(&crate::client::request(JSON, call.as_bytes())).await;
    crate::client::soon(async {
        while site.double.asked().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    // Another call, so that the end of the connection has been seen.
    assert_eq!(site.call(r#"{"type":"GET_HEALTH"}"#).await.status, 200);
    site.double.go_on.notify_one();
    crate::client::soon(async {
        while site.double.launched.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
