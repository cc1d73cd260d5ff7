// SPDX-License-Identifier: Apache-2.0
//! A value that is settled once and that any number may wait for: the termination of a container, for one.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A shared place for one value that comes later. Clones share the place.
///
/// The first [`settle`](Settled::settle) wins, and everyone who waits, before or after, gets a copy of that
/// value.
#[derive(Debug)]
pub struct Settled<T> {
    inner: Arc<Mutex<Inner<T>>>,
}

#[derive(Debug)]
struct Inner<T> {
    value: Option<T>,
    /// Who waits, by ticket: a waiter that is dropped takes its waker with it, so that a container which
    /// lives for years does not collect the wakers of everybody who ever asked.
    waiting: Vec<(u64, Waker)>,
    tickets: u64,
}

impl<T> Clone for Settled<T> {
    fn clone(&self) -> Self {
        Settled { inner: Arc::clone(&self.inner) }
    }
}

impl<T: Clone> Default for Settled<T> {
    fn default() -> Self {
        Settled::new()
    }
}

impl<T: Clone> Settled<T> {
    /// A place with nothing in it yet.
    pub fn new() -> Settled<T> {
        Settled { inner: Arc::new(Mutex::new(Inner { value: None, waiting: Vec::new(), tickets: 0 })) }
    }

    /// A place that holds its value from the start.
    pub fn with(value: T) -> Settled<T> {
        let place = Settled::new();
        place.settle(value);
        place
    }

    /// Settles the value and wakes everyone; `false` if it was settled before (the earlier value stays).
    pub fn settle(&self, value: T) -> bool {
        let waiting = {
            let mut inner = lock(&self.inner);
            if inner.value.is_some() {
                return false;
            }
            inner.value = Some(value);
            std::mem::take(&mut inner.waiting)
        };
        // Outside the lock: a waker may poll at once, on this thread.
        for (_, waker) in waiting {
            waker.wake();
        }
        true
    }

    /// The value, if it is there.
    pub fn get(&self) -> Option<T> {
        lock(&self.inner).value.clone()
    }

    /// Waits for the value. The future owns its share of the place and may outlive this handle.
    pub fn wait(&self) -> Wait<T> {
        Wait { inner: Arc::clone(&self.inner), ticket: None }
    }
}

/// The future of [`Settled::wait`]. Dropping it changes nothing for others.
#[derive(Debug)]
pub struct Wait<T> {
    inner: Arc<Mutex<Inner<T>>>,
    ticket: Option<u64>,
}

impl<T: Clone> Future for Wait<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let shared = Arc::clone(&self.inner);
        let mut inner = lock(&shared);
        if let Some(value) = &inner.value {
            return Poll::Ready(value.clone());
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            inner.tickets += 1;
            inner.tickets
        });
        match inner.waiting.iter_mut().find(|(held, _)| *held == ticket) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => inner.waiting.push((ticket, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            lock(&self.inner).waiting.retain(|(held, _)| *held != ticket);
        }
    }
}

/// Nothing that holds this lock can panic half-way through a change, so a poisoned one is as good as any.
fn lock<T>(inner: &Mutex<Inner<T>>) -> MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;
    use std::thread;

    #[test]
    fn everyone_gets_the_value_that_came_first() {
        let place = Settled::new();
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                let wait = place.wait();
                thread::spawn(move || block_on(wait))
            })
            .collect();
        assert!(place.settle(1));
        assert!(!place.settle(2));
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), 1);
        }
        assert_eq!(block_on(place.wait()), 1);
        assert_eq!(place.get(), Some(1));
    }

    #[test]
    fn a_dropped_wait_leaves_no_waker_behind() {
        let place: Settled<u8> = Settled::new();
        let mut wait = Box::pin(place.wait());
        let mut context = Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut context).is_pending());
        assert!(wait.as_mut().poll(&mut context).is_pending());
        assert_eq!(lock(&place.inner).waiting.len(), 1);
        drop(wait);
        assert_eq!(lock(&place.inner).waiting.len(), 0);
    }
}
