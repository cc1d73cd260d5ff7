// SPDX-License-Identifier: Apache-2.0
//! What goes, what stays, and what half of a removal does.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use berth_image::Cancel;
use berth_model::Class;
use berth_store::{Backend, PruneOptions, Repair, Store, StoreOptions, Watermarks, copy_image};

use crate::ground::{Ground, lacks};
use crate::memory::{Memory, Part, files};

fn part(seed: u64) -> Part {
    files(seed, 5, 2000)
}

fn all() -> PruneOptions {
    PruneOptions { named: true, ..PruneOptions::default() }
}

#[test]
fn what_a_container_holds_stays_until_it_lets_go() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let held = ground.pull_from("held", &Memory::new(&[part(1), part(2)])).unwrap();
    ground.pull_from("kept", &Memory::new(&[part(1), part(3)])).unwrap();
    ground.pull_from("gone", &Memory::new(&[part(4)])).unwrap();
    ground.provisioner.provision("agent/a.b", &held, Backend::Overlay).unwrap();
    let keep = vec!["kept".to_owned()];
    let dry = ground.store.prune(&PruneOptions { keep: keep.clone(), dry_run: true, ..all() }).unwrap();
    assert_eq!((dry.names.as_slice(), dry.layers.len()), (&["gone".to_owned()][..], 1));
    let of_held = dry.kept.iter().find(|kept| kept.image == held.manifest).unwrap();
    assert_eq!((of_held.holders.as_slice(), of_held.named), (&["agent/a.b".to_owned()][..], false));
    assert!(ground.store.find("gone").unwrap().is_some(), "it was only asked");
    let pruned = ground.store.prune(&PruneOptions { keep, ..all() }).unwrap();
    assert_eq!((pruned.names, pruned.layers), (dry.names, dry.layers));
    assert!(ground.store.find("held").unwrap().is_some() && ground.store.find("kept").unwrap().is_some());
    ground.store.prune(&all()).unwrap();
    assert!(ground.store.find("held").unwrap().is_some() && ground.store.find("kept").unwrap().is_none());
    // Without its name it is held all the same.
    ground.store.unname("held").unwrap();
    ground.store.prune(&all()).unwrap();
    assert_eq!(ground.store.image(&held.manifest).unwrap().as_ref(), Some(&held));
    assert!(ground.provisioner.destroy("agent/a.b").unwrap());
    assert!(!ground.provisioner.destroy("agent/a.b").unwrap());
    ground.store.prune(&all()).unwrap();
    for place in ["layers", "blobs", "manifests", "images", "leases", "claims", "trash"] {
        assert_eq!(fs::read_dir(ground.path("store").join(place)).unwrap().count(), 0, "{place}");
    }
    assert_eq!(fs::read_dir(ground.path("provisioner/containers")).unwrap().count(), 0);
    let error = ground.store.hold("agent/late", &held).unwrap_err();
    assert_eq!(error.class(), Class::Gone, "{error}");
}

#[test]
fn who_lets_one_image_go_holds_the_others_and_the_last_takes_the_lease_along() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let one = ground.pull_from("one", &Memory::new(&[part(1)])).unwrap();
    let other = ground.pull_from("other", &Memory::new(&[part(2)])).unwrap();
    let held = || ground.store.leases().unwrap().into_iter().map(|lease| lease.images).collect::<Vec<_>>();
    ground.store.hold("agent/a", &one).unwrap();
    ground.store.hold("agent/a", &other).unwrap();
    ground.store.let_go("agent/a", &other).unwrap();
    ground.store.prune(&all()).unwrap();
    assert_eq!(held(), [vec![one.clone()]]);
    assert_eq!(ground.store.open_layers(&one).unwrap().len(), 1);
    assert_eq!(ground.store.open_layers(&other).unwrap_err().class(), Class::Gone);
    for _ in 0..2 {
        ground.store.let_go("agent/a", &one).unwrap();
        assert!(held().is_empty());
    }
}

