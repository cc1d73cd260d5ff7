// SPDX-License-Identifier: Apache-2.0
//! What happens to containers, told as it happens: numbered transitions in a ring of bounded size, which any
//! number of readers follow at their own pace. A slow reader loses old events (and is told how many), never
//! holds up a container.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use berth_model::{ContainerId, ContainerLimitation, ContainerTermination, NativeState};

use crate::{Kept, Settled};

/// Where a container is in its life. One enum for every technology; each goes through some of them, in this
/// order.
///
/// ```text
/// native:  STARTING → PROVISIONING → PREPARING → ISOLATING → FETCHING → RUNNING → DESTROYING → TERMINATED
/// docker:  FETCHING → PULLING → MOUNTING → RUNNING → DESTROYING → TERMINATED
/// ```
/// DESTROYING can be entered from everywhere; only TERMINATED follows it. PAUSED alternates with RUNNING.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// There is a record and nothing else.
    Starting,
    /// The root filesystem is being made from an image.
    Provisioning,
    /// Isolators say what they need; the process is made.
    Preparing,
    /// The process exists and waits while its limits and namespaces are set.
    Isolating,
    /// URIs are being brought into the sandbox.
    Fetching,
    /// The engine brings the image.
    Pulling,
    /// Volumes are being put in place.
    Mounting,
    /// The container's program was let go.
    Running,
    /// All its processes are stopped, by a pause.
    Paused,
    /// Processes, mounts, cgroups are being taken away.
    Destroying,
    /// Nothing is left but the record with the termination.
    Terminated,
}

impl Phase {
    /// The name as the failure texts have it: what was being done.
    pub fn doing(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Provisioning => "provisioning",
            Phase::Preparing => "preparing",
            Phase::Isolating => "isolating",
            Phase::Fetching => "fetching",
            Phase::Pulling => "pulling",
            Phase::Mounting => "mounting",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Destroying => "destroying",
            Phase::Terminated => "terminated",
        }
    }

    /// Whether the launch is still under way.
    pub fn is_launching(self) -> bool {
        matches!(
            self,
            Phase::Starting
                | Phase::Provisioning
                | Phase::Preparing
                | Phase::Isolating
                | Phase::Fetching
                | Phase::Pulling
                | Phase::Mounting
        )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Starting => "STARTING",
            Phase::Provisioning => "PROVISIONING",
            Phase::Preparing => "PREPARING",
            Phase::Isolating => "ISOLATING",
            Phase::Fetching => "FETCHING",
            Phase::Pulling => "PULLING",
            Phase::Mounting => "MOUNTING",
            Phase::Running => "RUNNING",
            Phase::Paused => "PAUSED",
            Phase::Destroying => "DESTROYING",
            Phase::Terminated => "TERMINATED",
        })
    }
}

impl From<NativeState> for Phase {
    fn from(state: NativeState) -> Phase {
        match state {
            NativeState::Starting => Phase::Starting,
            NativeState::Provisioning => Phase::Provisioning,
            NativeState::Preparing => Phase::Preparing,
            NativeState::Isolating => Phase::Isolating,
            NativeState::Fetching => Phase::Fetching,
            NativeState::Running => Phase::Running,
            NativeState::Destroying => Phase::Destroying,
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Counts up by one from 1, over all containers of one containerizer since it was made.
    pub sequence: u64,
    /// When, by the wall clock: for people.
    pub time: SystemTime,
    /// To which container.
    pub container: ContainerId,
    /// What.
    pub what: What,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A new record; the phase it starts in.
    Created(Phase),
    /// The container went from one phase to the next.
    Moved {
        /// Before.
        from: Phase,
        /// After.
        to: Phase,
    },
    /// The launch failed; the text of the failure. A destroy has to follow.
    LaunchFailed(String),
    /// Something that takes long is so far; told some times a second at most.
    Advanced(Box<Advance>),
    /// The container met one of its limits. It may go on; if it ends for that, its termination says so as well.
    Limited(ContainerLimitation),
    /// The container ended, and this is how.
    Ended(ContainerTermination),
    /// The record is gone.
    Removed,
}

/// How far something is that takes long: what is brought before a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// What is being brought, without what may be secret.
    pub what: String,
    /// Which of several, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes that there will be, where that is known.
    pub total: Option<u64>,
    /// Whether it is being unpacked.
    pub unpacking: bool,
}

/// What a subscription hands out.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// The next event.
    Event(Event),
    /// This many events were dropped from the ring before this reader came to them.
    Missed(u64),
}

/// How many events a containerizer keeps for readers that come late: of some hundred containers' whole lives.
pub const DEFAULT_CAPACITY: usize = 1024;

/// The ring. Clones share it; a containerizer owns one and hands out subscriptions.
#[derive(Debug, Clone)]
pub struct EventLog {
    inner: Arc<Mutex<Ring>>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<(SystemTime, What)>,
    /// Their containers. An id in an allocation of its own would keep a page of memory, among what came and went at the same
    /// time.
    containers: Kept,
    capacity: usize,
    last: u64,
    /// Settled when the next event is published, and then replaced.
    news: Settled<()>,
}

impl Default for EventLog {
    fn default() -> Self {
        EventLog::new(DEFAULT_CAPACITY)
    }
}

