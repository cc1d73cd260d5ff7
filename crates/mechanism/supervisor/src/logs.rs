// SPDX-License-Identifier: Apache-2.0
//! Output that goes through the supervisor: from the container's pipes (or its terminal) into files, and to journald or a
//! program beside.
//!
//! ```text
//! pipe ──> room of 32 KiB ──> files, rotated: never waited for
//!                        └──> journald, or a program ── slow ──> a ring in a file; or lost; or the pipe is not read
//! ```
//! Whatever fails here is counted and said in the log, and in the file `loss` of the runtime directory; the container goes
//! on. Only [`Mode::Block`] holds it up, which somebody asked for by name, and only while there is a reader.

use crate::logging::{Driver, Logging, Mode, Strings};
use berth_logger::{Directory, Fields, Journald, Loss, Output, Policy, Priority, Spill, SpillFile, Writer};
use berth_sys::process::{Namespaces, Pointers, Side, SingleThreaded, execve, exit, fork};
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use berth_sys::rustix::fs::{MemfdFlags, Mode as Bits, OFlags, ftruncate, memfd_create, openat};
use berth_sys::rustix::io::{pwrite, read, write};
use berth_sys::rustix::pipe::{PipeFlags, pipe_with};
use berth_sys::rustix::process::{WaitId, WaitIdOptions, waitid};
use berth_sys::{Errno, Result, fd, memory, signal};
use core::ffi::CStr;
use core::fmt::Write as _;
use core::mem::MaybeUninit;

/// Where losses are told: `stdout file BYTES LINES ERRNO`, and so on.
const LOSS: &CStr = c"loss";
/// Bytes that are read at once.
const ROOM: usize = 32 << 10;
/// How much is read after the container's end: others may go on to write.
const LAST: u32 = 256;
/// How long is waited before what failed is tried again.
const SECOND: u64 = 1_000_000_000;
/// How often it is given a part then, whatever it says.
const TURNS: u32 = 4096;
/// How long who gets the output may take for a part of it after the end.
const PATIENCE: u64 = 2 * SECOND;
/// A ring of [`Mode::Block`]: what was read before the container was held up.
const HELD: u64 = 128 << 10;
const SIGPIPE: i32 = 13;
/// Arguments, and variables, that a program can have.
const TEXTS: usize = 64;
const TEXT: usize = 1024;

/// The output of one container.
pub(crate) struct Logs {
    begun: bool,
    streams: [Option<Stream>; 2],
    /// What was told of losses, and when to tell again.
    told: [u64; 4],
    tell: Option<u64>,
}

struct Stream {
    source: Option<OwnedFd>,
    files: Writer<Directory>,
    remote: Option<Spill<Remote, SpillFile>>,
    mode: Mode,
}

/// What comes with the configuration.
pub(crate) struct Given {
    /// The reading ends of what the container writes to; none with a terminal.
    pub(crate) sources: [Option<OwnedFd>; 2],
    /// Where the files have their other names.
    pub(crate) links: Option<OwnedFd>,
}

impl Logs {
    pub(crate) fn new() -> Logs {
        Logs { begun: false, streams: [const { None }; 2], told: [0; 4], tell: None }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.streams.iter().any(Option::is_some)
    }

