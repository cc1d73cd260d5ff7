// SPDX-License-Identifier: Apache-2.0
//! A zip, read as if it were a tar, so that one unpacker with its rules serves both.
//!
//! The `zip` crate reads the central directory, which alone decides what is in the archive. Where another reader could
//! see something else, it is refused: entries that share bytes (which is also how the worst bombs are built), a method
//! or encryption that we do not know, a size or checksum that is not what was announced.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use flate2::Crc;
use zip::{CompressionMethod, ZipArchive};

use super::metered::within;
use crate::wire::Limits;

/// Bytes of a link's target.
const LINK: u64 = 4096;
const BLOCK: u64 = 512;

#[derive(Debug)]
struct Entry {
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    mtime: u64,
    start: u64,
    stored: u64,
    size: u64,
    crc: u32,
    method: CompressionMethod,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Symlink,
}

/// Gives out the bytes of a tar with the entries of a zip.
pub(super) struct ZipTar {
    file: Rc<File>,
    entries: std::vec::IntoIter<Entry>,
    state: State,
    ended: bool,
}

enum State {
    /// Bytes to give out as they are.
    Plain(io::Cursor<Vec<u8>>),
    /// A file's data, and how much of the tar's padding follows.
    Data(Box<Data>, u64),
    Over,
}

impl ZipTar {
    /// Reads the directory of a zip and checks it.
    pub(super) fn new(file: File, limits: &Limits) -> io::Result<ZipTar> {
        let length = file.metadata()?.len();
        let entries = directory(&file, length, limits)?;
        let state = State::Plain(io::Cursor::default());
        Ok(ZipTar { file: Rc::new(file), entries: entries.into_iter(), state, ended: false })
    }

    fn next(&mut self) -> io::Result<State> {
        let Some(entry) = self.entries.next() else {
            // Two empty blocks end a tar.
            let end = vec![0; 2 * BLOCK as usize];
            return Ok(if std::mem::replace(&mut self.ended, true) {
                State::Over
            } else {
                State::Plain(io::Cursor::new(end))
            });
        };
        let mut data = Data::new(self.file.clone(), &entry)?;
        match entry.kind {
            Kind::Directory => {
                let mut name = entry.name.clone();
                if name.last() != Some(&b'/') {
                    name.push(b'/');
                }
                Ok(State::Plain(io::Cursor::new(header(&name, &[], b'5', 0, &entry))))
            }
            Kind::Symlink => {
                let mut target = Vec::new();
                data.read_to_end(&mut target)?;
                Ok(State::Plain(io::Cursor::new(header(&entry.name, &target, b'2', 0, &entry))))
            }
            Kind::File => {
                let padding = entry.size.next_multiple_of(BLOCK) - entry.size;
                data.head = io::Cursor::new(header(&entry.name, &[], b'0', entry.size, &entry));
                Ok(State::Data(Box::new(data), padding))
            }
        }
    }
}

impl Read for ZipTar {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let count = match &mut self.state {
                State::Plain(bytes) => bytes.read(buf)?,
                State::Data(data, padding) => match data.read(buf)? {
                    0 => {
                        let padding = vec![0; usize::try_from(*padding).unwrap_or(0)];
                        self.state = State::Plain(io::Cursor::new(padding));
                        continue;
                    }
                    count => count,
                },
                State::Over => return Ok(0),
            };
            if count > 0 {
                return Ok(count);
            }
            self.state = self.next()?;
        }
    }
}

fn refuse<T>(why: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, why.into()))
}

fn directory(file: &File, length: u64, limits: &Limits) -> io::Result<Vec<Entry>> {
    let mut archive = ZipArchive::new(io::BufReader::new(file.try_clone()?)).map_err(io::Error::other)?;
    if archive.len() as u64 > limits.entries {
        return refuse(format!(
            "the zip has more than {} entries, the most that are unpacked",
            limits.entries
        ));
    }
    let mut entries = Vec::with_capacity(archive.len());
    let mut total: u64 = 0;
    for index in 0..archive.len() {
        let found = archive.by_index_raw(index).map_err(io::Error::other)?;
        let name = found.name_raw().to_vec();
        let shown = String::from_utf8_lossy(&name).escape_debug().take(200).collect::<String>();
        if found.encrypted() {
            return refuse(format!("the entry \"{shown}\" of the zip is encrypted"));
        }
        let kind = match () {
            () if found.is_dir() => Kind::Directory,
            () if found.is_symlink() => Kind::Symlink,
            () => Kind::File,
        };
        let (stored, size) = (found.compressed_size(), found.size());
        let start = found.data_start().unwrap_or(u64::MAX);
        match start.checked_add(stored) {
            Some(end) if end <= length => {}
            _ => return refuse(format!("the entry \"{shown}\" of the zip lies outside of it")),
        }
        if kind == Kind::Symlink && size > LINK {
            return refuse(format!("the link \"{shown}\" in the zip is too long"));
        }
        if kind == Kind::Directory && size != 0 {
            return refuse(format!("the directory \"{shown}\" in the zip has content"));
        }
        let method = found.compression();
        if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
            return refuse(format!(
                "the entry \"{shown}\" of the zip is compressed by {method}, which is not known here"
            ));
        }
        total = total.saturating_add(size);
        within(total, length, limits)?;
        let mode = found.unix_mode().unwrap_or(if kind == Kind::File { 0o644 } else { 0o755 }) & 0o777;
        let mtime = found.last_modified().map_or(0, seconds);
        let crc = found.crc32();
        entries.push(Entry { name, kind, mode, mtime, start, stored, size, crc, method });
    }
    apart(&entries)?;
    Ok(entries)
}

