// SPDX-License-Identifier: Apache-2.0
//! `berth agent` over a Docker engine of its own: what it owes to containers there when it is killed, and to those who type.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod alike;
#[path = "../../../../crates/containerizers/docker/tests/ground/daemon.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod daemon;
mod killed;
mod scheduler;
mod tasks;

use berth_test_agent::{Ground, skip};
use daemon::{Daemon, How};

/// A ground with an agent over an engine; none, and that is told, where there can be none.
fn ground_of(test: &str) -> Option<(Ground, Daemon)> {
    if let Some(lacked) = daemon::lacked() {
        skip(test, &lacked);
        return None;
    }
    let name: String = test.split('_').filter_map(|word| word.chars().next()).take(8).collect();
    match Ground::new(&format!("docker-{name}")) {
        Ok(mut ground) => {
            let engine = Daemon::start(How { bridge: true, ..How::default() });
            start(&mut ground, &engine);
            Some((ground, engine))
        }
        Err(lacked) => {
            skip(test, &lacked);
            None
        }
    }
}

/// Starts the agent (again): the engine's containers first, then its own.
fn start(ground: &mut Ground, engine: &Daemon) {
    start_with(ground, engine, &[]);
}

/// The same with further flags.
fn start_with(ground: &mut Ground, engine: &Daemon, flags: &[String]) {
    let mut command = ground.agent();
    command.args(flags);
    if !flags.iter().any(|flag| flag.starts_with("--containerizers=")) {
        command.arg("--containerizers=docker,mesos");
    }
    command.arg(format!("--docker_socket={}", engine.socket().display()));
    // What is fetched is fetched from here.
    command.args(["--docker_stop_timeout=2secs", "--fetcher_allow=127.0.0.0/8"]);
    ground.start_as(&mut command);
}

/// Ends everything, and finds host and engine as they were.
fn leave(mut ground: Ground, engine: &Daemon, before: &[String]) {
    berth_test_agent::until("nothing is left at the engine", || engine.ledger() == before);
    ground.stop();
    // Places that this containerizer makes once; they are removed only if nothing is in them.
    std::fs::remove_dir(ground.runtime_dir().join("docker")).unwrap();
    let _ = std::fs::remove_dir_all(ground.work_dir().join("fetch-docker"));
    ground.leave().unwrap();
}
