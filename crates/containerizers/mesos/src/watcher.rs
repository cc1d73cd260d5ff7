// SPDX-License-Identifier: Apache-2.0
//! One thread that waits for all containers with which nothing is done: for what their supervisors say, and for what is
//! asked of their owners. It does nothing itself; whom something has come for goes on on a thread of the pool.
//!
//! ```text
//! owner ── park ──> epoll ── one of its descriptors is ready ──> resume (pool) ── park …
//! ```
//! While an owner is on the pool none of its descriptors is watched: so one thread at a time has it, and hears things in
//! their order. A descriptor that stays ready brings it back at once.

use crate::pool::{Pool, Work};
use crate::shared::warn;
use berth_sys::Errno;
use berth_sys::rustix::buffer::spare_capacity;
use berth_sys::rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use berth_sys::rustix::io;
use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Somebody for whom something may come.
pub(crate) trait Waits: Send {
    /// What is waited for. Each descriptor once, and the same ones as long as it is parked.
    fn sources(&self) -> Vec<(BorrowedFd<'_>, epoll::EventFlags)>;

    /// Something has come: goes on, on a thread that may block.
    fn resume(self: Box<Self>);
}

/// The waiting thread, and whom it waits for.
pub(crate) struct Watcher {
    epoll: OwnedFd,
    bell: OwnedFd,
    inner: Mutex<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Inner {
    /// Never used again, so that an event that comes late finds nobody.
    tokens: u64,
    parked: HashMap<u64, Box<dyn Waits>>,
    stopping: bool,
}

/// The bell's token.
const BELL: u64 = 0;
/// How many events are taken at once.
const AT_ONCE: usize = 64;
/// How often threads are tried to be had when there are none.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

impl Watcher {
    /// Starts the thread. Whom something comes for goes on there.
    ///
    /// # Errors
    /// No threads or descriptors left.
    pub(crate) fn start(pool: &Arc<Pool>) -> std::io::Result<Arc<Watcher>> {
        let watcher = Arc::new(Watcher {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            inner: Mutex::default(),
            thread: Mutex::default(),
        });
        let data = epoll::EventData::new_u64(BELL);
        epoll::add(&watcher.epoll, &watcher.bell, data, epoll::EventFlags::IN)?;
        let (own, pool) = (Arc::clone(&watcher), Arc::clone(pool));
        let started =
            std::thread::Builder::new().name("watcher".to_owned()).spawn(move || own.watch(&pool))?;
        *watcher.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        Ok(watcher)
    }

