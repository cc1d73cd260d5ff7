// SPDX-License-Identifier: Apache-2.0
//! What the JSON mapping knows of a message: its fields in the order of the .proto file. `build.rs` writes the tables.

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// A message.
#[derive(Debug)]
pub(crate) struct Message {
    /// With its package.
    pub(crate) name: &'static str,
    /// Whether it is the pair of key and value that a map is made of.
    pub(crate) is_map_entry: bool,
    /// Whether its lists are written in JSON though they are empty.
    pub(crate) lists_always: bool,
    /// In the order of the .proto file, which is the order of JSON.
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) number: u32,
    pub(crate) rule: Rule,
    pub(crate) kind: Kind,
    /// What is written when the field is unset.
    pub(crate) default_json: Option<&'static str>,
}

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Optional,
    Required,
    Repeated,
}

/// What a field holds: those types that our messages use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Double,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Bool,
    String,
    Bytes,
    Message(&'static Message),
    Enum(&'static Enum),
}

/// An enum.
#[derive(Debug)]
pub(crate) struct Enum {
    /// With its package.
    pub(crate) name: &'static str,
    /// Numbers and names.
    pub(crate) values: &'static [(i32, &'static str)],
}

impl Message {
    /// The table of a struct.
    pub(crate) fn of<M: prost::Name>() -> &'static Message {
        Message::find(&M::full_name()).expect("build.rs writes a table for every message that it compiles")
    }

    /// The table of the message with this full name.
    pub(crate) fn find(name: &str) -> Option<&'static Message> {
        let at = MESSAGES.binary_search_by_key(&name, |message| message.name).ok()?;
        Some(MESSAGES[at])
    }

    /// The field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Enum {
    /// The number of a name.
    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        self.values.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
    }

    /// The name of a number.
    pub(crate) fn value(&self, number: i32) -> Option<&'static str> {
        self.values.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::extensions::{Extension, Kind as Which, REGISTRY};

    fn in_mesos(name: &str) -> bool {
        name.starts_with("mesos.v1.")
    }

    fn is_registered(kinds: &[Which], message: &str, name: &str, number: i32) -> bool {
        let is_it = |entry: &Extension| {
            kinds.contains(&entry.kind)
                && format!("mesos.v1.{}", entry.message) == message
                && entry.name == name
                && entry.number == number
        };
        REGISTRY.iter().any(is_it)
    }

    #[test]
    fn every_number_of_the_registry_is_in_the_proto_files() {
        for Extension { message, kind, name, number } in REGISTRY {
            let full = format!("mesos.v1.{message}");
            let values = ENUMS.iter().find(|item| item.name == full);
            let found = match kind {
                Which::Call => ENUMS
                    .iter()
                    .any(|item| item.name == format!("{full}.Type") && item.number(name) == Some(*number)),
                _ => match values {
                    Some(item) => item.number(name) == Some(*number),
                    None => Message::find(&full)
                        .and_then(|message| message.field(name))
                        .is_some_and(|field| i64::from(field.number) == i64::from(*number)),
                },
            };
            assert!(found, "{message}: {name} = {number}");
        }
    }

    #[test]
    fn every_number_of_ours_in_a_message_of_mesos_is_in_the_registry() {
        for message in MESSAGES.iter().filter(|message| in_mesos(message.name)) {
            for field in message.fields.iter().filter(|field| field.number >= 1000) {
                let number = i32::try_from(field.number).unwrap();
                // The field of a call of ours has the number of its type, and the name in small letters.
                let calls = ["mesos.v1.agent.Call", "mesos.v1.agent.Response", "mesos.v1.master.Call"];
                let known = if calls.contains(&message.name) {
                    REGISTRY.iter().any(|entry| {
                        entry.kind == Which::Call
                            && message.name.contains(entry.message.trim_end_matches("Call"))
                            && entry.number == number
                            && entry.name.to_ascii_lowercase() == field.name
                    })
                } else {
                    is_registered(&[Which::Field], message.name, field.name, number)
                };
                assert!(known, "{}: {} = {number}", message.name, field.name);
            }
        }
        for item in ENUMS.iter().filter(|item| in_mesos(item.name)) {
            let of_calls = ["mesos.v1.agent.", "mesos.v1.master."].iter().any(|of| item.name.starts_with(of));
            let capabilities = item.name == "mesos.v1.CapabilityInfo.Capability";
            for (number, name) in item.values.iter().filter(|(number, _)| *number >= 100 && !capabilities) {
                let message = item.name.trim_end_matches(".Type").replace("agent.Response", "agent.Call");
                let known = if of_calls {
                    is_registered(&[Which::Call], &message, name, *number)
                } else {
                    is_registered(&[Which::Value], item.name, name, *number)
                };
                assert!(known, "{}: {name} = {number}", item.name);
            }
        }
    }
}
