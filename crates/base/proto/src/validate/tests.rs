// SPDX-License-Identifier: Apache-2.0
//! Each row of the reference's table of texts.

use super::*;
use crate::decode_json;

/// What is said of a call, without the prefix that all have.
fn says(text: &str) -> String {
    let call: Call = decode_json(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    match validate(&call) {
        Ok(kind) => format!("valid {}", kind.as_str_name()),
        Err(error) => {
            let error = error.to_string();
            error.strip_prefix("Failed to validate agent::Call: ").unwrap_or(&error).to_owned()
        }
    }
}

/// A call of the type with the payload in the field of its name.
fn of(kind: &str, payload: &str) -> String {
    says(&format!(r#"{{"type": "{kind}", "{}": {payload}}}"#, kind.to_lowercase()))
}

fn with_id(value: &str) -> String {
    of("WAIT_CONTAINER", &format!(r#"{{"container_id": {{"value": "{value}"}}}}"#))
}

const ROOT: &str = r#""container_id": {"value": "a"}"#;
const NESTED: &str = r#""container_id": {"value": "b", "parent": {"value": "a"}}"#;
const DEEP: &str = r#""container_id": {"value": "c", "parent": {"value": "b", "parent": {"value": "a"}}}"#;

#[test]
fn a_call_needs_a_type_that_exists() {
    assert_eq!(says("{}"), "Expecting 'type' to be present");
    assert_eq!(says(r#"{"type": "NOPE"}"#), "Expecting 'type' to be present");
    assert_eq!(says(r#"{"type": "UNKNOWN"}"#), "valid UNKNOWN");
    let unheard_of = Call { r#type: Some(4711), ..Default::default() };
    let error = validate(&unheard_of).unwrap_err();
    assert_eq!(error.to_string(), "Failed to validate agent::Call: Expecting 'type' to be present");
    assert_eq!(error.class(), Class::Invalid);
}

#[test]
fn a_missing_payload_is_named_for_every_call_that_needs_one() {
    let without = [
        "UNKNOWN",
        "GET_HEALTH",
        "GET_FLAGS",
        "GET_VERSION",
        "GET_LOGGING_LEVEL",
        "GET_STATE",
        "GET_CONTAINERS",
        "GET_FRAMEWORKS",
        "GET_EXECUTORS",
        "GET_TASKS",
        "GET_AGENT",
        "GET_RESOURCE_PROVIDERS",
        "GET_OPERATIONS",
        "PRUNE_IMAGES",
        "SUBSCRIBE",
        "GET_OPERATIONS_IN_FLIGHT",
        "EXPLAIN_GC",
    ];
    let numbers = (0..=32).chain(1000..=1009);
    for number in numbers {
        let kind = Type::try_from(number).unwrap().as_str_name();
        let said = says(&format!(r#"{{"type": "{kind}"}}"#));
        if without.contains(&kind) {
            assert_eq!(said, format!("valid {kind}"));
        } else {
            assert_eq!(said, format!("Expecting '{}' to be present", kind.to_lowercase()));
        }
    }
}

#[test]
fn ids_have_rules() {
    assert_eq!(with_id("a"), "valid WAIT_CONTAINER");
    let bad = |reason: &str| format!("'wait_container.container_id' is invalid: {reason}");
    assert_eq!(with_id(""), bad("ID must not be empty"));
    assert_eq!(with_id(".."), bad("'..' is disallowed"));
    assert_eq!(with_id("a/b"), bad("'a/b' contains invalid characters"));
    assert_eq!(with_id("a b"), bad("'ContainerID.value' 'a b' contains invalid characters"));
    assert_eq!(with_id(&"x".repeat(256)), bad("ID must not be greater than 255 characters"));
    let long = "x".repeat(243);
    assert_eq!(
        with_id(&long),
        bad(&format!("'ContainerID.value' '{long}' exceeds the maximum length (242)"))
    );
    let parent = r#"{"container_id": {"value": "b", "parent": {"value": "a.b"}}}"#;
    assert_eq!(
        of("KILL_CONTAINER", parent),
        "'kill_container.container_id' is invalid: 'ContainerID.parent' is invalid: 'ContainerID.value' 'a.b' contains \
         invalid characters"
    );
}

#[test]
fn calls_for_nested_containers_need_a_parent() {
    for kind in [
        "LAUNCH_NESTED_CONTAINER",
        "WAIT_NESTED_CONTAINER",
        "KILL_NESTED_CONTAINER",
        "REMOVE_NESTED_CONTAINER",
        "LAUNCH_NESTED_CONTAINER_SESSION",
    ] {
        let field = kind.to_lowercase();
        assert_eq!(
            of(kind, &format!("{{{ROOT}}}")),
            format!("Expecting '{field}.container_id.parent' to be present")
        );
        assert_eq!(of(kind, &format!("{{{NESTED}}}")), format!("valid {kind}"));
    }
}

#[test]
fn environments_have_rules() {
    let says = |variable: &str| {
        let command =
            format!(r#""command": {{"environment": {{"variables": [{{"name": "N", {variable}}}]}}}}"#);
        let said = of("LAUNCH_CONTAINER", &format!("{{{ROOT}, {command}}}"));
        said.strip_prefix("'launch_container.command' is invalid: ").map(str::to_owned).unwrap_or(said)
    };
    let value = r#""value": {"data": "eA=="}"#;
    assert_eq!(says(r#""value": "x""#), "valid LAUNCH_CONTAINER");
    assert_eq!(
        says(r#""type": "SECRET""#),
        "Environment variable 'N' of type 'SECRET' must have a secret set"
    );
    assert_eq!(
        says(&format!(r#""type": "SECRET", "value": "x", "secret": {{"type": "VALUE", {value}}}"#)),
        "Environment variable 'N' of type 'SECRET' must not have a value set"
    );
    assert_eq!(
        says(r#""type": "SECRET", "secret": {"type": "VALUE", "value": {"data": "eAA="}}"#),
        "Environment variable 'N' specifies a secret containing null bytes, which is not allowed in the environment"
    );
    assert_eq!(
        says(r#""type": "SECRET", "secret": {"type": "REFERENCE"}"#),
        "Environment variable 'N' specifies an invalid secret: Secret of type REFERENCE must have the 'reference' field \
         set"
    );
    assert_eq!(says(r#""type": "VALUE""#), "Environment variable 'N' of type 'VALUE' must have a value set");
    assert_eq!(says(r#""type": "NOPE""#), "Environment variable 'N' of type 'VALUE' must have a value set");
    assert_eq!(
        says(&format!(r#""value": "x", "secret": {{{value}}}"#)),
        "Environment variable 'N' of type 'VALUE' must not have a secret set"
    );
    assert_eq!(says(r#""type": "UNKNOWN""#), "Environment variable of type 'UNKNOWN' is not allowed");
}

#[test]
fn containers_have_rules() {
    let says = |container: &str| {
        let said = of("LAUNCH_CONTAINER", &format!(r#"{{{ROOT}, "container": {container}}}"#));
        said.strip_prefix("'launch_container.container' is invalid: ").map(str::to_owned).unwrap_or(said)
    };
    let volume = |rest: &str| {
        says(&format!(r#"{{"type": "MESOS", "volumes": [{{"container_path": "/v", "mode": "RW"{rest}}}]}}"#))
    };
    let one = "Invalid volume: Only one of them should be set: 'host_path', 'image' and 'source'";
    assert_eq!(volume(""), one);
    assert_eq!(volume(r#", "host_path": "/h", "source": {"type": "HOST_PATH"}"#), one);
    assert_eq!(volume(r#", "host_path": "/h""#), "valid LAUNCH_CONTAINER");
    for (kind, field) in [
        ("DOCKER_VOLUME", "docker_volume"),
        ("SANDBOX_PATH", "sandbox_path"),
        ("SECRET", "secret"),
        ("HOST_PATH", "host_path"),
        ("CSI_VOLUME", "csi_volume"),
    ] {
        assert_eq!(
            volume(&format!(r#", "source": {{"type": "{kind}"}}"#)),
            format!("Invalid volume: 'source.{field}' is not set for {kind} volume")
        );
    }
    assert_eq!(volume(r#", "source": {}"#), "Invalid volume: 'source.type' is unknown");
    assert_eq!(
        says(r#"{"type": "DOCKER"}"#),
        "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
    );
    assert_eq!(
        says(
            r#"{"type": "DOCKER", "docker": {"image": "x", "parameters": [{"key": "name", "value": "n"}]}}"#
        ),
        "Parameter in DockerInfo must not be 'name'"
    );
}

#[test]
fn cgroups_are_shared_or_not_by_depth() {
    let shares = |id: &str, shares: bool| {
        format!(r#"{{{id}, "container": {{"type": "MESOS", "linux_info": {{"share_cgroups": {shares}}}}}}}"#)
    };
    let deep = |field: &str| {
        format!(
            "'{field}' is invalid: containers nested at the second level or greater cannot set 'share_cgroups' to 'false'"
        )
    };
    assert_eq!(of("LAUNCH_NESTED_CONTAINER", &shares(DEEP, false)), deep("launch_nested_container"));
    assert_eq!(of("LAUNCH_NESTED_CONTAINER", &shares(NESTED, false)), "valid LAUNCH_NESTED_CONTAINER");
    assert_eq!(of("LAUNCH_CONTAINER", &shares(DEEP, false)), deep("launch_container"));
    assert_eq!(of("LAUNCH_CONTAINER", &shares(DEEP, true)), "valid LAUNCH_CONTAINER");
    assert_eq!(
        of("LAUNCH_CONTAINER", &shares(ROOT, true)),
        "'launch_container' is invalid: containers without a parent cannot set 'share_cgroups' to 'true'"
    );
    assert_eq!(of("LAUNCH_CONTAINER", &shares(ROOT, false)), "valid LAUNCH_CONTAINER");
    assert_eq!(
        of("LAUNCH_NESTED_CONTAINER_SESSION", &shares(NESTED, false)),
        "'launch_nested_container_session.container.linux_info' is invalid: 'share_cgroups' cannot be set to 'false' for \
         nested container sessions"
    );
}

#[test]
fn resources_and_limits_have_rules() {
    let launch = |id: &str, resource: &str| {
        let scalar = r#""type": "SCALAR", "scalar": {"value": 1.5}"#;
        of("LAUNCH_CONTAINER", &format!(r#"{{{id}, "resources": [{{{resource}, {scalar}}}]}}"#))
    };
    let cpus = r#""name": "cpus""#;
    assert_eq!(launch(ROOT, cpus), "valid LAUNCH_CONTAINER");
    assert_eq!(launch(NESTED, cpus), "valid LAUNCH_CONTAINER");
    let deep =
        "'launch_container' is invalid: containers nested at the second level or greater cannot specify ";
    assert_eq!(launch(DEEP, cpus), format!("{deep}resources"));
    let limits = r#""limits": {"mem": {"value": 1}}"#;
    assert_eq!(of("LAUNCH_CONTAINER", &format!("{{{DEEP}, {limits}}}")), format!("{deep}resource limits"));
    assert_eq!(
        launch(ROOT, r#""name": """#),
        "Invalid resources: Resource '' is invalid: Empty resource name"
    );
    assert_eq!(
        launch(ROOT, r#""name": "gpus""#),
        "Invalid GPU resources: The 'gpus' resource must be an unsigned integer"
    );
    assert_eq!(
        launch(ROOT, &format!(r#"{cpus}, "reservations": [{{"type": "STATIC", "role": "r"}}]"#)),
        "'launch_container.resources' must be unreserved"
    );
    let volume = r#""name": "disk", "disk": {"persistence": {"id": "i"}}"#;
    assert_eq!(launch(ROOT, volume), "'launch_container.resources' may not use persistent volumes");
    assert_eq!(
        launch(ROOT, &format!(r#"{cpus}, "revocable": {{}}"#)),
        "'launch_container.resources' must be non-revocable"
    );
    let negative = r#""limits": {"mem": {"value": -1}}"#;
    assert_eq!(
        of("UPDATE_CONTAINER", &format!("{{{ROOT}, {negative}}}")),
        "'update_container.limits' is invalid: limit 'mem' is -1; give a number that is not negative, or \"Infinity\" for \
         no limit"
    );
}

#[test]
fn providers_come_without_an_id() {
    for verb in ["ADD", "UPDATE"] {
        let kind = format!("{verb}_RESOURCE_PROVIDER_CONFIG");
        let info = |id: &str| format!(r#"{{"info": {{"type": "t", "name": "n"{id}}}}}"#);
        assert_eq!(of(&kind, &info("")), format!("valid {kind}"));
        assert_eq!(
            of(&kind, &info(r#", "id": {"value": "i"}"#)),
            format!("Expecting '{}_resource_provider_config.info.id' to be unset", verb.to_lowercase())
        );
    }
}

#[test]
fn our_own_calls_have_rules() {
    let logs = |rest: &str| of("READ_LOGS", &format!("{{{ROOT}{rest}}}"));
    assert_eq!(logs(""), "valid READ_LOGS");
    assert_eq!(logs(r#", "since": 1, "stream": "STDERR""#), "valid READ_LOGS");
    assert_eq!(
        logs(r#", "since": 1, "tail": 2"#),
        "'read_logs.since' and 'read_logs.tail' exclude each other"
    );
    assert_eq!(
        logs(r#", "since": 1"#),
        "Expecting 'read_logs.stream' to be present with 'read_logs.since': an offset is of one stream"
    );
    assert_eq!(
        of("RENAME", &format!(r#"{{{ROOT}, "name": "a.b"}}"#)),
        "'rename.name' is invalid: 'ContainerID.value' 'a.b' contains invalid characters"
    );
    assert_eq!(of("RENAME", &format!(r#"{{{ROOT}, "name": "b"}}"#)), "valid RENAME");
}

#[test]
fn the_first_record_of_an_input_names_the_container() {
    let input = |payload: &str| of("ATTACH_CONTAINER_INPUT", payload);
    assert_eq!(input("{}"), "Expecting 'attach_container_input.type' to be present");
    assert_eq!(input(r#"{"type": "UNKNOWN"}"#), "'attach_container_input.type' is unknown");
    assert_eq!(
        input(r#"{"type": "CONTAINER_ID"}"#),
        "Expecting 'attach_container_input.container_id' to be present"
    );
    let first = |payload: &str| {
        let text = format!(r#"{{"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {payload}}}"#);
        container_of_input(&decode_json(text.as_bytes()).unwrap())
    };
    assert_eq!(first(&format!(r#"{{"type": "CONTAINER_ID", {NESTED}}}"#)).unwrap().to_string(), "a.b");
    assert_eq!(
        first(r#"{"type": "PROCESS_IO"}"#).unwrap_err().to_string(),
        "Expecting 'attach_container_input.type' to be CONTAINER_ID"
    );
}

#[test]
fn later_records_of_an_input_carry_process_io() {
    let says = |payload: &str| {
        let text = format!(r#"{{"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {payload}}}"#);
        match process_io_of_input(decode_json(&text.into_bytes()).unwrap()) {
            Ok(_) => "valid".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let io = |io: &str| says(&format!(r#"{{"type": "PROCESS_IO", "process_io": {io}}}"#));
    let control = |control: &str| io(&format!(r#"{{"type": "CONTROL", "control": {control}}}"#));
    let data = |data: &str| io(&format!(r#"{{"type": "DATA", "data": {data}}}"#));
    assert_eq!(
        says(r#"{"type": "CONTAINER_ID"}"#),
        "Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of: 'CONTAINER_ID'"
    );
    assert_eq!(
        says(r#"{"type": "PROCESS_IO"}"#),
        "Expecting 'attach_container_input.process_io' to be present"
    );
    assert_eq!(io("{}"), "Expecting 'process_io.type' to be present");
    assert_eq!(io(r#"{"type": "UNKNOWN"}"#), "'process_io.type' is unknown");
    assert_eq!(io(r#"{"type": "CONTROL"}"#), "Expecting 'process_io.control' to be present");
    assert_eq!(control("{}"), "Expecting 'process_io.control.type' to be present");
    assert_eq!(control(r#"{"type": "UNKNOWN"}"#), "'process_io.control.type' is unknown");
    assert_eq!(control(r#"{"type": "TTY_INFO"}"#), "Expecting 'process_io.control.tty_info' to be present");
    assert_eq!(
        control(r#"{"type": "TTY_INFO", "tty_info": {}}"#),
        "Expecting 'tty_info.window_size' to be present"
    );
    assert_eq!(
        control(r#"{"type": "TTY_INFO", "tty_info": {"window_size": {"rows": 1, "columns": 2}}}"#),
        "valid"
    );
    assert_eq!(control(r#"{"type": "HEARTBEAT"}"#), "Expecting 'process_io.control.heartbeat' to be present");
    assert_eq!(control(r#"{"type": "HEARTBEAT", "heartbeat": {}}"#), "valid");
    assert_eq!(io(r#"{"type": "DATA"}"#), "Expecting 'process_io.data' to be present");
    assert_eq!(data("{}"), "Expecting 'process_io.data.type' to be present");
    assert_eq!(data(r#"{"type": "STDOUT"}"#), "Expecting 'process_io.data.type' to be 'STDIN'");
    assert_eq!(data(r#"{"type": "STDIN"}"#), "Expecting 'process_io.data.data' to be present");
    assert_eq!(data(r#"{"type": "STDIN", "data": ""}"#), "valid");
}
