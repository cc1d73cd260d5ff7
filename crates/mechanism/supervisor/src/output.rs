// SPDX-License-Identifier: Apache-2.0
//! Where a terminal's output goes beside its log: to the sink of a session, which loses nothing and so holds the terminal
//! back, and to readers that attached themselves, who lose what they do not read in time. (A container's pace is not in
//! the hands of who happens to watch it; the log has everything.)

use crate::chunk::Chunk;
use crate::protocol::refusal;
use berth_sys::Errno;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use berth_sys::rustix::io::write;

/// How many may be attached at once.
pub(crate) const READERS: usize = 8;

/// How long a session's sink may take to make room after the session has ended.
const DRAIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

pub(crate) struct Sinks {
    sink: Option<OwnedFd>,
    readers: [Option<OwnedFd>; READERS],
}

impl Sinks {
    pub(crate) const NONE: Sinks = Sinks { sink: None, readers: [const { None }; READERS] };

    pub(crate) fn is_empty(&self) -> bool {
        self.sink.is_none() && self.readers.iter().all(Option::is_none)
    }

    /// The session's own.
    pub(crate) fn hold(&mut self, sink: Option<OwnedFd>) {
        self.sink = sink;
    }

    pub(crate) fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.sink.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn readers(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.readers.iter().enumerate().filter_map(|(i, reader)| Some((i, reader.as_ref()?.as_fd())))
    }

    /// One more reader; the reason when there can not be one.
    pub(crate) fn add(&mut self, reader: OwnedFd) -> Result<(), u32> {
        // Those that left since the last poll make room.
        for slot in &mut self.readers {
            if slot.as_ref().is_some_and(has_left) {
                *slot = None;
            }
        }
        let free = self.readers.iter_mut().find(|slot| slot.is_none()).ok_or(refusal::FULL)?;
        *free = Some(reader);
        Ok(())
    }

    pub(crate) fn gone(&mut self, reader: usize) {
        self.readers[reader] = None;
    }

    /// Writes output to all. What the sink has no room for goes to `pending`.
    pub(crate) fn write(&mut self, data: &[u8], pending: &mut Chunk) {
        for slot in &mut self.readers {
            if let Some(reader) = slot
                && let Err(e) = write(&*reader, data)
                && e != Errno::AGAIN
            {
                *slot = None;
            }
        }
        let Some(sink) = &self.sink else { return };
        match write(sink, data) {
            Ok(n) if n == data.len() => {}
            Ok(n) => pending.fill(&data[n..]),
            Err(Errno::AGAIN | Errno::INTR) => pending.fill(data),
            Err(_) => self.sink = None,
        }
    }

    /// The sink has room, or has left.
    pub(crate) fn send_pending(&mut self, pending: &mut Chunk, flags: PollFlags) {
        let Some(sink) = &self.sink else { return };
        if flags.contains(PollFlags::OUT) && !pending.is_empty() {
            match write(sink, pending.bytes()) {
                Ok(n) => return pending.took(n),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => {}
            }
        }
        self.sink = None;
        pending.clear();
    }

    /// Waits for the sink to take what is pending, as long as it goes on reading.
    pub(crate) fn flush(&mut self, pending: &mut Chunk) {
        while let Some(sink) = &self.sink
            && !pending.is_empty()
        {
            let mut slot = [PollFd::new(sink, PollFlags::OUT)];
            let flags = match poll(&mut slot, Some(&DRAIN)) {
                Ok(1..) => slot[0].revents(),
                Err(Errno::INTR) => continue,
                Ok(0) | Err(_) => PollFlags::ERR,
            };
            self.send_pending(pending, flags);
        }
    }

    /// The terminal's output has ended: who reads to the end finds it. The sink stays while something is pending.
    pub(crate) fn end(&mut self, pending: &Chunk) {
        self.readers = [const { None }; READERS];
        if pending.is_empty() {
            self.sink = None;
        }
    }
}

fn has_left(reader: &OwnedFd) -> bool {
    let mut slot = [PollFd::new(reader, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut slot, Some(&at_once)), Ok(1..))
}

#[cfg(all(test, feature = "encode"))]
mod tests {
    use super::*;
    use crate::protocol::DATA;
    use berth_sys::rustix::io::read;
    use berth_sys::rustix::pipe::{PipeFlags, pipe_with};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe")
    }

    fn taken(reads: &OwnedFd) -> usize {
        let mut room = [0; 8192];
        let mut all = 0;
        while let Ok(n @ 1..) = read(reads, &mut room) {
            all += n;
        }
        all
    }

    #[test]
    fn a_sink_loses_nothing_and_a_reader_what_it_has_no_room_for() {
        let ((sink_reads, sink), (reader_reads, reader)) = (pipe(), pipe());
        let mut sinks = Sinks::NONE;
        let mut pending = Chunk::EMPTY;
        sinks.hold(Some(sink));
        sinks.add(reader).unwrap();
        let (mut written, mut from_sink) = (0, 0);
        for _ in 0..64 {
            sinks.write(&[1; DATA], &mut pending);
            written += DATA;
            // The caller does not come again while something is pending.
            if !pending.is_empty() {
                from_sink += taken(&sink_reads);
                sinks.send_pending(&mut pending, PollFlags::OUT);
                assert!(pending.is_empty());
            }
        }
        from_sink += taken(&sink_reads);
        assert_eq!(from_sink, written);
        let from_reader = taken(&reader_reads);
        assert!(from_reader > 0 && from_reader < written, "{from_reader}");
        sinks.end(&pending);
        assert!(sinks.is_empty());
    }

    #[test]
    fn whoever_left_makes_room_for_another() {
        let mut sinks = Sinks::NONE;
        let mut held: Vec<OwnedFd> = (0..READERS)
            .map(|_| {
                let (reads, writes) = pipe();
                sinks.add(writes).unwrap();
                reads
            })
            .collect();
        assert_eq!(sinks.add(pipe().1), Err(refusal::FULL));
        held.pop();
        assert_eq!(sinks.add(pipe().1), Ok(()));
    }

    #[test]
    fn a_sink_that_left_holds_nothing_back() {
        let (reads, sink) = pipe();
        let mut sinks = Sinks::NONE;
        let mut pending = Chunk::EMPTY;
        sinks.hold(Some(sink));
        while pending.is_empty() {
            sinks.write(&[1; DATA], &mut pending);
        }
        drop(reads);
        sinks.flush(&mut pending);
        assert!(sinks.is_empty() && pending.is_empty());
    }
}
