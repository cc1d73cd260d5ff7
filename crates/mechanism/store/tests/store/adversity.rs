// SPDX-License-Identifier: Apache-2.0
//! Killed, cancelled, lied to, out of space.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use berth_image::Cancel;
use berth_model::Class;
use berth_store::{Event, PruneOptions, PullRequest, Repair, Store, StoreError, StoreOptions, Unwatched};

use crate::ground::{Ground, lacks, run};
use crate::memory::{Memory, Part, digest, files, gzip, tar};

/// What a failed pull may leave: nothing.
fn clean(ground: &Ground) {
    assert_eq!(ground.rubbish(), Vec::<std::path::PathBuf>::new());
    let found = ground.store.fsck(Repair::No).unwrap();
    assert!(found.is_sound(), "{:?}", found.problems);
}

fn four() -> Vec<Part> {
    (0..4).map(|seed| files(seed, 200, 20_000)).collect()
}

#[test]
fn ten_pulls_of_a_cold_image_fetch_each_blob_once() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let memory = Memory { pause: Duration::from_millis(1), ..Memory::new(&four()) };
    std::thread::scope(|scope| {
        for number in 0..10 {
            let (memory, ground) = (&memory, &ground);
            scope.spawn(move || {
                // Each with a store of its own, as ten processes have.
                let store = Store::open(&ground.path("store"), StoreOptions::default()).unwrap();
                let name = format!("n{number}");
                let request = PullRequest { name: &name, source: memory, platform: None };
                store.pull(&request, &Cancel::new(), &Unwatched).unwrap()
            });
        }
    });
    let asked = memory.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 5);
    assert!(asked.values().all(|times| *times == 1), "{asked:?}");
    assert_eq!(ground.store.names().unwrap().len(), 10);
    clean(&ground);
}

#[test]
fn a_pull_that_is_cancelled_ends_at_once_and_leaves_nothing() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let memory = Memory::new(&four());
    memory.stuck.store(true, Ordering::SeqCst);
    let cancel = Cancel::new();
    let request = PullRequest { name: "x", source: &memory, platform: None };
    let (result, took) = std::thread::scope(|scope| {
        let pull = scope.spawn(|| ground.store.pull(&request, &cancel, &Unwatched));
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        cancel.cancel();
        (pull.join().unwrap(), begun.elapsed())
    });
    let error = result.unwrap_err();
    assert_eq!(error.class(), Class::Conflict, "{error}");
    assert!(error.to_string().contains("cancelled"), "{error}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    clean(&ground);
    // Who waits for the same blobs is served by nobody, and goes on alone when the other is gone.
    memory.stuck.store(false, Ordering::SeqCst);
    ground.store.pull(&request, &Cancel::new(), &Unwatched).unwrap();
}

/// The child of the test below: pulls what its environment says, slowly.
#[test]
#[ignore = "it is run by another test"]
fn pull_as_a_child() {
    let store = std::env::var_os("BERTH_TEST_STORE").map(PathBuf::from).unwrap();
    let memory = Memory { pause: Duration::from_millis(5), ..Memory::new(&four()) };
    let ready = store.with_file_name("ready");
    let store = Store::open(&store, StoreOptions::default()).unwrap();
    let request = PullRequest { name: "x", source: &memory, platform: None };
    fs::write(ready, "").unwrap();
    store.pull(&request, &Cancel::new(), &Unwatched).unwrap();
}

#[test]
fn a_pull_that_is_killed_leaves_a_sound_store_and_the_next_one_succeeds() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let ready = ground.path("ready");
    let child = || {
        let _ = fs::remove_file(&ready);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "adversity::pull_as_a_child", "--ignored"])
            .env("BERTH_TEST_STORE", ground.path("store"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    };
    let mut first = child();
    let begun = Instant::now();
    assert!(first.wait().unwrap().success());
    let whole = begun.elapsed();
    let (mut killed, mut partial) = (0, 0);
    for moment in 1..=20u32 {
        ground.store.unname("x").unwrap();
        ground.store.prune(&PruneOptions::default()).unwrap();
        assert_eq!(fs::read_dir(ground.path("store/layers")).unwrap().count(), 0);
        let mut child = child();
        std::thread::sleep(whole * moment / 21);
        let _ = child.kill();
        killed += u32::from(!child.wait().unwrap().success());
        partial += u32::from(!ground.rubbish().is_empty());
        let store = Store::open(&ground.path("store"), StoreOptions::default()).unwrap();
        clean(&ground);
        // What a living pull made is found; what is missing comes.
        let memory = Memory::new(&four());
        let request = PullRequest { name: "x", source: &memory, platform: None };
        let image = store.pull(&request, &Cancel::new(), &Unwatched).unwrap();
        assert_eq!(store.find("x").unwrap(), Some(image));
        clean(&ground);
    }
    assert!(killed >= 10 && partial >= 5, "{killed} were killed, {partial} in the middle");
}

