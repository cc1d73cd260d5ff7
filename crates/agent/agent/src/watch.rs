// SPDX-License-Identifier: Apache-2.0
//! Follows what the containerizer tells, and writes it into the table, the subscribers' ring and the log: the only
//! place where the agent's view of a container's state changes.
//!
//! Whoever needs the view to be as new as an answer that they have just got calls [`hear`] first.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use berth_contract::{Event, Next, Phase, What};
use berth_model::{ContainerId, ContainerTermination};
use berth_proto::own::{self, event};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::agent::Inner;
use crate::counters::Counters;
use crate::error::chain;
use crate::places::Places;
use crate::record::{Record, Termination, millis};
use crate::table::{Container, Ended, Gate, lock};
use crate::{events, recover};

/// What happens within such a time is taken in at once: a launch tells of seven things in a few milliseconds, and each alone
/// would wake a thread. Whoever needs to know earlier hears for themselves.
const MOMENT: Duration = Duration::from_millis(5);

/// How long the end of a container waits to be written down. Until the machine is restarted the containerizer knows it; and
/// many are removed at once.
const WRITTEN: Duration = Duration::from_millis(100);

/// Starts to follow.
pub(crate) fn start(agent: &Arc<Inner>) {
    let mut bell = agent.containerizer.events(0);
    let following = Arc::clone(agent);
    agent.tasks.spawn(async move {
        loop {
            bell.next().await;
            while bell.try_next().is_some() {}
            hear(&following);
            tokio::time::sleep(MOMENT).await;
        }
    });
    hear(agent);
}

/// Takes in all that has been told so far.
pub(crate) fn hear(agent: &Arc<Inner>) {
    let mut heard = lock(&agent.heard);
    while let Some(next) = heard.try_next() {
        match next {
            Next::Event(event) => take(agent, event),
            Next::Missed(count) => missed(agent, count),
        }
    }
}

