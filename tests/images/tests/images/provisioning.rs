// SPDX-License-Identifier: Apache-2.0
//! What the agent makes of images beside a root file system in an overlay: volumes, other backends, its flags, its
//! store on a full disk, and what is left of its pulls when it is killed.

use crate::interrupted::{Disk, layers};
use crate::serving::{Agent, wait_for};
use berth_test_images::{Entry, Ground, Layer, Layout, Registry, ground, skip, this_test};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use std::time::Instant;

fn image(ground: &Ground, name: &str, layers: Vec<Layer>, config: Value) -> String {
    Layout::make(&ground.path(name), layers, config).name()
}

fn oci(name: &str) -> Value {
    json!({"type": "OCI", "oci": {"reference": name}})
}

/// Launches a line of shell in an image with these volumes; the answer.
fn launch(agent: &Agent<'_>, id: &str, name: Option<&str>, line: &str, volumes: Value) -> String {
    let mut container = json!({"type": "MESOS", "mesos": {}, "volumes": volumes});
    if let Some(name) = name {
        container["mesos"] = json!({"image": oci(name)});
    }
    agent.call(&json!({"type": "LAUNCH_CONTAINER", "launch_container": {
        "container_id": {"value": id}, "container": container,
        "command": {"shell": true, "value": line},
    }}))
}

#[test]
fn a_volume_that_is_an_image_is_read_only_or_has_a_layer_of_its_own() {
    let ground = ground!("busybox");
    let base = image(&ground, "base", vec![Layer::busybox()], json!({}));
    let lower = Layer::of(&[Entry::File("a", 0o644, b"lower\n"), Entry::File("gone", 0o644, b"")]);
    let upper = Layer::of(&[Entry::File("b", 0o640, b"upper\n"), Entry::File(".wh.gone", 0o644, b"")]);
    let data = image(&ground, "data", vec![lower, upper], json!({}));
    let flat = image(&ground, "flat", vec![Layer::of(&[Entry::File("c", 0o644, b"flat\n")])], json!({}));
    let agent = Agent::start(&ground);
    let line = "cat /data/a /data/b /flat/c; ls /data; echo x 2>&1 > /data/new; echo y > /flat/new; \
                cat /flat/new; echo $?; sleep 1000";
    let volumes = json!([
        {"mode": "RO", "container_path": "/data", "image": oci(&data)},
        {"mode": "RW", "container_path": "/flat", "image": oci(&flat)},
    ]);
    let answer = launch(&agent, "vol", Some(&base), line, volumes);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let expected = "lower\nupper\nflat\na\nb\n\
                    sh: can't create /data/new: Read-only file system\ny\n0\n";
    wait_for("it has written all", || agent.berth(&["logs", "vol"]).stdout.ends_with("0\n"));
    assert_eq!(agent.berth(&["logs", "vol"]).stdout, expected);
    // One lease holds all three.
    let leases = ground.store().leases().unwrap();
    assert_eq!(leases.iter().map(|lease| lease.images.len()).collect::<Vec<_>>(), [3]);
    agent.berth(&["rm", "-f", "vol"]).good();
    assert!(ground.store().leases().unwrap().is_empty());
    // What it wrote is in no layer of the store.
    let again = launch(
        &agent,
        "again",
        Some(&base),
        "ls /flat; sleep 1000",
        json!([
            {"mode": "RW", "container_path": "/flat", "image": oci(&flat)},
        ]),
    );
    assert!(again.starts_with("HTTP/1.1 200"), "{again}");
    wait_for("it has listed it", || agent.berth(&["logs", "again"]).stdout == "c\n");
    // Its layer goes with its end, as the one of its root does.
    let place = ground.work_dir().join("containers/again");
    assert!(place.join("volumes/0/upper").is_dir());
    agent.berth(&["kill", "again"]).good();
    agent.berth(&["wait", "again"]).good();
    let left: Vec<_> = ["upper", "scratch", "volumes"].iter().filter(|l| place.join(l).exists()).collect();
    assert!(place.is_dir() && left.is_empty(), "{left:?}");
    agent.berth(&["rm", "-f", "again"]).good();
    // On the host's root a mount point is not made, and no image is pulled in vain.
    let host = launch(
        &agent,
        "host",
        None,
        "true",
        json!([
            {"mode": "RO", "container_path": "/no/such/place", "image": oci(&data)},
        ]),
    );
    assert!(host.contains("must exist if the container shares the host filesystem"), "{host}");
    drop(agent);
    ground.is_sound();
}

