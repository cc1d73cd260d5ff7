// SPDX-License-Identifier: Apache-2.0
//! One image in every form that it is saved in: one tree.

use std::fs;

use berth_model::Class;
use berth_store::Backend;

use crate::ground::{Ground, lacks, layers, layout, run, same, sh};

#[test]
fn the_same_image_by_every_kind_of_source_is_the_same_tree() {
    if lacks(&["umoci", "skopeo", "setcap", "setfattr", "zstd"]) {
        return;
    }
    let ground = Ground::new();
    let all = layers(ground.dir.path());
    layout(ground.dir.path(), "t", &all);
    let from = format!("oci:{}:t", ground.text("layout"));
    let to = |kind: &str, name: &str| format!("{kind}:{}", ground.text(name));
    let copy = |to: &str| run("skopeo", &["--insecure-policy", "copy", "-q", &from, to]);
    copy(&(to("oci-archive", "a.tar") + ":tagged"));
    copy(&(to("docker-archive", "d.tar") + ":registry.example/some/name:1"));
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-compress-format",
            "zstd",
            &from,
            &(to("oci", "z") + ":z"),
        ],
    );
    sh(ground.dir.path(), "gzip -k d.tar; zstd -q a.tar -o a.tar.zst; rm -rf p; mkdir p; tar -C p -xf a.tar");
    let names = [
        from.clone(),
        to("oci-archive", "a.tar"),
        to("oci-archive", "a.tar") + ":tagged",
        to("oci-archive", "a.tar.zst"),
        to("oci", "p"),
        to("oci", "z") + ":z",
        to("docker-archive", "d.tar"),
        to("docker-archive", "d.tar") + ":registry.example/some/name:1",
        to("docker-archive", "d.tar.gz"),
    ];
    let mut first = None;
    for (number, name) in names.iter().enumerate() {
        let image = ground.pull(name).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let (_rootfs, _mount, tree) = ground.tree(&format!("test/{number}"), &image, Backend::Overlay);
        same(name, &tree, first.get_or_insert_with(|| tree.clone()));
    }
    let layers = fs::read_dir(ground.path("store/layers")).unwrap().count();
    assert_eq!(layers, 4, "equal layers are stored once, however they came");
    for (name, class) in [
        (to("oci-archive", "a.tar") + ":other", Class::NotFound),
        (to("docker-archive", "d.tar") + ":other:1", Class::NotFound),
        (to("oci", "nowhere"), Class::NotFound),
        (to("docker-archive", "a.tar"), Class::NotFound),
        (to("oci", "1"), Class::NotFound),
        (to("tar", "layout"), Class::Invalid),
        (to("docker-archive", "1.tar"), Class::NotFound),
    ] {
        let error = ground.pull(&name).unwrap_err();
        assert_eq!(error.class(), class, "{name}: {error}");
    }
}

/// As Docker wrote it before version 1.10, made by hand: nobody writes it any more.
#[test]
fn the_old_form_of_docker_save_is_read_also_from_a_directory_of_archives() {
    if lacks(&["umoci", "setcap", "setfattr"]) {
        return;
    }
    let ground = Ground::new();
    let all = layers(ground.dir.path());
    layout(ground.dir.path(), "t", &all);
    sh(
        ground.dir.path(),
        r#"mkdir -p old images/registry.example; parent=
        for n in 1 2 3 4; do
          mkdir old/id$n; cp $n.tar old/id$n/layer.tar; echo 1.0 > old/id$n/VERSION
          echo "{\"id\":\"id$n\",$parent\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Cmd\":[\"c$n\"]}}" > old/id$n/json
          parent="\"parent\":\"id$n\","
        done
        echo '{"registry.example/old":{"1":"id4","base":"id1"}}' > old/repositories
        tar -C old -cf images/registry.example/old:1.tar ."#,
    );
    let reference = "registry.example/old:1".parse().unwrap();
    let cancel = berth_image::Cancel::new();
    let source = berth_store::sources::open_in_directory(
        &ground.path("images"),
        &reference,
        ground.store.path(),
        &cancel,
    );
    let old = ground.pull_from("old", &source.unwrap()).unwrap();
    assert_eq!(ground.store.config(&old).unwrap().runtime.cmd.unwrap(), ["c4"]);
    let new = ground.pull(&format!("oci:{}:t", ground.text("layout"))).unwrap();
    let (_rootfs, _mount, ours) = ground.tree("test/old", &old, Backend::Overlay);
    let (_other, _its_mount, theirs) = ground.tree("test/new", &new, Backend::Overlay);
    same("the old form", &ours, &theirs);
    let base = ground.pull(&format!(
        "docker-archive:{}:registry.example/old:base",
        ground.text("images/registry.example/old:1.tar")
    ));
    assert_eq!(base.unwrap().layers.len(), 1);
    let absent = "registry.example/other:1".parse().unwrap();
    let error = berth_store::sources::open_in_directory(
        &ground.path("images"),
        &absent,
        ground.store.path(),
        &cancel,
    );
    let Err(error) = error else { panic!("there is no such archive") };
    assert!(error.to_string().contains("archive for image 'registry.example/other:1' at"), "{error}");
}

#[test]
fn a_platform_is_chosen_from_an_index_and_a_foreign_image_is_refused() {
    if lacks(&["umoci", "skopeo", "setcap", "setfattr"]) {
        return;
    }
    let ground = Ground::new();
    let all = layers(ground.dir.path());
    layout(ground.dir.path(), "host", &all[..1]);
    layout(ground.dir.path(), "foreign", &all[..2]);
    let image = format!("{}:foreign", ground.text("layout"));
    run("umoci", &["config", "--image", &image, "--architecture", "s390x"]);
    let error = ground.pull(&format!("oci:{image}")).unwrap_err();
    assert!(error.class() == Class::Unsupported && error.to_string().contains("linux/s390x"), "{error}");
    let source = ground.open(&format!("oci:{image}"));
    let platform = Some("linux/s390x".parse().unwrap());
    let request = berth_store::PullRequest { name: "foreign", source: source.as_ref(), platform };
    let cancel = berth_image::Cancel::new();
    ground.store.pull(&request, &cancel, &berth_store::Unwatched).unwrap();
    // Both under one tag, as an index has them.
    let index = ground.path("layout/index.json");
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    for (entry, architecture) in
        document["manifests"].as_array_mut().unwrap().iter_mut().zip(["amd64", "s390x"])
    {
        entry["annotations"]["org.opencontainers.image.ref.name"] = "both".into();
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
    }
    fs::write(&index, document.to_string()).unwrap();
    for name in [format!("oci:{}:both", ground.text("layout")), format!("oci:{}", ground.text("layout"))] {
        assert_eq!(ground.pull(&name).unwrap().layers.len(), 1, "{name}");
    }
}
