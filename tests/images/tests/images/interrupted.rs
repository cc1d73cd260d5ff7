// SPDX-License-Identifier: Apache-2.0
//! Pulls that are killed, and disks that are full.

use berth_test_images::{Ground, Layer, Layout, Registry, ground, skip, this_test};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub(crate) fn layers(mebibytes: usize) -> Vec<Layer> {
    let noise = |at: u64| Layer::noise(&format!("noise-{at}"), mebibytes << 20, at);
    [Layer::busybox()].into_iter().chain((1..4).map(noise)).collect()
}

#[test]
fn a_pull_that_is_killed_at_any_moment_is_pulled_again_and_leaves_nothing() {
    let ground = ground!("skopeo", "docker-registry", "busybox");
    let registry = Registry::start(&ground.path("registry"));
    let name = registry.name("killed:1");
    Layout::make(&ground.path("layout"), layers(1), json!({})).copy(&format!("docker://{name}"));
    let begun = Instant::now();
    ground.berth(&["image", "pull", "-q", &name]).good();
    let whole = begun.elapsed();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    for round in 0..20 {
        let _ = ground.berth(&["image", "rm", "-f", &name]);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let part = f64::from(u32::try_from(seed >> 40).unwrap()) / f64::from(1u32 << 24);
        let mut pull = ground.command();
        pull.args(["image", "pull", "-q", &name]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut pull = pull.spawn().unwrap();
        std::thread::sleep(whole.mul_f64(part));
        pull.kill().unwrap();
        pull.wait().unwrap();
        ground.berth(&["image", "pull", "-q", &name]).good();
        ground.is_sound();
        let ran = ground.berth(&["run", "--rm", &name, "sh", "-c", "cat noise-* | wc -c"]);
        assert_eq!(ran.good(), format!("{}\n", 3 << 20), "round {round}, seed {seed}");
    }
}

/// A disk of that many bytes. Dropped, it is unmounted.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    pub(crate) fn mount(ground: &Ground, mebibytes: u32) -> Result<Disk, String> {
        let path = ground.directory("disk");
        let options = std::ffi::CString::new(format!("size={mebibytes}m")).unwrap();
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), &*options)
            .map_err(|e| format!("a tmpfs: {e}"))?;
        Ok(Disk(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_said_and_prune_makes_room() {
    let ground = ground!("busybox");
    let disk = match Disk::mount(&ground, 24) {
        Ok(disk) => disk,
        Err(lacked) => return skip(this_test!(), &lacked),
    };
    let work = disk.0.join("work");
    let berth = |args: &[&str]| ground.done(ground.command_in(&work).args(args));
    let small = Layout::make(&ground.path("small"), layers(2), json!({"Cmd": ["echo", "runs"]})).name();
    let large = Layout::make(&ground.path("large"), layers(8), json!({})).name();
    berth(&["image", "pull", "-q", &small]).good();
    let full = berth(&["image", "pull", "-q", &large]);
    full.refused(&["disk is full", "berth image prune"]);
    // Nothing of it is left but what the next try may use; what was there is there.
    assert_eq!(berth(&["run", "--rm", "--pull", "never", &small.clone()]).code, Some(125));
    assert_eq!(berth(&["run", "--rm", &small]).good(), "runs\n");
    berth(&["image", "prune", "-a"]).good();
    let listed = berth(&["image", "ls", "-a", "-q"]);
    assert_eq!(listed.good(), "");
    let used =
        rustix::fs::statvfs(&disk.0).map(|stat| (stat.f_blocks - stat.f_bfree) * stat.f_frsize).unwrap();
    assert!(used < 1 << 20, "{used} bytes are still used");
    berth(&["image", "pull", "-q", &small]).good();
}

#[test]
fn a_pull_ends_at_once_with_a_signal_and_whoever_waits_takes_over() {
    let ground = ground!("skopeo", "docker-registry", "busybox");
    let registry = Registry::start(&ground.path("registry"));
    let name = registry.name("handed:1");
    Layout::make(&ground.path("layout"), layers(2), json!({})).copy(&format!("docker://{name}"));
    let pull = || {
        let mut pull = ground.command();
        pull.args(["image", "pull", "-q", &name]).stdout(Stdio::null()).stderr(Stdio::piped());
        pull.spawn().unwrap()
    };
    let (mut first, second) = (pull(), pull());
    std::thread::sleep(Duration::from_millis(30));
    first.kill().unwrap();
    first.wait().unwrap();
    let output = second.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The second may have looked for what is left before the first was killed; whoever pulls next looks again.
    ground.berth(&["image", "pull", "-q", &name]).good();
    ground.is_sound();
}
