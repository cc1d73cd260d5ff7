// SPDX-License-Identifier: Apache-2.0
//! Releasing what a container has, and collecting what killed owners left.
//!
//! `release` removes in an order that any kill leaves findable: control group, writable layer, directory on disk,
//! and the runtime directory last, its record first of its files. Nobody but the holder of the container's lock releases it.

use crate::native::{self, Native};
use crate::record::{self, CONFIG, LOCK, PID, Record, STATUS, TERMINATION, UNKNOWN, Unknown};
use crate::{Error, Result, fault};
use berth_launcher::Places;
use berth_model::ContainerId;
use berth_record::{BootId, Lock, Sync};
use berth_sys::Errno;
use berth_sys::rustix::fs::{AtFlags, fstat, statat, unlinkat};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

const CGROUPS: &str = "/sys/fs/cgroup";
/// How long a container may take to end that is removed by force.
const ENDS: Duration = Duration::from_secs(30);
/// How long to wait for its end before it is killed again.
const AGAIN: Duration = Duration::from_millis(10);

/// What stays of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing.
    Nothing,
    /// Record, exit record, sandbox, output.
    Ended,
}

/// What may be left of an ended container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// What is kept of each ([`Keep::Ended`]).
    Kept,
    /// Somebody may have been killed in the middle of its end.
    Anything,
}

/// What was collected.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Containers of which everything was removed.
    pub removed: Vec<String>,
    /// Containers that ended while nobody watched; their records are kept.
    pub ended: Vec<String>,
    /// What could not be removed, and why.
    pub left: Vec<String>,
}

impl Native {
    /// Releases a container's things. The caller holds its lock, or has just let go of its only other holder.
    pub(crate) fn release(&self, places: &Places, keep: Keep) -> Vec<String> {
        self.release_beside(places, keep, || {})
    }

    /// The same while its supervisor, which `ended` waits for, may still be removing the layer's room.
    pub(crate) fn release_beside(&self, places: &Places, keep: Keep, ended: impl FnOnce()) -> Vec<String> {
        let mut left = Vec::new();
        let Some(name) = places.runtime.file_name().and_then(|n| n.to_str()) else { return left };
        let Ok(id) = name.parse::<ContainerId>() else { return left };
        for isolator in self.isolators.iter().rev() {
            if let Err(e) = isolator.cleanup(&id, places) {
                left.push(format!("{}: {}", isolator.name(), chain(&e)));
            }
        }
        // A session has no directory, and nothing else.
        let session = id.is_nested() && statat(&self.work, name, AtFlags::SYMLINK_NOFOLLOW).is_err();
        if !session && let Err(e) = berth_images::release(&self.store, &self.holder(&id)) {
            left.push(format!("the image that it holds: {e}"));
        }
        let _ = fault::point("cleanup");
        if keep == Keep::Nothing
            && id.is_nested()
            && !session
            && let Some(outermost) = self.outermost_sandbox(&id)
        {
            left.extend(crate::nested::remove_sandbox(&outermost, &id).err());
        }
        self.release_work(name, keep, ended, &mut left);
        let _ = fault::point("remove");
        if keep == Keep::Nothing && left.is_empty() {
            left.extend(self.forget(name));
        }
        left
    }

    /// Removes what is kept of a container whose end left nothing else.
    fn remove_kept(&self, name: &str) -> Vec<String> {
        let mut left = Vec::new();
        let _ = fault::point("cleanup");
        for output in ["stdout", "stderr"] {
            let _ = unlinkat(&self.work, format!("{name}/{output}"), AtFlags::empty());
        }
        if unlinkat(&self.work, name, AtFlags::REMOVEDIR).is_err() {
            self.release_work(name, Keep::Nothing, || {}, &mut left);
        }
        let _ = fault::point("remove");
        if left.is_empty() {
            left.extend(self.forget(name));
        }
        left
    }

    /// Removes what is to go of the container's directory on disk.
    fn release_work(&self, name: &str, keep: Keep, ended: impl FnOnce(), left: &mut Vec<String>) {
        let mut remove = |at: &OwnedFd, name: &str| {
            let removal = berth_image::remove_tree(at.as_fd(), name.as_ref());
            left.extend(removal.failures.iter().map(|f| chain(f)));
        };
        let Ok(work) = native::directory(self.work.as_fd(), name) else {
            ended();
            if keep == Keep::Nothing {
                remove(&self.work, name);
            }
            return;
        };
        let layers = sweep(&work, keep, ended);
        match keep {
            Keep::Nothing if unlinkat(&self.work, name, AtFlags::REMOVEDIR).is_ok() => {}
            Keep::Nothing => remove(&self.work, name),
            Keep::Ended => layers.into_iter().flatten().for_each(|layer| remove(&work, layer)),
        }
    }