#[test]
fn a_copy_that_is_cancelled_ends_before_it_is_whole() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let image = ground.pull_from("x", &Memory::new(&[part(1), part(2)])).unwrap();
    let layers = ground.store.open_layers(&image).unwrap();
    let copy = |name: &str, cancel: &Cancel| {
        let path = ground.path(name);
        fs::create_dir(&path).unwrap();
        let dir = fs::File::open(&path).unwrap().into();
        let copied = copy_image(&layers, image.top, &dir, &path, cancel);
        (copied.is_ok(), fs::read_dir(&path).unwrap().count())
    };
    let cancel = Cancel::new();
    assert!(matches!(copy("whole", &cancel), (true, 1..)));
    cancel.cancel();
    assert_eq!(copy("part", &cancel), (false, 0));
}

#[test]
fn recovery_ends_what_nobody_knows_and_nothing_of_others() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    let image = ground.pull_from("x", &Memory::new(&[part(1)])).unwrap();
    for holder in ["agent/known", "agent/lost", "agent/lost.child", "oneshot/lost"] {
        ground.provisioner.provision(holder, &image, Backend::Overlay).unwrap();
    }
    // A lease without a directory, and a directory without a lease: prefixes of making and of destroying.
    ground.store.hold("agent/half", &image).unwrap();
    ground.store.release("agent/lost").unwrap();
    let known = HashSet::from(["agent/known".to_owned()]);
    assert_eq!(ground.provisioner.recover("agent/", &known).unwrap(), 3);
    assert_eq!(ground.provisioner.recover("agent/", &known).unwrap(), 0);
    let mut holders: Vec<_> = ground.store.leases().unwrap().into_iter().map(|lease| lease.holder).collect();
    holders.sort();
    assert_eq!(holders, ["agent/known", "oneshot/lost"]);
    assert_eq!(fs::read_dir(ground.path("provisioner/containers")).unwrap().count(), 2);
}

#[test]
fn the_least_used_goes_first_when_the_disk_fills() {
    if lacks(&[]) {
        return;
    }
    let ground = Ground::new();
    for (seed, name) in [(1, "a"), (2, "b"), (3, "c")] {
        ground.pull_from(name, &Memory::new(&[part(seed)])).unwrap();
    }
    ground.store.touch("a");
    assert!(ground.store.collect(&Watermarks { high: 1.0, ..Watermarks::default() }).unwrap().is_none());
    let marks = Watermarks { high: 0.0, low: 0.0, excluded: vec!["c".into()] };
    let pruned = ground.store.collect(&marks).unwrap().unwrap();
    assert_eq!(pruned.names, ["b", "a"]);
    assert!(ground.store.find("c").unwrap().is_some());
}

/// Every file of a store, removed one at a time in any order, is a state that a crash or an administrator can make.
#[test]
fn any_part_of_a_store_may_be_missing() {
    if lacks(&[]) {
        return;
    }
    let count = {
        let ground = Ground::new();
        ground.pull_from("x", &Memory::new(&[part(1), part(2)])).unwrap();
        pieces(&ground.path("store")).len()
    };
    assert!(count >= 10);
    for missing in 0..count {
        for torn in [false, true] {
            let ground = Ground::new();
            let memory = Memory::new(&[part(1), part(2)]);
            ground.pull_from("x", &memory).unwrap();
            let piece = pieces(&ground.path("store")).swap_remove(missing);
            match torn && piece.is_file() {
                true => fs::write(&piece, "{\"format\":\"ber").unwrap(),
                false if piece.is_dir() => fs::remove_dir_all(&piece).unwrap(),
                false => fs::remove_file(&piece).unwrap(),
            }
            let store = Store::open(&ground.path("store"), StoreOptions::default()).unwrap();
            let found = store.find("x").unwrap();
            store.prune(&PruneOptions::default()).unwrap();
            store.fsck(Repair::Yes).unwrap();
            let sound = store.fsck(Repair::No).unwrap();
            assert!(sound.is_sound(), "{piece:?} {torn}: {sound:?} (found: {})", found.is_some());
            let image = ground.pull_from("x", &memory).unwrap();
            assert_eq!(store.find("x").unwrap(), Some(image), "{piece:?} {torn}");
            assert!(store.fsck(Repair::No).unwrap().is_sound());
        }
    }
}

fn pieces(store: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for place in ["blobs", "layers", "manifests", "images", "claims"] {
        for entry in fs::read_dir(store.join(place)).unwrap() {
            let path = entry.unwrap().path();
            if place == "layers" {
                all.extend([path.join("record"), path.join("rootfs")]);
            }
            all.push(path);
        }
    }
    all.push(store.join("store"));
    all.sort();
    all
}
