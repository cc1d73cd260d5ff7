// SPDX-License-Identifier: Apache-2.0
//! Status and usage of many containers at once. They are measured side by side, and none is waited for that does not
//! answer soon: what is late is left out.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use berth_model::{ContainerId, ContainerStatus, ContainerType, ResourceStatistics};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::agent::Inner;

/// How long to wait for another answer when all were asked.
pub(crate) const PATIENCE: Duration = Duration::from_millis(40);

/// The same when one alone was asked that a program has to be started for.
const LONGER: Duration = Duration::from_secs(1);

/// How long to wait when no answer comes from anybody, though not all were asked yet.
const STANDSTILL: Duration = Duration::from_millis(400);

/// What a containerizer says of a running container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    pub(crate) status: Option<ContainerStatus>,
    pub(crate) usage: Option<ResourceStatistics>,
}

/// One of the two, or nothing if it can not be had.
enum Part {
    Status(Option<ContainerStatus>),
    Usage(Option<Box<ResourceStatistics>>),
}

type Asking = Pin<Box<dyn Future<Output = Part> + Send>>;

/// How many processors there are. Asked once: for the answer the whole table of mounts is read.
static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(2, |count| count.get()));

/// What to ask of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Status and usage.
    All,
    /// The status, for which nothing has to be read.
    Status,
}

/// Measures all of these; the answers are in the order of the ids.
pub(crate) async fn measure(agent: &Arc<Inner>, ids: Vec<ContainerId>, wanted: Wanted) -> Vec<Measured> {
    measure_within(agent, ids, wanted, PATIENCE).await
}

/// Measures one of which all is wanted. A program of an operator's has to be started for it, which takes its time.
pub(crate) async fn measure_one(agent: &Arc<Inner>, id: ContainerId) -> Measured {
    let record = agent.table.get(&id).and_then(|container| container.record());
    let info = record.as_ref().and_then(|record| record.config.container_info.as_ref());
    let starts = info.is_some_and(|info| info.r#type == ContainerType::External);
    let patience = if starts { LONGER } else { PATIENCE };
    measure_within(agent, vec![id], Wanted::All, patience).await.pop().unwrap_or_default()
}

async fn measure_within(
    agent: &Arc<Inner>,
    ids: Vec<ContainerId>,
    wanted: Wanted,
    patience: Duration,
) -> Vec<Measured> {
    let mut all = vec![Measured::default(); ids.len()];
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let ids: Arc<[ContainerId]> = ids.into();
    let next = Arc::new(AtomicUsize::new(0));
    // One more than there are processors: a worker that is stuck leaves the others to go on.
    let processors = *PROCESSORS;
    // A single one asks fast: what needs no reading is not worth more threads.
    let workers = match wanted {
        Wanted::All => (processors + 1).min(ids.len()),
        Wanted::Status => ids.len().min(1),
    };
    for _ in 0..workers {
        let worker = Worker {
            agent: Arc::clone(agent),
            wanted,
            runtime: Handle::current(),
            ids: Arc::clone(&ids),
            next: Arc::clone(&next),
            sender: sender.clone(),
            patience,
        };
        tokio::task::spawn_blocking(move || worker.work());
    }
    drop(sender);
    let mut last = Instant::now();
    loop {
        match timeout(patience, receiver.recv()).await {
            Ok(Some((index, part))) => {
                last = Instant::now();
                match part {
                    Part::Status(status) => all[index].status = status,
                    Part::Usage(usage) => all[index].usage = usage.map(|usage| *usage),
                }
            }
            Ok(None) => return all,
            // As long as some are to be asked, it is rather the processors that are busy.
            Err(_) if next.load(Ordering::Relaxed) >= ids.len() || last.elapsed() > STANDSTILL => return all,
            Err(_) => {}
        }
    }
}

/// Measures one container after another, as long as there are any.
struct Worker {
    agent: Arc<Inner>,
    wanted: Wanted,
    runtime: Handle,
    ids: Arc<[ContainerId]>,
    /// The one that nobody has taken yet.
    next: Arc<AtomicUsize>,
    sender: mpsc::UnboundedSender<(usize, Part)>,
    patience: Duration,
}

impl Worker {
    fn work(self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(id) = self.ids.get(index) else { return };
            self.ask(index, Box::pin(status(Arc::clone(&self.agent), id.clone())));
            if self.wanted == Wanted::All {
                self.ask(index, Box::pin(usage(Arc::clone(&self.agent), id.clone())));
            }
        }
    }

    /// Takes the answer if it is there at once; otherwise a task waits for it, and not for long.
    fn ask(&self, index: usize, mut asking: Asking) {
        match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            // Who has asked may have gone.
            Poll::Ready(part) => drop(self.sender.send((index, part))),
            Poll::Pending => {
                let (sender, patience) = (self.sender.clone(), self.patience);
                self.runtime.spawn(async move {
                    if let Ok(part) = timeout(patience, asking).await {
                        drop(sender.send((index, part)));
                    }
                });
            }
        }
    }
}

async fn status(agent: Arc<Inner>, id: ContainerId) -> Part {
    Part::Status(agent.containerizer.status(&id).await.ok())
}

async fn usage(agent: Arc<Inner>, id: ContainerId) -> Part {
    Part::Usage(agent.containerizer.usage(&id).await.ok().map(Box::new))
}
