// SPDX-License-Identifier: Apache-2.0
//! Keys that detach a terminal, and are not passed on: ctrl-p ctrl-q as with docker.

use crate::exit::Failure;

/// What docker has.
const USUAL: [u8; 2] = [16, 17];

/// Looks for the keys in what is typed.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    sequence: Vec<u8>,
    /// How many of them were typed last; they are held back.
    typed: usize,
}

impl Keys {
    /// Those of `--detach-keys`, or the usual ones. The empty text is no keys at all.
    pub(crate) fn parse(text: Option<&str>) -> Result<Keys, Failure> {
        let Some(text) = text else { return Ok(Keys { sequence: USUAL.to_vec(), typed: 0 }) };
        let keys = text.split(',').filter(|_| !text.is_empty());
        let sequence = keys.map(key).collect::<Option<Vec<u8>>>();
        let wrong = || {
            Failure::text(format!(
                "--detach-keys {text}: write single letters and ctrl-LETTER with commas between them, such as ctrl-p,ctrl-q"
            ))
        };
        Ok(Keys { sequence: sequence.ok_or_else(wrong)?, typed: 0 })
    }

    /// What of the typed is to be passed on, and whether the keys came: what follows them is dropped.
    pub(crate) fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        if self.sequence.is_empty() {
            passed.extend_from_slice(typed);
            return (passed, false);
        }
        for byte in typed {
            if self.sequence[self.typed] != *byte {
                passed.extend_from_slice(&self.sequence[..self.typed]);
                self.typed = 0;
            }
            if self.sequence[self.typed] != *byte {
                passed.push(*byte);
                continue;
            }
            self.typed += 1;
            if self.typed == self.sequence.len() {
                self.typed = 0;
                return (passed, true);
            }
        }
        (passed, false)
    }
}

fn key(text: &str) -> Option<u8> {
    if let [byte] = text.as_bytes() {
        return byte.is_ascii_graphic().then_some(*byte);
    }
    let (ctrl, letter) = text.split_at_checked(5)?;
    let [letter] = letter.as_bytes() else { return None };
    let letter = letter.to_ascii_uppercase();
    // ctrl-@ to ctrl-_ are the control characters, in their order.
    (ctrl.eq_ignore_ascii_case("ctrl-") && (b'@'..=b'_').contains(&letter)).then(|| letter - b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str, pieces: &[&str]) -> (String, bool) {
        let mut keys = Keys::parse(Some(keys)).unwrap();
        let mut all = Vec::new();
        for piece in pieces {
            let (passed, detached) = keys.filter(piece.as_bytes());
            all.extend(passed);
            if detached {
                return (String::from_utf8(all).unwrap(), true);
            }
        }
        (String::from_utf8(all).unwrap(), false)
    }

    #[test]
    fn the_keys_detach_also_when_they_come_one_by_one() {
        assert_eq!(Keys::parse(None).unwrap().filter(b"ls\x10\x11x"), (b"ls".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-q", &["a\x10", "\x11"]), ("a".to_owned(), true));
        assert_eq!(typed("a,b", &["xab"]), ("x".to_owned(), true));
    }

    #[test]
    fn what_only_begins_like_the_keys_is_passed_on() {
        assert_eq!(typed("ctrl-p,ctrl-q", &["\x10", "x"]), ("\x10x".to_owned(), false));
        assert_eq!(typed("ctrl-p,ctrl-q", &["\x10\x10\x11"]), ("\x10".to_owned(), true));
        assert_eq!(typed("", &["\x10\x11"]), ("\x10\x11".to_owned(), false));
    }

    #[test]
    fn keys_are_letters_and_control_characters() {
        assert_eq!(Keys::parse(Some("ctrl-[,Ctrl-A,z")).unwrap().sequence, [27, 1, b'z']);
        for wrong in ["ctrl-", "ctrl-ab", "shift-a", ",", "ctrl-p,", "é", "ctrl-1"] {
            assert!(Keys::parse(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
