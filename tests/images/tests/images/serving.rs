// SPDX-License-Identifier: Apache-2.0
//! An agent for tests of images.

use berth_test_images::Ground;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// An agent that runs. Dropped, it is killed.
pub(crate) struct Agent<'g> {
    ground: &'g Ground,
    work: PathBuf,
    child: Child,
    gone: bool,
}

impl<'g> Agent<'g> {
    pub(crate) fn start(ground: &'g Ground) -> Agent<'g> {
        Agent::with(ground, ground.work_dir(), &[])
    }

    /// One in another work directory, with these flags too.
    pub(crate) fn with(ground: &'g Ground, work: PathBuf, flags: &[&str]) -> Agent<'g> {
        let mut command = std::process::Command::new(berth_test_images::berth().unwrap());
        command.arg("agent");
        command.arg(format!("--runtime_dir={}", ground.runtime_dir().display()));
        command.arg(format!("--work_dir={}", work.display())).args(flags);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let agent = Agent { ground, work, child, gone: false };
        wait_for("the agent serves", || agent.berth(&["resources"]).code == Some(0));
        agent
    }

    /// `berth` in its directories.
    pub(crate) fn berth(&self, args: &[&str]) -> berth_test_images::Done {
        self.ground.done(self.ground.command_in(&self.work).arg("--socket").arg(self.socket()).args(args))
    }

    /// A call of the API, as JSON; the body of the answer.
    pub(crate) fn call(&self, call: &serde_json::Value) -> String {
        let body = call.to_string();
        let mut socket = UnixStream::connect(self.socket()).unwrap();
        let head =
            "POST /api/v1 HTTP/1.1\r\nHost: berth\r\nConnection: close\r\nAccept: application/json\r\n";
        let length = body.len();
        write!(socket, "{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn socket(&self) -> String {
        self.ground.runtime_dir().join("berth.sock").display().to_string()
    }

    /// Kills it, and leaves its containers.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.gone = true;
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        for name in self.berth(&["ps", "-aq", "--no-trunc"]).stdout.lines() {
            let _ = self.berth(&["rm", "-f", name]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub(crate) fn wait_for(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fact() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}
