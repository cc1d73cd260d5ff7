// SPDX-License-Identifier: Apache-2.0
//! Events that can be waited for beside descriptors: [`Stop`], which ends a fetch at once, and [`Bell`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Something that happens once. Clones are the same event.
#[derive(Debug, Clone)]
pub(crate) struct Bell {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    event: OwnedFd,
    rung: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell { inner: Arc::new(Inner { event, rung: AtomicBool::new(false) }) })
    }

    pub(crate) fn ring(&self) {
        self.inner.rung.store(true, Ordering::SeqCst);
        // Nobody reads it, so it stays readable; it can not be full after one write for each ring of a few.
        let _ = rustix::io::write(&self.inner.event, &1u64.to_ne_bytes());
    }

    pub(crate) fn has_rung(&self) -> bool {
        self.inner.rung.load(Ordering::SeqCst)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }
}

/// Ends a fetch: give a clone of it to whoever may have to. A destroy calls [`Stop::kill`], and the fetch returns with
/// [`crate::FetchError::Stopped`] within moments, its child dead.
#[derive(Debug, Clone)]
pub struct Stop {
    pub(crate) bell: Bell,
}

impl Stop {
    /// One that has not been called.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new() -> io::Result<Stop> {
        Ok(Stop { bell: Bell::new()? })
    }

    /// Ends the fetch, now or as soon as it begins. May be called more than once.
    pub fn kill(&self) {
        self.bell.ring();
    }

    /// Whether it was called.
    pub fn is_killed(&self) -> bool {
        self.bell.has_rung()
    }
}

/// Waits until one of the descriptors is readable or hung up: its index. `None` at the deadline. Earlier ones first.
pub(crate) fn wait_for(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Option<usize>> {
    loop {
        let mut slots: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let time = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut slots, time.as_ref()) {
            Ok(0) | Err(Errno::INTR) => {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(None);
                }
            }
            Ok(_) => return Ok(slots.iter().position(|slot| !slot.revents().is_empty())),
            Err(error) => return Err(error.into()),
        }
    }
}
