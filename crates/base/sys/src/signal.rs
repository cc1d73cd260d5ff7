// SPDX-License-Identifier: Apache-2.0
//! Signal masks, dispositions and signalfd(2). Handlers are never installed anywhere in Berth: signals are
//! blocked and read.

use crate::{Result, raw};
use linux_raw_sys::general as k;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A set of signals, bit n-1 for signal n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// All 64.
    pub const ALL: Set = Set(u64::MAX);
    /// None.
    pub const NONE: Set = Set(0);
    /// Of the numbers given; numbers outside 1..=64 are left out.
    pub fn of(signals: &[i32]) -> Set {
        Set(signals.iter().filter(|s| (1..=64).contains(*s)).fold(0, |set, s| set | 1 << (s - 1)))
    }
}

/// Replaces the calling thread's mask and returns the former one (rt_sigprocmask(2)).
pub fn set_mask(set: Set) -> Result<Set> {
    let mut old = 0u64;
    // SAFETY: both pointers are to u64s, the kernel's sigset_t of 8 bytes as the last argument says.
    unsafe {
        let args = [k::SIG_SETMASK as usize, &raw const set.0 as usize, &raw mut old as usize, 8, 0, 0];
        raw::call(k::__NR_rt_sigprocmask, args)?;
    }
    Ok(Set(old))
}

/// Gives every signal its default disposition, as a program expects it at its start.
pub fn reset_dispositions() {
    let default = [0usize; 4];
    for signal in 1..=64usize {
        // SAFETY: an all-zero kernel `struct sigaction` (32 bytes) is SIG_DFL with no flags and an empty
        // mask; SIGKILL and SIGSTOP answer EINVAL, which is right.
        let _ = unsafe { raw::call(k::__NR_rt_sigaction, [signal, default.as_ptr() as usize, 0, 8, 0, 0]) };
    }
}

/// Lets the process ignore a signal (SIG_IGN), as it and what it forks do until somebody says otherwise.
pub fn ignore(signal: i32) -> Result<()> {
    const SIG_IGN: usize = 1;
    let action = [SIG_IGN, 0, 0, 0];
    // SAFETY: the kernel reads a `struct sigaction` of 32 bytes (handler, flags, restorer, an 8-byte mask), which is
    // what `action` is; with SIG_IGN for a handler no code of ours is ever called. It keeps no pointer.
    unsafe {
        raw::call(k::__NR_rt_sigaction, [signal as usize, action.as_ptr() as usize, 0, 8, 0, 0]).map(drop)
    }
}

/// A descriptor that reads the signals of `set` (signalfd(2)), which the caller must have blocked.
/// Non-blocking, close-on-exec.
pub fn descriptor(set: Set) -> Result<OwnedFd> {
    let flags = k::O_NONBLOCK | k::O_CLOEXEC;
    // SAFETY: the kernel reads 8 bytes at the pointer. The number returned is a new descriptor, ours alone.
    unsafe {
        let args = [usize::MAX, &raw const set.0 as usize, 8, flags as usize, 0, 0];
        Ok(OwnedFd::from_raw_fd(raw::call(k::__NR_signalfd4, args)? as i32))
    }
}

/// The next signal that waits in a signalfd: its number. `None` when there is none.
pub fn next(signalfd: impl AsFd) -> Option<i32> {
    let mut info = [0u8; 128];
    let n = rustix::io::read(signalfd.as_fd(), &mut info[..]).ok()?;
    (n == 128).then(|| i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))
}

/// Sends `signal` to the process behind a pidfd (pidfd_send_signal(2)); any number from 0 (probe) to 64.
pub fn send(pidfd: impl AsFd, signal: i32) -> Result<()> {
    // SAFETY: no pointer is passed (siginfo is NULL).
    unsafe {
        let args = [pidfd.as_fd().as_raw_fd() as usize, signal as usize, 0, 0, 0, 0];
        raw::call(k::__NR_pidfd_send_signal, args).map(drop)
    }
}

/// Sends `signal` to every process of the caller's pid namespace but itself and init: `kill(-1, signal)`.
/// Only for the init of a container, whose namespace holds nothing else.
pub fn send_to_all(signal: i32) -> Result<()> {
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        return Err(rustix::io::Errno::PERM);
    }
    // SAFETY: no pointers; the check above keeps this from ever reaching a host's processes.
    unsafe { raw::call(k::__NR_kill, [usize::MAX, signal as usize, 0, 0, 0, 0]).map(drop) }
}
