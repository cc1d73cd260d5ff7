// SPDX-License-Identifier: Apache-2.0
//! The owner's loop while a container runs: its output to ours, our input to it, signals on, the terminal's size.
//!
//! Without a terminal the container writes its output files itself; we follow them (inotify(7)) and copy. With one, the
//! supervisor keeps the master and sends what it reads.

use crate::exit::Failure;
use crate::terminal;
use berth_factory::oneshot::{Ending, Error, Event, Live, Output, Request, Written};
use berth_factory::output as logger;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::inotify;
use berth_sys::rustix::io::{read, write};
use berth_sys::rustix::pipe::{PipeFlags, pipe_with};
use berth_sys::rustix::process::{Pid, Signal, getpid, kill_process};
use berth_sys::{Errno, signal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) const SIGCHLD: i32 = 17;
pub(crate) const SIGCONT: i32 = 18;
pub(crate) const SIGTSTP: i32 = 20;
pub(crate) const SIGTTIN: i32 = 21;
pub(crate) const SIGTTOU: i32 = 22;
pub(crate) const SIGPIPE: i32 = 13;
pub(crate) const SIGURG: i32 = 23;
pub(crate) const SIGWINCH: i32 = 28;
/// How often output is looked at, every 5 ms, before it is watched.
const LOOKS: u32 = 4;
/// Those that a fault of our own raises: never blocked.
const FAULTS: [i32; 5] = [4, 5, 7, 8, 11];

/// All signals, blocked and read one by one.
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// Blocks them.
    pub(crate) fn block() -> Result<Signals, Failure> {
        let set = signal::Set(!signal::Set::of(&FAULTS).0);
        let failed = |e: Errno| Failure::text(format!("block signals: {e}"));
        signal::set_mask(set).map_err(failed)?;
        signal::descriptor(set).map(Signals).map_err(failed)
    }
}

/// With `-i` and no terminal: a pipe that is the container's stdin, and its other end.
pub(crate) fn with_stdin(mut request: Request, wanted: bool) -> Result<(Request, Option<OwnedFd>), Failure> {
    if !wanted {
        return Ok((request, None));
    }
    let (theirs, ours) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|e| Failure::text(format!("make a pipe: {e}")))?;
    request.stdin = Some(theirs);
    Ok((request, Some(ours)))
}

impl AsFd for Signals {
    /// Readable when one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether all of a container ends when one of its processes is killed for lack of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Together {
    Yes,
    No,
}

/// Stays until the container ended.
pub(crate) fn attach(
    live: &Live,
    signals: &Signals,
    stdin: Option<OwnedFd>,
    tty: bool,
    interactive: bool,
    together: Together,
) -> Result<Ending, Error> {
    let raw = (tty && interactive).then(terminal::Raw::enter);
    let mut owner = Owner {
        live,
        signals,
        pipe: stdin,
        tty,
        reading: interactive,
        pending: Vec::new(),
        output: Vec::new(),
        watch: None,
        looks: (!tty).then_some(0),
        raw,
        together: if together == Together::Yes { live.group_kill() } else { None },
    };
    if !tty {
        owner.follow()?;
    }
    owner.stay()
}

struct Owner<'a> {
    live: &'a Live,
    signals: &'a Signals,
    /// Where our stdin goes without a terminal.
    pipe: Option<OwnedFd>,
    tty: bool,
    /// Our stdin is still of interest.
    reading: bool,
    /// Read from stdin, and not yet taken.
    pending: Vec<u8>,
    /// What the container writes, and where it goes.
    output: Vec<(Written, Output)>,
    watch: Option<OwnedFd>,
    /// How often its output was looked at, while it is not watched.
    looks: Option<u32>,
    raw: Option<terminal::Raw>,
    /// Readable when it is to end for lack of memory.
    together: Option<OwnedFd>,
}

