// SPDX-License-Identifier: Apache-2.0
//! Attacks of THREATS 2.3 on what is a file; those on archives and trees are tested in berth-image.

use std::fs;
use std::path::Path;

use berth_image::Limits;
use berth_model::Class;
use berth_store::{Backend, Repair, StoreOptions};

use crate::ground::{Ground, lacks, layers, layout, sh};
use crate::memory::{Memory, Part, digest, gzip, tar};

fn refused(ground: &Ground, name: &str) -> String {
    let error = ground.pull(name).unwrap_err();
    assert!(matches!(error.class(), Class::Invalid | Class::NotFound | Class::Denied), "{name}: {error:?}");
    assert_eq!(ground.rubbish(), Vec::<std::path::PathBuf>::new());
    assert!(ground.store.fsck(Repair::No).unwrap().is_sound());
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn image_of(content: &[u8]) -> Memory {
    Memory::new(&[Part { blob: content.to_vec(), content: digest(content) }])
}

#[test]
fn cve_2023_25153_endless_documents_are_not_read() {
    if lacks(&["umoci", "setcap", "setfattr"]) {
        return;
    }
    for file in ["index.json", "oci-layout"] {
        let ground = Ground::new();
        layout(ground.dir.path(), "t", &layers(ground.dir.path())[..1]);
        let huge = fs::OpenOptions::new().write(true).open(ground.path("layout").join(file)).unwrap();
        huge.set_len(10 << 30).unwrap();
        let text = refused(&ground, &format!("oci:{}:t", ground.text("layout")));
        assert!(text.contains("more than"), "{text}");
    }
    let ground = Ground::new();
    sh(ground.dir.path(), "truncate -s 6M manifest.json; tar -cf huge.tar manifest.json");
    let text = refused(&ground, &format!("docker-archive:{}", ground.text("huge.tar")));
    assert!(text.contains("more than"), "{text}");
}

#[test]
fn names_in_layouts_and_archives_do_not_lead_out() {
    if lacks(&["umoci", "setcap", "setfattr"]) {
        return;
    }
    let ground = Ground::new();
    layout(ground.dir.path(), "t", &layers(ground.dir.path())[..1]);
    fs::write(ground.path("secret.tar"), tar(&[("secret", b"canary")])).unwrap();
    let secret = digest(&fs::read(ground.path("secret.tar")).unwrap());
    // A blob that is a link to a file of the host's.
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(ground.path("layout/index.json")).unwrap()).unwrap();
    let blob = manifest["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let at = ground.path("layout/blobs").join(&blob);
    fs::rename(&at, ground.path("outside")).unwrap();
    std::os::unix::fs::symlink(ground.path("outside"), &at).unwrap();
    refused(&ground, &format!("oci:{}:t", ground.text("layout")));
    // And a FIFO, which nobody waits for.
    fs::remove_file(&at).unwrap();
    sh(ground.dir.path(), &format!("mkfifo {}", at.display()));
    refused(&ground, &format!("oci:{}:t", ground.text("layout")));
    for (number, layer) in ["../secret.tar", "/secret.tar", "link", "a/../../secret.tar"].iter().enumerate() {
        let config = format!("{{\"rootfs\":{{\"diff_ids\":[\"{secret}\"]}}}}");
        sh(
            ground.dir.path(),
            &format!(
                "mkdir d{number}; cd d{number}; ln -s ../secret.tar link; echo '{config}' > c.json
                echo '[{{\"Config\":\"c.json\",\"RepoTags\":[\"x:1\"],\"Layers\":[\"{layer}\"]}}]' > manifest.json
                tar -cf ../d{number}.tar link c.json manifest.json"
            ),
        );
        refused(&ground, &format!("docker-archive:{}", ground.text(&format!("d{number}.tar"))));
    }
}

#[test]
fn cve_2026_48749_a_name_that_is_there_twice_is_refused() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let twice = tar(&[("manifest.json", b"[]"), ("x", b""), ("manifest.json", b"[{}]")]);
    fs::write(ground.path("twice.tar"), twice).unwrap();
    let text = refused(&ground, &format!("docker-archive:{}", ground.text("twice.tar")));
    assert!(text.contains("twice"), "{text}");
}

