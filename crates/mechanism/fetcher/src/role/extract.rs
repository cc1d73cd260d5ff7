// SPDX-License-Identifier: Apache-2.0
//! Unpacking into a sandbox.
//!
//! An archive is unpacked by `berth-image`, with its rules for hostile ones, into a private directory inside the
//! sandbox; then its entries are moved to their places, by descriptors and without following a link. So nothing of a bad
//! archive is ever seen, and two archives may share directories.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_image::{Options, Owners, Progress, UnpackError, remove_tree, unpack_from};
use berth_model::Class;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::metered::{Intake, Outlet};
use super::sink::temporary;
use super::zip::ZipTar;
use super::{Context, Failure, shown};
use crate::uri::Archive;
use crate::wire::{FromChild, Job};

/// Levels of directories that are merged: what is unpacked has no more.
const DEPTH: u32 = 300;

pub(super) fn extract(
    context: &Context,
    job: &Job,
    sandbox: BorrowedFd<'_>,
    mut archive: File,
) -> Result<u64, Failure> {
    archive.seek(SeekFrom::Start(0)).map_err(|error| Failure::io("read the archive", error))?;
    match job.archive {
        Some(Archive::Gzip) => gunzip(context, job, sandbox, archive),
        Some(Archive::Tree) => tree(context, job, sandbox, archive),
        None => Err(Failure::new(Class::Internal, "it is no archive by its name")),
    }
}

/// One file, compressed: `x.gz` becomes `x` at the top of the sandbox.
fn gunzip(context: &Context, job: &Job, sandbox: BorrowedFd<'_>, archive: File) -> Result<u64, Failure> {
    let name = job.output.file_stem().unwrap_or_default();
    let failed = |error: io::Error| {
        let class = if error.raw_os_error().is_some() { Class::of_io(&error) } else { Class::Invalid };
        Failure::new(class, format!("Failed to extract '{}': {error}", shown(&job.output)))
    };
    let temporary = temporary();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(sandbox, &temporary, flags, Mode::from_raw_mode(0o644))
        .map_err(|error| failed(error.into()))?;
    let written = inflate(context, archive, File::from(file)).and_then(|bytes| {
        rustix::fs::renameat(sandbox, &temporary, sandbox, name)?;
        Ok(bytes)
    });
    written.map_err(|error| {
        let _ = rustix::fs::unlinkat(sandbox, &temporary, AtFlags::empty());
        failed(error)
    })
}

fn inflate(context: &Context, archive: File, mut file: File) -> io::Result<u64> {
    let (intake, taken) = Intake::new(archive);
    let decoder = flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(128 << 10, intake));
    let mut outlet = Outlet::new(decoder, taken, &context.setup.limits);
    let mut piece = vec![0; 128 << 10];
    let mut bytes: u64 = 0;
    loop {
        let count = match outlet.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        io::Write::write_all(&mut file, &piece[..count])?;
        let before = bytes >> 24;
        bytes += count as u64;
        if bytes >> 24 != before {
            report(context, bytes);
        }
    }
}

fn report(context: &Context, bytes: u64) {
    // Whether the agent is still there is found out by the next message that matters.
    let _ = context.tell(&FromChild::Progress { bytes, total: None, unpacking: true });
}

fn tree(context: &Context, job: &Job, sandbox: BorrowedFd<'_>, archive: File) -> Result<u64, Failure> {
    let target = temporary();
    let failed = |class: Class, why: String| {
        let text = format!("Failed to extract archive '{}' to the sandbox: {why}", shown(&job.output));
        Failure::new(class, text)
    };
    // The sandbox is the working directory: no path of it can be swapped.
    let unpacked = open(context, archive)
        .map_err(|error| failed(Class::Invalid, error.to_string()))
        .and_then(|stream| {
            unpack(context, stream, Path::new(&target)).map_err(|error| failed(error.class(), chain(&error)))
        });
    let done = unpacked.and_then(|(bytes, root)| {
        merge(root.as_fd(), sandbox, 0)
            .map_err(|error| failed(Class::of_io(&error), format!("move an entry to its place: {error}")))?;
        Ok(bytes)
    });
    let removal = remove_tree(sandbox, &target);
    match (done, removal.is_complete()) {
        (Ok(_), false) => Err(failed(Class::Internal, format!("remove {target:?} after it: {removal:?}"))),
        (done, _) => done,
    }
}

