// SPDX-License-Identifier: Apache-2.0
//! A tree of JSON into the wire format of a message.
//!
//! What a message does not have is ignored, `null` is unset, a single value will do for a list of one. Numbers and
//! booleans may come as text. An enum takes names only; a name that it does not have leaves the field unset, unless
//! the field is required.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_model::Class;
use prost::bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Number, Value};

use crate::descriptor::{Field, Kind, Message, Rule};

/// Why JSON is not of a message. The texts are those of Mesos where it has any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The document is no object.
    #[error("Expecting a JSON object")]
    NotAnObject,
    /// A field has a value of another type than it should.
    #[error("Not expecting a JSON {found} for field '{field}'")]
    Type {
        /// What it is: `string`, `number`, `boolean`, `array` or `object`.
        found: &'static str,
        /// The name of the field.
        field: &'static str,
    },
    /// A required enum has a value that does not exist.
    #[error("Failed to find enum for '{0}'")]
    Enum(String),
    /// Text that should be a number is none.
    #[error("Failed to parse '{text}' as a JSON number for field '{field}': expected a number")]
    Number {
        /// What was given.
        text: String,
        /// The name of the field.
        field: &'static str,
    },
    /// Text that should be a boolean is none.
    #[error("Failed to parse '{text}' as a JSON boolean for field '{field}': expected true or false")]
    Boolean {
        /// What was given.
        text: String,
        /// The name of the field.
        field: &'static str,
    },
    /// A number that is not whole or too large for its field; Mesos makes some other number of it.
    #[error(
        "Not expecting the number {number} for field '{field}': give a whole number from {least} to {most}"
    )]
    NotWhole {
        /// What was given.
        number: String,
        /// The name of the field.
        field: &'static str,
        /// The least number that the field can hold.
        least: i64,
        /// The greatest number that the field can hold.
        most: u64,
    },
    /// Bytes that are not in base64.
    #[error("Failed to base64 decode bytes field '{field}': {reason}")]
    Base64 {
        /// The name of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Required fields that are missing, joined with commas.
    #[error("Missing required fields: {0}")]
    Missing(String),
    /// Messages in messages without end.
    #[error("Messages are nested deeper than 100 levels; use fewer levels")]
    TooDeep,
}

