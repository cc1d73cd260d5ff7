// SPDX-License-Identifier: Apache-2.0
//! Data on its way from one descriptor to another: at most one message of it.

use crate::protocol::DATA;

pub(crate) struct Chunk {
    data: [u8; DATA],
    from: usize,
    to: usize,
}

impl Chunk {
    pub(crate) const EMPTY: Chunk = Chunk { data: [0; DATA], from: 0, to: 0 };

    pub(crate) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.from..self.to]
    }

    pub(crate) fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    pub(crate) fn fill(&mut self, bytes: &[u8]) {
        self.data[..bytes.len()].copy_from_slice(bytes);
        (self.from, self.to) = (0, bytes.len());
    }

    /// The first `n` bytes went on.
    pub(crate) fn took(&mut self, n: usize) {
        self.from = (self.from + n).min(self.to);
    }
}
