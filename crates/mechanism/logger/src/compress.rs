// SPDX-License-Identifier: Apache-2.0
//! Compressing old files, for the agent: the supervisor has no memory for it.
//!
//! The newest old file stays as it is, since somebody may still be reading it. While one is compressed the writer may give it
//! another number; so it is found again by its inode, under the lock that a rotation takes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use berth_sys::rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, Stat, fchmod, fchown, flock, fstat, linkat, openat, renameat,
    statat, unlinkat,
};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::directory::LOCK;

/// The file in a log's directory that says that old files are to be compressed: how many are kept of stdout and of stderr.
const MARK: &str = ".compress";

/// Has the old files of stdout and stderr in `dir` compressed by who comes to it ([`compress_marked`]); of a stream that keeps
/// none, none.
///
/// # Errors
/// It can not be written down.
pub fn mark_compressed(dir: BorrowedFd<'_>, kept: [u32; 2]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(dir, MARK, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(format!("{} {}\n", kept[0], kept[1]).as_bytes())
}

/// Compresses what is to be compressed in a log's directory, if anything is.
///
/// # Errors
/// As [`compress`].
pub fn compress_marked(
    dir: BorrowedFd<'_>,
    links: Option<BorrowedFd<'_>>,
    stop: &dyn Fn() -> bool,
) -> io::Result<Compressed> {
    let mut all = Compressed::default();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(mark) = openat(dir, MARK, flags, Mode::empty()) else { return Ok(all) };
    if flock(&mark, FlockOperation::NonBlockingLockExclusive).is_err() {
        // Somebody else does it just now.
        return Ok(all);
    }
    let (mark, mut text) = (File::from(mark), String::new());
    (&mark).take(64).read_to_string(&mut text)?;
    for (base, kept) in ["stdout", "stderr"].into_iter().zip(text.split_whitespace()) {
        let done = compress(dir, links, base, kept.parse().unwrap_or(0), stop)?;
        all.files += done.files;
        all.before += done.before;
        all.after += done.after;
    }
    Ok(all)
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compressed {
    /// Files that are compressed now.
    pub files: u32,
    /// Bytes that they had.
    pub before: u64,
    /// Bytes that they have.
    pub after: u64,
}

/// Compresses the old files of the log `base` in `dir`, numbers 2 to `kept`, and puts the results in place of their links in
/// `links`, too. `stop` is asked now and then. Only one at a time may do it: what another that was killed has begun is written
/// over.
///
/// # Errors
/// A file can not be read or written. What was compressed before stays so; nothing is lost.
pub fn compress(
    dir: BorrowedFd<'_>,
    links: Option<BorrowedFd<'_>>,
    base: &str,
    kept: u32,
    stop: &dyn Fn() -> bool,
) -> io::Result<Compressed> {
    let mut done = Compressed::default();
    let lock = openat(
        dir,
        LOCK,
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )?;
    for number in (2..=kept).rev() {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(plain) = openat(dir, format!("{base}.{number}").as_str(), flags, Mode::empty()) else {
            continue;
        };
        let stat = fstat(&plain)?;
        let temporary = format!(".{base}.gz");
        let written = shrink(dir, &temporary, plain.into(), &stat, stop);
        let put = written.and_then(|size| match size {
            Some(size) => {
                put((dir, links), &lock.as_fd(), base, kept, &stat, &temporary).map(|put| put.then_some(size))
            }
            None => Ok(None),
        });
        match put {
            Ok(Some(size)) => {
                done.files += 1;
                done.before += u64::try_from(stat.st_size).unwrap_or(0);
                done.after += size;
            }
            other => {
                let _ = unlinkat(dir, temporary.as_str(), AtFlags::empty());
                if other?.is_none() && stop() {
                    break;
                }
            }
        }
    }
    Ok(done)
}

/// Writes the compressed file beside; its size, or nothing when it was stopped.
fn shrink(
    dir: BorrowedFd<'_>,
    name: &str,
    mut plain: File,
    stat: &Stat,
    stop: &dyn Fn() -> bool,
) -> io::Result<Option<u64>> {
    let _ = unlinkat(dir, name, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: File = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?.into();
    let mut encoder = GzEncoder::new(file, Compression::default());
    let mut piece = vec![0; 256 << 10];
    loop {
        if stop() {
            return Ok(None);
        }
        match plain.read(&mut piece)? {
            0 => break,
            count => encoder.write_all(&piece[..count])?,
        }
    }
    let file = encoder.finish()?;
    let (uid, gid) = (stat.st_uid, stat.st_gid);
    let ids = |id| berth_sys::rustix::fs::Uid::from_raw(id);
    // Whose it was, if we may; whoever can read the directory can read it either way.
    let _ = fchown(&file, Some(ids(uid)), Some(berth_sys::rustix::fs::Gid::from_raw(gid)));
    fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o777))?;
    // Before the original goes, this is on the disk.
    file.sync_data()?;
    Ok(Some(file.metadata()?.len()))
}

