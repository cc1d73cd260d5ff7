// SPDX-License-Identifier: Apache-2.0
//! One call of the program: its process, three pipes, a deadline. Nothing here blocks but [`step`], which waits for all
//! calls of one thread and for whoever wants to interrupt it.
//!
//! The program is an attacker: it may never read, never write, write without end, leave somebody behind who holds its
//! pipes, or never end. What it writes is read on and thrown away above a bound, so that only its deadline ends it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_model::WaitStatus;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::io::Errno;

use crate::error::CallError;
use crate::frame::Reader;
use crate::program::Health;
use crate::session;

/// How long a result may still come when the process has ended, from somebody who has its stdout as well.
const AFTER_EXIT: Duration = Duration::from_secs(1);
/// How long the process may take to be gone when it was killed.
const AFTER_KILL: Duration = Duration::from_secs(5);
/// How much of what the program says is kept for errors.
const TAIL: usize = 2048;
/// How much of what a call says goes to the sandbox's file. The calls whose words may come later than their end write to the
/// file themselves.
const COPIED: u64 = 1 << 20;
/// How much is read at once from one pipe, before the others get their turn.
const PIECE: usize = 64 << 10;

/// Where the program's stderr goes.
#[derive(Debug)]
pub(crate) enum Words {
    /// Through a pipe of ours: into the file, if there is one, and a bounded part of it.
    Piped(Option<OwnedFd>, Option<File>),
    /// To a file that the program itself holds, so that what it leaves behind can go on writing when we are gone. They are
    /// read back from where the file ended.
    Kept(Option<File>, u64),
}

/// Why a call was ended, if not by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Late(Duration),
    Cancelled,
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    subcommand: &'static str,
    child: Child,
    pidfd: OwnedFd,
    /// What is still to be written, and to where.
    stdin: Option<OwnedFd>,
    message: Vec<u8>,
    written: usize,
    write_error: Option<io::Error>,
    stdout: Option<OwnedFd>,
    reader: Option<Reader>,
    words: Words,
    tail: Vec<u8>,
    copied: u64,
    started: Instant,
    deadline: Option<Duration>,
    killed: Option<(Killed, Instant)>,
    /// The status, and when it was known.
    status: Option<(Option<WaitStatus>, Instant)>,
    /// Whether there is nothing to wait for any more. Found out by [`step`] alone, so that who asks and then waits does not
    /// wait for one that was over in between.
    over: bool,
    health: Arc<Health>,
}

/// What a call is made of.
pub(crate) struct Parts {
    pub(crate) subcommand: &'static str,
    pub(crate) child: Child,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) reader: Option<Reader>,
    pub(crate) words: Words,
    pub(crate) deadline: Option<Duration>,
    pub(crate) health: Arc<Health>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The raw status, if it is known.
    pub(crate) status: Option<WaitStatus>,
    /// The record that it wrote, or why there is none.
    pub(crate) record: Result<Option<Vec<u8>>, String>,
    /// The end of what it said.
    pub(crate) tail: String,
    failure: Option<CallError>,
}

impl Ended {
    /// Whether it succeeded: the deadline first, then the status, then what it did not read.
    pub(crate) fn success(&mut self) -> Result<(), CallError> {
        match self.failure.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Its result.
    pub(crate) fn result(mut self) -> Result<Vec<u8>, CallError> {
        self.success()?;
        self.any_result()
    }

    /// Its result, whatever its status.
    pub(crate) fn any_result(self) -> Result<Vec<u8>, CallError> {
        self.record.map_err(CallError::BadResult)?.ok_or(CallError::NoResult)
    }
}

impl Call {
    pub(crate) fn new(parts: Parts) -> Call {
        let Parts { subcommand, child, pidfd, stdin, stdout, reader, words, deadline, health } = parts;
        Call {
            subcommand,
            child,
            pidfd,
            stdin: Some(stdin),
            message: Vec::new(),
            written: 0,
            write_error: None,
            stdout: Some(stdout),
            reader,
            words,
            tail: Vec::new(),
            copied: 0,
            started: Instant::now(),
            deadline,
            killed: None,
            status: None,
            over: false,
            health,
        }
    }

    /// The pid of its process: of the shell, perhaps.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Begins to write the message. The read end is held until as much is in the pipe as it takes, so that a program which
    /// ends without a look at it has not failed for that.
    pub(crate) fn tell(&mut self, message: Vec<u8>, read_end: OwnedFd) {
        self.message = message;
        self.write();
        drop(read_end);
    }

