// SPDX-License-Identifier: Apache-2.0
//! When output was written: a small index beside each output file, since the file itself is what the container wrote and
//! nothing else.
//!
//! ```text
//! .stdout.times   header   "BERTHLT1" | bytes of the stream before this file, u64
//!                 record   end u64 | nanoseconds since 1970 u64        what is before `end`, and after the end of the
//!                 …                                                    record before, was written by then
//! ```
//! Numbers are little-endian. Records are made when something was written, and at most one in [`STEP`]; the longer the file
//! the fewer ([`Times::step`]), so that an index grows by less than 1.4 MB a day however much a container prints. A record
//! that can not be written (full disk) is tried again with the next one: times get coarser, and nothing else changes.

use core::ffi::CStr;

use berth_sys::Errno;
use berth_sys::rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use berth_sys::rustix::fs::{Mode, OFlags, fstat, ftruncate, openat};
use berth_sys::rustix::io::{pread, pwrite};

/// How an index begins.
pub(crate) const MAGIC: [u8; 8] = *b"BERTHLT1";
/// Bytes before the first record.
pub(crate) const HEADER: u64 = 16;
/// Bytes of a record.
pub(crate) const RECORD: u64 = 16;
/// Nanoseconds between two records of a file that has few.
pub const STEP: u64 = 20_000_000;
/// … and of one that has many.
const WIDEST: u64 = 1_000_000_000;
/// After so many records the step is doubled, and again.
const MANY: u64 = 1 << 16;

/// What was written and has no record yet.
#[derive(Debug, Clone, Copy)]
struct Pending {
    size: u64,
    first: u64,
    last: u64,
}

/// The index of one output file, as it is written.
#[derive(Debug)]
pub struct Times {
    file: Option<OwnedFd>,
    base: u64,
    records: u64,
    headed: bool,
    /// Size of the output at the last record.
    marked: u64,
    pending: Option<Pending>,
}

impl Times {
    /// Of a file before which the stream had `base` bytes. Nothing is made before something was written.
    pub const fn new(base: u64) -> Times {
        Times { file: None, base, records: 0, headed: false, marked: 0, pending: None }
    }

    /// Bytes of the stream before this file.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Notes that the output has `size` bytes at `now`, and says whether that is news. When a record is due it is written to
    /// `name` in `dir`.
    pub fn note(&mut self, size: u64, now: u64, dir: BorrowedFd<'_>, name: &CStr) -> bool {
        let known = self.pending.map_or(self.marked, |pending| pending.size);
        if size < known {
            // Somebody cut it off: what the records say is not so any more.
            self.begin_anew();
        }
        let news = size != known;
        if news {
            let step = self.step();
            if self.pending.is_some_and(|pending| now.saturating_sub(pending.first) >= step) {
                self.flush(dir, name);
            }
            let first = self.pending.map_or(now, |pending| pending.first);
            self.pending = Some(Pending { size, first, last: now });
        }
        self.flush_due(now, dir, name);
        news
    }

    /// How long one record stands for.
    pub fn step(&self) -> u64 {
        (STEP << (self.records / MANY).min(16)).min(WIDEST)
    }

    /// When a record is to be written, if nothing comes before.
    pub fn due(&self) -> Option<u64> {
        self.pending.map(|pending| pending.first.saturating_add(self.step()))
    }

    /// Writes the record if that time has come. One that can not be written is tried again a second later: who waits until
    /// it is due waits for nothing else on a full disk.
    pub fn flush_due(&mut self, now: u64, dir: BorrowedFd<'_>, name: &CStr) {
        if self.due().is_some_and(|due| due <= now) {
            self.flush(dir, name);
            if let Some(pending) = &mut self.pending {
                pending.first = now.saturating_add(WIDEST);
            }
        }
    }

    /// Writes what is pending.
    pub fn flush(&mut self, dir: BorrowedFd<'_>, name: &CStr) {
        if let Some(pending) = self.pending
            && self.write(pending, dir, name).is_ok()
        {
            self.records += 1;
            self.marked = pending.size;
            self.pending = None;
        } else if let Some(pending) = &mut self.pending {
            // Not at every write of a container on a full disk.
            pending.first = pending.last;
        }
    }

    /// Goes on with the next file of the stream, before which it had `base` bytes.
    pub fn next(&mut self, base: u64) {
        *self = Times::new(base);
    }

    fn begin_anew(&mut self) {
        if let Some(file) = &self.file {
            let _ = ftruncate(file, HEADER);
        }
        (self.records, self.marked, self.pending) = (0, 0, None);
    }

