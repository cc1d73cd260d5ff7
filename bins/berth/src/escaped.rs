// SPDX-License-Identifier: Apache-2.0
//! What a container wrote, made harmless for a terminal: control sequences are shown, not obeyed, and what is no UTF-8 is
//! shown by its bytes. (A log can hold what renames windows, hides lines, or makes a terminal type.)

/// Text that comes in pieces. What is begun of a character at the end of one is kept for the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Escaped {
    begun: Vec<u8>,
}

impl Escaped {
    /// Appends the next piece to `out`.
    pub(crate) fn add(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let joined;
        let mut rest = if self.begun.is_empty() {
            data
        } else {
            joined = [std::mem::take(&mut self.begun).as_slice(), data].concat();
            joined.as_slice()
        };
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => return shown(text, out),
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    shown(std::str::from_utf8(good).unwrap_or_default(), out);
                    let Some(length) = error.error_len() else {
                        self.begun = bad.to_vec();
                        return;
                    };
                    for byte in &bad[..length] {
                        out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
                    }
                    rest = &bad[length..];
                }
            }
        }
    }
}

fn shown(text: &str, out: &mut Vec<u8>) {
    let mut whole = 0;
    for (at, character) in text.char_indices() {
        let harmless = matches!(character, '\n' | '\t') || !character.is_control() && !turns(character);
        if harmless {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[whole..at]);
        whole = at + character.len_utf8();
        match character {
            '\r' if text[whole..].starts_with('\n') => {}
            '\r' => out.extend_from_slice(b"\\r"),
            c if c.is_ascii() => out.extend_from_slice(format!("\\x{:02x}", u32::from(c)).as_bytes()),
            c => out.extend_from_slice(format!("\\u{{{:x}}}", u32::from(c)).as_bytes()),
        }
    }
    out.extend_from_slice(&text.as_bytes()[whole..]);
}

/// Characters that turn the direction of writing: what is read is then not what is there (CVE-2021-42574).
fn turns(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&[u8]]) -> String {
        let (mut escaped, mut out) = (Escaped::default(), Vec::new());
        pieces.iter().for_each(|piece| escaped.add(piece, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn control_sequences_are_shown_and_text_stays() {
        assert_eq!(of(&[b"a\tb\r\nc\x1b[31mred\x07\n"]), "a\tb\nc\\x1b[31mred\\x07\n");
        assert_eq!(of(&["gr\u{fc}n \u{9b}2J\u{202e}x".as_bytes()]), "gr\u{fc}n \\u{9b}2J\\u{202e}x");
        assert_eq!(of(&[b"50%\rdone\x9b\xff"]), "50%\\rdone\\x9b\\xff");
    }

    #[test]
    fn a_character_in_two_pieces_is_one() {
        assert_eq!(of(&[b"\xc3", b"\xbc!"]), "\u{fc}!");
        assert_eq!(of(&[b"\xe2\x82", b"\xac"]), "\u{20ac}");
        assert_eq!(of(&[b"\xc3", b"x"]), "\\xc3x");
    }
}
