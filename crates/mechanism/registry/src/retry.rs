// SPDX-License-Identifier: Apache-2.0
//! Trying again, later each time, and not at the moment when everybody else does.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::connect::Op;
use crate::error::RegistryError;

/// How often, and how far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// The most tries of one request; of a blob, without progress between them.
    pub tries: u32,
    /// Before the second; each further wait is twice as long.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Default for Retries {
    fn default() -> Retries {
        Retries { tries: 5, first: Duration::from_millis(250), longest: Duration::from_secs(20) }
    }
}

impl Retries {
    /// How long to wait after so many failures: half of it for sure, half of it by chance; longer when the registry
    /// says so.
    pub(crate) fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let most = doubled.min(self.longest);
        // A hasher's keys are the standard library's own randomness.
        let chance = RandomState::new().hash_one(failures) % 1000;
        let jittered = most / 2 + (most / 2).mul_f64(chance as f64 / 1000.0);
        asked.unwrap_or_default().max(jittered)
    }

    /// Does it until it succeeds, fails for good, or has been tried `tries` times.
    pub(crate) fn run<T>(
        &self,
        tries: u32,
        op: Op<'_>,
        mut act: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut failures = 0;
        loop {
            match act() {
                Err(error) if error.is_transient() && failures + 1 < tries => {
                    failures += 1;
                    if op.cancel.wait(self.pause(failures, error.retry_after())) {
                        return Err(op.cancelled());
                    }
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_vary_and_have_a_bound() {
        let retries = Retries::default();
        for failures in 1..200 {
            let pause = retries.pause(failures, None);
            let most = retries.first.saturating_mul(1 << (failures - 1).min(16)).min(retries.longest);
            assert!(pause >= most / 2 && pause <= most, "{failures}: {pause:?}");
        }
        let distinct: std::collections::HashSet<_> = (0..20).map(|_| retries.pause(6, None)).collect();
        assert!(distinct.len() > 5);
        assert_eq!(retries.pause(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
    }
}
