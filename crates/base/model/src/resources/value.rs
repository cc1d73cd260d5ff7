// SPDX-License-Identifier: Apache-2.0
//! The three kinds of amounts: a number, ranges of whole numbers, a set of names.
//!
//! Values are always in normal form, so that equality is plain equality: numbers in thousandths, ranges sorted and
//! merged, sets sorted. Lists as a user wrote them are checked by the `from_…` functions, which is where double
//! items and overlaps can still be seen.

use super::{Invalid, ValueType};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::{AddAssign, RangeInclusive, SubAssign};

/// A number with three decimals, as a whole number of thousandths, so that sums are exact and in any order the same.
///
/// Addition and subtraction stop at the ends of the type instead of overflowing. Numbers with up to 15 digits
/// survive text and JSON (where they are doubles) unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Scalar(i64);

/// The largest number that input may give: 9·10¹⁵. Mesos has no bound; above this its conversion overflows.
const MAX_INPUT: f64 = 9.0e15;

impl Scalar {
    /// Nothing.
    pub const ZERO: Scalar = Scalar(0);

    /// A number of thousandths.
    pub const fn from_thousandths(thousandths: i64) -> Scalar {
        Scalar(thousandths)
    }

    /// A whole number, for example of megabytes.
    pub fn from_whole(whole: u64) -> Scalar {
        Scalar(i64::try_from(whole).unwrap_or(i64::MAX).saturating_mul(1000))
    }

    /// The amount that a user gave, rounded to thousandths: not negative, not infinite, and if it is not zero it may
    /// not be zero after rounding.
    pub fn from_input(value: f64) -> Result<Scalar, Invalid> {
        if value.is_nan() || value > MAX_INPUT {
            return Err(Invalid::ScalarTooLarge);
        }
        let scalar = Scalar((value * 1000.0).round() as i64);
        if value != 0.0 && scalar <= Scalar::ZERO { Err(Invalid::ScalarNotPositive) } else { Ok(scalar) }
    }

    /// The number of thousandths.
    pub const fn thousandths(self) -> i64 {
        self.0
    }

    /// The number without its fraction; nothing for negative numbers.
    pub fn whole(self) -> u64 {
        u64::try_from(self.0 / 1000).unwrap_or(0)
    }

    /// The number as a double. Whole and fraction are converted apart, so that 0.1 is the double nearest to 0.1.
    pub fn to_f64(self) -> f64 {
        (self.0 / 1000) as f64 + (self.0 % 1000) as f64 / 1000.0
    }
}

impl AddAssign for Scalar {
    fn add_assign(&mut self, that: Scalar) {
        self.0 = self.0.saturating_add(that.0);
    }
}

impl SubAssign for Scalar {
    fn sub_assign(&mut self, that: Scalar) {
        self.0 = self.0.saturating_sub(that.0);
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{rest:03}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// The whole numbers from `begin` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Range {
    /// The first number.
    pub begin: u64,
    /// The last number.
    pub end: u64,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.begin, self.end)
    }
}

/// Whole numbers, for example ports, as sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// The ranges that a user gave, in any order; ranges that touch are merged. A range that ends before it begins
    /// and ranges that overlap are refused.
    ///
    /// Mesos merges overlapping ranges silently when they come as text and refuses them when they come as JSON. Here
    /// both are refused: `[1-2,2-3]` is far more often a slip of the pen than a wish, and the sum of the sizes that
    /// the user wrote is not what the agent would offer.
    pub fn from_input(ranges: Vec<Range>) -> Result<Ranges, Invalid> {
        if ranges.iter().any(|range| range.begin > range.end) {
            return Err(Invalid::RangeBackwards);
        }
        let mut sorted = ranges;
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[1].begin <= pair[0].end) {
            return Err(Invalid::RangesOverlap);
        }
        Ok(Ranges::coalesce(sorted))
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range> + '_ {
        self.0.iter().copied()
    }

    /// Whether there is no number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one number is in it.
    pub fn contains_number(&self, number: u64) -> bool {
        self.contains_range(Range { begin: number, end: number })
    }

    /// Whether every number of `that` is in it.
    pub fn contains(&self, that: &Ranges) -> bool {
        that.iter().all(|range| self.contains_range(range))
    }

    fn contains_range(&self, range: Range) -> bool {
        let after = self.0.partition_point(|own| own.begin <= range.begin);
        after.checked_sub(1).is_some_and(|at| range.end <= self.0[at].end)
    }

    /// Merges sorted ranges that overlap or touch.
    fn coalesce(sorted: Vec<Range>) -> Ranges {
        let mut merged: Vec<Range> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if range.begin <= last.end.saturating_add(1) => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Ranges(merged)
    }
}

