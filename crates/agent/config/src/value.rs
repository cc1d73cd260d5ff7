// SPDX-License-Identifier: Apache-2.0
//! A flag's value, typed: so that `60secs` and `1mins` are the same, and print the same.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use berth_factory::{FlagKind, parse_bool, parse_indices, parse_integer};
use berth_model::{Bytes, DurationText, parse_duration};

/// A value of one of the types that flags have.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of [`FlagKind::Bool`].
    Bool(bool),
    /// Of [`FlagKind::Text`].
    Text(String),
    /// Of [`FlagKind::Path`], as it was written.
    Path(PathBuf),
    /// Of [`FlagKind::Duration`].
    Duration(Duration),
    /// Of [`FlagKind::Bytes`].
    Bytes(Bytes),
    /// Of [`FlagKind::Integer`].
    Integer(u64),
    /// Of [`FlagKind::Number`].
    Number(f64),
    /// Of [`FlagKind::Indices`].
    Indices(Vec<u64>),
    /// Of [`FlagKind::Json`].
    Json(serde_json::Value),
}

impl Value {
    /// Reads a text.
    ///
    /// # Errors
    /// What was expected, in the words that follow a flag's name.
    pub fn parse(kind: FlagKind, text: &str) -> Result<Value, String> {
        berth_factory::check(kind, text)?;
        // The check above has the words; these failures can not be reached any more, and say so if they are.
        let checked = |what: &str| format!("'{text}' was checked and yet is no {what}");
        Ok(match kind {
            FlagKind::Bool => Value::Bool(parse_bool(text).ok_or_else(|| checked("boolean"))?),
            FlagKind::Text => Value::Text(text.to_owned()),
            FlagKind::Path if text.is_empty() => return Err("Expecting a path, not an empty text".to_owned()),
            FlagKind::Path if text.contains('\0') => {
                return Err("Expecting a path without NUL bytes".to_owned());
            }
            FlagKind::Path => Value::Path(PathBuf::from(text)),
            FlagKind::Duration => Value::Duration(parse_duration(text).map_err(|error| error.to_string())?),
            FlagKind::Bytes => Value::Bytes(text.parse().map_err(|_| checked("size"))?),
            FlagKind::Integer => Value::Integer(parse_integer(text)?),
            FlagKind::Number => Value::Number(text.parse().map_err(|_| checked("number"))?),
            FlagKind::Indices => Value::Indices(parse_indices(text)?),
            FlagKind::Json => Value::Json(serde_json::from_str(text).map_err(|_| checked("JSON"))?),
        })
    }
}

impl fmt::Display for Value {
    /// The text that reads back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Text(value) => f.write_str(value),
            Value::Path(value) => write!(f, "{}", value.display()),
            Value::Duration(value) => write!(f, "{}", DurationText(*value)),
            Value::Bytes(value) => write!(f, "{value}"),
            Value::Integer(value) => write!(f, "{value}"),
            Value::Number(value) => write!(f, "{value}"),
            Value::Indices(value) => {
                let texts: Vec<String> = value.iter().map(u64::to_string).collect();
                f.write_str(&texts.join(","))
            }
            Value::Json(value) => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [FlagKind; 9] = [
        FlagKind::Bool,
        FlagKind::Text,
        FlagKind::Path,
        FlagKind::Duration,
        FlagKind::Bytes,
        FlagKind::Integer,
        FlagKind::Number,
        FlagKind::Indices,
        FlagKind::Json,
    ];

    #[test]
    fn amounts_are_equal_whatever_their_unit() {
        let parse = |text| Value::parse(FlagKind::Duration, text).unwrap();
        assert_eq!(parse("60secs"), parse("1mins"));
        assert_eq!(parse("60secs").to_string(), "1mins");
        assert_eq!(Value::parse(FlagKind::Bytes, "1024MB").unwrap().to_string(), "1GB");
        assert_eq!(Value::parse(FlagKind::Json, " {\"a\" : 1}").unwrap().to_string(), "{\"a\":1}");
    }

    #[test]
    fn an_empty_path_is_none() {
        assert!(Value::parse(FlagKind::Path, "").is_err());
        assert!(Value::parse(FlagKind::Path, "/a\0b").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_was_read_reads_back(text in "\\PC{0,20}|[0-9]{1,12}[a-zA-Z,.]{0,5}") {
            for kind in KINDS {
                if let Ok(value) = Value::parse(kind, &text) {
                    let again = Value::parse(kind, &value.to_string());
                    // Durations print 15 digits; everything else is exact.
                    prop_assert!(again == Ok(value) || kind == FlagKind::Duration, "{kind:?} {text:?}");
                }
            }
        }
    }
}
