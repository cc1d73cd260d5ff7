// SPDX-License-Identifier: Apache-2.0
//! What the program reads: from one writer at a time, into its terminal or into a pipe whose writing end is kept here.
//! So its end of input is not the end of whoever writes: an agent that goes away takes no container's input with it.
//!
//! ```text
//! owner, or a client ── messages ──┐
//!                                  ├─> one chunk ──> terminal, or pipe
//! a descriptor that a client sent ─┘
//! ```
//! Nothing is read from a writer while the chunk has not gone on, so the program's pace is the writer's.

use crate::chunk::Chunk;
use crate::protocol::{DATA, refusal};
use berth_sys::Errno;
use berth_sys::rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use berth_sys::rustix::io::{read, write};

/// How much more is read at once after the end was asked for, in messages.
const TURNS: usize = 64;

pub(crate) struct Input {
    /// The pipe, when there is no terminal; none once it has ended.
    pipe: Option<OwnedFd>,
    writer: Writer,
    /// Its end was asked for, and comes when all that was written before has gone on.
    ending: bool,
    chunk: Chunk,
}

enum Writer {
    Nobody,
    /// By messages.
    Client(usize),
    /// By a descriptor.
    Source(OwnedFd),
}

impl Input {
    pub(crate) const NONE: Input =
        Input { pipe: None, writer: Writer::Nobody, ending: false, chunk: Chunk::EMPTY };

    /// The program reads this pipe.
    pub(crate) fn set_pipe(&mut self, pipe: Option<OwnedFd>) {
        self.pipe = pipe;
    }

    /// Somebody writes into this from the beginning.
    pub(crate) fn begin(&mut self, source: Option<OwnedFd>) {
        if let Some(source) = source {
            self.writer = Writer::Source(source);
        }
    }

    /// Nothing is on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.chunk.is_empty() && !self.ending && !matches!(self.writer, Writer::Source(_))
    }

    /// Whether something waits for room.
    pub(crate) fn waits(&self) -> bool {
        !self.chunk.is_empty()
    }

    /// The pipe, for poll.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// The writer's descriptor, for poll, as long as there is room for what comes from it.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.writer {
            Writer::Source(source) if self.chunk.is_empty() => Some(source.as_fd()),
            _ => None,
        }
    }

    /// Whether messages of that client have to wait.
    pub(crate) fn holds(&self, client: usize) -> bool {
        !self.chunk.is_empty() && matches!(self.writer, Writer::Client(writer) if writer == client)
    }

    /// A client is gone, and so is what it may have written.
    pub(crate) fn gone(&mut self, client: usize) {
        if matches!(self.writer, Writer::Client(writer) if writer == client) {
            self.writer = Writer::Nobody;
        }
    }

    /// A message from a client; the reason when it is refused.
    pub(crate) fn hear(&mut self, client: usize, data: &[u8], terminal: Option<&OwnedFd>) -> Result<(), u32> {
        match self.writer {
            Writer::Nobody if self.chunk.is_empty() => self.writer = Writer::Client(client),
            Writer::Client(writer) if writer == client && self.chunk.is_empty() => {}
            _ => return Err(refusal::ANOTHER_WRITES),
        }
        if data.is_empty() {
            self.end(terminal);
            return Ok(());
        }
        if self.target(terminal).is_none() {
            return Err(refusal::NOT_READ);
        }
        self.chunk.fill(data);
        self.feed(terminal);
        Ok(())
    }

    /// A descriptor from a client; the reason when it is refused.
    pub(crate) fn attach(&mut self, source: OwnedFd, terminal: Option<&OwnedFd>) -> Result<(), u32> {
        if self.ending || self.target(terminal).is_none() {
            return Err(refusal::NOT_READ);
        }
        // What was closed at its other end is not seen before it is polled.
        self.draw(terminal);
        if !matches!(self.writer, Writer::Nobody) {
            return Err(refusal::ANOTHER_WRITES);
        }
        self.writer = Writer::Source(source);
        Ok(())
    }

    /// The end of the input; a terminal has none.
    pub(crate) fn end(&mut self, terminal: Option<&OwnedFd>) {
        if self.pipe.is_some() {
            self.ending = true;
            self.settle(terminal);
        }
    }

    /// Writes what waits.
    pub(crate) fn feed(&mut self, terminal: Option<&OwnedFd>) {
        self.push(terminal);
        self.settle(terminal);
    }

    /// Takes what the writer's descriptor has.
    pub(crate) fn draw(&mut self, terminal: Option<&OwnedFd>) {
        if self.take() {
            self.push(terminal);
        }
        self.settle(terminal);
    }

    /// Nobody reads any more: who writes is to know.
    pub(crate) fn lost(&mut self) {
        self.chunk.clear();
        self.pipe = None;
        self.ending = false;
        if matches!(self.writer, Writer::Source(_)) {
            self.writer = Writer::Nobody;
        }
    }

    /// Closes the pipe if that was asked, and all that was written before has gone on.
    fn settle(&mut self, terminal: Option<&OwnedFd>) {
        // Whoever goes on writing after its end is looked at again later.
        for _ in 0..TURNS {
            if !self.ending || !self.chunk.is_empty() {
                return;
            }
            if self.take() {
                self.push(terminal);
                continue;
            }
            self.lost();
        }
    }

    /// Reads from the writer's descriptor into the chunk; `false` when there is nothing, or no room.
    fn take(&mut self) -> bool {
        let Writer::Source(source) = &self.writer else { return false };
        if !self.chunk.is_empty() {
            return false;
        }
        let mut data = [0u8; DATA];
        match read(source, &mut data) {
            Ok(n @ 1..) => {
                self.chunk.fill(&data[..n]);
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Ok(_) | Err(_) => {}
        }
        self.writer = Writer::Nobody;
        false
    }

    fn push(&mut self, terminal: Option<&OwnedFd>) {
        let result = match self.target(terminal) {
            Some(target) => write(target, self.chunk.bytes()),
            None => Err(Errno::PIPE),
        };
        match result {
            Ok(n) => self.chunk.took(n),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.lost(),
        }
    }

    fn target<'a>(&'a self, terminal: Option<&'a OwnedFd>) -> Option<BorrowedFd<'a>> {
        self.pipe.as_ref().or(terminal).map(AsFd::as_fd)
    }
}

