// SPDX-License-Identifier: Apache-2.0
//! Nothing is lost on the way to the model and back.

use super::*;
use crate::descriptor::{Field, Kind, Rule};
use crate::{decode_json, encode_json};
use berth_model::{ContainerTermination, Reason, ResourceStatistics, TaskState};
use serde_json::{Value, json};

/// What is not asked to survive: see `check_image`, and the value of a secret, which the model does not write.
const LEFT_OUT: &[&str] = &["credential", "value_of_secret"];

/// JSON with every field of a message set, however deep.
fn everything(message: &'static Message, depth: usize) -> Value {
    let mut object = serde_json::Map::new();
    for field in message.fields {
        let name = if message.name == "mesos.v1.Secret" && field.name == "value" {
            "value_of_secret"
        } else {
            field.name
        };
        if LEFT_OUT.contains(&name) || depth > 12 {
            continue;
        }
        let value = any_value(field, depth);
        let value = if field.rule == Rule::Repeated { json!([value]) } else { value };
        object.insert(field.name.to_owned(), value);
    }
    Value::Object(object)
}

fn any_value(field: &Field, depth: usize) -> Value {
    match field.kind {
        Kind::Double => json!(1.5),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => json!(field.number % 1000),
        // The opposite of every default.
        Kind::Bool => json!(field.default_json != Some("true")),
        Kind::String => json!(field.name),
        Kind::Bytes => json!("AAEC"),
        Kind::Message(part) => everything(part, depth + 1),
        Kind::Enum(item) => json!(item.values.last().unwrap().1),
    }
}

#[test]
fn every_field_of_a_container_survives_the_model() {
    let tree = everything(Message::of::<v1::ContainerInfo>(), 0);
    let message: v1::ContainerInfo = decode_json(tree.to_string().as_bytes()).unwrap();
    let back: Value =
        serde_json::from_slice(&encode_json(&container_of(&container(&message).unwrap()))).unwrap();
    assert_eq!(back, tree);
}

#[test]
fn every_field_of_a_command_survives_the_model() {
    let tree = everything(Message::of::<v1::CommandInfo>(), 0);
    let message: v1::CommandInfo = decode_json(tree.to_string().as_bytes()).unwrap();
    let back: Value = serde_json::from_slice(&encode_json(&command_of(&command(&message).unwrap()))).unwrap();
    assert_eq!(back, tree);
}

#[test]
fn what_is_unset_stays_unset() {
    let message = v1::ContainerInfo {
        r#type: v1::container_info::Type::Mesos.into(),
        linux_info: Some(v1::LinuxInfo::default()),
        ..Default::default()
    };
    let linux = container(&message).unwrap().linux_info.unwrap();
    assert_eq!((linux.share_cgroups, linux.user_namespace), (None, None));
    assert_eq!(command(&v1::CommandInfo::default()).unwrap(), berth_model::CommandInfo::default());
}

#[test]
fn the_value_of_a_secret_reaches_the_model_and_does_not_come_back() {
    let text = r#"{"environment": {"variables": [{"name": "A", "type": "SECRET",
        "secret": {"type": "VALUE", "value": {"data": "aHVudGVyMg=="}}}]}}"#;
    let message: v1::CommandInfo = decode_json(text.as_bytes()).unwrap();
    let of_model = command(&message).unwrap();
    let secret = of_model.environment.variables[0].secret.as_ref().unwrap();
    assert_eq!(secret.exposed(), Some(&b"hunter2"[..]));
    let back = String::from_utf8(encode_json(&command_of(&of_model))).unwrap();
    assert!(back.contains(r#""secret":{"type":"VALUE"}"#), "{back}");
}

#[test]
fn a_launch_becomes_a_configuration() {
    let text = r#"{"container_id": {"value": "b", "parent": {"value": "a"}},
        "command": {"value": "true", "user": "nobody"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 2}]}}],
        "container": {"type": "LXC", "lxc": {"template": "busybox"}},
        "limits": {"cpus": {"value": "Infinity"}, "mem": {"value": 32}}}"#;
    let payload: call::LaunchContainer = decode_json(text.as_bytes()).unwrap();
    let (id, config) = launch(&payload).unwrap();
    assert_eq!(id.to_string(), "a.b");
    assert_eq!(config.command_info.value.as_deref(), Some("true"));
    assert_eq!((config.resources.cpus(), config.resources.ports().unwrap().iter().len()), (Some(0.1), 1));
    assert_eq!((config.limits["cpus"], config.limits["mem"]), (f64::INFINITY, 32.0));
    assert_eq!(config.container_info.unwrap().lxc.unwrap().template.as_deref(), Some("busybox"));
    assert_eq!(resources(&resources_of(&config.resources)).unwrap(), config.resources);
    assert_eq!(limits(&limits_of(&config.limits)).unwrap(), config.limits);
    let session = call::LaunchNestedContainerSession {
        container_id: payload.container_id.clone(),
        command: None,
        container: None,
    };
    assert_eq!(launch_session(&session).unwrap().1.container_class, ContainerClass::Debug);
}

