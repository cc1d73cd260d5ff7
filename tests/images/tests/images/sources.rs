// SPDX-License-Identifier: Apache-2.0
//! The same image from everywhere, and each blob once.

use berth_image::overlay::{Layers, mount};
use berth_test_images::{Entry, Ground, Layer, Layout, Registry, Tree, difference, ground, tool, tree};
use rustix::mount::MountAttrFlags;
use serde_json::json;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Stdio;

/// Three layers with all that makes layers hard.
fn hard_layers() -> Vec<Layer> {
    let below = Layer::of(&[
        Entry::Dir("a", 0o755),
        Entry::File("a/one", 0o640, b"one"),
        Entry::File("a/two", 0o644, b"two"),
        Entry::Dir("opaque", 0o711),
        Entry::File("opaque/hidden", 0o644, b"hidden"),
        Entry::Dir("gone", 0o755),
        Entry::File("gone/x", 0o644, b"x"),
        Entry::File("becomes-a-directory", 0o644, b"file"),
        Entry::Dir("becomes-a-file", 0o755),
        Entry::File("becomes-a-file/x", 0o644, b"x"),
        Entry::File("suid", 0o4755, b"s"),
        Entry::Link("link", "a/one"),
    ]);
    let middle = Layer::of(&[
        Entry::File("a/.wh.one", 0o644, b""),
        Entry::File("opaque/.wh..wh..opq", 0o644, b""),
        Entry::File("opaque/new", 0o600, b"new"),
        Entry::File(".wh.gone", 0o644, b""),
        Entry::File(".wh.becomes-a-directory", 0o644, b""),
        Entry::Dir("sticky", 0o1777),
        Entry::File("first", 0o644, b"linked"),
        Entry::Same("second", "first"),
        Entry::Same("sticky/third", "first"),
    ]);
    let above = Layer::of(&[
        Entry::Dir("becomes-a-directory", 0o750),
        Entry::File("becomes-a-directory/y", 0o644, b"y"),
        Entry::File(".wh.becomes-a-file", 0o644, b""),
        Entry::Dir("a", 0o700),
        Entry::File("a/three", 0o2755, b"three"),
    ]);
    vec![below, middle, above]
}

