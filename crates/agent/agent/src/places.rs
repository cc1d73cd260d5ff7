// SPDX-License-Identifier: Apache-2.0
//! The agent's places below `work_dir`, by descriptor: records and sandboxes of containers. Everything here blocks.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_logger::Reader;
use berth_model::ContainerId;
use berth_record::Sync;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::error::{StartError, chain};
use crate::record::{CAP, CONFIG, FORKED, Record, TERMINATION, Termination};

/// So much must fit on the disk for a launch to be tried.
const ENOUGH: usize = 64 * 1024;

/// The agent's places.
#[derive(Debug)]
pub(crate) struct Places {
    records: OwnedFd,
    records_path: PathBuf,
    sandboxes: OwnedFd,
    sandboxes_path: PathBuf,
    /// Where the native containerizer has output files out of its containers' reach.
    outputs_path: PathBuf,
    /// Where its supervisors tell of lost output.
    losses_path: PathBuf,
}

/// Why a container's places could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error("write the container's record")]
    Record(#[from] berth_record::Error),
    #[error("make the directory of the container's record")]
    Directory(#[source] io::Error),
    #[error("Failed to create sandbox")]
    Sandbox(#[source] io::Error),
}

/// What is found of one container.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: Result<Record, berth_record::Error>,
    pub(crate) termination: Option<Termination>,
    /// Whether it came so far that its program could run.
    pub(crate) forked: bool,
    pub(crate) sandbox: bool,
}

impl Places {
    /// Opens them, and makes them where they are missing.
    pub(crate) fn open(
        work: BorrowedFd<'_>,
        work_dir: &Path,
        runtime_dir: &Path,
    ) -> Result<Places, StartError> {
        let meta = directory(work, "meta", 0o700, work_dir)?;
        let meta_path = work_dir.join("meta");
        let records = directory(meta.as_fd(), "containers", 0o700, &meta_path)?;
        let sandboxes = directory(work, "sandboxes", 0o711, work_dir)?;
        Ok(Places {
            records,
            records_path: meta_path.join("containers"),
            sandboxes,
            sandboxes_path: work_dir.join("sandboxes"),
            outputs_path: work_dir.join("containers"),
            losses_path: runtime_dir.join("containers"),
        })
    }

    /// Where a container has its sandbox.
    pub(crate) fn sandbox(&self, id: &ContainerId) -> PathBuf {
        match id.parent() {
            None => self.sandboxes_path.join(id.value()),
            Some(parent) => self.sandbox(parent).join("containers").join(id.value()),
        }
    }

    /// Where the containerizer is to write a container's pid.
    pub(crate) fn pid_checkpoint(&self, id: &ContainerId) -> PathBuf {
        self.records_path.join(id.value()).join(FORKED)
    }

    /// Writes the record, then makes the sandbox. What an earlier container of this name left is taken away first.
    pub(crate) fn make(&self, record: &Record) -> Result<(), MakeError> {
        let name = record.id.value();
        let made = fresh(&self.records, name, 0o700).map_err(MakeError::Directory)?;
        berth_record::write(made.as_fd(), CONFIG, record, Sync::No)?;
        fresh(&self.sandboxes, name, 0o750).map_err(MakeError::Sandbox)?;
        Ok(())
    }

    /// Whether there is room for what a launch writes.
    pub(crate) fn has_room(&self) -> bool {
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = openat(&self.records, ".", flags, Mode::RUSR | Mode::WUSR);
        file.is_ok_and(|file| std::fs::File::from(file).write_all(&[0; ENOUGH]).is_ok())
    }

    /// Replaces the record of a container, or makes one, and waits until the disk has it.
    pub(crate) fn rewrite(&self, record: &Record) -> Result<(), MakeError> {
        let name = record.id.value();
        let dir = match mkdirat(&self.records, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => open(self.records.as_fd(), name),
            Err(error) => Err(error.into()),
        };
        let dir = dir.map_err(MakeError::Directory)?;
        Ok(berth_record::write(dir.as_fd(), CONFIG, record, Sync::Yes)?)
    }

    /// Writes how a container ended. One without a record is gone, and has no end to be kept.
    pub(crate) fn keep(&self, id: &ContainerId, termination: &Termination) -> berth_record::Result<()> {
        match open(self.records.as_fd(), id.value()) {
            Ok(dir) => berth_record::write(dir.as_fd(), TERMINATION, termination, Sync::No),
            Err(_) => Ok(()),
        }
    }

    /// Takes sandbox and record away, in this order; what stays, and why.
    pub(crate) fn remove(&self, id: &ContainerId) -> Vec<String> {
        let remove = |dir: &OwnedFd| {
            let removal = berth_image::remove_tree(dir.as_fd(), id.value().as_ref());
            removal.failures.iter().map(|failure| chain(failure)).collect::<Vec<_>>()
        };
        let left = remove(&self.sandboxes);
        if !left.is_empty() {
            // The record stays as long as anything else does.
            return left;
        }
        // The record last of what is usually there: without it the others would be remains of a lost one.
        for file in [TERMINATION, FORKED, CONFIG] {
            let _ = unlinkat(&self.records, format!("{}/{file}", id.value()), AtFlags::empty());
        }
        match unlinkat(&self.records, id.value(), AtFlags::REMOVEDIR) {
            Ok(()) => Vec::new(),
            Err(_) => remove(&self.records),
        }
    }

    /// The names of all containers with a record or a sandbox, each once.
    pub(crate) fn names(&self) -> Result<Vec<String>, StartError> {
        let mut all = names(&self.records).map_err(place("list", &self.records_path))?;
        all.extend(names(&self.sandboxes).map_err(place("list", &self.sandboxes_path))?);
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// What is there of one of them.
    pub(crate) fn find(&self, name: &str) -> Found {
        let sandbox = statat(&self.sandboxes, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let missing = || berth_record::Error::Missing { path: self.records_path.join(name).join(CONFIG) };
        let Ok(dir) = open(self.records.as_fd(), name) else {
            return Found { record: Err(missing()), termination: None, forked: false, sandbox };
        };
        Found {
            record: berth_record::read(dir.as_fd(), CONFIG, CAP),
            termination: berth_record::read(dir.as_fd(), TERMINATION, CAP).ok(),
            // An empty one was about to be written.
            forked: statat(&dir, FORKED, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_size > 0),
            sandbox,
        }
    }

    /// Compresses old files of a container's output, if they are to be.
    pub(crate) fn pack(&self, id: &ContainerId) -> io::Result<berth_logger::Compressed> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(dir) = openat(CWD, self.outputs_path.join(id.to_string()), flags, Mode::empty()) else {
            return Ok(berth_logger::Compressed::default());
        };
        let sandbox = Some(id).filter(|id| id.parent().is_none());
        let sandbox = sandbox.and_then(|id| open(self.sandboxes.as_fd(), id.value()).ok());
        berth_logger::compress_marked(dir.as_fd(), sandbox.as_ref().map(AsFd::as_fd), &|| false)
    }

    /// What of a container's output is missing in its log, in words.
    pub(crate) fn losses(&self, id: &ContainerId) -> Vec<String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(CWD, self.losses_path.join(id.to_string()), flags, Mode::empty());
        dir.map_or_else(|_| Vec::new(), |dir| berth_logger::losses(dir.as_fd()))
    }

    /// Where the native containerizer has what a container wrote.
    pub(crate) fn output(&self, id: &ContainerId) -> PathBuf {
        self.outputs_path.join(id.to_string())
    }

    /// What a container wrote to a stream, for reading: from the containerizer's own directory, which the container can not
    /// reach; else the file in the sandbox and nothing beside it, since that can be anything.
    pub(crate) fn log(&self, id: &ContainerId, name: &str) -> io::Result<Reader> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let sandbox = || match id.parent() {
            None => open(self.sandboxes.as_fd(), id.value()),
            // Its sandbox is in reach of the container around it.
            Some(_) => Err(io::ErrorKind::NotFound.into()),
        };
        match openat(CWD, self.outputs_path.join(id.to_string()), flags, Mode::empty()) {
            Ok(ours) => Ok(Reader::new(ours, sandbox().ok(), name)),
            Err(Errno::NOENT) => Ok(Reader::of_file(sandbox()?, name)),
            Err(error) => Err(error.into()),
        }
    }

    /// The container and the path in its sandbox that a virtual path names: the sandbox's own path, or
    /// `/containers/<id>` before it.
    pub(crate) fn within<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let real = self.sandboxes_path.to_str();
        let rest =
            real.and_then(|real| path.strip_prefix(real)).or_else(|| path.strip_prefix("/containers"))?;
        let rest = rest.strip_prefix('/')?;
        Some(rest.split_once('/').unwrap_or((rest, "")))
    }

    /// Opens something in a sandbox, following no link out of it, and waiting for nothing.
    pub(crate) fn open_within(
        &self,
        container: &str,
        path: &str,
        flags: OFlags,
    ) -> rustix::io::Result<OwnedFd> {
        if container.is_empty() || container.starts_with('.') {
            return Err(Errno::NOENT);
        }
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let sandbox = openat(&self.sandboxes, container, top, Mode::empty())?;
        let path = match path.trim_matches('/') {
            "" => ".",
            path => path,
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        berth_sys::fd::open_within(&sandbox, path, flags, resolve)
    }
}

fn place<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StartError + 'a {
    move |source| StartError::Place { what, path: path.to_owned(), source }
}

fn open(at: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Opens a directory of ours, made if it is missing.
fn directory(at: BorrowedFd<'_>, name: &str, mode: u32, above: &Path) -> Result<OwnedFd, StartError> {
    let path = above.join(name);
    match open(at, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other.map_err(place("open", &path)),
    }
    match mkdirat(at, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(place("make", &path)(error.into())),
    }
    let dir = open(at, name).map_err(place("open", &path))?;
    // Whatever the umask was.
    let set = rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode)).map_err(io::Error::from);
    set.map_err(place("set the mode of", &path))?;
    Ok(dir)
}

/// A directory with nothing in it.
fn fresh(at: &OwnedFd, name: &str, mode: u32) -> io::Result<OwnedFd> {
    let make = || mkdirat(at, name, Mode::from_raw_mode(mode));
    match make() {
        Err(Errno::EXIST) => {
            let removal = berth_image::remove_tree(at.as_fd(), name.as_ref());
            if let Some(failure) = removal.failures.first() {
                return Err(io::Error::other(chain(failure)));
            }
            make()?;
        }
        other => other?,
    }
    open(at.as_fd(), name)
}

fn names(dir: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}