    /// Removes the runtime directory, when all else is gone. The record first: a directory without one is listed
    /// nowhere and removed by the next command, while a record without its status would tell what is not so.
    fn forget(&self, name: &str) -> Vec<String> {
        let rmdir = || unlinkat(&self.runtime, name, AtFlags::REMOVEDIR);
        // What an ended container usually has; then what one may have; then all else (a temporary file of a killed writer).
        for files in [[CONFIG, PID, STATUS, LOCK], [".status", "ctl", UNKNOWN, TERMINATION]] {
            for file in files {
                let _ = unlinkat(&self.runtime, format!("{name}/{file}"), AtFlags::empty());
            }
            if matches!(rmdir(), Ok(()) | Err(Errno::NOENT)) {
                return Vec::new();
            }
        }
        match rmdir() {
            Ok(()) | Err(Errno::NOENT) => Vec::new(),
            Err(_) => {
                let removal = berth_image::remove_tree(self.runtime.as_fd(), name.as_ref());
                removal.failures.iter().map(|f| chain(f)).collect()
            }
        }
    }

    /// Collects what killed owners left: for each container that nobody holds, its processes are ended, its control
    /// group removed, and its record completed or removed. Containers that run, with or without their owner, are
    /// left alone.
    ///
    /// # Errors
    /// The directory can not be read.
    pub fn collect(&self) -> Result<Collected> {
        let mut collected = Collected::default();
        let mut names = self.names()?;
        // What is in others before those.
        names.sort_by_key(|name| std::cmp::Reverse(name.matches('.').count()));
        let works = native::names(self.work.as_fd()).map_err(Error::directory("list", &self.work_path))?;
        if names.is_empty() && works.is_empty() {
            return Ok(collected);
        }
        let boot = BootId::current().map_err(|source| Error::Record { what: "read the boot id", source })?;
        for name in names {
            self.collect_one(&name, &boot, &mut collected)?;
        }
        // Directories on disk without a record: of a boot whose records are gone, or of a removal that was killed.
        let door = self.door()?;
        for name in works {
            if self.existing(&name)?.is_none() {
                if let Ok(id) = name.parse::<ContainerId>() {
                    let _ = berth_images::release(&self.store, &self.holder(&id));
                }
                let removal = berth_image::remove_tree(self.work.as_fd(), name.as_ref());
                collected.left.extend(removal.failures.iter().map(|f| chain(f)));
                collected.removed.push(name);
            }
        }
        drop(door);
        Ok(collected)
    }