/// Ranges in any order, overlapping or not; those that end before they begin are empty, as Rust has it.
impl FromIterator<RangeInclusive<u64>> for Ranges {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u64>>>(ranges: I) -> Ranges {
        let mut sorted: Vec<Range> = ranges
            .into_iter()
            .filter(|range| !range.is_empty())
            .map(|range| Range { begin: *range.start(), end: *range.end() })
            .collect();
        sorted.sort_unstable();
        Ranges::coalesce(sorted)
    }
}

impl AddAssign<&Ranges> for Ranges {
    fn add_assign(&mut self, that: &Ranges) {
        self.0.extend(that.iter());
        self.0.sort_unstable();
        *self = Ranges::coalesce(std::mem::take(&mut self.0));
    }
}

impl SubAssign<&Ranges> for Ranges {
    fn sub_assign(&mut self, that: &Ranges) {
        let mut left = Vec::with_capacity(self.0.len());
        let mut cuts = that.0.as_slice();
        for range in &self.0 {
            while let [first, rest @ ..] = cuts
                && first.end < range.begin
            {
                cuts = rest;
            }
            left.extend(without(*range, cuts));
        }
        self.0 = left;
    }
}

/// What stays of one range. `cuts` are sorted, and the first may begin before the range.
fn without(range: Range, cuts: &[Range]) -> Vec<Range> {
    let mut left = Vec::new();
    let mut begin = range.begin;
    for cut in cuts.iter().take_while(|cut| cut.begin <= range.end) {
        if cut.begin > begin {
            left.push(Range { begin, end: cut.begin - 1 });
        }
        if cut.end >= range.end {
            return left;
        }
        begin = cut.end + 1;
    }
    left.push(Range { begin, end: range.end });
    left
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, '[', &self.0, ']')
    }
}

/// Names, for example of zones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Set(BTreeSet<String>);

impl Set {
    /// The names that a user gave, in any order; a name that comes twice is refused.
    pub fn from_input(items: Vec<String>) -> Result<Set, Invalid> {
        let count = items.len();
        let set = BTreeSet::from_iter(items);
        if set.len() < count { Err(Invalid::SetDuplicates) } else { Ok(Set(set)) }
    }

    /// The names, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + '_ {
        self.0.iter().map(String::as_str)
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every name of `that` is in it.
    pub fn contains(&self, that: &Set) -> bool {
        that.0.is_subset(&self.0)
    }
}

impl<T: Into<String>> FromIterator<T> for Set {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Set {
        Set(items.into_iter().map(Into::into).collect())
    }
}

impl AddAssign<&Set> for Set {
    fn add_assign(&mut self, that: &Set) {
        self.0.extend(that.0.iter().cloned());
    }
}

impl SubAssign<&Set> for Set {
    fn sub_assign(&mut self, that: &Set) {
        self.0.retain(|item| !that.0.contains(item));
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, '{', &self.0, '}')
    }
}

/// How much there is of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// A number.
    Scalar(Scalar),
    /// Ranges of whole numbers.
    Ranges(Ranges),
    /// A set of names.
    Set(Set),
}