#[cfg(all(test, feature = "encode"))]
mod tests {
    use super::*;
    use berth_sys::rustix::pipe::{PipeFlags, pipe_with};

    /// A pipe that never waits: its reading and its writing end.
    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe")
    }

    fn input() -> (Input, OwnedFd) {
        let (program, pipe) = pipe();
        let mut input = Input::NONE;
        input.set_pipe(Some(pipe));
        (input, program)
    }

    /// What the program reads now; `None` at its end.
    fn program_reads(program: &OwnedFd) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        let mut room = [0; 8192];
        loop {
            match read(program, &mut room) {
                Ok(0) if all.is_empty() => return None,
                Ok(0) | Err(Errno::AGAIN) => return Some(all),
                Ok(n) => all.extend_from_slice(&room[..n]),
                Err(e) => panic!("{e}"),
            }
        }
    }

    #[test]
    fn a_writer_that_goes_leaves_the_input_open_for_the_next() {
        let (mut input, program) = input();
        for text in [b"one", b"two"] {
            let (source, writer) = pipe();
            assert_eq!(input.attach(source, None), Ok(()));
            assert_eq!(input.attach(pipe().0, None), Err(refusal::ANOTHER_WRITES));
            assert_eq!(input.hear(0, b"x", None), Err(refusal::ANOTHER_WRITES));
            write(&writer, text).unwrap();
            drop(writer);
            input.draw(None);
            assert_eq!(program_reads(&program).unwrap(), text);
        }
        input.end(None);
        assert_eq!(program_reads(&program), None);
        assert_eq!(input.attach(pipe().0, None), Err(refusal::NOT_READ));
        assert_eq!(input.hear(0, b"x", None), Err(refusal::NOT_READ));
    }

    #[test]
    fn the_end_comes_after_all_that_was_written_before_it() {
        let (mut input, program) = input();
        let (source, writer) = pipe();
        input.attach(source, None).unwrap();
        // As much as a pipe takes, so that the program's own is full before the end can come.
        let mut written = 0;
        while let Ok(n) = write(&writer, &[7; 4096]) {
            written += n;
            input.draw(None);
        }
        assert!(input.waits());
        input.end(None);
        let mut read = 0;
        while let Some(bytes) = program_reads(&program) {
            read += bytes.len();
            input.feed(None);
        }
        assert_eq!(read, written);
        assert_eq!(write(&writer, b"late"), Err(Errno::PIPE));
    }

    #[test]
    fn a_program_that_reads_no_more_is_told_to_the_writer() {
        let (mut input, program) = input();
        let (source, writer) = pipe();
        input.attach(source, None).unwrap();
        drop(program);
        write(&writer, b"lost").unwrap();
        input.draw(None);
        assert_eq!(write(&writer, b"more"), Err(Errno::PIPE));
        assert!(input.is_quiet());
    }

    #[test]
    fn messages_wait_while_there_is_no_room_and_an_empty_one_is_the_end() {
        let (mut input, program) = input();
        while !input.waits() {
            assert_eq!(input.hear(3, &[1; DATA], None), Ok(()));
        }
        assert!(input.holds(3) && !input.holds(2));
        program_reads(&program).unwrap();
        input.feed(None);
        assert!(!input.holds(3));
        input.gone(3);
        assert_eq!(input.hear(2, b"next", None), Ok(()));
        assert_eq!(input.hear(2, b"", None), Ok(()));
        assert!(program_reads(&program).unwrap().ends_with(b"next"));
        assert_eq!(program_reads(&program), None);
    }

    #[test]
    fn a_terminal_takes_input_and_has_no_end() {
        let (reads, terminal) = pipe();
        let mut input = Input::NONE;
        let (source, writer) = pipe();
        assert_eq!(input.attach(source, Some(&terminal)), Ok(()));
        write(&writer, b"typed").unwrap();
        input.draw(Some(&terminal));
        input.end(Some(&terminal));
        write(&writer, b" on").unwrap();
        input.draw(Some(&terminal));
        assert_eq!(program_reads(&reads).unwrap(), b"typed on");
    }
}
