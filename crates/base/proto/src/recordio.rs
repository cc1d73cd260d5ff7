// SPDX-License-Identifier: Apache-2.0
//! RecordIO: messages in a stream, each behind its length in decimal digits and a line feed.
//!
//! Chunks of the transport mean nothing: a record may come in many, and many in one. The decoder keeps no more than
//! one record, and refuses one that is longer than its limit before it has come.

use berth_model::Class;

/// The most digits that a length has: those of 2^64.
const MAX_DIGITS: usize = 20;

/// Why bytes are no records. The stream can not be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// What stands for the length is no number.
    #[error("Failed to decode length '{0}': Failed to convert '{0}' to number")]
    Length(String),
    /// The record is longer than its reader keeps.
    #[error("Failed to decode length '{length}': a record may have {limit} bytes at most; send smaller ones")]
    TooLong {
        /// The length that was announced.
        length: u64,
        /// The length that is allowed.
        limit: usize,
    },
}

impl RecordError {
    /// Wrong bytes are always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Appends one record.
pub fn encode(record: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(record.len().to_string().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(record);
}

/// One record.
pub fn encoded(record: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.len() + MAX_DIGITS + 1);
    encode(record, &mut out);
    out
}

/// Takes records out of a stream, in any pieces.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    state: State,
}

/// ```text
///   ┌─────── last byte of the record ──────┐
///   v                                      │
/// LENGTH ── line feed, a number ───────> RECORD
///   │
///   └── line feed or too many, no number ──> FAILED (for good)
/// ```
#[derive(Debug)]
enum State {
    Length(Vec<u8>),
    Record { length: usize, bytes: Vec<u8> },
    Failed(RecordError),
}

impl Decoder {
    /// A decoder that refuses records of more than `limit` bytes.
    pub fn new(limit: usize) -> Decoder {
        Decoder { limit, state: State::Length(Vec::new()) }
    }

    /// Takes from the front of `chunk` what belongs to the next record and returns the record once it is whole. Call
    /// it until it returns none: the chunk is empty then.
    pub fn next(&mut self, chunk: &mut &[u8]) -> Result<Option<Vec<u8>>, RecordError> {
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(error.clone()),
                State::Length(digits) => {
                    let Some((first, rest)) = chunk.split_first() else { return Ok(None) };
                    *chunk = rest;
                    if *first != b'\n' {
                        digits.push(*first);
                    }
                    if *first == b'\n' || digits.len() > MAX_DIGITS {
                        self.state = match begin(digits, self.limit) {
                            Ok(length) => State::Record { length, bytes: Vec::new() },
                            Err(error) => State::Failed(error),
                        };
                    }
                }
                State::Record { length, bytes } => {
                    let taken = (*length - bytes.len()).min(chunk.len());
                    let (now, rest) = chunk.split_at(taken);
                    bytes.extend_from_slice(now);
                    *chunk = rest;
                    if bytes.len() < *length {
                        return Ok(None);
                    }
                    let record = std::mem::take(bytes);
                    self.state = State::Length(Vec::new());
                    return Ok(Some(record));
                }
            }
        }
    }

    /// Whether the stream may end here: not within a record.
    pub fn is_between_records(&self) -> bool {
        matches!(&self.state, State::Length(digits) if digits.is_empty())
    }
}

/// The length that the digits say.
fn begin(digits: &[u8], limit: usize) -> Result<usize, RecordError> {
    let text = String::from_utf8_lossy(digits);
    let length: u64 = text.parse().map_err(|_| RecordError::Length(text.into_owned()))?;
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err(RecordError::TooLong { length, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn decode(decoder: &mut Decoder, mut chunk: &[u8]) -> Result<Vec<Vec<u8>>, RecordError> {
        let mut records = Vec::new();
        while let Some(record) = decoder.next(&mut chunk)? {
            records.push(record);
        }
        assert!(chunk.is_empty());
        Ok(records)
    }

    fn says(text: &str) -> String {
        decode(&mut Decoder::new(100), text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_record_is_its_length_a_line_feed_and_its_bytes() {
        assert_eq!(encoded(b"hello"), b"5\nhello");
        assert_eq!(encoded(b""), b"0\n");
        assert_eq!(decode(&mut Decoder::new(100), b"0\n003\nabc").unwrap(), [&b""[..], b"abc"]);
    }

    #[test]
    fn an_empty_record_comes_at_once() {
        let mut decoder = Decoder::new(100);
        let mut chunk: &[u8] = b"0\n";
        assert_eq!(decoder.next(&mut chunk), Ok(Some(Vec::new())));
        assert!(decoder.is_between_records());
    }

    #[test]
    fn a_length_that_is_no_number_fails_for_good() {
        assert_eq!(says("abc\n"), "Failed to decode length 'abc': Failed to convert 'abc' to number");
        assert_eq!(says("\n"), "Failed to decode length '': Failed to convert '' to number");
        assert_eq!(says("-1\n"), "Failed to decode length '-1': Failed to convert '-1' to number");
        assert!(says(&"x".repeat(1000)).len() < 120, "a header without end is not kept");
        let mut decoder = Decoder::new(100);
        assert!(decode(&mut decoder, b"x\n").is_err());
        assert!(decode(&mut decoder, b"1\na").is_err());
    }

    #[test]
    fn a_record_over_the_limit_is_refused_before_it_comes() {
        assert_eq!(
            says("101\n"),
            "Failed to decode length '101': a record may have 100 bytes at most; send smaller ones"
        );
        assert!(says("18446744073709551615\n").contains("100 bytes at most"));
        assert!(decode(&mut Decoder::new(3), b"3\nabc").is_ok());
    }

    #[test]
    fn an_end_within_a_record_is_noticed() {
        let mut decoder = Decoder::new(100);
        for (chunk, between) in [("1", false), ("\n", false), ("a", true), ("2\nb", false)] {
            decode(&mut decoder, chunk.as_bytes()).unwrap();
            assert_eq!(decoder.is_between_records(), between, "{chunk:?}");
        }
    }

    proptest! {
        #[test]
        fn records_survive_any_chunks(
            records in vec(vec(any::<u8>(), 0..300), 0..20),
            cuts in vec(any::<prop::sample::Index>(), 0..30),
        ) {
            let stream: Vec<u8> = records.iter().flat_map(|record| encoded(record)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::new(300);
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                found.extend(decode(&mut decoder, &stream[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(found, records);
            prop_assert!(decoder.is_between_records());
        }

        #[test]
        fn arbitrary_bytes_never_panic_nor_pass_the_limit(chunks in vec(vec(any::<u8>(), 0..100), 0..10)) {
            let mut decoder = Decoder::new(50);
            for chunk in &chunks {
                match decode(&mut decoder, chunk) {
                    Ok(records) => prop_assert!(records.iter().all(|record| record.len() <= 50)),
                    Err(_) => break,
                }
            }
        }
    }
}
