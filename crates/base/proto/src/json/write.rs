// SPDX-License-Identifier: Apache-2.0
//! The wire format of a message into JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::decode_varint;

use crate::descriptor::{Field, Kind, Message, Rule};
use crate::wire::{Fields, Raw};

/// Whether fields that are unset and have a default are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defaults {
    /// As Mesos does.
    Written,
    /// So that unset stays unset.
    Left,
}

/// The JSON of a message that prost has encoded.
pub(crate) fn write(message: &Message, bytes: &[u8], defaults: Defaults) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 2 + 2);
    write_message(message, bytes, defaults, &mut out);
    out
}

fn write_message(message: &Message, bytes: &[u8], defaults: Defaults, out: &mut Vec<u8>) {
    let fields = Fields::scan(bytes);
    let mut separator = b'{';
    for field in message.fields {
        let before = out.len();
        out.push(separator);
        write_text(field.name, out);
        out.push(b':');
        if write_field(message, field, &fields, defaults, out) {
            separator = b',';
        } else {
            out.truncate(before);
        }
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

/// Writes the value of a field, if it has one.
fn write_field(
    message: &Message,
    field: &Field,
    fields: &Fields<'_>,
    defaults: Defaults,
    out: &mut Vec<u8>,
) -> bool {
    match (field.rule, field.kind) {
        (Rule::Repeated, Kind::Message(entry)) if entry.is_map_entry => {
            write_map(field, entry, fields, defaults, out)
        }
        (Rule::Repeated, _) => {
            write_list(field, fields, defaults, out) || {
                let always = message.lists_always && defaults == Defaults::Written;
                if always {
                    out.extend_from_slice(b"[]");
                }
                always
            }
        }
        (_, Kind::Message(part)) => match fields.message(field) {
            Some(bytes) => {
                write_message(part, &bytes, defaults, out);
                true
            }
            None => false,
        },
        _ => {
            let written =
                fields.of(field).last().is_some_and(|raw| write_value(field.kind, raw, defaults, out));
            match field.default_json {
                Some(text) if !written && defaults == Defaults::Written => {
                    out.extend_from_slice(text.as_bytes());
                    true
                }
                _ if !written && field.rule == Rule::Required => write_zero(field.kind, defaults, out),
                _ => written,
            }
        }
    }
}

fn write_list(field: &Field, fields: &Fields<'_>, defaults: Defaults, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.push(b'[');
    for raw in fields.of(field) {
        for raw in unpacked(field.kind, raw) {
            if write_value(field.kind, raw, defaults, out) {
                out.push(b',');
            }
        }
    }
    if out.len() == start + 1 {
        out.truncate(start);
        return false;
    }
    out.pop();
    out.push(b']');
    true
}

/// The numbers in a packed list, or the one value. Doubles in lists are not among our messages.
fn unpacked(kind: Kind, raw: Raw<'_>) -> Vec<Raw<'_>> {
    match (kind, raw) {
        (Kind::Message(_) | Kind::String | Kind::Bytes | Kind::Double, raw) => vec![raw],
        (_, Raw::Bytes(mut packed)) => {
            let mut items = Vec::new();
            while !packed.is_empty() {
                let Ok(item) = decode_varint(&mut packed) else { break };
                items.push(Raw::Varint(item));
            }
            items
        }
        (_, raw) => vec![raw],
    }
}

fn write_map(
    field: &Field,
    entry: &Message,
    fields: &Fields<'_>,
    defaults: Defaults,
    out: &mut Vec<u8>,
) -> bool {
    let (Some(key), Some(value)) = (entry.field("key"), entry.field("value")) else { return false };
    let mut separator = b'{';
    for raw in fields.of(field) {
        let Raw::Bytes(pair) = raw else { continue };
        let pair = Fields::scan(pair);
        let name = match pair.of(key).last() {
            Some(Raw::Bytes(name)) => std::str::from_utf8(name).unwrap_or_default(),
            // A zero is left out of the wire format.
            _ => "",
        };
        let before = out.len();
        out.push(separator);
        write_text(name, out);
        out.push(b':');
        // prost leaves out a value that is all zeros.
        let present =
            write_field(entry, value, &pair, defaults, out) || write_zero(value.kind, defaults, out);
        if present {
            separator = b',';
        } else {
            out.truncate(before);
        }
    }
    if separator == b'{' {
        return false;
    }
    out.push(b'}');
    true
}

/// Writes one value; nothing for a number that an enum does not have.
fn write_value(kind: Kind, raw: Raw<'_>, defaults: Defaults, out: &mut Vec<u8>) -> bool {
    match (kind, raw) {
        (Kind::Message(message), Raw::Bytes(bytes)) => write_message(message, bytes, defaults, out),
        (Kind::String, Raw::Bytes(bytes)) => write_text(std::str::from_utf8(bytes).unwrap_or_default(), out),
        (Kind::Bytes, Raw::Bytes(bytes)) => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
        (Kind::Enum(item), Raw::Varint(number)) => match item.value(number as i32) {
            Some(name) => write_text(name, out),
            None => return false,
        },
        (Kind::Bool, Raw::Varint(value)) => {
            out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
        }
        (Kind::Uint32 | Kind::Uint64, Raw::Varint(value)) => {
            out.extend_from_slice(value.to_string().as_bytes())
        }
        (Kind::Int32 | Kind::Int64, Raw::Varint(value)) => {
            out.extend_from_slice((value as i64).to_string().as_bytes());
        }
        (Kind::Double, Raw::Fixed64(bits)) => write_double(f64::from_bits(bits), out),
        // Another wire type than the field has: prost has refused it.
        _ => return false,
    }
    true
}

/// Writes what prost has when nothing came.
fn write_zero(kind: Kind, defaults: Defaults, out: &mut Vec<u8>) -> bool {
    let raw = match kind {
        Kind::Message(_) | Kind::String | Kind::Bytes => Raw::Bytes(&[]),
        Kind::Double => Raw::Fixed64(0),
        _ => Raw::Varint(0),
    };
    write_value(kind, raw, defaults, out)
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing text to memory does not fail");
}

/// The shortest digits that read back as the same number, with `.0` when it is whole. Mesos has no form for what is
/// not finite; ours is the text that it reads.
fn write_double(value: f64, out: &mut Vec<u8>) {
    let magnitude = value.abs();
    let text = if !value.is_finite() {
        let name = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        format!("\"{name}\"")
    } else if magnitude >= 1e21 || (magnitude < 1e-6 && magnitude != 0.0) {
        format!("{value:e}")
    } else if value.fract() == 0.0 {
        format!("{value}.0")
    } else {
        value.to_string()
    };
    out.extend_from_slice(text.as_bytes());
}