#[test]
fn the_copy_backend_gives_each_container_a_tree_of_its_own() {
    let ground = ground!("busybox");
    let more = Layer::of(&[Entry::File("etc/more", 0o600, b"more\n"), Entry::File(".wh.tmp", 0o644, b"")]);
    let config = json!({"WorkingDir": "/made/here", "User": "bob", "Volumes": {"/data": {}}});
    let name = image(&ground, "copied", vec![Layer::busybox(), more], config);
    let agent = Agent::with(&ground, ground.work_dir(), &["--image_provisioner_backend=copy"]);
    let line = "id -un; pwd; ls -d /data /etc/more; cat /proc/self/mountinfo | head -1; sleep 1000";
    let run = ["run", "-d", "--name", "copy", &name, "sh", "-c", line];
    agent.berth(&run).good();
    wait_for("it has written all", || agent.berth(&["logs", "copy"]).stdout.lines().count() >= 5);
    let log = agent.berth(&["logs", "copy"]).stdout;
    assert!(log.starts_with("bob\n/made/here\n/data\n/etc/more\n") && !log.contains("overlay"), "{log}");
    let tree = ground.work_dir().join("containers/copy/image");
    assert!(tree.join("bin/busybox").is_file() && !tree.join("tmp").exists());
    agent.berth(&["exec", "-u", "0", "copy", "sh", "-c", "echo own > /etc/more"]).good();
    assert_eq!(fs::read_to_string(tree.join("etc/more")).unwrap(), "own\n");
    agent.berth(&["rm", "-f", "copy"]).good();
    assert!(!tree.exists());
    // The layers are as they were.
    let again = ["run", "-d", "--name", "again", "-u", "0", &name, "sh", "-c", "cat /etc/more; sleep 1000"];
    agent.berth(&again).good();
    wait_for("it has written", || agent.berth(&["logs", "again"]).stdout == "more\n");
}

#[test]
fn the_bind_backend_is_one_layer_and_read_only() {
    let ground = ground!("busybox");
    let one = image(&ground, "one", vec![Layer::busybox()], json!({}));
    let two = image(&ground, "two", vec![Layer::busybox(), Layer::of(&[Entry::Dir("x", 0o755)])], json!({}));
    let agent = Agent::with(&ground, ground.work_dir(), &["--image_provisioner_backend=bind"]);
    let line = "touch /bin/new 2>&1; sleep 1000";
    agent.berth(&["run", "-d", "--name", "bind", &one, "sh", "-c", line]).good();
    wait_for("it was refused", || agent.berth(&["logs", "bind"]).stdout.contains("Read-only file system"));
    let several = agent.berth(&["run", "-d", "--name", "several", &two, "true"]);
    several.refused(&["Multiple layers are not supported by the bind backend"]);
}

#[test]
fn with_docker_ignore_runtime_the_images_wishes_count_for_nothing() {
    let ground = ground!("busybox");
    let config = json!({"Cmd": ["sleep", "1000"], "Env": ["A=image"], "User": "bob", "WorkingDir": "/tmp"});
    let name = image(&ground, "ignored", vec![Layer::busybox()], config);
    let agent = Agent::with(&ground, ground.work_dir(), &["--docker_ignore_runtime=true"]);
    let answer = launch(&agent, "plain", Some(&name), "id -u; echo A=$A; sleep 1000", json!([]));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    wait_for("it has written", || agent.berth(&["logs", "plain"]).stdout == "0\nA=\n");
    // Without its Cmd there is nothing to run.
    agent.berth(&["run", "-d", "--name", "none", &name]).refused(&["Executable path is not specified"]);
}