impl Value {
    /// Its kind.
    pub fn kind(&self) -> ValueType {
        match self {
            Value::Scalar(_) => ValueType::Scalar,
            Value::Ranges(_) => ValueType::Ranges,
            Value::Set(_) => ValueType::Set,
        }
    }

    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Scalar(scalar) => *scalar == Scalar::ZERO,
            Value::Ranges(ranges) => ranges.is_empty(),
            Value::Set(set) => set.is_empty(),
        }
    }

    /// Whether all of `that` is in it; never across kinds.
    pub fn contains(&self, that: &Value) -> bool {
        match (self, that) {
            (Value::Scalar(own), Value::Scalar(other)) => other <= own,
            (Value::Ranges(own), Value::Ranges(other)) => own.contains(other),
            (Value::Set(own), Value::Set(other)) => own.contains(other),
            _ => false,
        }
    }

    /// Adds a value of the same kind; one of another kind changes nothing.
    pub(super) fn add(&mut self, that: &Value) {
        match (self, that) {
            (Value::Scalar(own), Value::Scalar(other)) => *own += *other,
            (Value::Ranges(own), Value::Ranges(other)) => *own += other,
            (Value::Set(own), Value::Set(other)) => *own += other,
            _ => {}
        }
    }

    /// Takes away a value of the same kind; one of another kind changes nothing. A number may become negative.
    pub(super) fn subtract(&mut self, that: &Value) {
        match (self, that) {
            (Value::Scalar(own), Value::Scalar(other)) => *own -= *other,
            (Value::Ranges(own), Value::Ranges(other)) => *own -= other,
            (Value::Set(own), Value::Set(other)) => *own -= other,
            _ => {}
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Scalar(scalar) => scalar.fmt(f),
            Value::Ranges(ranges) => ranges.fmt(f),
            Value::Set(set) => set.fmt(f),
        }
    }
}

