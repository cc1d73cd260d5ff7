// SPDX-License-Identifier: Apache-2.0
//! One record each way: four bytes of length in the host's byte order, then so many bytes of a message. This is not the
//! RecordIO of the HTTP API.

/// A message behind its length.
pub(crate) fn framed(message: &impl prost::Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(4 + length);
    // A message of ours is far below 4 GiB: a configuration of more than some MiB is refused where it comes in.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// Puts a record together from the pieces that a pipe gives. What follows the record is ignored.
#[derive(Debug)]
pub(crate) struct Reader {
    size: [u8; 4],
    have: usize,
    body: Vec<u8>,
    cap: usize,
}

impl Reader {
    /// For a record of at most `cap` bytes.
    pub(crate) fn new(cap: usize) -> Reader {
        Reader { size: [0; 4], have: 0, body: Vec::new(), cap }
    }

    /// Takes the next piece.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) {
        let of_size = piece.len().min(4 - self.have);
        self.size[self.have..self.have + of_size].copy_from_slice(&piece[..of_size]);
        self.have += of_size;
        piece = &piece[of_size..];
        if let Some(length) = self.length().filter(|length| *length <= self.cap) {
            let rest = length - self.body.len();
            self.body.extend_from_slice(&piece[..piece.len().min(rest)]);
        }
    }

    /// Whether nothing more is needed: the record is whole, or too large to be taken.
    pub(crate) fn is_complete(&self) -> bool {
        self.length().is_some_and(|length| length > self.cap || self.body.len() == length)
    }

    /// The record, when nothing more comes: none if nothing came at all.
    ///
    /// # Errors
    /// Why there is no whole one, in the words of Mesos.
    pub(crate) fn finish(self) -> Result<Option<Vec<u8>>, String> {
        match self.length() {
            None if self.have == 0 => Ok(None),
            None => Err("Failed to read size: hit EOF unexpectedly, possible corruption".to_owned()),
            Some(length) if length > self.cap => Err(format!(
                "Failed to read message of size {length} bytes: at most {} bytes are taken",
                self.cap
            )),
            Some(length) if self.body.len() < length => Err(format!(
                "Failed to read message of size {length} bytes: hit EOF unexpectedly, possible corruption"
            )),
            Some(_) => Ok(Some(self.body)),
        }
    }

    fn length(&self) -> Option<usize> {
        (self.have == 4).then(|| usize::try_from(u32::from_ne_bytes(self.size)).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::mesos::ContainerId;

    fn read(pieces: &[&[u8]]) -> Result<Option<Vec<u8>>, String> {
        let mut reader = Reader::new(16);
        pieces.iter().for_each(|piece| reader.feed(piece));
        reader.finish()
    }

    #[test]
    fn a_record_comes_in_any_pieces_and_what_follows_is_ignored() {
        let whole = framed(&ContainerId { value: "ab".to_owned() });
        assert_eq!(whole[..4], 4u32.to_ne_bytes());
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(read(&bytes), Ok(Some(whole[4..].to_vec())));
        assert_eq!(read(&[&whole, b"and more"]), Ok(Some(whole[4..].to_vec())));
        assert_eq!(read(&[&0u32.to_ne_bytes()]), Ok(Some(Vec::new())));
    }

    #[test]
    fn what_is_cut_off_says_where() {
        assert_eq!(read(&[]), Ok(None));
        let text = "Failed to read size: hit EOF unexpectedly, possible corruption";
        assert_eq!(read(&[b"\x01\x00"]), Err(text.to_owned()));
        let text = "Failed to read message of size 9 bytes: hit EOF unexpectedly, possible corruption";
        assert_eq!(read(&[&9u32.to_ne_bytes(), b"abc"]), Err(text.to_owned()));
    }

    #[test]
    fn a_record_above_the_cap_is_refused_before_it_is_kept() {
        let mut reader = Reader::new(16);
        reader.feed(&u32::MAX.to_ne_bytes());
        reader.feed(&[0; 4096]);
        assert!(reader.is_complete());
        assert!(reader.body.is_empty());
        let text = reader.finish().unwrap_err();
        assert!(text.contains("4294967295 bytes: at most 16 bytes"), "{text}");
    }
}
