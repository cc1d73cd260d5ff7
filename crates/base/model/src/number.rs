// SPDX-License-Identifier: Apache-2.0
//! Amounts that may be infinite, in JSON: a number, or the text `Infinity` as protobuf's JSON mapping has it.

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// One amount: not NaN and not minus infinity.
struct Amount(f64);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 == f64::INFINITY { to.serialize_str("Infinity") } else { to.serialize_f64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Amount, D::Error> {
        from.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl<'de> Visitor<'de> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"Infinity\" or {\"value\": number}")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Amount, E> {
        if value.is_nan() || value == f64::NEG_INFINITY {
            return Err(E::custom(format!("{value} is not an amount; give a number or \"Infinity\"")));
        }
        Ok(Amount(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Amount, E> {
        Ok(Amount(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Amount, E> {
        Ok(Amount(value as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Amount, E> {
        match text {
            "Infinity" => Ok(Amount(f64::INFINITY)),
            _ => Err(E::custom(format!("'{text}' is not an amount; give a number or \"Infinity\""))),
        }
    }

    /// Mesos's `Value.Scalar`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Amount, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "value" {
                // A message inside a message would let input choose the depth, so only plain amounts here.
                found = Some(map.next_value::<Plain>()?.0);
            } else {
                map.next_value::<serde::de::IgnoredAny>()?;
            }
        }
        found.ok_or_else(|| A::Error::missing_field("value"))
    }
}

/// An amount that is not wrapped in a message.
struct Plain(Amount);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Plain, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(f64),
            Text(String),
        }
        let amount = match Form::deserialize(from)? {
            Form::Number(number) => AmountVisitor.visit_f64(number),
            Form::Text(text) => AmountVisitor.visit_str(&text),
        };
        amount.map(Plain)
    }
}

/// Limits by resource name, for `#[serde(with)]`.
pub(crate) mod limits {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(limits: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(limits.len()))?;
        for (name, limit) in limits {
            map.serialize_entry(name, &Amount(*limit))?;
        }
        map.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let limits = BTreeMap::<String, Amount>::deserialize(from)?;
        Ok(limits.into_iter().map(|(name, amount)| (name, amount.0)).collect())
    }
}
