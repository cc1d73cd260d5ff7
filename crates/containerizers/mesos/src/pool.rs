// SPDX-License-Identifier: Apache-2.0
//! Threads for what may block: launches, ends and removals of containers. They stay for some seconds after their work, so
//! that a launch finds a warm one; and there are as many as there is work, because one that waits for a dead disk must not
//! hold up the others.

use berth_contract::Error;
use berth_model::Class;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a thread without work stays.
const STAYS: Duration = Duration::from_secs(4);
/// How many of them do.
const STAY: usize = 16;

/// What one does.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// The threads of one containerizer.
#[derive(Default)]
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    more: Condvar,
    fewer: Condvar,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<(u64, Work)>,
    tickets: u64,
    threads: usize,
    /// Those of them that wait for work, or are about to begin.
    idle: usize,
    closing: bool,
}

impl Pool {
    /// Runs it on a thread of its own.
    ///
    /// # Errors
    /// No threads left; it will not be run then.
    pub(crate) fn run(self: &Arc<Self>, work: Work) -> Result<(), Error> {
        let ticket = self.put(work);
        let Err(error) = self.serve() else { return Ok(()) };
        let mut inner = self.lock();
        let Some(at) = inner.queue.iter().position(|(other, _)| *other == ticket) else {
            // One that had other work has come to it.
            return Ok(());
        };
        let work = inner.queue.remove(at);
        drop(inner);
        drop(work);
        Err(Error::because(Class::Exhausted, "start a thread for the container", error))
    }

    /// Has it run as soon as there is a thread: at once, if [`Pool::serve`] succeeds after this.
    pub(crate) fn put(&self, work: Work) -> u64 {
        let mut inner = self.lock();
        inner.tickets += 1;
        let ticket = inner.tickets;
        inner.queue.push_back((ticket, work));
        let somebody = inner.queue.len() <= inner.idle;
        drop(inner);
        if somebody {
            self.more.notify_one();
        }
        ticket
    }

    /// Sees that there is a thread for each work that waits.
    ///
    /// # Errors
    /// No threads left.
    pub(crate) fn serve(self: &Arc<Self>) -> std::io::Result<()> {
        loop {
            {
                let mut inner = self.lock();
                if inner.queue.len() <= inner.idle {
                    return Ok(());
                }
                (inner.threads, inner.idle) = (inner.threads + 1, inner.idle + 1);
            }
            let pool = Arc::clone(self);
            let body = move || {
                let leave = Leave(pool);
                leave.0.work();
            };
            if let Err(error) = std::thread::Builder::new().name("container".to_owned()).spawn(body) {
                self.lock().idle -= 1;
                drop(Leave(Arc::clone(self)));
                return Err(error);
            }
        }
    }

    /// Lets all threads end, and waits until they are gone.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closing = true;
        self.more.notify_all();
        while inner.threads > 0 {
            inner = self.fewer.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a thread does.
    fn work(&self) {
        let mut inner = self.lock();
        inner.idle -= 1;
        loop {
            if let Some((_, work)) = inner.queue.pop_front() {
                drop(inner);
                work();
                inner = self.lock();
                continue;
            }
            if inner.closing || inner.idle >= STAY {
                return;
            }
            inner.idle += 1;
            let (again, waited) =
                self.more.wait_timeout(inner, STAYS).unwrap_or_else(PoisonError::into_inner);
            inner = again;
            inner.idle -= 1;
            if waited.timed_out() && inner.queue.is_empty() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a thread out, also one whose work panicked.
struct Leave(Arc<Pool>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn work_that_blocks_holds_up_no_other() {
        let pool = Arc::new(Pool::default());
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let (done, told) = mpsc::channel();
        for _ in 0..40 {
            let (blocked, done) = (Arc::clone(&blocked), done.clone());
            pool.run(Box::new(move || {
                drop(blocked.lock().map(|blocked| blocked.recv()));
                done.send(0).unwrap();
            }))
            .unwrap();
        }
        pool.run(Box::new(move || done.send(1).unwrap())).unwrap();
        assert_eq!(told.recv().unwrap(), 1);
        drop(release);
        assert_eq!(told.iter().sum::<i32>(), 0);
        pool.close();
        assert_eq!(pool.lock().threads, 0);
    }

    #[test]
    fn a_thread_that_has_done_its_work_does_the_next() {
        let pool = Arc::new(Pool::default());
        let (done, told) = mpsc::channel();
        let mut threads = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let done = done.clone();
            pool.run(Box::new(move || done.send(format!("{:?}", std::thread::current().id())).unwrap()))
                .unwrap();
            threads.insert(told.recv().unwrap());
        }
        assert!(threads.len() < 10, "{threads:?}");
        pool.close();
    }

    #[test]
    fn a_panic_ends_its_thread_only() {
        let pool = Arc::new(Pool::default());
        pool.run(Box::new(|| panic!("as the test wants"))).unwrap();
        let (done, told) = mpsc::channel();
        pool.run(Box::new(move || done.send(()).unwrap())).unwrap();
        told.recv().unwrap();
        pool.close();
    }
}