    /// Ends it, and all that it has started and not let go of.
    pub(crate) fn cancel(&mut self) {
        self.kill(Killed::Cancelled);
    }

    fn kill(&mut self, why: Killed) {
        if self.killed.is_none() && self.status.is_none() {
            session::kill(self.child.id());
            self.killed = Some((why, Instant::now()));
        }
    }

    /// Whether there is nothing to wait for any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    fn has_told_all(&self) -> bool {
        let Some((_, since)) = self.status else { return false };
        self.killed.is_some()
            || self.stdout.is_none()
            || self.reader.as_ref().is_none_or(Reader::is_complete)
            || since.elapsed() >= AFTER_EXIT
    }

    /// When to look again, if nothing happens.
    fn wake_at(&self) -> Option<Instant> {
        match (self.status, self.killed, self.deadline) {
            _ if self.over => None,
            (Some((_, since)), ..) => Some(since + AFTER_EXIT),
            (None, Some((_, since)), _) => Some(since + AFTER_KILL),
            (None, None, Some(deadline)) => Some(self.started + deadline),
            (None, None, None) => None,
        }
    }

    /// Does what can be done without waiting.
    fn advance(&mut self) {
        self.write();
        self.read_result();
        self.read_words();
        if self.status.is_none() {
            // Before the process is reaped, for until then its session's number is nobody else's.
            if let Some(deadline) = self.deadline.filter(|deadline| self.started.elapsed() >= *deadline) {
                self.kill(Killed::Late(deadline));
            }
            match self.child.try_wait() {
                Ok(Some(status)) => self.exited(Some(WaitStatus(status.into_raw()))),
                Ok(None) if self.killed.is_some_and(|(_, since)| since.elapsed() >= AFTER_KILL) => {
                    // Not even SIGKILL ends it: it hangs in the kernel, and will be reaped when this process ends.
                    self.exited(None);
                }
                Ok(None) => {}
                Err(_) => self.exited(None),
            }
        }
        self.over |= self.has_told_all();
    }

    fn exited(&mut self, status: Option<WaitStatus>) {
        self.status = Some((status, Instant::now()));
        // What it has not read by now, it never will.
        self.write();
        if self.stdin.take().is_some() {
            self.write_error = Some(Errno::PIPE.into());
        }
        // What it wrote before its end is in the pipes now.
        self.read_result();
        self.read_words();
    }

    fn write(&mut self) {
        while let Some(stdin) = &self.stdin {
            match self.message.get(self.written..) {
                None | Some([]) => {
                    // All is told: the program may find the end.
                    self.stdin = None;
                }
                Some(rest) => match berth_sys::rustix::io::write(stdin, rest) {
                    Ok(count) => self.written += count,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return,
                    Err(errno) => {
                        self.write_error = Some(errno.into());
                        self.stdin = None;
                    }
                },
            }
        }
    }

    fn read_result(&mut self) {
        let Some(stdout) = &self.stdout else { return };
        let reader = &mut self.reader;
        let open = drain(stdout, |piece| {
            if let Some(reader) = reader {
                reader.feed(piece);
            }
        });
        if !open {
            self.stdout = None;
        }
    }

    fn read_words(&mut self) {
        let Words::Piped(pipe, copy) = &mut self.words else { return };
        let Some(open) = pipe else { return };
        let (tail, copied) = (&mut self.tail, &mut self.copied);
        let still = drain(open, |piece| {
            keep_end(tail, piece);
            let room = usize::try_from(COPIED.saturating_sub(*copied)).unwrap_or(0);
            let part = &piece[..piece.len().min(room)];
            *copied += part.len() as u64;
            if let Some(file) = copy {
                // A full disk loses the program's words, and nothing else.
                let _ = io::Write::write_all(file, part);
            }
        });
        if !still {
            *pipe = None;
        }
    }

    /// How it ended.
    pub(crate) fn ended(mut self) -> Ended {
        if let Words::Kept(Some(file), from) = &self.words {
            self.tail = read_back(file, *from);
        }
        let status = self.status.and_then(|(status, _)| status);
        let failure = match (self.killed, status) {
            (Some((Killed::Late(after), _)), _) => Some(CallError::Late(after, self.subcommand)),
            (Some((Killed::Cancelled, _)), _) => Some(CallError::Cancelled),
            (None, None) => Some(CallError::NoStatus),
            (None, Some(status)) if !status.success() => Some(CallError::Status(status)),
            (None, Some(_)) => self.write_error.take().map(CallError::Write),
        };
        self.health.heard(failure.as_ref());
        Ended {
            status,
            record: self.reader.take().map_or(Ok(None), Reader::finish),
            tail: escaped(&self.tail),
            failure,
        }
    }

