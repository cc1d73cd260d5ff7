// SPDX-License-Identifier: Apache-2.0
//! `berth image`.

use berth_test_images::{Ground, Layer, Layout, ground};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Instant;

fn image(ground: &Ground, name: &str) -> String {
    let noise = Layer::noise(name, 4096, name.len() as u64);
    Layout::make(&ground.path(name), vec![Layer::busybox(), noise], json!({"Cmd": ["sleep", "1000"]})).name()
}

#[test]
fn images_are_listed_named_inspected_and_removed() {
    let ground = ground!("busybox");
    let (one, two) = (image(&ground, "one"), image(&ground, "three"));
    ground.berth(&["image", "import", "-q", &one, "team/one:1"]).good();
    ground.berth(&["image", "import", "-q", &two, "two"]).good();
    ground.berth(&["image", "tag", "team/one:1", "registry.example:5000/one:latest"]).good();
    let listed = ground.berth(&["image", "ls"]);
    let lines: Vec<&str> = listed.good().lines().collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[0]), ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    assert_eq!(lines.len(), 4, "{listed:#?}");
    assert!(lines.iter().any(|line| words(line)[..2] == ["team/one", "1"]), "{listed:#?}");
    assert!(lines.iter().any(|line| words(line)[..2] == ["two", "latest"]), "{listed:#?}");
    let inspected = ground.berth(&["image", "inspect", "team/one:1"]);
    let inspected: Value = serde_json::from_str(inspected.good()).unwrap();
    assert_eq!(inspected[0]["Config"]["Cmd"], json!(["sleep", "1000"]));
    assert_eq!(inspected[0]["RepoTags"].as_array().unwrap().len(), 2);
    let id = inspected[0]["Id"].as_str().unwrap().trim_start_matches("sha256:")[..12].to_owned();
    let by_id = ground.berth(&["image", "inspect", "--format", "{{.Digest}}", &id]);
    assert_eq!(by_id.good().trim(), inspected[0]["Digest"].as_str().unwrap());
    // A name of two goes alone; the last one takes the image along.
    let untagged = ground.berth(&["image", "rm", "team/one:1"]);
    assert_eq!(untagged.good(), "Untagged: team/one:1\n");
    let deleted = ground.berth(&["image", "rm", &id]);
    assert!(deleted.good().contains("Deleted: sha256:"), "{deleted:#?}");
    ground.berth(&["image", "rm", "team/one:1"]).refused(&["no image"]);
    assert_eq!(ground.berth(&["image", "ls", "-q"]).good().lines().count(), 1);
    let pruned = ground.berth(&["image", "prune", "-a", "-o", "json"]);
    let pruned: Value = serde_json::from_str(pruned.good()).unwrap();
    assert_eq!(
        (pruned["names"].as_array().unwrap().len(), pruned["images"].as_array().unwrap().len()),
        (1, 1)
    );
    ground.is_sound();
}

#[test]
fn what_a_container_holds_stays_until_it_ends() {
    let ground = ground!("busybox");
    let name = image(&ground, "held");
    let mut run = ground.command();
    run.args(["run", "--name", "holder", &name]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = run.spawn().unwrap();
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    while !ground.berth(&["ps"]).good().contains("Up ") {
        assert!(Instant::now() < deadline, "it does not come up");
    }
    ground.berth(&["image", "rm", &name]).refused(&["held by container oneshot.holder"]);
    ground.berth(&["image", "prune", "-a"]).good();
    let explained = ground.berth(&["image", "gc", "--all", "--explain"]);
    assert!(explained.good().contains("containers hold it: oneshot.holder"), "{explained:#?}");
    assert_eq!(ground.berth(&["image", "ls", "-q"]).good().lines().count(), 1);
    ground.berth(&["rm", "-f", "holder"]).good();
    running.wait().unwrap();
    ground.berth(&["image", "prune", "-a"]).good();
    assert_eq!(ground.berth(&["image", "ls", "-a", "-q"]).good(), "");
    ground.is_sound();
}

#[test]
fn a_store_with_three_hundred_images_opens_at_once() {
    let ground = ground!("busybox");
    ground.berth(&["image", "import", "-q", &image(&ground, "first"), "image:0"]).good();
    let store = ground.store();
    let first = store.find("image:0").unwrap().unwrap();
    // Names and records of their own; the layers are shared, as they are between real images.
    for at in 1..300 {
        let mut bytes = store.blob(&first.config).unwrap();
        bytes.extend(format!(" {}", " ".repeat(at)).bytes());
        let digest = berth_image::digest_of(berth_model::image::Algorithm::Sha256, &bytes);
        let (path, hex) = (ground.work_dir().join("store"), digest.hex());
        std::fs::write(path.join(format!("blobs/sha256-{hex}")), &bytes).unwrap();
        let image = berth_store::Image { config: digest, ..first.clone() };
        store.name(&format!("image:{at}"), &image, "test").unwrap();
    }
    let begun = Instant::now();
    let again = ground.store();
    let opened = begun.elapsed();
    assert_eq!(again.names().unwrap().len(), 300);
    assert!(opened.as_millis() < 100, "{opened:?}");
}
