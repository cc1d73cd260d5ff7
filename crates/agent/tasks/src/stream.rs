// SPDX-License-Identifier: Apache-2.0
//! The reports of one task on their way to its scheduler: one at a time, each until it is acknowledged, each once.
//!
//! ```text
//! update ──> [ head, next, next … ] ──head──> master ──> scheduler
//!               ^                                            │
//!               └────────────── acknowledge(uuid) ───────────┘
//! ```
//!
//! Pure: what is kept on the disk, and when a report is sent again, is for those who hold it to do.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use berth_proto::v1::{TaskState, TaskStatus};

/// How long the first try waits for its acknowledgement. Each further one waits twice as long.
pub(crate) const FIRST: Duration = Duration::from_secs(10);
/// No try waits longer.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

/// Whether a task in this state goes no further.
pub fn is_terminal(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::TaskFinished
            | TaskState::TaskFailed
            | TaskState::TaskKilled
            | TaskState::TaskError
            | TaskState::TaskLost
            | TaskState::TaskDropped
            | TaskState::TaskGone
            | TaskState::TaskGoneByOperator
    )
}

/// What became of a report that was given to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is to be written down; `head` says that nothing is before it.
    New { head: bool },
    /// It was there before.
    Duplicate,
}

/// Why an acknowledgement changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It was acknowledged before.
    #[error("Duplicate task status acknowledgement")]
    Duplicate,
    /// It is not the one that was sent.
    #[error("Unexpected task status acknowledgement: another report waits for its own")]
    Unexpected,
}

/// The reports of one task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    pending: VecDeque<TaskStatus>,
    received: BTreeSet<Vec<u8>>,
    acknowledged: BTreeSet<Vec<u8>>,
    latest: Option<TaskStatus>,
    closed: bool,
    /// Counts the tries, so that a timer of an earlier one is known.
    tries: u64,
}

impl Stream {
    /// Takes a report with a uuid.
    pub(crate) fn update(&mut self, status: TaskStatus) -> Taken {
        let uuid = status.uuid.clone().unwrap_or_default();
        if !self.received.insert(uuid) {
            return Taken::Duplicate;
        }
        self.latest = Some(status.clone());
        self.pending.push_back(status);
        Taken::New { head: self.pending.len() == 1 }
    }

    /// Whether the acknowledgement of this report would be of the one that was sent.
    pub(crate) fn expects(&self, uuid: &[u8]) -> Result<(), Refused> {
        if self.acknowledged.contains(uuid) {
            return Err(Refused::Duplicate);
        }
        let head = self.pending.front().and_then(|head| head.uuid.as_deref());
        if head == Some(uuid) && !self.closed { Ok(()) } else { Err(Refused::Unexpected) }
    }

    /// The scheduler has seen the first one; whether that was the last there is to say.
    pub(crate) fn acknowledge(&mut self, uuid: &[u8]) -> Result<bool, Refused> {
        self.expects(uuid)?;
        let Some(seen) = self.pending.pop_front() else { return Err(Refused::Unexpected) };
        self.acknowledged.insert(uuid.to_vec());
        self.tries += 1;
        if is_terminal(seen.state()) {
            // What would come after the end is not told.
            self.closed = true;
            self.pending.clear();
        }
        Ok(self.closed)
    }

    /// The report that is to be sent, and how many tries it counts with this one.
    pub(crate) fn head(&self) -> Option<&TaskStatus> {
        self.pending.front()
    }

    /// Another try begins; its number.
    pub(crate) fn begin(&mut self) -> u64 {
        self.tries += 1;
        self.tries
    }

    /// Whether this try is the one that counts.
    pub(crate) fn is_at(&self, attempt: u64) -> bool {
        self.tries == attempt && !self.pending.is_empty()
    }

    /// The last report that was taken.
    pub(crate) fn latest(&self) -> Option<&TaskStatus> {
        self.latest.as_ref()
    }

