// SPDX-License-Identifier: Apache-2.0
//! Random uuids (RFC 9562, version 4): what container ids and reports are told apart by.

/// 16 bytes from the kernel, with the bits that say what they are.
pub(crate) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        // For so few bytes it fails only before the kernel has any, and then it waits.
        if let Ok(more) = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
        {
            filled += more;
        }
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// In the form with dashes.
pub(crate) fn text(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).expect("a half byte is a digit"));
        }
    }
    text
}

/// Whether these are the bytes of a uuid of a version that is known.
pub fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 16 && bytes[8] & 0xc0 == 0x80 && (1..=5).contains(&(bytes[6] >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_uuid_is_one_and_has_its_form() {
        let bytes = random();
        assert!(is_uuid(&bytes) && bytes != random());
        let text = text(&bytes);
        assert_eq!((text.len(), text.as_bytes()[14], text.matches('-').count()), (36, b'4', 4));
        assert!(!is_uuid(&bytes[..15]) && !is_uuid(&[0; 16]));
    }
}
