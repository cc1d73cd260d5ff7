// SPDX-License-Identifier: Apache-2.0
//! Each row of errors of the reference, asked of a real agent: the status, and the words to the letter.

use berth_test_agent::Ground;
use berth_test_api::{Client, Request};

use crate::{ground, leave};

/// Calls in JSON and what they are refused with.
const CALLS: &[(&str, u16, &str)] = &[
    // 30.2 and 30.7: what is no call.
    ("", 400, "Failed to parse body into JSON: syntax error at line 1 near: "),
    ("[]", 400, "Expecting a JSON object"),
    ("{}", 400, "Failed to validate agent::Call: Expecting 'type' to be present"),
    (r#"{"type": "NOPE"}"#, 400, "Failed to validate agent::Call: Expecting 'type' to be present"),
    (r#"{"type": null}"#, 400, "Failed to validate agent::Call: Expecting 'type' to be present"),
    (r#"{"type": "UNKNOWN"}"#, 501, "501 Not Implemented."),
    (r#"{"type": 1}"#, 400, "Not expecting a JSON number for field 'type'"),
    (r#"{"type": true}"#, 400, "Not expecting a JSON boolean for field 'type'"),
    (r#"{"type": []}"#, 400, "Not expecting a JSON array for field 'type'"),
    (r#"{"type": "GET_HEALTH", "read_file": "x"}"#, 400, "Not expecting a JSON string for field 'read_file'"),
    (
        r#"{"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {"process_io": {"data": {"data": "?"}}}}"#,
        400,
        "Failed to base64 decode bytes field 'data': Invalid character '?'",
    ),
    (
        r#"{"type": "READ_FILE", "read_file": {}}"#,
        400,
        "Missing required fields: read_file.path, read_file.offset",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "container": {"type": "X"}}}"#,
        400,
        "Failed to find enum for 'X'",
    ),
    // 30.2, step 10.
    (
        r#"{"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {"type": "CONTAINER_ID", "container_id": {"value": "a"}}}"#,
        415,
        "Expecting 'Content-Type' to be application/recordio for ATTACH_CONTAINER_INPUT call",
    ),
    // 30.4.
    (r#"{"type": "LIST_FILES", "list_files": {"path": "/nope"}}"#, 404, ""),
    (r#"{"type": "READ_FILE", "read_file": {"path": "/slave/log", "offset": 0}}"#, 404, ""),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a", "parent": {"value": "nope"}}, "command": {"value": "true"}}}"#,
        400,
        "Parent container nope does not exist",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "command": {"value": "true"}, "container": {"type": "DOCKER", "docker": {"image": "x"}}}}"#,
        400,
        "The provided ContainerInfo is not supported",
    ),
    (
        r#"{"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": "nope"}}}"#,
        404,
        "Container nope cannot be found",
    ),
    (
        r#"{"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": "c", "parent": {"value": "b", "parent": {"value": "a"}}}}}"#,
        404,
        "Container a.b.c cannot be found",
    ),
    (
        r#"{"type": "KILL_CONTAINER", "kill_container": {"container_id": {"value": "nope"}}}"#,
        404,
        "Container 'nope' cannot be found (or is already killed)",
    ),
    (
        r#"{"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": {"value": "nope"}}}"#,
        404,
        "Container nope cannot be found",
    ),
    // 30.5: ids.
    (
        r#"{"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": ""}}}"#,
        400,
        "Failed to validate agent::Call: 'wait_container.container_id' is invalid: ID must not be empty",
    ),
    (
        r#"{"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": ".."}}}"#,
        400,
        "Failed to validate agent::Call: 'wait_container.container_id' is invalid: '..' is disallowed",
    ),
    (
        r#"{"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": "a\u0007"}}}"#,
        400,
        "Failed to validate agent::Call: 'wait_container.container_id' is invalid: 'a\u{7}' contains invalid characters",
    ),
    (
        r#"{"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": "a.b"}}}"#,
        400,
        "Failed to validate agent::Call: 'wait_container.container_id' is invalid: 'ContainerID.value' 'a.b' contains invalid characters",
    ),
    (
        r#"{"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": "a", "parent": {"value": "b c"}}}}"#,
        400,
        "Failed to validate agent::Call: 'wait_container.container_id' is invalid: 'ContainerID.parent' is invalid: 'ContainerID.value' 'b c' contains invalid characters",
    ),
    (
        r#"{"type": "KILL_NESTED_CONTAINER", "kill_nested_container": {"container_id": {"value": "a"}}}"#,
        400,
        "Failed to validate agent::Call: Expecting 'kill_nested_container.container_id.parent' to be present",
    ),
    (
        r#"{"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": {"container_id": {"value": "a"}}}"#,
        400,
        "Failed to validate agent::Call: Expecting 'launch_nested_container_session.container_id.parent' to be present",
    ),
    // 30.5: commands, containers, resources.
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "command": {"environment": {"variables": [{"name": "N", "type": "SECRET"}]}}}}"#,
        400,
        "Failed to validate agent::Call: 'launch_container.command' is invalid: Environment variable 'N' of type 'SECRET' must have a secret set",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "command": {"environment": {"variables": [{"name": "N"}]}}}}"#,
        400,
        "Failed to validate agent::Call: 'launch_container.command' is invalid: Environment variable 'N' of type 'VALUE' must have a value set",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "command": {"environment": {"variables": [{"name": "N", "type": "UNKNOWN"}]}}}}"#,
        400,
        "Failed to validate agent::Call: 'launch_container.command' is invalid: Environment variable of type 'UNKNOWN' is not allowed",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "container": {"type": "DOCKER"}}}"#,
        400,
        "Failed to validate agent::Call: 'launch_container.container' is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "container": {"type": "DOCKER", "docker": {"image": "x", "parameters": [{"key": "name", "value": "y"}]}}}}"#,
        400,
        "Failed to validate agent::Call: 'launch_container.container' is invalid: Parameter in DockerInfo must not be 'name'",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "container": {"type": "MESOS", "linux_info": {"share_cgroups": true}}}}"#,
        400,
        "Failed to validate agent::Call: 'launch_container' is invalid: containers without a parent cannot set 'share_cgroups' to 'true'",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "resources": [{"name": "gpus", "type": "SCALAR", "scalar": {"value": 0.5}}]}}"#,
        400,
        "Failed to validate agent::Call: Invalid GPU resources: The 'gpus' resource must be an unsigned integer",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a"}, "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}, "revocable": {}}]}}"#,
        400,
        "Failed to validate agent::Call: 'launch_container.resources' must be non-revocable",
    ),
    (
        r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "a", "parent": {"value": "b", "parent": {"value": "c"}}}, "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}]}}"#,
        400,
        "Failed to validate agent::Call: 'launch_container' is invalid: containers nested at the second level or greater cannot specify resources",
    ),
    (
        r#"{"type": "ADD_RESOURCE_PROVIDER_CONFIG", "add_resource_provider_config": {"info": {"id": {"value": "x"}, "type": "t", "name": "n"}}}"#,
        400,
        "Failed to validate agent::Call: Expecting 'add_resource_provider_config.info.id' to be unset",
    ),
];