#[test]
fn loops_of_layers_and_links_end() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    sh(
        ground.dir.path(),
        r#"mkdir -p l/a l/b; cd l; echo '{"parent":"b"}' > a/json; echo '{"parent":"a"}' > b/json
        echo '{"x":{"1":"a"}}' > repositories; tar -cf ../loop.tar .
        mkdir k; cd k; ln -s b a; ln -s a b; echo '[{"Config":"a","Layers":["a"]}]' > manifest.json; tar -cf ../../links.tar ."#,
    );
    refused(&ground, &format!("docker-archive:{}", ground.text("loop.tar")));
    refused(&ground, &format!("docker-archive:{}", ground.text("links.tar")));
}

#[test]
fn bombs_end_at_the_limits() {
    if lacks(&[]) {
        return;
    }
    let limits = Limits { bytes: 8 << 20, entries: 1000, depth: 64, ..Limits::default() };
    let ground = Ground::with(StoreOptions { limits, ..StoreOptions::default() });
    let zeros = vec![0; 10 << 20];
    let many: Vec<String> = (0..2000).map(|number| format!("f{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let deep = "d/".repeat(70) + "f";
    for (what, content) in
        [("bytes", tar(&[("f", &zeros)])), ("entries", tar(&many)), ("levels", tar(&[(deep.as_str(), b"")]))]
    {
        let error = ground.pull_from(what, &image_of(&content)).unwrap_err();
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(error.class() == Class::Invalid && text.contains("more than"), "{what}: {text}");
        assert_eq!(ground.rubbish(), Vec::<std::path::PathBuf>::new());
    }
    // A whole archive that is compressed may be one too.
    sh(ground.dir.path(), "head -c 80000000 /dev/zero | gzip > bomb.tar.gz");
    refused(&ground, &format!("docker-archive:{}", ground.text("bomb.tar.gz")));
    ground.pull_from("neighbour", &image_of(&tar(&[("f", b"x")]))).unwrap();
}

#[test]
fn device_nodes_and_setuid_files_are_out_of_the_hosts_reach() {
    if lacks(&["setcap"]) {
        return;
    }
    let ground = Ground::with(StoreOptions::default());
    sh(
        ground.dir.path(),
        "mkdir t; cd t; mknod disk b 8 1; mknod mem c 1 1; mknod hide c 0 0; cp /bin/true su; chmod 4755 su; tar -cf ../t.tar .",
    );
    let image = ground.pull(&format!("tar:{}", ground.text("t.tar"))).unwrap();
    let (_rootfs, mount, tree) = ground.tree("test/x", &image, Backend::Overlay);
    assert!(tree.contains_key(Path::new("su")));
    for device in ["disk", "mem", "hide"] {
        assert!(!tree.contains_key(Path::new(device)), "{device}");
    }
    let flags = rustix::fs::fstatvfs(&mount).unwrap().f_flag;
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::NODEV));
    // Nobody else gets to any of it by a path.
    for place in ["store", "provisioner"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(ground.path(place)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{place}");
    }
}

#[test]
fn whiteouts_of_the_root_and_of_everything_hide_no_more_than_layers_below() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let part = |files: &[(&str, &[u8])]| {
        let content = tar(files);
        Part { blob: gzip(&content), content: digest(&content) }
    };
    let memory = Memory::new(&[
        part(&[("a/", b""), ("a/one", b"1"), ("b", b"")]),
        part(&[(".wh..wh..opq", b""), ("a/two", b"2")]),
        part(&[("a/three", b"3")]),
    ]);
    let image = ground.pull_from("x", &memory).unwrap();
    for backend in [Backend::Overlay, Backend::Copy] {
        let (_rootfs, _mount, tree) = ground.tree(&format!("test/{backend}"), &image, backend);
        let paths: Vec<_> = tree.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/", "a", "a/three", "a/two"], "{backend}");
    }
    let error = ground.provisioner.provision("test/bind", &image, Backend::Bind).unwrap_err();
    assert!(error.to_string().contains("Multiple layers are not supported by the bind backend"), "{error}");
}
