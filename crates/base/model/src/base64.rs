// SPDX-License-Identifier: Apache-2.0
//! Bytes in JSON: standard base64 with padding, as protobuf's JSON mapping has it. Used with `#[serde(with)]`.

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&STANDARD.encode(bytes))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    STANDARD.decode(text).map_err(|error| D::Error::custom(format!("decode base64: {error}")))
}
