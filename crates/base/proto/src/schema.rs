// SPDX-License-Identifier: Apache-2.0
//! What JSON Schema says of the messages, made from the tables that the JSON mapping goes by: so a description of the
//! API can not say something else than what is read and written.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::descriptor::{Enum, Field, Kind, Message, Rule};

/// Where the schemas stand in an OpenAPI document.
const PLACE: &str = "#/components/schemas/";

/// The schema that refers to a message or an enum by its full name.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{PLACE}{name}") })
}

/// The schemas of these messages, and of all that they refer to, by their full names. Names that no message has are left
/// out.
pub fn schemas(roots: &[&str]) -> Map<String, Value> {
    let mut all = BTreeMap::new();
    roots.iter().filter_map(|root| Message::find(root)).for_each(|message| describe(message, &mut all));
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn describe(message: &'static Message, all: &mut BTreeMap<&'static str, Value>) {
    if all.contains_key(message.name) {
        return;
    }
    // Messages refer to one another in circles.
    all.insert(message.name, Value::Null);
    let mut properties = Map::new();
    for field in message.fields {
        properties.insert(field.name.to_owned(), of_field(field, all));
    }
    let required: Vec<&str> =
        message.fields.iter().filter(|field| field.rule == Rule::Required).map(|field| field.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    all.insert(message.name, schema);
}

fn of_field(field: &Field, all: &mut BTreeMap<&'static str, Value>) -> Value {
    let mut schema = match (field.rule, field.kind) {
        (Rule::Repeated, Kind::Message(entry)) if entry.is_map_entry => {
            let value = entry.field("value").map(|value| of_kind(value.kind, all));
            json!({ "type": "object", "additionalProperties": value })
        }
        (Rule::Repeated, kind) => json!({ "type": "array", "items": of_kind(kind, all) }),
        (_, kind) => of_kind(kind, all),
    };
    if let Some(default) = field.default_json {
        schema["default"] = serde_json::from_str(default).expect("build.rs writes JSON");
    }
    // The number on the wire, for those who write a .proto file of their own.
    schema["x-number"] = json!(field.number);
    schema
}

fn of_kind(kind: Kind, all: &mut BTreeMap<&'static str, Value>) -> Value {
    let whole = |format: &str| json!({ "type": "integer", "format": format });
    let natural = |format: &str| json!({ "type": "integer", "format": format, "minimum": 0 });
    match kind {
        Kind::Double => json!({ "type": "number", "format": "double" }),
        Kind::Int32 => whole("int32"),
        Kind::Int64 => whole("int64"),
        Kind::Uint32 => natural("uint32"),
        Kind::Uint64 => natural("uint64"),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::String => json!({ "type": "string" }),
        Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Kind::Message(message) => {
            describe(message, all);
            reference(message.name)
        }
        Kind::Enum(item) => {
            all.entry(item.name).or_insert_with(|| of_enum(item));
            reference(item.name)
        }
    }
}

fn of_enum(item: &Enum) -> Value {
    let names: Vec<&str> = item.values.iter().map(|(_, name)| *name).collect();
    let numbers: Vec<i32> = item.values.iter().map(|(number, _)| *number).collect();
    json!({ "type": "string", "enum": names, "x-numbers": numbers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_and_all_that_it_refers_to_are_described() {
        let all = schemas(&["mesos.v1.agent.Call", "no.such.Message"]);
        let launch = &all["mesos.v1.agent.Call.LaunchContainer"];
        assert_eq!(launch["required"], json!(["container_id"]));
        assert_eq!(launch["properties"]["container_id"]["$ref"], "#/components/schemas/mesos.v1.ContainerID");
        assert_eq!(
            launch["properties"]["limits"]["additionalProperties"],
            reference("mesos.v1.Value.Scalar")
        );
        assert_eq!(all["mesos.v1.CommandInfo"]["properties"]["shell"]["default"], json!(true));
        assert_eq!(all["mesos.v1.agent.Call.Type"]["enum"][1], "GET_HEALTH");
        let text = serde_json::to_string(&all).unwrap();
        let targets = text.split("\"$ref\":\"#/components/schemas/").skip(1);
        let targets: Vec<&str> = targets.filter_map(|rest| rest.split('"').next()).collect();
        assert!(targets.len() > 100 && targets.iter().all(|name| all.contains_key(*name)));
        assert!(!text.contains("null"), "each is described to its end");
    }
}
