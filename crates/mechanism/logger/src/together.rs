// SPDX-License-Identifier: Apache-2.0
//! Several streams of one container, read as one: what was written earlier comes first, as far as times are known.

use std::io;

use crate::read::{Piece, Reader};

/// The most that is read at once.
const PIECE: usize = 64 * 1024;

/// Which part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    /// From this place of the stream on.
    pub since: Option<u64>,
    /// Only the last so many lines, of all streams together.
    pub tail: Option<u64>,
    /// Only what was written then or later, in nanoseconds since 1970.
    pub since_time: Option<u64>,
    /// Only what was written before.
    pub until_time: Option<u64>,
    /// What comes later, too.
    pub follow: bool,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<S> {
    /// Of which stream.
    pub stream: S,
    /// Where it begins in that.
    pub offset: u64,
    /// By when it was written, in nanoseconds since 1970. None: what was before it is gone, and `data` is empty.
    pub time: Option<u64>,
    /// What was written.
    pub data: Vec<u8>,
}

/// Streams, each with its name.
#[derive(Debug)]
pub struct Together<S> {
    logs: Vec<Log<S>>,
}

#[derive(Debug)]
struct Log<S> {
    stream: S,
    reader: Reader,
    until: Option<u64>,
    until_time: u64,
    /// What was read and is not given yet.
    next: Option<Chunk<S>>,
    done: bool,
}

impl<S: Copy> Together<S> {
    /// The part of each that is wanted.
    ///
    /// # Errors
    /// A file can not be read.
    pub fn new(readers: impl IntoIterator<Item = (S, Reader)>, range: Range) -> io::Result<Together<S>> {
        let mut logs = Vec::new();
        for (stream, mut reader) in readers {
            if let Some(time) = range.since_time {
                reader.seek_time(time)?;
            }
            match (range.tail, range.since) {
                (Some(lines), _) => reader.seek_tail(lines)?,
                (None, Some(since)) => reader.seek(since),
                (None, None) => {}
            }
            let until = if range.follow { None } else { Some(reader.end()?) };
            let until_time = range.until_time.unwrap_or(u64::MAX);
            logs.push(Log { stream, reader, until, until_time, next: None, done: false });
        }
        let mut together = Together { logs };
        if let Some(lines) = range.tail {
            together.leave_last(lines)?;
        }
        Ok(together)
    }

    /// Leaves, of the last lines of each stream, the last of all: those that end last. A last line without an end is one, too,
    /// and is not left out for one that has ended.
    fn leave_last(&mut self, lines: u64) -> io::Result<()> {
        if self.logs.len() < 2 {
            return Ok(());
        }
        let wanted: Vec<Option<u64>> = self.logs.iter().map(|log| log.until).collect();
        let mut begins: Vec<(u64, bool)> = self.logs.iter().map(|log| log.reader.mark()).collect();
        for log in &mut self.logs {
            log.until = Some(log.reader.end()?);
        }
        let (mut ended, mut open) = (0u64, vec![false; begins.len()]);
        while let Some((at, chunk)) = self.next_of()? {
            ended += chunk.data.iter().filter(|byte| **byte == b'\n').count() as u64;
            open[at] = chunk.data.last().map_or(open[at], |byte| *byte != b'\n');
        }
        let all = ended + open.iter().filter(|open| **open).count() as u64;
        let mut too_many = all.saturating_sub(lines).min(ended);
        self.begin_at(&begins);
        while too_many > 0
            && let Some((at, chunk)) = self.next_of()?
        {
            for (byte, end) in chunk.data.iter().zip(chunk.offset + 1..) {
                if *byte == b'\n' && too_many > 0 {
                    (begins[at], too_many) = ((end, false), too_many - 1);
                }
            }
        }
        self.begin_at(&begins);
        for (log, until) in self.logs.iter_mut().zip(wanted) {
            log.until = until;
        }
        Ok(())
    }

    fn begin_at(&mut self, places: &[(u64, bool)]) {
        for (log, place) in self.logs.iter_mut().zip(places) {
            log.reader.back(*place);
            (log.next, log.done) = (None, false);
        }
    }

    /// What is next; nothing when no more is there now.
    ///
    /// # Errors
    /// A file can not be read.
    #[expect(clippy::should_implement_trait, reason = "after nothing there may be more")]
    pub fn next(&mut self) -> io::Result<Option<Chunk<S>>> {
        Ok(self.next_of()?.map(|(_, chunk)| chunk))
    }

    /// The same, with the number of its stream.
    fn next_of(&mut self) -> io::Result<Option<(usize, Chunk<S>)>> {
        for log in self.logs.iter_mut().filter(|log| log.next.is_none() && !log.done) {
            log.next = log.read()?;
        }
        let waiting = self.logs.iter_mut().enumerate().filter(|(_, log)| log.next.is_some());
        let first = waiting.min_by_key(|(_, log)| log.next.as_ref().and_then(|next| next.time));
        Ok(first.and_then(|(at, log)| Some((at, log.next.take()?))))
    }

