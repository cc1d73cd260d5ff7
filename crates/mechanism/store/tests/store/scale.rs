// SPDX-License-Identifier: Apache-2.0
//! Many images, many layers, little time.

use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Instant;

use berth_store::{Backend, Store, StoreOptions};
use berth_sys::mounts::Attributes;

use crate::ground::{Ground, lacks};
use crate::memory::{Memory, Part, digest, files, gzip, tar};

#[test]
fn a_hundred_and_thirty_layers_mount_and_run() {
    if lacks(&["busybox"]) {
        return;
    }
    let ground = Ground::new();
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let mut parts: Vec<Part> = Vec::new();
    for number in 0..130 {
        let name = format!("etc/layer-{number}");
        let mut all = vec![("etc/", &b""[..]), (name.as_str(), b"x"), ("etc/last", name.as_bytes())];
        if number == 64 {
            all.extend([("bin/", &b""[..]), ("bin/busybox", &busybox[..])]);
        }
        let content = tar(&all);
        parts.push(Part { blob: gzip(&content), content: digest(&content) });
    }
    let image = ground.pull_from("many", &Memory::new(&parts)).unwrap();
    let rootfs = ground.provisioner.provision("test/many", &image, Backend::Overlay).unwrap();
    let mount = rootfs.mount(None, Attributes::NODEV).unwrap();
    let root = format!("/proc/{}/fd/{}", std::process::id(), mount.as_raw_fd());
    let script = "b=/bin/busybox; $b ls /etc | $b wc -l; $b cat /etc/last";
    let output = Command::new("chroot").args([&root, "/bin/busybox", "sh", "-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.is_empty() {
        // A busybox that needs libraries, or none at all.
        eprintln!("skipped: /bin/busybox does not run alone: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert_eq!(said, "131\netc/layer-129");
}

#[test]
fn a_store_of_three_hundred_images_opens_and_lists_all_and_a_warm_image_is_there_again_and_again() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let base: Vec<Part> = (0..8).map(|seed| files(seed, 3, 100)).collect();
    let mut last = None;
    for number in 0..300 {
        let mut parts: Vec<Part> =
            base.iter().map(|part| Part { blob: part.blob.clone(), content: part.content }).collect();
        parts.push(files(1000 + number, 3, 100));
        last = Some(ground.pull_from(&format!("image-{number}"), &Memory::new(&parts)).unwrap());
    }
    let begun = Instant::now();
    let store = Store::open(&ground.path("store"), StoreOptions::default()).unwrap();
    let opened = begun.elapsed();
    let names = store.names().unwrap();
    let listed = begun.elapsed();
    assert_eq!(names.len(), 300);
    let image = last.unwrap();
    let mut times: Vec<_> = (0..20)
        .map(|number| {
            let begun = Instant::now();
            let image = store.find("image-299").unwrap().unwrap();
            let rootfs =
                ground.provisioner.provision(&format!("test/{number}"), &image, Backend::Overlay).unwrap();
            let mount = rootfs.mount(None, Attributes::NODEV).unwrap();
            (begun.elapsed(), mount).0
        })
        .collect();
    times.sort();
    assert_eq!(image.layers.len(), 9);
    // Told, not asserted: other programs run beside this.
    eprintln!("opened {opened:?}, listed {listed:?}, a warm root file system {:?} (median)", times[10]);
}
