// SPDX-License-Identifier: Apache-2.0
//! Two streams in one, as the engine sends what a container without a terminal writes: eight bytes before each piece, of
//! which the first says from which stream it is, and the last four how long it is.

/// Where a piece comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// Pieces that are longer are no pieces: the engine copies 32 KiB at once, and lines of a log up to 16 KiB.
const LONGEST: usize = 16 << 20;
const HEADER: usize = 8;

/// Takes the streams apart.
#[derive(Debug, Default)]
pub(crate) struct Demultiplexed {
    held: Vec<u8>,
    /// How much of it was given away.
    given: usize,
}

impl Demultiplexed {
    /// More has come.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.held.drain(..std::mem::take(&mut self.given));
        self.held.extend_from_slice(bytes);
    }

    /// The next whole piece; none until more has come.
    ///
    /// # Errors
    /// It is no such stream.
    pub(crate) fn next(&mut self) -> Result<Option<(Source, &[u8])>, String> {
        loop {
            let rest = &self.held[self.given..];
            let Some(header) = rest.get(..HEADER) else { return Ok(None) };
            let source = match header {
                [1, 0, 0, 0, ..] => Some(Source::Stdout),
                [2, 0, 0, 0, ..] => Some(Source::Stderr),
                // What was written by the engine itself (3) or as input (0).
                [0 | 3, 0, 0, 0, ..] => None,
                _ => return Err(format!("a piece that begins with {header:?}")),
            };
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
            if length > LONGEST {
                return Err(format!("a piece of {length} bytes"));
            }
            if rest.len() < HEADER + length {
                return Ok(None);
            }
            let begin = self.given + HEADER;
            self.given = begin + length;
            if let Some(source) = source {
                return Ok(Some((source, &self.held[begin..begin + length])));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(stream: u8, text: &str) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn pieces_are_found_however_they_are_cut() {
        let all = [piece(1, "one"), piece(2, "two"), piece(3, "the engine's"), piece(1, "")].concat();
        for size in 1..all.len() {
            let mut frames = Demultiplexed::default();
            let mut seen = Vec::new();
            for bytes in all.chunks(size) {
                frames.feed(bytes);
                while let Some((source, text)) = frames.next().unwrap() {
                    seen.push((source, String::from_utf8(text.to_vec()).unwrap()));
                }
            }
            let expected = [
                (Source::Stdout, "one".to_owned()),
                (Source::Stderr, "two".to_owned()),
                (Source::Stdout, String::new()),
            ];
            assert_eq!(seen, expected, "cut every {size} bytes");
        }
    }

    #[test]
    fn what_is_no_piece_is_refused() {
        for bytes in [b"plain text".to_vec(), vec![1, 0, 0, 0, 255, 255, 255, 255]] {
            let mut frames = Demultiplexed::default();
            frames.feed(&bytes);
            assert!(frames.next().is_err());
        }
    }
}
