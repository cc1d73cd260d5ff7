// SPDX-License-Identifier: Apache-2.0
//! Walking a group's directories and reading the control files in them.
//!
//! A container may be able to make groups below its own, as deep as it likes. So the walks here hold one
//! descriptor at a time, go up by `..` (a group never changes its parent), and keep no recursion.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The control files of one group.
pub(crate) struct Files<'a> {
    dir: BorrowedFd<'a>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(dir: BorrowedFd<'a>) -> Files<'a> {
        Files { dir }
    }

    /// The group's directory.
    pub(crate) fn dir(&self) -> BorrowedFd<'a> {
        self.dir
    }

    /// Reads a file and looks at its text; none if it is not there or can not be read.
    pub(crate) fn with<T>(&self, file: &str, look: impl FnOnce(&str) -> T) -> Option<T> {
        let file = open_file(self.dir, file).ok()?;
        let mut room = [MaybeUninit::uninit(); ROOM];
        let (first, _) = rustix::io::read(&file, &mut room[..]).ok()?;
        if is_whole(first.len()) {
            return Some(look(std::str::from_utf8(first).ok()?));
        }
        let bytes = rest(&file, first.to_vec()).ok()?;
        Some(look(std::str::from_utf8(&bytes).ok()?))
    }

    /// The number that a file holds.
    pub(crate) fn number(&self, file: &str) -> Option<u64> {
        self.with(file, |text| text.trim_end().parse().ok()).flatten()
    }

    /// Looks at this group and at every one below it.
    pub(crate) fn descend(&self, look: &mut dyn FnMut(&Files<'_>)) {
        // A group that goes away meanwhile has nothing more to say.
        let _ = walk(self.dir, &mut |dir| {
            look(&Files::new(dir));
            Ok(())
        });
    }
}

/// The number that stands after `key` in a text of `key number` lines.
pub(crate) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim_end().parse().ok())
}

/// Bytes that are read at once: the kernel's own room for a control file.
const ROOM: usize = 4096;

/// Whether so many bytes, read first and with [`ROOM`], are all of a control file. The kernel makes the text in a room of
/// that size and hands out less only when the next line of a list does not fit any more; no line is nearly so long. So a
/// file is read by one call and not by two, of which the second says that there is no more.
fn is_whole(bytes: usize) -> bool {
    bytes < ROOM / 2
}

fn open_file(dir: BorrowedFd<'_>, file: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// A whole control file.
pub(crate) fn read(dir: BorrowedFd<'_>, file: &str) -> rustix::io::Result<Vec<u8>> {
    let file = open_file(dir, file)?;
    let mut bytes = Vec::with_capacity(ROOM);
    let first = loop {
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Err(Errno::INTR) => {}
            read => break read?,
        }
    };
    if is_whole(first) { Ok(bytes) } else { rest(&file, bytes) }
}

/// Reads on to the end.
fn rest(file: &OwnedFd, mut bytes: Vec<u8>) -> rustix::io::Result<Vec<u8>> {
    loop {
        bytes.reserve(ROOM);
        match rustix::io::read(file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Calls `visit` for the group and all groups below it, each before those below it.
pub(crate) fn walk(
    top: BorrowedFd<'_>,
    visit: &mut dyn FnMut(BorrowedFd<'_>) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    visit(top)?;
    let mut here = open(top, c".")?;
    let mut levels = vec![children(&here)?];
    while let Some(level) = levels.last_mut() {
        match level.pop() {
            Some(name) => match open(here.as_fd(), &name) {
                Ok(below) => {
                    here = below;
                    visit(here.as_fd())?;
                    levels.push(children(&here)?);
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            },
            None => {
                levels.pop();
                if !levels.is_empty() {
                    here = open(here.as_fd(), c"..")?;
                }
            }
        }
    }
    Ok(())
}

/// Removes all groups below this one, deepest first.
///
/// # Errors
/// EBUSY when one of them has processes in it.
pub(crate) fn remove_below(
    top: BorrowedFd<'_>,
    rmdir: &dyn Fn(BorrowedFd<'_>, &CString) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let mut here = open(top, c".")?;
    let mut path: Vec<CString> = Vec::new();
    let mut emptied = None;
    loop {
        let mut stuck = None;
        for name in children(&here)? {
            match rmdir(here.as_fd(), &name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY | Errno::NOTEMPTY) => stuck = Some(name),
                Err(errno) => return Err(errno),
            }
        }
        match stuck {
            // It has no groups below it any more and still can not be removed.
            Some(name) if emptied.as_ref() == Some(&name) => return Err(Errno::BUSY),
            Some(name) => {
                here = open(here.as_fd(), &name)?;
                path.push(name);
                emptied = None;
            }
            None => {
                emptied = path.pop();
                if emptied.is_none() {
                    return Ok(());
                }
                here = open(here.as_fd(), c"..")?;
            }
        }
    }
}

/// The names of the groups directly in this one.
pub(crate) fn children(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    // A directory has one link from its parent, one from itself, and one from each directory in it.
    if rustix::fs::fstat(dir)?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            _ => false,
        };
        if is_dir && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn open(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_read_to_their_end() {
        let dir = std::env::temp_dir().join(format!("berth-tree-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let open = std::fs::File::open(&dir).unwrap();
        for length in [0, 5, ROOM / 2 - 1, ROOM / 2, ROOM - 1, ROOM, ROOM + 1, 5 * ROOM + 7] {
            let text: String = (0..length).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
            std::fs::write(dir.join("file"), &text).unwrap();
            assert_eq!(read(open.as_fd(), "file").unwrap(), text.as_bytes(), "{length}");
            assert_eq!(Files::new(open.as_fd()).with("file", str::to_owned).as_deref(), Some(text.as_str()));
        }
        assert!(Files::new(open.as_fd()).number("none").is_none());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), Some(3));
        assert_eq!(field(text, "oom"), None);
        assert_eq!(field("max x\n", "max"), None);
    }
}
