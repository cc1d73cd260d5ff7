// SPDX-License-Identifier: Apache-2.0
//! The wire format as the JSON mapping sees it: the fields of one message, not decoded further, and which required
//! ones are missing. prost decodes a missing required field as its zero, so nothing else would notice.

use std::borrow::Cow;

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::descriptor::{Field, Kind, Message, Rule};

/// What stands for a field on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields of one message in the order in which they came. Bytes are what prost has decoded or encoded, so they
/// are well formed; if they were not, what comes after the fault would be left out.
pub(crate) struct Fields<'a>(Vec<(u32, Raw<'a>)>);

impl<'a> Fields<'a> {
    pub(crate) fn scan(mut rest: &'a [u8]) -> Fields<'a> {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let Some(field) = next(&mut rest) else { break };
            fields.extend(field);
        }
        Fields(fields)
    }

    /// All that came for one field.
    pub(crate) fn of(&self, field: &Field) -> impl Iterator<Item = Raw<'a>> + '_ {
        let wanted = field.number;
        self.0.iter().filter(move |(number, _)| *number == wanted).map(|(_, raw)| *raw)
    }

    /// The message in a field that holds one. Several are one in pieces: merging is the same as joining the bytes.
    pub(crate) fn message(&self, field: &Field) -> Option<Cow<'a, [u8]>> {
        let mut whole: Option<Cow<'a, [u8]>> = None;
        for raw in self.of(field) {
            let Raw::Bytes(bytes) = raw else { continue };
            match &mut whole {
                None => whole = Some(Cow::Borrowed(bytes)),
                Some(before) => before.to_mut().extend_from_slice(bytes),
            }
        }
        whole
    }
}

/// The next field; `Some(None)` for a group, which no message of ours has; none when the bytes are not well formed.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Option<(u32, Raw<'a>)>> {
    let (number, wire_type) = decode_key(rest).ok()?;
    let raw = match wire_type {
        WireType::Varint => Raw::Varint(decode_varint(rest).ok()?),
        WireType::SixtyFourBit => Raw::Fixed64(rest.try_get_u64_le().ok()?),
        WireType::ThirtyTwoBit => Raw::Fixed32(rest.try_get_u32_le().ok()?),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Raw::Bytes(bytes)
        }
        WireType::StartGroup | WireType::EndGroup => {
            skip_field(wire_type, number, rest, DecodeContext::default()).ok()?;
            return Some(None);
        }
    };
    Some(Some((number, raw)))
}

/// The paths of required fields that are missing, first those of the message itself, then those of its parts. A value
/// that an enum does not have counts as missing, as it does in Mesos.
pub(crate) fn missing(message: &Message, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    find_missing(message, bytes, "", &mut found);
    found
}

/// `bytes` have been decoded by prost, which bounds the depth of messages in messages.
fn find_missing(message: &Message, bytes: &[u8], path: &str, found: &mut Vec<String>) {
    let fields = Fields::scan(bytes);
    for field in message.fields.iter().filter(|field| field.rule == Rule::Required) {
        // Of several the last counts, for prost too.
        if !fields.of(field).last().is_some_and(|raw| is_known(field, raw)) {
            found.push(format!("{path}{}", field.name));
        }
    }
    for field in message.fields {
        let Kind::Message(part) = field.kind else { continue };
        if field.rule == Rule::Repeated {
            for (at, raw) in fields.of(field).enumerate() {
                let Raw::Bytes(inner) = raw else { continue };
                find_missing(part, inner, &format!("{path}{}[{at}].", field.name), found);
            }
        } else if let Some(inner) = fields.message(field) {
            find_missing(part, &inner, &format!("{path}{}.", field.name), found);
        }
    }
}

fn is_known(field: &Field, raw: Raw<'_>) -> bool {
    match (field.kind, raw) {
        // Numbers of enums travel as 64 bits, sign extended.
        (Kind::Enum(item), Raw::Varint(number)) => item.value(number as i32).is_some(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALL: &str = "mesos.v1.agent.Call";

    #[test]
    fn a_singular_message_in_pieces_is_one() {
        // launch_container { command {} } and launch_container { container_id { value: "a" } }
        let pieces = [0x6a, 2, 0x12, 0, 0x6a, 5, 0x0a, 3, 0x0a, 1, b'a'];
        assert_eq!(missing(Message::find(CALL).unwrap(), &pieces), Vec::<String>::new());
        assert_eq!(missing(Message::find(CALL).unwrap(), &pieces[..4]), ["launch_container.container_id"]);
    }

    #[test]
    fn a_required_enum_with_an_unknown_number_is_missing() {
        let unknown = [0x08, 55];
        assert_eq!(missing(Message::find("mesos.v1.Image").unwrap(), &unknown), ["type"]);
        assert_eq!(missing(Message::find("mesos.v1.Image").unwrap(), &[0x08, 2]), Vec::<String>::new());
        let twice = [0x08, 2, 0x08, 55];
        assert_eq!(missing(Message::find("mesos.v1.Image").unwrap(), &twice), ["type"], "the last counts");
    }

    proptest! {
        #[test]
        fn scanning_arbitrary_bytes_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Fields::scan(&bytes).0.len() <= bytes.len());
        }
    }
}