#[test]
fn sources_that_lie_are_refused_and_leave_nothing() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let part = || files(1, 3, 100);
    let blob = digest(&part().blob);
    let other = files(2, 3, 100);
    let longer = [&part().blob[..], &gzip(b"")].concat();
    let shorter = part().blob[..part().blob.len() - 1].to_vec();
    let right = || Memory::new(&[part()]);
    let config = digest(&right().blobs.iter().find(|(d, _)| **d != blob).unwrap().1.clone());
    let wrong_content = Part { content: other.content, ..part() };
    let liars: Vec<(&str, Memory, Class)> = vec![
        ("another layer", right().lie(blob, other.blob.clone()), Class::Invalid),
        ("a layer that is longer", right().lie(blob, longer), Class::Invalid),
        ("a layer that is shorter", right().lie(blob, shorter), Class::Invalid),
        ("a layer that is empty", right().lie(blob, Vec::new()), Class::Invalid),
        ("a layer that is no tar", right().lie(blob, vec![b'x'; part().blob.len()]), Class::Invalid),
        ("another configuration", right().lie(config, b"{}".to_vec()), Class::Invalid),
        ("an endless configuration", right().lie(config, vec![b' '; 20 << 20]), Class::Invalid),
        ("other contents than the configuration says", Memory::new(&[wrong_content]), Class::Invalid),
        (
            "a configuration of more layers",
            Memory::with_config(&[part()], &serde_json::json!({"rootfs": {"diff_ids": [blob, blob]}})),
            Class::Invalid,
        ),
        (
            "an image for another system",
            Memory::with_config(&[part()], &serde_json::json!({"os": "windows", "architecture": "amd64"})),
            Class::Unsupported,
        ),
    ];
    for (what, memory, class) in liars {
        let error = ground.pull_from(what, &memory).unwrap_err();
        assert_eq!(error.class(), class, "{what}: {error:?}");
        clean(&ground);
        assert_eq!(ground.store.images().unwrap(), [], "{what}");
        assert_eq!(fs::read_dir(ground.path("store/layers")).unwrap().count(), 0, "{what}");
        // The right configuration has come by now; the next liar shall have no use of it.
        ground.store.prune(&PruneOptions::default()).unwrap();
    }
    ground.pull_from("the honest neighbour", &right()).unwrap();
}

/// A small tmpfs of its own, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Small {
        let dir = tempfile::Builder::new().prefix("berth-full-").tempdir().unwrap();
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=700"),
                "berth-full",
                dir.path().to_str().unwrap(),
            ],
        );
        Small(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.path().to_str().unwrap()]);
    }
}

#[test]
fn a_full_disk_is_said_clearly_and_prune_makes_room() {
    if lacks(&[]) {
        return;
    }
    let small = Small::new("12m");
    let at = small.0.path();
    let store = Store::open(&at.join("store"), StoreOptions::default()).unwrap();
    let pull = |name: &str, memory: &Memory| {
        let request = PullRequest { name, source: memory, platform: None };
        store.pull(&request, &Cancel::new(), &Unwatched)
    };
    let first: Vec<_> = (0..2).map(|seed| files(seed, 200, 20_000)).collect();
    let second: Vec<_> = (5..7).map(|seed| files(seed, 200, 20_000)).collect();
    pull("first", &Memory::new(&first)).unwrap();
    let error = pull("second", &Memory::new(&second)).unwrap_err();
    assert_eq!(error.class(), Class::Exhausted, "{error:?}");
    assert!(error.to_string().contains("berth image prune"), "{error}");
    assert!(store.fsck(Repair::No).unwrap().is_sound());
    assert!(store.find("first").unwrap().is_some() && store.find("second").unwrap().is_none());
    // Filled to the last byte, it still opens, lists and prunes.
    let _ = fs::write(at.join("ballast"), vec![0; 12 << 20]);
    let again = Store::open(&at.join("store"), StoreOptions::default()).unwrap();
    assert_eq!(again.names().unwrap().len(), 1);
    let pruned = again.prune(&PruneOptions { named: true, ..PruneOptions::default() }).unwrap();
    // A layer of the second may have come before there was no more room.
    assert!(pruned.names.len() == 1 && pruned.layers.len() >= 2, "{pruned:?}");
    fs::remove_file(at.join("ballast")).unwrap();
    pull("second", &Memory::new(&second)).unwrap();
}

