// SPDX-License-Identifier: Apache-2.0
//! What Mesos's messages are made of: one definition of an enum gives the Rust enum, its numbers on the wire and its
//! names in JSON; one definition of a message gives the struct, its defaults and its JSON.
//!
//! Reading ignores fields that it does not know and takes the default for those that are absent. Writing leaves out
//! what is absent or empty, and always writes numbers, booleans and enums that are not optional.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whether a field may be left out of JSON, because reading without it gives the same value again.
pub(crate) trait Unset {
    fn is_unset(&self) -> bool {
        false
    }
}

impl<T> Unset for Option<T> {
    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

impl<T> Unset for Vec<T> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Unset for BTreeMap<K, V> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl Unset for String {}
impl Unset for PathBuf {
    fn is_unset(&self) -> bool {
        self.as_path() == Path::new("")
    }
}
impl Unset for bool {}
impl Unset for i64 {}
impl Unset for u32 {}
impl Unset for u64 {}
impl Unset for f64 {}
impl Unset for crate::resources::Resources {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// Defines a message: a struct whose fields are all public. `name: Type = value` gives a default of its own.
macro_rules! message {
    ($(#[$meta:meta])* pub struct $Name:ident {
        $($(#[$field_meta:meta])* $field:ident: $Type:ty $(= $default:expr)?,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $Name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "crate::wire::Unset::is_unset")]
                pub $field: $Type,
            )*
        }

        #[automatically_derived]
        impl Default for $Name {
            fn default() -> $Name {
                $Name { $($field: $crate::wire::message!(@default $($default)?),)* }
            }
        }

        impl $crate::wire::Unset for $Name {
            fn is_unset(&self) -> bool {
                *self == Self::default()
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}

pub(crate) use message;

/// Ids that are plain text in Rust and `{"value": "..."}` in Mesos's JSON; plain text is read as well.
pub(crate) mod id_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Written<'a> {
        value: &'a str,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Read {
        Message { value: String },
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(value: &str, to: S) -> Result<S::Ok, S::Error> {
        Written { value }.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        Ok(match Read::deserialize(from)? {
            Read::Message { value } | Read::Text(value) => value,
        })
    }
}

/// A name that an enum does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not a value of {kind}; use one of {known}")]
pub struct UnknownName {
    /// The enum, for example `TaskState`.
    pub kind: &'static str,
    /// What was given.
    pub given: String,
    /// The names that exist, joined with commas.
    pub known: String,
}

impl UnknownName {
    /// An unknown name is always a wrong request.
    pub fn class(&self) -> crate::Class {
        crate::Class::Invalid
    }
}

/// Defines an enum of a message: `Variant = number => "JSON name"`. Its number is its Rust discriminant.
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $Name:ident {
        $($(#[$variant_meta:meta])* $Variant:ident = $number:expr => $text:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[repr(i32)]
        pub enum $Name {
            $(
                #[doc = concat!("`", $text, "`")]
                #[doc = ""]
                $(#[$variant_meta])*
                #[serde(rename = $text)]
                $Variant = $number,
            )+
        }

        impl $Name {
            /// Every value, in the order of their definition.
            pub const ALL: &[$Name] = &[$($Name::$Variant),+];

            /// The number on the wire.
            pub const fn number(self) -> i32 {
                self as i32
            }

            /// The value that has this number on the wire.
            pub fn from_number(number: i32) -> Option<$Name> {
                Self::ALL.iter().copied().find(|value| value.number() == number)
            }

            /// The name in JSON and in flags.
            pub const fn name(self) -> &'static str {
                match self {
                    $($Name::$Variant => $text,)+
                }
            }
        }

        impl $crate::wire::Unset for $Name {}

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $Name {
            type Err = $crate::UnknownName;

            fn from_str(text: &str) -> Result<$Name, $crate::UnknownName> {
                Self::ALL.iter().copied().find(|value| value.name() == text).ok_or_else(|| {
                    $crate::UnknownName {
                        kind: stringify!($Name),
                        given: text.to_owned(),
                        known: Self::ALL.iter().map(|value| value.name()).collect::<Vec<_>>().join(", "),
                    }
                })
            }
        }
    };
}

pub(crate) use wire_enum;
