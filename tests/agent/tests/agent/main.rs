// SPDX-License-Identifier: Apache-2.0
//! `berth agent` as a process, and what it owes to those who rely on it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod command_line;
mod flight;
mod limits;
mod neighbours;
mod outlive;
mod pods;
mod sessions;
mod several;
mod stuck;
mod sweep;
mod terminals;

use berth_test_agent::{Ground, skip};

/// A ground with an agent; none, and that is told, where there can be none.
fn ground_of(test: &str) -> Option<Ground> {
    // Names are short: a supervisor's title holds that of its container.
    let name: String = test.split('_').filter_map(|word| word.chars().next()).take(8).collect();
    match Ground::with_agent(&format!("agent-{name}")) {
        Ok(ground) => Some(ground),
        Err(lacked) => {
            skip(test, &lacked);
            None
        }
    }
}

/// The name of the test that calls, as its function has it, made into a ground.
macro_rules! ground {
    ($test:ident) => {
        match $crate::ground_of(stringify!($test)) {
            Some(ground) => ground,
            None => return,
        }
    };
}
pub(crate) use ground;
