// SPDX-License-Identifier: Apache-2.0
//! Ids that nobody guesses: random UUIDs (RFC 9562, version 4).

use rustix::rand::{GetRandomFlags, getrandom};

/// A new one, as text.
pub(crate) fn uuid() -> String {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        // Sixteen bytes are never cut short once the pool is ready, which it is before an agent starts.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Whether bytes are a UUID of a known kind: those of a report that can be acknowledged.
pub(crate) fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 16 && (1..=5).contains(&(bytes[6] >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_random_and_says_its_version() {
        let (one, other) = (uuid(), uuid());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[14..15], one.matches('-').count()), (36, "4", 4));
        assert!(matches!(&one[19..20], "8" | "9" | "a" | "b"), "{one}");
    }

    #[test]
    fn bytes_of_another_length_or_without_a_version_are_none() {
        assert!(!is_uuid(&[0; 16]) && !is_uuid(&[0; 3]) && !is_uuid(b""));
        assert!(is_uuid(&[0x41; 16]));
    }
}
