// SPDX-License-Identifier: Apache-2.0
//! A terminal of ours, on which a command runs as it does under a person's hands.

use crate::exit::Exit;
use crate::patience::soon;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{read, write};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A command on a new terminal of its own. Dropped, it is killed.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    child: Child,
    seen: Vec<u8>,
}

impl Terminal {
    /// Starts it on a terminal of that many rows and columns. The command does not get it as its controlling terminal:
    /// what is typed must reach the container as bytes.
    ///
    /// # Panics
    /// When there is no terminal, or the command can not be started.
    pub fn start(command: &mut Command, rows: u16, cols: u16) -> Terminal {
        let made = || -> rustix::io::Result<(OwnedFd, OwnedFd)> {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            grantpt(&master)?;
            unlockpt(&master)?;
            let name = ptsname(&master, Vec::new())?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let slave = open(name.as_c_str(), flags, Mode::empty())?;
            tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })?;
            Ok((master, slave))
        };
        let (master, slave) = made().unwrap_or_else(|e| panic!("make a terminal: {e}"));
        let again = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap_or_else(|e| panic!("{e}")));
        command.stdin(again(&slave)).stdout(again(&slave)).stderr(Stdio::from(slave));
        let child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        // The command holds the slave too, for the next one; only its processes shall.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Terminal { master, child, seen: Vec::new() }
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn types(&self, text: &str) {
        let n = write(&self.master, text.as_bytes()).unwrap_or_else(|e| panic!("type {text:?}: {e}"));
        assert_eq!(n, text.len());
    }

    /// Changes its size, and tells the command as the terminal driver tells its foreground.
    ///
    /// # Panics
    /// When the terminal or the command is gone.
    pub fn resize(&self, rows: u16, cols: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap_or_else(|e| panic!("resize: {e}"));
        self.signal(Signal::WINCH);
    }

    /// Sends the command a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap_or_else(|e| panic!("send {signal:?}: {e}"));
    }

    /// What was shown up to now.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until `word` is shown.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn shows(&mut self, word: &str) {
        let limit = soon();
        while !self.screen().contains(word) {
            assert!(self.look(limit), "{word:?} is not shown, but {:?}", self.screen());
        }
    }

    /// Reads what is there, waiting for it until `limit`; `false` at the end.
    fn look(&mut self, limit: Instant) -> bool {
        let left = limit.saturating_duration_since(Instant::now()).min(Duration::from_secs(60));
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        if matches!(poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&left)), Ok(0)) {
            return false;
        }
        let mut room = [0u8; 4096];
        // EIO: nobody holds the slave any more.
        match read(&self.master, &mut room) {
            Ok(n @ 1..) => {
                self.seen.extend_from_slice(&room[..n]);
                true
            }
            _ => false,
        }
    }

    /// Waits for its end. What was shown is in `stdout`.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn end(mut self) -> Exit {
        let limit = soon();
        while self.look(limit) {}
        assert!(Instant::now() < limit, "it does not end: {:?}", self.screen());
        let status = self.child.wait().unwrap_or_else(|e| panic!("wait: {e}"));
        Exit { code: status.code(), signal: status.signal(), stdout: self.screen(), stderr: String::new() }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
