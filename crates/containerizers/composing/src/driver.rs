// SPDX-License-Identifier: Apache-2.0
//! Work that goes on when nobody waits for its answer any more: a future that is polled by a thread of ours whenever it may
//! go on, and by its caller the first time, since most children answer at once.
//!
//! Wakers only send: a child may settle its answers under locks of its own, and what comes next asks another child.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle};

use berth_contract::{Answer, Error, Settled};

/// The thread. Work that is under way when it is dropped stops where it is.
pub(crate) struct Driver {
    queue: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Poll(Arc<dyn Work>),
    Stop,
}

trait Work: Send + Sync {
    fn poll(self: Arc<Self>);
}

struct Task<T> {
    /// `None` while nothing is left to do. Who polls holds the lock; a wake meanwhile is in the queue.
    future: Mutex<Option<Pin<Box<dyn Future<Output = T> + Send>>>>,
    result: Settled<T>,
    queue: Sender<Message>,
}

impl Driver {
    /// Starts the thread.
    ///
    /// # Errors
    /// That of thread creation.
    pub(crate) fn start() -> std::io::Result<Driver> {
        let (queue, messages) = mpsc::channel();
        let turn = move || {
            while let Ok(Message::Poll(work)) = messages.recv() {
                work.poll();
            }
        };
        let thread = thread::Builder::new().name("composing".to_owned()).spawn(turn)?;
        Ok(Driver { queue, thread: Some(thread) })
    }

    /// Does the first part on this thread, and what has to wait on the other.
    pub(crate) fn drive<T, F>(&self, future: F) -> Settled<T>
    where
        T: Clone + Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let result = Settled::new();
        let task = Arc::new(Task {
            future: Mutex::new(Some(Box::pin(future))),
            result: result.clone(),
            queue: self.queue.clone(),
        });
        task.poll();
        result
    }

    /// The same for what may fail, as an answer of the contract.
    pub(crate) fn answer<T, F>(&self, future: F) -> Answer<'static, T>
    where
        T: Clone + Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        Box::pin(self.drive(future).wait())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Fails only if the thread has ended.
        let _ = self.queue.send(Message::Stop);
        if let Some(thread) =
            self.thread.take().filter(|thread| thread.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

impl<T: Clone + Send + 'static> Work for Task<T> {
    fn poll(self: Arc<Self>) {
        // Nothing of ours panics half-way; a child's future that did is not polled again.
        let mut held = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(future) = held.as_mut() else { return };
        let waker = Waker::from(Arc::clone(&self));
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            *held = None;
            drop(held);
            self.result.settle(value);
        }
    }
}

impl<T: Clone + Send + 'static> Wake for Task<T> {
    fn wake(self: Arc<Self>) {
        let queue = self.queue.clone();
        // Nobody listens any more: the containerizer is gone.
        let _ = queue.send(Message::Poll(self));
    }
}

/// All answers, asked for at once, in their order.
pub(crate) async fn all<T>(answers: Vec<Answer<'_, T>>) -> Vec<Result<T, Error>> {
    let mut waiting: Vec<Option<Answer<'_, T>>> = answers.into_iter().map(Some).collect();
    let mut results: Vec<Option<Result<T, Error>>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (answer, result) in waiting.iter_mut().zip(&mut results) {
            if let Some(Poll::Ready(value)) = answer.as_mut().map(|answer| answer.as_mut().poll(context)) {
                *result = Some(value);
                *answer = None;
            }
        }
        if waiting.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_contract::{block_on, ready};

    #[test]
    fn what_is_known_at_once_is_done_on_the_callers_thread() {
        let driver = Driver::start().unwrap();
        let here = thread::current().id();
        let done = driver.drive(async move { thread::current().id() });
        assert_eq!(done.get(), Some(here));
    }

    #[test]
    fn work_goes_on_when_nobody_waits_for_it() {
        let driver = Driver::start().unwrap();
        let (gate, done) = (Settled::new(), Settled::new());
        let (wait, tell) = (gate.wait(), done.clone());
        drop(driver.drive(async move {
            wait.await;
            tell.settle(7);
        }));
        assert_eq!(done.get(), None);
        gate.settle(());
        assert_eq!(block_on(done.wait()), 7);
    }

    #[test]
    fn all_are_asked_before_any_has_answered() {
        let (one, two) = (Settled::new(), Settled::new());
        let (first, second) = (one.clone(), two.clone());
        let answers: Vec<Answer<'static, u8>> = vec![
            Box::pin(async move {
                // The second has to have begun for this to end.
                Ok(first.wait().await)
            }),
            Box::pin(async move {
                one.settle(1);
                Ok(second.wait().await)
            }),
            ready(Err(Error::Unsupported)),
        ];
        two.settle(2);
        let results = block_on(all(answers));
        let values: Vec<Option<u8>> = results.into_iter().map(Result::ok).collect();
        assert_eq!(values, [Some(1), Some(2), None]);
    }
}
