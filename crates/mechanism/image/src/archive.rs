// SPDX-License-Identifier: Apache-2.0
//! The entries of a tar, one after the other, in bounded memory.
//!
//! Written here and not taken from a crate for two reasons. Long names and extended headers must be capped
//! *before* they are read into memory. And wherever readers of tar disagree about what an archive holds (sizes in
//! two places, records cut at newlines, keys given twice, data behind entries that have none) an attacker can show
//! one tree to the scanner and another to us: all of that is refused, so that what remains means one thing. The
//! tests compare the result with the `tar` crate and with GNU tar.
//!
//! Formats: v7, POSIX ustar and pax, GNU (long names, base-256 numbers, old sparse format). Not supported:
//! multi-volume, incremental, sparse files in the pax formats before 1.0.

use std::io::{self, Read};

use crate::error::Limit;
use crate::limits::Limits;
use crate::pax::{Pax, PaxSparse, Time};

const BLOCK: usize = 512;
/// Bytes of one extended header. A name, a link and ten attributes of the largest size (64 KiB) fit.
const PAX_MAX: u64 = 1 << 20;
/// Pieces of one sparse file.
const CHUNKS_MAX: usize = 1 << 18;
/// The largest size that fits into a plain header: above it, sizes are allowed to differ.
const OCTAL_MAX: u64 = 0o77_777_777_777;
/// A user or group of this number means "leave as it is" to chown(2).
const NOBODY_AT_ALL: u64 = u32::MAX as u64;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    /// A character or block device.
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
}

/// One entry. Names are as the archive spells them; nothing is checked but that they are unambiguous.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    /// The target of a link, empty otherwise.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Bytes of data in the archive.
    pub(crate) stored: u64,
    /// Where the data belongs, for a file with holes.
    pub(crate) sparse: Option<Sparse>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) dropped_xattrs: u64,
}

/// The map of a file with holes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Size of the file with its holes.
    pub(crate) size: u64,
    /// Offset and length of each piece of data, in order, not overlapping.
    pub(crate) chunks: Vec<(u64, u64)>,
}

/// Why the next entry can not be had.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    Malformed(String),
    Unsupported(String),
    TooMuch(Limit, u64),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Malformed(what.into()))
}

/// Extended headers that were read and wait for their entry.
#[derive(Default)]
struct Ahead {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.pax.is_none()
    }
}

pub(crate) struct Archive<R> {
    source: R,
    path_max: usize,
    /// Bytes of the current entry's data not yet read, and of the padding behind it.
    data: u64,
    padding: u64,
    may_end: bool,
    /// Whether there was a header at all.
    any: bool,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(source: R, limits: &Limits) -> Archive<R> {
        Archive { source, path_max: limits.path, data: 0, padding: 0, may_end: false, any: false }
    }

    /// Lets it end behind the data of an entry, without the padding and the mark of its end: `umoci insert` writes such
    /// layers, and Go's tools read them. Only for what is digested, where a cut shows anyway.
    pub(crate) fn end_anywhere(&mut self) {
        self.may_end = true;
    }

