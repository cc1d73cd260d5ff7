// SPDX-License-Identifier: Apache-2.0
//! App Container images: found by simple discovery, run, and never trusted.

use crate::serving::Agent;
use berth_test_images::appc::{Files, Held, aci, id, manifest, path};
use berth_test_images::{Done, Entry, Ground, Layer, ground};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const PREFIX: &str = "BERTH_APPC_SIMPLE_DISCOVERY_URI_PREFIX";

fn berth(ground: &Ground, prefix: &str, args: &[&str]) -> Done {
    let output = ground.command().args(args).env(PREFIX, prefix).output().unwrap();
    output.into()
}

/// A tree with busybox, and a file that says whose it is.
fn busybox(of: &'static str) -> impl FnOnce(&Path) {
    move |root| {
        let at = |name: &str| root.join(name);
        fs::create_dir_all(at("bin")).unwrap();
        fs::create_dir_all(at("etc")).unwrap();
        fs::create_dir_all(at("srv")).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let found = std::env::split_paths(&path).map(|dir| dir.join("busybox")).find(|path| path.is_file());
        fs::copy(found.unwrap(), at("bin/busybox")).unwrap();
        for name in ["sh", "cat", "echo", "id", "pwd", "sleep"] {
            std::os::unix::fs::symlink("busybox", at("bin").join(name)).unwrap();
        }
        fs::write(at("etc/passwd"), "root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n").unwrap();
        fs::write(at("etc/group"), "root:x:0:\nbob:x:1000:\nstaff:x:50:\n").unwrap();
        fs::write(at("whose"), of).unwrap();
    }
}

fn app(exec: &[&str]) -> Value {
    json!({"exec": exec, "user": "bob", "group": "staff", "workingDirectory": "/srv",
        "environment": [{"name": "A", "value": "of the image"}]})
}

