// SPDX-License-Identifier: Apache-2.0
//! RecordIO: whatever the pieces in which a stream comes, its records are the same, and so is its fault. The first
//! byte says how large the pieces are.
#![no_main]

use berth_proto::recordio::{Decoder, RecordError, encode};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 16;

type Read = (Vec<Vec<u8>>, Option<RecordError>, bool);

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut decoder = Decoder::new(LIMIT);
    let mut records = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => break,
                Err(error) => return (records, Some(error), false),
            }
        }
        assert!(piece.is_empty(), "a piece is taken whole");
    }
    let whole = decoder.is_between_records();
    (records, None, whole)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, stream)) = bytes.split_first() else { return };
    let whole = read(std::iter::once(stream));
    assert_eq!(read(stream.chunks(usize::from(*size).max(1))), whole);
    let (records, fault, _) = whole;
    let mut again = Vec::new();
    for record in &records {
        assert!(record.len() <= LIMIT);
        encode(record, &mut again);
    }
    let (read_again, no_fault, ended) = read(std::iter::once(&*again));
    assert_eq!((read_again, no_fault, ended), (records, None, true));
    if let Some(fault) = fault {
        assert!(fault.to_string().len() < 400);
    }
});
