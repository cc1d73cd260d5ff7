// SPDX-License-Identifier: Apache-2.0
//! The API of `berth agent`, as others speak it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod adversity;
mod conversations;
mod foreign;
mod older;
mod refusals;
mod replay;
mod replay_task;

use std::path::{Path, PathBuf};

use berth_test_agent::{Ground, skip};

/// A ground whose agent serves on a port of the loopback too; none, and that is told, where there can be none.
fn ground_of(test: &str) -> Option<Ground> {
    let name: String = test.split('_').filter_map(|word| word.chars().next()).take(8).collect();
    match Ground::new(&format!("api-{name}")) {
        Ok(mut ground) => {
            let mut agent = ground.agent();
            ground.start_as(agent.args(["--ip=127.0.0.1", "--port=0", "--no-authenticate_http_readwrite"]));
            Some(ground)
        }
        Err(lacked) => {
            skip(test, &lacked);
            None
        }
    }
}

/// What the agent tells at a path.
fn told(ground: &Ground, path: &str) -> serde_json::Value {
    let request = berth_test_api::Request::new("GET", path);
    let (status, text) = berth_test_api::Client::ask(&ground.socket(), &request).unwrap().says();
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Ends all containers and the agent, and looks whether anything stays of them. The store of images stays, once there is
/// one.
fn leave(ground: &mut Ground) {
    let left = ground.leave().err().unwrap_or_default();
    let left: Vec<_> = left.lines().filter(|line| !line.contains("/work/store")).collect();
    assert!(left.is_empty(), "{}", left.join("\n"));
}

/// The same where tasks ran: what is kept of frameworks and tasks stays until it is collected.
fn leave_tasks(ground: &mut Ground) {
    // A plain agent does the rest: it needs no address that somebody else may have by now.
    ground.stop();
    ground.start();
    let api = ground.api();
    let all = api.all().unwrap();
    all.iter().filter(|name| !name.contains('.')).for_each(|name| api.destroy(name).unwrap());
    ground.stop();
    let work = ground.work_dir();
    let agents = |below: &str| entries(&work.join(below)).into_iter();
    let kept = agents("slaves").flat_map(|agent| entries(&agent));
    let kept = kept.chain(agents("meta/slaves").flat_map(|agent| entries(&agent.join("frameworks"))));
    for path in kept.chain([work.join("meta/master")]) {
        // Some are the same by two names; what stays is told below.
        let _ = std::fs::remove_dir_all(path);
    }
    leave(ground);
}

/// What is in a directory; nothing, if there is none.
fn entries(path: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
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
