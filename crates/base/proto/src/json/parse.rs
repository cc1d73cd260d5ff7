// SPDX-License-Identifier: Apache-2.0
//! JSON text into a tree, with Mesos's words when it is none. Those quote the rest of the line where the fault is,
//! which tells more than a column; the rest is cut, so that an error is never as long as a body.

use serde_json::Value;

/// How much of a faulty line is quoted.
const MAX_QUOTE: usize = 200;

/// The tree, or the reason.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let tree = serde::Deserialize::deserialize(&mut deserializer).map_err(|error| reason(bytes, &error))?;
    match deserializer.end() {
        Ok(()) => Ok(tree),
        Err(error) => {
            let rest = rest_of(bytes, &error, |_| false);
            Err(format!("Parsed JSON included non-whitespace trailing characters: {}", rest.trim_end()))
        }
    }
}

fn reason(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.to_string().starts_with("recursion limit exceeded") {
        return format!("nested deeper than 128 levels at line {}; use fewer levels", error.line());
    }
    let line = error.line().max(1);
    format!("syntax error at line {line} near: {}", rest_of(bytes, error, |byte| byte == b'\n'))
}

/// From the fault to where `is_end` says, without control characters.
fn rest_of(bytes: &[u8], error: &serde_json::Error, is_end: impl Fn(u8) -> bool) -> String {
    let lines_before = error.line().saturating_sub(1);
    let start = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(lines_before.wrapping_sub(1))
        .map_or(0, |(at, _)| at + 1);
    let is_at_end = error.is_eof();
    let from = if is_at_end { bytes.len() } else { start + error.column().saturating_sub(1) };
    let rest = bytes.get(from.min(bytes.len())..).unwrap_or_default();
    let end = rest.iter().position(|byte| is_end(*byte)).unwrap_or(rest.len());
    let shown = &rest[..end.min(MAX_QUOTE)];
    let printable: Vec<u8> = shown.iter().copied().filter(|byte| *byte >= b' ').collect();
    String::from_utf8_lossy(&printable).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_syntax_error_names_the_line_and_quotes_its_rest() {
        assert_eq!(says("hello"), "syntax error at line 1 near: hello");
        assert_eq!(says(""), "syntax error at line 1 near: ");
        assert_eq!(says("{\"a\": 1,}"), "syntax error at line 1 near: }");
        assert_eq!(says("{\n  \"a\": nope\n}"), "syntax error at line 2 near: ope");
        assert_eq!(says("{\"a\" 1}"), "syntax error at line 1 near: 1}");
        assert_eq!(says("[1, 2"), "syntax error at line 1 near: ");
    }

    #[test]
    fn what_follows_the_document_is_refused() {
        assert_eq!(says("{} x"), "Parsed JSON included non-whitespace trailing characters: x");
        assert!(parse(b" {} \n").is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        for open in ["[", "{\"a\":"] {
            let text = open.repeat(1_000_000);
            assert_eq!(says(&text), "nested deeper than 128 levels at line 1; use fewer levels");
        }
    }

    #[test]
    fn an_error_is_short_whatever_the_text() {
        assert!(says(&format!("x{}", "y".repeat(1_000_000))).len() < 300);
    }
}