#[test]
fn what_the_model_can_not_hold_is_refused_in_words() {
    let says = |text: &str| container(&decode_json(text.as_bytes()).unwrap()).unwrap_err();
    let text = r#"{"type": "MESOS", "mesos": {"image": {"type": "DOCKER",
        "docker": {"name": "x", "credential": {"principal": "p"}}}}}"#;
    assert_eq!(
        says(text).to_string(),
        "'docker.credential' is not supported; put a Docker config.json into 'docker.config'"
    );
    assert_eq!(says(text).class(), Class::Unsupported);
    let text =
        r#"{"type": "MESOS", "linux_info": {"effective_capabilities": {"capabilities": ["UNKNOWN"]}}}"#;
    assert!(says(text).to_string().starts_with("unknown capability 'UNKNOWN'"), "{}", says(text));
    let scalar = |value: f64| BTreeMap::from([("mem".to_owned(), value::Scalar { value })]);
    for value in [-1.0, f64::NAN, f64::NEG_INFINITY] {
        let error = limits(&scalar(value)).unwrap_err().to_string();
        assert!(error.starts_with("limit 'mem' is "), "{error}");
    }
    let negative = v1::Resource {
        name: "cpus".into(),
        scalar: Some(value::Scalar { value: -1.0 }),
        ..Default::default()
    };
    assert_eq!(
        resources(&[negative]).unwrap_err().to_string(),
        "Resource 'cpus' is invalid: Invalid scalar resource: value <= 0"
    );
}

#[test]
fn ids_are_checked_from_the_inside_out() {
    let nest = |values: &[&str]| {
        values.iter().fold(None, |parent, value| {
            Some(Box::new(v1::ContainerId { value: (*value).to_owned(), parent }))
        })
    };
    let id = *nest(&["a", "b", "c"]).unwrap();
    assert_eq!(container_id(&id).unwrap().to_string(), "a.b.c");
    assert_eq!(container_id_of(&container_id(&id).unwrap()), id);
    assert_eq!(
        container_id(&nest(&["a b", "b", "c"]).unwrap()).unwrap_err().to_string(),
        "'ContainerID.parent' is invalid: 'ContainerID.parent' is invalid: 'ContainerID.value' 'a b' contains invalid \
         characters"
    );
    assert_eq!(container_id(&nest(&["a"; 33]).unwrap()), Err(IdError::TooDeep));
}

#[test]
fn terminations_and_statistics_keep_their_numbers() {
    let termination = ContainerTermination {
        message: Some("m".into()),
        status: Some(9),
        state: Some(TaskState::Failed),
        reason: Some(Reason::ContainerLimitationMemory),
        limited_resources: [berth_model::Resource::scalar("mem", berth_model::Scalar::from_whole(32))]
            .into_iter()
            .collect(),
    };
    let text = String::from_utf8(encode_json(&termination_of(&termination))).unwrap();
    assert_eq!(
        text,
        r#"{"exit_status":9,"state":"TASK_FAILED","reason":"REASON_CONTAINER_LIMITATION_MEMORY","limitation":{"resources":[{"name":"mem","type":"SCALAR","scalar":{"value":32.0}}]},"message":"m"}"#
    );
    let unknown = termination_of_nested(&ContainerTermination::default());
    assert_eq!(encode_json(&unknown), b"{}");
    let statistics = ResourceStatistics { timestamp: 1.5, mem_rss_bytes: Some(7), ..Default::default() };
    assert_eq!(encode_json(&statistics_of(&statistics)), br#"{"timestamp":1.5,"mem_rss_bytes":7}"#);
}

#[test]
fn every_number_of_the_model_has_the_same_name_on_the_wire() {
    for state in TaskState::ALL {
        assert_eq!(v1::TaskState::try_from(state.number()).unwrap().as_str_name(), state.name());
    }
    for reason in Reason::ALL {
        assert_eq!(v1::task_status::Reason::try_from(reason.number()).unwrap().as_str_name(), reason.name());
    }
}