/// Paths and what they are refused with.
const PATHS: &[(&str, u16, &str)] = &[
    ("/nope", 404, "404 Not Found."),
    ("/../etc/passwd", 404, "404 Not Found."),
    ("/api/v1", 405, "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."),
    (
        "/containers?framework_id=a&container_id=b",
        400,
        "Supported query parameters are container_id only, framework_id only, or executor_id and framework_id only",
    ),
    ("/files/read", 400, "Expecting 'path=value' in query.\n"),
    ("/files/browse", 400, "Expecting 'path=value' in query.\n"),
    ("/files/download", 400, "Expecting 'path=value' in query.\n"),
    ("/files/read?path=/nope&offset=0", 404, ""),
    ("/files/read?path=/nope&offset=-2", 400, "Negative offset provided: -2.\n"),
    ("/files/read?path=/nope&length=-2", 400, "Negative length provided: -2.\n"),
    ("/files/read?path=/nope&offset=x", 400, "Failed to parse offset: Failed to convert 'x' to number.\n"),
    ("/files/download?path=/nope", 404, ""),
    ("/metrics/snapshot?timeout=x", 400, "Invalid timeout 'x': Failed to convert '' to number.\n"),
    ("/logging/toggle?level=1", 400, "Expecting 'duration=value' in query.\n"),
    ("/logging/toggle?duration=1secs", 400, "Expecting 'level=value' in query.\n"),
    ("/logging/toggle?level=-1&duration=1secs", 400, "'-1' < original level.\n"),
];

/// Headers, a body, and what comes back.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

fn says(ground: &Ground, request: &Request) -> (u16, String) {
    Client::ask(&ground.socket(), request).unwrap().says()
}

