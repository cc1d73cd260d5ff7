// SPDX-License-Identifier: Apache-2.0
//! Names in an archive, made plain.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::limits::Limits;

/// A name below the root: components without `.` and `..`, joined by single slashes. Empty is the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    path: Vec<u8>,
    parts: u32,
    /// Where the last component begins in `path`.
    last: usize,
}

/// Why a name is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameFault {
    Empty,
    Nul,
    Up,
    TooLong,
    TooDeep,
}

impl Name {
    /// Leading slashes, doubled ones and `.` are dropped, as every tar does; `..` is refused, where tars differ.
    pub(crate) fn parse(raw: &[u8], limits: &Limits) -> Result<Name, NameFault> {
        if raw.is_empty() {
            return Err(NameFault::Empty);
        }
        if raw.contains(&0) {
            return Err(NameFault::Nul);
        }
        if raw.len() >= limits.path {
            return Err(NameFault::TooLong);
        }
        let mut name = Name { path: Vec::with_capacity(raw.len()), parts: 0, last: 0 };
        for part in raw.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(NameFault::Up),
                _ => {}
            }
            if !name.path.is_empty() {
                name.path.push(b'/');
            }
            name.last = name.path.len();
            name.path.extend_from_slice(part);
            name.parts += 1;
        }
        match name.parts <= limits.depth {
            true => Ok(name),
            false => Err(NameFault::TooDeep),
        }
    }

    /// The rest of a name that begins with this component.
    pub(crate) fn below(mut self, directory: &[u8]) -> Option<Name> {
        if self.parts().next() != Some(directory) {
            return None;
        }
        let cut = (directory.len() + 1).min(self.path.len());
        self.path.drain(..cut);
        self.parts -= 1;
        self.last = self.last.saturating_sub(cut);
        Some(self)
    }

    pub(crate) fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    pub(crate) fn parent(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path[..self.last.saturating_sub(1)]))
    }

    pub(crate) fn last(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path[self.last..]))
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.path.split(|&byte| byte == b'/').filter(|part| !part.is_empty())
    }
}

/// A name for a message: quoted, with everything escaped that could move a cursor or forge a line, and shortened.
pub(crate) fn shown(raw: &[u8]) -> String {
    const LONGEST: usize = 200;
    let cut = &raw[..raw.len().min(LONGEST)];
    let text = String::from_utf8_lossy(cut);
    match cut.len() < raw.len() {
        true => format!("\"{}…\" ({} bytes)", text.escape_debug(), raw.len()),
        false => format!("\"{}\"", text.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &[u8]) -> Result<Name, NameFault> {
        Name::parse(raw, &Limits::default())
    }

    #[test]
    fn slashes_and_dots_are_dropped() {
        for raw in [&b"usr/bin"[..], b"/usr/bin", b"./usr/bin", b"//usr/./bin/", b"usr//bin/."] {
            let name = parse(raw).unwrap();
            assert_eq!(name.path(), Path::new("usr/bin"));
            assert_eq!(name.parent(), Path::new("usr"));
            assert_eq!(name.last(), Path::new("bin"));
        }
        assert_eq!(parse(b"rootfs/a/b").unwrap().below(b"rootfs"), Some(parse(b"a/b").unwrap()));
        assert!(parse(b"./rootfs/").unwrap().below(b"rootfs").unwrap().is_root());
        assert_eq!(parse(b"rootfs2/a").unwrap().below(b"rootfs"), None);
        assert_eq!(parse(b"/").unwrap().below(b"rootfs"), None);
        assert!(parse(b"./").unwrap().is_root());
        assert!(parse(b"/").unwrap().is_root());
        assert_eq!(parse(b"a").unwrap().parent(), Path::new(""));
    }

    #[test]
    fn names_that_climb_or_lie_are_refused() {
        assert_eq!(parse(b""), Err(NameFault::Empty));
        assert_eq!(parse(b"a\0b"), Err(NameFault::Nul));
        for raw in [&b".."[..], b"../a", b"a/../b", b"a/..", b"/../a", b"./../a"] {
            assert_eq!(parse(raw), Err(NameFault::Up));
        }
        assert!(parse(b"..a/b..").is_ok());
    }

    #[test]
    fn long_and_deep_names_stop_at_the_limit_and_not_before() {
        assert!(parse(&[b'a'; 4095]).is_ok());
        assert_eq!(parse(&[b'a'; 4096]), Err(NameFault::TooLong));
        assert!(parse("a/".repeat(256).as_bytes()).is_ok());
        assert_eq!(parse("a/".repeat(257).as_bytes()), Err(NameFault::TooDeep));
    }

    #[test]
    fn printed_names_can_not_forge_lines_or_flood() {
        assert_eq!(shown(b"a\n\x1b[2J"), "\"a\\n\\u{1b}[2J\"");
        assert!(shown(&[b'a'; 5000]).len() < 260);
    }
}