impl EventLog {
    /// An empty ring of `capacity` events, at least one.
    pub fn new(capacity: usize) -> EventLog {
        let ring = Ring {
            events: VecDeque::new(),
            containers: Kept::default(),
            capacity: capacity.max(1),
            last: 0,
            news: Settled::new(),
        };
        EventLog { inner: Arc::new(Mutex::new(ring)) }
    }

    /// Tells everyone, and returns the event's number. Never blocks on a reader.
    pub fn publish(&self, container: &ContainerId, what: What) -> u64 {
        let (sequence, news) = {
            let mut ring = lock(&self.inner);
            ring.last += 1;
            let sequence = ring.last;
            if ring.events.len() == ring.capacity {
                ring.events.pop_front();
                ring.containers.pop();
            }
            ring.events.push_back((SystemTime::now(), what));
            ring.containers.push(container.to_string().as_bytes());
            (sequence, std::mem::take(&mut ring.news))
        };
        news.settle(());
        sequence
    }

    /// Follows the log from the first event whose number is greater than `since` (0: from the oldest kept).
    pub fn since(&self, since: u64) -> Subscription {
        Subscription { inner: Arc::clone(&self.inner), seen: since }
    }

    /// Follows the log from the next event on.
    pub fn from_now(&self) -> Subscription {
        self.since(lock(&self.inner).last)
    }
}

/// One reader's place in the log.
#[derive(Debug)]
pub struct Subscription {
    inner: Arc<Mutex<Ring>>,
    seen: u64,
}

impl Subscription {
    /// What has not been read yet, without waiting.
    pub fn try_next(&mut self) -> Option<Next> {
        let inner = Arc::clone(&self.inner);
        let ring = lock(&inner);
        self.take(&ring)
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Next {
        loop {
            let news = {
                let inner = Arc::clone(&self.inner);
                let ring = lock(&inner);
                if let Some(next) = self.take(&ring) {
                    return next;
                }
                ring.news.wait()
            };
            news.await;
        }
    }

    fn take(&mut self, ring: &Ring) -> Option<Next> {
        if ring.events.is_empty() {
            return None;
        }
        let oldest = ring.last + 1 - ring.events.len() as u64;
        if self.seen >= ring.last {
            return None;
        }
        if self.seen + 1 < oldest {
            // Number 0 means "whatever is kept"; nobody missed what was gone before they asked.
            let missed = if self.seen == 0 { 0 } else { oldest - 1 - self.seen };
            self.seen = oldest - 1;
            if missed > 0 {
                return Some(Next::Missed(missed));
            }
        }
        let index = usize::try_from(self.seen + 1 - oldest).ok()?;
        let (time, what) = ring.events.get(index)?;
        let container = String::from_utf8(ring.containers.get(index)?).expect("the text of an id");
        let container = container.parse().expect("the text of an id is one");
        self.seen += 1;
        Some(Next::Event(Event { sequence: self.seen, time: *time, container, what: what.clone() }))
    }
}

/// Nothing that holds this lock can panic half-way through a change, so a poisoned one is as good as any.
fn lock(inner: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    fn id() -> ContainerId {
        ContainerId::new("a").unwrap()
    }

    fn number(next: Option<Next>) -> Option<u64> {
        match next {
            Some(Next::Event(event)) => Some(event.sequence),
            _ => None,
        }
    }

    #[test]
    fn readers_go_at_their_own_pace() {
        let log = EventLog::new(8);
        let mut early = log.since(0);
        log.publish(&id(), What::Created(Phase::Preparing));
        assert_eq!(number(early.try_next()), Some(1));
        assert_eq!(early.try_next(), None);
        let mut now = log.from_now();
        log.publish(&id(), What::Removed);
        assert_eq!(number(now.try_next()), Some(2));
        assert_eq!(number(early.try_next()), Some(2));
        assert_eq!(number(log.since(1).try_next()), Some(2));
    }

    #[test]
    fn a_slow_reader_is_told_how_much_it_missed_and_goes_on() {
        let log = EventLog::new(2);
        let mut slow = log.since(0);
        log.publish(&id(), What::Removed);
        assert_eq!(number(slow.try_next()), Some(1));
        for _ in 0..5 {
            log.publish(&id(), What::Removed);
        }
        assert_eq!(slow.try_next(), Some(Next::Missed(3)));
        assert_eq!(number(slow.try_next()), Some(5));
        assert_eq!(number(slow.try_next()), Some(6));
        assert_eq!(slow.try_next(), None);
    }

    #[test]
    fn a_number_from_the_future_waits_instead_of_failing() {
        let log = EventLog::new(2);
        log.publish(&id(), What::Removed);
        assert_eq!(log.since(u64::MAX).try_next(), None);
    }

    #[test]
    fn a_native_state_keeps_its_name_as_a_phase() {
        for number in 0..=6 {
            let state = NativeState::from_number(number).unwrap();
            assert_eq!(Phase::from(state).to_string(), state.to_string());
        }
    }

    #[test]
    fn a_reader_that_waits_is_woken() {
        let log = EventLog::default();
        let mut reader = log.from_now();
        let writer = log.clone();
        let thread = std::thread::spawn(move || writer.publish(&id(), What::Created(Phase::Fetching)));
        let next = block_on(reader.next());
        assert!(matches!(next, Next::Event(Event { sequence: 1, .. })));
        thread.join().unwrap();
    }
}
