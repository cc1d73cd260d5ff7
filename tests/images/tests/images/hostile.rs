// SPDX-License-Identifier: Apache-2.0
//! Images that want more than a container: what the whole chain, from a name to a process, lets through of them.

use berth_test_images::{Entry, Ground, Layer, Layout, ground};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// A directory and a file of the host that nothing may touch.
struct Canary {
    dir: PathBuf,
    before: String,
}

impl Canary {
    fn new(ground: &Ground) -> Canary {
        let dir = ground.directory("canary");
        fs::write(dir.join("file"), "alive").unwrap();
        let mut canary = Canary { dir, before: String::new() };
        canary.before = canary.now();
        canary
    }

    fn now(&self) -> String {
        format!("{:?}", berth_test_images::tree(&self.dir))
    }

    #[track_caller]
    fn lives(&self) {
        assert_eq!(self.now(), self.before);
    }
}

fn image(ground: &Ground, name: &str, more: &[Entry<'_>], config: Value) -> String {
    Layout::make(&ground.path(name), vec![Layer::busybox(), Layer::of(more)], config).name()
}

#[test]
fn cve_2024_9675_and_1753_directories_that_the_image_names_are_made_inside_its_root() {
    let ground = ground!("busybox");
    let canary = Canary::new(&ground);
    let out = canary.dir.to_str().unwrap();
    let up = "../../../../../../../../..";
    let climbing = format!("{up}{out}");
    let links = [Entry::Link("away", out), Entry::Link("up", &climbing), Entry::Dir("real", 0o755)];
    for (at, config) in [
        json!({"WorkingDir": "/away/made"}),
        json!({"WorkingDir": "/up/made"}),
        json!({"Volumes": {"/away/made": {}, "/up/made": {}}}),
    ]
    .into_iter()
    .enumerate()
    {
        let name = image(&ground, &format!("links-{at}"), &links, config.clone());
        let run = ground.berth(&["run", "--rm", &name, "true"]);
        // A link that leads nowhere inside is an error, not a way out.
        assert!(run.code == Some(0) || run.code == Some(125), "{config}: {run:#?}");
        canary.lives();
    }
    for config in [
        json!({"WorkingDir": "/real/../../../etc"}),
        json!({"WorkingDir": format!("{up}{out}")}),
        json!({"Volumes": {"/real/../../x": {}}}),
        json!({"Volumes": {"relative": {}}}),
    ] {
        let name = image(&ground, "dots", &links, config.clone());
        ground.berth(&["run", "--rm", &name, "true"]).refused(&["absolute path without '..'"]);
        canary.lives();
    }
    ground.is_sound();
}

#[test]
fn class_users_the_images_own_files_can_not_make_root_of_nobody() {
    let ground = ground!("busybox");
    let bomb = vec![b'x'; 3 << 20];
    let rows: &[(&str, &[Entry<'_>], &str, &str)] = &[
        ("large", &[Entry::File("etc/passwd", 0o644, &bomb)], "bob", "at most"),
        ("link", &[Entry::Link("etc/passwd", "/proc/self/environ")], "bob", "bob"),
        (
            "digits",
            &[Entry::File("etc/passwd", 0o644, b"4294967295:x:0:0::/:/bin/sh\n")],
            "4294967295",
            "number",
        ),
        ("nobody", &[], "mallory", "not in /etc/passwd"),
        (
            "trick",
            &[Entry::File("etc/passwd", 0o644, b"a b:x:0:0::/:/bin/sh\n")],
            "a b",
            "neither a number nor a name",
        ),
    ];
    for (name, entries, user, word) in rows {
        let name = image(&ground, name, entries, json!({"User": user}));
        ground.berth(&["run", "--rm", &name, "id"]).refused(&[word]);
    }
    // A link inside the image is followed inside the image.
    let inner =
        [Entry::File("etc/real", 0o644, b"eve:x:7:7::/:/bin/sh\n"), Entry::Link("etc/passwd", "/etc/real")];
    let name = image(&ground, "inner", &inner, json!({"User": "eve"}));
    assert_eq!(ground.berth(&["run", "--rm", &name, "id", "-u"]).good(), "7\n");
    ground.is_sound();
}

#[test]
fn class_device_nodes_and_setuid_in_layers_open_nothing_of_the_host() {
    let ground = ground!("busybox");
    let entries = [Entry::Block("disk", 8, 0), Entry::Block("dm", 253, 0)];
    let name = image(&ground, "devices", &entries, json!({}));
    let run =
        ground.berth(&["run", "--rm", &name, "sh", "-c", "for d in /disk /dm; do head -c 1 $d; done 2>&1"]);
    assert!(!run.stdout.is_empty(), "{run:#?}");
    for line in run.stdout.lines() {
        let refused = ["No such file", "Permission denied", "Operation not permitted"];
        assert!(refused.iter().any(|word| line.contains(word)), "{run:#?}");
    }
}

#[test]
fn class_whiteouts_hide_only_what_the_image_has() {
    let ground = ground!("busybox");
    let canary = Canary::new(&ground);
    for bad in [".wh...", ".wh.", "x/.wh...", "../.wh.canary"] {
        let name = image(&ground, "whiteouts", &[Entry::File(bad, 0o644, b"")], json!({}));
        let run = ground.berth(&["run", "--rm", &name, "true"]);
        run.refused(&["layer"]);
        canary.lives();
    }
    ground.is_sound();
}

#[test]
fn class_a_layer_that_is_no_archive_leaves_nothing() {
    let ground = ground!("busybox");
    for (at, bytes) in
        [b"#!/bin/sh\n".repeat(200), vec![0xff; 4096], vec![0x1f, 0x8b, 8, 0, 0]].into_iter().enumerate()
    {
        let layout = Layout::of_tars(&ground.path(&format!("bad-{at}")), [bytes], json!({}));
        ground.berth(&["run", "--rm", &layout.name(), "true"]).refused(&["layer"]);
        ground.is_sound();
    }
}

#[test]
fn what_an_image_says_reaches_no_terminal_as_a_command_to_it() {
    let ground = ground!("busybox");
    let config =
        json!({"Cmd": ["true"], "Labels": {"evil": "\u{1b}[2J\u{9b}31m"}, "User": "\u{1b}]0;x\u{7}"});
    let name = image(&ground, "escapes", &[], config);
    ground.berth(&["image", "pull", "-q", &name]).good();
    for args in [&["image", "inspect", &name][..], &["image", "ls"], &["run", "--rm", &name]] {
        let done = ground.berth(args);
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!done.stdout.contains(control) && !done.stderr.contains(control), "{done:#?}");
    }
}
