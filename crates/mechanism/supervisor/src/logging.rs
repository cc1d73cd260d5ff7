// SPDX-License-Identifier: Apache-2.0
//! How the output of a container is kept when it goes through its supervisor (`FLAG_LOGGED`), as it travels: the data of the
//! message `attend`.
//!
//! ```text
//! driver u32 | mode u32 | room u64 | stdout: max u64, kept u32, 0 u32 | stderr: the same
//! fields: length u32, bytes | arguments: count u32, length u32, bytes | variables: the same
//! ```

use core::ffi::CStr;

/// What else gets the output, beside the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Driver {
    /// Nothing.
    Files = 0,
    /// journald.
    Journald = 1,
    /// A program for each stream, which reads it.
    Program = 2,
}

/// What happens when who gets it is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// The container waits.
    Block = 0,
    /// What it has no room for is lost, and counted.
    Drop = 1,
    /// It is kept for a while in a file; what does not fit is lost, and counted.
    Spill = 2,
}

/// Files of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// Bytes of one; 0: no bound.
    pub max: u64,
    /// Old ones that are kept.
    pub kept: u32,
}

/// All of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging<'a> {
    /// What else gets the output.
    pub driver: Driver,
    /// When that is slow.
    pub mode: Mode,
    /// Bytes that are kept for it, with [`Mode::Spill`].
    pub room: u64,
    /// Of stdout and stderr.
    pub streams: [Files; 2],
    /// Fields of journald's entries, `NAME=value` and a newline each.
    pub fields: &'a [u8],
    /// The program and its arguments, each with a NUL.
    pub arguments: Strings<'a>,
    /// Its environment.
    pub variables: Strings<'a>,
}

/// Texts one after another, each with its NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strings<'a>(pub &'a [u8]);

impl<'a> Strings<'a> {
    /// Each in turn.
    pub fn iter(self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let text = CStr::from_bytes_until_nul(rest).ok()?;
            rest = &rest[text.to_bytes_with_nul().len()..];
            Some(text)
        })
    }
}

/// Bytes before the first text.
const FIXED: usize = 48;

impl<'a> Logging<'a> {
    /// Reads it; nothing when it is malformed.
    pub fn read(bytes: &'a [u8]) -> Option<Logging<'a>> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from(word(at)?) | u64::from(word(at + 4)?) << 32);
        let files = |at: usize| Some(Files { max: long(at)?, kept: word(at + 8)? });
        let mut rest = bytes.get(FIXED..)?;
        let mut text = || {
            let (length, tail) = rest.split_at_checked(4)?;
            let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
            let (text, tail) = tail.split_at_checked(length)?;
            rest = tail;
            Some(text)
        };
        let (fields, arguments, variables) = (text()?, Strings(text()?), Strings(text()?));
        let all = [Driver::Files, Driver::Journald, Driver::Program];
        let modes = [Mode::Block, Mode::Drop, Mode::Spill];
        Some(Logging {
            driver: *all.get(word(0)? as usize)?,
            mode: *modes.get(word(4)? as usize)?,
            room: long(8)?,
            streams: [files(16)?, files(32)?],
            fields,
            arguments,
            variables,
        })
    }

    /// Its bytes.
    #[cfg(feature = "encode")]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&(self.driver as u32).to_le_bytes());
        out.extend_from_slice(&(self.mode as u32).to_le_bytes());
        out.extend_from_slice(&self.room.to_le_bytes());
        for files in self.streams {
            out.extend_from_slice(&files.max.to_le_bytes());
            out.extend_from_slice(&files.kept.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
        }
        for text in [self.fields, self.arguments.0, self.variables.0] {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text);
        }
        out
    }
}

#[cfg(all(test, feature = "encode"))]
mod tests {
    use super::*;

    const FULL: Logging<'_> = Logging {
        driver: Driver::Program,
        mode: Mode::Spill,
        room: 1 << 40,
        streams: [Files { max: 4096, kept: 3 }, Files { max: u64::MAX, kept: 0 }],
        fields: b"A=b\n",
        arguments: Strings(b"/bin/logger\0-t\0x\0"),
        variables: Strings(b""),
    };

    #[test]
    fn what_was_written_is_read() {
        let bytes = FULL.encode();
        assert_eq!(Logging::read(&bytes), Some(FULL));
        assert_eq!(FULL.arguments.iter().count(), 3);
    }

    #[test]
    fn no_part_of_it_is_taken_for_all() {
        let bytes = FULL.encode();
        for end in 0..bytes.len() {
            assert_eq!(Logging::read(&bytes[..end]), None, "{end}");
        }
        let unknown = [&9u32.to_le_bytes()[..], &bytes[4..]].concat();
        assert_eq!(Logging::read(&unknown), None);
    }
}