#[test]
fn every_call_that_is_wrong_is_refused_in_the_words_of_the_reference() {
    let mut ground = ground!(every_call_that_is_wrong_is_refused_in_the_words_of_the_reference);
    let mut wrong = Vec::new();
    for (call, status, text) in CALLS {
        let request = Request::call().with("Content-Type", "application/json").body(*call);
        let said = says(&ground, &request);
        if said != (*status, (*text).to_owned()) {
            wrong.push(format!("{call}: {said:?}, not {:?}", (status, text)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Payloads that are missing, each by its name.
    for name in [
        "get_metrics",
        "set_logging_level",
        "list_files",
        "read_file",
        "launch_nested_container",
        "wait_nested_container",
        "kill_nested_container",
        "launch_nested_container_session",
        "attach_container_input",
        "attach_container_output",
        "remove_nested_container",
        "launch_container",
        "wait_container",
        "kill_container",
        "remove_container",
        "add_resource_provider_config",
        "update_resource_provider_config",
        "remove_resource_provider_config",
        "mark_resource_provider_gone",
        "update_container",
        "inspect_container",
        "read_logs",
        "explain_pull",
        "rename",
        "pause",
        "resume",
    ] {
        let call = format!("{{\"type\": \"{}\"}}", name.to_uppercase());
        let request = Request::call().with("Content-Type", "application/json").body(call);
        let text = format!("Failed to validate agent::Call: Expecting '{name}' to be present");
        assert_eq!(says(&ground, &request), (400, text));
    }
    leave(&mut ground);
}

#[test]
fn every_path_and_query_that_is_wrong_is_refused_in_the_words_of_the_reference() {
    let mut ground = ground!(every_path_and_query_that_is_wrong_is_refused_in_the_words_of_the_reference);
    for (path, status, text) in PATHS {
        assert_eq!(says(&ground, &Request::new("GET", path)), (*status, (*text).to_owned()), "{path}");
    }
    for path in ["/containers", "/monitor/statistics", "/containerizer/debug"] {
        let text = "405 Method Not Allowed. Expecting one of { 'GET' }, but received 'PUT'.";
        assert_eq!(says(&ground, &Request::new("PUT", path)), (405, text.to_owned()));
    }
    leave(&mut ground);
}

#[test]
fn every_form_that_does_not_fit_is_refused_in_the_words_of_the_reference() {
    let mut ground = ground!(every_form_that_does_not_fit_is_refused_in_the_words_of_the_reference);
    let health = br#"{"type":"GET_HEALTH"}"#;
    let record = [b"21\n".as_slice(), health].concat();
    let (json, recordio) = ("application/json", "application/recordio");
    let (kind, inner, accept, inner_accept) =
        ("Content-Type", "Message-Content-Type", "Accept", "Message-Accept");
    let rows: &[Row<'_>] = &[
        (&[], health, 400, "Expecting 'Content-Type' to be present"),
        (
            &[(kind, "text/plain")],
            health,
            415,
            "Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio",
        ),
        (
            &[(kind, recordio)],
            health,
            400,
            "Expecting 'Message-Content-Type' to be set for streaming requests",
        ),
        (
            &[(kind, recordio), (inner, "text/plain")],
            health,
            415,
            "Expecting 'Message-Content-Type' of application/json or application/x-protobuf",
        ),
        (
            &[(kind, json), (inner, json)],
            health,
            415,
            "Expecting 'Message-Content-Type' to be not set for non-streaming requests",
        ),
        (
            &[(kind, json), (accept, "text/plain")],
            health,
            406,
            "Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio",
        ),
        (
            &[(kind, json), (accept, recordio), (inner_accept, "text/plain")],
            health,
            406,
            "Expecting 'Message-Accept' to allow application/json or application/x-protobuf",
        ),
        (
            &[(kind, json), (accept, json), (inner_accept, json)],
            health,
            406,
            "Expecting 'Message-Accept' to be not set for non-streaming responses",
        ),
        (&[(kind, "application/x-protobuf")], health, 400, "Failed to parse body into a protobuf object"),
        (&[(kind, recordio), (inner, json)], b"", 400, "Received EOF while reading request body"),
        (
            &[(kind, recordio), (inner, json)],
            &record,
            415,
            "Streaming 'Content-Type' application/recordio is not supported for GET_HEALTH call",
        ),
        (
            &[(kind, json), (accept, recordio)],
            health,
            406,
            "Streaming response is not supported for GET_HEALTH call",
        ),
    ];
    for (headers, body, status, text) in rows {
        let request =
            headers.iter().fold(Request::call(), |request, (name, value)| request.with(name, value));
        let said = says(&ground, &request.body(*body));
        assert_eq!(said, (*status, (*text).to_owned()), "{headers:?}");
    }
    leave(&mut ground);
}
