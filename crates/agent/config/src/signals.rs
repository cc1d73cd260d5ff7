// SPDX-License-Identifier: Apache-2.0
//! The signals that an agent hears (41.6), as values that are read when it is time for them. No handler is
//! installed: the signals are blocked in every thread and read from a descriptor, so that nothing runs in
//! the middle of something else. Knows no runtime: who has one watches the descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::io::Errno;
use berth_sys::signal::{Set, descriptor, ignore, next, set_mask};

/// signal(7) for x86-64.
mod number {
    pub(super) const HUP: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const USR1: i32 = 10;
    pub(super) const PIPE: i32 = 13;
    pub(super) const TERM: i32 = 15;
}

/// What a signal asks the agent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: stop serving; containers go on.
    Terminate,
    /// SIGINT: the same, from a terminal.
    Interrupt,
    /// SIGHUP: reload what can be reloaded.
    Reload,
    /// SIGUSR1: write a dump of the state to the log.
    Dump,
}

impl Signal {
    fn of(number: i32) -> Option<Signal> {
        match number {
            number::TERM => Some(Signal::Terminate),
            number::INT => Some(Signal::Interrupt),
            number::HUP => Some(Signal::Reload),
            number::USR1 => Some(Signal::Dump),
            _ => None,
        }
    }
}

/// The signals of this process, from now on read here.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Takes the signals away from their usual effect. To be called before the first thread is started: threads
    /// inherit what is blocked, and a signal that any thread has not blocked ends the process. SIGPIPE is
    /// ignored: a client that went away is an error of one write.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn take() -> io::Result<Signals> {
        let set = Set::of(&[number::TERM, number::INT, number::HUP, number::USR1]);
        ignore(number::PIPE)?;
        let before = set_mask(Set::ALL)?;
        set_mask(Set(before.0 | set.0))?;
        Ok(Signals { fd: descriptor(set)? })
    }

    /// The next signal that has arrived, or none.
    pub fn next(&self) -> Option<Signal> {
        next(&self.fd).and_then(Signal::of)
    }

    /// Waits for a signal, at most so long if a time is given; none when that is over.
    ///
    /// # Errors
    /// poll(2) failed.
    pub fn wait(&self, at_most: Option<Duration>) -> io::Result<Option<Signal>> {
        let deadline = at_most.map(|time| Instant::now() + time);
        loop {
            if let Some(signal) = self.next() {
                return Ok(Some(signal));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            // More than the kernel can count is for ever.
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Signals {
    /// Readable when a signal has arrived; read it with [`Signals::next`], until there is none.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Signals {
    /// For runtimes that want it so.
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sys::rustix::process::{PidfdFlags, pidfd_open};
    use berth_sys::rustix::thread::gettid;

    /// This thread alone: other tests of this process have blocked nothing. PIDFD_THREAD is O_EXCL, of Linux 6.9.
    fn this_thread() -> Option<OwnedFd> {
        const PIDFD_THREAD: u32 = 0o200;
        match pidfd_open(gettid(), PidfdFlags::from_bits_retain(PIDFD_THREAD)) {
            Ok(fd) => Some(fd),
            Err(errno) => {
                println!("skipped: no signal to one thread can be sent here (pidfd_open: {errno})");
                None
            }
        }
    }

    #[test]
    fn each_signal_arrives_as_what_it_asks_for() {
        let Some(thread) = this_thread() else { return };
        let signals = Signals::take().unwrap();
        assert_eq!(signals.next(), None);
        for (number, signal) in [
            (number::TERM, Signal::Terminate),
            (number::INT, Signal::Interrupt),
            (number::HUP, Signal::Reload),
            (number::USR1, Signal::Dump),
        ] {
            berth_sys::signal::send(&thread, number).unwrap();
            assert_eq!(signals.wait(Some(Duration::from_secs(20))).unwrap(), Some(signal));
        }
        assert_eq!(signals.wait(Some(Duration::from_millis(1))).unwrap(), None);
    }

    #[test]
    fn the_signal_of_a_broken_pipe_is_ignored_and_the_rest_of_the_mask_is_kept() {
        let usr2 = Set::of(&[12]);
        set_mask(usr2).unwrap();
        Signals::take().unwrap();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        assert_ne!(mask("SigIgn:") & (1 << (number::PIPE - 1)), 0);
        assert_ne!(mask("SigBlk:") & usr2.0, 0, "what was blocked before still is");
        assert_eq!(mask("SigBlk:") & Set::of(&[9, 11]).0, 0, "nothing else is blocked");
    }
}