#[test]
fn a_disk_that_fills_at_any_point_leaves_a_sound_store() {
    if lacks(&[]) {
        return;
    }
    let parts: Vec<_> = (0..3).map(|seed| files(seed, 20, 5_000)).collect();
    let mut failures = 0;
    for kib in (0..600).step_by(28) {
        let small = Small::new("1m");
        let at = small.0.path();
        let store = Store::open(&at.join("store"), StoreOptions::default()).unwrap();
        let left = 1024usize - 4 - kib;
        fs::write(at.join("ballast"), vec![0; left.saturating_sub(40) << 10]).unwrap();
        let memory = Memory::new(&parts);
        let request = PullRequest { name: "x", source: &memory, platform: None };
        match store.pull(&request, &Cancel::new(), &Unwatched) {
            Ok(image) => assert_eq!(store.find("x").unwrap(), Some(image)),
            Err(error) => {
                failures += 1;
                assert_eq!(error.class(), Class::Exhausted, "{kib}: {error:?}");
                assert_eq!(store.find("x").unwrap(), None);
            }
        }
        let found = store.fsck(Repair::No).unwrap();
        assert!(found.is_sound() && found.staging == 0, "{kib}: {found:?}");
        fs::remove_file(at.join("ballast")).unwrap();
        store.pull(&request, &Cancel::new(), &Unwatched).unwrap();
    }
    assert!(failures >= 5, "{failures} pulls failed");
}

#[test]
fn what_was_never_synced_is_made_again_after_a_restart_of_the_machine() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let memory = Memory::new(&four());
    ground.pull_from("x", &memory).unwrap();
    let restart = || {
        let records =
            fs::read_dir(ground.path("store/layers")).unwrap().map(|e| e.unwrap().path().join("record"));
        for file in records.chain([ground.path("store/store")]) {
            let text = fs::read_to_string(&file).unwrap();
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
            fs::write(&file, text.replace(boot.trim(), "11111111-2222-3333-4444-555555555555")).unwrap();
        }
        Store::open(&ground.path("store"), StoreOptions::default()).unwrap()
    };
    let store = restart();
    assert_eq!(store.find("x").unwrap(), None);
    assert_eq!(fs::read_dir(ground.path("store/layers")).unwrap().count(), 0);
    ground.pull_from("x", &memory).unwrap();
    ground.store.sync().unwrap();
    assert!(restart().find("x").unwrap().is_some());
}

#[test]
fn a_layer_that_comes_wrong_is_asked_for_once_more() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    for wrong in [b"<html>not found</html>".to_vec(), files(9, 20, 500).blob] {
        let memory = Memory::new(&[files(1, 20, 500), files(2, 20, 500)]);
        let blob = digest(&files(2, 20, 500).blob);
        *memory.first.lock().unwrap() = Some((blob, wrong));
        ground.pull_from("x", &memory).unwrap();
        assert_eq!(memory.asked.lock().unwrap()[&blob], 2);
        clean(&ground);
        ground.store.prune(&PruneOptions { named: true, ..PruneOptions::default() }).unwrap();
    }
}

#[test]
fn progress_is_told_for_each_layer() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let told = std::sync::Mutex::new(Vec::new());
    let watch = |event: Event<'_>| told.lock().unwrap().push(format!("{event:?}"));
    let memory = Memory::new(&four());
    let request = PullRequest { name: "x", source: &memory, platform: None };
    ground.store.pull(&request, &Cancel::new(), &watch).unwrap();
    let told = told.into_inner().unwrap();
    assert!(told[0].starts_with("Resolved"), "{}", told[0]);
    assert_eq!(told.iter().filter(|event| event.contains("Done")).count(), 4);
    assert!(told.iter().filter(|event| event.contains("Fetching")).count() > 8);
}

#[test]
fn names_that_are_none_are_refused() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    for name in ["", "a\nb", &"x".repeat(5000)] {
        assert!(matches!(ground.store.find(name), Err(StoreError::Name { .. })));
    }
    let memory =
        Memory::new(&[Part { blob: gzip(&tar(&[("f", b"x")])), content: digest(&tar(&[("f", b"x")])) }]);
    ground.pull_from("../../etc/passwd", &memory).unwrap();
    clean(&ground);
}
