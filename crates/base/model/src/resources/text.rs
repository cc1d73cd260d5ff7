// SPDX-License-Identifier: Apache-2.0
//! Resources as text:
//!
//! ```text
//! resources := entry { ";" entry }                     empty entries are ignored
//! entry     := name [ "(" role ")" ] ":" value         exactly one ":"
//! value     := number | "[" a-b { "," a-b } "]" | "{" item { "," item } "}"
//! ```
//!
//! White space around a name, a role and a value is ignored, and spaces within a value. Where Mesos's tokenizer
//! accepts more than this grammar (`a::1`, `a(r)x:1`, `[1,2]`), the text is refused with the nearest of its errors.

use super::draft::{Draft, DraftValue};
use super::{ParseError, Range};
use crate::Class;

/// Why a text is not a value. The messages are Mesos's, to the letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Nothing but spaces.
    #[error("Expecting non-empty string")]
    Empty,
    /// A bracket without its partner, or something after the last one.
    #[error("Mismatched brackets")]
    Brackets,
    /// Something between commas that is not `a-b`.
    #[error("Expecting one or more \"ranges\"")]
    Ranges,
    /// `a` or `b` of `a-b` is not a whole number that fits 64 bits.
    #[error("Expecting non-negative integers in '{0}'")]
    Integers(String),
    /// A number so near to zero that a double has no full precision left.
    #[error("Subnormal values not supported")]
    Subnormal,
    /// `[` where no value can begin.
    #[error("Unexpected '[' found")]
    Bracket,
    /// `{` where no value can begin.
    #[error("Unexpected '{{' found")]
    Brace,
}

impl ValueError {
    /// A wrong value is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Reads drafts; those that name no role are for the given one.
pub(super) fn read(text: &str, default_role: &str) -> Result<Vec<Draft>, ParseError> {
    text.split(';')
        .filter(|entry| !entry.trim().is_empty())
        .map(|entry| read_entry(entry, default_role))
        .collect()
}

fn read_entry(entry: &str, default_role: &str) -> Result<Draft, ParseError> {
    let (label, value) = match entry.split_once(':') {
        Some((label, value)) if !label.is_empty() && !value.is_empty() && !value.contains(':') => {
            (label, value)
        }
        _ => return Err(ParseError::Colon(entry.to_owned())),
    };
    let (name, role) = read_label(label).ok_or_else(|| ParseError::Parentheses(entry.to_owned()))?;
    let error = |error| ParseError::Value { name: name.to_owned(), value: value.to_owned(), error };
    let unsupported = || ParseError::Type { name: name.to_owned(), value: value.to_owned() };
    let value = read_value(value).map_err(error)?.ok_or_else(unsupported)?;
    Ok(Draft::of_text(name.to_owned(), role.unwrap_or(default_role).to_owned(), value))
}

/// Splits `name(role)`; nothing if the parentheses are wrong.
fn read_label(label: &str) -> Option<(&str, Option<&str>)> {
    let label = label.trim();
    if !label.contains(['(', ')']) {
        return Some((label, None));
    }
    let (name, role) = label.strip_suffix(')')?.split_once('(')?;
    if role.contains(['(', ')']) || name.contains(')') {
        None
    } else {
        Some((name.trim(), Some(role.trim())))
    }
}

/// A value; nothing if it is free text.
fn read_value(text: &str) -> Result<Option<DraftValue>, ValueError> {
    let text = text.trim().replace(' ', "");
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if ![('{', '}'), ('[', ']'), ('(', ')')].iter().all(|(open, close)| brackets_match(&text, *open, *close))
    {
        return Err(ValueError::Brackets);
    }
    match (text.find('['), text.find('{')) {
        (Some(0), _) => read_ranges(&text).map(|ranges| Some(DraftValue::Ranges(ranges))),
        (Some(_), _) => Err(ValueError::Bracket),
        (None, Some(0)) => read_set(&text).map(|set| Some(DraftValue::Set(set))),
        (None, Some(_)) => Err(ValueError::Brace),
        (None, None) => Ok(read_number(&text)?.map(DraftValue::Scalar)),
    }
}

fn brackets_match(text: &str, open: char, close: char) -> bool {
    let mut depth = 0_usize;
    for letter in text.chars() {
        if letter == open {
            depth += 1;
        } else if letter == close {
            match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            }
        }
    }
    depth == 0
}

fn read_ranges(text: &str) -> Result<Vec<Range>, ValueError> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(ValueError::Brackets)?;
    if inner.contains(['[', ']']) {
        return Err(ValueError::Bracket);
    }
    if inner.trim().is_empty() {
        return Ok(Vec::new());
    }
    inner.split(',').map(|part| read_range(part.trim())).collect()
}

fn read_range(text: &str) -> Result<Range, ValueError> {
    let (begin, end) = text.split_once('-').ok_or(ValueError::Ranges)?;
    if begin.is_empty() || end.is_empty() || end.contains('-') {
        return Err(ValueError::Ranges);
    }
    match (read_integer(begin), read_integer(end)) {
        (Some(begin), Some(end)) => Ok(Range { begin, end }),
        _ => Err(ValueError::Integers(end.to_owned())),
    }
}

/// Digits only: Rust would take a plus sign as well.
fn read_integer(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn read_set(text: &str) -> Result<Vec<String>, ValueError> {
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or(ValueError::Brackets)?;
    if inner.contains(['{', '}']) {
        return Err(ValueError::Brace);
    }
    Ok(inner.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

/// A decimal number that is finite and not negative; anything else is free text, except numbers too small.
fn read_number(text: &str) -> Result<Option<f64>, ValueError> {
    // Without this Rust would read `inf` and `nan` too.
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E')) {
        return Ok(None);
    }
    let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0) else {
        return Ok(None);
    };
    let digits = text.split(['e', 'E']).next().unwrap_or_default();
    let underflow = value == 0.0 && digits.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    if value.is_subnormal() || underflow { Err(ValueError::Subnormal) } else { Ok(Some(value)) }
}