#[test]
fn unused_images_go_when_the_disk_is_as_full_as_the_operator_says() {
    let ground = ground!("busybox");
    let config = json!({"Cmd": ["sleep", "1000"]});
    let name = |name: &str| {
        let layers = vec![Layer::busybox(), Layer::of(&[Entry::File(name, 0o644, b"")])];
        image(&ground, name, layers, config.clone())
    };
    let (held, kept, idle) = (name("held"), name("kept"), name("idle"));
    // Any disk is fuller than that: it collects each time it looks.
    let gc = json!({"image_disk_headroom": 1.0, "image_disk_watch_interval": {"nanoseconds": 1_500_000_000_u64},
        "excluded_images": [oci(&kept)]});
    let agent = Agent::with(&ground, ground.work_dir(), &[&format!("--image_gc_config={gc}")]);
    agent.berth(&["run", "-d", "--name", "holder", &held]).good();
    for name in [&kept, &idle] {
        agent.berth(&["image", "pull", "-q", name]).good();
    }
    wait_for("the idle one is collected", || ground.store().named(&idle).unwrap().is_none());
    let names: Vec<String> = ground.store().names().unwrap().into_iter().map(|named| named.name).collect();
    assert!(names.contains(&kept) && !names.contains(&idle), "{names:?}");
    assert_eq!(ground.store().images().unwrap().len(), 2);
    // So is a prune that names nothing to be kept.
    assert!(agent.call(&json!({"type": "PRUNE_IMAGES"})).starts_with("HTTP/1.1 200"));
    assert!(ground.store().find(&kept).unwrap().is_some());
    agent.berth(&["exec", "holder", "true"]).good();
}

#[test]
fn a_stop_begins_with_the_signal_that_the_image_names() {
    let ground = ground!("busybox");
    let line = "trap 'echo quit; exit 3' QUIT; trap 'echo term; exit 4' TERM; echo ready; \
                while true; do sleep 0.05; done";
    let config = json!({"Cmd": ["sh", "-c", line], "StopSignal": "SIGQUIT"});
    let name = image(&ground, "stops", vec![Layer::busybox()], config);
    // As an owner of its own.
    let mut run = ground.command();
    run.args(["run", "--name", "alone", &name]).stdout(Stdio::piped()).stderr(Stdio::null());
    let run = run.spawn().unwrap();
    wait_for("it is ready", || ground.berth(&["logs", "alone"]).stdout.contains("ready"));
    ground.berth(&["stop", "-t", "30", "alone"]).good();
    let output = run.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
        (Some(3), "ready\nquit\n")
    );
    // At an agent; and a signal that is asked for wins.
    let agent = Agent::start(&ground);
    for (container, more, code) in [("own", &[][..], "3\n"), ("asked", &["-s", "TERM"][..], "4\n")] {
        agent.berth(&["run", "-d", "--name", container, &name]).good();
        wait_for("it is ready", || agent.berth(&["logs", container]).stdout.contains("ready"));
        let all: Vec<&str> = ["stop", "-t", "30"].iter().chain(more).chain([&container]).copied().collect();
        agent.berth(&all).good();
        assert_eq!(agent.berth(&["wait", container]).good(), code);
    }
}

/// As many as the issue asks for; with `BERTH_IMAGES=long` ten times that.
fn rounds() -> u32 {
    if std::env::var_os("BERTH_IMAGES").is_some_and(|form| form == "long") { 200 } else { 20 }
}

