// SPDX-License-Identifier: Apache-2.0
//! The mapping against the rows of the reference, and against itself.

use super::*;
use crate::agent::{Call, ProcessIo, Response, call, response};
use crate::v1::{self, ContainerInfo, Value};
use crate::{DecodeError, decode_json, decode_protobuf, encode_json, encode_protobuf};

fn says(text: &str) -> String {
    decode_json::<Call>(text.as_bytes()).unwrap_err().to_string()
}

fn json<M: prost::Message + prost::Name>(message: &M) -> String {
    String::from_utf8(encode_json(message)).unwrap()
}

#[test]
fn errors_have_the_words_of_mesos() {
    let call = |field: &str, value: &str| says(&format!(r#"{{"launch_container": {{"{field}": {value}}}}}"#));
    assert_eq!(says("[]"), "Expecting a JSON object");
    assert_eq!(says("hello"), "Failed to parse body into JSON: syntax error at line 1 near: hello");
    assert_eq!(says(""), "Failed to parse body into JSON: syntax error at line 1 near: ");
    assert_eq!(says(r#"{"type": 1}"#), "Not expecting a JSON number for field 'type'");
    assert_eq!(says(r#"{"type": {}}"#), "Not expecting a JSON object for field 'type'");
    assert_eq!(says(r#"{"type": []}"#), "Not expecting a JSON array for field 'type'");
    assert_eq!(says(r#"{"type": true}"#), "Not expecting a JSON boolean for field 'type'");
    assert_eq!(says(r#"{"read_file": "x"}"#), "Not expecting a JSON string for field 'read_file'");
    assert_eq!(
        call("command", r#"{"value": "true"}"#),
        "Missing required fields: launch_container.container_id"
    );
    assert_eq!(call("container", r#"{"type": "NOPE"}"#), "Failed to find enum for 'NOPE'");
    assert_eq!(
        says(r#"{"read_file": {"path": "p", "offset": "x"}}"#),
        "Failed to parse 'x' as a JSON number for field 'offset': expected a number"
    );
    assert_eq!(
        says(r#"{"read_file": {"path": "p", "offset": -1}}"#),
        "Not expecting the number -1 for field 'offset': give a whole number from 0 to 18446744073709551615"
    );
    assert_eq!(
        says(r#"{"get_containers": {"show_nested": "yes"}}"#),
        "Failed to parse 'yes' as a JSON boolean for field 'show_nested': expected true or false"
    );
    let bad = r#"{"attach_container_input": {"process_io": {"data": {"data": "?"}}}}"#;
    assert!(says(bad).starts_with("Failed to base64 decode bytes field 'data': "), "{}", says(bad));
    assert_eq!(
        call("resources", r#"[{"name": "cpus"}, {"name": "m", "type": "SCALAR", "scalar": {}}]"#),
        "Missing required fields: launch_container.container_id, launch_container.resources[0].type, \
         launch_container.resources[1].scalar.value"
    );
}

#[test]
fn depth_is_bounded_in_both_forms() {
    let text = r#"{"value":"a","parent":"#.repeat(1_000_000);
    assert!(says(&text).starts_with("Failed to parse body into JSON: nested deeper than 128 levels"));
    let levels = 110;
    let id = format!("{}null{}", r#"{"value":"a","parent":"#.repeat(levels), "}".repeat(levels));
    let text = format!(r#"{{"type":"WAIT_CONTAINER","wait_container":{{"container_id":{id}}}}}"#);
    assert_eq!(says(&text), "Messages are nested deeper than 100 levels; use fewer levels");
    let mut wire = Vec::new();
    for _ in 0..200 {
        let mut outer = vec![0x0a, 1, b'a', 0x12];
        prost::encoding::encode_varint(wire.len() as u64, &mut outer);
        outer.extend_from_slice(&wire);
        wire = outer;
    }
    assert_eq!(decode_protobuf::<v1::ContainerId>(&wire), Err(DecodeError::Protobuf));
}

#[test]
fn unknown_names_are_left_out_and_null_is_unset() {
    let text = r#"{"type": "NOPE", "nope": {"a": [1]}, "get_metrics": null}"#;
    assert_eq!(decode_json::<Call>(text.as_bytes()).unwrap(), Call::default());
    let text = r#"{"capabilities": ["CHOWN", "NOPE", null, "KILL"]}"#;
    let set: v1::CapabilityInfo = decode_json(text.as_bytes()).unwrap();
    assert_eq!(set.capabilities, [1000, 1005]);
}

#[test]
fn numbers_and_booleans_may_come_as_text_and_a_single_value_for_a_list() {
    let text = r#"{"type": "GET_CONTAINERS", "get_containers": {"show_nested": "true"},
        "read_file": {"path": "p", "offset": "18446744073709551615", "length": 3.0},
        "launch_container": {"container_id": {"value": "a"},
            "resources": {"name": "cpus", "type": "SCALAR", "scalar": {"value": "0.5"}},
            "limits": {"cpus": {"value": "Infinity"}, "mem": {"value": 1}}}}"#;
    let call: Call = decode_json(text.as_bytes()).unwrap();
    assert_eq!(call.get_containers.unwrap().show_nested, Some(true));
    let read = call.read_file.unwrap();
    assert_eq!((read.offset, read.length), (u64::MAX, Some(3)));
    let launch = call.launch_container.unwrap();
    assert_eq!(launch.resources[0].scalar.unwrap().value, 0.5);
    assert_eq!(launch.limits["cpus"].value, f64::INFINITY);
    assert_eq!(launch.limits["mem"].value, 1.0);
}

#[test]
fn output_is_in_the_order_of_the_file_and_whole_doubles_have_a_fraction() {
    let agent = v1::AgentInfo {
        hostname: "h".into(),
        id: Some(v1::AgentId { value: "S3".into() }),
        resources: vec![v1::Resource {
            name: "cpus".into(),
            scalar: Some(v1::value::Scalar { value: 64.0 }),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(
        json(&agent),
        r#"{"hostname":"h","port":5051,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":64.0}}],"id":{"value":"S3"}}"#
    );
    let doubles = [
        (0.16, "0.16"),
        (1795456635.156854, "1795456635.156854"),
        (-3.0, "-3.0"),
        (0.0, "0.0"),
        (24372908032.0, "24372908032.0"),
        (1e20, "100000000000000000000.0"),
        (1e21, "1e21"),
        (1.5e-7, "1.5e-7"),
        (f64::INFINITY, "\"Infinity\""),
        (f64::NEG_INFINITY, "\"-Infinity\""),
    ];
    for (value, text) in doubles {
        assert_eq!(json(&v1::value::Scalar { value }), format!("{{\"value\":{text}}}"));
    }
}

#[test]
fn unset_fields_with_a_default_are_written_unless_they_are_deprecated() {
    let framework = v1::FrameworkInfo { user: "root".into(), name: "n".into(), ..Default::default() };
    assert_eq!(json(&framework), r#"{"user":"root","name":"n","failover_timeout":0.0,"checkpoint":false}"#);
    assert_eq!(json(&v1::CommandInfo::default()), r#"{"shell":true}"#);
    let left = write(
        crate::descriptor::Message::of::<v1::CommandInfo>(),
        &encode_protobuf(&v1::CommandInfo::default()),
        Defaults::Left,
    );
    assert_eq!(left, b"{}");
}

#[test]
fn lists_of_tasks_executors_and_frameworks_are_written_though_empty() {
    let response = Response {
        r#type: Some(response::Type::GetFrameworks.into()),
        get_frameworks: Some(response::GetFrameworks::default()),
        ..Default::default()
    };
    let expected =
        r#"{"type":"GET_FRAMEWORKS","get_frameworks":{"frameworks":[],"completed_frameworks":[]}}"#;
    assert_eq!(json(&response), expected);
    let response = Response { r#type: Some(response::Type::GetContainers.into()), ..Default::default() };
    assert_eq!(json(&response), r#"{"type":"GET_CONTAINERS"}"#);
}

#[test]
fn a_number_that_an_enum_does_not_have_is_unset() {
    let call = Call { r#type: Some(7777), ..Default::default() };
    assert_eq!(json(&call), "{}");
    let wrong = ContainerInfo { r#type: 77, ..Default::default() };
    assert_eq!(decode_protobuf::<ContainerInfo>(&encode_protobuf(&wrong)), Err(DecodeError::Protobuf));
}

#[test]
fn packed_lists_are_read_as_well() {
    // capabilities, packed: 1000 and 1005.
    let packed = [0x0a, 4, 0xe8, 0x07, 0xed, 0x07];
    let set: v1::CapabilityInfo = decode_protobuf(&packed).unwrap();
    assert_eq!(set.capabilities, [1000, 1005]);
    let text = write(crate::descriptor::Message::of::<v1::CapabilityInfo>(), &packed, Defaults::Written);
    assert_eq!(text, br#"{"capabilities":["CHOWN","KILL"]}"#);
}

#[test]
fn missing_required_fields_are_no_protobuf() {
    let call = [0x6a, 0];
    assert_eq!(
        decode_protobuf::<Call>(&call).unwrap_err().to_string(),
        "Failed to parse body into a protobuf object"
    );
    assert_eq!(decode_protobuf::<Call>(b"\xff\xff").unwrap_err(), DecodeError::Protobuf);
    // Text that is not UTF-8.
    assert_eq!(decode_protobuf::<v1::ContainerId>(&[0x0a, 1, 0xff]).unwrap_err(), DecodeError::Protobuf);
}

mod properties {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    fn amount() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>().prop_filter("NaN is not equal to itself", |value| !value.is_nan()),
            Just(0.1)
        ]
    }

    prop_compose! {
        fn scalar()(value in amount()) -> v1::value::Scalar {
            v1::value::Scalar { value }
        }
    }

    prop_compose! {
        fn process_io()(
            kind in option::of(0..3i32),
            stream in option::of(0..4i32),
            data in option::of(vec(any::<u8>(), 0..50)),
        ) -> ProcessIo {
            let data = Some(crate::agent::process_io::Data { r#type: stream, data });
            ProcessIo { r#type: kind, data, control: None }
        }
    }

    prop_compose! {
        fn call()(
            kind in option::of(0..33i32),
            value in ".*",
            parent in option::of(".*"),
            offset in any::<u64>(),
            signal in option::of(any::<i32>()),
            nanoseconds in any::<i64>(),
            limits in btree_map(".*", scalar(), 0..4),
            args in vec(".*", 0..4),
            ports in vec((any::<u64>(), any::<u64>()), 0..4),
            process_io in option::of(process_io()),
        ) -> Call {
            let parent = parent.map(|value| Box::new(v1::ContainerId { value, parent: None }));
            let container_id = v1::ContainerId { value, parent };
            let range = ports.into_iter().map(|(begin, end)| v1::value::Range { begin, end }).collect();
            let ports = v1::Resource {
                name: "ports".into(),
                r#type: v1::value::Type::Ranges.into(),
                ranges: Some(v1::value::Ranges { range }),
                ..Default::default()
            };
            Call {
                r#type: kind,
                read_file: Some(call::ReadFile { path: "p".into(), offset, length: None }),
                kill_container: Some(call::KillContainer { container_id: container_id.clone(), signal }),
                get_metrics: Some(call::GetMetrics { timeout: Some(v1::DurationInfo { nanoseconds }) }),
                launch_container: Some(call::LaunchContainer {
                    container_id,
                    command: Some(v1::CommandInfo { arguments: args, shell: Some(false), ..Default::default() }),
                    resources: vec![ports],
                    container: None,
                    limits,
                }),
                attach_container_input: Some(call::AttachContainerInput {
                    r#type: Some(2),
                    container_id: None,
                    process_io,
                }),
                ..Default::default()
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(call in call()) {
            prop_assert_eq!(&decode_json::<Call>(&encode_json(&call)).unwrap(), &call);
            prop_assert_eq!(&decode_protobuf::<Call>(&encode_protobuf(&call)).unwrap(), &call);
        }

        #[test]
        fn output_is_json_for_any_serde(call in call()) {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&encode_json(&call)).is_ok());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = decode_json::<Call>(&bytes);
            if let Ok(call) = decode_protobuf::<Call>(&bytes) {
                encode_json(&call);
            }
        }

        #[test]
        fn arbitrary_json_never_panics(text in r#"\{("(type|launch_container|limits|container_id|value|data)":(1|"a"|null|\[\]|\{\}|true),?){0,6}\}"#) {
            let _ = decode_json::<Call>(text.as_bytes());
            let _ = decode_json::<Value>(text.as_bytes());
        }
    }
}
