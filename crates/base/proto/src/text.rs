// SPDX-License-Identifier: Apache-2.0
//! Messages in protobuf's text format, which Mesos puts in the words of some refusals: fields by their numbers.

use std::fmt::Write as _;

use prost::Name;

use crate::descriptor::{Field, Kind, Message};
use crate::wire::{Fields, Raw};

/// A message as text, a field or a part a line.
pub fn text<M: prost::Message + Name>(message: &M) -> String {
    let mut out = String::new();
    write_message(Message::of::<M>(), &message.encode_to_vec(), 0, &mut out);
    out
}

fn write_message(message: &Message, bytes: &[u8], depth: usize, out: &mut String) {
    let fields = Fields::scan(bytes);
    let mut in_order: Vec<&Field> = message.fields.iter().collect();
    in_order.sort_by_key(|field| field.number);
    let indent = "  ".repeat(depth);
    for field in in_order {
        for raw in fields.of(field) {
            match (field.kind, raw) {
                (Kind::Message(part), Raw::Bytes(inner)) => {
                    let _ = writeln!(out, "{indent}{} {{", field.name);
                    write_message(part, inner, depth + 1, out);
                    let _ = writeln!(out, "{indent}}}");
                }
                _ => {
                    let _ = writeln!(out, "{indent}{}: {}", field.name, value(field.kind, raw));
                }
            }
        }
    }
}

fn value(kind: Kind, raw: Raw<'_>) -> String {
    match (kind, raw) {
        (Kind::Double, Raw::Fixed64(bits)) => f64::from_bits(bits).to_string(),
        (Kind::Bool, Raw::Varint(number)) => (number != 0).to_string(),
        (Kind::Int32 | Kind::Int64, Raw::Varint(number)) => (number as i64).to_string(),
        (Kind::Enum(item), Raw::Varint(number)) => {
            item.value(number as i32).map_or_else(|| number.to_string(), str::to_owned)
        }
        (_, Raw::Varint(number) | Raw::Fixed64(number)) => number.to_string(),
        (_, Raw::Fixed32(number)) => number.to_string(),
        (_, Raw::Bytes(bytes)) => quoted(bytes),
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\{byte:03o}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode_json;
    use crate::v1::ExecutorInfo;

    #[test]
    fn fields_stand_in_the_order_of_their_numbers_with_their_parts_below() {
        let json = br#"{"type": "DEFAULT", "executor_id": {"value": "a\"\n"}, "data": "AP8=", "resources":
            [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}], "shutdown_grace_period":
            {"nanoseconds": -5}}"#;
        let message: ExecutorInfo = decode_json(json).unwrap();
        let expected = [
            "executor_id {",
            "  value: \"a\\\"\\n\"",
            "}",
            "data: \"\\000\\377\"",
            "resources {",
            "  name: \"cpus\"",
            "  type: SCALAR",
            "  scalar {",
            "    value: 0.1",
            "  }",
            "}",
            "shutdown_grace_period {",
            "  nanoseconds: -5",
            "}",
            "type: DEFAULT",
        ];
        assert_eq!(text(&message).lines().collect::<Vec<_>>(), expected);
    }
}
