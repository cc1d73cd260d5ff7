// SPDX-License-Identifier: Apache-2.0
//! Files in a directory that the container can not reach: `stdout`, and before it `stdout.1`, `stdout.2`, …
//!
//! A full file is renamed, never truncated: whoever has it open reads on to its end. The names are logrotate's. A process
//! that compresses old files (`stdout.2.gz`; not the newest, which somebody may still be reading) takes an exclusive flock
//! of [`LOCK`] in the directory for the moment in which it puts the result in place of the file; a rotation that finds it
//! taken is done a little later.

use core::ffi::CStr;

use berth_sys::Errno;
use berth_sys::rustix::fd::{AsFd, OwnedFd};
use berth_sys::rustix::fs::{
    AtFlags, FlockOperation, Gid, Mode, OFlags, Uid, fchown, flock, fstat, linkat, openat, renameat, statat,
    unlinkat,
};
use berth_sys::rustix::io::write;
use berth_sys::rustix::time::{ClockId, clock_gettime};

use crate::times::Times;
use crate::writer::Output;

/// The file whose lock is held while files change their names.
pub const LOCK: &CStr = c".rotate";

/// Bytes of a name with its number.
const NAME: usize = 64;
/// Bytes of a name without.
const BASE: usize = 32;

/// An [`Output`] that rotates.
#[derive(Debug)]
pub struct Directory {
    dir: OwnedFd,
    base: [u8; BASE],
    len: usize,
    kept: u32,
    mode: u32,
    file: Option<OwnedFd>,
    /// Bytes in it, once it was looked at.
    size: Option<u64>,
    owner: Option<(u32, u32)>,
    lock: Option<OwnedFd>,
    links: Option<OwnedFd>,
    times: Times,
}

impl Directory {
    /// Files named `base` in `dir`, of which `kept` old ones stay. `file` is the current one, open for appending, if the
    /// caller has it; else it is opened, or made with `mode`, at the first write.
    ///
    /// # Errors
    /// The name is empty, longer than 32 bytes, or has a slash in it.
    pub fn new(
        dir: OwnedFd,
        base: &[u8],
        kept: u32,
        mode: u32,
        file: Option<OwnedFd>,
    ) -> Result<Directory, Errno> {
        if base.is_empty() || base.len() > BASE || base.contains(&b'/') || base.contains(&0) {
            return Err(Errno::INVAL);
        }
        let mut room = [0; BASE];
        room[..base.len()].copy_from_slice(base);
        // There before the first rotation, for who reads meanwhile.
        let lock = lock_of(&dir).ok();
        Ok(Directory {
            dir,
            base: room,
            len: base.len(),
            kept,
            mode,
            file,
            size: None,
            owner: None,
            lock,
            links: None,
            times: Times::new(0),
        })
    }

    /// The same, with the names as links in another directory of the same file system.
    #[must_use]
    pub fn with_links(mut self, links: Option<OwnedFd>) -> Directory {
        self.links = links;
        self
    }

    /// The size of the current file, and whether its last line has ended: what [`crate::Writer::new`] wants.
    ///
    /// # Errors
    /// It can not be opened or read.
    pub fn state(&mut self) -> Result<(u64, bool), Errno> {
        let file = self.open()?;
        let size = fstat(file)?.st_size.max(0) as u64;
        if size == 0 {
            return Ok((0, true));
        }
        // The file itself is open for writing only.
        let name = self.name(0, Form::Plain);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = openat(&self.dir, name.as_c(), flags, Mode::empty())?;
        let mut last = [0u8];
        let count = berth_sys::rustix::io::pread(&reader, &mut last, size - 1)?;
        Ok((size, count == 1 && last == *b"\n"))
    }

    /// When the index is due to be written, in nanoseconds since 1970.
    pub fn due(&self) -> Option<u64> {
        self.times.due()
    }

    /// Writes what the index still lacks, if that is due at `now`.
    pub fn mark_due(&mut self, now: u64) {
        let name = self.name(0, Form::Times);
        self.times.flush_due(now, self.dir.as_fd(), name.as_c());
    }

