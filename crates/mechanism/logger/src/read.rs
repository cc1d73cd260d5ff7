// SPDX-License-Identifier: Apache-2.0
//! Reading a stream of output: over files that were rotated or compressed, with the times of what is read.
//!
//! ```text
//! bytes of the stream   0 ········ 4,096 ······· 8,192 ···········>
//! files                 stdout.2.gz | stdout.1  | stdout
//! ```
//! A place in the stream is a number of bytes since the container's start, and stays so whatever becomes of the files. A
//! [`Reader`] has the one file open that it is in; at its end it looks for the one that goes on, under the lock that a
//! rotation takes. So it neither misses nor doubles anything, and notices when what comes next is gone already.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use berth_sys::rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, Stat, flock, openat, seek, statat,
};
use flate2::read::MultiGzDecoder;

use crate::Errno;
use crate::directory::LOCK;
use crate::times::{HEADER, MAGIC, RECORD};

/// No log has more files.
const MOST: u32 = 10_000;
/// Records that are looked at at once.
const RECORDS: usize = 256;
const BLOCK: u64 = 64 << 10;

/// What is next in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes, the first of them at `offset` of the stream, written by `time` (nanoseconds since 1970).
    Data {
        /// Place of the first.
        offset: u64,
        /// How many were put into the room.
        length: usize,
        /// By when.
        time: u64,
    },
    /// What comes next is gone; it goes on here.
    Missed(u64),
    /// No more now.
    Nothing,
}

/// A place in a stream of output.
#[derive(Debug)]
pub struct Reader {
    /// Which the container can not reach. Without it there is nothing but one file.
    dir: Option<OwnedFd>,
    /// Where the newest file is when `dir` has none of its name: the container may have put anything there.
    elsewhere: Option<OwnedFd>,
    base: String,
    at: u64,
    /// What comes before the next end of a line is not wanted.
    skipping: bool,
    open: Option<Segment>,
}

/// A file that is open.
#[derive(Debug)]
struct Segment {
    base: u64,
    /// The number it had.
    number: u32,
    source: Source,
    inode: u64,
    /// How long it was known to be.
    seen: u64,
    /// It has another name by now, so nothing is written to it any more.
    left: bool,
    times: Index,
}

#[derive(Debug)]
enum Source {
    Plain(File),
    Packed { decoder: Box<MultiGzDecoder<File>>, at: u64 },
}

/// A file of the stream, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    number: u32,
    base: u64,
    packed: bool,
}

impl Reader {
    /// The stream `base` in `dir`, from its first byte on. `elsewhere` may have the newest file, if `dir` does not.
    pub fn new(dir: OwnedFd, elsewhere: Option<OwnedFd>, base: &str) -> Reader {
        Reader { dir: Some(dir), elsewhere, base: base.to_owned(), at: 0, skipping: false, open: None }
    }

    /// The one file `base` in a directory in which its container can put anything: what is beside it there, as an index or a
    /// lock, is not looked at.
    pub fn of_file(dir: OwnedFd, base: &str) -> Reader {
        Reader { dir: None, elsewhere: Some(dir), base: base.to_owned(), at: 0, skipping: false, open: None }
    }

    /// The place.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Goes to a place.
    pub fn seek(&mut self, at: u64) {
        (self.at, self.skipping, self.open) = (at, false, None);
    }

    /// The place, with whether the rest of a line is skipped first: to come [`Reader::back`] to.
    pub(crate) fn mark(&self) -> (u64, bool) {
        (self.at, self.skipping)
    }

    /// Goes to such a place.
    pub(crate) fn back(&mut self, (at, skipping): (u64, bool)) {
        (self.at, self.skipping, self.open) = (at, skipping, None);
    }

