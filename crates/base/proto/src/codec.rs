// SPDX-License-Identifier: Apache-2.0
//! The two forms in which messages travel, and what is said when bytes are neither.

use std::fmt;

use berth_model::Class;
use prost::Name;

use crate::descriptor::Message;
use crate::json::{self, ConvertError, Defaults};
use crate::wire;

/// The form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/x-protobuf`
    Protobuf,
}

impl Encoding {
    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Protobuf => "application/x-protobuf",
        }
    }

    /// Reads a message.
    pub fn decode<M: prost::Message + Name + Default>(self, bytes: &[u8]) -> Result<M, DecodeError> {
        match self {
            Encoding::Json => decode_json(bytes),
            Encoding::Protobuf => decode_protobuf(bytes),
        }
    }

    /// Writes a message.
    pub fn encode<M: prost::Message + Name>(self, message: &M) -> Vec<u8> {
        match self {
            Encoding::Json => encode_json(message),
            Encoding::Protobuf => encode_protobuf(message),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.media_type())
    }
}

/// Why bytes are no message. The texts are those of Mesos, which clients see; they contain their cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf, not of this message, or without a required field.
    #[error("Failed to parse body into a protobuf object")]
    Protobuf,
    /// Not JSON.
    #[error("Failed to parse body into JSON: {0}")]
    Json(String),
    /// JSON, but not of this message.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

impl DecodeError {
    /// Wrong bytes are always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Reads a message from protobuf. All required fields are set. Depth is bounded by prost (100 levels).
pub fn decode_protobuf<M: prost::Message + Name + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    let message = M::decode(bytes).map_err(|_| DecodeError::Protobuf)?;
    if wire::missing(Message::of::<M>(), bytes).is_empty() { Ok(message) } else { Err(DecodeError::Protobuf) }
}

/// Reads a message from JSON. All required fields are set. Depth is bounded by serde_json (128 levels); the memory is
/// up to some 16 times that of the text, so the caller bounds its size.
pub fn decode_json<M: prost::Message + Name + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    let tree = json::parse(bytes).map_err(DecodeError::Json)?;
    let table = Message::of::<M>();
    let bytes = json::read(table, &tree)?;
    // JSON may be deeper than prost decodes; nothing that means anything is.
    let message = M::decode(bytes.as_slice()).map_err(|_| ConvertError::TooDeep)?;
    let missing = wire::missing(table, &bytes);
    if missing.is_empty() { Ok(message) } else { Err(ConvertError::Missing(missing.join(", ")).into()) }
}

/// Writes a message as protobuf.
pub fn encode_protobuf<M: prost::Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

/// Writes a message as JSON, fields in the order of the .proto file, as Mesos does: those that are set, and those
/// that are unset and have a default.
pub fn encode_json<M: prost::Message + Name>(message: &M) -> Vec<u8> {
    json::write(Message::of::<M>(), &message.encode_to_vec(), Defaults::Written)
}
