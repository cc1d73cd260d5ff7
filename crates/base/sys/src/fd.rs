// SPDX-License-Identifier: Apache-2.0
//! Descriptors: taking numbers that another process arranged, and closing whole ranges.

use crate::{Result, raw};
use linux_raw_sys::general as k;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// How often a lookup is begun anew.
const LOOKUPS: usize = 128;

/// openat2(2) with `how` a scope (`RESOLVE_BENEATH`, `RESOLVE_IN_ROOT`). When something was renamed or mounted on the host
/// while it went through a `..`, the kernel can not tell whether that led out, and says EAGAIN: it is asked again.
pub fn open_within(
    dir: impl rustix::fd::AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: rustix::fs::OFlags,
    how: rustix::fs::ResolveFlags,
) -> Result<OwnedFd> {
    for _ in 0..LOOKUPS {
        match rustix::fs::openat2(&dir, path, flags, rustix::fs::Mode::empty(), how) {
            Err(crate::Errno::AGAIN | crate::Errno::INTR) => {}
            done => return done,
        }
    }
    Err(crate::Errno::AGAIN)
}

/// `include/uapi/linux/close_range.h`.
const CLOSE_RANGE_CLOEXEC: usize = 4;
/// `include/uapi/asm-generic/poll.h`: the number is not open.
const POLLNVAL: i16 = 0x20;

/// Takes ownership of a descriptor number that was arranged for this process before its start (inherited at
/// exec), once. Refused with `EBADF` when nothing is open there.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer; on a number that is not open it fails with EBADF.
    unsafe { raw::call(k::__NR_fcntl, [number as usize, k::F_GETFD as usize, 0, 0, 0, 0])? };
    // SAFETY: the descriptor is open (checked above), and by this function's contract the caller arranged it
    // for itself and takes it once, so nothing else closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2), kernel 5.11), or closes them one
/// range at once with `Fate::Close`.
pub fn close_from(first: RawFd, fate: Fate) -> Result<()> {
    let flags = match fate {
        Fate::Close => 0,
        Fate::CloseOnExec => CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: no pointers. Closing descriptors that Rust values own would break their invariants; every
    // caller is a child about to exec, which drops none of them (it execs or exits).
    let done = unsafe { raw::call(k::__NR_close_range, [first as usize, u32::MAX as usize, flags, 0, 0, 0]) };
    match done {
        // Linux 5.9 and 5.10 can only close.
        Err(Errno::INVAL) if fate == Fate::CloseOnExec => mark_each_from(first as usize),
        done => done.map(drop),
    }
}

/// Marks them one by one. poll(2) tells in pieces which numbers are open, since there may be a million.
fn mark_each_from(first: usize) -> Result<()> {
    const PIECE: usize = 256;
    /// The most that `fs.nr_open` may be set to on 64 bits is far more; its default is where processes end in practice.
    const NR_OPEN: usize = 1 << 20;
    let mut polled = [k::pollfd { fd: 0, events: 0, revents: 0 }; PIECE];
    let mut next = first;
    while next < NR_OPEN {
        for (at, one) in polled.iter_mut().enumerate() {
            *one = k::pollfd { fd: (next + at) as RawFd, events: 0, revents: 0 };
        }
        // SAFETY: the kernel reads and writes `PIECE` elements of `polled`, which has as many, and keeps no pointer.
        let told =
            unsafe { raw::call(k::__NR_poll, [polled.as_mut_ptr() as usize, PIECE, 0, 0, 0, 0]).is_ok() };
        for one in &polled {
            // Not told: this process may have fewer descriptors than one piece has numbers.
            if !told || one.revents & POLLNVAL == 0 {
                let args = [one.fd as usize, k::F_SETFD as usize, k::FD_CLOEXEC as usize, 0, 0, 0];
                // SAFETY: no pointers; on a number that is not open it fails with EBADF, which is fine.
                let _ = unsafe { raw::call(k::__NR_fcntl, args) };
            }
        }
        next += PIECE;
    }
    Ok(())
}

/// What [`close_from`] does with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Close now.
    Close,
    /// Close at the next exec.
    CloseOnExec,
}

/// Has the kernel send SIGIO to this process once, when something in the directory is written to (fcntl(2), `F_NOTIFY`).
/// Older than inotify(7) and without its bound on instances, of which root has 128 in all; and what was told once costs
/// the writers nothing any more. The caller blocks SIGIO and reads it, or it ends the process.
pub fn tell_when_written(directory: BorrowedFd<'_>) -> Result<()> {
    const F_NOTIFY: usize = 1024 + 2;
    const DN_MODIFY: usize = 2;
    // SAFETY: no pointers.
    unsafe {
        raw::call(k::__NR_fcntl, [directory.as_raw_fd() as usize, F_NOTIFY, DN_MODIFY, 0, 0, 0]).map(drop)
    }
}

/// A copy of a descriptor, closed on exec (fcntl(2), `F_DUPFD_CLOEXEC`).
pub fn duplicate(from: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(from, 0)
}

/// Makes `to` refer to what `from` refers to, without close-on-exec, closing what was at `to` (dup3(2)); when
/// both are the same number only the flag is cleared. For descriptors that an exec is to inherit.
pub fn place(from: BorrowedFd<'_>, to: RawFd) -> Result<()> {
    let from = from.as_raw_fd();
    // SAFETY: no pointers; the caller is a child about to exec and names fixed numbers (0, 1, 2, …) which no
    // owned value of it occupies.
    unsafe {
        if from == to {
            raw::call(k::__NR_fcntl, [from as usize, k::F_SETFD as usize, 0, 0, 0, 0]).map(drop)
        } else {
            raw::call(k::__NR_dup3, [from as usize, to as usize, 0, 0, 0, 0]).map(drop)
        }
    }
}

/// Opens /dev/null at each of 0, 1 and 2 that is closed, so that nothing else ever gets one of these numbers.
pub fn open_standard() -> Result<()> {
    for number in 0..3usize {
        // SAFETY: F_GETFD takes no pointer; then openat reads a NUL-terminated path. The lowest free number, which is
        // this one, is left open on purpose.
        unsafe {
            if raw::call(k::__NR_fcntl, [number, k::F_GETFD as usize, 0, 0, 0, 0]).is_err() {
                let args =
                    [k::AT_FDCWD as usize, c"/dev/null".as_ptr() as usize, k::O_RDWR as usize, 0, 0, 0];
                raw::call(k::__NR_openat, args)?;
            }
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_is_begun_anew_while_others_rename() {
        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat};
        use std::sync::atomic::{AtomicBool, Ordering};
        let place = std::env::temp_dir().join(format!("berth-within-{}", std::process::id()));
        std::fs::create_dir_all(place.join("a/b")).unwrap();
        let dir = openat(CWD, &place, OFlags::PATH, Mode::empty()).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, other) = (place.join("one"), place.join("other"));
                std::fs::write(&one, "").unwrap();
                while !over.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::fs::rename(&other, &one).unwrap();
                }
            });
            let results: Vec<_> = (0..20_000)
                .map(|_| open_within(&dir, "a/b/../../a/b/..", OFlags::PATH, ResolveFlags::IN_ROOT).map(drop))
                .collect();
            over.store(true, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok));
        });
        std::fs::remove_dir_all(place).unwrap();
    }
}