    /// The plain file that is open and written to, to be watched. Another one is open after each rotation, which is told by a
    /// change of the file's own name.
    pub fn file_in_use(&self) -> Option<BorrowedFd<'_>> {
        match self.open.as_ref().filter(|segment| !segment.left)?.source {
            Source::Plain(ref file) => Some(file.as_fd()),
            Source::Packed { .. } => None,
        }
    }

    /// Fills `room` with what is next.
    ///
    /// # Errors
    /// A file can not be read.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<Piece> {
        loop {
            let Some(segment) = &mut self.open else {
                match self.locate()? {
                    Some(piece) => return Ok(piece),
                    None => continue,
                }
            };
            let within = self.at - segment.base;
            let (end, time) = segment.times.at(within)?;
            let limit = end.map_or(room.len(), |end| {
                usize::try_from(end - within).unwrap_or(usize::MAX).min(room.len())
            });
            let count = segment.source.read_at(&mut room[..limit], within)?;
            if count == 0 {
                match self.at_end()? {
                    Some(piece) => return Ok(piece),
                    None => continue,
                }
            }
            let time = match time {
                Some(time) => time,
                None => segment.source.modified()?,
            };
            let offset = self.at;
            self.at += count as u64;
            segment.seen = segment.seen.max(self.at - segment.base);
            if !self.skipping {
                return Ok(Piece::Data { offset, length: count, time });
            }
            if let Some(at) = room[..count].iter().position(|byte| *byte == b'\n') {
                self.skipping = false;
                let skipped = at + 1;
                if skipped < count {
                    room.copy_within(skipped..count, 0);
                    let (offset, length) = (offset + skipped as u64, count - skipped);
                    return Ok(Piece::Data { offset, length, time });
                }
            }
        }
    }

    /// Nothing more in the open file: is there another? `None`: look again.
    fn at_end(&mut self) -> io::Result<Option<Piece>> {
        let Some(segment) = &self.open else { return Ok(None) };
        let (left, inode, base, seen) = (segment.left, segment.inode, segment.base, segment.seen);
        let size = match &segment.source {
            Source::Plain(file) if !left => file.metadata()?.len(),
            _ => return self.next_after(base, segment.number),
        };
        if size < seen {
            // Somebody cut it off: it goes on from its beginning.
            (self.at, self.open) = (base, None);
            return Ok(Some(Piece::Missed(base)));
        }
        match self.inode() {
            Some(now) if now == inode => Ok(Some(Piece::Nothing)),
            // Between two files.
            None if !self.was_rotated() => Ok(Some(Piece::Nothing)),
            // What was written before it got its new name is still to be read.
            _ => {
                if let Some(segment) = &mut self.open {
                    segment.left = true;
                }
                Ok(None)
            }
        }
    }

    fn was_rotated(&self) -> bool {
        self.find(1).is_some()
    }

    /// Goes to the file after the one that begins at `base` and had that number.
    fn next_after(&mut self, base: u64, number: u32) -> io::Result<Option<Piece>> {
        let lock = self.lock();
        let next = match self.beside(base, number) {
            Some(next) => Some(next),
            None => self.files(base)?.into_iter().rfind(|found| found.base > base),
        };
        let Some(next) = next else { return Ok(Some(Piece::Nothing)) };
        let opened = self.open_found(next)?;
        drop(lock);
        self.open = Some(opened);
        if next.base == self.at {
            return Ok(None);
        }
        self.at = next.base;
        Ok(Some(Piece::Missed(next.base)))
    }

    /// The same without a look at all files: numbers only grow, so it is the one before that number, or has been. Nothing
    /// when that is not to be seen.
    fn beside(&self, base: u64, number: u32) -> Option<Found> {
        let mut next = None;
        for number in number.checked_sub(1)?..MOST {
            let begins = self.header(number)?;
            if begins <= base {
                break;
            }
            let (packed, _) = self.find(number)?;
            next = Some(Found { number, base: begins, packed });
        }
        next
    }

    /// Opens the file that the place is in. `None`: it is open.
    fn locate(&mut self) -> io::Result<Option<Piece>> {
        let lock = self.lock();
        let files = self.files(self.at)?;
        let found = files.iter().find(|found| found.base <= self.at).or(files.last()).copied();
        let Some(found) = found else { return Ok(Some(Piece::Nothing)) };
        let opened = self.open_found(found)?;
        drop(lock);
        self.open = Some(opened);
        if found.base <= self.at {
            return Ok(None);
        }
        self.at = found.base;
        Ok(Some(Piece::Missed(found.base)))
    }

    /// The lock against rotations, if there can be any. It is given up with the descriptor.
    fn lock(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = openat(self.dir.as_ref()?, LOCK, flags, Mode::empty()).ok()?;
        flock(&lock, FlockOperation::LockShared).ok()?;
        Some(lock)
    }

    /// The files from the newest back to the one that has the place `until` in it, with where they begin. One whose index
    /// could not be written begins where its neighbours say. A number can be missing: the newest between two files, and one
    /// more where a rotation did not come to its end.
    fn files(&self, until: u64) -> io::Result<Vec<Found>> {
        let mut files: Vec<(Found, bool)> = Vec::new();
        let mut gap = false;
        let most = if self.dir.is_some() { MOST } else { 1 };
        for number in 0..most {
            let Some((packed, _)) = self.find(number) else {
                match (number, gap) {
                    (0, _) => continue,
                    (_, false) => gap = true,
                    (_, true) => break,
                }
                continue;
            };
            let base = self.header(number);
            files.push((Found { number, base: base.unwrap_or(0), packed }, base.is_some()));
            if base.is_some_and(|base| base <= until) {
                break;
            }
        }
        for at in (0..files.len()).rev() {
            if !files[at].1 {
                let before = files.get(at + 1).map(|(found, ..)| *found);
                files[at].0.base = match before {
                    Some(before) => before.base + self.length(before)?,
                    None => 0,
                };
            }
        }
        Ok(files.into_iter().map(|(found, ..)| found).collect())
    }

    fn name(&self, number: u32, packed: bool) -> String {
        match (number, packed) {
            (0, _) => self.base.clone(),
            (number, false) => format!("{}.{number}", self.base),
            (number, true) => format!("{}.{number}.gz", self.base),
        }
    }

    fn index(&self, number: u32) -> String {
        match number {
            0 => format!(".{}.times", self.base),
            number => format!(".{}.times.{number}", self.base),
        }
    }

    /// The file of that number: whether it is compressed, and what it is.
    fn find(&self, number: u32) -> Option<(bool, Stat)> {
        let stat = |dir: &OwnedFd, packed| {
            let stat = statat(dir, self.name(number, packed), AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let regular = FileType::from_raw_mode(stat.st_mode).is_file();
            regular.then_some((packed, stat))
        };
        let plain = self.dir.as_ref().and_then(|dir| stat(dir, false));
        plain.or_else(|| match number {
            0 => stat(self.elsewhere.as_ref()?, false),
            _ => stat(self.dir.as_ref()?, true),
        })
    }

    fn inode(&self) -> Option<u64> {
        self.find(0).map(|(_, stat)| stat.st_ino)
    }

    /// A file in the directory that the container can not reach.
    fn ours(&self, name: &str) -> io::Result<File> {
        match &self.dir {
            Some(dir) => open(dir.as_fd(), name),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&self, number: u32) -> io::Result<File> {
        let name = self.name(number, false);
        match self.ours(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => match &self.elsewhere {
                Some(dir) => open(dir.as_fd(), &name),
                None => Err(error),
            },
            other => other,
        }
    }

    /// Where the file of that number begins, as its index says.
    fn header(&self, number: u32) -> Option<u64> {
        header(&self.ours(&self.index(number)).ok()?)
    }

    /// Bytes of the stream in a file.
    fn length(&self, found: Found) -> io::Result<u64> {
        if !found.packed {
            return Ok(self.file(found.number)?.metadata()?.len());
        }
        let file = self.ours(&self.name(found.number, true))?;
        io::copy(&mut MultiGzDecoder::new(file), &mut io::sink())
    }

    fn open_found(&self, found: Found) -> io::Result<Segment> {
        let file = match found.packed {
            false => self.file(found.number)?,
            true => self.ours(&self.name(found.number, true))?,
        };
        let inode = file.metadata()?.ino();
        let mut times = Index::new(self.ours(&self.index(found.number)).ok());
        if let (None, 0, Some(dir)) = (&times.file, found.number, &self.dir) {
            // There may be one soon.
            times.later = Some((dir.try_clone()?, self.index(0)));
        }
        let source = match found.packed {
            false => Source::Plain(file),
            true => Source::Packed { decoder: Box::new(MultiGzDecoder::new(file)), at: 0 },
        };
        Ok(Segment { base: found.base, number: found.number, source, inode, seen: 0, left: false, times })
    }
}

impl Reader {
    /// Goes to the first line of which something was written at `time` or later.
    ///
    /// # Errors
    /// A file can not be read.
    pub fn seek_time(&mut self, time: u64) -> io::Result<()> {
        let lock = self.lock();
        let files = self.files(0)?;
        for found in files.iter().rev() {
            let mut segment = self.open_found(*found)?;
            let Some(begin) = segment.since(time)? else { continue };
            drop(lock);
            let at = segment.base + begin;
            // A line that was begun earlier is not one of that time.
            (self.at, self.skipping, self.open) = match begin {
                0 => (at, false, None),
                _ => (at - 1, true, None),
            };
            return Ok(());
        }
        drop(lock);
        let end = self.end()?;
        self.seek(end);
        Ok(())
    }

    /// Goes to where the last so many lines begin, if that is after the present place. A last line without an end is one too.
    ///
    /// # Errors
    /// A file can not be read.
    pub fn seek_tail(&mut self, lines: u64) -> io::Result<()> {
        let lock = self.lock();
        let files = self.files(self.at)?;
        let mut found_lines = 0;
        for found in files {
            let tail = match found.packed {
                false => tail(&self.file(found.number)?, lines - found_lines)?,
                true => {
                    let name = self.name(found.number, true);
                    tail_packed(|| self.ours(&name), lines - found_lines)?
                }
            };
            match tail {
                Tail::At(at) => {
                    drop(lock);
                    if found.base + at > self.at {
                        self.seek(found.base + at);
                    }
                    return Ok(());
                }
                Tail::Fewer(more) => found_lines += more,
            }
        }
        Ok(())
    }

    /// The end of the stream as it is now.
    ///
    /// # Errors
    /// A file can not be read.
    pub fn end(&self) -> io::Result<u64> {
        let _lock = self.lock();
        let files = self.files(u64::MAX)?;
        match files.first() {
            Some(newest) => Ok(newest.base + self.length(*newest)?),
            None => Ok(0),
        }
    }
}

impl Source {
    fn read_at(&mut self, room: &mut [u8], at: u64) -> io::Result<usize> {
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

    fn modified(&self) -> io::Result<u64> {
        let metadata = match self {
            Source::Plain(file) => file.metadata()?,
            Source::Packed { decoder, .. } => decoder.get_ref().metadata()?,
        };
        Ok(nanoseconds(metadata.mtime(), metadata.mtime_nsec()))
    }
}

impl Segment {
    /// Where what was written at `time` or later begins in this file.
    fn since(&mut self, time: u64) -> io::Result<Option<u64>> {
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
struct Index {
    file: Option<File>,
    /// Where it will be, if at all.
    later: Option<(OwnedFd, String)>,
    /// Records that were read, the first of which has the number `first`.
    first: u64,
    cache: Vec<(u64, u64)>,
}

impl Index {
    fn new(file: Option<File>) -> Index {
        let file = file.filter(|file| header(file).is_some());
        Index { file, later: None, first: 0, cache: Vec::new() }
    }

    fn count(&self) -> io::Result<u64> {
        let Some(file) = &self.file else { return Ok(0) };
        Ok(file.metadata()?.len().saturating_sub(HEADER) / RECORD)
    }

    fn record(&mut self, number: u64) -> io::Result<Option<(u64, u64)>> {
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
    fn at(&mut self, within: u64) -> io::Result<(Option<u64>, Option<u64>)> {
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
fn open(dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let name = CString::new(name).map_err(io::Error::other)?;
    let file = File::from(openat(dir, name.as_c_str(), flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")),
    }
}

fn header(file: &File) -> Option<u64> {
    let mut header = [0; HEADER as usize];
    file.read_exact_at(&mut header, 0).ok()?;
    let base = header[8..].try_into().map(u64::from_le_bytes).ok()?;
    (header[..8] == MAGIC).then_some(base)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    let whole = u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000);
    whole.saturating_add(u64::try_from(nanoseconds).unwrap_or(0))
}

/// What came of looking for the beginnings of lines.
enum Tail {
    /// Here the first of them begins.
    At(u64),
    /// There are only so many.
    Fewer(u64),
}

/// Where the last so many lines of a file begin.
fn tail(file: &File, lines: u64) -> io::Result<Tail> {
    let size = file.metadata()?.len();
    if lines == 0 {
        return Ok(Tail::At(size));
    }
    let (mut end, mut found) = (size, 0);
    let mut buffer = vec![0; usize::try_from(BLOCK.min(size)).unwrap_or(0)];
    loop {
        end = before_hole(file, end);
        if end == 0 {
            break;
        }
        let begin = end.saturating_sub(BLOCK);
        let block = &mut buffer[..usize::try_from(end - begin).unwrap_or(0)];
        file.read_exact_at(block, begin)?;
        for (index, byte) in block.iter().enumerate().rev() {
            let at = begin + index as u64;
            if *byte != b'\n' || at + 1 == size {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(Tail::At(at + 1));
            }
        }
        end = begin;
    }
    if size == 0 {
        return Ok(Tail::Fewer(0));
    }
    // The line that begins at the file's beginning.
    found += 1;
    Ok(if found == lines { Tail::At(0) } else { Tail::Fewer(found) })
}

/// Where the hole begins that ends at `end`, or a part of it: no line ends in it, and a container can make one of any size.
fn before_hole(file: &File, end: u64) -> u64 {
    let (mut begin, mut step) = (end, BLOCK);
    while begin > 0 {
        let earlier = begin.saturating_sub(step);
        match seek(file, SeekFrom::Data(earlier)) {
            Ok(data) if data < begin => break,
            Ok(_) | Err(Errno::NXIO) => begin = earlier,
            Err(_) => break,
        }
        step = step.saturating_mul(2);
    }
    begin
}

fn tail_packed(open: impl Fn() -> io::Result<File>, lines: u64) -> io::Result<Tail> {
    let begins = |mut each: Box<dyn FnMut(u64) -> bool + '_>| -> io::Result<()> {
        let mut decoder = MultiGzDecoder::new(open()?);
        let (mut room, mut at, mut fresh) = (vec![0; 64 << 10], 0u64, true);
        loop {
            let count = decoder.read(&mut room)?;
            if count == 0 {
                return Ok(());
            }
            for byte in &room[..count] {
                if fresh && !each(at) {
                    return Ok(());
                }
                fresh = *byte == b'\n';
                at += 1;
            }
        }
    };
    let mut found = 0u64;
    begins(Box::new(|_| {
        found += 1;
        true
    }))?;
    if found < lines {
        return Ok(Tail::Fewer(found));
    }
    let (mut skip, mut place) = (found - lines, 0);
    begins(Box::new(|at| {
        place = at;
        skip = skip.wrapping_sub(1);
        skip != u64::MAX
    }))?;
    Ok(Tail::At(place))
}

/// The path by which an open file can be watched.
pub fn watch_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{Policy, Writer};
    use crate::{Directory, compress};
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    fn reader(path: &Path) -> Reader {
        Reader::new(File::open(path).unwrap().into(), None, "out")
    }

    fn writer(path: &Path, kept: u32, max: u64) -> Writer<Directory> {
        let directory = Directory::new(File::open(path).unwrap().into(), b"out", kept, 0o640, None).unwrap();
        let policy = if max == 0 { Policy::UNBOUNDED } else { Policy::rotating(max) };
        Writer::new(directory, policy, 0, true)
    }

    /// What is there, with `|` where something is missing.
    fn rest(reader: &mut Reader) -> String {
        let (mut room, mut text) = ([0; 7], String::new());
        loop {
            match reader.read(&mut room).unwrap() {
                Piece::Nothing => return text,
                Piece::Missed(_) => text.push('|'),
                Piece::Data { length, offset, .. } => {
                    assert_eq!(offset + length as u64, reader.position());
                    text.push_str(std::str::from_utf8(&room[..length]).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_stream_is_one_whatever_its_files_are() {
        let ground = tempfile::tempdir().unwrap();
        let mut writer = writer(ground.path(), 9, 12);
        let mut all = String::new();
        let mut follower = reader(ground.path());
        let mut followed = String::new();
        for number in 0..20 {
            let line = format!("line {number}\n");
            writer.feed(line.as_bytes());
            all.push_str(&line);
            if number % 3 == 0 {
                followed.push_str(&rest(&mut follower));
            }
        }
        followed.push_str(&rest(&mut follower));
        assert_eq!(followed, all);
        // The oldest are gone: it says so, and goes on.
        let mut late = reader(ground.path());
        let text = rest(&mut late);
        assert!(text.starts_with('|') && all.ends_with(&text[1..]) && text.lines().count() == 10, "{text}");
        assert_eq!(late.position(), all.len() as u64);
        assert_eq!(late.end().unwrap(), all.len() as u64);
        // By its place.
        let place = all.find("line 15").unwrap() as u64;
        late.seek(place);
        assert!(rest(&mut late).starts_with("line 15\n"));
    }

    #[test]
    fn compressed_files_are_read_like_others_and_tails_go_across_all() {
        let ground = tempfile::tempdir().unwrap();
        let mut writer = writer(ground.path(), 20, 12);
        let all: String = (0..20).map(|number| format!("line {number}\n")).collect();
        all.split_inclusive('\n').for_each(|line| writer.feed(line.as_bytes()));
        writer.output().mark();
        let dir = File::open(ground.path()).unwrap();
        let packed = compress(dir.as_fd(), None, "out", 20, &|| false).unwrap();
        assert!(packed.files > 10);
        let mut reader = reader(ground.path());
        assert_eq!(rest(&mut reader), all);
        for lines in [0, 1, 2, 5, 19, 20, 30] {
            reader.seek(0);
            reader.seek_tail(lines).unwrap();
            assert_eq!(rest(&mut reader).lines().count() as u64, lines.min(20), "{lines}");
        }
    }

    #[test]
    fn the_last_lines_are_found_whether_or_not_the_last_one_has_an_end() {
        let tail = |text: &str, lines| {
            let ground = tempfile::tempdir().unwrap();
            fs::write(ground.path().join("out"), text).unwrap();
            let mut reader = reader(ground.path());
            reader.seek_tail(lines).unwrap();
            reader.position()
        };
        assert_eq!(tail("a\nb\nc\n", 1), 4);
        assert_eq!(tail("a\nb\nc", 1), 4);
        assert_eq!(tail("a\nb\nc\n", 2), 2);
        assert_eq!(tail("a\nb\nc\n", 9), 0);
        assert_eq!(tail("a\nb\n", 0), 4);
        assert_eq!(tail("", 3), 0);
        assert_eq!(tail("\n\n\n", 2), 1);
        let long = ["x".repeat(200_000), "y".repeat(140_000)].join("\n");
        assert_eq!(tail(&long, 1), 200_001);
    }

    #[test]
    fn lines_have_their_times_and_are_found_by_them() {
        let ground = tempfile::tempdir().unwrap();
        let mut writer = writer(ground.path(), 9, 12);
        let mut moments = Vec::new();
        for number in 0..6 {
            moments.push(crate::now());
            writer.feed(format!("line {number}\n").as_bytes());
            std::thread::sleep(Duration::from_millis(25));
        }
        writer.output().mark();
        for (number, moment) in moments.iter().enumerate() {
            let mut reader = reader(ground.path());
            reader.seek_time(*moment).unwrap();
            let mut room = [0; 100];
            let Piece::Data { length, time, .. } = reader.read(&mut room).unwrap() else { panic!("nothing") };
            let text = std::str::from_utf8(&room[..length]).unwrap();
            assert!(text.starts_with(&format!("line {number}\n")), "{number}: {text}");
            assert!(time >= *moment && time < moment + 20_000_000, "{number}: {time} {moment}");
        }
        let mut reader = reader(ground.path());
        reader.seek_time(crate::now()).unwrap();
        assert_eq!(rest(&mut reader), "");
    }

    #[test]
    fn a_file_without_an_index_has_the_time_of_the_file_and_one_that_was_cut_off_begins_anew() {
        let ground = tempfile::tempdir().unwrap();
        let path = ground.path().join("out");
        fs::write(&path, "abcdef\n").unwrap();
        let modified = fs::metadata(&path).unwrap();
        let mut room = [0; 100];
        let mut reader = reader(ground.path());
        let time = nanoseconds(modified.mtime(), modified.mtime_nsec());
        assert_eq!(reader.read(&mut room).unwrap(), Piece::Data { offset: 0, length: 7, time });
        reader.seek_time(time + 1).unwrap();
        assert_eq!(reader.position(), 7);
        reader.seek_time(time).unwrap();
        assert_eq!(rest(&mut reader), "abcdef\n");
        File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
        assert_eq!(rest(&mut reader), "|ab");
    }

    #[test]
    fn nothing_but_a_file_is_read() {
        let ground = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", ground.path().join("out")).unwrap();
        assert_eq!(reader(ground.path()).read(&mut [0; 10]).unwrap(), Piece::Nothing);
        assert_eq!(reader(ground.path()).end().unwrap(), 0);
    }

    #[test]
    fn what_a_container_puts_beside_its_file_is_not_looked_at() {
        let ground = tempfile::tempdir().unwrap();
        let place = |name: &str| ground.path().join(name);
        fs::write(place("out"), "text\n").unwrap();
        // Whoever opened it for reading alone would wait for a writer.
        let made = std::process::Command::new("mkfifo").arg(place(LOCK.to_str().unwrap())).status();
        assert!(made.unwrap().success());
        let index = [&MAGIC[..], &u64::MAX.to_le_bytes(), &[0xff; 64]].concat();
        fs::write(place(".out.times"), &index).unwrap();
        fs::write(place(".out.times.1"), &index).unwrap();
        fs::write(place("out.1"), "forged\n").unwrap();
        let mut reader = Reader::of_file(File::open(ground.path()).unwrap().into(), "out");
        assert_eq!((rest(&mut reader), reader.end().unwrap()), ("text\n".to_owned(), 5));
        reader.seek(0);
        reader.seek_tail(9).unwrap();
        reader.seek_time(0).unwrap();
        assert_eq!(rest(&mut reader), "text\n");
        // Another file of the name is none of it.
        fs::rename(place("out.1"), place("out")).unwrap();
        assert_eq!(rest(&mut reader), "");
    }

    #[test]
    fn a_hole_of_any_size_is_passed_over_when_lines_are_looked_for() {
        let ground = tempfile::tempdir().unwrap();
        let path = ground.path().join("out");
        fs::write(&path, "one\ntwo\n").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        // As large as the file system lets it be.
        let size =
            (30..62).rev().map(|shift| 1u64 << shift).find(|size| file.set_len(*size).is_ok()).unwrap();
        file.write_all_at(b"\nlast", size - 5).unwrap();
        for (lines, begin) in [(1, size - 4), (2, 8), (3, 4), (4, 0)] {
            let mut reader = reader(ground.path());
            reader.seek_tail(lines).unwrap();
            assert_eq!(reader.position(), begin, "{lines}");
        }
    }

    #[test]
    fn a_stream_is_found_also_while_its_newest_file_or_one_of_the_old_is_missing() {
        let ground = tempfile::tempdir().unwrap();
        let mut writer = writer(ground.path(), 9, 2);
        (1..=6).for_each(|number| writer.feed(format!("{number}\n").as_bytes()));
        writer.output().mark();
        fs::remove_file(ground.path().join("out")).unwrap();
        let mut follower = reader(ground.path());
        assert_eq!(rest(&mut follower), "1\n2\n3\n4\n5\n");
        assert_eq!(follower.end().unwrap(), 10);
        fs::remove_file(ground.path().join("out.3")).unwrap();
        assert_eq!(rest(&mut reader(ground.path())), "1\n2\n|4\n5\n");
    }

    #[test]
    fn what_is_read_while_it_is_rotated_and_compressed_is_neither_missed_nor_doubled() {
        let ground = tempfile::tempdir().unwrap();
        let mut writer = writer(ground.path(), 500, 2000);
        let all: String = (0..4_000).map(|number| format!("line {number:05}\n")).collect();
        let over = std::sync::atomic::AtomicBool::new(false);
        let ended = || over.load(std::sync::atomic::Ordering::SeqCst);
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| {
                let (mut reader, mut text) = (reader(ground.path()), String::new());
                loop {
                    let last = ended();
                    text.push_str(&rest(&mut reader));
                    if last {
                        return text;
                    }
                }
            });
            scope.spawn(|| {
                let dir = File::open(ground.path()).unwrap();
                while !ended() {
                    compress(dir.as_fd(), None, "out", 500, &ended).unwrap();
                }
            });
            all.split_inclusive('\n').for_each(|line| writer.feed(line.as_bytes()));
            over.store(true, std::sync::atomic::Ordering::SeqCst);
            let text = follower.join().unwrap();
            assert!(text == all, "{} of {} bytes", text.len(), all.len());
        });
    }
}
