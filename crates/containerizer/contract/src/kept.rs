// SPDX-License-Identifier: Apache-2.0
//! Texts that are kept for a while, one behind the other in one piece of memory. Each in an allocation of its own would hold
//! a page, between what came and went at the same time.

use std::collections::VecDeque;

/// The latest texts, the oldest first.
#[derive(Debug, Default)]
pub struct Kept {
    bytes: VecDeque<u8>,
    /// Where each begins, counted from the first that there ever was, and how long it is.
    places: VecDeque<(u64, usize)>,
    /// Where the oldest begins.
    first: u64,
}

impl Kept {
    /// How many are kept.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Keeps one more.
    pub fn push(&mut self, text: &[u8]) {
        self.places.push_back((self.first + self.bytes.len() as u64, text.len()));
        self.bytes.extend(text);
    }

    /// Forgets the oldest.
    pub fn pop(&mut self) {
        let Some((_, length)) = self.places.pop_front() else { return };
        self.bytes.drain(..length);
        self.first += length as u64;
    }

    /// One of them, from the oldest.
    pub fn get(&self, index: usize) -> Option<Vec<u8>> {
        let (begin, length) = *self.places.get(index)?;
        let begin = usize::try_from(begin - self.first).ok()?;
        Some(self.bytes.range(begin..begin + length).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_by_its_place_whatever_went_before() {
        let mut kept = Kept::default();
        for n in 0..1000u32 {
            kept.push(&vec![n as u8; n as usize % 37]);
            if kept.len() > 5 {
                kept.pop();
            }
        }
        assert_eq!(kept.len(), 5);
        let all: Vec<_> = (0..6).map(|index| kept.get(index)).collect();
        let expected = |n: u32| Some(vec![n as u8; n as usize % 37]);
        let mut last: Vec<_> = (995..1000).map(expected).collect();
        last.push(None);
        assert_eq!(all, last);
    }
}
