// SPDX-License-Identifier: Apache-2.0
//! Finding out how an archive is compressed, and undoing it.
//!
//! The first bytes decide, never the name. Decoders are compiled in: nothing is looked up in `PATH` and no
//! library is loaded. The memory that a stream may ask for is capped at [`WINDOW`], which is what zstd itself
//! allows without `--long` and twice what `xz -9` needs.

use std::fmt;
use std::io::{self, BufRead, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Bytes of history that a decoder may keep.
const WINDOW: u64 = 128 << 20;

/// What xz needs beside its dictionary, in KiB.
const XZ_OVERHEAD_KIB: u64 = 1024;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952; several members one after the other are one stream.
    Gzip,
    /// RFC 8878; several frames one after the other are one stream.
    Zstd,
    /// The .xz format; several streams one after the other are one stream.
    Xz,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
        })
    }
}

/// What the first bytes say, if it is nothing that we read.
pub(crate) type Foreign = &'static str;

fn recognise(magic: &[u8]) -> Result<Compression, Foreign> {
    match magic {
        [] => Err("is an empty file"),
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        // A skippable frame: what parallel compressors begin with.
        [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50 => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Compression::Xz),
        [b'B', b'Z', b'h', ..] => Err("is compressed with bzip2"),
        [0x1f, 0x9d, ..] => Err("is compressed with compress"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Err("is compressed with lz4"),
        [b'P', b'K', 3, 4, ..] => Err("is a zip file"),
        [b'h', b's', b'q', b's', ..] => Err("is a squashfs image"),
        _ => Ok(Compression::None),
    }
}

/// A stream and what it was wrapped in.
pub(crate) struct Opened<'r> {
    pub(crate) compression: Compression,
    pub(crate) reader: Box<dyn Read + 'r>,
}

/// Looks at the first bytes of `source` and answers a reader of what is inside.
pub(crate) fn open<'r>(mut source: impl BufRead + 'r) -> io::Result<Result<Opened<'r>, Foreign>> {
    let mut magic = Vec::new();
    (&mut source).take(6).read_to_end(&mut magic)?;
    let compression = match recognise(&magic) {
        Ok(compression) => compression,
        Err(foreign) => return Ok(Err(foreign)),
    };
    let source = Cursor::new(magic).chain(source);
    let reader: Box<dyn Read + 'r> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(MultiGzDecoder::new(source)),
        Compression::Zstd => Box::new(Zstd::new(source)),
        Compression::Xz => {
            let kib = u32::try_from(WINDOW / 1024 + XZ_OVERHEAD_KIB).unwrap_or(u32::MAX - 1);
            Box::new(XzReader::new_mem_limit(source, true, kib))
        }
    };
    Ok(Ok(Opened { compression, reader }))
}

/// Undoes the compression of a file that is not a tar's stream for the unpacker: reads `source` to its end and writes
/// what is in it, at most `max` bytes and `ratio` for one.
///
/// # Errors
/// Of either, or because it is compressed in a way that we do not read, or holds more than that.
pub fn decompress(
    source: impl Read,
    to: &mut impl io::Write,
    max: u64,
    ratio: u64,
    stop: &(dyn Fn() -> bool + Sync),
) -> io::Result<Compression> {
    let limits = crate::Limits { bytes: max, ratio, ..crate::Limits::default() };
    let budget = crate::budget::Budget::new(&limits, stop);
    let intake = io::BufReader::with_capacity(128 << 10, crate::budget::Intake { source, budget: &budget });
    let mut opened = open(intake)?.map_err(|foreign| io::Error::new(io::ErrorKind::InvalidData, foreign))?;
    let mut outlet = crate::budget::Outlet::new(&mut opened.reader, &budget);
    match io::copy(&mut outlet, to) {
        Ok(_) => Ok(opened.compression),
        Err(error) => Err(match budget.verdict() {
            None => error,
            Some(crate::budget::Verdict::Stopped) => io::Error::other("stopped"),
            Some(crate::budget::Verdict::Over(limit)) => {
                io::Error::new(io::ErrorKind::InvalidData, format!("it holds too many {limit}"))
            }
        }),
    }
}

/// All frames of a zstd stream, checksums and announced sizes compared.
struct Zstd<R> {
    source: R,
    frame: FrameDecoder,
    /// Bytes of the frame given out so far; nothing between frames.
    given: Option<u64>,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Zstd<R> {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(WINDOW);
        Zstd { source, frame, given: None }
    }

    /// Steps over skippable frames to the next real one. False at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                    if skipped < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn finish(&self, given: u64) -> io::Result<()> {
        let announced = self.frame.content_size();
        if announced != 0 && announced != given {
            let text = format!("a zstd frame announces {announced} bytes and holds {given}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        match self.frame.get_checksum_from_data() {
            Some(sum) if self.frame.get_calculated_checksum() != Some(sum) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a zstd frame is wrong"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if self.given.is_none() && !self.begin()? {
                return Ok(0);
            }
            let given = self.given.unwrap_or(0);
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                self.frame
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let count = self.frame.read(buf)?;
            self.given = Some(given + count as u64);
            if count > 0 {
                return Ok(count);
            }
            self.finish(given)?;
            self.given = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let Ok(mut opened) = open(bytes)? else { panic!("a format that we read") };
        let mut out = Vec::new();
        opened.reader.read_to_end(&mut out)?;
        Ok(out)
    }

    /// A zstd frame with one raw block, without checksum: RFC 8878 3.1.1.
    fn raw_frame(content: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00];
        let header = 1 | (u32::try_from(content.len()).unwrap() << 3);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(content);
        frame
    }

    #[test]
    fn zstd_frames_and_skippable_frames_are_one_stream() {
        let skippable = [0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let stream = [&skippable[..], &raw_frame(b"one "), &skippable, &raw_frame(b"two")].concat();
        assert_eq!(unpack(&stream).unwrap(), b"one two");
        unpack(&stream[..stream.len() - 1]).unwrap_err();
        unpack(&[&stream[..], b"more"].concat()).unwrap_err();
        unpack(&[&stream[..], &skippable[..9]].concat()).unwrap_err();
    }

    #[test]
    fn a_zstd_window_over_128_mebibytes_is_refused_and_128_is_not() {
        let frame = |descriptor: u8| {
            let mut frame = raw_frame(b"small");
            frame[5] = descriptor;
            frame
        };
        // Window_Descriptor: exponent (plus 10) in the upper five bits.
        assert_eq!(unpack(&frame((27 - 10) << 3)).unwrap(), b"small");
        unpack(&frame((28 - 10) << 3)).unwrap_err();
        unpack(&frame(0xff)).unwrap_err();
    }

    #[test]
    fn a_zstd_frame_must_hold_what_it_announces() {
        let frame = |announced: u8| {
            // Single segment, one byte of content size, a raw block of 5.
            let header = 1u32 | (5 << 3);
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, announced];
            frame.extend_from_slice(&header.to_le_bytes()[..3]);
            frame.extend_from_slice(b"small");
            frame
        };
        assert_eq!(unpack(&frame(5)).unwrap(), b"small");
        unpack(&frame(6)).unwrap_err();
    }

    #[test]
    fn formats_that_we_do_not_read_are_named() {
        for (magic, word) in
            [(&b""[..], "empty"), (b"BZh9", "bzip2"), (b"PK\x03\x04", "zip"), (b"hsqs", "squashfs")]
        {
            let Err(foreign) = open(magic).unwrap() else { panic!("{word} was taken for ours") };
            assert!(foreign.contains(word));
        }
    }
}