    /// Begins. What can not be had is left out: the container is not kept from starting by its log.
    pub(crate) fn begin(
        &mut self,
        logging: &Logging<'_>,
        given: Given,
        work: &OwnedFd,
        proof: Option<&SingleThreaded>,
    ) {
        if core::mem::replace(&mut self.begun, true) {
            return;
        }
        let _ = signal::ignore(SIGPIPE);
        let names: [(&[u8], Priority); 2] = [(b"stdout", Priority::Info), (b"stderr", Priority::Error)];
        let Given { sources, links } = given;
        let parts = names.into_iter().zip(sources).zip(logging.streams);
        for (slot, (((name, priority), source), files)) in self.streams.iter_mut().zip(parts) {
            let Ok(dir) = fd::duplicate(work.as_fd()) else { continue };
            let links = links.as_ref().and_then(|links| fd::duplicate(links.as_fd()).ok());
            let Ok(directory) = Directory::new(dir, name, files.kept, 0o640, None) else { continue };
            let policy = if files.max == 0 { Policy::UNBOUNDED } else { Policy::rotating(files.max) };
            let remote = match logging.driver {
                Driver::Files => None,
                Driver::Journald => {
                    let fields = fields(logging.fields, priority);
                    // Not on the stack, where every container would have it.
                    let room = memory::bytes().ok();
                    room.map(|room| Remote::Journald(Journald::new(Journald::SOCKET, fields, room)))
                }
                Driver::Program => proof.and_then(|_| Program::new(logging, name)).map(Remote::Program),
            };
            let capacity = if logging.mode == Mode::Spill { logging.room } else { HELD };
            let remote = remote.and_then(|remote| {
                let writer = Writer::new(remote, Policy::UNBOUNDED, 0, true);
                Some(Spill::new(writer, SpillFile(ring(work).ok()?), capacity))
            });
            let files = Writer::new(directory.with_links(links), policy, 0, true);
            *slot = Some(Stream { source, files, remote, mode: logging.mode });
        }
    }

    /// The pipes, as far as they are to be read.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.streams.iter().enumerate().filter_map(|(index, stream)| {
            let stream = stream.as_ref().filter(|stream| !stream.holds())?;
            Some((index, stream.source.as_ref()?.as_fd()))
        })
    }

    /// Who is slow, and can be waited for.
    pub(crate) fn slow(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.streams.iter().enumerate().filter_map(|(index, stream)| {
            let remote = stream.as_ref()?.remote.as_ref().filter(|remote| !remote.is_empty())?;
            Some((index, remote.as_writer().as_output().descriptor()?))
        })
    }

    /// How long poll may take.
    pub(crate) fn patience(&self) -> Option<u64> {
        let due = |stream: &Stream| {
            let gone = stream.remote.as_ref().is_some_and(|remote| {
                !remote.is_empty() && remote.as_writer().as_output().descriptor().is_none()
            });
            let again = gone.then(|| berth_logger::now() + SECOND);
            crate::look::sooner(stream.files.as_output().due(), again)
        };
        let soonest = self.streams.iter().flatten().filter_map(due).min();
        let soonest = crate::look::sooner(soonest, self.tell)?;
        Some(soonest.saturating_sub(berth_logger::now()))
    }

    /// Reads what is in a pipe, once.
    pub(crate) fn draw(&mut self, index: usize, proof: Option<&SingleThreaded>) -> Drawn {
        let Some(stream) = &mut self.streams[index] else { return Drawn::End };
        let Some(source) = &stream.source else { return Drawn::End };
        // Not set to anything before: of a container that prints little, few pages are ever touched.
        let mut room = [MaybeUninit::uninit(); ROOM];
        match read(source, &mut room[..]) {
            Err(Errno::AGAIN | Errno::INTR) => Drawn::Nothing,
            Ok((data, _)) if !data.is_empty() => {
                stream.feed(data, proof);
                Drawn::Some
            }
            Ok(_) | Err(_) => {
                stream.source = None;
                Drawn::End
            }
        }
    }

    /// Takes what a terminal has printed. `false`: the log is not here.
    pub(crate) fn take(&mut self, data: &[u8], proof: Option<&SingleThreaded>) -> bool {
        match &mut self.streams[0] {
            Some(stream) => {
                stream.feed(data, proof);
                true
            }
            None => false,
        }
    }

    /// Whether a terminal is not to be read for now.
    pub(crate) fn holds(&self) -> bool {
        self.streams[0].as_ref().is_some_and(Stream::holds)
    }

    /// Who was slow has room.
    pub(crate) fn drain(&mut self, index: usize) {
        if let Some(remote) = self.streams[index].as_mut().and_then(|stream| stream.remote.as_mut()) {
            remote.drain();
        }
    }

    /// Does what is due by now: the indices, tries again, tells of losses.
    pub(crate) fn tend(&mut self, directory: Option<&OwnedFd>) {
        let now = berth_logger::now();
        for stream in self.streams.iter_mut().flatten() {
            stream.files.output().mark_due(now);
            if let Some(remote) = stream.remote.as_mut().filter(|remote| !remote.is_empty()) {
                remote.drain();
            }
        }
        if self.losses() != self.told {
            match self.tell {
                None => self.tell = Some(now + SECOND / 10),
                Some(at) if at <= now => self.tell_losses(directory),
                Some(_) => {}
            }
        }
    }

    /// The container has ended: what is still in its pipes, and what is still to be said.
    pub(crate) fn end(&mut self, directory: Option<&OwnedFd>, proof: Option<&SingleThreaded>) {
        for index in 0..self.streams.len() {
            for _ in 0..LAST {
                if self.draw(index, proof) != Drawn::Some {
                    break;
                }
                if self.streams[index].as_ref().is_some_and(Stream::holds) {
                    self.settle(index);
                }
            }
            self.settle(index);
        }
        for stream in self.streams.iter_mut().flatten() {
            if let Some(remote) = &mut stream.remote {
                if let Remote::Journald(journald) = remote.writer().output() {
                    let _ = journald.end();
                }
                remote.writer().settle();
            }
            stream.files.settle();
            stream.files.output().mark();
        }
        if self.losses() != self.told {
            self.tell_losses(directory);
        }
    }

    /// Waits for who is slow, as long as that goes on taking something.
    fn settle(&mut self, index: usize) {
        for _ in 0..TURNS {
            let ready = match self.slow().find(|(at, _)| *at == index) {
                Some((_, slow)) => matches!(wait(slow, PATIENCE), Ok(1..) | Err(Errno::INTR)),
                None => false,
            };
            if !ready {
                break;
            }
            self.drain(index);
        }
    }

    fn losses(&self) -> [u64; 4] {
        let mut all = [0; 4];
        for (at, stream) in self.streams.iter().enumerate() {
            let Some(stream) = stream else { continue };
            all[2 * at] = stream.files.lost().bytes;
            all[2 * at + 1] = stream.remote.as_ref().map_or(0, |remote| remote.as_writer().lost().bytes);
        }
        all
    }

    /// On tmpfs: there is room when the disk is full.
    fn tell_losses(&mut self, directory: Option<&OwnedFd>) {
        (self.told, self.tell) = (self.losses(), None);
        let Some(directory) = directory else { return };
        let mut text = Text { bytes: [0; 512], len: 0 };
        for (stream, name) in self.streams.iter().zip(["stdout", "stderr"]) {
            let Some(stream) = stream else { continue };
            let mut line = |what: &str, loss: Loss, why: Errno| {
                let _ = writeln!(text, "{name} {what} {} {} {}", loss.bytes, loss.lines, why.raw_os_error());
            };
            line("file", stream.files.lost(), stream.files.why());
            if let Some(remote) = &stream.remote {
                let writer = remote.as_writer();
                line(writer.as_output().name(), writer.lost(), writer.why());
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(file) = openat(directory, LOSS, flags, Bits::RUSR | Bits::WUSR) {
            // Numbers only grow, so that nothing of an older text is left.
            let _ = pwrite(&file, &text.bytes[..text.len], 0);
        }
    }
}

/// What came of reading a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drawn {
    Some,
    Nothing,
    End,
}