/// An archive of these entries beside a manifest.
fn odd(manifest: &Value, entries: &[Entry<'_>]) -> Vec<u8> {
    let text = manifest.to_string();
    let mut all = vec![Entry::File("manifest", 0o644, text.as_bytes())];
    all.extend_from_slice(entries);
    Layer::of(&all).bytes()
}

#[test]
fn an_image_found_over_http_runs_as_its_app_says() {
    let ground = ground!("busybox", "tar");
    let files = Files::start();
    let fields = json!({"app": app(&["/bin/sh", "-c", "id -un; id -gn; pwd; echo $A"])});
    let archive = aci(&ground.path("aci"), &manifest("a.example/app", &fields), busybox("app"), true);
    // It is sent elsewhere first, and breaks off once.
    files.put(&path("a.example/app", "1.0"), Held::Moved("/elsewhere".into()));
    files.put("/elsewhere", Held::Broken(archive));
    let run = berth(&ground, &files.prefix(), &["run", "appc:a.example/app:1.0"]);
    assert_eq!(run.good(), "bob\nstaff\n/srv\nof the image\n");
    // Arguments stand in for those of exec.
    let run = berth(&ground, &files.prefix(), &["run", "appc:a.example/app:1.0", "-c", "echo mine"]);
    assert_eq!(run.good(), "mine\n");
    assert_eq!(files.asked().iter().filter(|path| *path == "/elsewhere").count(), 2, "{:?}", files.asked());
    let ls = ground.berth(&["image", "ls"]);
    assert!(ls.good().contains("appc:a.example/app") && ls.good().contains("1.0"), "{ls:#?}");
    // From the store alone, after the server is gone.
    let run = berth(&ground, "http://127.0.0.1:1/", &["run", "appc:a.example/app:1.0", "-c", "cat /whose"]);
    assert_eq!(run.good(), "app");
    berth(&ground, &files.prefix(), &["run", "appc:a.example/app"])
        .refused(&["app-latest-linux", "not found"]);
    ground.is_sound();
}

#[test]
fn what_an_image_depends_on_lies_below_it_and_is_fetched_once() {
    let ground = ground!("busybox", "tar");
    let files = Files::start();
    let base = aci(&ground.path("base"), &manifest("base", &json!({})), busybox("base"), false);
    let on_base = json!({"dependencies": [{"imageName": "base", "imageID": id(&base)}]});
    files.image("base", "latest", base);
    for (name, file) in [("left", "l"), ("right", "r")] {
        let tree = move |root: &Path| fs::write(root.join(file), name).unwrap();
        files.image(name, "latest", aci(&ground.path(name), &manifest(name, &on_base), tree, true));
    }
    let both = json!({"dependencies": [{"imageName": "left"}, {"imageName": "right"}],
        "app": app(&["/bin/cat", "/l", "/r", "/whose"])});
    let tree = |root: &Path| fs::write(root.join("whose"), "top").unwrap();
    files.image("top", "latest", aci(&ground.path("top"), &manifest("top", &both), tree, true));
    let run = berth(&ground, &files.prefix(), &["run", "appc:top"]);
    assert_eq!(run.good(), "leftrighttop");
    let asked = files.asked();
    assert_eq!(asked.len(), 4, "{asked:?}");
    // Nothing of the archives themselves is in the tree.
    let run = berth(&ground, &files.prefix(), &["run", "--user", "root", "appc:top", "/manifest"]);
    run.refused(&["/manifest"]);
    ground.is_sound();
}

#[test]
fn an_image_in_a_directory_is_held_to_its_id() {
    let ground = ground!("busybox", "tar");
    let dir = ground.path("images");
    fs::create_dir_all(dir.join("a.example")).unwrap();
    let fields = json!({"app": app(&["/bin/cat", "/whose"])});
    let archive = aci(&ground.path("aci"), &manifest("a.example/app", &fields), busybox("mine"), false);
    fs::write(format!("{}{}", dir.display(), path("a.example/app", "latest")), &archive).unwrap();
    let prefix = format!("{}/", dir.display());
    let good = format!("appc:a.example/app@{}", id(&archive));
    assert_eq!(berth(&ground, &prefix, &["run", &good]).good(), "mine");
    let explained = berth(&ground, &prefix, &["image", "explain-pull", &good]);
    assert!(
        explained.good().contains("simple discovery") && explained.good().contains("here as"),
        "{explained:#?}"
    );
    let wrong = format!("appc:a.example/app@sha512-{}", "0".repeat(128));
    berth(&ground, &prefix, &["run", &wrong]).refused(&["sha512:", "corrupt or lies"]);
    berth(&ground, &prefix, &["run", "appc:a.example/none"])
        .refused(&["none-latest", "put the image's archive"]);
    berth(&ground, "ftp://x/", &["run", &good]).refused(&["Invalid simple discovery uri prefix"]);
    ground.is_sound();
}

#[test]
fn hostile_archives_and_manifests_are_refused_and_leave_nothing() {
    let ground = ground!("busybox");
    let files = Files::start();
    let canary = ground.path("canary");
    fs::write(&canary, "alive").unwrap();
    let plain = manifest("bad", &json!({}));
    let root = Entry::Dir("rootfs", 0o755);
    let tree = [root.clone()];
    let up = "rootfs/../../../../../../canary";
    let absolute = canary.display().to_string();
    let huge = vec![b' '; (4 << 20) + 1];
    let with = |fields: Value| odd(&manifest("bad", &fields), &tree);
    let depends = |name: &str| json!({"dependencies": [{"imageName": name}]});
    for (what, archive, word) in [
        ("a name with ..", odd(&plain, &[root.clone(), Entry::File(up, 0o644, b"dead")]), ".."),
        (
            "a hard link out",
            odd(&plain, &[Entry::File("x", 0o644, b"x"), Entry::Same("rootfs/x", "x")]),
            "leads out",
        ),
        (
            "a hard link to the host",
            odd(&plain, &[root.clone(), Entry::Same("rootfs/x", &absolute)]),
            "leads out",
        ),
        ("a tree that is a link", odd(&plain, &[Entry::Link("rootfs", "/")]), "something else"),
        ("two manifests", odd(&plain, &[Entry::File("./manifest", 0o644, b"{}"), root.clone()]), "twice"),
        ("no manifest", Layer::of(&tree).bytes(), "no file `manifest`"),
        (
            "a manifest that is a link",
            Layer::of(&[Entry::Link("manifest", "/etc/passwd")]).bytes(),
            "plain file",
        ),
        ("a huge manifest", Layer::of(&[Entry::File("manifest", 0o644, &huge)]).bytes(), "more than"),
        ("another's manifest", odd(&manifest("good", &json!({})), &tree), "named"),
        ("a wrong architecture", with(json!({"labels": [{"name": "arch", "value": "vax"}]})), "vax"),
        (
            "a wrong id of what it depends on",
            {
                files.image("good", "latest", odd(&manifest("good", &json!({})), &tree));
                with(
                    json!({"dependencies": [{"imageName": "good", "imageID": format!("sha512-{}", "0".repeat(128))}]}),
                )
            },
            "corrupt or lies",
        ),
        ("a dependency on a path", with(depends("../../../etc/passwd")), "no name"),
        ("a dependency on itself", with(depends("bad")), "go round"),
        (
            "a round of two",
            {
                files.image("other", "latest", odd(&manifest("other", &depends("bad")), &tree));
                with(depends("other"))
            },
            "go round",
        ),
        (
            "a chain without an end",
            {
                files.put("*", Held::Endless);
                with(depends("bomb/1"))
            },
            "more than 100 images",
        ),
        (
            "a user by a file",
            with(json!({"app": {"exec": ["/x"], "user": "/etc/passwd", "group": "0"}})),
            "/etc/passwd",
        ),
        ("no tar", b"<html>it works</html>".to_vec(), ""),
        ("nothing", Vec::new(), "empty"),
    ] {
        files.image("bad", "latest", archive);
        let run = berth(&ground, &files.prefix(), &["run", "--pull", "always", "appc:bad"]);
        println!("{what}: {}", run.stderr.trim());
        run.refused(&[word]);
        assert_eq!(fs::read_to_string(&canary).unwrap(), "alive", "{what}");
    }
    assert_eq!(ground.berth(&["image", "ls", "-aq"]).good(), "");
    ground.is_sound();
}

#[test]
fn the_agent_runs_images_of_type_appc_by_their_labels() {
    let ground = ground!("busybox", "tar");
    let files = Files::start();
    let fields = json!({"app": app(&["/bin/sleep", "1000"])});
    let archive = aci(&ground.path("aci"), &manifest("a.example/app", &fields), busybox("app"), true);
    files.image("a.example/app", "2", archive);
    let prefix = format!("--appc_simple_discovery_uri_prefix={}", files.prefix());
    let agent = Agent::with(&ground, ground.work_dir(), &["--image_providers=oci,appc", &prefix]);
    ground.berth(&["run", "-d", "--name", "web", "appc:a.example/app:2"]).good();
    assert_eq!(
        ground.berth(&["exec", "web", "sh", "-c", "id -un; pwd; echo $A"]).good(),
        "bob\n/srv\nof the image\n"
    );
    let appc = json!({"type": "APPC", "appc": {"name": "a.example/app", "labels": {"labels": [{"key": "os", "value": "linux"}]}}});
    let refused = agent.call(&json!({"type": "EXPLAIN_PULL", "explain_pull": {"image": appc}}));
    assert!(refused.contains("Failed to form simple discovery url: label 'arch' is missing"), "{refused}");
    let forced = ground.berth(&["image", "rm", "-f", "appc:a.example/app:2"]);
    assert!(!forced.good().contains("Deleted"), "{forced:#?}");
    ground.berth(&["rm", "-f", "web"]).good();
    ground.is_sound();
}
