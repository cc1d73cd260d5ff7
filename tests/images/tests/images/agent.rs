// SPDX-License-Identifier: Apache-2.0
//! Images in containers of the agent.

use berth_test_images::{Ground, Layer, Layout, ground};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// An agent that runs. Dropped, it is killed.
struct Agent<'g> {
    ground: &'g Ground,
    child: Child,
    gone: bool,
}

impl<'g> Agent<'g> {
    fn start(ground: &'g Ground) -> Agent<'g> {
        let mut command = std::process::Command::new(berth_test_images::berth().unwrap());
        command.arg("agent");
        command.arg(format!("--runtime_dir={}", ground.runtime_dir().display()));
        command.arg(format!("--work_dir={}", ground.work_dir().display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let agent = Agent { ground, child, gone: false };
        let socket = agent.socket();
        wait_for("the agent serves", || ground.berth(&["--socket", &socket, "resources"]).code == Some(0));
        agent
    }

    /// A call of the API, as JSON; the body of the answer.
    fn call(&self, call: &serde_json::Value) -> String {
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

    fn socket(&self) -> String {
        self.ground.runtime_dir().join("berth.sock").display().to_string()
    }

    /// Kills it, and leaves its containers.
    fn kill(mut self) {
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
        for name in self.ground.berth(&["ps", "-aq", "--no-trunc"]).stdout.lines() {
            let _ = self.ground.berth(&["rm", "-f", name]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait_for(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fact() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn leases(ground: &Ground) -> Vec<String> {
    ground.store().leases().unwrap().into_iter().map(|lease| lease.holder).collect()
}

#[test]
fn a_container_of_the_agent_holds_its_image_across_a_killed_agent() {
    let ground = ground!("busybox");
    let config = json!({"Cmd": ["sleep", "1000"], "Env": ["A=image"], "User": "bob", "WorkingDir": "/work"});
    let name = Layout::make(&ground.path("layout"), vec![Layer::busybox()], config).name();
    let agent = Agent::start(&ground);
    ground.berth(&["run", "-d", "--name", "web", &name]).good();
    // What is executed in it later begins as its own program did.
    let exec = ground.berth(&["exec", "web", "sh", "-c", "id -un; echo $A; pwd"]);
    assert_eq!(exec.good(), "bob\nimage\n/work\n");
    assert_eq!(leases(&ground), ["containers.web"]);
    let forced = ground.berth(&["image", "rm", "-f", &name]);
    assert!(!forced.good().contains("Deleted"), "{forced:#?}");
    agent.kill();
    let _agent = Agent::start(&ground);
    assert_eq!(leases(&ground), ["containers.web"]);
    ground.berth(&["image", "prune", "-a"]).good();
    let exec = ground.berth(&["exec", "web", "sh", "-c", "echo still here"]);
    assert_eq!(exec.good(), "still here\n");
    ground.berth(&["rm", "-f", "web"]).good();
    assert_eq!(leases(&ground), [""; 0]);
    ground.berth(&["image", "prune", "-a"]).good();
    assert_eq!(ground.berth(&["image", "ls", "-aq"]).good(), "");
}

#[test]
fn a_destroy_ends_a_pull_at_once() {
    let ground = ground!("busybox");
    let _agent = Agent::start(&ground);
    // A registry that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("127.0.0.1:{}/x:1", silent.local_addr().unwrap().port());
    let mut run = ground.command();
    run.args(["run", "-d", "--name", "stuck", &name]).stdout(Stdio::null()).stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    wait_for("it is seen to be pulled", || ground.berth(&["ps", "-a"]).stdout.contains("Provisioning"));
    let begun = Instant::now();
    ground.berth(&["rm", "-f", "stuck"]).good();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("destroyed during provisioning"), "{said}");
    assert_eq!(ground.berth(&["ps", "-aq"]).good(), "");
    ground.is_sound();
}

#[test]
fn what_can_not_be_pulled_is_said_and_leaves_nothing() {
    let ground = ground!("busybox");
    let _agent = Agent::start(&ground);
    let missing = format!("oci:{}:t", ground.path("nowhere").display());
    ground.berth(&["run", "-d", "--name", "gone", &missing]).refused(&["provision image", "nowhere"]);
    ground.berth(&["run", "-d", "--name", "bad", "No/Such"]).refused(&["No/Such"]);
    assert_eq!(ground.berth(&["ps", "-aq"]).good(), "");
    ground.is_sound();
}

#[test]
fn the_api_explains_pulls_and_prunes() {
    let ground = ground!("busybox");
    let name = Layout::make(&ground.path("layout"), vec![Layer::busybox()], json!({"Cmd": ["true"]})).name();
    let agent = Agent::start(&ground);
    let image = json!({"type": "OCI", "oci": {"reference": name}});
    let explain = json!({"type": "EXPLAIN_PULL", "explain_pull": {"image": image}});
    let cold = agent.call(&explain);
    assert!(cold.starts_with("HTTP/1.1 200") && cold.contains(r#""present":false"#), "{cold}");
    ground.berth(&["image", "pull", "-q", &name]).good();
    let warm = agent.call(&explain);
    assert!(warm.contains(r#""present":true"#) && !warm.contains(r#""present":false"#), "{warm}");
    let but = json!({"type": "PRUNE_IMAGES", "prune_images": {"excluded_images": [image]}});
    assert!(agent.call(&but).starts_with("HTTP/1.1 200"));
    assert_eq!(ground.berth(&["image", "ls", "-q"]).good().lines().count(), 1);
    assert!(agent.call(&json!({"type": "PRUNE_IMAGES"})).starts_with("HTTP/1.1 200"));
    assert_eq!(ground.berth(&["image", "ls", "-aq"]).good(), "");
    let appc = json!({"type": "APPC", "appc": {"name": "x"}});
    let refused = agent.call(&json!({"type": "EXPLAIN_PULL", "explain_pull": {"image": appc}}));
    assert!(refused.contains("Unsupported container image type: APPC"), "{refused}");
}