#[test]
fn an_agent_that_is_killed_at_any_moment_of_its_pull_leaves_nothing_and_the_next_succeeds() {
    let ground = ground!("skopeo", "docker-registry", "busybox");
    let registry = Registry::start(&ground.path("registry"));
    let name = registry.name("killed:1");
    Layout::make(&ground.path("layout"), layers(1), json!({"Cmd": ["sleep", "1000"]}))
        .copy(&format!("docker://{name}"));
    let agent = Agent::start(&ground);
    let begun = Instant::now();
    agent.berth(&["run", "-d", "--name", "first", &name]).good();
    let whole = begun.elapsed();
    let mut agent = agent;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    for round in 0..rounds() {
        agent.berth(&["rm", "-f", "first"]).good();
        assert!(agent.call(&json!({"type": "PRUNE_IMAGES"})).starts_with("HTTP/1.1 200"));
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let part = f64::from(u32::try_from(seed >> 40).unwrap()) / f64::from(1u32 << 24);
        let mut run = ground.command();
        run.arg("--socket").arg(agent.socket()).args(["run", "-d", "--name", "first", &name]);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(part));
        agent.kill();
        let _ = run.wait();
        agent = Agent::start(&ground);
        // It was launched before the kill, or nothing is left of it.
        let there = agent.berth(&["ps", "-q", "--no-trunc"]).good().contains("first");
        if !there {
            let _ = agent.berth(&["rm", "-f", "first"]);
            assert!(ground.store().leases().unwrap().is_empty(), "round {round}, seed {seed}");
            for empty in ["staging", "trash"] {
                let place = ground.work_dir().join("store").join(empty);
                let left: Vec<_> = fs::read_dir(place).into_iter().flatten().flatten().collect();
                assert!(left.is_empty(), "round {round}, seed {seed}, in {empty}: {left:?}");
            }
            agent.berth(&["run", "-d", "--name", "first", &name]).good();
        }
        let exec = agent.berth(&["exec", "first", "sh", "-c", "cat /noise-* | wc -c"]);
        assert_eq!(exec.good(), format!("{}\n", 3 << 20), "round {round}, seed {seed}");
        let fsck = agent.berth(&["image", "fsck", "--dry-run"]);
        assert!(fsck.good().starts_with("sound: "), "round {round}, seed {seed}: {fsck:#?}");
    }
}

#[test]
fn on_a_disk_that_is_full_at_any_point_the_agent_says_so_serves_on_and_a_prune_makes_room() {
    let ground = ground!("busybox");
    let disk = match Disk::mount(&ground, 40) {
        Ok(disk) => disk,
        Err(lacked) => return skip(this_test!(), &lacked),
    };
    let work = disk.0.join("work");
    let config = json!({"Cmd": ["sleep", "1000"]});
    let large = image(&ground, "large", layers(4), config);
    let agent = Agent::with(&ground, work, &[]);
    let filler = disk.0.join("filler");
    let free = || rustix::fs::statvfs(&disk.0).map(|stat| stat.f_bfree * stat.f_frsize).unwrap();
    let (mut refused, mut ran) = (0, 0);
    for kibibytes in [0, 4, 16, 64, 128, 512, 1024, 3 << 10, 6 << 10, 12 << 10, 15 << 10, 30 << 10] {
        let size = free().saturating_sub(kibibytes << 10);
        fs::write(&filler, vec![0; usize::try_from(size).unwrap()]).unwrap();
        let run = agent.berth(&["run", "-d", "--name", "large", &large]);
        match run.code {
            Some(0) => ran += 1,
            _ => {
                run.refused(&["full"]);
                refused += 1;
            }
        }
        // It serves, full as the disk is, and makes room there.
        assert!(agent.call(&json!({"type": "GET_HEALTH"})).starts_with("HTTP/1.1 200"), "{kibibytes}");
        let _ = agent.berth(&["rm", "-f", "large"]);
        assert_eq!(agent.berth(&["ps", "-aq"]).good(), "", "{kibibytes}");
        let pruned = agent.call(&json!({"type": "PRUNE_IMAGES"}));
        assert!(pruned.starts_with("HTTP/1.1 200"), "{kibibytes}: {pruned}");
        assert_eq!(agent.berth(&["image", "ls", "-aq"]).good(), "", "{kibibytes}");
        fs::remove_file(&filler).unwrap();
        let used = (40 << 20) - free();
        assert!(used < 2 << 20, "{kibibytes}: {used} bytes are still used");
    }
    assert!(refused >= 8 && ran >= 1, "{refused} refused, {ran} ran");
}