/// What a container of this image would see, without a container.
fn seen(ground: &Ground, name: &str) -> Tree {
    let store = ground.store();
    let image = store.find(name).unwrap().unwrap_or_else(|| panic!("{name} is not here"));
    let layers = store.open_layers(&image).unwrap();
    let empty = ground.directory("empty");
    let empty = fs::File::open(&empty).unwrap();
    let lower = layers.iter().map(AsFd::as_fd).chain([empty.as_fd()]).collect();
    let layers = Layers { lower, upper: None, volatile: false };
    let mounted = mount(&layers, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap();
    let mut all = tree(Path::new(&format!("/proc/self/fd/{}/.", mounted.as_raw_fd())));
    // The root directory itself is the writable layer's, which takes this from the image.
    all.remove("");
    all
}

#[test]
fn the_same_image_by_all_kinds_of_source_is_the_tree_that_umoci_makes() {
    let ground = ground!("umoci", "skopeo", "docker-registry");
    let layout = Layout::make(&ground.path("layout"), hard_layers(), json!({}));
    let bundle = ground.path("bundle");
    let umoci = layout.name();
    tool("umoci", &["unpack", "--image", umoci.strip_prefix("oci:").unwrap(), bundle.to_str().unwrap()]);
    let mut expected = tree(&bundle.join("rootfs"));
    expected.remove("");
    assert!(expected.len() > 10 && !expected.contains_key("gone"), "{expected:#?}");

    let registry = Registry::start(&ground.path("registry"));
    let oci_archive = format!("oci-archive:{}", ground.path("oci.tar").display());
    let docker_archive = format!("docker-archive:{}", ground.path("docker.tar").display());
    let remote = registry.name("hard:1");
    layout.copy(&format!("{oci_archive}:t"));
    layout.copy(&format!("{docker_archive}:hard:1"));
    layout.copy(&format!("docker://{remote}"));
    for name in [&layout.name(), &oci_archive, &docker_archive, &remote] {
        // Each from the start.
        let _ = fs::remove_dir_all(ground.work_dir().join("store"));
        ground.berth(&["image", "pull", "-q", name]).good();
        assert_eq!(difference(&seen(&ground, name), &expected), [""; 0], "{name}");
        ground.is_sound();
    }
    // A directory of archives, as with Mesos.
    let _ = fs::remove_dir_all(ground.work_dir().join("store"));
    let archives = ground.directory("archives");
    fs::rename(ground.path("docker.tar"), archives.join("hard:1.tar")).unwrap();
    let mut pull = ground.command();
    pull.env("BERTH_DOCKER_REGISTRY", &archives).args(["image", "pull", "-q", "hard:1"]);
    ground.done(&mut pull).good();
    assert_eq!(difference(&seen(&ground, "hard:1"), &expected), [""; 0]);
    // And out again, and in again.
    let out = ground.path("out.tar");
    ground.berth(&["image", "export", "hard:1", "-o", out.to_str().unwrap()]).good();
    ground.berth(&["image", "import", "-q", out.to_str().unwrap(), "again:1"]).good();
    assert_eq!(difference(&seen(&ground, "again:1"), &expected), [""; 0]);
    // A plain tar is an image of one layer.
    let plain = ground.path("plain.tar");
    let rootfs = bundle.join("rootfs");
    tool("tar", &["-C", rootfs.to_str().unwrap(), "-cf", plain.to_str().unwrap(), "."]);
    let plain = format!("tar:{}", plain.display());
    ground.berth(&["image", "pull", "-q", &plain]).good();
    assert_eq!(difference(&seen(&ground, &plain), &expected), [""; 0]);
}

#[test]
fn ten_runs_of_one_cold_image_at_the_same_time_fetch_each_blob_once() {
    let ground = ground!("skopeo", "docker-registry", "busybox");
    let registry = Registry::start(&ground.path("registry"));
    let mut layers = vec![Layer::busybox()];
    layers.extend((1..4).map(|at| Layer::noise(&format!("noise-{at}"), 3 << 20, at)));
    let name = registry.name("cold:1");
    Layout::make(&ground.path("layout"), layers, json!({})).copy(&format!("docker://{name}"));
    let before = registry.sent_blobs();
    let start = |_| {
        let mut run = ground.command();
        run.args(["run", "--rm", &name, "sh", "-c", "ls / | wc -l"]);
        run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..10).map(start).collect();
    let outputs: Vec<_> = running.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, outputs[0].stdout);
    }
    let sent = registry.sent_blobs();
    let new: Vec<_> = sent.iter().map(|(blob, times)| times - before.get(blob).unwrap_or(&0)).collect();
    assert_eq!(new.len(), 5, "{sent:?}");
    assert_eq!(new, [1; 5], "{sent:?}");
    ground.is_sound();
}

#[test]
fn a_mirror_serves_a_registry_of_any_name() {
    let ground = ground!("skopeo", "docker-registry", "busybox");
    let registry = Registry::start(&ground.path("registry"));
    let layout = Layout::make(&ground.path("layout"), vec![Layer::busybox()], json!({}));
    layout.copy(&format!("docker://{}", registry.name("team/app:1")));
    let mirror = registry.name("");
    let text = format!(
        "[registry.\"registry.example\"]\nmirrors = [\"{}\"]\nfallback = \"never\"\n",
        mirror.trim_end_matches('/')
    );
    fs::write(ground.directory("etc").join("registries.toml"), text).unwrap();
    let run = ground.berth(&["run", "--rm", "registry.example/team/app:1", "echo", "mirrored"]);
    assert_eq!(run.good(), "mirrored\n");
    let explained = ground.berth(&["image", "explain-pull", "registry.example/team/app:1"]);
    assert!(explained.good().contains("Mirror") && explained.stdout.contains("here"), "{explained:#?}");
}

#[test]
fn what_was_pushed_is_pulled_again() {
    let ground = ground!("skopeo", "docker-registry", "busybox");
    let registry = Registry::start(&ground.path("registry"));
    let layout =
        Layout::make(&ground.path("layout"), vec![Layer::busybox()], json!({"Cmd": ["echo", "pushed"]}));
    let pull = ground.berth(&["image", "pull", "-q", &layout.name()]);
    // The registry has none of it: layers are packed anew.
    let (one, two) = (registry.name("one:1"), registry.name("two:1"));
    let pushed = ground.berth(&["image", "push", "-q", &layout.name(), &one]);
    assert_ne!(pushed.good(), pull.good());
    assert_eq!(ground.berth(&["run", "--rm", &one]).good(), "pushed\n");
    // What came from a registry goes to it as it was.
    let again = ground.berth(&["image", "push", &one, &two]);
    assert_eq!(again.good(), pushed.good());
    assert!(again.stderr.contains("taken over") || again.stderr.contains("there already"), "{again:#?}");
    let inspected = tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{two}")]);
    assert!(inspected.contains(pushed.good().trim()), "{inspected}");
}