impl ConvertError {
    /// Wrong JSON is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// The wire format of a message. The depth of the tree is bounded by whoever made it.
pub(crate) fn read(message: &Message, tree: &Value) -> Result<Vec<u8>, ConvertError> {
    let object = tree.as_object().ok_or(ConvertError::NotAnObject)?;
    let mut out = Vec::new();
    read_object(message, object, &mut out)?;
    Ok(out)
}

fn read_object(
    message: &Message,
    object: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    for (name, value) in object {
        if let Some(field) = message.field(name) {
            read_field(field, value, out)?;
        }
    }
    Ok(())
}

fn read_field(field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), ConvertError> {
    match value {
        Value::Null => Ok(()),
        Value::Array(items) if field.rule == Rule::Repeated => {
            items.iter().filter(|item| !item.is_null()).try_for_each(|item| read_value(field, item, out))
        }
        single => read_value(field, single, out),
    }
}

fn read_value(field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), ConvertError> {
    match (field.kind, value) {
        (Kind::Message(entry), Value::Object(object)) if entry.is_map_entry => {
            read_map(field, entry, object, out)
        }
        (Kind::Message(message), Value::Object(object)) => {
            let mut inner = Vec::new();
            read_object(message, object, &mut inner)?;
            put_bytes(field, &inner, out);
            Ok(())
        }
        (Kind::String, Value::String(text)) => {
            put_bytes(field, text.as_bytes(), out);
            Ok(())
        }
        (Kind::Bytes, Value::String(text)) => {
            let bytes = STANDARD
                .decode(text)
                .map_err(|error| ConvertError::Base64 { field: field.name, reason: base64_reason(&error) })?;
            put_bytes(field, &bytes, out);
            Ok(())
        }
        (Kind::Enum(item), Value::String(name)) => match item.number(name) {
            Some(number) => {
                put_varint(field, i64::from(number) as u64, out);
                Ok(())
            }
            None if field.rule == Rule::Required => Err(ConvertError::Enum(name.clone())),
            None => Ok(()),
        },
        (Kind::Bool, Value::Bool(value)) => {
            put_varint(field, u64::from(*value), out);
            Ok(())
        }
        (Kind::Bool, Value::String(text)) => {
            let value = text
                .parse::<bool>()
                .map_err(|_| ConvertError::Boolean { text: text.clone(), field: field.name })?;
            put_varint(field, u64::from(value), out);
            Ok(())
        }
        (Kind::Double, _) => {
            put_double(field, double(field, value)?, out);
            Ok(())
        }
        (Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64, _) => {
            put_varint(field, whole(field, value)?, out);
            Ok(())
        }
        _ => Err(wrong_type(field, value)),
    }
}

/// A map is a list of pairs on the wire, and an object in JSON.
fn read_map(
    field: &Field,
    entry: &Message,
    object: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    for (name, value) in object {
        let mut inner = Vec::new();
        if let Some(key) = entry.field("key") {
            read_value(key, &Value::String(name.clone()), &mut inner)?;
        }
        if let Some(held) = entry.field("value") {
            read_field(held, value, &mut inner)?;
        }
        put_bytes(field, &inner, out);
    }
    Ok(())
}

fn double(field: &Field, value: &Value) -> Result<f64, ConvertError> {
    match value {
        Value::Number(number) => Ok(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => match text.as_str() {
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Ok(number_in(field, text)?.as_f64().unwrap_or(f64::NAN)),
        },
        _ => Err(wrong_type(field, value)),
    }
}

/// A whole number as it stands on the wire.
fn whole(field: &Field, value: &Value) -> Result<u64, ConvertError> {
    let number = match value {
        Value::Number(number) => number.clone(),
        Value::String(text) => number_in(field, text)?,
        _ => return Err(wrong_type(field, value)),
    };
    let (least, most) = match field.kind {
        Kind::Int32 => (i64::from(i32::MIN), i32::MAX as u64),
        Kind::Int64 => (i64::MIN, i64::MAX as u64),
        Kind::Uint32 => (0, u64::from(u32::MAX)),
        _ => (0, u64::MAX),
    };
    match exact(&number) {
        Some(value) if value >= i128::from(least) && value <= i128::from(most) => Ok(value as u64),
        _ => Err(ConvertError::NotWhole { number: number.to_string(), field: field.name, least, most }),
    }
}

/// The whole number that this is; `31000.0` is one, since some JSON writers know no other numbers.
fn exact(number: &Number) -> Option<i128> {
    /// Up to here every whole number has a double of its own: 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Some(value) = number.as_u64() {
        return Some(i128::from(value));
    }
    if let Some(value) = number.as_i64() {
        return Some(i128::from(value));
    }
    let value = number.as_f64()?;
    (value.abs() <= EXACT && value.fract() == 0.0).then_some(value as i128)
}

fn number_in(field: &Field, text: &str) -> Result<Number, ConvertError> {
    serde_json::from_str(text).map_err(|_| ConvertError::Number { text: text.to_owned(), field: field.name })
}

fn wrong_type(field: &Field, value: &Value) -> ConvertError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    ConvertError::Type { found, field: field.name }
}

fn put_varint(field: &Field, value: u64, out: &mut Vec<u8>) {
    encode_key(field.number, WireType::Varint, out);
    encode_varint(value, out);
}

fn put_double(field: &Field, value: f64, out: &mut Vec<u8>) {
    encode_key(field.number, WireType::SixtyFourBit, out);
    out.put_f64_le(value);
}

fn put_bytes(field: &Field, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(field.number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Mesos names the character; what it says of lengths is its own way to count.
fn base64_reason(error: &base64::DecodeError) -> String {
    match error {
        base64::DecodeError::InvalidByte(_, byte) => format!("Invalid character '{}'", char::from(*byte)),
        other => other.to_string(),
    }
}