    fn descriptors<'a>(&'a self, into: &mut Vec<PollFd<'a>>) {
        if self.over {
            return;
        }
        if let Some(stdin) = &self.stdin {
            into.push(PollFd::new(stdin, PollFlags::OUT));
        }
        if let Some(stdout) = &self.stdout {
            into.push(PollFd::new(stdout, PollFlags::IN));
        }
        if let Words::Piped(Some(pipe), _) = &self.words {
            into.push(PollFd::new(pipe, PollFlags::IN));
        }
        if self.status.is_none() {
            into.push(PollFd::new(&self.pidfd, PollFlags::IN));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Given up before its end: nobody waits for it any more.
        self.cancel();
        if self.status.is_none() {
            // Killed above. One that hangs in the kernel is reaped when this process ends.
            let _ = self.child.try_wait();
        }
    }
}

/// Waits until something happens to one of the calls or one of the bells is readable, and does what can be done then.
pub(crate) fn step(calls: &mut [&mut Call], bells: &[BorrowedFd<'_>], until: Option<Instant>) {
    {
        let mut polled: Vec<PollFd<'_>> =
            bells.iter().map(|bell| PollFd::from_borrowed_fd(*bell, PollFlags::IN)).collect();
        calls.iter().for_each(|call| call.descriptors(&mut polled));
        let at = calls.iter().filter_map(|call| call.wake_at()).chain(until).min();
        let left = at.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        // An interruption is as good as a wake: everything is looked at.
        let _ = poll(&mut polled, left.as_ref());
    }
    calls.iter_mut().for_each(|call| call.advance());
}

/// Reads what is there, up to some pieces; false when nothing more will come.
fn drain(pipe: &OwnedFd, mut take: impl FnMut(&[u8])) -> bool {
    let mut buffer = vec![0; PIECE];
    for _ in 0..4 {
        match berth_sys::rustix::io::read(pipe.as_fd(), &mut buffer[..]) {
            Ok(0) => return false,
            Ok(count) => take(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}

/// Keeps the last part of what is said.
fn keep_end(tail: &mut Vec<u8>, piece: &[u8]) {
    tail.extend_from_slice(&piece[piece.len().saturating_sub(TAIL)..]);
    tail.drain(..tail.len().saturating_sub(TAIL));
}

/// What a file has got since it had this length: the last part.
fn read_back(file: &File, from: u64) -> Vec<u8> {
    // The descriptor that the program holds is for writing; this one is for reading, of the same file.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    let (Ok(again), Ok(stat)) = (File::open(path), file.metadata()) else { return Vec::new() };
    let begin = from.max(stat.len().saturating_sub(TAIL as u64));
    let mut tail = vec![0; usize::try_from(stat.len().saturating_sub(begin)).unwrap_or(0).min(TAIL)];
    // It may have been cut meanwhile.
    let count = again.read_at(&mut tail, begin).unwrap_or(0);
    tail.truncate(count);
    tail
}

/// As one line that no terminal acts on.
fn escaped(tail: &[u8]) -> String {
    String::from_utf8_lossy(tail).trim().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_is_said_is_kept() {
        let mut tail = Vec::new();
        for number in 0..10_000u32 {
            keep_end(&mut tail, format!("{number}\n").as_bytes());
        }
        assert_eq!(tail.len(), TAIL);
        assert!(tail.ends_with(b"9998\n9999\n"));
        keep_end(&mut tail, &[b'x'; 3 * TAIL]);
        assert_eq!(tail, [b'x'; TAIL]);
    }

    #[test]
    fn a_call_that_is_over_wakes_nobody_who_waits_for_another() {
        use crate::program::{Ask, Program};
        let mut settings = crate::Settings::new("/nowhere".into(), "/nowhere".into());
        // Somebody has its stdout for ever, as a container may.
        settings.path = Some("sleep 1000 & : ".to_owned());
        let mut call = Program::new(&settings).call(Ask::new("wait", None)).unwrap();
        while !call.is_over() {
            step(&mut [&mut call], &[], None);
        }
        let mut polled = Vec::new();
        call.descriptors(&mut polled);
        assert_eq!((polled.len(), call.wake_at()), (0, None));
        drop(polled);
        session::kill(call.pid());
    }

    #[test]
    fn what_is_said_can_not_act_on_a_terminal() {
        assert_eq!(escaped(b"one\n\x1b[31mtwo\xff\n"), "one\\n\\u{1b}[31mtwo\u{fffd}");
    }
}
