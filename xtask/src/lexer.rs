// SPDX-License-Identifier: Apache-2.0
//! Just enough of Rust's lexical rules to tell code from comments and literals, so that a scan for a word
//! does not stumble over this very sentence, which says `unsafe`.
//!
//! <https://doc.rust-lang.org/reference/tokens.html>

/// The identifiers and keywords of a source text, with their line numbers (from 1).
pub(crate) fn words(source: &str) -> Vec<(usize, &str)> {
    let mut cursor = Cursor { source, at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(byte) = cursor.peek(0) {
        match byte {
            b'/' if cursor.peek(1) == Some(b'/') => cursor.skip_while(|b| b != b'\n'),
            b'/' if cursor.peek(1) == Some(b'*') => cursor.skip_block_comment(),
            b'"' => cursor.skip_string(),
            b'\'' => cursor.skip_char_or_lifetime(),
            b if is_word(b) => {
                let (line, start) = (cursor.line, cursor.at);
                cursor.skip_while(is_word);
                let word = &source[start..cursor.at];
                if !cursor.skip_prefixed_literal(word) {
                    found.push((line, word));
                }
            }
            _ => cursor.step(),
        }
    }
    found
}

/// Bytes of identifiers and numbers. Everything beyond ASCII counts, so a slice never cuts a character.
fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 0x80
}

struct Cursor<'a> {
    source: &'a str,
    at: usize,
    line: usize,
}

impl Cursor<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.source.as_bytes().get(self.at + ahead).copied()
    }

    fn step(&mut self) {
        if self.peek(0) == Some(b'\n') {
            self.line += 1;
        }
        self.at += 1;
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.step();
        }
    }

    /// Block comments nest.
    fn skip_block_comment(&mut self) {
        let mut depth = 0usize;
        while self.peek(0).is_some() {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => depth += 1,
                (Some(b'*'), Some(b'/')) => depth -= 1,
                _ => {
                    self.step();
                    continue;
                }
            }
            self.step();
            self.step();
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_string(&mut self) {
        self.step();
        while let Some(byte) = self.peek(0) {
            self.step();
            match byte {
                b'"' => return,
                b'\\' => self.step(),
                _ => {}
            }
        }
    }

    /// `'x'` and `'\n'` are literals, `'a` is a lifetime: a literal has its closing quote after one character.
    fn skip_char_or_lifetime(&mut self) {
        self.step();
        if self.peek(0) == Some(b'\\') {
            self.step();
            self.step();
            self.skip_while(|b| b != b'\'');
            self.step();
            return;
        }
        let width = self.source[self.at..].chars().next().map_or(0, char::len_utf8);
        if self.peek(width) == Some(b'\'') {
            for _ in 0..=width {
                self.step();
            }
        } else {
            self.skip_while(is_word);
        }
    }

    /// After a word such as `r`, `br` or `c`: the raw or prefixed literal that follows. False when none does.
    fn skip_prefixed_literal(&mut self, prefix: &str) -> bool {
        match (prefix, self.peek(0)) {
            ("b" | "c", Some(b'"')) => self.skip_string(),
            ("b", Some(b'\'')) => self.skip_char_or_lifetime(),
            ("r" | "br" | "cr", Some(b'"' | b'#')) => return self.skip_raw_string(),
            _ => return false,
        }
        true
    }

    fn skip_raw_string(&mut self) -> bool {
        let rest = &self.source[self.at..];
        let hashes = rest.bytes().take_while(|b| *b == b'#').count();
        if rest.as_bytes().get(hashes) != Some(&b'"') {
            return false; // a raw identifier: r#type
        }
        let end = format!("\"{}", "#".repeat(hashes));
        let body = &rest[hashes + 1..];
        let length = body.find(&end).map_or(body.len(), |found| found + end.len());
        for _ in 0..hashes + 1 + length {
            self.step();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(word: &str, source: &str) -> Vec<usize> {
        words(source).into_iter().filter(|(_, w)| *w == word).map(|(line, _)| line).collect()
    }

    #[test]
    fn a_word_in_code_is_found_with_its_line() {
        assert_eq!(lines_of("unsafe", "fn a() {}\nunsafe fn b() {}\nfn c() { unsafe { b() } }"), [2, 3]);
        assert_eq!(lines_of("unsafe", "#[unsafe(no_mangle)]"), [1]);
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        for text in [
            "// unsafe",
            "/* unsafe /* nested */ unsafe */",
            "\"unsafe \\\" unsafe\"",
            "r#\"unsafe \" unsafe\"#",
            "br\"unsafe\"",
            "c\"unsafe\"",
            "b\"unsafe\"",
            "r\"unsafe\\\"",
        ] {
            assert_eq!(lines_of("unsafe", text), [0usize; 0], "{text}");
            assert_eq!(lines_of("unsafe", &format!("{text}\nunsafe")), [2], "after {text}");
        }
    }

    #[test]
    fn quotes_of_characters_and_lifetimes_do_not_open_strings() {
        for text in ["'\"'", "'\\''", "'\\u{22}'", "&'a str", "'é'", "b'\"'", "b'\\''", "'_'"] {
            assert_eq!(lines_of("unsafe", &format!("{text} unsafe")), [1], "{text}");
        }
    }

    #[test]
    fn a_longer_word_is_another_word() {
        assert_eq!(lines_of("unsafe", "unsafe_code not_unsafe unsafely r#unsafe_"), [0usize; 0]);
    }

    #[test]
    fn text_that_ends_anywhere_is_read_to_its_end() {
        for text in ["/*", "\"abc", "r#\"abc", "'", "'\\", "b'", "r#", "é", "\"\\"] {
            words(text);
        }
    }
}
