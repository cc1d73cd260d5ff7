// SPDX-License-Identifier: Apache-2.0
//! What the tests of the API share: a client that knows no more of HTTP than it must, so that nothing of ours stands
//! between a test and the bytes, and comparisons of JSON: by its shape, and by its values with those that differ in each
//! run bound to ours.

pub mod bind;
mod chosen;
mod http;
pub mod shape;

pub use chosen::Chosen;
pub use http::{Answer, Client, Head, PATIENCE, Request, chunk};

/// Lets this process open as many files as the host allows: a test opens a thousand connections.
///
/// # Panics
/// The host allows no more.
pub fn many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    assert!(raised.is_ok(), "raise the limit on open files to {:?}: {raised:?}", limit.maximum);
}

/// Bytes as recordings have them.
pub fn unbase64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::new();
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').collect();
    for group in letters.chunks(4) {
        let bits =
            group.iter().fold(0, |bits, letter| (bits << 6) | value(*letter)) << (6 * (4 - group.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    out
}
