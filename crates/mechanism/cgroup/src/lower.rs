// SPDX-License-Identifier: Apache-2.0
//! Room for a memory limit below what is in use.
//!
//! v1 drops page cache by itself when a lower limit is written, and refuses it when that is not enough; but it overlooks
//! pages that a processor has just taken and not put into the lists yet, so a refusal is tried again, in the end after
//! `memory.force_empty`, which looks there, too. v2 takes any limit,
//! and then kills. So there, before the limit is written, `memory.high` holds the group where it is to be, `memory.reclaim`
//! asks for the rest (5.19; writing `memory.high` reclaims as well), and only when what is in use fits is it set; else all is
//! as before. Anonymous memory could go to swap, on both: but who asked for less memory did not ask for swapping, so what is
//! refused does not depend on whether the host has any.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::controller::Controller;
use crate::tree::{self, Files};
use crate::usage::Usage;
use crate::ways::{Way, Ways};
use crate::{Bytes, Version};

const HIGH: &str = "memory.high";
const RECLAIM: &str = "memory.reclaim";
/// How often v1 is asked again.
const TRIES: u32 = 5;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Why there is no room.
#[derive(Debug)]
pub(crate) enum Failed {
    /// More is in use than could be dropped.
    InUse { asked: Bytes, used: Bytes, what: String },
    /// The kernel refused a file.
    Kernel(&'static str, Errno),
}

/// v2: `memory.high` as it is to be again.
#[derive(Debug)]
pub(crate) struct Room {
    file: OwnedFd,
    before: Vec<u8>,
}

impl Drop for Room {
    fn drop(&mut self) {
        // The file was written before; there is nobody to tell.
        let _ = rustix::io::write(&self.file, self.before.trim_ascii_end());
    }
}

/// Sees that what the group uses fits into `asked`; what it made for that is taken back when the answer is dropped.
pub(crate) fn make_room(
    dir: BorrowedFd<'_>,
    version: Version,
    asked: Bytes,
    ways: Ways,
    deadline: Instant,
) -> Result<Option<Room>, Failed> {
    let files = Files::new(dir);
    let usage = usage(dir, version);
    if usage.memory.is_none_or(|used| used <= asked) {
        return Ok(None);
    }
    if fixed(&usage) > asked {
        return Err(in_use(dir, version, asked));
    }
    if version == Version::V1 {
        return Ok(None);
    }
    let before = tree::read(dir, HIGH).map_err(|errno| Failed::Kernel(HIGH, errno))?;
    let file = rustix::fs::openat(dir, HIGH, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Failed::Kernel(HIGH, errno))?;
    let room = Room { file, before };
    rustix::io::retry_on_intr(|| rustix::io::write(&room.file, asked.0.to_string().as_bytes()))
        .map_err(|errno| Failed::Kernel(HIGH, errno))?;
    loop {
        let now = files.number("memory.current").map_or(asked, Bytes);
        if now <= asked {
            return Ok(Some(room));
        }
        if Instant::now() >= deadline || fixed(&self::usage(dir, version)) > asked {
            return Err(in_use(dir, version, asked));
        }
        // It says EAGAIN when it got less than it was asked for; the next look tells.
        let more = (now.0 - asked.0).to_string();
        let reclaim = || -> rustix::io::Result<()> {
            let file = rustix::fs::openat(dir, RECLAIM, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(file.as_fd(), more.as_bytes()).map(drop)
        };
        if !ways.has(Way::Reclaim) || reclaim().is_err() {
            std::thread::sleep(PAUSE);
            // Written again, it reclaims again.
            let _ = rustix::io::write(&room.file, asked.0.to_string().as_bytes());
        }
    }
}

/// v1: writes a lower limit again that was refused for what is in use.
pub(crate) fn again(
    dir: BorrowedFd<'_>,
    mut put: impl FnMut() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    for try_ in 0..TRIES {
        std::thread::sleep(PAUSE);
        if try_ == TRIES - 1 {
            // What it can not drop, it leaves; so its answer says nothing.
            let _ = rustix::fs::openat(
                dir,
                "memory.force_empty",
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .and_then(|file| rustix::io::write(&file, b"0"));
        }
        match put() {
            Err(Errno::BUSY) => {}
            other => return other,
        }
    }
    Err(Errno::BUSY)
}

/// What is in use, in words.
pub(crate) fn in_use(dir: BorrowedFd<'_>, version: Version, asked: Bytes) -> Failed {
    let usage = usage(dir, version);
    let megabytes = |bytes: Option<Bytes>| bytes.map_or(0, |bytes| bytes.0 >> 20);
    let what = format!(
        "{} MB anonymous, {} MB shared or on memory file systems, {} MB of the kernel's, {} MB in all",
        megabytes(usage.memory_anonymous),
        megabytes(usage.memory_shared),
        megabytes(usage.memory_kernel),
        megabytes(usage.memory),
    );
    let used = Bytes(fixed(&usage).0.max(usage.memory.map_or(0, |bytes| bytes.0)));
    Failed::InUse { asked, used, what }
}

/// What no reclaim gives back.
fn fixed(usage: &Usage) -> Bytes {
    let bytes = |part: Option<Bytes>| part.map_or(0, |bytes| bytes.0);
    Bytes(bytes(usage.memory_anonymous) + bytes(usage.memory_shared))
}

fn usage(dir: BorrowedFd<'_>, version: Version) -> Usage {
    let mut usage = Usage::default();
    Controller::Memory.measure(&Files::new(dir), version, &mut usage);
    usage
}