fn write_list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    open: char,
    items: impl IntoIterator<Item = T>,
    close: char,
) -> fmt::Result {
    write!(f, "{open}")?;
    for (at, item) in items.into_iter().enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
    }
    write!(f, "{close}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(list: &[(u64, u64)]) -> Ranges {
        list.iter().map(|&(begin, end)| begin..=end).collect()
    }

    #[test]
    fn numbers_are_rounded_to_thousandths() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (2.5004, "2.5"),
            (0.0005, "0.001"),
            (1e3, "1000"),
            (1.05, "1.05"),
            (123456789.001, "123456789.001"),
            (-0.0, "0"),
        ];
        for (value, text) in cases {
            assert_eq!(Scalar::from_input(value).unwrap().to_string(), text);
        }
        let mut sum = Scalar::from_input(0.1).unwrap();
        sum += Scalar::from_input(0.2).unwrap();
        assert_eq!(sum.to_f64(), 0.3);
    }

    #[test]
    fn numbers_below_half_a_thousandth_and_negative_ones_are_refused() {
        for value in [0.0001, 0.000499, f64::MIN_POSITIVE, -1.0, -0.0001, f64::NEG_INFINITY] {
            assert_eq!(Scalar::from_input(value), Err(Invalid::ScalarNotPositive), "{value}");
        }
        for value in [f64::INFINITY, f64::NAN, 1e16, f64::MAX] {
            assert_eq!(Scalar::from_input(value), Err(Invalid::ScalarTooLarge), "{value}");
        }
    }

    #[test]
    fn sums_stop_at_the_ends_of_the_type() {
        let mut most = Scalar::from_whole(u64::MAX);
        most += Scalar::from_whole(1);
        assert_eq!(most.thousandths(), i64::MAX);
        let mut least = Scalar::from_thousandths(i64::MIN);
        least -= Scalar::from_whole(1);
        assert_eq!(least.to_string(), "-9223372036854775.808");
        assert_eq!(least.whole(), 0);
    }

    #[test]
    fn ranges_that_touch_or_overlap_are_merged() {
        assert_eq!(ranges(&[(5, 9), (1, 2), (3, 4), (20, 30), (25, 26)]).to_string(), "[1-9, 20-30]");
        assert_eq!(ranges(&[(u64::MAX, u64::MAX), (0, 0), (0, u64::MAX)]), ranges(&[(0, u64::MAX)]));
        assert_eq!(ranges(&[(9, 5)]).to_string(), "[]");
    }

    #[test]
    fn subtraction_splits_ranges() {
        let mut left = ranges(&[(0, 10), (20, 30), (40, 50), (u64::MAX, u64::MAX)]);
        left -= &ranges(&[(0, 2), (4, 5), (8, 22), (45, 45), (60, u64::MAX)]);
        assert_eq!(left.to_string(), "[3-3, 6-7, 23-30, 40-44, 46-50]");
    }

    #[test]
    fn ranges_as_a_user_wrote_them_may_not_overlap_or_run_backwards() {
        let read = |list: &[(u64, u64)]| {
            Ranges::from_input(list.iter().map(|&(begin, end)| Range { begin, end }).collect())
        };
        assert_eq!(read(&[(3, 4), (1, 2)]).unwrap().to_string(), "[1-4]");
        assert_eq!(read(&[(1, 2), (2, 3)]), Err(Invalid::RangesOverlap));
        assert_eq!(read(&[(5, 6), (1, 10)]), Err(Invalid::RangesOverlap));
        assert_eq!(read(&[(2, 1)]), Err(Invalid::RangeBackwards));
    }

    #[test]
    fn sets_as_a_user_wrote_them_may_not_repeat_a_name() {
        let read = |list: &[&str]| Set::from_input(list.iter().map(|item| item.to_string()).collect());
        assert_eq!(read(&["b", "a"]).unwrap().to_string(), "{a, b}");
        assert_eq!(read(&["a", "a"]), Err(Invalid::SetDuplicates));
    }

    proptest! {
        #[test]
        fn a_number_survives_its_way_through_a_double(thousandths in 0..1_000_000_000_000_000_i64) {
            let scalar = Scalar::from_thousandths(thousandths);
            prop_assert_eq!(Scalar::from_input(scalar.to_f64()), Ok(scalar));
            prop_assert_eq!(Scalar::from_input(scalar.to_string().parse().unwrap()), Ok(scalar));
        }

        #[test]
        fn ranges_agree_with_sets_of_numbers(
            a in prop::collection::vec((0..40_u64, 0..40_u64), 0..8),
            b in prop::collection::vec((0..40_u64, 0..40_u64), 0..8),
        ) {
            let numbers = |list: &[(u64, u64)]| -> BTreeSet<u64> {
                list.iter().flat_map(|&(begin, end)| begin..=end).collect()
            };
            let listed = |ranges: &Ranges| -> BTreeSet<u64> {
                ranges.iter().flat_map(|range| range.begin..=range.end).collect()
            };
            let (left, right) = (ranges(&a), ranges(&b));
            let (mut sum, mut difference) = (left.clone(), left.clone());
            sum += &right;
            difference -= &right;
            prop_assert_eq!(listed(&sum), &numbers(&a) | &numbers(&b));
            prop_assert_eq!(listed(&difference), &numbers(&a) - &numbers(&b));
            prop_assert_eq!(left.contains(&right), numbers(&b).is_subset(&numbers(&a)));
            for number in 0..40 {
                prop_assert_eq!(left.contains_number(number), numbers(&a).contains(&number));
            }
            let again: Ranges = sum.iter().map(|range| range.begin..=range.end).collect();
            prop_assert_eq!(&again, &sum, "merging twice changes nothing");
            prop_assert!(sum.0.windows(2).all(|pair| pair[0].end + 1 < pair[1].begin));
        }
    }
}
