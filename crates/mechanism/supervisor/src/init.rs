// SPDX-License-Identifier: Apache-2.0
//! `--init`: a first process that reaps orphans and passes signals on, for programs that do neither.

use berth_sys::process::{Side, SingleThreaded, exit, fork_here};
use berth_sys::rustix::fd::{AsFd, AsRawFd, OwnedFd};
use berth_sys::rustix::process::{WaitOptions, wait};
use berth_sys::{Errno, Result, fd, signal};

/// Splits the child: the new process returns and becomes the program; this one stays as pid 1.
pub(crate) fn split() -> Result<()> {
    signal::set_mask(signal::Set::ALL)?;
    match fork_here(&SingleThreaded::at_start_of_program())? {
        Side::Child => Ok(()),
        Side::Parent(pid, pidfd) => stay(pid, pidfd),
    }
}

const SIGCHLD: i32 = 17;

fn stay(pid: i32, main: OwnedFd) -> ! {
    let Ok((signals, main)) =
        signal::descriptor(signal::Set::ALL).and_then(|signals| keep_only(signals, main))
    else {
        exit(125)
    };
    loop {
        use berth_sys::rustix::event::{PollFd, PollFlags, poll};
        let _ = poll(&mut [PollFd::new(&signals, PollFlags::IN)], None);
        while let Some(number) = signal::next(&signals) {
            if number != SIGCHLD {
                let _ = signal::send(&main, number);
            }
        }
        if let Some(status) = reap(pid) {
            exit(status)
        }
    }
}

/// Holds 0–2 and the two given, as 3 and 4, and nothing else: the supervisor's socket closes with the rest. The lower one
/// goes to 3 first, which the other is not, and then the other to 4: so no further number is needed, however few the
/// container may have.
fn keep_only(signals: OwnedFd, main: OwnedFd) -> Result<(OwnedFd, OwnedFd)> {
    let (lower, higher, swapped) =
        if signals.as_raw_fd() < main.as_raw_fd() { (signals, main, false) } else { (main, signals, true) };
    fd::place(lower.as_fd(), 3)?;
    fd::place(higher.as_fd(), 4)?;
    // The originals go with the range below; their values must not close a number that is used again.
    core::mem::forget((lower, higher));
    fd::close_from(5, fd::Fate::Close)?;
    let (third, fourth) = (fd::inherited(3)?, fd::inherited(4)?);
    Ok(if swapped { (fourth, third) } else { (third, fourth) })
}

/// Reaps all that ended; the shell-like status of the program once it is among them.
fn reap(pid: i32) -> Option<i32> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((who, status))) if who.as_raw_nonzero().get() == pid => {
                ended = status.exit_status().or(status.terminating_signal().map(|s| 128 + s));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return ended,
        }
    }
}