impl Stream {
    fn holds(&self) -> bool {
        self.mode == Mode::Block && self.remote.as_ref().is_some_and(|remote| !remote.is_empty())
    }

    fn feed(&mut self, data: &[u8], proof: Option<&SingleThreaded>) {
        self.files.feed(data);
        let Some(remote) = &mut self.remote else { return };
        if let (Remote::Program(program), Some(proof)) = (remote.writer().output(), proof) {
            program.start(proof);
        }
        match self.mode {
            Mode::Drop => remote.writer().feed(data),
            Mode::Block | Mode::Spill => remote.feed(data),
        }
    }
}

/// Who gets the output beside the files.
enum Remote {
    Journald(Journald<'static>),
    Program(Program),
}

impl Remote {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Remote::Journald(journald) => journald.socket(),
            Remote::Program(program) => program.pipe.as_ref().map(AsFd::as_fd),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Remote::Journald(_) => "journald",
            Remote::Program(_) => "program",
        }
    }
}

impl Output for Remote {
    fn write(&mut self, data: &[u8]) -> Result<usize> {
        match self {
            Remote::Journald(journald) => journald.write(data),
            Remote::Program(program) => program.write(data),
        }
    }
}

/// A program that reads a stream. One that ends is started again when there is something for it, once in a second.
struct Program {
    text: [u8; TEXT],
    arguments: usize,
    variables: usize,
    pipe: Option<OwnedFd>,
    pidfd: Option<OwnedFd>,
    again: u64,
}

