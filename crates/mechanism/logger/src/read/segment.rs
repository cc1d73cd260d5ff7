// SPDX-License-Identifier: Apache-2.0
//! One file of a stream: its bytes, plain or compressed, and the times of its index.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use berth_sys::rustix::fs::{Mode, OFlags, openat};
use flate2::read::MultiGzDecoder;

use crate::times::{HEADER, MAGIC, RECORD};

/// Records that are looked at at once.
const RECORDS: usize = 256;

/// A file that is open.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: u64,
    /// The number it had.
    pub(super) number: u32,
    pub(super) source: Source,
    pub(super) inode: u64,
    /// How long it was known to be.
    pub(super) seen: u64,
    /// It has another name by now, so nothing is written to it any more.
    pub(super) left: bool,
    pub(super) times: Index,
}

#[derive(Debug)]
pub(super) enum Source {
    Plain(File),
    Packed { decoder: Box<MultiGzDecoder<File>>, at: u64 },
}

impl Source {
    pub(super) fn read_at(&mut self, room: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Source::Plain(file) => file.read_at(room, at),
            Source::Packed { decoder, at: here } => {
                if *here > at {
                    return Err(io::Error::other("a compressed file can not be read backwards"));
                }
                while *here < at {
                    let skipped = io::copy(&mut decoder.by_ref().take(at - *here), &mut io::sink())?;
                    if skipped == 0 {
                        return Ok(0);
                    }
                    *here += skipped;
                }
                let count = decoder.read(room)?;
                *here += count as u64;
                Ok(count)
            }
        }
    }

    pub(super) fn modified(&self) -> io::Result<u64> {
        let metadata = match self {
            Source::Plain(file) => file.metadata()?,
            Source::Packed { decoder, .. } => decoder.get_ref().metadata()?,
        };
        Ok(nanoseconds(metadata.mtime(), metadata.mtime_nsec()))
    }
}

impl Segment {
    /// Where what was written at `time` or later begins in this file.
    pub(super) fn since(&mut self, time: u64) -> io::Result<Option<u64>> {
        let records = self.times.count()?;
        let (mut low, mut high) = (0, records);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.times.record(middle)?.is_some_and(|(_, at)| at >= time) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let before = match low {
            0 => 0,
            _ => self.times.record(low - 1)?.map_or(0, |(end, _)| end),
        };
        if low < records {
            return Ok(Some(before));
        }
        // What has no record was written when the file was written to last.
        let more = match &self.source {
            Source::Plain(file) => file.metadata()?.len() > before,
            Source::Packed { .. } => records == 0,
        };
        Ok((more && self.source.modified()? >= time).then_some(before))
    }
}

/// The index of the file that is open.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) file: Option<File>,
    /// Where it will be, if at all.
    pub(super) later: Option<(OwnedFd, String)>,
    /// Records that were read, the first of which has the number `first`.
    first: u64,
    cache: Vec<(u64, u64)>,
}

impl Index {
    pub(super) fn new(file: Option<File>) -> Index {
        let file = file.filter(|file| header(file).is_some());
        Index { file, later: None, first: 0, cache: Vec::new() }
    }

    pub(super) fn count(&self) -> io::Result<u64> {
        let Some(file) = &self.file else { return Ok(0) };
        Ok(file.metadata()?.len().saturating_sub(HEADER) / RECORD)
    }

    pub(super) fn record(&mut self, number: u64) -> io::Result<Option<(u64, u64)>> {
        let Some(file) = &self.file else { return Ok(None) };
        let cached = |index: &Index| {
            let at = usize::try_from(number.checked_sub(index.first)?).ok()?;
            index.cache.get(at).copied()
        };
        if let Some(record) = cached(self) {
            return Ok(Some(record));
        }
        let mut bytes = [0; RECORDS * RECORD as usize];
        let mut count = 0;
        while count < bytes.len() {
            match file.read_at(&mut bytes[count..], HEADER + number * RECORD + count as u64)? {
                0 => break,
                more => count += more,
            }
        }
        let word =
            |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        self.first = number;
        self.cache = bytes[..count]
            .chunks_exact(RECORD as usize)
            .map(|record| (word(&record[..8]), word(&record[8..])))
            .collect();
        Ok(self.cache.first().copied())
    }

    /// Of the byte at a place in the file: up to where its record goes, and when that was written. Nothing when there is no
    /// record of it (yet).
    pub(super) fn at(&mut self, within: u64) -> io::Result<(Option<u64>, Option<u64>)> {
        if self.file.is_none()
            && let Some((dir, name)) = &self.later
            && let Ok(file) = open(dir.as_fd(), name)
            && header(&file).is_some()
        {
            (self.file, self.later) = (Some(file), None);
        }
        // Usually it is one that was read with the one before.
        let known = self.cache.partition_point(|(end, _)| *end <= within);
        if known < self.cache.len() && (known > 0 || self.first == 0) {
            let (end, time) = self.cache[known];
            return Ok((Some(end), Some(time)));
        }
        let records = self.count()?;
        let after = self.first + self.cache.len() as u64;
        let (mut low, mut high) = match self.cache.last() {
            Some((end, _)) if *end <= within => (after, records),
            _ => (0, records),
        };
        // The next one, as a rule.
        if low < high
            && let Some((end, time)) = self.record(low)?
            && end > within
        {
            return Ok((Some(end), Some(time)));
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record(middle)?.is_some_and(|(end, _)| end > within) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        match low < records {
            true => Ok(self.record(low)?.map_or((None, None), |(end, time)| (Some(end), Some(time)))),
            false => Ok((None, None)),
        }
    }
}

/// A regular file, following no link and waiting for nothing.
pub(super) fn open(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let name = CString::new(name).map_err(io::Error::other)?;
    let file = File::from(openat(dir, name.as_c_str(), flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")),
    }
}

pub(super) fn header(file: &File) -> Option<u64> {
    let mut header = [0; HEADER as usize];
    file.read_exact_at(&mut header, 0).ok()?;
    let base = header[8..].try_into().map(u64::from_le_bytes).ok()?;
    (header[..8] == MAGIC).then_some(base)
}

pub(super) fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    let whole = u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000);
    whole.saturating_add(u64::try_from(nanoseconds).unwrap_or(0))
}
