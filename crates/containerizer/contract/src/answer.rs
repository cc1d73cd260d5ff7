// SPDX-License-Identifier: Apache-2.0
//! How a containerizer answers without choosing a runtime for its callers: a boxed future of `std`, and the
//! few lines that a face without a runtime needs to wait for one.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::Error;

/// What every call of the contract returns.
///
/// The call takes effect no later than the first poll, and from then on it belongs to the containerizer:
/// dropping an answer abandons the *answer*, never the work. A launch whose answer was dropped goes on (and
/// has to be destroyed), a destroy goes on, and a wait that nobody listens to any more disturbs nothing
/// (MESOS-7926). Polling never blocks for long; whoever has blocking work hands it to a thread of its own and
/// settles the answer from there (see [`Settled`](crate::Settled)).
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// An answer that is known already.
pub fn ready<'a, T: Send + 'a>(result: Result<T, Error>) -> Answer<'a, T> {
    Box::pin(std::future::ready(result))
}

/// Parks one thread until the future it waits for may go on.
struct Parked {
    thread: Thread,
    /// Parking may end for no reason, and a wake may come before the park; this flag says which wakes are
    /// real.
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Runs a future to its end on this thread, which sleeps while there is nothing to do.
pub fn block_on<F: Future>(future: F) -> F::Output {
    match drive(future, None) {
        Some(output) => output,
        // Without a deadline the loop ends with an output only.
        None => unreachable!("a wait without a deadline can not run out of time"),
    }
}

/// Like [`block_on`], but gives up (and drops the future) at `deadline`; `None` says that it did.
pub fn block_on_until<F: Future>(future: F, deadline: Instant) -> Option<F::Output> {
    drive(future, Some(deadline))
}

fn drive<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let mut future = pin!(future);
    let parked = Arc::new(Parked { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&parked));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        while !parked.woken.swap(false, Ordering::Acquire) {
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    thread::park_timeout(left);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settled;
    use std::time::Duration;

    #[test]
    fn a_ready_answer_is_returned_at_once() {
        assert_eq!(block_on(ready(Ok(7))).unwrap(), 7);
    }

    #[test]
    fn a_thread_that_waits_is_woken_by_another() {
        let slot: Settled<u32> = Settled::new();
        let setter = slot.clone();
        let thread = thread::spawn(move || setter.settle(5));
        assert_eq!(block_on(slot.wait()), 5);
        thread.join().unwrap();
    }

    #[test]
    fn a_deadline_ends_a_wait_for_what_never_comes() {
        let never = std::future::pending::<()>();
        assert_eq!(block_on_until(never, Instant::now() + Duration::from_millis(5)), None);
    }

    #[test]
    fn a_future_that_wakes_itself_while_it_is_polled_is_polled_again() {
        let mut polls = 0;
        let future = std::future::poll_fn(|context| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        block_on(future);
        assert_eq!(polls, 3);
    }
}