    /// The next entry, whose data can then be read with [`Archive::read_data`]. Nothing at the end, which is only
    /// accepted where the archive marks it, with nothing but zeros after it: so a cut is noticed, and nothing
    /// hides behind the end. The stream is read to its last byte, so its checksums have been compared.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, Fault> {
        self.skip_rest()?;
        let mut ahead = Ahead::default();
        loop {
            let mut block = [0; BLOCK];
            if !self.read_block(&mut block)? {
                if self.may_end && self.any && ahead.is_empty() {
                    return Ok(None);
                }
                return malformed("it ends without the mark of its end: cut short, or no tar at all");
            }
            self.any = true;
            if block == [0; BLOCK] {
                if !ahead.is_empty() {
                    return malformed("it ends with a header that describes a missing entry");
                }
                self.expect_only_zeros()?;
                return Ok(None);
            }
            let header = Header::checked(&block)?;
            match header.kind() {
                b'L' => once(&mut ahead.name, self.long_text(&header)?)?,
                b'K' => once(&mut ahead.link, self.long_text(&header)?)?,
                b'x' => once(&mut ahead.pax, self.pax(&header)?)?,
                b'g' if self.pax(&header)?.changes_entries() => {
                    return malformed("a global header renames or resizes all entries");
                }
                b'g' => {}
                _ => return self.member(&header, ahead).map(Some),
            }
        }
    }

    /// Reads data of the current entry; 0 when there is no more.
    pub(crate) fn read_data(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.data).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buf[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.data -= count as u64;
        Ok(count)
    }

    /// The stream, at the current entry's data, and the bytes up to the next entry, which the caller steps over.
    pub(crate) fn rest(&mut self) -> (&mut R, u64) {
        let rest = self.data.saturating_add(self.padding);
        (self.data, self.padding) = (0, 0);
        (&mut self.source, rest)
    }

    fn member(&mut self, header: &Header<'_>, ahead: Ahead) -> Result<Member, Fault> {
        let pax = ahead.pax.unwrap_or_default();
        let name = agreed("name", ahead.name, pax.path)?.unwrap_or_else(|| header.name());
        // The other name is a stand-in for readers that know nothing of holes.
        let name = pax.sparse.as_ref().and_then(|sparse| sparse.name.clone()).unwrap_or(name);
        let mut stored = agreed_size(header.size()?, pax.size)?;
        let kind = kind(header, &name)?;
        if pax.sparse.is_some() && !(kind == Kind::File && header.kind() != b'S') {
            return malformed("only a plain file can be sparse");
        }
        if kind != Kind::File && stored != 0 {
            return malformed(format!("it is {kind:?} and yet has {stored} bytes of data"));
        }
        let link = match kind {
            Kind::Symlink | Kind::HardLink => {
                agreed("link target", ahead.link, pax.linkpath)?.unwrap_or_else(|| header.link())
            }
            _ => Vec::new(),
        };
        let mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => Time { sec: header.mtime()?, nsec: 0 },
        };
        let sparse = match (&pax.sparse, header.kind()) {
            (Some(sparse), _) => Some(self.pax_map(sparse, &mut stored)?),
            (None, b'S') => Some(self.sparse_map(header, stored)?),
            _ => None,
        };
        let member = Member {
            name,
            link,
            kind,
            mode: header.mode()?,
            uid: id("user", pax.uid, header.field("user", UID))?,
            gid: id("group", pax.gid, header.field("group", GID))?,
            mtime,
            stored,
            sparse,
            xattrs: pax.xattrs,
            dropped_xattrs: pax.dropped,
        };
        self.expect_data(stored);
        Ok(member)
    }

    /// The map of a sparse file in GNU's old format: four pieces in the header, 21 in each block after it.
    fn sparse_map(&mut self, header: &Header<'_>, stored: u64) -> Result<Sparse, Fault> {
        let mut map = Sparse { size: header.unsigned("real size", REAL_SIZE)?, chunks: Vec::new() };
        let mut ended = add_chunks(&mut map, &header.block[386..482])?;
        let mut more = header.block[482] != 0;
        while more {
            let mut block = [0; BLOCK];
            if ended || !self.read_block(&mut block)? {
                return malformed("the map of a sparse file does not end where it says");
            }
            ended = add_chunks(&mut map, &block[..504])?;
            more = block[504] != 0;
        }
        let data: u64 = map.chunks.iter().map(|&(_, length)| length).sum();
        match data == stored {
            true => Ok(map),
            false => malformed(format!("a sparse file has {stored} bytes of data and a map for {data}")),
        }
    }

    /// The map of a sparse file in pax format 1.0: lines of decimal numbers in front of the data, filled up to a
    /// block. `stored` becomes the bytes of data alone.
    fn pax_map(&mut self, sparse: &PaxSparse, stored: &mut u64) -> Result<Sparse, Fault> {
        if sparse.version != Some((1, 0)) {
            let what = "a sparse file in an old pax format; make the archive with `--sparse-version=1.0` or \
                        `--format=gnu`";
            return Err(Fault::Unsupported(what.into()));
        }
        let (Some(size), Some(_)) = (sparse.size, &sparse.name) else {
            return malformed("a sparse file has no size or no name");
        };
        let mut map = Sparse { size, chunks: Vec::new() };
        let mut lines = MapLines { block: [0; BLOCK], at: BLOCK, left: stored };
        let count = lines.number(self)?;
        if count > CHUNKS_MAX as u64 {
            return Err(Fault::TooMuch(Limit::Header, CHUNKS_MAX as u64));
        }
        for _ in 0..count {
            let (offset, length) = (lines.number(self)?, lines.number(self)?);
            add_chunk(&mut map, offset, length)?;
        }
        let data: u64 = map.chunks.iter().map(|&(_, length)| length).sum();
        match data == *stored {
            true => Ok(map),
            false => malformed(format!("a sparse file has {stored} bytes of data and a map for {data}")),
        }
    }

    fn pax(&mut self, header: &Header<'_>) -> Result<Pax, Fault> {
        let data = self.small_data(header, PAX_MAX, Limit::Header)?;
        Pax::parse(&data).map_err(Fault::Malformed)
    }

    /// A name in the data of its own entry, with or without NULs behind it.
    fn long_text(&mut self, header: &Header<'_>) -> Result<Vec<u8>, Fault> {
        let mut text = self.small_data(header, self.path_max as u64, Limit::Path)?;
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        if text[end..].iter().any(|&byte| byte != 0) {
            return malformed("a long name goes on behind its end");
        }
        text.truncate(end);
        match text.is_empty() {
            true => malformed("a long name is empty"),
            false => Ok(text),
        }
    }

    fn small_data(&mut self, header: &Header<'_>, max: u64, limit: Limit) -> Result<Vec<u8>, Fault> {
        let size = header.size()?;
        if size > max {
            return Err(Fault::TooMuch(limit, max));
        }
        self.expect_data(size);
        // Grows as data arrives: a size in a header costs nothing yet.
        let mut data = Vec::new();
        let count = (&mut self.source).take(size).read_to_end(&mut data)?;
        if (count as u64) < size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.data = 0;
        self.skip_rest()?;
        Ok(data)
    }

    fn expect_data(&mut self, size: u64) {
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let (mut left, padding) = (self.data + self.padding, self.padding);
        (self.data, self.padding) = (0, 0);
        let mut bin = [0; 8 * BLOCK];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(bin.len());
            match self.source.read(&mut bin[..most])? {
                0 if self.may_end && left == padding => return Ok(()),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => left -= count as u64,
            }
        }
        Ok(())
    }

    /// Fills a block. False when the stream ends exactly before it.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn expect_only_zeros(&mut self) -> Result<(), Fault> {
        let mut bin = [0; 8 * BLOCK];
        loop {
            let count = match self.source.read(&mut bin) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if bin[..count].iter().any(|&byte| byte != 0) {
                return malformed("there is something behind the mark of its end");
            }
        }
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => malformed("two headers of the same kind describe one entry"),
    }
}

