// SPDX-License-Identifier: Apache-2.0
//! The time that deadlines are kept in: since the machine's start, so that one written down means the same to the next
//! agent.

use std::time::Duration;

use berth_sys::rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep_until};

/// The longest that anything is waited for; longer is for ever. tokio's instants have an end.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A clock that counts from the machine's start. Copies of it agree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
    began_at: Duration,
}

impl Clock {
    /// The machine's (`CLOCK_BOOTTIME`). From here on it goes as tokio's does.
    pub(crate) fn new() -> Clock {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
        Clock { began: Instant::now(), began_at: Duration::new(seconds, nanoseconds) }
    }

    pub(crate) fn now(&self) -> Duration {
        self.began_at + self.began.elapsed()
    }

    /// Returns at that time; never without one.
    pub(crate) async fn reach(&self, time: Option<Duration>) {
        match time.map(|time| time.saturating_sub(self.began_at)) {
            Some(after) if after < FOR_EVER => sleep_until(self.began + after).await,
            _ => std::future::pending().await,
        }
    }
}

/// A length of time of a message; a negative one is none at all.
pub(crate) fn duration(info: &berth_proto::v1::DurationInfo) -> Duration {
    Duration::from_nanos(u64::try_from(info.nanoseconds).unwrap_or(0))
}

/// A length of time in seconds; what is no number, or negative, is none at all.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(if value > 0.0 { Duration::MAX } else { Duration::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_reached_in_its_time_by_each_copy() {
        let clock = Clock::new();
        let copy = clock;
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), copy.now());
        let deadline = clock.now() + Duration::from_secs(60);
        copy.reach(Some(deadline)).await;
        assert!(clock.now() >= deadline);
        copy.reach(Some(Duration::ZERO)).await;
    }

    #[test]
    fn numbers_that_are_no_time_are_none() {
        assert_eq!(seconds(1.5), Duration::from_millis(1500));
        assert_eq!(seconds(-1.0), Duration::ZERO);
        assert_eq!(seconds(f64::NAN), Duration::ZERO);
        assert_eq!(seconds(f64::INFINITY), Duration::MAX);
        assert_eq!(duration(&berth_proto::v1::DurationInfo { nanoseconds: -3 }), Duration::ZERO);
    }
}
