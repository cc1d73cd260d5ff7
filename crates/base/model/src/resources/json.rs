// SPDX-License-Identifier: Apache-2.0
//! Resources in JSON: what Mesos's JSON mapping of the message `Resource` accepts, and its errors.
//!
//! Reading goes in two steps. [`clean`] walks a value along a table of the message and its parts, as protobuf's
//! reflection does: it refuses values of the wrong type, drops what is `null` or unknown, reads numbers that come as
//! text, and lists required fields that are missing. What is left has the right shape, and serde takes it apart.

use super::draft::Draft;
use super::{
    DiskInfo, DiskSourceType, Invalid, Reservation, ReservationType, Resource, Resources, Value, ValueType,
};
use crate::{Class, VolumeMode};
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Number, Value as Json};

/// Why JSON is not a list of resources. The messages are those of Mesos's JSON mapping where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The document is not a list.
    #[error("Expecting a JSON array")]
    NotAnArray,
    /// An item of the list is not an object.
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
    /// A number that comes as text is not a number.
    #[error("Failed to parse '{text}' as a JSON number for field '{field}': expected a number")]
    Number {
        /// What was given.
        text: String,
        /// The name of the field.
        field: &'static str,
    },
    /// A number that must be whole and not negative is not; Mesos converts it to some other number.
    #[error(
        "Not expecting the number {number} for field '{field}': give a whole number that is not negative"
    )]
    NotWhole {
        /// What was given.
        number: String,
        /// The name of the field.
        field: &'static str,
    },
    /// Required fields that are missing, joined with commas, such as `type, scalar.value`.
    #[error("Missing required fields: {0}")]
    Missing(String),
    /// A part that is read elsewhere, such as the image of a volume, is wrong.
    #[error("{0}")]
    Part(String),
}

