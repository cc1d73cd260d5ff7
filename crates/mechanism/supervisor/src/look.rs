// SPDX-License-Identifier: Apache-2.0
//! When a container wrote what it writes into its files itself.
//!
//! ```text
//! ARMED ── SIGIO: something was written ──> LOOKING, every 20 ms and more ── nothing new five times ──> ARMED
//! ```
//! The supervisor notes the sizes of the files with the time. While a container prints, nobody watches it, so that its
//! writes cost what they cost without; while it is silent, the supervisor sleeps. It begins some moments after the program
//! was executed: for a container that is over before that, the time of the files is as good.

use berth_logger::{STEP, Times, now};
use berth_sys::rustix::event::Timespec;
use berth_sys::rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use berth_sys::rustix::fs::{AtFlags, statat};
use berth_sys::{Result, fd, signal};
use core::ffi::CStr;

const SIGIO: i32 = 29;
/// The files, and their indices.
const FILES: [(&CStr, &CStr); 2] = [(c"stdout", c".stdout.times"), (c"stderr", c".stderr.times")];
/// How often nothing is seen before it is waited for.
const QUIET: u32 = 5;

pub(crate) struct Look {
    signals: Option<OwnedFd>,
    times: [Times; 2],
    phase: Phase,
    /// When to look next, in nanoseconds since 1970.
    next: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not begun, or there is nothing to look at.
    Off,
    Armed,
    Looking {
        quiet: u32,
    },
}

impl Look {
    pub(crate) const OFF: Look =
        Look { signals: None, times: [Times::new(0), Times::new(0)], phase: Phase::Off, next: 0 };

    pub(crate) fn is_off(&self) -> bool {
        self.phase == Phase::Off
    }

    /// Begins, with what was written already. SIGIO is blocked from here on, and read.
    pub(crate) fn begin(&mut self, work: Option<&OwnedFd>) {
        let blocked = || -> Result<OwnedFd> {
            let set = signal::Set::of(&[SIGIO]);
            let before = signal::set_mask(signal::Set::ALL)?;
            signal::set_mask(signal::Set(before.0 | set.0))?;
            signal::descriptor(set)
        };
        self.signals = blocked().ok();
        self.phase = Phase::Looking { quiet: 0 };
        self.look(work);
    }

    /// For poll: readable when something was written.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.signals.as_ref().filter(|_| self.phase == Phase::Armed).map(AsFd::as_fd)
    }

    /// How long poll may take.
    pub(crate) fn patience(&self) -> Option<u64> {
        match self.phase {
            Phase::Looking { .. } => Some(self.next.saturating_sub(now())),
            Phase::Off | Phase::Armed => None,
        }
    }

    /// Something was written.
    pub(crate) fn told(&mut self, work: Option<&OwnedFd>) {
        if let Some(signals) = &self.signals {
            while signal::next(signals).is_some() {}
        }
        if self.phase == Phase::Armed {
            self.phase = Phase::Looking { quiet: 0 };
            self.look(work);
        }
    }

    /// Looks, if it is time to.
    pub(crate) fn look_due(&mut self, work: Option<&OwnedFd>) {
        if matches!(self.phase, Phase::Looking { .. }) && now() >= self.next {
            self.look(work);
        }
    }

    /// Notes what was written last.
    pub(crate) fn end(&mut self, work: Option<&OwnedFd>) {
        if self.phase != Phase::Off {
            self.look(work);
            self.flush(work);
        }
    }

    fn look(&mut self, work: Option<&OwnedFd>) {
        let (Phase::Looking { quiet }, Some(work)) = (self.phase, work) else {
            if let Some(work) = work {
                self.sizes(work);
            }
            return;
        };
        let mut step = STEP;
        if self.sizes(work) {
            self.phase = Phase::Looking { quiet: 0 };
        } else if quiet < QUIET {
            self.phase = Phase::Looking { quiet: quiet + 1 };
        } else {
            self.flush(Some(work));
            // What is written from here on is told; what was written until here is seen.
            let armed = self.signals.is_some() && fd::tell_when_written(work.as_fd()).is_ok();
            match (armed, self.sizes(work)) {
                (true, false) => self.phase = Phase::Armed,
                (true, true) => self.phase = Phase::Looking { quiet: 0 },
                // Who can not be told looks once a second.
                (false, _) => step = 1_000_000_000,
            }
        }
        let steps = self.times.iter().filter(|times| times.due().is_some()).map(Times::step);
        self.next = now() + steps.fold(step, u64::max);
    }

    /// Notes the sizes; whether something was written since the last time.
    fn sizes(&mut self, work: &OwnedFd) -> bool {
        let mut more = false;
        for (times, (file, index)) in self.times.iter_mut().zip(FILES) {
            let Ok(stat) = statat(work, file, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            more |= times.note(stat.st_size.max(0) as u64, now(), work.as_fd(), index);
        }
        more
    }

    fn flush(&mut self, work: Option<&OwnedFd>) {
        let Some(work) = work else { return };
        for (times, (_, index)) in self.times.iter_mut().zip(FILES) {
            times.flush(work.as_fd(), index);
        }
    }
}

/// The shorter of two patiences, for poll.
pub(crate) fn sooner(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Nanoseconds as poll takes them.
pub(crate) fn timespec(nanoseconds: u64) -> Timespec {
    Timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 }
}