    fn collect_one(&self, name: &str, boot: &BootId, collected: &mut Collected) -> Result<()> {
        let Ok(id) = name.parse::<ContainerId>() else { return Ok(()) };
        let door = self.door()?;
        let Some(dir) = self.existing(name)? else { return Ok(()) };
        let lock = match Lock::try_acquire(dir.as_fd(), LOCK) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(()),
            // Its owner removed it this moment.
            Err(_) if fstat(&dir).is_ok_and(|stat| stat.st_nlink == 0) => return Ok(()),
            Err(e) => {
                collected.left.push(format!("{name}: {}", chain(&e)));
                return Ok(());
            }
        };
        drop(door);
        let record = berth_record::read::<Record>(dir.as_fd(), CONFIG, record::CAP);
        let settled = native::status(dir.as_fd()).is_some()
            || berth_record::read_bytes(dir.as_fd(), UNKNOWN, record::CAP).is_ok();
        let committed = berth_record::read_bytes(dir.as_fd(), PID, record::CAP).is_ok();
        let (keep, note) = match &record {
            // Without a readable record nothing was announced: it was killed before, or while, writing it. A record
            // of a newer version is not ours to judge.
            Err(berth_record::Error::Newer { .. }) => return Ok(()),
            Err(_) => (Keep::Nothing, None),
            Ok(r) if r.remove => (Keep::Nothing, None),
            Ok(_) if settled => (Keep::Ended, None),
            Ok(r) if !committed => {
                let _ = r;
                (Keep::Nothing, None)
            }
            Ok(r) if r.boot != boot.as_str() => (Keep::Ended, Some("the machine was restarted while it ran")),
            Ok(_) => (Keep::Ended, Some("its supervisor and its owner were killed while it ran")),
        };
        if settled && keep == Keep::Ended && !self.has_remains(name) {
            return Ok(());
        }
        if let Some(why) = note {
            let record = Unknown { why: why.to_owned() };
            if let Err(e) = berth_record::write(dir.as_fd(), UNKNOWN, &record, Sync::No) {
                collected.left.push(format!("{name}: {}", chain(&e)));
            }
        }
        let left = self.release(&self.places(&id), keep);
        collected.left.extend(left.into_iter().map(|l| format!("{name}: {l}")));
        if keep == Keep::Nothing { &mut collected.removed } else { &mut collected.ended }
            .push(name.to_owned());
        drop(lock);
        Ok(())
    }

    /// Whether an ended container still has something that its end should have removed.
    fn has_remains(&self, name: &str) -> bool {
        let group = format!("{}/{}", self.cgroup, name.replace('.', "/"));
        let work = self.work_path.join(name);
        ["cpu", "memory", "pids", "devices", "freezer", "unified", "."]
            .iter()
            .any(|c| Path::new(CGROUPS).join(c).join(&group).exists())
            || ["upper", "scratch", "volumes", crate::rootfs::UNPACKED].iter().any(|l| work.join(l).exists())
    }

    /// Removes an ended container; `force` kills one that runs first.
    ///
    /// # Errors
    /// None of that name; it runs and is not to be forced; something can not be removed.
    pub fn remove(&self, name: &str, force: bool) -> Result<Vec<String>> {
        self.remove_what(name, force, Left::Anything)
    }

    /// The same, where it is known what its end has left.
    pub(crate) fn remove_what(&self, name: &str, force: bool, what: Left) -> Result<Vec<String>> {
        let id: ContainerId = name.parse().map_err(|e| Error::Invalid(format!("{e}")))?;
        let mut dir = self.existing(name)?.ok_or_else(|| Error::NotFound(name.to_owned()))?;
        let mut soon = Instant::now();
        let deadline = soon + ENDS;
        loop {
            match Lock::acquire(dir.as_fd(), LOCK, soon) {
                Ok(lock) => {
                    let left = match what {
                        Left::Kept => self.remove_kept(name),
                        Left::Anything => self.release(&self.places(&id), Keep::Nothing),
                    };
                    drop(lock);
                    return Ok(left);
                }
                Err(berth_record::Error::Locked { .. }) if !force => return Err(Error::Running(id)),
                Err(berth_record::Error::Locked { .. }) if Instant::now() < deadline => {}
                // Its owner or another command removed it meanwhile.
                Err(_) if fstat(&dir).is_ok_and(|stat| stat.st_nlink == 0) => {}
                Err(source) => return Err(Error::Record { what: "wait for the container's end", source }),
            }
            match self.existing(name)? {
                Some(there) => dir = there,
                None => return Ok(Vec::new()),
            }
            if force {
                // Again and again: one that is being launched has a process only later.
                match self.kill(name, 9) {
                    Ok(_) | Err(Error::NotFound(_)) => {}
                    Err(other) => return Err(other),
                }
                soon = Instant::now() + AGAIN;
            }
        }
    }

    /// Sends a signal to the first process of a container that runs; `false` when none does.
    ///
    /// # Errors
    /// The signal can not be sent.
    pub fn kill(&self, name: &str, signal: i32) -> Result<bool> {
        let Some(dir) = self.existing(name)? else { return Err(Error::NotFound(name.to_owned())) };
        let Ok(pid) = berth_record::read::<record::Pid>(dir.as_fd(), PID, record::CAP) else {
            return Ok(false);
        };
        let pid = berth_sys::rustix::process::Pid::from_raw(pid.pid);
        let Some(pid) = pid else { return Ok(false) };
        let Ok(pidfd) =
            berth_sys::rustix::process::pidfd_open(pid, berth_sys::rustix::process::PidfdFlags::empty())
        else {
            return Ok(false);
        };
        // The supervisor holds the lock and has not written an exit record: the pid was not reaped when this was
        // looked at, after the descriptor was opened, so it is the container's and no other's.
        let held = Lock::is_held(dir.as_fd(), LOCK)
            .map_err(|source| Error::Record { what: "look at the lock", source })?;
        if !held || native::status(dir.as_fd()).is_some() {
            return Ok(false);
        }
        match berth_sys::signal::send(&pidfd, signal) {
            Ok(()) => Ok(true),
            Err(berth_sys::Errno::SRCH) => Ok(false),
            Err(e) => {
                Err(berth_launcher::Error::io(format!("send signal {signal} to container {name}"), e).into())
            }
        }
    }
}

/// Removes what a container usually leaves by the fewest calls: the empty layer, with the marks that overlay makes in it.
/// What it does not get is left to the thorough way: which layers those are. The directory is 0700 and ours; no container
/// reaches these names.
fn sweep(dir: &OwnedFd, keep: Keep, ended: impl FnOnce()) -> [Option<&'static str>; 4] {
    let rmdir = |name: &str| unlinkat(dir, name, AtFlags::REMOVEDIR);
    let rest = |name, removed| (!matches!(removed, Ok(()) | Err(Errno::NOENT))).then_some(name);
    let upper = rest("upper", rmdir("upper"));
    let unpacked = rest(crate::rootfs::UNPACKED, rmdir(crate::rootfs::UNPACKED));
    // Of a container of which nothing stays they go with the rest.
    let volumes = if keep == Keep::Ended { rest("volumes", rmdir("volumes")) } else { None };
    if keep == Keep::Nothing {
        let _ = rmdir("sandbox");
        for output in ["stdout", "stderr"] {
            let _ = unlinkat(dir, output, AtFlags::empty());
        }
    }
    ended();
    let mut scratch = rmdir("scratch");
    if scratch == Err(Errno::NOTEMPTY) {
        if rmdir("scratch/work").is_err() {
            let _ = unlinkat(dir, "scratch/work/incompat/volatile/dirty", AtFlags::empty());
            for part in ["scratch/work/incompat/volatile", "scratch/work/incompat", "scratch/work"] {
                let _ = rmdir(part);
            }
        }
        scratch = rmdir("scratch");
    }
    [upper, unpacked, volumes, rest("scratch", scratch)]
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