    /// Writes what the index still lacks.
    pub fn mark(&mut self) {
        let name = self.name(0, Form::Times);
        self.times.flush(self.dir.as_fd(), name.as_c());
    }

    fn open(&mut self) -> Result<&OwnedFd, Errno> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.make()?,
        };
        if self.size.is_none() {
            let stat = fstat(&file)?;
            self.size = Some(stat.st_size.max(0) as u64);
            self.owner = Some((stat.st_uid, stat.st_gid));
        }
        Ok(self.file.insert(file))
    }

    fn make(&mut self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let name = self.name(0, Form::Plain);
        let file = openat(&self.dir, name.as_c(), flags, Mode::from_raw_mode(self.mode))?;
        if let Some((uid, gid)) = self.owner {
            // Whose the one before was; who may not give it away keeps it.
            let _ = fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        }
        if let Some(links) = &self.links {
            let _ = linkat(&self.dir, name.as_c(), links, name.as_c(), AtFlags::empty());
        }
        Ok(file)
    }

    fn name(&self, number: u32, form: Form) -> Name {
        let mut name = Name { text: [0; NAME], len: 0 };
        if form == Form::Times {
            name.push(b".");
        }
        name.push(&self.base[..self.len]);
        if form == Form::Times {
            name.push(b".times");
        }
        if number > 0 {
            name.push(b".");
            name.push_number(number);
        }
        if form == Form::Compressed {
            name.push(b".gz");
        }
        name
    }

    /// Gives the files up to the first free number the next one, from the oldest of them on: at no moment is one gone that is
    /// to stay. Each goes with its index, so that one that is kept from its new name gets that the next time.
    fn shift(&self) -> Result<(), Errno> {
        let gone = |result: Result<(), Errno>| match result {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        };
        let free = (1..=self.kept).find(|number| !self.is_taken(*number));
        let last = free.unwrap_or(self.kept);
        if free.is_none() {
            for form in Form::of(last).iter().rev() {
                gone(self.drop_in(&self.dir, last, *form))?;
            }
        }
        for number in (0..last).rev() {
            for form in Form::of(number) {
                gone(self.move_in(&self.dir, number, *form))?;
            }
        }
        // Whatever the container made of these names.
        if let Some(links) = &self.links {
            let shown = |number| Form::of(number).iter().filter(|form| **form != Form::Times);
            for form in shown(last).filter(|_| free.is_none()) {
                let _ = self.drop_in(links, last, *form);
            }
            for number in (0..last).rev() {
                for form in shown(number) {
                    let _ = self.move_in(links, number, *form);
                }
            }
        }
        Ok(())
    }

    fn is_taken(&self, number: u32) -> bool {
        [Form::Plain, Form::Compressed]
            .into_iter()
            .any(|form| statat(&self.dir, self.name(number, form).as_c(), AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    fn drop_in(&self, dir: &OwnedFd, number: u32, form: Form) -> Result<(), Errno> {
        unlinkat(dir, self.name(number, form).as_c(), AtFlags::empty())
    }

    fn move_in(&self, dir: &OwnedFd, number: u32, form: Form) -> Result<(), Errno> {
        renameat(dir, self.name(number, form).as_c(), dir, self.name(number + 1, form).as_c())
    }

    fn lock(&mut self) -> Result<&OwnedFd, Errno> {
        let lock = match self.lock.take() {
            Some(lock) => lock,
            None => lock_of(&self.dir)?,
        };
        Ok(self.lock.insert(lock))
    }
}

fn lock_of(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, LOCK, flags, Mode::RUSR | Mode::WUSR)
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    (now.tv_sec.max(0) as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.max(0) as u64)
}

impl Output for Directory {
    fn write(&mut self, data: &[u8]) -> Result<usize, Errno> {
        let count = write(self.open()?, data)?;
        let size = self.size.unwrap_or(0) + count as u64;
        self.size = Some(size);
        let name = self.name(0, Form::Times);
        self.times.note(size, now(), self.dir.as_fd(), name.as_c());
        Ok(count)
    }

    fn rotate(&mut self) -> Result<(), Errno> {
        flock(self.lock()?, FlockOperation::NonBlockingLockExclusive)?;
        self.mark();
        let shifted = self.shift();
        let _ = flock(self.lock()?, FlockOperation::Unlock);
        shifted?;
        // A new one is made at the next write; until that works, output is lost and counted.
        self.file = None;
        self.times.next(self.times.base() + self.size.unwrap_or(0));
        self.size = None;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Compressed,
    Times,
}

impl Form {
    /// What there can be of a number: first what tells of the others.
    fn of(number: u32) -> &'static [Form] {
        match number {
            0 => &[Form::Times, Form::Plain],
            _ => &[Form::Times, Form::Compressed, Form::Plain],
        }
    }
}

struct Name {
    text: [u8; NAME],
    len: usize,
}

impl Name {
    fn push(&mut self, text: &[u8]) {
        self.text[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    fn push_number(&mut self, mut number: u32) {
        let mut digits = [0u8; 10];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    fn as_c(&self) -> &CStr {
        // 32 bytes of a base without NUL, a number and two endings leave room for one at least.
        CStr::from_bytes_until_nul(&self.text).unwrap_or(c"?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{Policy, Writer};
    use std::fs;
    use std::path::Path;

    fn directory(path: &Path, kept: u32) -> Directory {
        Directory::new(fs::File::open(path).unwrap().into(), b"stdout", kept, 0o640, None).unwrap()
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn old_files_are_numbered_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(directory(dir.path(), 2), Policy::rotating(4), 0, true);
        for line in [b"1\n2\n", b"3\n4\n", b"5\n6\n", b"7\n8\n"] {
            writer.feed(line);
        }
        assert_eq!(names(dir.path()), ["stdout", "stdout.1", "stdout.2"]);
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(
            (read("stdout"), read("stdout.1"), read("stdout.2")),
            ("7\n8\n".into(), "5\n6\n".into(), "3\n4\n".into())
        );
        // A reader that has the old file open is not disturbed.
        let mut open = fs::File::open(dir.path().join("stdout")).unwrap();
        writer.feed(b"9\n");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut open, &mut text).unwrap();
        assert_eq!(text, "7\n8\n");
    }

    #[test]
    fn compressed_files_are_numbered_along() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stdout.1"), "plain").unwrap();
        fs::write(dir.path().join("stdout.2.gz"), "old").unwrap();
        fs::write(dir.path().join("stdout.3.gz"), "oldest").unwrap();
        let mut writer = Writer::new(directory(dir.path(), 3), Policy::rotating(2), 0, true);
        writer.feed(b"1\n2\n");
        assert_eq!(names(dir.path()), ["stdout", "stdout.1", "stdout.2", "stdout.3.gz"]);
        assert_eq!(fs::read_to_string(dir.path().join("stdout.2")).unwrap(), "plain");
        assert_eq!(fs::read_to_string(dir.path().join("stdout.3.gz")).unwrap(), "old");
    }

    #[test]
    fn files_that_are_kept_from_their_names_get_them_later_with_their_indices() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(directory(dir.path(), 3), Policy::rotating(8), 0, true);
        let mut write = |number: u32| writer.feed(format!("{number:07}\n").as_bytes());
        (1..=4).for_each(&mut write);
        // What can not be taken away keeps the oldest from going.
        fs::rename(dir.path().join("stdout.3"), dir.path().join("aside")).unwrap();
        fs::create_dir_all(dir.path().join("stdout.3/x")).unwrap();
        write(5);
        fs::remove_dir_all(dir.path().join("stdout.3")).unwrap();
        fs::rename(dir.path().join("aside"), dir.path().join("stdout.3")).unwrap();
        (6..=9).for_each(&mut write);
        writer.output().mark();
        let mut before = None;
        for name in [".stdout.times.3", ".stdout.times.2", ".stdout.times.1", ".stdout.times"] {
            let file = name.replacen('.', "", 1).replace(".times", "");
            let index = fs::read(dir.path().join(name)).unwrap();
            let base = u64::from_le_bytes(index[8..16].try_into().unwrap());
            assert!(before.is_none_or(|before| before == base), "{name}: {before:?} {base}");
            before = Some(base + fs::metadata(dir.path().join(file)).unwrap().len());
        }
        assert_eq!(before, Some(9 * 8));
    }

    #[test]
    fn a_number_that_is_missing_is_filled_and_what_is_older_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(directory(dir.path(), 3), Policy::rotating(2), 0, true);
        for line in [b"1\n", b"2\n", b"3\n", b"4\n"] {
            writer.feed(line);
        }
        fs::remove_file(dir.path().join("stdout.2")).unwrap();
        writer.feed(b"5\n");
        assert_eq!(names(dir.path()), ["stdout", "stdout.1", "stdout.2", "stdout.3"]);
        assert_eq!(fs::read_to_string(dir.path().join("stdout.3")).unwrap(), "1\n");
    }

    #[test]
    fn what_a_container_has_beside_the_links_is_its_own() {
        let (dir, links) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(links.path().join("stdout.gz"), "its own").unwrap();
        for kept in [0, 1] {
            let output =
                directory(dir.path(), kept).with_links(Some(fs::File::open(links.path()).unwrap().into()));
            let mut writer = Writer::new(output, Policy::rotating(2), 0, true);
            writer.feed(b"1\n2\n3\n");
        }
        assert_eq!(names(links.path()), ["stdout", "stdout.1", "stdout.gz"]);
    }

    #[test]
    fn none_kept_means_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(directory(dir.path(), 0), Policy::rotating(2), 0, true);
        writer.feed(b"1\n2\n3\n");
        assert_eq!(
            (names(dir.path()), fs::read(dir.path().join("stdout")).unwrap()),
            (vec!["stdout".into()], b"3\n".into())
        );
    }

    #[test]
    fn a_log_goes_on_where_the_last_writer_stopped() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stdout"), "123456\nhal").unwrap();
        let mut output = directory(dir.path(), 1);
        let (size, whole) = output.state().unwrap();
        assert_eq!((size, whole), (10, false));
        let mut writer = Writer::new(output, Policy::rotating(12), size, whole);
        writer.feed(b"f done\nnext\n");
        assert_eq!(fs::read_to_string(dir.path().join("stdout.1")).unwrap(), "123456\nhalf done\n");
        assert_eq!(fs::read_to_string(dir.path().join("stdout")).unwrap(), "next\n");
    }

    #[test]
    fn a_rotation_waits_for_who_changes_names() {
        let dir = tempfile::tempdir().unwrap();
        let lock = fs::File::create(dir.path().join(".rotate")).unwrap();
        lock.lock().unwrap();
        let mut writer = Writer::new(directory(dir.path(), 1), Policy::rotating(8), 0, true);
        writer.feed(b"1234567\n");
        writer.feed(b"a\n");
        assert_eq!((names(dir.path()), writer.failed_rotations()), (vec!["stdout".to_owned()], 1));
        lock.unlock().unwrap();
        writer.feed(b"b\n");
        assert_eq!(names(dir.path()), ["stdout", "stdout.1"]);
    }

    #[test]
    fn a_link_in_place_of_the_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        fs::write(&canary, "").unwrap();
        std::os::unix::fs::symlink(&canary, dir.path().join("stdout")).unwrap();
        let mut writer = Writer::new(directory(dir.path(), 1), Policy::UNBOUNDED, 0, true);
        writer.feed(b"x\n");
        assert!(writer.is_lossy() && fs::read(&canary).unwrap().is_empty());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in [&b""[..], b"a/b", &[b'x'; 33]] {
            let fd = fs::File::open(dir.path()).unwrap().into();
            assert_eq!(Directory::new(fd, wrong, 1, 0o640, None).unwrap_err(), Errno::INVAL);
        }
    }
}
