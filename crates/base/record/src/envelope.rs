// SPDX-License-Identifier: Apache-2.0
//! The envelope of every record: one JSON object, one line, that names its format and version before its own
//! fields: `{"format":"berth/<kind>","version":2, ...}`.
//!
//! A build reads the version it writes and the one before it; [`Versioned::migrate`] lifts the older one. What
//! is newer is refused, so that an agent put back to an older release never acts on half of what it reads.

use std::os::fd::BorrowedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::atomic::{Sync, read_bytes, write_atomic};
use crate::error::path_of;
use crate::{Error, Result};

/// A kind of record. The type must serialize to a JSON object without fields named `format` or `version`.
pub trait Versioned: Serialize + DeserializeOwned {
    /// What the record is about, one word: the format is `berth/<kind>`.
    const KIND: &'static str;
    /// The version that is written; the first is 1.
    const VERSION: u32;

    /// Turns the fields of version `VERSION - 1` (without the envelope's) into those of [`Self::VERSION`].
    ///
    /// # Errors
    /// What in those fields can not be carried over, for people.
    fn migrate(fields: Map<String, Value>) -> std::result::Result<Map<String, Value>, String> {
        let _ = fields;
        Err(format!("there is no step from version {} to {}", Self::VERSION - 1, Self::VERSION))
    }
}

/// Writes the record under `name` in `dir`, whole or not at all.
///
/// # Errors
/// [`Error::Encode`], and what [`write_atomic`] says.
pub fn write<T: Versioned>(dir: BorrowedFd<'_>, name: &str, record: &T, sync: Sync) -> Result<()> {
    write_atomic(dir, name, &encode(record)?, sync)
}

/// Reads the record under `name` in `dir`, of at most `cap` bytes.
///
/// # Errors
/// [`Error::Missing`], [`Error::Torn`], [`Error::Newer`], [`Error::Older`], [`Error::Foreign`],
/// [`Error::Malformed`], [`Error::TooLarge`], [`Error::Io`].
pub fn read<T: Versioned>(dir: BorrowedFd<'_>, name: &str, cap: usize) -> Result<T> {
    parse(&read_bytes(dir, name, cap)?).map_err(|problem| problem.at::<T>(|| path_of(dir, name)))
}