impl Owner<'_> {
    fn follow(&mut self) -> Result<(), Error> {
        for output in [Output::Stdout, Output::Stderr] {
            self.output.push((self.live.reader(output)?, output));
        }
        Ok(())
    }

    /// From looking now and then to being woken by each write. Closing a watch waits for the kernel's grace period
    /// (fsnotify's, more than 10 ms): nothing that a command of some milliseconds should pay.
    ///
    /// Each is told once, and then looked at again for a while: a program that prints without end pays for no watch.
    fn watch(&mut self) {
        self.looks = None;
        if self.watch.is_none() {
            self.watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok();
        }
        // Without inotify (its instances can run out) we go on looking.
        let Some(watch) = &self.watch else {
            self.looks = Some(0);
            return;
        };
        let wanted = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::MOVE_SELF
            | inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::ONESHOT;
        for (written, _) in &self.output {
            let path = written.file_in_use().map(logger::watch_path);
            if path.is_none_or(|path| inotify::add_watch(watch, path, wanted).is_err()) {
                self.looks = Some(0);
            }
        }
        self.copy_output();
    }

    fn stay(&mut self) -> Result<Ending, Error> {
        loop {
            let stdin = std::io::stdin();
            let mut slots = vec![
                PollFd::from_borrowed_fd(self.live.supervisor().socket(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.signals.0.as_fd(), PollFlags::IN),
            ];
            let watch = self.watch.as_ref().map(|w| push(&mut slots, w.as_fd(), PollFlags::IN));
            let together = self.together.as_ref().map(|t| push(&mut slots, t.as_fd(), PollFlags::IN));
            let input = (self.reading && self.pending.is_empty())
                .then(|| push(&mut slots, stdin.as_fd(), PollFlags::IN));
            let pipe = self.pipe.as_ref().map(|p| {
                push(
                    &mut slots,
                    p.as_fd(),
                    if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT },
                )
            });
            let pause = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            let mut idle = false;
            match poll(&mut slots, self.looks.is_some().then_some(&pause)) {
                Ok(0) => idle = true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(berth_launcher_error("wait for the container", e)),
            }
            let ready: Vec<PollFlags> = slots.iter().map(PollFd::revents).collect();
            drop(slots);
            if let (true, Some(looks)) = (idle, self.looks) {
                self.copy_output();
                if looks == LOOKS {
                    self.watch()
                } else {
                    self.looks = Some(looks + 1)
                }
                continue;
            }
            let is = |slot: Option<usize>| slot.is_some_and(|s| !ready[s].is_empty());
            if is(watch) {
                self.heed_watch();
            }
            if is(together) {
                self.live.kill_together();
                self.together = None;
            }
            if is(Some(1)) {
                self.pass_signals();
            }
            if is(input) {
                self.read_input();
            }
            if is(pipe) {
                self.feed_pipe();
            }
            if is(Some(0))
                && let Some(ending) = self.heed_supervisor()?
            {
                self.copy_output();
                return Ok(ending);
            }
        }
    }

    fn heed_supervisor(&mut self) -> Result<Option<Ending>, Error> {
        match self.live.supervisor().next() {
            Event::Output(data) => {
                write_all(std::io::stdout().as_fd(), &data);
                Ok(None)
            }
            event => self.live.judge(event),
        }
    }

    fn heed_watch(&mut self) {
        let mut room = [0u8; 4096];
        if let Some(watch) = &self.watch {
            while matches!(read(watch, &mut room), Ok(1..)) {}
        }
        self.looks = Some(0);
        self.copy_output();
    }

    fn copy_output(&mut self) {
        // Most of the time there is nothing or little: a large room for it only once there was a lot.
        let (mut small, mut large) = ([0u8; 1024], Vec::new());
        for (written, output) in &mut self.output {
            loop {
                let room = if large.is_empty() { small.as_mut_slice() } else { large.as_mut_slice() };
                let n = written.read(&mut *room);
                if n == 0 {
                    break;
                }
                match output {
                    Output::Stdout => write_all(std::io::stdout().as_fd(), &room[..n]),
                    Output::Stderr => write_all(std::io::stderr().as_fd(), &room[..n]),
                }
                if n == small.len() && large.is_empty() {
                    large = vec![0u8; 65536];
                }
            }
        }
    }

    fn read_input(&mut self) {
        let mut room = [0u8; 4096];
        match read(std::io::stdin(), &mut room) {
            Ok(0) | Err(Errno::IO | Errno::BADF) => self.end_input(),
            Ok(n) if self.tty => {
                if self.live.supervisor().input(&room[..n]).is_err() {
                    self.reading = false;
                }
            }
            Ok(n) => {
                self.pending = room[..n].to_vec();
                self.feed_pipe();
            }
            Err(_) => {}
        }
    }

    fn end_input(&mut self) {
        self.reading = false;
        self.pipe = None;
    }

    fn feed_pipe(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        // PIPE_BUF at most at a time, and only when poll said so: it never blocks us.
        let n = self.pending.len().min(4096);
        if n == 0 {
            // Only its end was told: the container closed its stdin.
            self.end_input();
            return;
        }
        match write(pipe, &self.pending[..n]) {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.pending.clear();
                self.end_input();
            }
        }
    }

    fn pass_signals(&mut self) {
        while let Some(number) = signal::next(&self.signals.0) {
            match number {
                SIGCHLD | SIGPIPE | SIGURG => {}
                SIGWINCH => {
                    if let (true, Some((rows, cols))) = (self.tty, terminal::size()) {
                        let _ = self.live.supervisor().resize(rows, cols);
                    }
                }
                SIGTSTP | SIGTTIN | SIGTTOU => self.stop_here(number),
                SIGCONT => {}
                number => {
                    let _ = self.live.supervisor().signal(number);
                }
            }
        }
    }

    /// Job control: we stop, as the shell expects; the container goes on, as with docker.
    fn stop_here(&mut self, _number: i32) {
        drop(self.raw.take());
        let me: Pid = getpid();
        let _ = kill_process(me, Signal::STOP);
        if self.tty && self.reading {
            self.raw = Some(terminal::Raw::enter());
        }
    }
}

fn push<'a>(slots: &mut Vec<PollFd<'a>>, fd: BorrowedFd<'a>, flags: PollFlags) -> usize {
    slots.push(PollFd::from_borrowed_fd(fd, flags));
    slots.len() - 1
}

/// Writes all, or gives up when nobody reads any more.
pub(crate) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

fn berth_launcher_error(what: &str, e: Errno) -> Error {
    Error::Invalid(format!("{what}: {e}"))
}
