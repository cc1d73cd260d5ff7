// SPDX-License-Identifier: Apache-2.0
//! What stands behind the question mark: names and values, and the numbers and times in them, refused in Mesos's words.

use std::time::Duration;

use hyper::Uri;
use percent_encoding::percent_decode_str;

use crate::Refusal;

/// A query. Of a name that comes twice the last value counts.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// That of a request.
    pub fn of(uri: &Uri) -> Query {
        let decoded =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        Query(pairs.map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A value without which there is no answer.
    pub(crate) fn need(&self, name: &str) -> Result<&str, Refusal> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| Refusal::bad_request(format!("Expecting '{name}=value' in query.\n")))
    }

    /// A count of bytes; -1 and nothing both mean that none is given.
    pub(crate) fn count(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number: i64 = text.parse().map_err(|_| {
            Refusal::bad_request(format!("Failed to parse {name}: Failed to convert '{text}' to number.\n"))
        })?;
        match number {
            -1 => Ok(None),
            number => u64::try_from(number)
                .map(Some)
                .map_err(|_| Refusal::bad_request(format!("Negative {name} provided: {number}.\n"))),
        }
    }

    /// A length of time, such as `5secs`.
    ///
    /// # Errors
    /// It is none.
    pub fn time(&self, name: &str) -> Result<Option<Duration>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let invalid = |why: String| Refusal::bad_request(format!("Invalid {name} '{text}': {why}.\n"));
        parse(text).map(Some).map_err(invalid)
    }
}

/// Seconds in each unit of Mesos's.
const UNITS: &[(&str, f64)] = &[
    ("ns", 1e-9),
    ("us", 1e-6),
    ("ms", 1e-3),
    ("secs", 1.0),
    ("mins", 60.0),
    ("hrs", 3600.0),
    ("days", 86_400.0),
    ("weeks", 604_800.0),
];

fn parse(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| format!("Failed to convert '{number}' to number"))?;
    let unit = UNITS.iter().find(|(known, _)| *known == unit).map(|(_, seconds)| *seconds);
    let seconds =
        unit.ok_or("Unknown duration unit, use ns, us, ms, secs, mins, hrs, days or weeks")? * number;
    Duration::try_from_secs_f64(seconds).map_err(|_| "no time is negative or so long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn names_and_values_are_decoded_and_the_last_counts() {
        let query = query("path=%2Fa%20b+c&x&path2=%ff&jsonp=a&jsonp=b");
        assert_eq!(query.get("path"), Some("/a b c"));
        assert_eq!(query.get("path2"), Some("\u{fffd}"));
        assert_eq!((query.get("jsonp"), query.get("x")), (Some("b"), None));
        assert_eq!(query.need("no").unwrap_err().to_string(), "Expecting 'no=value' in query.\n");
    }

    #[test]
    fn counts_are_refused_in_the_words_of_mesos() {
        let count = |text: &str| query(text).count("offset").map_err(|refusal| refusal.to_string());
        assert_eq!((count("offset=7"), count("offset=-1"), count("")), (Ok(Some(7)), Ok(None), Ok(None)));
        assert_eq!(count("offset=-2"), Err("Negative offset provided: -2.\n".to_owned()));
        assert_eq!(
            count("offset=x"),
            Err("Failed to parse offset: Failed to convert 'x' to number.\n".to_owned())
        );
    }

    #[test]
    fn times_have_units() {
        let time = |text: &str| query(text).time("timeout").map_err(|refusal| refusal.to_string());
        assert_eq!(time("timeout=1.5secs"), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(time("timeout=2mins"), Ok(Some(Duration::from_secs(120))));
        for wrong in ["timeout=5", "timeout=secs", "timeout=-1secs", "timeout=9e99weeks", "timeout=1hours"] {
            assert!(time(wrong).unwrap_err().starts_with("Invalid timeout '"), "{wrong}");
        }
    }
}