/// The bytes of a record, ending with a newline.
///
/// # Errors
/// [`Error::Encode`] when the type does not become a JSON object.
pub fn encode<T: Versioned>(record: &T) -> Result<Vec<u8>> {
    let failed = |why: String| Error::Encode { format: format_of::<T>(), why };
    let mut bytes = format!("{{\"format\":\"berth/{}\",\"version\":{}", T::KIND, T::VERSION).into_bytes();
    let seam = bytes.len();
    serde_json::to_writer(&mut bytes, record).map_err(|error| failed(error.to_string()))?;
    // The fields follow in the same object: their opening brace becomes the comma.
    match &bytes[seam..] {
        b"{}" => _ = bytes.remove(seam),
        [b'{', ..] => bytes[seam] = b',',
        _ => return Err(failed("it is not an object".to_owned())),
    }
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a record from bytes that came from `origin`, which is used for messages only.
///
/// # Errors
/// As [`read()`], without those about files.
pub fn decode<T: Versioned>(origin: &str, bytes: &[u8]) -> Result<T> {
    parse(bytes).map_err(|problem| problem.at::<T>(|| origin.into()))
}

fn format_of<T: Versioned>() -> String {
    format!("berth/{}", T::KIND)
}

/// An [`Error`] that does not know its path yet.
enum Problem {
    Torn(String),
    Foreign(String),
    Newer(u32),
    Older(u32),
    Malformed(String),
}

impl Problem {
    fn at<T: Versioned>(self, path: impl FnOnce() -> std::path::PathBuf) -> Error {
        let (path, format, known) = (path(), format_of::<T>(), T::VERSION);
        match self {
            Problem::Torn(why) => Error::Torn { path, why },
            Problem::Foreign(why) => Error::Foreign { path, format, why },
            Problem::Newer(found) => Error::Newer { path, format, found, known },
            Problem::Older(found) => Error::Older { path, format, found, known },
            Problem::Malformed(why) => Error::Malformed { path, format, why },
        }
    }
}

fn parse<T: Versioned>(bytes: &[u8]) -> std::result::Result<T, Problem> {
    let mut fields = object(bytes)?;
    match fields.remove("format") {
        Some(Value::String(format)) if format.strip_prefix("berth/") == Some(T::KIND) => {}
        Some(Value::String(other)) => return Err(Problem::Foreign(format!("its format is {other:?}"))),
        _ => return Err(Problem::Foreign("it names no format".to_owned())),
    }
    let version = match fields.remove("version").as_ref().and_then(Value::as_u64) {
        Some(0) | None => return Err(Problem::Foreign("it names no version".to_owned())),
        Some(version) => u32::try_from(version).unwrap_or(u32::MAX),
    };
    let fields = match version {
        current if current == T::VERSION => fields,
        newer if newer > T::VERSION => return Err(Problem::Newer(newer)),
        before if before + 1 == T::VERSION => T::migrate(fields).map_err(Problem::Malformed)?,
        older => return Err(Problem::Older(older)),
    };
    serde_json::from_value(Value::Object(fields)).map_err(|error| Problem::Malformed(error.to_string()))
}

/// The object that `bytes` hold. What begins like a record of ours, and what is empty or all zeros (a file whose
/// size reached the disk before its content), is torn when it does not parse; anything else is foreign.
fn object(bytes: &[u8]) -> std::result::Result<Map<String, Value>, Problem> {
    match bytes.first() {
        None => Err(Problem::Torn("it is empty".to_owned())),
        Some(b'{') => serde_json::from_slice(bytes).map_err(|error| Problem::Torn(error.to_string())),
        Some(0) if bytes.iter().all(|&byte| byte == 0) => Err(Problem::Torn("it is all zeros".to_owned())),
        Some(_) => Err(Problem::Foreign("it is not a JSON object".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use berth_model::Class;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Ship {
        name: String,
        masts: u64,
    }

    impl Versioned for Ship {
        const KIND: &'static str = "ship";
        const VERSION: u32 = 3;

        fn migrate(mut fields: Map<String, Value>) -> std::result::Result<Map<String, Value>, String> {
            let sails = fields.remove("sails").and_then(|sails| sails.as_u64()).ok_or("sails are missing")?;
            fields.insert("masts".to_owned(), Value::from(sails / 2));
            Ok(fields)
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Empty {}

    impl Versioned for Empty {
        const KIND: &'static str = "empty";
        const VERSION: u32 = 1;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Number(u32);

    impl Versioned for Number {
        const KIND: &'static str = "number";
        const VERSION: u32 = 1;
    }

    fn ship() -> Ship {
        Ship { name: "Beagle \u{2693} \"\\\n".to_owned(), masts: u64::MAX }
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let scratch = Scratch::new();
        write(scratch.fd(), "ship", &ship(), Sync::No).unwrap();
        assert_eq!(read::<Ship>(scratch.fd(), "ship", 4096).unwrap(), ship());
        write(scratch.fd(), "empty", &Empty {}, Sync::Yes).unwrap();
        assert_eq!(read::<Empty>(scratch.fd(), "empty", 4096).unwrap(), Empty {});
    }

    #[test]
    fn the_envelope_comes_first_and_is_one_line() {
        let record = Ship { name: "a".to_owned(), masts: 2 };
        let text = String::from_utf8(encode(&record).unwrap()).unwrap();
        assert_eq!(text, "{\"format\":\"berth/ship\",\"version\":3,\"name\":\"a\",\"masts\":2}\n");
        assert_eq!(encode(&Empty {}).unwrap(), b"{\"format\":\"berth/empty\",\"version\":1}\n");
    }

    #[test]
    fn what_is_no_object_is_not_written() {
        let error = encode(&Number(1)).unwrap_err();
        assert!(matches!(&error, Error::Encode { .. }), "{error}");
    }

    #[test]
    fn a_record_cut_at_any_byte_is_torn() {
        let scratch = Scratch::new();
        let bytes = encode(&ship()).unwrap();
        // The last byte is the newline, which may be missing.
        for length in 0..bytes.len() - 1 {
            std::fs::write(scratch.path().join("ship"), &bytes[..length]).unwrap();
            let error = read::<Ship>(scratch.fd(), "ship", 4096).unwrap_err();
            assert!(matches!(error, Error::Torn { .. }), "{length}: {error}");
            let mut padded = bytes[..length].to_vec();
            padded.resize(bytes.len(), 0);
            let error = decode::<Ship>("ship", &padded).unwrap_err();
            assert!(matches!(error, Error::Torn { .. }), "{length} and zeros: {error}");
        }
        assert_eq!(decode::<Ship>("ship", &bytes[..bytes.len() - 1]).unwrap(), ship());
    }

    #[test]
    fn no_flipped_byte_makes_reading_panic() {
        let bytes = encode(&ship()).unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[position] ^= 1 << bit;
                if let Ok(read) = decode::<Ship>("ship", &flipped) {
                    assert!(read != ship() || flipped[position].is_ascii_whitespace(), "{position} {bit}");
                }
            }
        }
    }

    #[test]
    fn the_version_before_is_migrated_and_others_are_refused_by_name() {
        let at =
            |version: u64| format!(r#"{{"format":"berth/ship","version":{version},"name":"a","sails":6}}"#);
        let migrated = decode::<Ship>("x", at(2).as_bytes()).unwrap();
        assert_eq!(migrated, Ship { name: "a".to_owned(), masts: 3 });

        let newer = decode::<Ship>("x", at(4).as_bytes()).unwrap_err();
        assert!(matches!(newer, Error::Newer { found: 4, known: 3, .. }));
        assert_eq!(newer.class(), Class::Unsupported);
        assert!(newer.to_string().contains("version 4 of berth/ship"), "{newer}");
        assert!(matches!(decode::<Ship>("x", at(u64::MAX).as_bytes()), Err(Error::Newer { .. })));

        let older = decode::<Ship>("x", at(1).as_bytes()).unwrap_err();
        assert!(matches!(older, Error::Older { found: 1, .. }), "{older}");

        let lame = br#"{"format":"berth/ship","version":2,"name":"a"}"#;
        let error = decode::<Ship>("x", lame).unwrap_err();
        assert!(error.to_string().contains("sails are missing"), "{error}");
    }

    #[test]
    fn what_is_not_ours_is_foreign() {
        let foreign: [&[u8]; 7] = [
            b"\x0a\x05mesos",
            b"1234\n",
            b"[1]",
            b"{}",
            br#"{"format":"berth/boat","version":3}"#,
            br#"{"format":"ship","version":3}"#,
            br#"{"format":"berth/ship","version":"3"}"#,
        ];
        for bytes in foreign {
            let error = decode::<Ship>("x", bytes).unwrap_err();
            assert!(matches!(error, Error::Foreign { .. }), "{error}");
            assert_eq!(error.class(), Class::Conflict);
        }
    }

    #[test]
    fn a_field_that_does_not_fit_is_malformed_not_torn() {
        let bytes = br#"{"format":"berth/ship","version":3,"name":"a","masts":-1}"#;
        assert!(matches!(decode::<Ship>("x", bytes), Err(Error::Malformed { .. })));
    }
}
