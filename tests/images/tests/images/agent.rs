// SPDX-License-Identifier: Apache-2.0
//! Images in containers of the agent.

use crate::serving::{Agent, wait_for};
use berth_test_images::{Ground, Layer, Layout, ground};
use serde_json::json;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

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
fn whom_a_container_runs_as_does_not_hang_on_the_list_of_isolators() {
    let ground = ground!("busybox");
    let config = json!({"Cmd": ["sh", "-c", "id -un; exec sleep 1000"], "User": "bob:staff"});
    let name = Layout::make(&ground.path("layout"), vec![Layer::busybox()], config).name();
    let isolation = "--isolation=filesystem/linux,cgroups/cpu,cgroups/mem,cgroups/devices,docker/runtime";
    let _agent = Agent::with(&ground, ground.work_dir(), &[isolation]);
    ground.berth(&["run", "-d", "--name", "web", &name]).good();
    assert_eq!(ground.berth(&["exec", "web", "sh", "-c", "id -un; id -gn"]).good(), "bob\nstaff\n");
    wait_for("its first line", || ground.berth(&["logs", "web"]).stdout == "bob\n");
    // Root has all capabilities then, but no device of the host.
    let root = ground.berth(&[
        "exec",
        "-u",
        "root",
        "web",
        "sh",
        "-c",
        "cd /tmp && mknod d b 8 0; mknod e b 254 0; cat d e",
    ]);
    assert!(root.code != Some(0) && root.stdout.is_empty(), "{root:#?}");
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
