// SPDX-License-Identifier: Apache-2.0
//! `berth run IMAGE`: what runs, as whom, where, in what environment.

use berth_test_images::{Entry, Ground, Layer, Layout, Registry, debian, ground, skip, this_test, tool};
use serde_json::{Value, json};
use std::fs;

fn image(ground: &Ground, name: &str, config: Value) -> String {
    Layout::make(&ground.path(name), vec![Layer::busybox()], config).name()
}

#[test]
fn a_debian_that_skopeo_pushed_runs() {
    let ground = ground!("umoci", "skopeo", "docker-registry");
    let tar = match debian() {
        Ok(tar) => tar,
        Err(lacked) => return skip(this_test!(), &lacked),
    };
    let registry = Registry::start(&ground.path("registry"));
    let (layout, name) = (ground.path("layout"), registry.name("debian:12"));
    let image = format!("{}:12", layout.display());
    tool("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    tool("umoci", &["new", "--image", &image]);
    tool("umoci", &["raw", "add-layer", "--image", &image, tar.to_str().unwrap()]);
    let to = format!("docker://{name}");
    let from = format!("oci:{image}");
    tool("skopeo", &["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &from, &to]);
    let run = ground.berth(&["run", "--rm", &name, "cat", "/etc/os-release"]);
    assert!(run.good().contains("ID=debian"), "{run:#?}");
    assert!(run.stderr.contains("1 layer"), "what was pulled is told: {run:#?}");
    // The second time nothing is pulled, and nothing is said.
    let again = ground.berth(&["run", "--rm", &name, "dpkg-query", "-W", "-f", "${Status}", "dpkg"]);
    assert_eq!((again.good(), again.stderr.as_str()), ("install ok installed", ""));
    ground.is_sound();
}

#[test]
fn entry_point_and_command_make_the_program_as_with_docker() {
    let ground = ground!("busybox");
    let rows: &[(&str, Value, &[&str], &str)] = &[
        ("c", json!({"Cmd": ["echo", "cmd"]}), &[], "cmd\n"),
        ("c", json!({"Cmd": ["echo", "cmd"]}), &["echo", "mine"], "mine\n"),
        ("e", json!({"Entrypoint": ["echo", "entry"]}), &[], "entry\n"),
        ("e", json!({"Entrypoint": ["echo", "entry"]}), &["a", "b"], "entry a b\n"),
        ("ec", json!({"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"]}), &[], "entry cmd\n"),
        ("ec", json!({"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"]}), &["mine"], "entry mine\n"),
        ("n", json!({}), &["echo", "--", "-x"], "-- -x\n"),
    ];
    for (name, config, words, expected) in rows {
        let name = image(&ground, name, config.clone());
        let all: Vec<&str> = ["run", "--rm", &name].into_iter().chain(words.iter().copied()).collect();
        assert_eq!(ground.berth(&all).good(), *expected, "{config} {words:?}");
    }
    let none = image(&ground, "none", json!({}));
    ground.berth(&["run", "--rm", &none]).refused(&["No executable is found"]);
    ground.is_sound();
}

#[test]
fn variables_directory_user_and_volumes_of_the_image_count() {
    let ground = ground!("busybox");
    let config = json!({
        "Env": ["A=image", "B=image", "PATH=/bin:/nowhere", "C"], "WorkingDir": "/made/here", "User": "bob:staff",
        "Volumes": {"/data/deep": {}},
    });
    let name = image(&ground, "wishes", config);
    let script = "id; pwd; echo $A $B $C $PATH $HOME; stat -c '%F %u' /data/deep /made/here";
    let run = ground.berth(&["run", "--rm", "-e", "B=mine", &name, "sh", "-c", script]);
    let expected = "uid=1000(bob) gid=50(staff)\n/made/here\n\
                    image mine /bin:/nowhere /home/bob\ndirectory 0\ndirectory 0\n";
    assert_eq!(run.good(), expected);
    // What the person asks for wins.
    let run = ground.berth(&["run", "--rm", "-u", "0", "-w", "/tmp", &name, "sh", "-c", "id -u; pwd"]);
    assert_eq!(run.good(), "0\n/tmp\n");
}

#[test]
fn what_is_an_image_and_what_a_program_of_the_host_is_never_in_doubt() {
    let ground = ground!("busybox");
    let name = image(&ground, "small", json!({"Cmd": ["echo", "image"]}));
    assert_eq!(ground.berth(&["run", "--rm", &name]).good(), "image\n");
    assert_eq!(ground.berth(&["run", "--rm", "--", "echo", "host"]).good(), "host\n");
    assert_eq!(ground.berth(&["run", "--rm", &name, "echo", "--", "x"]).good(), "-- x\n");
    let root = ground.directory("root");
    fs::create_dir(root.join("bin")).unwrap();
    fs::copy(tool("sh", &["-c", "command -v busybox"]).trim(), root.join("bin/echo")).unwrap();
    let rootfs = root.to_str().unwrap();
    assert_eq!(ground.berth(&["run", "--rm", "--rootfs", rootfs, "echo", "root"]).good(), "root\n");
    let word = ground.berth(&["run", "--rm", "--pull", "never", "echo", "x"]);
    word.refused(&["no image echo here"]);
}

#[test]
fn a_container_of_an_image_has_a_network_of_its_own_unless_it_asks() {
    let ground = ground!("busybox");
    let name = image(&ground, "net", json!({}));
    let count = |more: &[&str]| {
        let all: Vec<&str> = ["run", "--rm"].into_iter().chain(more.iter().copied()).collect();
        let all: Vec<&str> = all.into_iter().chain([name.as_str(), "cat", "/proc/net/dev"]).collect();
        ground.berth(&all).good().lines().skip(2).map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let own = count(&[]);
    assert!(own.len() == 1 && own[0].starts_with("lo:"), "{own:?}");
    let host = fs::read_to_string("/proc/net/dev").unwrap().lines().count() - 2;
    assert_eq!(count(&["--network", "host"]).len(), host);
}

#[test]
fn a_hundred_and_thirty_layers_mount_and_run() {
    let ground = ground!("busybox");
    let file = |at: usize| format!("layer-{at}");
    let mut layers = vec![Layer::busybox()];
    for at in 1..130 {
        // Each has a file of its own, some take one away, and each changes one that all have.
        let (own, text) = (file(at), at.to_string());
        let gone = format!(".wh.{}", file(at.saturating_sub(2)));
        let mut entries = vec![Entry::File(&own, 0o644, b"x"), Entry::File("top", 0o644, text.as_bytes())];
        if at % 3 == 0 {
            entries.push(Entry::File(&gone, 0o644, b""));
        }
        layers.push(Layer::of(&entries));
    }
    let name = Layout::make(&ground.path("deep"), layers, json!({})).name();
    let run = ground.berth(&["run", "--rm", &name, "sh", "-c", "cat top; echo; ls / | wc -l"]);
    // 129 files of their own less 43, `top`, and the directories: bin dev etc mnt proc sys tmp.
    assert_eq!(run.good(), "129\n94\n");
    let store = ground.store();
    assert_eq!(store.images().unwrap()[0].layers.len(), 130);
    ground.is_sound();
}