/// Puts it in place of the file it was made from, wherever that is now; `false` when that is gone.
fn put(
    (dir, links): (BorrowedFd<'_>, Option<BorrowedFd<'_>>),
    lock: &BorrowedFd<'_>,
    base: &str,
    kept: u32,
    stat: &Stat,
    temporary: &str,
) -> io::Result<bool> {
    flock(lock, FlockOperation::LockExclusive)?;
    let moved = (2..=kept).find_map(|number| {
        let name = format!("{base}.{number}");
        let found = statat(dir, OsStr::from_bytes(name.as_bytes()), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        ((found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino)).then_some(name)
    });
    let done = match &moved {
        None => Ok(false),
        Some(name) => renameat(dir, temporary, dir, format!("{name}.gz").as_str())
            .and_then(|()| unlinkat(dir, name.as_str(), AtFlags::empty()))
            .map(|()| {
                if let Some(links) = links {
                    relink(dir, links, name, stat);
                }
                true
            }),
    };
    let _ = flock(lock, FlockOperation::Unlock);
    Ok(done?)
}

/// Has the link to a file that was compressed lead to the result; whatever the container made of the name stays.
fn relink(dir: BorrowedFd<'_>, links: BorrowedFd<'_>, name: &str, stat: &Stat) {
    let same = statat(links, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino));
    if same && unlinkat(links, name, AtFlags::empty()).is_ok() {
        let packed = format!("{name}.gz");
        let _ = linkat(dir, packed.as_str(), links, packed.as_str(), AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Directory, Policy, Writer};
    use std::fs;
    use std::path::Path;

    fn content(dir: &Path, name: &str) -> Vec<u8> {
        let mut text = Vec::new();
        match fs::File::open(dir.join(name)) {
            Ok(mut file) => {
                file.read_to_end(&mut text).unwrap();
            }
            Err(_) => {
                let file = fs::File::open(dir.join(format!("{name}.gz"))).unwrap();
                flate2::read::GzDecoder::new(file).read_to_end(&mut text).unwrap();
            }
        }
        text
    }

    #[test]
    fn old_files_are_compressed_while_the_log_is_rotated_and_no_line_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::open(dir.path()).unwrap();
        let output = Directory::new(open().into(), b"stdout", 50, 0o640, None).unwrap();
        let mut writer = Writer::new(output, Policy::rotating(1000), 0, true);
        let over = std::sync::atomic::AtomicBool::new(false);
        let (mut all, mut files) = (Vec::new(), 0);
        std::thread::scope(|scope| {
            let compressor = scope.spawn(|| {
                let mut files = 0;
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    files += compress(open().as_fd(), None, "stdout", 50, &|| false).unwrap().files;
                }
                files + compress(open().as_fd(), None, "stdout", 50, &|| false).unwrap().files
            });
            for number in 0..3000 {
                let line = format!("line {number:05}\n");
                writer.feed(line.as_bytes());
                all.extend_from_slice(line.as_bytes());
            }
            over.store(true, std::sync::atomic::Ordering::SeqCst);
            files = compressor.join().unwrap();
        });
        assert!(files > 0 && !dir.path().join("stdout.1.gz").exists());
        let mut found = Vec::new();
        let exists = |name: &str| dir.path().join(name).exists();
        for number in (1..=50).rev() {
            let name = format!("stdout.{number}");
            let (plain, small) = (exists(&name), exists(&format!("{name}.gz")));
            assert!(!(plain && small), "{name} is there twice");
            if plain || small {
                found.extend(content(dir.path(), &name));
            }
        }
        found.extend(content(dir.path(), "stdout"));
        assert!(found == all);
    }

    #[test]
    fn only_a_log_with_a_mark_is_compressed_and_links_lead_to_the_result() {
        let (dir, links) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |dir: &tempfile::TempDir| File::open(dir.path()).unwrap();
        for name in ["stdout.2", "stdout.3", "stderr.2"] {
            fs::write(dir.path().join(name), "text\n").unwrap();
            fs::hard_link(dir.path().join(name), links.path().join(name)).unwrap();
        }
        // What the container made of a name stays.
        fs::remove_file(links.path().join("stdout.3")).unwrap();
        fs::write(links.path().join("stdout.3"), "its own").unwrap();
        let pack =
            || compress_marked(open(&dir).as_fd(), Some(open(&links).as_fd()), &|| false).unwrap().files;
        assert_eq!(pack(), 0);
        mark_compressed(open(&dir).as_fd(), [9, 0]).unwrap();
        assert_eq!((pack(), pack()), (2, 0));
        let mut names: Vec<_> =
            fs::read_dir(links.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["stderr.2", "stdout.2.gz", "stdout.3"]);
        assert_eq!(content(dir.path(), "stdout.2"), b"text\n");
    }

    #[test]
    fn what_was_begun_and_not_ended_is_gone_after_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let open = File::open(dir.path()).unwrap();
        mark_compressed(open.as_fd(), [9, 0]).unwrap();
        fs::write(dir.path().join("stdout.2"), "text").unwrap();
        // As one leaves it that is killed.
        let leave = |plain: &File| {
            shrink(open.as_fd(), ".stdout.gz", plain.try_clone().unwrap(), &fstat(plain).unwrap(), &|| false)
        };
        leave(&File::open(dir.path().join("stdout.2")).unwrap()).unwrap();
        let other = File::open(dir.path().join(MARK)).unwrap();
        other.lock().unwrap();
        assert_eq!(compress_marked(open.as_fd(), None, &|| false).unwrap().files, 0);
        drop(other);
        assert_eq!(compress_marked(open.as_fd(), None, &|| false).unwrap().files, 1);
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [MARK, ".rotate", "stdout.2.gz"]);
    }

    #[test]
    fn what_is_stopped_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stdout.2"), "text").unwrap();
        let done = compress(File::open(dir.path()).unwrap().as_fd(), None, "stdout", 3, &|| true).unwrap();
        assert_eq!(
            (done, fs::read(dir.path().join("stdout.2")).unwrap()),
            (Compressed::default(), b"text".into())
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