    /// Whether nothing more can come that is wanted.
    pub fn is_done(&self) -> bool {
        self.logs.iter().all(|log| log.done)
    }

    /// What is read just now, to be watched.
    pub fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.logs.iter().map(|log| &log.reader)
    }
}

impl<S: Copy> Log<S> {
    fn read(&mut self) -> io::Result<Option<Chunk<S>>> {
        let most = self.until.map_or(PIECE as u64, |until| until.saturating_sub(self.reader.position()));
        if most == 0 {
            return Ok(None);
        }
        let stream = self.stream;
        let mut data = vec![0; usize::try_from(most).unwrap_or(PIECE).min(PIECE)];
        Ok(match self.reader.read(&mut data)? {
            Piece::Nothing => None,
            Piece::Missed(offset) => Some(Chunk { stream, offset, time: None, data: Vec::new() }),
            Piece::Data { time, .. } if time >= self.until_time => {
                self.done = true;
                None
            }
            Piece::Data { offset, length, time } => {
                data.truncate(length);
                Some(Chunk { stream, offset, time: Some(time), data })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Directory, Policy, Writer};
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn the_last_lines_of_streams_without_times_are_as_many_as_were_asked_for() {
        let ground = tempfile::tempdir().unwrap();
        let read = |tail| {
            let open = || File::open(ground.path()).unwrap().into();
            let readers = ["a", "b", "none"].map(|name| (name, Reader::new(open(), None, name)));
            let range = Range { tail: Some(tail), ..Range::default() };
            let mut together = Together::new(readers, range).unwrap();
            let mut text = String::new();
            while let Some(chunk) = together.next().unwrap() {
                text.push_str(std::str::from_utf8(&chunk.data).unwrap());
            }
            text
        };
        std::fs::write(ground.path().join("a"), "1\n2\n3\n").unwrap();
        std::fs::write(ground.path().join("b"), "4\n5\n").unwrap();
        // Both were written in the same moment, for all that is known.
        let moment = std::time::SystemTime::now();
        for name in ["a", "b"] {
            File::options().write(true).open(ground.path().join(name)).unwrap().set_modified(moment).unwrap();
        }
        assert_eq!([read(1), read(2), read(3), read(9)], ["5\n", "4\n5\n", "3\n4\n5\n", "1\n2\n3\n4\n5\n"]);
    }

    #[test]
    fn streams_are_told_in_the_order_of_their_times_and_within_a_range_of_them() {
        let ground = tempfile::tempdir().unwrap();
        let open = || File::open(ground.path()).unwrap().into();
        let mut writers: Vec<_> = ["a", "b"]
            .map(|name| {
                let directory = Directory::new(open(), name.as_bytes(), 1, 0o640, None).unwrap();
                Writer::new(directory, Policy::UNBOUNDED, 0, true)
            })
            .into();
        let mut moments = Vec::new();
        for number in 0..6 {
            moments.push(crate::now());
            writers[number % 2].feed(format!("{number}\n").as_bytes());
            std::thread::sleep(Duration::from_millis(25));
        }
        writers.iter_mut().for_each(|writer| writer.output().mark());
        let read = |range: Range| {
            let readers = ["a", "b"].map(|name| (name, Reader::new(open(), None, name)));
            let mut together = Together::new(readers, range).unwrap();
            let mut text = String::new();
            while let Some(chunk) = together.next().unwrap() {
                text.push_str(std::str::from_utf8(&chunk.data).unwrap());
            }
            assert!(!text.contains("\n\n") && !text.starts_with('\n'), "{text:?}");
            text.replace('\n', "")
        };
        assert_eq!(read(Range::default()), "012345");
        assert_eq!(read(Range { since_time: Some(moments[2]), ..Range::default() }), "2345");
        let (since_time, until_time) = (Some(moments[1]), Some(moments[4]));
        assert_eq!(read(Range { since_time, until_time, ..Range::default() }), "123");
        assert_eq!(read(Range { tail: Some(1), follow: true, ..Range::default() }), "5");
        assert_eq!(read(Range { tail: Some(3), ..Range::default() }), "345");
        assert_eq!(read(Range { tail: Some(0), ..Range::default() }), "");
        // A line that has not ended is one, and is not left out for one that has.
        writers[0].feed(b"6");
        writers[0].output().mark();
        assert_eq!(read(Range { tail: Some(2), ..Range::default() }), "56");
        assert_eq!(read(Range { since_time, tail: Some(9), ..Range::default() }), "123456");
        assert_eq!(read(Range { since_time, tail: Some(5), ..Range::default() }), "23456");
    }
}
