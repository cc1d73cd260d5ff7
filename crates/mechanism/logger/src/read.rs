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

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use berth_sys::rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, flock, openat, statat};
use flate2::read::MultiGzDecoder;

use crate::directory::LOCK;

mod segment;
mod tail;

use segment::{Index, Segment, Source, header, open};
use tail::{Tail, tail, tail_packed};

/// No log has more files.
const MOST: u32 = 10_000;

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

/// The path by which an open file can be watched.
pub fn watch_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests;