/// An error with its causes.
fn chain(error: &UnpackError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// The archive as something that `berth-image` reads: it knows all but bzip2 and zip.
fn open(context: &Context, archive: File) -> io::Result<Box<dyn Read>> {
    use std::os::unix::fs::FileExt;
    let mut magic = [0; 4];
    let count = archive.read_at(&mut magic, 0)?;
    let limits = &context.setup.limits;
    Ok(match &magic[..count] {
        [b'P', b'K', 3 | 5 | 7, 4 | 6 | 8] => Box::new(ZipTar::new(archive, limits)?),
        [b'B', b'Z', b'h', ..] => {
            let (intake, taken) = Intake::new(archive);
            let decoder = bzip2::bufread::MultiBzDecoder::new(BufReader::with_capacity(128 << 10, intake));
            Box::new(Outlet::new(decoder, taken, limits))
        }
        _ => Box::new(archive),
    })
}

fn unpack(context: &Context, stream: Box<dyn Read>, target: &Path) -> Result<(u64, OwnedFd), UnpackError> {
    let limits = &context.setup.limits;
    let limits = berth_image::Limits {
        bytes: limits.bytes,
        ratio: limits.ratio,
        ratio_free: limits.ratio_free,
        entries: limits.entries,
        ..berth_image::Limits::default()
    };
    let options = Options { limits, owners: Owners::Ours, ..Options::default() };
    let mut reported = 0;
    let mut progress = |progress: Progress| {
        if progress.bytes >> 24 != reported || progress.entries.is_multiple_of(4096) {
            reported = progress.bytes >> 24;
            report(context, progress.bytes);
        }
    };
    let unpacked = unpack_from(stream, target, &options, &mut progress)?;
    let root = unpacked.root.open("", OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| {
        UnpackError::Target { what: "open again", path: target.into(), source: io::Error::other(error) }
    })?;
    Ok((unpacked.bytes, root))
}

/// Moves all entries of one directory into another. What is in the way is replaced, but a directory with something in it
/// only by a directory, which then goes into it.
fn merge(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    if depth > DEPTH {
        return Err(io::Error::other("the directories are too deep"));
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        use std::os::unix::ffi::OsStrExt;
        let name = OsStr::from_bytes(name.to_bytes());
        place(from, to, name, depth)
            .map_err(|error| io::Error::new(error.kind(), format!("{name:?}: {error}")))?;
    }
    Ok(())
}

fn place(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, depth: u32) -> io::Result<()> {
    match rustix::fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        // A filesystem without the flag: the last word is with what follows.
        Err(Errno::INVAL) => {}
        // A directory that we may not write (its `..` would change): ours, so its mode can wait.
        Err(Errno::ACCESS) => return aside(from, to, name, depth),
        Err(error) => return Err(error.into()),
    }
    let is_dir = |dir: BorrowedFd<'_>| -> io::Result<Option<bool>> {
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    match (is_dir(from)?, is_dir(to)?) {
        (Some(true), Some(true)) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let from = rustix::fs::openat(from, name, flags, Mode::empty())?;
            let to = rustix::fs::openat(to, name, flags, Mode::empty())?;
            // The archive's mode counts in the end; until then we have to write in both.
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&from)?.st_mode);
            rustix::fs::fchmod(&from, Mode::RWXU)?;
            match rustix::fs::fchmod(&to, mode | Mode::RWXU) {
                // Somebody else's directory: it stays as it is.
                Err(Errno::PERM) => merge(from.as_fd(), to.as_fd(), depth + 1),
                done => {
                    done?;
                    merge(from.as_fd(), to.as_fd(), depth + 1)?;
                    Ok(rustix::fs::fchmod(&to, mode)?)
                }
            }
        }
        (Some(true), Some(false)) => {
            rustix::fs::unlinkat(to, name, AtFlags::empty())?;
            Ok(rustix::fs::renameat(from, name, to, name)?)
        }
        _ => Ok(rustix::fs::renameat(from, name, to, name)?),
    }
}

/// Moves a directory that its mode does not let us write: opened up, moved, and given its mode back.
fn aside(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, depth: u32) -> io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory || mode.contains(Mode::RWXU) {
        return Err(Errno::ACCESS.into());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(from, name, flags, Mode::empty())?;
    // Through the working directory of the child: `O_PATH` descriptors take no fchmod.
    rustix::fs::chmodat(from, name, mode | Mode::RWXU, AtFlags::empty())?;
    drop(dir);
    place(from, to, name, depth)?;
    Ok(rustix::fs::chmodat(to, name, mode, AtFlags::empty())?)
}
