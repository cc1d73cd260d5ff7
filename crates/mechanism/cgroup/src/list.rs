// SPDX-License-Identifier: Apache-2.0
//! Lists of processors and of nodes of memory, as the kernel writes them: `0-3,8`.

use std::fmt;
use std::str::FromStr;

/// No machine has more processors (the kernel's largest CONFIG_NR_CPUS is 8192).
const MOST: u32 = 65_536;

/// Numbers in order, each once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdList(Vec<(u32, u32)>);

/// Why a text is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A part that is neither a number nor a range.
    #[error("{0:?} is neither a number nor a range such as 0-3")]
    Part(String),
    /// A range that ends before it begins.
    #[error("the range {0}-{1} ends before it begins")]
    Backwards(u32, u32),
    /// A number that no machine has.
    #[error("no machine has a number {0}")]
    TooLarge(u32),
}

impl IdList {
    /// From ranges, both ends included, in any order.
    ///
    /// # Errors
    /// [`ListError::Backwards`], [`ListError::TooLarge`].
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u32, u32)>) -> Result<IdList, ListError> {
        let mut sorted: Vec<_> = ranges.into_iter().collect();
        sorted.sort_unstable();
        let mut list: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (begin, end) in sorted {
            if begin > end {
                return Err(ListError::Backwards(begin, end));
            }
            if end >= MOST {
                return Err(ListError::TooLarge(end));
            }
            match list.last_mut() {
                Some(last) if begin <= last.1 + 1 => last.1 = last.1.max(end),
                _ => list.push((begin, end)),
            }
        }
        Ok(IdList(list))
    }

    /// Whether there is no number in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|(begin, end)| end - begin + 1).sum()
    }

    /// Whether every number of `other` is in it.
    pub fn contains(&self, other: &IdList) -> bool {
        other.0.iter().all(|(begin, end)| self.0.iter().any(|(from, to)| from <= begin && end <= to))
    }
}

impl FromStr for IdList {
    type Err = ListError;

    /// `0-3,8`; nothing is the empty list.
    fn from_str(text: &str) -> Result<IdList, ListError> {
        let number = |part: &str, whole: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().ok() } else { None }.ok_or_else(|| ListError::Part(whole.to_owned()))
        };
        let range = |part: &str| match part.split_once('-') {
            Some((begin, end)) => Ok((number(begin, part)?, number(end, part)?)),
            None => number(part, part).map(|one| (one, one)),
        };
        if text.trim().is_empty() {
            return Ok(IdList::default());
        }
        let ranges = text.trim().split(',').map(range).collect::<Result<Vec<_>, _>>()?;
        IdList::from_ranges(ranges)
    }
}

impl fmt::Display for IdList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (begin, end)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match begin == end {
                true => write!(f, "{begin}")?,
                false => write!(f, "{begin}-{end}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> IdList {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn lists_are_read_and_written_in_the_kernels_way() {
        for (text, written) in
            [("", ""), ("0", "0"), ("3,0-1,2", "0-3"), ("8,0-3\n", "0-3,8"), ("1,1,1", "1"), ("5-5", "5")]
        {
            assert_eq!(list(text).to_string(), written, "{text}");
        }
        assert_eq!(list("0-3,8").count(), 5);
        assert!(list("0-3,8").contains(&list("1,2,8")) && !list("0-3").contains(&list("3-4")));
    }

    #[test]
    fn what_is_no_list_is_refused_in_words() {
        for (text, said) in [
            ("a", "neither a number"),
            ("1-", "neither a number"),
            ("0,,1", "neither a number"),
            ("-1", "neither a number"),
            ("3-1", "ends before"),
            ("99999999", "no machine"),
            ("99999999999", "neither a number"),
        ] {
            let error = text.parse::<IdList>().expect_err(text);
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_list_that_is_written_reads_the_same(ranges in prop::collection::vec((0u32..200, 0u32..20), 0..12)) {
            let list = IdList::from_ranges(ranges.iter().map(|(begin, more)| (*begin, begin + more))).unwrap();
            prop_assert_eq!(&list.to_string().parse::<IdList>().unwrap(), &list);
            let mut all: Vec<u32> = ranges.iter().flat_map(|(begin, more)| *begin..=begin + more).collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(list.count() as usize, all.len());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<IdList>();
        }
    }
}
