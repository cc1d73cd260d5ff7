// SPDX-License-Identifier: Apache-2.0
//! Files of containers: what is fetched, copied, kept and removed, seen through the command line.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod bring;
mod cached;
mod cheats;
mod ends;
mod flips;
mod hooked;
mod server;

use berth_model::{CommandInfo, Uri};
use berth_test_agent::{Ground, skip};

/// A ground with an agent; none, and that is told, where there can be none.
fn ground_of(test: &str) -> Option<Ground> {
    let name: String = test.split('_').filter_map(|word| word.chars().next()).take(8).collect();
    match Ground::with_agent(&format!("fetch-{name}")) {
        Ok(ground) => Some(ground),
        Err(lacked) => {
            skip(test, &lacked);
            None
        }
    }
}

/// The same, for tests whose names are long.
fn run_ground(test: &str) -> Option<Ground> {
    ground_of(test)
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

/// `berth run --socket … --uri … -- sh -c script`.
fn run(ground: &Ground, last: &str, options: &[&str], script: &str) -> berth_test_agent::Exit {
    let (name, socket) = (ground.name(last), ground.socket().display().to_string());
    let mut words = vec!["run", "--socket", &socket, "--rm", "--name", &name];
    words.extend(options);
    words.extend(["--", "sh", "-c", script]);
    ground.berth(&words)
}

/// The same without an agent.
fn run_alone(ground: &Ground, last: &str, options: &[&str], script: &str) -> berth_test_agent::Exit {
    let name = ground.name(last);
    let mut words = vec!["run", "--rm", "--name", &name];
    words.extend(options);
    words.extend(["--", "sh", "-c", script]);
    ground.berth(&words)
}

/// As [`Ground::leave`]. What the cache holds goes with the start of another agent, and the first `berth run` without an
/// agent makes a lock that stays.
#[track_caller]
fn leave(mut ground: Ground) {
    ground.stop();
    ground.start();
    let _ = std::fs::remove_file(ground.runtime_dir().join("oneshot/.door"));
    ground.leave().unwrap_or_else(|left| panic!("{left}"));
}

/// A command with URIs, as the API has it.
fn command(script: &str, uris: Vec<Uri>) -> CommandInfo {
    CommandInfo { value: Some(script.to_owned()), uris, ..CommandInfo::default() }
}

fn cached(value: String) -> Uri {
    Uri { value, extract: true, cache: Some(true), ..Uri::default() }
}
