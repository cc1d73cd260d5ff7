// SPDX-License-Identifier: Apache-2.0
//! A tree that somebody may be changing, read by descriptor: what is found is looked at before it is opened, nothing is
//! opened that could hold us up or do something by being opened, and no link is followed.

use berth_sys::Errno;
use berth_sys::rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How deep a tree may be: a descriptor is held for each level.
const DEPTH: usize = 300;
/// How many entries it may have, however fast somebody makes more.
const ENTRIES: u64 = 2_000_000;

/// File systems that are no files: proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs, tracefs, securityfs, bpf, pstore.
const NO_FILES: [i64; 11] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11_u32 as i64,
    0x6165_676c,
];

/// What is known of an entry beside its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
}

/// An entry's content.
pub(super) enum Node<'a> {
    Directory,
    /// So many bytes, which the reader has to the last.
    File(u64, &'a mut dyn Read),
    Link(&'a OsStr),
    /// Another name of an entry that came before.
    Same(&'a Path),
}

/// Who is given the entries of a tree, a directory before what is in it. The path of the first is its own name, or nothing.
pub(super) trait Take {
    fn take(&mut self, path: &Path, meta: &Meta, node: Node<'_>) -> io::Result<()>;
}

impl Meta {
    fn of(stat: &Stat) -> Meta {
        Meta {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        }
    }
}

/// A walk through one tree.
pub(super) struct Walk<'a> {
    pub(super) to: &'a mut dyn Take,
    /// How many names were read; those that are still to be looked at are remembered.
    pub(super) entries: u64,
    /// What was left out, and why.
    pub(super) notes: Vec<String>,
}

impl Walk<'_> {
    /// Gives what `node` (opened with O_PATH) is, and all below it, to whoever takes it.
    pub(super) fn go(&mut self, node: &OwnedFd, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH {
            return Err(io::Error::other(format!("it has more than {DEPTH} levels of directories")));
        }
        let stat = fstat(node)?;
        let meta = Meta::of(&stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let file = reopen(node.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK)?;
                // It may become shorter or longer meanwhile: it has as many bytes as were announced.
                let mut reader = File::from(file).take(size).chain(io::repeat(0)).take(size);
                self.to.take(path, &meta, Node::File(size, &mut reader))
            }
            FileType::Symlink => {
                let target = readlinkat(node, c"", Vec::new())?;
                self.to.take(path, &meta, Node::Link(OsStr::from_bytes(target.as_bytes())))
            }
            FileType::Directory => {
                if fstatfs(node).is_ok_and(|of| NO_FILES.contains(&{ of.f_type })) {
                    self.notes.push(format!("{}: is of the kernel", path.display()));
                    return Ok(());
                }
                self.to.take(path, &meta, Node::Directory)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let dir = openat(node, c".", flags, Mode::empty())?;
                self.below(&dir, path, depth)
            }
            _ => {
                self.notes.push(format!("{}: is no file, directory or link", path.display()));
                Ok(())
            }
        }
    }

    fn below(&mut self, dir: &OwnedFd, path: &Path, depth: usize) -> io::Result<()> {
        for name in self.names(dir)? {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = match openat(dir, &name, flags, Mode::empty()) {
                Ok(node) => node,
                // Gone meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            self.go(&node, &path.join(OsStr::from_bytes(name.as_bytes())), depth + 1)?;
        }
        Ok(())
    }

    fn names(&mut self, dir: &OwnedFd) -> io::Result<Vec<CString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES {
                return Err(io::Error::other(format!("it has more than {ENTRIES} entries")));
            }
            names.push(entry.file_name().to_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// The same file, whatever its name leads to by now.
fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(openat(berth_sys::rustix::fs::CWD, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?)
}

/// The components of a path from an archive; none where one of them leads elsewhere.
pub(super) fn plain(path: &Path) -> Option<PathBuf> {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => plain.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

/// Whether something is a directory.
pub(super) fn is_directory(fd: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// The empty path means the descriptor itself.
pub(super) const ITSELF: AtFlags = AtFlags::EMPTY_PATH;

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sys::rustix::fs::CWD;

    /// Counts what it is given.
    struct Count(u32);

    impl Take for Count {
        fn take(&mut self, _: &Path, _: &Meta, _: Node<'_>) -> io::Result<()> {
            self.0 += 1;
            Ok(())
        }
    }

    #[test]
    fn names_count_when_they_are_read_since_all_levels_remember_theirs() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let walk = |entries: u64| {
            let top = openat(CWD, dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let mut count = Count(0);
            let done = Walk { to: &mut count, entries, notes: Vec::new() }.go(&top, Path::new(""), 0);
            (done.is_ok(), count.0)
        };
        assert_eq!(walk(ENTRIES - 3), (true, 4));
        assert_eq!(walk(ENTRIES - 2), (false, 1), "nothing of a directory that has too many");
    }
}
