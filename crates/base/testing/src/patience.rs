// SPDX-License-Identifier: Apache-2.0
//! How long a test waits for a fact.

use std::time::{Duration, Instant};

/// How long anything may take that is only a matter of moments, on an emulated machine and a busy one, too.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// When patience ends.
pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits for a fact.
///
/// # Panics
/// When it does not come to be.
#[track_caller]
pub fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let limit = soon();
    while !fact() {
        assert!(Instant::now() < limit, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