    fn write(&mut self, pending: Pending, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open(dir, name)?,
        };
        let file = self.file.insert(file);
        if !self.headed {
            let mut header = [0; HEADER as usize];
            header[..8].copy_from_slice(&MAGIC);
            header[8..].copy_from_slice(&self.base.to_le_bytes());
            whole(file.as_fd(), &header, 0)?;
            self.headed = true;
        }
        let mut record = [0; RECORD as usize];
        record[..8].copy_from_slice(&pending.size.to_le_bytes());
        record[8..].copy_from_slice(&pending.last.to_le_bytes());
        whole(file.as_fd(), &record, HEADER + self.records * RECORD)
    }

    /// Opens it, and goes on with what an earlier writer left.
    fn open(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        let size = fstat(&file)?.st_size.max(0) as u64;
        let mut header = [0; HEADER as usize];
        if size >= HEADER && pread(&file, &mut header, 0)? == header.len() && header[..8] == MAGIC {
            self.headed = true;
            self.records = (size - HEADER) / RECORD;
        }
        Ok(file)
    }
}

fn whole(file: BorrowedFd<'_>, data: &[u8], at: u64) -> Result<(), Errno> {
    loop {
        match pwrite(file, data, at) {
            Ok(count) if count == data.len() => return Ok(()),
            // What is half there is written over by the next.
            Ok(_) => return Err(Errno::NOSPC),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn records(path: &std::path::Path) -> Vec<(u64, u64)> {
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes[..8], MAGIC);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        bytes[16..].chunks_exact(16).map(|record| (number(&record[..8]), number(&record[8..]))).collect()
    }

    #[test]
    fn a_record_stands_for_a_moment_and_the_last_one_is_written_when_it_is_due() {
        let ground = tempfile::tempdir().unwrap();
        let dir = fs::File::open(ground.path()).unwrap();
        let mut times = Times::new(7);
        let at = |step: u64| step * STEP / 4;
        for step in 1..=6 {
            times.note(step * 10, at(step), dir.as_fd(), c".t");
        }
        assert_eq!(records(&ground.path().join(".t")), [(40, at(4))]);
        assert_eq!(times.due(), Some(at(5) + STEP));
        times.flush_due(at(11), dir.as_fd(), c".t");
        assert_eq!(records(&ground.path().join(".t")), [(40, at(4)), (60, at(6))]);
        assert_eq!(times.due(), None);
    }

    #[test]
    fn output_that_was_cut_off_begins_an_index_anew() {
        let ground = tempfile::tempdir().unwrap();
        let dir = fs::File::open(ground.path()).unwrap();
        let mut times = Times::new(0);
        times.note(100, 5, dir.as_fd(), c".t");
        times.flush(dir.as_fd(), c".t");
        times.note(10, 2 * STEP, dir.as_fd(), c".t");
        times.flush(dir.as_fd(), c".t");
        assert_eq!(records(&ground.path().join(".t")), [(10, 2 * STEP)]);
    }

    #[test]
    fn a_record_that_can_not_be_written_is_due_again_later_and_not_at_once() {
        let ground = tempfile::tempdir().unwrap();
        let dir = fs::File::open(ground.path()).unwrap();
        fs::create_dir(ground.path().join(".t")).unwrap();
        let (mut times, late) = (Times::new(0), 9 * STEP);
        times.note(10, 1, dir.as_fd(), c".t");
        times.flush_due(late, dir.as_fd(), c".t");
        let due = times.due().unwrap();
        assert!(due > late, "{due}");
        // Nor at each write meanwhile.
        times.note(20, late + 1, dir.as_fd(), c".t");
        assert_eq!(times.due(), Some(due));
        fs::remove_dir(ground.path().join(".t")).unwrap();
        times.flush_due(due, dir.as_fd(), c".t");
        assert_eq!(records(&ground.path().join(".t")), [(20, late + 1)]);
        assert_eq!(times.due(), None);
    }

    #[test]
    fn an_index_goes_on_where_another_writer_stopped_and_gets_coarser_with_its_length() {
        let ground = tempfile::tempdir().unwrap();
        let dir = fs::File::open(ground.path()).unwrap();
        for (size, now) in [(10, 5), (20, 9)] {
            let mut times = Times::new(0);
            times.note(size, now, dir.as_fd(), c".t");
            times.flush(dir.as_fd(), c".t");
        }
        assert_eq!(records(&ground.path().join(".t")), [(10, 5), (20, 9)]);
        let long = Times { records: 10 * MANY, ..Times::new(0) };
        assert_eq!((Times::new(0).step(), long.step()), (STEP, WIDEST));
    }
}