fn agreed(what: &str, gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, Fault> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => {
            malformed(format!("it has two different forms of its {what}"))
        }
        (gnu, pax) => Ok(pax.or(gnu)),
    }
}

/// The size, of which readers that ignore extended headers would see another one if the two could differ freely.
fn agreed_size(plain: u64, pax: Option<u64>) -> Result<u64, Fault> {
    match pax {
        Some(size) if size != plain && size <= OCTAL_MAX => {
            malformed(format!("its size is {plain} in one header and {size} in another"))
        }
        Some(size) if size > i64::MAX as u64 => malformed("its size is beyond any file"),
        Some(size) => Ok(size),
        None => Ok(plain),
    }
}

fn kind(header: &Header<'_>, name: &[u8]) -> Result<Kind, Fault> {
    Ok(match header.kind() {
        // Before POSIX a directory was a file with a slash at its end, and readers still honour it.
        0 | b'0' | b'7' if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::File,
        b'S' if header.is_gnu() => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        device @ (b'3' | b'4') => {
            let number = |what, range| {
                let number = header.unsigned(what, range)?;
                u32::try_from(number).or_else(|_| malformed(format!("its {what} is beyond any device")))
            };
            let (major, minor) = match header.is_gnu() || header.is_posix() {
                true => (number("major number", MAJOR)?, number("minor number", MINOR)?),
                false => (0, 0),
            };
            Kind::Device { block: device == b'4', major, minor }
        }
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => {
            let what = format!(
                "entries of type '{}'; make the archive with plain `tar -c`",
                std::ascii::escape_default(other)
            );
            return Err(Fault::Unsupported(what));
        }
    })
}

