// SPDX-License-Identifier: Apache-2.0
//! A group whose tasks have root file systems of different images.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use berth_image::digest_of;
use berth_model::image::{Algorithm, Platform};
use berth_proto::v1::{self, container_info, image};
use serde_json::{Value, json};

use crate::executors::{group, limited, limits, sandbox, until_all_end, until_running};
use crate::ground::on;
use crate::tasks::Told;

/// An image of busybox that knows its name, as a layout of OCI; how it is called.
fn image_of(dir: &Path, name: &str) -> String {
    let (root, blobs) = (dir.join("root"), dir.join("blobs/sha256"));
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("busybox")).find(|path| path.is_file());
    fs::copy(found.unwrap(), root.join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "sleep"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("name"), name).unwrap();
    let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().unwrap();
    assert!(tar.status.success(), "{tar:?}");
    let put = |bytes: &[u8], kind: &str| {
        let digest = digest_of(Algorithm::Sha256, bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": kind, "digest": digest.to_string(), "size": bytes.len() })
    };
    let text = |value: Value| value.to_string().into_bytes();
    let layer = put(&tar.stdout, "layer.v1.tar");
    let rootfs = json!({ "type": "layers", "diff_ids": [layer["digest"]] });
    let config = json!({ "os": "linux", "architecture": Platform::host().architecture, "config": {}, "rootfs": rootfs });
    let config = put(&text(config), "config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let mut manifest = put(&text(manifest), "manifest.v1+json");
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "t" });
    fs::write(dir.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string())
        .unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    format!("oci:{}:t", dir.display())
}

fn with_image(mut task: v1::TaskInfo, reference: String) -> v1::TaskInfo {
    let oci = image::Oci { reference, ..image::Oci::default() };
    let image = v1::Image { r#type: image::Type::Oci as i32, oci: Some(oci), ..v1::Image::default() };
    let container = task.container.get_or_insert_default();
    container.mesos = Some(container_info::MesosInfo { image: Some(image) });
    task
}

#[test]
fn tasks_of_a_group_have_root_file_systems_and_limits_of_their_own() {
    if let Some(lacked) = berth_testing::lacks(&["busybox", "tar"]) {
        return berth_testing::skip("roots", &lacked);
    }
    on("grouproots", |ground| {
        let images = tempfile::tempdir().unwrap();
        ground.start();
        let told = Told::of(ground);
        let which = "cat /name; sleep 1000";
        told.give(group(vec![
            with_image(limited("a", which, 40.0), image_of(&images.path().join("one"), "one")),
            with_image(limited("b", which, 64.0), image_of(&images.path().join("two"), "two")),
            limited(
                "d",
                "test ! -e /name && echo host; while [ ! -e go ]; do sleep 0.01; done; exit 9",
                96.0,
            ),
        ]));
        let running = until_running(&told, 3);
        let limits = limits(ground);
        for (task, mib) in [("a", 40u64), ("b", 64), ("d", 96)] {
            let id = running[task].container_status.clone().unwrap().container_id.unwrap().value;
            assert_eq!(limits[&id], json!(mib << 20), "{task}");
        }
        let file = |name: &str| sandbox(ground, "group").join("tasks").join(name);
        for (task, expected) in [("a", "one"), ("b", "two"), ("d", "host\n")] {
            let path = file(task).join("stdout");
            let wrote = || fs::read_to_string(&path).is_ok_and(|wrote| wrote == expected);
            berth_testing::until(&format!("{task} finds {expected:?} in its root"), wrote);
        }
        fs::write(file("d").join("go"), "").unwrap();
        let all = until_all_end(&told, 3);
        assert_eq!(all["d"], ["FAILED: Command exited with status 9"]);
        for task in ["a", "b"] {
            assert_eq!(all[task], ["KILLING", "KILLED: Command terminated with signal Terminated"]);
        }
    });
}
