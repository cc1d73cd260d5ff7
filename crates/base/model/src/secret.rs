// SPDX-License-Identifier: Apache-2.0
//! Values that must never be seen in a log, a status or an error.

use crate::wire::wire_enum;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Bytes that are never printed: `Debug` and `Display` write `***`, and there is no `Serialize`. Read from base64, as
/// Mesos's JSON has bytes.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
pub struct SecretBytes(#[serde(with = "crate::base64")] Vec<u8>);

impl SecretBytes {
    /// Wraps the bytes of a secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> SecretBytes {
        SecretBytes(bytes.into())
    }

    /// The bytes themselves. The name is long so that uses of it stand out in review.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

wire_enum! {
    /// How a [`Secret`] is given.
    pub enum SecretType {
        /// Not known.
        Unknown = 0 => "UNKNOWN",
        /// By a name that a resolver looks up.
        Reference = 1 => "REFERENCE",
        /// By its value.
        Value = 2 => "VALUE",
    }
}

/// Where a resolver finds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SecretReference {
    /// The name of the secret in its store.
    pub name: String,
    /// The key of one value within it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The value of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct SecretValue {
    /// The value; base64 in JSON.
    pub data: SecretBytes,
}

/// A secret of an environment variable, a volume or an image: a reference or a value.
///
/// Neither printing nor serializing it shows the value: JSON of anything that contains a secret lacks the field
/// `value` and reads back without it. Whoever must send or store the value says so with [`Secret::exposing`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Secret {
    /// Which of the two fields counts; absent is an error of whoever made the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<SecretType>,
    /// Set for [`SecretType::Reference`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<SecretReference>,
    /// Set for [`SecretType::Value`].
    #[serde(skip_serializing)]
    pub value: Option<SecretValue>,
}

impl Secret {
    /// A secret that carries its value.
    pub fn of_value(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret {
            r#type: Some(SecretType::Value),
            reference: None,
            value: Some(SecretValue { data: SecretBytes::new(bytes) }),
        }
    }

    /// The value, when the secret carries one.
    pub fn exposed(&self) -> Option<&[u8]> {
        self.value.as_ref().map(|value| value.data.expose_secret())
    }

    /// A view that serializes the value too, in Mesos's JSON. What it is written to must be readable by root only.
    pub fn exposing(&self) -> ExposedSecret<'_> {
        ExposedSecret(self)
    }
}

/// A secret that serializes with its value; from [`Secret::exposing`]. It does not print.
pub struct ExposedSecret<'a>(&'a Secret);

impl Serialize for ExposedSecret<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            #[serde(flatten)]
            secret: &'a Secret,
            #[serde(skip_serializing_if = "Option::is_none")]
            value: Option<Value<'a>>,
        }

        #[derive(Serialize)]
        struct Value<'a> {
            #[serde(serialize_with = "crate::base64::serialize")]
            data: &'a [u8],
        }

        let value = self.0.exposed().map(|data| Value { data });
        Written { secret: self.0, value }.serialize(to)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Some(reference) => write!(f, "secret {}", reference.name),
            None => f.write_str("***"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_never_shows_the_value() {
        let secret = Secret::of_value("hunter2");
        for text in [format!("{secret}"), format!("{secret:?}"), format!("{secret:#?}")] {
            assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
            assert!(!text.contains("104"), "bytes as numbers: {text}");
        }
    }

    #[test]
    fn only_an_exposing_view_serializes_the_value() {
        let secret = Secret::of_value("hunter2");
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#"{"type":"VALUE"}"#);
        let text = serde_json::to_string(&secret.exposing()).unwrap();
        assert_eq!(text, r#"{"type":"VALUE","value":{"data":"aHVudGVyMg=="}}"#);
        assert_eq!(serde_json::from_str::<Secret>(&text).unwrap(), secret);
    }
}
