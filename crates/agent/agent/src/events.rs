// SPDX-License-Identifier: Apache-2.0
//! What happens to containers, as subscribers hear it: a ring of bounded size that each reads at its own pace. One
//! that is too slow, or asks for what is no longer kept, is told that it missed something and goes on; nobody waits
//! for it.
//!
//! Numbers begin at the time at which the agent started, in microseconds: they go up from one agent to the next, so a
//! subscriber that comes back after a restart is not mistaken for one that knows everything.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_api::{Stream, stream_of};
use berth_contract::{Advance, Kept, Phase};
use berth_model::{ContainerId, ContainerLimitation, ContainerTermination, Reason};
use berth_proto::convert::{container_id_of, termination_of};
use berth_proto::own::{self, event};
use berth_proto::{decode_protobuf, encode_protobuf};
use tokio::sync::{mpsc, watch};

use crate::host::{duration, moment};
use crate::table::{Ended, Now, lock};
use crate::tasks::Tasks;

/// How many events are kept for subscribers that come late or are slow.
const KEPT: usize = 2048;

/// The ring.
#[derive(Debug)]
pub(crate) struct Events {
    ring: Mutex<Ring>,
    news: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    /// As they travel: a message in memory is many times as large.
    events: Kept,
    /// The number of the latest event.
    last: u64,
    kept: usize,
}

/// What a subscriber reads.
#[derive(Debug)]
enum Next {
    Event(Box<own::Event>),
    /// So many are gone; unknown how many if they were an earlier agent's.
    Missed(Option<u64>),
}

impl Events {
    pub(crate) fn new() -> Events {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Events::from_number(u64::try_from(micros).unwrap_or(0), KEPT)
    }

    fn from_number(last: u64, kept: usize) -> Events {
        Events {
            ring: Mutex::new(Ring { events: Kept::default(), last, kept }),
            news: watch::channel(last).0,
        }
    }

    /// Tells everyone.
    pub(crate) fn publish(&self, mut event: own::Event) {
        let last = {
            let mut ring = lock(&self.ring);
            ring.last += 1;
            event.sequence = Some(ring.last);
            event.time = Some(moment(SystemTime::now()));
            if ring.events.len() == ring.kept {
                ring.events.pop();
            }
            ring.events.push(&encode_protobuf(&event));
            ring.last
        };
        self.news.send_replace(last);
    }

    /// Changes with each event, to its number.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The number of the latest event.
    fn last(&self) -> u64 {
        lock(&self.ring).last
    }

    /// The next event after this number, if it has happened.
    fn after(&self, seen: &mut u64) -> Option<Next> {
        let ring = lock(&self.ring);
        if *seen >= ring.last {
            return None;
        }
        let oldest = ring.last + 1 - ring.events.len() as u64;
        if *seen + 1 < oldest {
            // What was before the first number of this agent has numbers of another.
            let missed = oldest - 1 - *seen;
            *seen = oldest - 1;
            return Some(Next::Missed((missed < 1 << 32).then_some(missed)));
        }
        let event = ring.events.get(usize::try_from(*seen + 1 - oldest).ok()?)?;
        *seen += 1;
        Some(Next::Event(Box::new(decode_protobuf(&event).expect("what was encoded here can be decoded"))))
    }
}

/// The stream of a subscriber; it begins with SUBSCRIBED.
pub(crate) fn subscribe(
    events: &Arc<Events>,
    tasks: &Tasks,
    since: Option<u64>,
    heartbeat: Duration,
) -> Stream<own::Event> {
    let (sender, receiver) = mpsc::channel(1);
    let events = Arc::clone(events);
    // Now, and not when the task comes to it: who is answered misses nothing from then on.
    let last = events.last();
    tasks.spawn(async move {
        let mut news = events.news();
        let mut seen = since.unwrap_or(last);
        let subscribed =
            event::Subscribed { sequence: Some(last), heartbeat_interval: Some(duration(heartbeat)) };
        let first = own::Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(subscribed),
            ..own::Event::default()
        };
        if sender.send(Ok(first)).await.is_err() {
            return;
        }
        loop {
            news.mark_unchanged();
            while let Some(next) = events.after(&mut seen) {
                let event = match next {
                    Next::Event(event) => *event,
                    Next::Missed(missed) => own::Event {
                        r#type: Some(event::Type::Missed.into()),
                        sequence: Some(seen),
                        missed,
                        ..own::Event::default()
                    },
                };
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = sender.closed() => return,
                changed = news.changed() => if changed.is_err() { return },
            }
        }
    });
    stream_of(receiver)
}