    /// Waits for it from now on.
    ///
    /// # Errors
    /// It can not be waited for here (the watcher stops, or the kernel has no memory): it is given back.
    pub(crate) fn park<W: Waits + 'static>(&self, waits: Box<W>) -> Result<(), Box<W>> {
        // Held until it is in: the thread takes it before it looks for whom an event is.
        let mut inner = self.lock();
        if inner.stopping {
            return Err(waits);
        }
        inner.tokens += 1;
        let token = inner.tokens;
        let sources = waits.sources();
        for (at, (fd, flags)) in sources.iter().enumerate() {
            if epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), *flags).is_err() {
                for (fd, _) in &sources[..at] {
                    let _ = epoll::delete(&self.epoll, fd);
                }
                drop(sources);
                return Err(waits);
            }
        }
        drop(sources);
        inner.parked.insert(token, waits);
        Ok(())
    }

    /// Resumes all who are parked, and ends the thread. Nobody is parked any more.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        let _ = io::write(&self.bell, &1u64.to_ne_bytes());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn watch(&self, pool: &Arc<Pool>) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(AT_ONCE);
        let mut short = false;
        loop {
            events.clear();
            let time = short.then_some(&AGAIN);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), time) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => {
                    warn(&format!("waiting for containers failed: {}", std::io::Error::from(e)));
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
            let (woken, stopping) = self.take(&events);
            let some = !woken.is_empty() || short;
            for waits in woken {
                pool.put(Box::new(move || waits.resume()) as Work);
            }
            short = some && pool.serve().is_err();
            if stopping && !short {
                return;
            }
        }
    }

    /// Those whom the events are for, whose descriptors are not watched any more; everybody, at the end.
    fn take(&self, events: &[epoll::Event]) -> (Vec<Box<dyn Waits>>, bool) {
        let mut inner = self.lock();
        // What another of its descriptors has brought back finds nobody.
        let mut woken: Vec<_> = events.iter().filter_map(|e| inner.parked.remove(&e.data.u64())).collect();
        if inner.stopping {
            woken.extend(std::mem::take(&mut inner.parked).into_values());
        }
        // Also those that stay open elsewhere for a moment (in a program that is being started) are not to be heard of.
        for (fd, _) in woken.iter().flat_map(|waits| waits.sources()) {
            let _ = epoll::delete(&self.epoll, fd);
        }
        (woken, inner.stopping)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sys::rustix::pipe::pipe;
    use std::os::fd::AsFd;
    use std::sync::mpsc;
    use std::time::Duration;

    struct Reads {
        from: Vec<OwnedFd>,
        heard: mpsc::Sender<usize>,
        watcher: Arc<Watcher>,
    }

    impl Waits for Reads {
        fn sources(&self) -> Vec<(BorrowedFd<'_>, epoll::EventFlags)> {
            self.from.iter().map(|fd| (fd.as_fd(), epoll::EventFlags::IN)).collect()
        }

        /// Reads one byte of the first that has some, and waits again; ends with the first that ends.
        fn resume(self: Box<Self>) {
            use berth_sys::rustix::event::{PollFd, PollFlags, poll};
            for (n, fd) in self.from.iter().enumerate() {
                let ready =
                    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
                if ready.is_ok_and(|count| count > 0) {
                    let mut byte = [0];
                    match io::read(fd, &mut byte) {
                        Ok(1) => self.heard.send(n).unwrap(),
                        _ => return,
                    }
                    break;
                }
            }
            let watcher = Arc::clone(&self.watcher);
            drop(watcher.park(self));
        }
    }

    #[test]
    fn what_is_ready_brings_its_owner_back_as_often_as_there_is_something() {
        let pool = Arc::new(Pool::default());
        let watcher = Watcher::start(&pool).unwrap();
        let (heard, told) = mpsc::channel();
        let mut writers = Vec::new();
        for _ in 0..50 {
            let ((first, to_first), (second, to_second)) = (pipe().unwrap(), pipe().unwrap());
            let reads =
                Reads { from: vec![first, second], heard: heard.clone(), watcher: Arc::clone(&watcher) };
            assert!(watcher.park(Box::new(reads)).is_ok());
            writers.push((to_first, to_second));
        }
        drop(heard);
        for _ in 0..20 {
            for (first, second) in &writers {
                io::write(first, b"ab").unwrap();
                io::write(second, b"c").unwrap();
            }
        }
        let mut counts = [0, 0];
        for _ in 0..50 * 20 * 3 {
            counts[told.recv_timeout(Duration::from_secs(20)).unwrap()] += 1;
        }
        assert_eq!(counts, [50 * 20 * 2, 50 * 20]);
        // Their ends end them.
        drop(writers);
        assert!(told.recv_timeout(Duration::from_secs(20)).is_err());
        assert!(watcher.lock().parked.is_empty());
        watcher.stop();
        pool.close();
    }

    #[test]
    fn who_waits_is_resumed_when_the_watcher_stops_and_nobody_is_taken_after_that() {
        let pool = Arc::new(Pool::default());
        let watcher = Watcher::start(&pool).unwrap();
        let (heard, told) = mpsc::channel();
        let (from, to) = pipe().unwrap();
        let reads = Reads { from: vec![from], heard, watcher: Arc::clone(&watcher) };
        assert!(watcher.park(Box::new(reads)).is_ok());
        io::write(&to, b"").unwrap();
        watcher.stop();
        // It could not park again, and so is gone.
        assert!(told.recv_timeout(Duration::from_secs(20)).is_err());
        pool.close();
    }
}