fn id(what: &str, pax: Option<u64>, plain: Result<i64, Fault>) -> Result<u32, Fault> {
    let id = match pax {
        Some(id) => Some(id),
        None => u64::try_from(plain?).ok(),
    };
    match id {
        Some(id) if id < NOBODY_AT_ALL => Ok(u32::try_from(id).unwrap_or(u32::MAX)),
        _ => malformed(format!("its {what} id is not between 0 and {}", NOBODY_AT_ALL - 1)),
    }
}

/// Adds pieces of a sparse map. True when the map ended here.
fn add_chunks(map: &mut Sparse, fields: &[u8]) -> Result<bool, Fault> {
    let mut ended = false;
    for field in fields.chunks_exact(24) {
        let (offset, length) = field.split_at(12);
        if length[0] == 0 {
            ended = true;
            continue;
        }
        let offset = parse_number(offset).and_then(|n| u64::try_from(n).ok());
        let length = parse_number(length).and_then(|n| u64::try_from(n).ok());
        let (Some(offset), Some(length)) = (offset, length) else {
            return malformed("the map of a sparse file has a number that is none");
        };
        if ended {
            return malformed("the map of a sparse file goes on behind its end");
        }
        add_chunk(map, offset, length)?;
    }
    Ok(ended)
}

fn add_chunk(map: &mut Sparse, offset: u64, length: u64) -> Result<(), Fault> {
    let from = map.chunks.last().map_or(0, |&(offset, length)| offset + length);
    let until = offset.checked_add(length).filter(|&until| until <= map.size);
    if offset < from || until.is_none() {
        return malformed("the map of a sparse file overlaps, goes back or goes beyond its end");
    }
    if map.chunks.len() == CHUNKS_MAX {
        return Err(Fault::TooMuch(Limit::Header, CHUNKS_MAX as u64));
    }
    map.chunks.push((offset, length));
    Ok(())
}

/// Lines of digits in blocks that are counted off the data of an entry.
struct MapLines<'s> {
    block: [u8; BLOCK],
    at: usize,
    left: &'s mut u64,
}

impl MapLines<'_> {
    fn number<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<u64, Fault> {
        let mut number: Option<u64> = None;
        loop {
            if self.at == BLOCK {
                let Some(left) = self.left.checked_sub(BLOCK as u64) else {
                    return malformed("the map of a sparse file does not end within its data");
                };
                if !archive.read_block(&mut self.block)? {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                (*self.left, self.at) = (left, 0);
            }
            let byte = self.block[self.at];
            self.at += 1;
            match (byte, number) {
                (b'\n', Some(number)) => return Ok(number),
                (b'0'..=b'9', _) => {
                    let more = number.unwrap_or(0).checked_mul(10);
                    number = more.and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    if number.is_none_or(|n| n > i64::MAX as u64) {
                        return malformed("the map of a sparse file has a number beyond any file");
                    }
                }
                _ => return malformed("the map of a sparse file has a number that is none"),
            }
        }
    }
}

const MODE: std::ops::Range<usize> = 100..108;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const MAJOR: std::ops::Range<usize> = 329..337;
const MINOR: std::ops::Range<usize> = 337..345;
const REAL_SIZE: std::ops::Range<usize> = 483..495;

/// One header block: fields as in tar(5).
struct Header<'b> {
    block: &'b [u8; BLOCK],
}

