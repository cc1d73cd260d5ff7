// SPDX-License-Identifier: Apache-2.0
//! Moments: what deadlines are counted in, and what clients are told.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For deadlines.
    pub(crate) at: Instant,
    /// Seconds since 1970, for clients.
    pub(crate) wall: f64,
}

impl Now {
    pub(crate) fn get() -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { at: Instant::now(), wall: wall.as_secs_f64() }
    }
}