/// No byte belongs to two entries.
fn apart(entries: &[Entry]) -> io::Result<()> {
    let mut pieces: Vec<(u64, u64)> = entries
        .iter()
        .filter(|entry| entry.stored > 0)
        .map(|entry| (entry.start, entry.start + entry.stored))
        .collect();
    pieces.sort_unstable();
    match pieces.windows(2).all(|pair| pair[0].1 <= pair[1].0) {
        true => Ok(()),
        false => refuse("two entries of the zip share their data: it looks like a bomb"),
    }
}

/// Seconds since 1970 of a date in a zip, which knows no time zones: taken as UTC.
fn seconds(date: zip::DateTime) -> u64 {
    let (year, month, day) = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
    // Days from the civil date (H. Hinnant's algorithm).
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let time = i64::from(date.hour()) * 3600 + i64::from(date.minute()) * 60 + i64::from(date.second());
    u64::try_from(days * 86_400 + time).unwrap_or(0)
}

/// One entry's data: checked against size and checksum when it ends.
struct Data {
    head: io::Cursor<Vec<u8>>,
    reader: Box<dyn Read>,
    left: u64,
    crc: Option<(Crc, u32)>,
}

impl Data {
    fn new(file: Rc<File>, entry: &Entry) -> io::Result<Data> {
        let section = Section { file, at: entry.start, end: entry.start + entry.stored };
        let reader: Box<dyn Read> = match entry.method {
            CompressionMethod::Stored if entry.stored == entry.size => Box::new(section),
            CompressionMethod::Stored => return refuse("an entry of the zip has two sizes"),
            _ => Box::new(flate2::bufread::DeflateDecoder::new(io::BufReader::with_capacity(
                64 << 10,
                section,
            ))),
        };
        Ok(Data { head: io::Cursor::default(), reader, left: entry.size, crc: Some((Crc::new(), entry.crc)) })
    }
}

impl Read for Data {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let head = self.head.read(buf)?;
        if head > 0 {
            return Ok(head);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let count = if most == 0 { 0 } else { self.reader.read(&mut buf[..most])? };
        if count > 0 {
            self.left -= count as u64;
            if let Some((crc, _)) = &mut self.crc {
                crc.update(&buf[..count]);
            }
            return Ok(count);
        }
        if self.left > 0 {
            return refuse("an entry of the zip is shorter than it announces");
        }
        if let Some((crc, announced)) = self.crc.take() {
            if self.reader.read(&mut [0])? > 0 {
                return refuse("an entry of the zip is longer than it announces");
            }
            if crc.sum() != announced {
                return refuse("the checksum of an entry of the zip is wrong");
            }
        }
        Ok(0)
    }
}

/// A part of the file, read without moving anybody's position.
struct Section {
    file: Rc<File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buf.len());
        let count = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The header of one entry, with GNU's entries for long names in front where they are needed.
fn header(name: &[u8], link: &[u8], kind: u8, size: u64, entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    for (long, kind) in [(name, b'L'), (link, b'K')] {
        if long.len() > 100 {
            out.extend_from_slice(&block(b"././@LongLink", b"", kind, long.len() as u64 + 1, 0o644, 0));
            out.extend_from_slice(long);
            out.resize((out.len() + 1).next_multiple_of(BLOCK as usize), 0);
        }
    }
    out.extend_from_slice(&block(name, link, kind, size, entry.mode, entry.mtime));
    out
}

fn block(name: &[u8], link: &[u8], kind: u8, size: u64, mode: u32, mtime: u64) -> [u8; BLOCK as usize] {
    let mut block = [0; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name[..name.len().min(100)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, &number(size));
    put(136, &number(mtime));
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar  \0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// A number of twelve bytes: octal, or base 256 where that is too short.
fn number(value: u64) -> [u8; 12] {
    let mut field = [0; 12];
    match value < 1 << 33 {
        true => field[..11].copy_from_slice(format!("{value:011o}").as_bytes()),
        false => {
            field[0] = 0x80;
            field[4..].copy_from_slice(&value.to_be_bytes());
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_tar() {
        let entry = |mode| Entry {
            name: vec![],
            kind: Kind::File,
            mode,
            mtime: 1_600_000_000,
            start: 0,
            stored: 0,
            size: 0,
            crc: 0,
            method: CompressionMethod::Stored,
        };
        let long = vec![b'n'; 300];
        let mut text = header(&long, &[b'l'; 200], b'2', 0, &entry(0o777));
        text.extend(header(b"file", b"", b'0', 3, &entry(0o640)));
        text.extend([b"abc".as_slice(), &[0; 509 + 1024]].concat());
        let mut archive = tar::Archive::new(&text[..]);
        let mut entries = archive.entries().unwrap();
        let link = entries.next().unwrap().unwrap();
        assert_eq!(link.path_bytes().as_ref(), &long[..]);
        assert_eq!(link.link_name_bytes().unwrap().len(), 200);
        let file = entries.next().unwrap().unwrap();
        assert_eq!((file.header().mode().unwrap(), file.header().mtime().unwrap()), (0o640, 1_600_000_000));
        assert_eq!(number(1 << 40)[0], 0x80);
    }

    #[test]
    fn dates_become_seconds() {
        let date = zip::DateTime::from_date_and_time(2020, 2, 29, 12, 30, 58).unwrap();
        assert_eq!(seconds(date), 1_582_979_458);
        let date = zip::DateTime::from_date_and_time(1980, 1, 1, 0, 0, 0).unwrap();
        assert_eq!(seconds(date), 315_532_800);
    }
}