impl JsonError {
    /// Wrong JSON is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Reads a list of drafts.
pub(super) fn read_list(list: &Json) -> Result<Vec<Draft>, JsonError> {
    list.as_array().ok_or(JsonError::NotAnArray)?.iter().map(read).collect()
}

fn read(value: &Json) -> Result<Draft, JsonError> {
    let object = value.as_object().ok_or(JsonError::NotAnObject)?;
    let cleaned = clean(&RESOURCE, object)?;
    let mut missing = Vec::new();
    find_missing(&RESOURCE, &cleaned, "", &mut missing);
    if !missing.is_empty() {
        return Err(JsonError::Missing(missing.join(", ")));
    }
    Draft::deserialize(Json::Object(cleaned)).map_err(|error| JsonError::Part(error.to_string()))
}

/// A message: its fields in the order of their numbers.
struct Message(&'static [Field]);

struct Field {
    name: &'static str,
    kind: Kind,
    rule: Rule,
}

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Optional,
    Required,
    Repeated,
}

enum Kind {
    Text,
    Double,
    Whole,
    /// The name of a number, and whether a text is a name.
    Enum(fn(i32) -> Option<&'static str>, fn(&str) -> bool),
    Message(&'static Message),
    /// Left to serde.
    Any,
}

const fn field(name: &'static str, kind: Kind, rule: Rule) -> Field {
    Field { name, kind, rule }
}

macro_rules! names_of {
    ($Enum:ident) => {
        Kind::Enum(|number| $Enum::from_number(number).map($Enum::name), |name| name.parse::<$Enum>().is_ok())
    };
}

use Rule::{Optional, Repeated, Required};

static RESOURCE: Message = Message(&[
    field("name", Kind::Text, Required),
    field("type", names_of!(ValueType), Required),
    field("scalar", Kind::Message(&SCALAR), Optional),
    field("ranges", Kind::Message(&RANGES), Optional),
    field("set", Kind::Message(&SET), Optional),
    field("role", Kind::Text, Optional),
    field("disk", Kind::Message(&DISK), Optional),
    field("reservation", Kind::Message(&RESERVATION), Optional),
    field("revocable", Kind::Message(&PRESENT), Optional),
    field("shared", Kind::Message(&PRESENT), Optional),
    field("allocation_info", Kind::Message(&ALLOCATION), Optional),
    field("provider_id", Kind::Message(&ID), Optional),
    field("reservations", Kind::Message(&RESERVATION), Repeated),
]);
static SCALAR: Message = Message(&[field("value", Kind::Double, Required)]);
static RANGES: Message = Message(&[field("range", Kind::Message(&RANGE), Repeated)]);
static RANGE: Message =
    Message(&[field("begin", Kind::Whole, Required), field("end", Kind::Whole, Required)]);
static SET: Message = Message(&[field("item", Kind::Text, Repeated)]);
static PRESENT: Message = Message(&[]);
static ALLOCATION: Message = Message(&[field("role", Kind::Text, Optional)]);
static ID: Message = Message(&[field("value", Kind::Text, Required)]);
static RESERVATION: Message = Message(&[
    field("principal", Kind::Text, Optional),
    field("labels", Kind::Message(&LABELS), Optional),
    field("role", Kind::Text, Optional),
    field("type", names_of!(ReservationType), Optional),
]);
static LABELS: Message = Message(&[field("labels", Kind::Message(&LABEL), Repeated)]);
static LABEL: Message = Message(&[field("key", Kind::Text, Required), field("value", Kind::Text, Optional)]);
static DISK: Message = Message(&[
    field("persistence", Kind::Message(&PERSISTENCE), Optional),
    field("volume", Kind::Message(&VOLUME), Optional),
    field("source", Kind::Message(&SOURCE), Optional),
]);
static PERSISTENCE: Message =
    Message(&[field("id", Kind::Text, Required), field("principal", Kind::Text, Optional)]);
static VOLUME: Message = Message(&[
    field("container_path", Kind::Text, Required),
    field("host_path", Kind::Text, Optional),
    field("mode", names_of!(VolumeMode), Required),
    field("image", Kind::Any, Optional),
    field("source", Kind::Any, Optional),
]);
static SOURCE: Message = Message(&[
    field("type", names_of!(DiskSourceType), Required),
    field("path", Kind::Message(&ROOT), Optional),
    field("mount", Kind::Message(&ROOT), Optional),
    field("id", Kind::Text, Optional),
    field("metadata", Kind::Message(&LABELS), Optional),
    field("profile", Kind::Text, Optional),
    field("vendor", Kind::Text, Optional),
]);
static ROOT: Message = Message(&[field("root", Kind::Text, Optional)]);

/// The fields of an object that the message has, in the shape that it has them.
fn clean(message: &Message, object: &Map<String, Json>) -> Result<Map<String, Json>, JsonError> {
    let mut cleaned = Map::new();
    for (name, value) in object {
        let Some(field) = message.0.iter().find(|field| field.name == name) else { continue };
        let value = match (field.rule, value) {
            (_, Json::Null) => None,
            (Repeated, Json::Array(list)) => {
                let items = list.iter().filter(|item| !item.is_null()).map(|item| clean_value(field, item));
                Some(Json::Array(items.filter_map(Result::transpose).collect::<Result<_, _>>()?))
            }
            (Repeated, single) => clean_value(field, single)?.map(|item| Json::Array(vec![item])),
            (_, single) => clean_value(field, single)?,
        };
        if let Some(value) = value {
            cleaned.insert(name.clone(), value);
        }
    }
    Ok(cleaned)
}

/// One value of a field; none for an unknown value of an enum that is not required, as protobuf has it.
fn clean_value(field: &Field, value: &Json) -> Result<Option<Json>, JsonError> {
    let wrong = |found| Err(JsonError::Type { found, field: field.name });
    Ok(Some(match (&field.kind, value) {
        (Kind::Any, value) => value.clone(),
        (Kind::Message(message), Json::Object(object)) => Json::Object(clean(message, object)?),
        (Kind::Text, Json::String(text)) => Json::String(text.clone()),
        (Kind::Enum(_, is_name), Json::String(name)) if is_name(name) => Json::String(name.clone()),
        (Kind::Enum(..), Json::String(name)) if field.rule == Required => {
            return Err(JsonError::Enum(name.clone()));
        }
        (Kind::Enum(..), Json::String(_)) => return Ok(None),
        (Kind::Enum(name_of, _), Json::Number(number)) => {
            match number.as_i64().and_then(|number| i32::try_from(number).ok()).and_then(name_of) {
                Some(name) => Json::String(name.to_owned()),
                None => return wrong("number"),
            }
        }
        (Kind::Double, Json::Number(number)) => Json::Number(number.clone()),
        (Kind::Double, Json::String(text)) => Json::Number(parse_number(field, text)?),
        (Kind::Whole, Json::Number(number)) => Json::Number(whole(field, number)?),
        (Kind::Whole, Json::String(text)) => Json::Number(whole(field, &parse_number(field, text)?)?),
        (_, Json::Object(_)) => return wrong("object"),
        (_, Json::String(_)) => return wrong("string"),
        (_, Json::Number(_)) => return wrong("number"),
        (_, Json::Bool(_)) => return wrong("boolean"),
        (_, Json::Array(_)) => return wrong("array"),
        (_, Json::Null) => return Ok(None),
    }))
}

fn parse_number(field: &Field, text: &str) -> Result<Number, JsonError> {
    serde_json::from_str(text).map_err(|_| JsonError::Number { text: text.to_owned(), field: field.name })
}

/// A whole number; `31000.0` is one, since some JSON writers know no other numbers.
fn whole(field: &Field, number: &Number) -> Result<Number, JsonError> {
    /// Up to here every whole number has a double of its own: 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.is_u64() {
        return Ok(number.clone());
    }
    match number.as_f64() {
        Some(double) if (0.0..=EXACT).contains(&double) && double.fract() == 0.0 => {
            Ok(Number::from(double as u64))
        }
        _ => Err(JsonError::NotWhole { number: number.to_string(), field: field.name }),
    }
}

/// Adds the paths of required fields that are missing: first those of this message, then those of its parts.
fn find_missing(message: &Message, object: &Map<String, Json>, path: &str, missing: &mut Vec<String>) {
    for field in message.0.iter().filter(|field| field.rule == Required && !object.contains_key(field.name)) {
        missing.push(format!("{path}{}", field.name));
    }
    for field in message.0 {
        let Kind::Message(part) = field.kind else { continue };
        match object.get(field.name) {
            Some(Json::Object(inner)) => {
                find_missing(part, inner, &format!("{path}{}.", field.name), missing)
            }
            Some(Json::Array(list)) => {
                for (at, inner) in
                    list.iter().enumerate().filter_map(|(at, item)| Some((at, item.as_object()?)))
                {
                    find_missing(part, inner, &format!("{path}{}[{at}].", field.name), missing);
                }
            }
            _ => {}
        }
    }
}

/// Why JSON that came from elsewhere than a flag is no resource.
fn refused(name: &str, error: &Invalid) -> String {
    format!("Resource '{name}' is invalid: {error}")
}

/// Reads one message, in the present or the old form; what is invalid is refused. Only from JSON.
impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Resource, D::Error> {
        let draft = read(&Json::deserialize(from)?).map_err(D::Error::custom)?;
        let name = draft.name.clone();
        draft.check().map_err(|error| D::Error::custom(refused(&name, &error)))
    }
}

/// Reads a list of messages; empty ones vanish and equal kinds are summed. Only from JSON.
impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Resources, D::Error> {
        let list = Vec::<Resource>::deserialize(from)?;
        Ok(list.into_iter().collect())
    }
}

