// SPDX-License-Identifier: Apache-2.0
//! `berth agent --local_master`, as schedulers see it: what a real master was asked asked again, `berth execute`, and
//! clients that other people wrote.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod conversation;
mod conversations;
mod execute;
mod foreign;
mod offers;
mod replay;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use berth_test_agent::{Ground, skip};

/// An agent with a master of its own.
struct Node {
    ground: Ground,
    /// Where the master is.
    master: String,
    /// Where the agent is.
    port: u16,
    /// What its agent is started with beside.
    flags: Vec<String>,
}

impl Node {
    /// None, and that is told, where there can be none.
    fn new(test: &str) -> Option<Node> {
        Node::with(test, &["--allocation_interval=200ms"])
    }

    /// The same with these flags.
    fn with(test: &str, flags: &[&str]) -> Option<Node> {
        let name: String = test.split('_').filter_map(|word| word.chars().next()).take(8).collect();
        let ground = match Ground::new(&format!("sched-{name}")) {
            Ok(ground) => ground,
            Err(lacked) => {
                skip(test, &lacked);
                return None;
            }
        };
        let flags = flags.iter().copied().map(str::to_owned).collect();
        let mut node =
            Node { ground, master: format!("127.0.0.1:{}", free_port()), port: free_port(), flags };
        node.start();
        Some(node)
    }

    /// Starts the agent (again).
    fn start(&mut self) {
        let mut command = self.ground.agent();
        command.arg(format!("--local_master={}", self.master)).arg(format!("--port={}", self.port));
        command.arg("--no-authenticate_http_readwrite").args(&self.flags);
        command.arg("--resources=cpus:64;mem:65536;disk:10240;ports:[31000-32000]");
        self.ground.start_as(&mut command);
        let (master, what) = (self.master.clone(), "the master listens");
        berth_testing::until(what, || std::net::TcpStream::connect(&master).is_ok());
    }

    /// All is over, and nothing is left but what is kept of frameworks and tasks until it is collected.
    fn leave(mut self) {
        // A plain agent does the rest: it needs no address that somebody else may have by now.
        self.ground.stop();
        self.ground.start();
        let api = self.ground.api();
        let all = api.all().unwrap();
        all.iter().filter(|name| !name.contains('.')).for_each(|name| api.destroy(name).unwrap());
        self.ground.stop();
        let work = self.ground.work_dir();
        let agents = |below: &str| entries(&work.join(below)).into_iter();
        let kept = agents("slaves").flat_map(|agent| entries(&agent));
        let kept = kept.chain(agents("meta/slaves").flat_map(|agent| entries(&agent.join("frameworks"))));
        for path in kept.chain([work.join("meta/master")]) {
            // Some are the same by two names; what stays is told below.
            let _ = std::fs::remove_dir_all(path);
        }
        let left = self.ground.leave();
        assert!(left.is_ok(), "left behind:\n{}", left.unwrap_err());
    }
}

/// What is in a directory; nothing, if there is none.
fn entries(path: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// A port that nobody had a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
