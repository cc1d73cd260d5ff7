// SPDX-License-Identifier: Apache-2.0
//! What a stream has used of its limits: one account, charged by a reader on each side of the decompressor. The two
//! may be in different threads.
//!
//! The readers answer a plain I/O error when the account is empty, because that is all that `Read` lets through;
//! the reason is kept here, and whoever handles the error asks for it first.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::error::Limit;
use crate::limits::Limits;

/// The stop hook is asked again after this many bytes, on either side.
const ASK_EVERY: u64 = 1 << 20;

/// Why a reader refused to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stopped,
    Over(Limit),
}

/// What [`crate::Options::stop`] is.
pub(crate) type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

pub(crate) struct Budget<'a> {
    limits: &'a Limits,
    stop: Stop<'a>,
    compressed: AtomicU64,
    expanded: AtomicU64,
    unasked: AtomicU64,
    verdict: Mutex<Option<Verdict>>,
}

impl<'a> Budget<'a> {
    pub(crate) fn new(limits: &'a Limits, stop: Stop<'a>) -> Budget<'a> {
        let (compressed, expanded, unasked) = Default::default();
        Budget { limits, stop, compressed, expanded, unasked, verdict: Mutex::new(None) }
    }

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the stop hook, whatever was read since.
    pub(crate) fn ask(&self) -> io::Result<()> {
        match (self.stop)() {
            true => self.refuse(Verdict::Stopped),
            false => Ok(()),
        }
    }

    /// Charges bytes of the tar stream, or holes of a sparse file.
    pub(crate) fn expand(&self, bytes: u64) -> io::Result<()> {
        let expanded = add(&self.expanded, bytes);
        if expanded > self.limits.bytes {
            return self.refuse(Verdict::Over(Limit::Bytes));
        }
        let allowed = self.compressed.load(Relaxed).max(1).saturating_mul(self.limits.ratio);
        if expanded > self.limits.ratio_free && expanded > allowed {
            return self.refuse(Verdict::Over(Limit::Ratio));
        }
        self.passed(bytes)
    }

    fn take_in(&self, bytes: u64) -> io::Result<()> {
        add(&self.compressed, bytes);
        self.passed(bytes)
    }

    fn passed(&self, bytes: u64) -> io::Result<()> {
        if add(&self.unasked, bytes) < ASK_EVERY {
            return Ok(());
        }
        self.unasked.store(0, Relaxed);
        self.ask()
    }

    fn refuse(&self, verdict: Verdict) -> io::Result<()> {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        Err(io::Error::other("refused by the limits"))
    }
}

/// Adds without wrapping round, and answers the sum. Sizes of hostile files are added here.
fn add(to: &AtomicU64, bytes: u64) -> u64 {
    let before = to.fetch_update(Relaxed, Relaxed, |sum| Some(sum.saturating_add(bytes)));
    before.unwrap_or(0).saturating_add(bytes)
}

/// The file's side of the decompressor.
pub(crate) struct Intake<'b, R> {
    pub(crate) source: R,
    pub(crate) budget: &'b Budget<'b>,
}

impl<R: Read> Read for Intake<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buf)?;
        self.budget.take_in(count as u64)?;
        Ok(count)
    }
}

/// The tar's side of the decompressor. After an error the decompressor is not asked again: few promise to
/// survive that.
pub(crate) struct Outlet<'b, R> {
    source: Option<R>,
    budget: &'b Budget<'b>,
}

impl<'b, R: Read> Outlet<'b, R> {
    pub(crate) fn new(source: R, budget: &'b Budget<'b>) -> Outlet<'b, R> {
        Outlet { source: Some(source), budget }
    }
}

impl<R: Read> Read for Outlet<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(source) = &mut self.source else {
            return Err(io::Error::other("the stream failed before"));
        };
        let read = source.read(buf).and_then(|count| {
            self.budget.expand(count as u64)?;
            Ok(count)
        });
        if read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.source = None;
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_counts_only_after_the_free_bytes() {
        let limits = Limits { ratio: 10, ratio_free: 1000, ..Limits::default() };
        let budget = Budget::new(&limits, &|| false);
        budget.take_in(1).unwrap();
        budget.expand(1000).unwrap();
        budget.expand(1).unwrap_err();
        assert_eq!(budget.verdict(), Some(Verdict::Over(Limit::Ratio)));
    }

    #[test]
    fn the_hook_is_asked_each_mebibyte_on_both_sides() {
        let asked = AtomicU64::new(0);
        let hook = || {
            asked.fetch_add(1, Relaxed);
            false
        };
        let limits = Limits::default();
        let budget = Budget::new(&limits, &hook);
        for _ in 0..64 {
            budget.take_in(64 << 10).unwrap();
        }
        assert_eq!(asked.load(Relaxed), 4);
        for _ in 0..64 {
            budget.expand(64 << 10).unwrap();
        }
        assert_eq!(asked.load(Relaxed), 8);
    }
}
