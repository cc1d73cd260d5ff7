// SPDX-License-Identifier: Apache-2.0
//! What is where in an archive that others read parts of: images saved into one file.
//!
//! The same reader as the unpacker's goes through it, so that both see the same entries (CVE-2025-62518); data is
//! skipped by seeking. Names are checked as for unpacking, and one that is there twice is refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use crate::archive::{Archive, Fault, Kind};
use crate::error::{Limit, Place, UnpackError};
use crate::limits::Limits;
use crate::name::Name;

/// Entries of an archive of an image. There are a few for each layer.
const ENTRIES: usize = 20_000;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file: where its bytes are, and how many.
    File {
        /// From the start of the archive.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// A symbolic link, its target as it stands.
    Link(Vec<u8>),
    /// Another name of an entry before it.
    Same(Vec<u8>),
}

/// Finds the files and links of an uncompressed archive, by their names without leading slashes and dots.
///
/// # Errors
/// [`UnpackError`].
pub fn contents(file: &File) -> Result<HashMap<Vec<u8>, Content>, UnpackError> {
    let limits = Limits::default();
    let mut at_start = file;
    at_start.rewind().map_err(|source| UnpackError::Read { place: Place::start(), source })?;
    let reader = Counting { reader: BufReader::with_capacity(64 << 10, file), at: 0 };
    let mut archive = Archive::new(reader, &limits);
    let mut found = HashMap::new();
    let mut place = Place::start();
    loop {
        let member = match archive.next() {
            Ok(Some(member)) => member,
            Ok(None) => return Ok(found),
            Err(fault) => return Err(refuse(place, fault)),
        };
        place = Place::entry(found.len() as u64 + 1, &member.name);
        let malformed = |what: &str| UnpackError::Malformed { place: place.clone(), what: what.into() };
        let name = Name::parse(&member.name, &limits)
            .map_err(|_| malformed("its name is empty, too long or leads out of the archive"))?;
        let key = |name: &Name| name.path().as_os_str().as_encoded_bytes().to_vec();
        let (offset, rest) = archive.rest();
        let content = match member.kind {
            Kind::File if member.sparse.is_none() => {
                Some(Content::File { offset: offset.at, size: member.stored })
            }
            Kind::File => return Err(malformed("a sparse file")),
            Kind::Symlink => Some(Content::Link(member.link.clone())),
            Kind::HardLink => {
                let target = Name::parse(&member.link, &limits).map_err(|_| malformed("its target"))?;
                Some(Content::Same(key(&target)))
            }
            Kind::Directory | Kind::Fifo | Kind::Device { .. } => None,
        };
        if let Some(content) = content
            && found.insert(key(&name), content).is_some()
        {
            return Err(malformed("a name that is there twice"));
        }
        if found.len() > ENTRIES {
            return Err(UnpackError::TooMuch { place, limit: Limit::Entries, allowed: ENTRIES as u64 });
        }
        offset.skip(rest).map_err(|source| UnpackError::Read { place: place.clone(), source })?;
        place.after = true;
    }
}

/// Reads one file of an uncompressed archive, of any number of entries: nothing if there is none of that name.
///
/// # Errors
/// [`UnpackError`]; it is there twice, is no plain file, or larger than `max`.
pub fn file_in(
    file: &File,
    wanted: &str,
    max: u64,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<u8>>, UnpackError> {
    let limits = Limits::default();
    let mut at_start = file;
    at_start.rewind().map_err(|source| UnpackError::Read { place: Place::start(), source })?;
    let reader = Counting { reader: BufReader::with_capacity(64 << 10, file), at: 0 };
    let mut archive = Archive::new(reader, &limits);
    let (mut found, mut place, mut entries) = (None, Place::start(), 0);
    loop {
        let member = match archive.next() {
            Ok(Some(member)) => member,
            Ok(None) => return Ok(found),
            Err(fault) => return Err(refuse(place, fault)),
        };
        entries += 1;
        place = Place::entry(entries, &member.name);
        if entries > limits.entries {
            return Err(UnpackError::TooMuch { place, limit: Limit::Entries, allowed: limits.entries });
        }
        if stop() {
            return Err(UnpackError::Stopped { place });
        }
        // What its name should be is the unpacker's to say, who refuses the archive for it.
        let is_it = Name::parse(&member.name, &limits).is_ok_and(|name| name.path() == Path::new(wanted));
        if is_it {
            let malformed = |what: &str| UnpackError::Malformed { place: place.clone(), what: what.into() };
            if found.is_some() {
                return Err(malformed("a name that is there twice"));
            }
            if member.kind != Kind::File || member.sparse.is_some() {
                return Err(malformed("it is no plain file"));
            }
            if member.stored > max {
                return Err(UnpackError::TooMuch { place, limit: Limit::File, allowed: max });
            }
            let mut bytes = vec![0; usize::try_from(member.stored).unwrap_or(usize::MAX)];
            let mut filled = 0;
            while filled < bytes.len() {
                let read = archive.read_data(&mut bytes[filled..]);
                filled += read.map_err(|source| UnpackError::Read { place: place.clone(), source })?;
            }
            found = Some(bytes);
        }
        let (reader, rest) = archive.rest();
        reader.skip(rest).map_err(|source| UnpackError::Read { place: place.clone(), source })?;
        place.after = true;
    }
}

fn refuse(place: Place, fault: Fault) -> UnpackError {
    match fault {
        Fault::Io(source) => UnpackError::Read { place, source },
        Fault::Malformed(what) => UnpackError::Malformed { place, what },
        Fault::Unsupported(what) => UnpackError::Unsupported { place, what },
        Fault::TooMuch(limit, allowed) => UnpackError::TooMuch { place, limit, allowed },
    }
}

/// A reader that knows where it is, and can step ahead.
pub(crate) struct Counting<'f> {
    reader: BufReader<&'f File>,
    pub(crate) at: u64,
}

impl Counting<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let step = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        self.reader.seek_relative(step)?;
        self.at += bytes;
        Ok(())
    }
}

impl Read for Counting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buf)?;
        self.at += count as u64;
        Ok(count)
    }
}