/// Writes the list of messages. A shared volume is written once for each use.
impl Serialize for Resources {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter_uses())
    }
}

/// Writes the message in its present form.
impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            name: &'a str,
            #[serde(rename = "type")]
            kind: ValueType,
            #[serde(flatten)]
            value: &'a Value,
            #[serde(skip_serializing_if = "Option::is_none")]
            disk: Option<&'a DiskInfo>,
            #[serde(skip_serializing_if = "Option::is_none")]
            revocable: Option<Empty>,
            #[serde(skip_serializing_if = "Option::is_none")]
            shared: Option<Empty>,
            #[serde(skip_serializing_if = "Option::is_none")]
            allocation_info: Option<Allocation<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            provider_id: Option<Id<'a>>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            reservations: &'a [Reservation],
        }
        #[derive(Serialize)]
        struct Empty {}
        #[derive(Serialize)]
        struct Allocation<'a> {
            role: &'a str,
        }
        #[derive(Serialize)]
        struct Id<'a> {
            value: &'a str,
        }
        Written {
            name: &self.name,
            kind: self.value.kind(),
            value: &self.value,
            disk: self.disk.as_ref(),
            revocable: self.revocable.then_some(Empty {}),
            shared: self.shared.then_some(Empty {}),
            allocation_info: self.allocation_role.as_deref().map(|role| Allocation { role }),
            provider_id: self.provider_id.as_deref().map(|value| Id { value }),
            reservations: &self.reservations,
        }
        .serialize(to)
    }
}

/// Writes one field: `scalar`, `ranges` or `set`.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Number {
            value: f64,
        }
        let mut map = to.serialize_map(Some(1))?;
        match self {
            Value::Scalar(scalar) => map.serialize_entry("scalar", &Number { value: scalar.to_f64() })?,
            Value::Ranges(ranges) => {
                let list: Vec<_> = ranges.iter().collect();
                map.serialize_entry("ranges", &serde_json::json!({ "range": list }))?;
            }
            Value::Set(set) => {
                let list: Vec<_> = set.iter().collect();
                map.serialize_entry("set", &serde_json::json!({ "item": list }))?;
            }
        }
        map.end()
    }
}
