// SPDX-License-Identifier: Apache-2.0
//! Where a resource goes while it arrives: a file of the cache, or a new file in the sandbox that takes its name when it
//! is whole. Counts, bounds and reports.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_image::Root;
use berth_model::Class;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Context, Failure};
use crate::wire::{self, FromChild, Job, ToChild};

/// Reports go out at most this often.
const REPORT_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Sink<'c> {
    context: &'c Context,
    job: &'c Job,
    place: Option<Place>,
    at: u64,
    most: u64,
    total: Option<u64>,
    reported: Instant,
}

enum Place {
    Cache(File),
    Sandbox { dir: OwnedFd, name: OsString, file: File, whole: bool },
}

impl<'c> Sink<'c> {
    pub(super) fn new(context: &'c Context, job: &'c Job) -> Sink<'c> {
        let most = context.setup.limits.download;
        Sink { context, job, place: None, at: 0, most, total: None, reported: Instant::now() }
    }

    /// The resource is there and will have `total` bytes, if that is known. Before the first byte.
    pub(super) fn begin(&mut self, total: Option<u64>) -> Result<(), Failure> {
        self.total = total;
        if total.is_some_and(|total| total > self.most) {
            return Err(self.too_much());
        }
        self.report(true)?;
        self.place = Some(match self.job.cached {
            true => Place::Cache(self.ask_for_room(total)?.into()),
            false => self.make()?,
        });
        self.reserve()
    }

    /// How many bytes have arrived.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// How many there will be.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// The file, for who can fill it without us. [`Sink::passed`] follows.
    pub(super) fn file(&mut self) -> Result<&mut File, Failure> {
        match &mut self.place {
            Some(Place::Cache(file) | Place::Sandbox { file, .. }) => Ok(file),
            None => Err(Failure::new(Class::Internal, "data came before its size was told")),
        }
    }

    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// More has arrived.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), Failure> {
        if self.at + data.len() as u64 > self.most {
            return Err(self.too_much());
        }
        self.file()?.write_all(data).map_err(|error| Failure::io("write the resource", error))?;
        self.passed(data.len() as u64)
    }

    /// `count` bytes were written to [`Sink::file`].
    pub(super) fn passed(&mut self, count: u64) -> Result<(), Failure> {
        self.at += count;
        match self.at > self.most {
            true => Err(self.too_much()),
            false => self.report(false),
        }
    }

    /// Forgets what has arrived: it comes anew from its beginning.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        let failed = |error| Failure::io("begin the file anew", error);
        let file = self.file()?;
        file.set_len(0).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.at = 0;
        Ok(())
    }

    /// All is there: in the sandbox the file takes its name, and is answered for who unpacks it.
    pub(super) fn finish(mut self, executable: bool) -> Result<(u64, Option<File>), Failure> {
        self.report(true)?;
        let at = self.at;
        // Blocks beyond the end that were reserved and not used.
        self.file()?.set_len(at).map_err(|error| Failure::io("write the resource", error))?;
        let output = self.job.output.clone();
        match &mut self.place {
            Some(Place::Sandbox { dir, name, file, whole }) => {
                let failed = |what: &str| {
                    let what = format!("{what} {:?} in the sandbox", output);
                    move |error: Errno| Failure::io(&what, error)
                };
                let mode = if executable { 0o755 } else { 0o644 };
                rustix::fs::fchmod(&*file, Mode::from_raw_mode(mode)).map_err(failed("set the mode of"))?;
                let last = output.file_name().unwrap_or_default();
                rustix::fs::renameat(&*dir, name.as_os_str(), &*dir, last).map_err(failed("put"))?;
                *whole = true;
                let file = file.try_clone().map_err(|error| Failure::io("hold the resource", error))?;
                Ok((at, Some(file)))
            }
            _ => Ok((at, None)),
        }
    }

    /// Tells the size and waits for a file of the cache. The agent may have no room, and ends us.
    fn ask_for_room(&mut self, total: Option<u64>) -> Result<OwnedFd, Failure> {
        self.context.tell(&FromChild::Size(total))?;
        match wire::receive::<ToChild>(&self.context.control) {
            Ok(Some((ToChild::Go { most }, Some(file)))) => {
                self.most = self.most.min(most);
                Ok(file)
            }
            Ok(_) => Err(Failure::new(Class::Exhausted, "there is no room in the cache")),
            Err(error) => Err(Failure::io("hear from the agent", error)),
        }
    }

    fn make(&self) -> Result<Place, Failure> {
        let (dir, name) = place(self.context, &self.job.output)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| Failure::io("make a file in the sandbox", error))?;
        Ok(Place::Sandbox { dir, name, file: file.into(), whole: false })
    }

    /// Takes the blocks now, so that a disk that is too small is found out before the download.
    fn reserve(&mut self) -> Result<(), Failure> {
        let Some(total) = self.total.filter(|total| *total > 0) else { return Ok(()) };
        match rustix::fs::fallocate(self.file()?, FallocateFlags::KEEP_SIZE, 0, total) {
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                Err(Failure::io(&format!("make room for the {total} bytes of the resource"), error))
            }
            _ => Ok(()),
        }
    }

    fn too_much(&self) -> Failure {
        let text = match (self.total, self.job.cached) {
            (Some(total), true) if total <= self.most => format!(
                "Error downloading resource: it is longer than the {total} bytes that its server announced"
            ),
            _ => format!(
                "Error downloading resource: it has more than {} bytes, the most that is fetched",
                self.most
            ),
        };
        Failure::new(Class::Exhausted, text)
    }

    fn report(&mut self, now: bool) -> Result<(), Failure> {
        if !now && self.reported.elapsed() < REPORT_EVERY {
            return Ok(());
        }
        self.reported = Instant::now();
        self.context.tell(&FromChild::Progress { bytes: self.at, total: self.total, unpacking: false })
    }

    /// For who fills no file of ours.
    pub(super) fn alive(&mut self, bytes: u64) -> Result<(), Failure> {
        self.at = bytes;
        self.report(false)
    }

    /// Tells the size and waits for leave to go on, without a file.
    pub(super) fn announce(&mut self, total: Option<u64>) -> Result<(), Failure> {
        self.total = total;
        self.ask_for_room(total).map(drop)
    }
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        if let Some(Place::Sandbox { dir, name, whole: false, .. }) = &self.place {
            let _ = rustix::fs::unlinkat(dir, name.as_os_str(), AtFlags::empty());
        }
    }
}

/// The directory of `output` in the sandbox, made if need be, and a name there for the time until it is whole.
pub(super) fn place(context: &Context, output: &Path) -> Result<(OwnedFd, OsString), Failure> {
    let Some(sandbox) = &context.sandbox else {
        return Err(Failure::new(Class::Internal, "there is no sandbox to fetch into"));
    };
    let failed = |error| {
        Failure::io(&format!("make the directory of {output:?} in the sandbox"), std::io::Error::other(error))
    };
    let sandbox = sandbox.try_clone().map_err(|error| Failure::io("hold the sandbox", error))?;
    let root = Root::of(sandbox).map_err(failed)?;
    let parent = output.parent().map(PathBuf::from).unwrap_or_default();
    let dir = root.create_dir_all(parent, Mode::from_raw_mode(0o755)).map_err(failed)?;
    Ok((
        dir.as_fd().try_clone_to_owned().map_err(|error| Failure::io("hold a directory", error))?,
        temporary(),
    ))
}

/// A name that nobody guesses: a link could wait there.
pub(super) fn temporary() -> OsString {
    let mut bytes = [0u8; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!(".fetch-{:016x}", u64::from_ne_bytes(bytes)).into()
}
