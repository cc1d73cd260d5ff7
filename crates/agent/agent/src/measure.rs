// SPDX-License-Identifier: Apache-2.0
//! Status and usage of many containers at once. They are measured side by side, and none is waited for that does not
//! answer soon: what is late is left out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use berth_model::{ContainerId, ContainerStatus, ResourceStatistics};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::agent::Inner;

/// How long to wait for an answer when none comes.
pub(crate) const PATIENCE: Duration = Duration::from_millis(40);

/// What a containerizer says of a running container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    pub(crate) status: Option<ContainerStatus>,
    pub(crate) usage: Option<ResourceStatistics>,
}

type Measuring = Pin<Box<dyn Future<Output = Measured> + Send>>;

/// Measures all of these; the answers are in the order of the ids.
pub(crate) async fn measure(agent: &Arc<Inner>, ids: Vec<ContainerId>) -> Vec<Measured> {
    let mut all = vec![Measured::default(); ids.len()];
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let ids: Arc<[ContainerId]> = ids.into();
    let next = Arc::new(AtomicUsize::new(0));
    // One more than there are processors: a worker that is stuck leaves the others to go on.
    let processors = std::thread::available_parallelism().map_or(2, |count| count.get());
    for _ in 0..(processors + 1).min(ids.len()) {
        let (agent, ids, next, sender) =
            (Arc::clone(agent), Arc::clone(&ids), Arc::clone(&next), sender.clone());
        let handle = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            while let Some((index, id)) = take(&next, &ids) {
                let mut measuring: Measuring = Box::pin(one(Arc::clone(&agent), id.clone()));
                match measuring.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(measured) => drop(sender.send((index, measured))),
                    Poll::Pending => {
                        let sender = sender.clone();
                        handle.spawn(async move {
                            if let Ok(measured) = timeout(PATIENCE, measuring).await {
                                drop(sender.send((index, measured)));
                            }
                        });
                    }
                }
            }
        });
    }
    drop(sender);
    while let Ok(Some((index, measured))) = timeout(PATIENCE, receiver.recv()).await {
        all[index] = measured;
    }
    all
}

fn take<'a>(next: &AtomicUsize, ids: &'a [ContainerId]) -> Option<(usize, &'a ContainerId)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    ids.get(index).map(|id| (index, id))
}

async fn one(agent: Arc<Inner>, id: ContainerId) -> Measured {
    let status = agent.containerizer.status(&id).await.ok();
    let usage = agent.containerizer.usage(&id).await.ok();
    Measured { status, usage }
}