/// More happened at once than is kept: subscribers are told, and containers that have ended are found.
fn missed(agent: &Arc<Inner>, count: u64) {
    tracing::warn!(count, "events of containers were lost; looking at all containers anew");
    let kind = Some(event::Type::Missed.into());
    agent.events.publish(own::Event { r#type: kind, missed: Some(count), ..own::Event::default() });
    let again = Arc::clone(agent);
    agent.tasks.spawn(async move { recover::look_again(&again).await });
}

fn take(agent: &Arc<Inner>, event: Event) {
    let Event { container: id, what, time, .. } = event;
    let container = match (agent.table.get(&id), &what) {
        (Some(container), _) => container,
        // Nested ones, which the containerizer alone remembers, and those it took over.
        (None, What::Created(phase)) => {
            let container = Container::new(id.clone(), kept(agent, &id), *phase);
            *lock(&container.gate) = Gate::Passed;
            container.launched.settle(());
            match agent.table.add(container) {
                Ok(container) => container,
                Err(_) => return,
            }
        }
        (None, _) => return,
    };
    match what {
        What::Created(phase) => {
            container.enter(phase);
            agent.events.publish(events::state(&id, None, &container.now()));
            tracing::debug!(container = %id, state = %phase, "created");
        }
        What::Moved { from, to } => {
            container.enter(to);
            agent.events.publish(events::state(&id, Some(from), &container.now()));
            // The steps of a launch, and of an end that is told below, take moments.
            match (from, to) {
                (_, Phase::Running | Phase::Paused) => {
                    tracing::info!(container = %id, %from, state = %to, "moved");
                }
                _ => tracing::debug!(container = %id, %from, state = %to, "moved"),
            }
        }
        What::LaunchFailed(why) => {
            let state =
                own::inspection::State { name: "FAILED".to_owned(), ..events::state_of(&container.now()) };
            let event = own::Event {
                state: Some(state),
                message: Some(why.clone()),
                ..events::of(event::Type::State, &id)
            };
            agent.events.publish(event);
            tracing::info!(container = %id, why, "the launch failed");
        }
        What::Advanced(advance) => agent.events.publish(events::advanced(&id, *advance)),
        What::Limited(limit) => {
            agent.events.publish(events::limited(&id, &limit));
            let message = limit.message.as_deref().unwrap_or_default();
            tracing::warn!(container = %id, limit = message, "met a limit");
        }
        What::Ended(termination) => ended(agent, &container, termination, Some(time)),
        What::Removed if id.parent().is_some() => {
            agent.table.remove(&container);
            agent.events.publish(events::of(event::Type::Removed, &id));
        }
        // Top-level ones go when the agent has taken its own part away too.
        What::Removed => {}
    }
}

/// What the containerizer remembers of a container within another, for which the agent keeps no record.
pub(crate) fn kept(agent: &Inner, id: &ContainerId) -> Option<Record> {
    let nesting = agent.containerizer.nesting().filter(|_| id.parent().is_some())?;
    let kept = nesting.kept(id).filter(|kept| !kept.session)?;
    let (config, created_ms) = (kept.config, Some(kept.created_ms));
    Some(Record { id: id.clone(), name: None, config, created_ms, boot: String::new() })
}

/// A container has ended: everybody hears of it, and a reboot will not forget it.
pub(crate) fn ended(
    agent: &Arc<Inner>,
    container: &Arc<Container>,
    termination: ContainerTermination,
    at: Option<SystemTime>,
) {
    let ended = Ended { termination, at };
    if !container.end(ended.clone()) {
        return;
    }
    Counters::add(&agent.counters.ended);
    let id = &container.id;
    if let Some(limitation) = events::limitation(id, &ended.termination) {
        agent.events.publish(limitation);
    }
    let termination = Some(events::termination(&ended));
    agent.events.publish(own::Event { termination, ..events::of(event::Type::Terminated, id) });
    let how = ended.termination.wait_status().map(|status| status.to_string());
    let message = ended.termination.message.clone();
    tracing::info!(container = %id, how = how.as_deref().unwrap_or("unknown"), message, "ended");
    if id.parent().is_none() {
        agent.clerk.keep(&agent.places, container, ended);
    }
}

/// What is to be written down.
type End = (Arc<Container>, Ended);

/// Writes down how containers ended. One batch at a time; a container ends once, which bounds what waits.
#[derive(Debug, Default)]
pub(crate) struct Clerk {
    waiting: Arc<Mutex<Vec<End>>>,
    /// Somebody waits for what is to be written.
    hurry: Arc<Notify>,
    writing: Mutex<Option<JoinHandle<()>>>,
    /// Held by who waits for the writer, so that whoever comes next waits as well.
    awaited: tokio::sync::Mutex<()>,
}

impl Clerk {
    fn keep(&self, places: &Arc<Places>, container: &Arc<Container>, ended: Ended) {
        let first = {
            let mut waiting = lock(&self.waiting);
            waiting.push((Arc::clone(container), ended));
            waiting.len() == 1
        };
        if !first {
            return;
        }
        let (places, waiting, hurry) =
            (Arc::clone(places), Arc::clone(&self.waiting), Arc::clone(&self.hurry));
        let before = lock(&self.writing).take();
        let writing = tokio::spawn(async move {
            // Writers follow one another, so that a stop has to wait for the last one only.
            if let Some(before) = before {
                let _ = before.await;
            }
            let _ = tokio::time::timeout(WRITTEN, hurry.notified()).await;
            let work =
                move || std::mem::take(&mut *lock(&waiting)).iter().for_each(|one| write(&places, one));
            let _ = tokio::task::spawn_blocking(work).await;
        });
        lock(&self.writing).replace(writing);
    }

    /// Waits until all is written that has been heard of.
    pub(crate) async fn finish(&self) {
        let _awaited = self.awaited.lock().await;
        let writing = lock(&self.writing).take();
        if let Some(writing) = writing {
            self.hurry.notify_one();
            let _ = writing.await;
        }
    }
}

fn write(places: &Places, (container, ended): &End) {
    let record = Termination { termination: ended.termination.clone(), ended_ms: ended.at.and_then(millis) };
    if let Some(Err(error)) = container.with_files(|| places.keep(&container.id, &record)) {
        // The containerizer knows it until the machine is restarted.
        tracing::warn!(container = %container.id, error = chain(&error), "how it ended is not written down");
    }
}

/// Writes the state of everything to the log.
pub(crate) fn dump(agent: &Arc<Inner>) {
    hear(agent);
    let containers = agent.table.all();
    let operations = agent.operations.now(&agent.table).operations;
    tracing::info!(
        containers = containers.len(),
        operations = operations.len(),
        uptime_secs = agent.started.elapsed().as_secs(),
        "state dump"
    );
    for container in containers {
        let now = container.now();
        let waits = crate::operations::waiting_for(now.phase);
        let for_secs = now.since.elapsed().as_secs();
        let how = now.ended.as_ref().and_then(|ended| ended.termination.status);
        tracing::info!(container = %container.id, state = %now.phase, for_secs, waits, status = how, "state dump");
    }
    for operation in operations {
        let container = operation.container_id.map(|id| id.value);
        let millis = operation.age.map(|age| age.nanoseconds / 1_000_000);
        tracing::info!(operation = operation.name, container, step = operation.step, millis, "state dump");
    }
}

/// Whether a container in this phase is there for lists.
pub(crate) fn lives(container: &Container) -> bool {
    let now = container.now();
    now.ended.is_none() && now.phase != Phase::Terminated
}
