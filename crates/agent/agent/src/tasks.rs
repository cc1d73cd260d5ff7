// SPDX-License-Identifier: Apache-2.0
//! The agent's tasks, so that none outlives it: each ends when the agent stops, and the stop waits for them.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The tasks of one agent.
#[derive(Debug)]
pub(crate) struct Tasks {
    stop: watch::Sender<bool>,
    /// Every task has a copy; the last one that goes ends the wait.
    alive: Mutex<Option<mpsc::Sender<Infallible>>>,
    gone: tokio::sync::Mutex<mpsc::Receiver<Infallible>>,
}

impl Tasks {
    pub(crate) fn new() -> Tasks {
        let (alive, gone) = mpsc::channel(1);
        Tasks {
            stop: watch::channel(false).0,
            alive: Mutex::new(Some(alive)),
            gone: tokio::sync::Mutex::new(gone),
        }
    }

    /// Runs it to its end or the agent's, whichever comes first; none says that the agent's did.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut stop = self.stop.subscribe();
        tokio::spawn(async move {
            let alive = alive?;
            let result = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => None,
                result = work => Some(result),
            };
            drop(alive);
            result
        })
    }

    /// Ends all of them, and waits until they are gone.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.gone.lock().await.recv().await;
    }
}
