// SPDX-License-Identifier: Apache-2.0
//! The terminal of a session. lxc-attach has its other end, and passes on between that and one of the container's own, so
//! that nothing in the container holds a terminal that a person sits at.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use berth_contract::{Error, WindowSize};
use berth_sys::Errno;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use berth_sys::rustix::io::{read, write};
use berth_sys::rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use berth_sys::rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::error::of_io;

/// How much is copied at once, and kept of what is not taken yet.
const ROOM: usize = 16 << 10;
/// How long who reads may take for the last words, between two of which it takes some.
const LAST: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Our end of a terminal.
#[derive(Debug)]
pub(crate) struct Terminal(Arc<OwnedFd>);

impl Terminal {
    /// A new one, and its other end.
    pub(crate) fn open(size: WindowSize) -> Result<(Terminal, OwnedFd), Error> {
        let failed = |errno: Errno| of_io("make a terminal")(errno.into());
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).map_err(failed)?;
        grantpt(&master).and_then(|()| unlockpt(&master)).map_err(failed)?;
        // Not by its name: that may be another one's in this mount namespace.
        let slave = ioctl_tiocgptpeer(&master, flags).map_err(failed)?;
        let terminal = Terminal(Arc::new(master));
        terminal.resize(size)?;
        Ok((terminal, slave))
    }

    /// What the container's own terminal writes is whole as it is: lxc-attach has this one do to it again what that has done.
    pub(crate) fn pass(&self) {
        let Ok(mut how) = tcgetattr(&*self.0) else { return };
        how.output_modes.remove(OutputModes::OPOST);
        let _ = tcsetattr(&*self.0, OptionalActions::Now, &how);
    }

    /// The kernel tells lxc-attach, whose terminal it is, and that tells the container's.
    pub(crate) fn resize(&self, size: WindowSize) -> Result<(), Error> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&*self.0, size).map_err(|errno| of_io("set the size of a terminal")(errno.into()))
    }

    /// What copies between it and the caller's pipes.
    pub(crate) fn copier(&self, from: OwnedFd, to: OwnedFd) -> Result<Copier, Error> {
        for fd in [&*self.0, &from, &to] {
            let set = fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK));
            set.map_err(|errno| of_io("make a stream not wait")(errno.into()))?;
        }
        Ok(Copier { master: Arc::clone(&self.0), from: Some(from), to: Some(to), ..Copier::empty(&self.0) })
    }
}

/// Copies in both directions, and waits for neither. Who does not read holds up the command, as a terminal does.
#[derive(Debug)]
pub(crate) struct Copier {
    master: Arc<OwnedFd>,
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    /// What was read and not taken yet.
    input: Vec<u8>,
    output: Vec<u8>,
    hung_up: bool,
}

impl Copier {
    fn empty(master: &Arc<OwnedFd>) -> Copier {
        Copier {
            master: Arc::clone(master),
            from: None,
            to: None,
            input: Vec::new(),
            output: Vec::new(),
            hung_up: false,
        }
    }

    /// What it waits for.
    pub(crate) fn wishes<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let mut master = PollFlags::empty();
        if self.output.is_empty() {
            master |= PollFlags::IN;
        }
        if !self.input.is_empty() {
            master |= PollFlags::OUT;
        }
        if !self.hung_up && !master.is_empty() {
            fds.push(PollFd::new(&*self.master, master));
        }
        if let Some(from) = self.from.as_ref().filter(|_| self.input.is_empty()) {
            fds.push(PollFd::new(from, PollFlags::IN));
        }
        if let Some(to) = self.to.as_ref().filter(|_| !self.output.is_empty()) {
            fds.push(PollFd::new(to, PollFlags::OUT));
        }
    }

    /// Copies what can be copied now; whether any of the output was.
    pub(crate) fn copy(&mut self) -> bool {
        if self.input.is_empty()
            && let Some(from) = &self.from
        {
            match fill(from, &mut self.input) {
                // Its end is none on a terminal: who wants one sends its letter.
                Filled::Ended => self.from = None,
                Filled::Nothing | Filled::Some => {}
            }
        }
        if let Drained::Gone = drain(&*self.master, &mut self.input) {
            self.input.clear();
        }
        if self.output.is_empty() && !self.hung_up {
            self.hung_up = matches!(fill(&self.master, &mut self.output), Filled::Ended);
        }
        let before = self.output.len();
        match &self.to {
            Some(to) => {
                if let Drained::Gone = drain(to, &mut self.output) {
                    self.to = None;
                }
            }
            // A reader that is gone loses what comes, and holds up nobody.
            None => self.output.clear(),
        }
        self.output.len() < before
    }

    /// Copies what the command has written last: nobody writes any more.
    pub(crate) fn finish(mut self, leave: BorrowedFd<'_>) {
        self.from = None;
        self.input.clear();
        loop {
            let moved = self.copy();
            let Some(to) = self.to.as_ref() else { return };
            if self.output.is_empty() {
                // A terminal gives some thousand bytes at once: it is empty when it gives none.
                if self.hung_up || !moved {
                    return;
                }
                continue;
            }
            let mut fds = [PollFd::new(to, PollFlags::OUT), PollFd::from_borrowed_fd(leave, PollFlags::IN)];
            match poll(&mut fds, Some(&LAST)) {
                Ok(0) => return,
                _ if !fds[1].revents().is_empty() => return,
                _ => {}
            }
        }
    }
}

enum Filled {
    Some,
    Nothing,
    Ended,
}

/// Reads what is there.
fn fill(from: &OwnedFd, into: &mut Vec<u8>) -> Filled {
    into.resize(ROOM, 0);
    let result = read(from, into.as_mut_slice());
    into.truncate(*result.as_ref().unwrap_or(&0));
    match result {
        Ok(0) => Filled::Ended,
        Ok(_) => Filled::Some,
        Err(Errno::AGAIN | Errno::INTR) => Filled::Nothing,
        // Of a terminal without another end, EIO.
        Err(_) => Filled::Ended,
    }
}

enum Drained {
    Kept,
    Gone,
}

/// Writes what can be taken.
fn drain(to: impl AsFd, from: &mut Vec<u8>) -> Drained {
    while !from.is_empty() {
        match write(&to, from) {
            Ok(count) => drop(from.drain(..count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Drained::Kept,
            Err(_) => return Drained::Gone,
        }
    }
    Drained::Kept
}
