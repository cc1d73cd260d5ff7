// SPDX-License-Identifier: Apache-2.0
//! Which of several agents on one host: an id that is drawn once for each runtime directory, and stands in the
//! name of everything that is visible outside of it.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::atomic::{Sync, create_atomic};
use crate::envelope::{Versioned, encode, read};
use crate::{Error, Result};

/// The file in a runtime directory that holds the id.
pub const INSTANCE_FILE: &str = "instance";

/// Eight hexadecimal digits, in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(u32);

#[derive(Serialize, Deserialize)]
struct Record {
    id: InstanceId,
}

impl Versioned for Record {
    const KIND: &'static str = "instance";
    const VERSION: u32 = 1;
}

impl InstanceId {
    /// The id of this runtime directory; drawn and written now if it has none. Whoever comes at the same time
    /// gets the same one.
    ///
    /// # Errors
    /// What [`crate::read()`] and [`crate::create_atomic`] say. A torn file is not replaced: containers may run
    /// under the id that stood there.
    pub fn open(runtime_dir: BorrowedFd<'_>) -> Result<InstanceId> {
        loop {
            match InstanceId::existing(runtime_dir) {
                Err(Error::Missing { .. }) => {}
                other => return other,
            }
            let id = InstanceId::draw(runtime_dir)?;
            match create_atomic(runtime_dir, INSTANCE_FILE, &encode(&Record { id })?, Sync::No) {
                Ok(()) => return Ok(id),
                Err(Error::Exists { .. }) => {}
                Err(other) => return Err(other),
            }
        }
    }

    /// The id of this runtime directory, for those who only look.
    ///
    /// # Errors
    /// [`Error::Missing`] when none was drawn yet, and what [`crate::read()`] says.
    pub fn existing(runtime_dir: BorrowedFd<'_>) -> Result<InstanceId> {
        Ok(read::<Record>(runtime_dir, INSTANCE_FILE, 4096)?.id)
    }

    fn draw(dir: BorrowedFd<'_>) -> Result<InstanceId> {
        let mut bytes = [0; 4];
        // getrandom(2): up to 256 bytes come whole once the pool is ready, and it waits for that.
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| Error::io("draw a random number for", dir, INSTANCE_FILE, errno))?;
        Ok(InstanceId(u32::from_ne_bytes(bytes)))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({self})")
    }
}

impl FromStr for InstanceId {
    type Err = BadInstanceId;

    fn from_str(text: &str) -> std::result::Result<InstanceId, BadInstanceId> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let good = text.len() == 8 && text.bytes().all(digit);
        match u32::from_str_radix(text, 16) {
            Ok(id) if good => Ok(InstanceId(id)),
            _ => Err(BadInstanceId(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = BadInstanceId;

    fn try_from(text: String) -> std::result::Result<InstanceId, BadInstanceId> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.to_string()
    }
}

/// The text is no instance id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an instance id: eight hexadecimal digits in lower case")]
pub struct BadInstanceId(String);

impl BadInstanceId {
    /// Always invalid.
    pub fn class(&self) -> berth_model::Class {
        berth_model::Class::Invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn all_who_come_at_once_get_one_id_and_keep_it() {
        let scratch = Scratch::new();
        assert!(matches!(InstanceId::existing(scratch.fd()), Err(Error::Missing { .. })));
        let ids: Vec<InstanceId> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| InstanceId::open(scratch.fd()).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(InstanceId::existing(scratch.fd()).unwrap(), ids[0]);
        assert_eq!(scratch.names(), [INSTANCE_FILE]);
    }

    #[test]
    fn a_torn_instance_file_is_refused_and_not_replaced() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join(INSTANCE_FILE), "").unwrap();
        assert!(matches!(InstanceId::open(scratch.fd()), Err(Error::Torn { .. })));
        assert_eq!(std::fs::read(scratch.path().join(INSTANCE_FILE)).unwrap(), b"");
    }

    #[test]
    fn the_text_form_is_eight_lower_case_digits_and_nothing_else_parses() {
        let id: InstanceId = "0a1b2c3d".parse().unwrap();
        assert_eq!(id.to_string(), "0a1b2c3d");
        for bad in ["", "0a1b2c3", "0a1b2c3d4", "0A1B2C3D", "+a1b2c3d", "../../xx", "0a1b2c3g"] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }
}