    /// Nobody is told any more.
    pub(crate) fn forget(&mut self) {
        self.closed = true;
        self.tries += 1;
        self.pending.clear();
    }
}

/// How long the try after one that waited so long waits.
pub(crate) fn next_wait(wait: Duration) -> Duration {
    (wait * 2).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::v1::TaskId;
    use proptest::prelude::*;

    fn status(uuid: u8, state: TaskState) -> TaskStatus {
        let task_id = TaskId { value: "t".to_owned() };
        TaskStatus { task_id, state: state.into(), uuid: Some(vec![uuid; 16]), ..TaskStatus::default() }
    }

    #[test]
    fn one_report_is_under_way_at_a_time_and_the_next_follows_its_acknowledgement() {
        let mut stream = Stream::default();
        assert_eq!(stream.update(status(1, TaskState::TaskStarting)), Taken::New { head: true });
        assert_eq!(stream.update(status(2, TaskState::TaskRunning)), Taken::New { head: false });
        assert_eq!(stream.update(status(1, TaskState::TaskStarting)), Taken::Duplicate);
        assert_eq!(stream.acknowledge(&[2; 16]), Err(Refused::Unexpected));
        assert_eq!(stream.acknowledge(&[1; 16]), Ok(false));
        assert_eq!(stream.head().unwrap().state(), TaskState::TaskRunning);
        assert_eq!(stream.acknowledge(&[1; 16]), Err(Refused::Duplicate));
        assert_eq!(
            stream.update(status(1, TaskState::TaskStarting)),
            Taken::Duplicate,
            "also when it was seen"
        );
        assert_eq!(Refused::Duplicate.to_string(), "Duplicate task status acknowledgement");
    }

    #[test]
    fn nothing_is_told_after_the_end_was_seen() {
        let mut stream = Stream::default();
        stream.update(status(1, TaskState::TaskFailed));
        stream.update(status(2, TaskState::TaskRunning));
        assert_eq!(stream.acknowledge(&[1; 16]), Ok(true));
        assert!(stream.closed && stream.head().is_none());
        assert_eq!(stream.acknowledge(&[2; 16]), Err(Refused::Unexpected));
    }

    #[test]
    fn a_try_is_repeated_after_ten_seconds_then_twice_as_long_up_to_ten_minutes() {
        let waits: Vec<u64> = std::iter::successors(Some(FIRST), |wait| Some(next_wait(*wait)))
            .map(|w| w.as_secs())
            .take(9)
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        let mut stream = Stream::default();
        stream.update(status(1, TaskState::TaskRunning));
        let first = stream.begin();
        assert!(stream.is_at(first));
        let second = stream.begin();
        assert!(!stream.is_at(first) && stream.is_at(second), "the timer of an earlier try does nothing");
        stream.acknowledge(&[1; 16]).unwrap();
        assert!(!stream.is_at(second));
    }

    proptest! {
        /// Whatever comes in which order, each report is told once, in order, and nothing after the end.
        #[test]
        fn every_report_is_seen_once_and_in_order(steps in prop::collection::vec((0u8..12, any::<bool>()), 0..60)) {
            let (mut stream, mut given, mut seen) = (Stream::default(), Vec::new(), Vec::new());
            for (uuid, acknowledge) in steps {
                if acknowledge {
                    let head = stream.head().and_then(|head| head.uuid.clone());
                    if stream.acknowledge(&[uuid; 16]).is_ok() {
                        prop_assert_eq!(head, Some(vec![uuid; 16]));
                        seen.push(uuid);
                    }
                } else {
                    let state = if uuid == 11 { TaskState::TaskFinished } else { TaskState::TaskRunning };
                    if stream.update(status(uuid, state)) != Taken::Duplicate {
                        given.push(uuid);
                    }
                }
            }
            prop_assert_eq!(&given[..seen.len()], &seen[..]);
            prop_assert!(!seen[..seen.len().saturating_sub(1)].contains(&11));
        }
    }
}
