// SPDX-License-Identifier: Apache-2.0
//! What is said about a series of durations.

use std::time::Duration;

use serde::Serialize;

/// The summary of one series, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) min_ms: f64,
    pub(crate) median_ms: f64,
    /// Nine tenths of the series are not above it (nearest rank).
    pub(crate) p90_ms: f64,
}

impl Summary {
    /// None for an empty series: there is nothing to say about it.
    pub(crate) fn of(series: &[Duration]) -> Option<Summary> {
        let mut sorted: Vec<f64> = series.iter().map(|d| d.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Summary {
            count: sorted.len(),
            min_ms: *sorted.first()?,
            median_ms: median_of_sorted(&sorted)?,
            p90_ms: nearest_rank(&sorted, 90)?,
        })
    }
}

/// The median of any numbers; the mean of the middle two when their count is even.
pub(crate) fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper))
}

/// The smallest number that at least `percent` of all are not above.
fn nearest_rank(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// A small generator for the order of the rounds (xorshift64): the same order in every run.
#[derive(Debug)]
pub(crate) struct Shuffler(u64);

impl Shuffler {
    pub(crate) fn new() -> Shuffler {
        Shuffler(0x9e37_79b9_7f4a_7c15)
    }

    /// Puts the items into another order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(numbers: &[u64]) -> Vec<Duration> {
        numbers.iter().map(|n| Duration::from_millis(*n)).collect()
    }

    #[test]
    fn an_empty_series_has_no_summary() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn one_duration_is_its_own_summary() {
        let summary = Summary::of(&milliseconds(&[7])).unwrap();
        assert_eq!(summary, Summary { count: 1, min_ms: 7.0, median_ms: 7.0, p90_ms: 7.0 });
    }

    #[test]
    fn order_does_not_matter() {
        let summary = Summary::of(&milliseconds(&[9, 1, 8, 2, 7, 3, 6, 4, 5, 10])).unwrap();
        assert_eq!(summary, Summary { count: 10, min_ms: 1.0, median_ms: 5.5, p90_ms: 9.0 });
    }

    #[test]
    fn one_outlier_moves_neither_median_nor_p90() {
        let mut series = vec![Duration::from_millis(3); 19];
        series.push(Duration::from_secs(60));
        let summary = Summary::of(&series).unwrap();
        assert_eq!((summary.median_ms, summary.p90_ms), (3.0, 3.0));
    }

    #[test]
    fn nearest_rank_counts_up_to_the_next_whole_number() {
        let numbers: Vec<f64> = (1..=11).map(f64::from).collect();
        assert_eq!(nearest_rank(&numbers, 90), Some(10.0));
        assert_eq!(nearest_rank(&numbers, 100), Some(11.0));
        assert_eq!(nearest_rank(&numbers, 0), Some(1.0));
    }

    #[test]
    fn shuffling_keeps_every_item_and_visits_every_order() {
        let mut shuffler = Shuffler::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..500 {
            let mut items = [1, 2, 3];
            shuffler.shuffle(&mut items);
            seen.insert(items);
            items.sort_unstable();
            assert_eq!(items, [1, 2, 3]);
        }
        assert_eq!(seen.len(), 6);
    }
}