impl Program {
    fn new(logging: &Logging<'_>, stream: &[u8]) -> Option<Program> {
        let mut program =
            Program { text: [0; TEXT], arguments: 0, variables: 0, pipe: None, pidfd: None, again: 0 };
        let parts = [logging.arguments.0, logging.variables.0, b"BERTH_STREAM=", stream, b"\0"];
        let mut at = 0;
        for part in parts {
            program.text.get_mut(at..at + part.len())?.copy_from_slice(part);
            at += part.len();
        }
        program.arguments = logging.arguments.0.len();
        program.variables = at - program.arguments;
        Some(program)
    }

    fn start(&mut self, proof: &SingleThreaded) {
        let now = berth_logger::now();
        if self.pipe.is_some() || now < self.again {
            return;
        }
        if let Some(before) = &self.pidfd {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if let Ok(None) = waitid(WaitId::PidFd(before.as_fd()), options) {
                // It reads no more, and goes on: one at a time.
                return;
            }
        }
        (self.again, self.pidfd) = (now + SECOND, None);
        let Ok((theirs, ours)) = pipe_with(PipeFlags::CLOEXEC) else { return };
        match fork(proof, Namespaces::from_bits(0)) {
            Ok(Side::Child) => {
                drop(ours);
                self.execute(&theirs)
            }
            Ok(Side::Parent(_, pidfd)) => {
                let flags = berth_sys::rustix::fs::fcntl_getfl(&ours).unwrap_or(OFlags::WRONLY);
                let _ = berth_sys::rustix::fs::fcntl_setfl(&ours, flags | OFlags::NONBLOCK);
                (self.pipe, self.pidfd) = (Some(ours), Some(pidfd));
            }
            Err(_) => {}
        }
    }

    /// In the new process. Nothing of the supervisor's stays open in it.
    fn execute(&self, stdin: &OwnedFd) -> ! {
        let run = || -> Result<Errno> {
            fd::place(stdin.as_fd(), 0)?;
            fd::close_from(3, fd::Fate::CloseOnExec)?;
            signal::reset_dispositions();
            signal::set_mask(signal::Set::NONE)?;
            let (arguments, rest) = self.text.split_at(self.arguments);
            let variables = Strings(&rest[..self.variables]);
            let (mut argv, mut envp) = ([0usize; TEXTS], [0usize; TEXTS]);
            let file = Strings(arguments).iter().next().ok_or(Errno::INVAL)?;
            let argv = Pointers::fill(&mut argv, Strings(arguments).iter())?;
            let envp = Pointers::fill(&mut envp, variables.iter())?;
            Ok(execve(file, argv, envp))
        };
        let _ = run();
        exit(127)
    }

    fn write(&mut self, data: &[u8]) -> Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(Errno::PIPE) };
        match write(pipe, data) {
            Err(Errno::PIPE) => {
                self.pipe = None;
                Err(Errno::PIPE)
            }
            other => other,
        }
    }
}

/// A file without a name.
fn ring(work: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = openat(work, c".", flags, Bits::RUSR | Bits::WUSR);
    file.or_else(|_| {
        let file = memfd_create(c"berth-log", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, 0)?;
        Ok(file)
    })
}

fn fields(text: &[u8], priority: Priority) -> Fields {
    let mut fields = Fields::new(priority);
    for line in text.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else { continue };
        if let Ok(name) = core::str::from_utf8(&line[..at]) {
            // One that does not fit is left out.
            let _ = fields.add(name, &line[at + 1..]);
        }
    }
    fields
}

fn wait(slow: BorrowedFd<'_>, nanoseconds: u64) -> Result<usize> {
    let time: Timespec = crate::look::timespec(nanoseconds);
    poll(&mut [PollFd::from_borrowed_fd(slow, PollFlags::OUT)], Some(&time))
}

struct Text {
    bytes: [u8; 512],
    len: usize,
}

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}
