// SPDX-License-Identifier: Apache-2.0
//! The end of a supervisor for those who did not start it: an agent that came after.

use crate::supervisor::{event, reap};
use crate::{Error, Event, Result};
use berth_supervisor::protocol::{self, DATA, Kind};
use berth_sys::Errno;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use berth_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A supervisor that somebody else started. Dropping it changes nothing for the container.
///
/// What it tells comes over its control socket. That is there once the program was executed, and may be missing or
/// full; the pidfd then says at least when it ended, and the exit record how.
#[derive(Debug)]
pub struct Connection {
    socket: Option<OwnedFd>,
    pidfd: OwnedFd,
}

impl Connection {
    /// Connects to the supervisor `pid` of the container whose runtime directory is `dir`; `None` when no such process
    /// is there. Whether it is still the one that was recorded is for the caller to know: the container's lock is held
    /// for as long as its supervisor lives, so look at that *after* this.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn open(dir: BorrowedFd<'_>, pid: i32) -> Result<Option<Connection>> {
        let Some(pidfd) = open_process(pid)? else { return Ok(None) };
        Ok(Some(Connection { socket: control(dir)?, pidfd }))
    }

    /// It, as a descriptor that is readable once it ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its socket, for poll; none when it does not speak with us.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// What it says, once the socket is readable. `None` for what does not matter; and when it hangs up, which leaves
    /// only the pidfd.
    pub fn hear(&mut self) -> Option<Event> {
        let socket = self.socket.as_ref()?;
        let mut data = [0u8; DATA];
        let mut fds = [None];
        match protocol::receive(socket, &mut data, &mut fds) {
            Ok(Some((message, _))) if message.kind == Kind::Hello => None,
            Ok(Some((message, n))) => event(message, &data[..n.min(DATA)], fds),
            Err(Errno::AGAIN) => None,
            Ok(None) | Err(_) => {
                self.socket = None;
                None
            }
        }
    }

    /// Waits for its end, and reaps it if it is a child of this process: `false` when it lives at the deadline.
    pub fn reap(self, deadline: Instant) -> bool {
        drop(self.socket);
        if !ended(self.pidfd.as_fd(), deadline) {
            return false;
        }
        reap(self.pidfd.as_fd());
        true
    }
}

/// A pidfd of `pid`; `None` when no process has it.
///
/// # Errors
/// No descriptors left.
pub fn open_process(pid: i32) -> Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH | Errno::INVAL) => Ok(None),
        Err(e) => Err(Error::io(format!("open process {}", pid.as_raw_nonzero()), e)),
    }
}

/// Waits until a pidfd is readable; `false` when the deadline comes first.
fn ended(pidfd: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(3600));
        let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], Some(&time)) {
            Ok(0) if Instant::now() >= deadline => return false,
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

/// How often a supervisor is tried whose queue of clients is full.
const TRIES: u32 = 100;

/// Connects to `ctl` in `dir`; `None` when nobody listens there. Waits for moments only.
pub(crate) fn control(dir: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let failed = |e| Error::io("make a socket for the supervisor", e);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed)?;
    // Through the directory's descriptor: its path may be longer than sun_path.
    let path = format!("/proc/self/fd/{}/ctl", dir.as_raw_fd());
    let address = SocketAddrUnix::new(path.as_str()).map_err(failed)?;
    for _ in 0..TRIES {
        match connect(&socket, &address) {
            Ok(()) => return Ok(Some(socket)),
            // Others come at the same moment.
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => break,
        }
    }
    Ok(None)
}
