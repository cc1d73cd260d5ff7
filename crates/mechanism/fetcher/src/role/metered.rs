// SPDX-License-Identifier: Apache-2.0
//! A decompressor between two counters, for formats that `berth-image` does not open itself.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use crate::wire::Limits;

/// Counts what goes into a decompressor.
pub(super) struct Intake<R> {
    source: R,
    count: Rc<Cell<u64>>,
}

impl<R> Intake<R> {
    pub(super) fn new(source: R) -> (Intake<R>, Rc<Cell<u64>>) {
        let count = Rc::new(Cell::new(0));
        (Intake { source, count: count.clone() }, count)
    }
}

impl<R: Read> Read for Intake<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buf)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Counts what comes out of it, and refuses when that is too much.
pub(super) struct Outlet<R> {
    source: R,
    taken: Rc<Cell<u64>>,
    given: u64,
    limits: Limits,
}

impl<R> Outlet<R> {
    pub(super) fn new(source: R, taken: Rc<Cell<u64>>, limits: &Limits) -> Outlet<R> {
        Outlet { source, taken, given: 0, limits: limits.clone() }
    }
}

impl<R: Read> Read for Outlet<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buf)?;
        self.given += count as u64;
        within(self.given, self.taken.get(), &self.limits)?;
        Ok(count)
    }
}

/// Whether `given` bytes out of `taken` are no bomb.
pub(super) fn within(given: u64, taken: u64, limits: &Limits) -> io::Result<()> {
    let (most, ratio) = (limits.bytes, limits.ratio);
    if given > most {
        return Err(io::Error::other(format!(
            "it turns into more than {most} bytes, the most that is unpacked"
        )));
    }
    if given > limits.ratio_free && given > taken.max(1).saturating_mul(ratio) {
        return Err(io::Error::other(format!(
            "each of its bytes turns into more than {ratio}, the most that is unpacked: it looks like a bomb"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_found_by_its_ratio_and_by_its_size() {
        let limits = Limits { bytes: 2000, ratio: 10, ratio_free: 1000, ..Limits::default() };
        let (mut intake, taken) = Intake::new(&[0u8; 8][..]);
        intake.read_exact(&mut [0; 8]).unwrap();
        let mut outlet = Outlet::new(io::repeat(0).take(1001), taken, &limits);
        let error = io::copy(&mut outlet, &mut io::sink()).unwrap_err().to_string();
        assert!(error.contains("bomb"), "{error}");
        assert!(within(2001, u64::MAX, &limits).unwrap_err().to_string().contains("more than 2000"));
        within(2000, 200, &limits).unwrap();
    }
}
