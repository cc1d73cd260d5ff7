// SPDX-License-Identifier: Apache-2.0
//! Digests of content: an algorithm and what it computed.
//!
//! Only two algorithms exist here. One that nobody can check is worth nothing, so an unknown name is an error and
//! never carried along. A digest is also a file name in a store: its text has nothing but letters, digits and a
//! colon, and one content has one text (lower case, full length).

use crate::Class;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// How a digest is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, the one that everybody uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Its name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The bytes that it computes.
    pub fn size(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No colon between algorithm and value.
    #[error("'{0}' is not a digest; write sha256: and 64 hexadecimal digits")]
    NoAlgorithm(String),
    /// An algorithm that can not be checked here.
    #[error(
        "the digest '{digest}' is of the unknown algorithm '{algorithm}'; only sha256 and sha512 can be verified"
    )]
    UnknownAlgorithm {
        /// All that was given.
        digest: String,
        /// What stands before the colon.
        algorithm: String,
    },
    /// Too many or too few digits.
    #[error("the digest '{digest}' has {found} characters after the colon; {algorithm} has {wanted}", algorithm = algorithm.name(), wanted = algorithm.size() * 2)]
    Length {
        /// All that was given.
        digest: String,
        /// Its algorithm.
        algorithm: Algorithm,
        /// How many characters there are.
        found: usize,
    },
    /// A character that is no lower-case hexadecimal digit.
    #[error(
        "the digest '{digest}' has '{found}' in it; only the digits 0-9 and a-f (lower case) are allowed"
    )]
    Character {
        /// All that was given.
        digest: String,
        /// The first wrong character.
        found: char,
    },
}

impl DigestError {
    /// A wrong digest is always a wrong request or a wrong answer.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// The digest of some content, such as `sha256:e3b0c442…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// Of [`Algorithm::Sha256`].
    Sha256([u8; 32]),
    /// Of [`Algorithm::Sha512`].
    Sha512([u8; 64]),
}

impl Digest {
    /// The algorithm that computed it.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Digest::Sha256(_) => Algorithm::Sha256,
            Digest::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The bytes that were computed.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(bytes) => bytes,
            Digest::Sha512(bytes) => bytes,
        }
    }

    /// The value as hexadecimal digits, without the algorithm: a file name.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(self.bytes().len() * 2);
        for byte in self.bytes() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        text
    }

    /// The first twelve digits, for tables that people read.
    pub fn short(&self) -> String {
        let mut text = self.hex();
        text.truncate(12);
        text
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let shown = || crate::image::reference::shortened(text);
        let (algorithm, value) = text.split_once(':').ok_or_else(|| DigestError::NoAlgorithm(shown()))?;
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            "" => return Err(DigestError::NoAlgorithm(shown())),
            other => {
                let algorithm = crate::image::reference::shortened(other);
                return Err(DigestError::UnknownAlgorithm { digest: shown(), algorithm });
            }
        };
        if let Some(found) = value.chars().find(|c| !matches!(c, '0'..='9' | 'a'..='f')) {
            return Err(DigestError::Character { digest: shown(), found });
        }
        if value.len() != algorithm.size() * 2 {
            return Err(DigestError::Length { digest: shown(), algorithm, found: value.len() });
        }
        let mut bytes = [0u8; 64];
        for (byte, pair) in bytes.iter_mut().zip(value.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
        }
        Ok(match algorithm {
            Algorithm::Sha512 => Digest::Sha512(bytes),
            Algorithm::Sha256 => {
                let mut half = [0u8; 32];
                half.copy_from_slice(&bytes[..32]);
                Digest::Sha256(half)
            }
        })
    }
}

/// The value of one digit; the caller has checked that it is one.
fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.wrapping_sub(b'a').wrapping_add(10),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}