impl<'b> Header<'b> {
    fn checked(block: &'b [u8; BLOCK]) -> Result<Header<'b>, Fault> {
        let blanked = |(at, &byte): (usize, &u8)| match CHECKSUM.contains(&at) {
            true => i64::from(b' '),
            false => i64::from(byte),
        };
        let sum: i64 = block.iter().enumerate().map(blanked).sum();
        match parse_number(&block[CHECKSUM]) {
            Some(stored) if stored == sum => Ok(Header { block }),
            _ => malformed("the checksum of a header is wrong: corrupt, or no tar at all"),
        }
    }

    fn kind(&self) -> u8 {
        self.block[156]
    }

    fn is_gnu(&self) -> bool {
        self.block[257..265] == *b"ustar  \0"
    }

    fn is_posix(&self) -> bool {
        self.block[257..263] == *b"ustar\0"
    }

    fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.block[..100]);
        match until_nul(&self.block[345..500]) {
            prefix if self.is_posix() && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    fn link(&self) -> Vec<u8> {
        until_nul(&self.block[157..257]).to_vec()
    }

    fn size(&self) -> Result<u64, Fault> {
        self.unsigned("size", SIZE)
    }

    fn mode(&self) -> Result<u32, Fault> {
        // Some tars put the file type into the upper bits.
        self.field("mode", MODE).map(|mode| u32::try_from(mode & 0o7777).unwrap_or(0))
    }

    fn mtime(&self) -> Result<i64, Fault> {
        self.field("mtime", MTIME)
    }

    fn field(&self, what: &str, range: std::ops::Range<usize>) -> Result<i64, Fault> {
        match parse_number(&self.block[range]) {
            Some(number) => Ok(number),
            None => malformed(format!("the {what} in a header is not a number that fits")),
        }
    }

    fn unsigned(&self, what: &str, range: std::ops::Range<usize>) -> Result<u64, Fault> {
        match self.field(what, range)? {
            number @ 0.. => Ok(number.unsigned_abs()),
            _ => malformed(format!("the {what} in a header is below zero")),
        }
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number in a header: octal digits between blanks (an empty field is 0, as all tars read it), or base 256 in
/// two's complement when the first bit is set. Nothing that does not fit into 63 bits.
fn parse_number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first == 0xff;
        let start: i64 = match first {
            0x80 => 0,
            0xff => -1,
            _ => return None,
        };
        let number =
            rest.iter().try_fold(start, |sum, &byte| Some(sum.checked_mul(256)? + i64::from(byte)))?;
        return Some(number).filter(|&number| (number < 0) == negative);
    }
    let text = until_nul(field).trim_ascii();
    text.iter().try_fold(0i64, |sum, &byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_nothing_else() {
        for (field, number) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b" 644 \0\0\0", Some(0o644)),
            (b"        ", Some(0)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x81\0\0\0\0\0\x01\0", None),
            (b"\x80\x80\0\0\0\0\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"777777777777", Some(0o777_777_777_777)),
        ] {
            assert_eq!(parse_number(field), number, "{field:?}");
        }
    }

    #[test]
    fn sparse_maps_must_be_in_order_and_inside() {
        let field = |offset: u64, length: u64| format!("{offset:011o}\0{length:011o}\0").into_bytes();
        let map = |fields: &[Vec<u8>]| {
            let mut map = Sparse { size: 100, chunks: Vec::new() };
            add_chunks(&mut map, &fields.concat()).map(|_| map.chunks)
        };
        assert_eq!(map(&[field(0, 10), field(50, 50)]).unwrap(), [(0, 10), (50, 50)]);
        map(&[field(50, 10), field(0, 10)]).unwrap_err();
        map(&[field(0, 10), field(9, 10)]).unwrap_err();
        map(&[field(0, 101)]).unwrap_err();
        map(&[vec![0; 24], field(0, 10)]).unwrap_err();
    }

    proptest! {
        #[test]
        fn arbitrary_blocks_never_panic(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut archive = Archive::new(&data[..], &Limits::default());
            while let Ok(Some(_)) = archive.next() {}
        }

        #[test]
        fn arbitrary_numbers_never_panic(field in proptest::collection::vec(any::<u8>(), 0..13)) {
            let _ = parse_number(&field);
        }
    }
}