/// An event of one container.
pub(crate) fn of(kind: event::Type, id: &ContainerId) -> own::Event {
    own::Event { r#type: Some(kind.into()), container_id: Some(container_id_of(id)), ..own::Event::default() }
}

/// A container came into a state.
pub(crate) fn state(id: &ContainerId, from: Option<Phase>, now: &Now) -> own::Event {
    let kind = match (from, now.phase) {
        (_, Phase::Paused) => event::Type::Paused,
        (Some(Phase::Paused), Phase::Running) => event::Type::Resumed,
        _ => event::Type::State,
    };
    own::Event { state: Some(state_of(now)), ..of(kind, id) }
}

/// The state that a container is in, as messages have it.
pub(crate) fn state_of(now: &Now) -> own::inspection::State {
    own::inspection::State {
        name: now.phase.to_string(),
        since: Some(moment(now.since_time)),
        age: Some(duration(now.since.elapsed())),
        waiting_for: crate::operations::waiting_for(now.phase),
        paused: (now.phase == Phase::Paused).then_some(true),
    }
}

/// How a container ended, as messages have it.
pub(crate) fn termination(ended: &Ended) -> own::inspection::Termination {
    let wait = termination_of(&ended.termination);
    own::inspection::Termination {
        exit_status: wait.exit_status,
        state: wait.state,
        reason: wait.reason,
        limitation: wait.limitation,
        message: wait.message,
        ended: ended.at.map(moment),
    }
}

/// Something that is brought for a container is so far.
pub(crate) fn advanced(id: &ContainerId, advance: Advance) -> own::Event {
    let number = |number| u32::try_from(number).ok();
    let advance = event::Advance {
        index: number(advance.index),
        count: number(advance.of),
        bytes: Some(advance.bytes),
        total_bytes: advance.total,
        unpacking: Some(advance.unpacking),
        what: Some(advance.what),
    };
    own::Event { advance: Some(advance), ..of(event::Type::Advanced, id) }
}

/// The limit that ended a container, if one did.
pub(crate) fn limitation(id: &ContainerId, termination: &ContainerTermination) -> Option<own::Event> {
    let limited = matches!(
        termination.reason,
        Some(
            Reason::ContainerLimitation | Reason::ContainerLimitationMemory | Reason::ContainerLimitationDisk
        )
    );
    limited.then(|| own::Event {
        limitation: termination_of(termination).limitation,
        message: termination.message.clone(),
        ..of(event::Type::Limitation, id)
    })
}

/// A limit that a container met.
pub(crate) fn limited(id: &ContainerId, limit: &ContainerLimitation) -> own::Event {
    let resources = limit.resources.clone();
    let termination = ContainerTermination {
        reason: limit.reason,
        message: limit.message.clone(),
        limited_resources: resources,
        ..ContainerTermination::default()
    };
    own::Event {
        limitation: termination_of(&termination).limitation,
        message: limit.message.clone(),
        ..of(event::Type::Limitation, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(events: &Events) {
        events.publish(own::Event::default());
    }

    fn number(next: Option<Next>) -> Option<u64> {
        match next {
            Some(Next::Event(event)) => event.sequence,
            _ => None,
        }
    }

    #[test]
    fn a_slow_subscriber_is_told_how_much_it_missed_and_goes_on() {
        let events = Events::from_number(100, 2);
        let mut seen = 100;
        assert!(events.after(&mut seen).is_none());
        for _ in 0..5 {
            happened(&events);
        }
        assert!(matches!(events.after(&mut seen), Some(Next::Missed(Some(3)))));
        assert_eq!(number(events.after(&mut seen)), Some(104));
        assert_eq!(number(events.after(&mut seen)), Some(105));
        assert!(events.after(&mut seen).is_none());
    }

    #[test]
    fn a_number_of_an_earlier_agent_is_told_that_something_is_missed_and_one_of_the_future_waits() {
        let events = Events::new();
        happened(&events);
        let mut seen = 3;
        assert!(matches!(events.after(&mut seen), Some(Next::Missed(None))));
        assert!(matches!(events.after(&mut seen), Some(Next::Event(_))));
        assert!(events.after(&mut seen).is_none());
        let mut future = u64::MAX;
        assert!(events.after(&mut future).is_none());
    }
}
