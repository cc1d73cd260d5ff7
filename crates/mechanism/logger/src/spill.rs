// SPDX-License-Identifier: Apache-2.0
//! Room for output whose reader is slow for a while: a ring of bounded size, in a file.
//!
//! Order is kept: as long as something is in the ring, all that comes goes there. When it is full, output is lost and
//! counted until the ring is empty again; then the line that says so is written, and things go on.

use berth_sys::Errno;
use berth_sys::rustix::fd::OwnedFd;
use berth_sys::rustix::io::{pread, pwrite};

use crate::writer::{Output, Writer};

/// Where the ring is.
pub trait Store {
    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// It can not, and what is there now is not used.
    fn put(&mut self, data: &[u8], offset: u64) -> Result<(), Errno>;

    /// Fills `data` from `offset` on.
    ///
    /// # Errors
    /// It can not.
    fn get(&mut self, data: &mut [u8], offset: u64) -> Result<(), Errno>;
}

/// A ring in a file of its own (without a name: `O_TMPFILE` or a memory file).
#[derive(Debug)]
pub struct SpillFile(pub OwnedFd);

impl Store for SpillFile {
    fn put(&mut self, mut data: &[u8], mut offset: u64) -> Result<(), Errno> {
        while !data.is_empty() {
            match pwrite(&self.0, data, offset) {
                Err(Errno::INTR) => {}
                Ok(0) => return Err(Errno::NOSPC),
                Ok(count) => (data, offset) = (&data[count..], offset + count as u64),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn get(&mut self, mut data: &mut [u8], mut offset: u64) -> Result<(), Errno> {
        while !data.is_empty() {
            match pread(&self.0, &mut *data, offset) {
                Err(Errno::INTR) => {}
                Ok(0) => return Err(Errno::IO),
                Ok(count) => (data, offset) = (&mut data[count..], offset + count as u64),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A writer with a ring in front of it.
#[derive(Debug)]
pub struct Spill<O, S> {
    writer: Writer<O>,
    store: S,
    capacity: u64,
    /// Where the oldest byte is, and how many there are.
    first: u64,
    held: u64,
}

/// Bytes moved at once out of the ring.
const PIECE: usize = 4096;

impl<O: Output, S: Store> Spill<O, S> {
    /// A ring of `capacity` bytes, at least one.
    pub fn new(writer: Writer<O>, store: S, capacity: u64) -> Spill<O, S> {
        Spill { writer, store, capacity: capacity.max(1), first: 0, held: 0 }
    }

    /// Takes all of `data`: to the output, into the ring, or into the count of what is lost.
    pub fn feed(&mut self, data: &[u8]) {
        self.drain();
        let taken = match self.is_empty() {
            true => self.writer.offer(data),
            false => 0,
        };
        let rest = &data[taken..];
        if rest.is_empty() {
            return;
        }
        // What comes after something that is missing can not be kept: the line about it would come too late.
        let room = if self.writer.is_lossy() { 0 } else { self.capacity - self.held };
        let fits = match usize::try_from(room) {
            Ok(room) if room < rest.len() => {
                rest[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
            }
            _ => rest.len(),
        };
        let (kept, lost) = rest.split_at(fits);
        match self.push(kept) {
            Ok(()) if lost.is_empty() => {}
            Ok(()) => self.writer.lose(lost, Errno::AGAIN),
            Err(error) => self.writer.lose(rest, error),
        }
    }

    /// Moves what the output takes out of the ring: when it can be written to.
    pub fn drain(&mut self) {
        let mut piece = [0; PIECE];
        while self.held > 0 {
            let count = self.held.min(self.capacity - self.first).min(PIECE as u64) as usize;
            let piece = &mut piece[..count];
            let taken = match self.store.get(piece, self.first) {
                Ok(()) => self.writer.pass(piece),
                // The ring itself is lost, and that is said.
                Err(error) => {
                    self.writer.lose_count(self.held, error);
                    (self.first, self.held) = (0, 0);
                    return;
                }
            };
            self.first = (self.first + taken as u64) % self.capacity;
            self.held -= taken as u64;
            if taken < count {
                return;
            }
        }
        self.first = 0;
        self.writer.settle();
    }

    /// Whether nothing waits: otherwise call [`Spill::drain`] when the output can be written to.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// What it writes to.
    pub fn writer(&mut self) -> &mut Writer<O> {
        &mut self.writer
    }

    /// The same, to be looked at.
    pub fn as_writer(&self) -> &Writer<O> {
        &self.writer
    }

    fn push(&mut self, data: &[u8]) -> Result<(), Errno> {
        let start = (self.first + self.held) % self.capacity;
        let until_end = usize::try_from(self.capacity - start).unwrap_or(usize::MAX).min(data.len());
        self.store.put(&data[..until_end], start)?;
        self.store.put(&data[until_end..], 0)?;
        self.held += data.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Loss;
    use crate::writer::Policy;
    use proptest::prelude::*;

    struct Vector(Vec<u8>);

    impl Store for Vector {
        fn put(&mut self, data: &[u8], offset: u64) -> Result<(), Errno> {
            let at = offset as usize;
            self.0[at..at + data.len()].copy_from_slice(data);
            Ok(())
        }

        fn get(&mut self, data: &mut [u8], offset: u64) -> Result<(), Errno> {
            let at = offset as usize;
            data.copy_from_slice(&self.0[at..at + data.len()]);
            Ok(())
        }
    }

    /// Takes so many bytes and then has to be waited for.
    #[derive(Default)]
    struct Slow {
        room: usize,
        text: Vec<u8>,
    }

    impl Output for Slow {
        fn write(&mut self, data: &[u8]) -> Result<usize, Errno> {
            let count = data.len().min(self.room);
            if count == 0 {
                return Err(Errno::AGAIN);
            }
            self.room -= count;
            self.text.extend_from_slice(&data[..count]);
            Ok(count)
        }
    }

    fn spill(capacity: usize) -> Spill<Slow, Vector> {
        let writer = Writer::new(Slow::default(), Policy::UNBOUNDED, 0, true);
        Spill::new(writer, Vector(vec![0; capacity]), capacity as u64)
    }

    #[test]
    fn a_slow_reader_gets_everything_in_order() {
        let mut spill = spill(32);
        for round in 0..20 {
            spill.feed(format!("line {round}\n").as_bytes());
            spill.writer().output().room = 11;
            spill.drain();
        }
        spill.writer().output().room = usize::MAX;
        spill.drain();
        let expected: String = (0..20).map(|round| format!("line {round}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&spill.writer().output().text), expected);
        assert_eq!(spill.writer().lost(), Loss::default());
    }

    #[test]
    fn more_than_fits_is_lost_by_whole_lines_and_said_in_its_place() {
        let mut spill = spill(16);
        spill.feed(b"one\ntwo\nthree\nfour\n");
        spill.feed(b"five\n");
        spill.writer().output().room = usize::MAX;
        spill.drain();
        spill.feed(b"six\n");
        let text = String::from_utf8_lossy(&spill.writer().output().text).into_owned();
        let expected = "one\ntwo\nthree\n[berth] 10 bytes of output (2 line ends) are missing here: \
                        its reader was too slow\nsix\n";
        assert_eq!(text, expected);
    }

    proptest! {
        #[test]
        fn lines_arrive_whole_and_in_order_or_are_counted(
            steps in prop::collection::vec((prop::collection::vec(prop_oneof![3 => Just(b'X'), 1 => Just(b'\n')], 0..30), 0..40usize), 0..60),
            capacity in 1..80usize,
        ) {
            let mut spill = spill(capacity);
            let mut all = Vec::new();
            for (chunk, room) in &steps {
                all.extend_from_slice(chunk);
                spill.feed(chunk);
                spill.writer().output().room = *room;
                spill.drain();
            }
            spill.writer().output().room = usize::MAX;
            spill.drain();
            let lost = spill.writer().lost();
            let text = String::from_utf8(std::mem::take(&mut spill.writer().output().text)).unwrap();
            let letters = |text: &[u8]| text.iter().filter(|byte| **byte == b'X').count();
            let kept: usize = text.lines().filter(|line| !line.starts_with("[berth]")).map(|line| letters(line.as_bytes())).sum();
            prop_assert_eq!(kept + (lost.bytes - lost.lines) as usize, letters(&all), "{}", text);
            if lost == Loss::default() {
                prop_assert_eq!(text.as_bytes(), all);
            }
        }
    }
}
