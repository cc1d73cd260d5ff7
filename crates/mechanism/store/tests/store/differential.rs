// SPDX-License-Identifier: Apache-2.0
//! What others make of the same images: nothing may differ.

use std::fs;
use std::path::Path;

use berth_store::Backend;

use crate::ground::{Ground, debian, lacks, layers, layout, run, same, sh, tree, umoci};

const TOOLS: &[&str] = &["umoci", "tar", "setcap", "setfattr"];

#[test]
fn an_image_of_many_tricks_is_as_umoci_has_it() {
    if lacks(TOOLS) {
        return;
    }
    let ground = Ground::new();
    let all = layers(ground.dir.path());
    // Each number of layers is an image: what one layer does must not be mended by the next.
    for count in 1..=all.len() {
        let tag = format!("t{count}");
        layout(ground.dir.path(), &tag, &all[..count]);
        let theirs = umoci(ground.dir.path(), &tag);
        let image = ground.pull(&format!("oci:{}:{tag}", ground.text("layout"))).unwrap();
        assert_eq!(image.layers.len(), count);
        for backend in [Backend::Overlay, Backend::Copy] {
            let holder = format!("test/{backend}-{count}");
            let (rootfs, mount, ours) = ground.tree(&holder, &image, backend);
            same(&format!("{count} layers by {backend}"), &ours, &theirs);
            drop((mount, rootfs));
            assert!(ground.provisioner.destroy(&holder).unwrap());
        }
    }
    assert_eq!(ground.rubbish(), Vec::<std::path::PathBuf>::new());
    assert!(ground.store.fsck(berth_store::Repair::No).unwrap().is_sound());
}

#[test]
fn hard_links_to_files_below_are_as_umoci_has_them() {
    if lacks(TOOLS) {
        return;
    }
    let ground = Ground::new();
    sh(
        ground.dir.path(),
        "mkdir -p a/usr/lib b/usr/lib; ln -s usr/lib a/lib; echo x > a/usr/lib/so; chmod 4711 a/usr/lib/so
        chown 3:4 a/usr/lib/so; chmod 711 a/usr; tar -C a -cf a.tar .
        cp -a a/. b/; ln b/usr/lib/so b/so2; tar -C b -cf b0.tar usr/lib/so so2; tar --delete -f b0.tar usr/lib/so",
    );
    layout(ground.dir.path(), "h", &[ground.path("a.tar"), ground.path("b0.tar")]);
    let theirs = umoci(ground.dir.path(), "h");
    assert!(theirs[Path::new("so2")].contains("same as"), "{:?}", theirs[Path::new("so2")]);
    let image = ground.pull(&format!("oci:{}:h", ground.text("layout"))).unwrap();
    for backend in [Backend::Overlay, Backend::Copy] {
        let (_rootfs, _mount, ours) = ground.tree(&format!("test/{backend}"), &image, backend);
        same(&format!("hard links by {backend}"), &ours, &theirs);
    }
}

#[test]
fn changes_that_umoci_makes_layers_of_come_back() {
    if lacks(TOOLS) {
        return;
    }
    let Some(debian) = debian() else { return };
    let ground = Ground::new();
    layout(ground.dir.path(), "base", &[debian]);
    let image = format!("{}:base", ground.text("layout"));
    let mut theirs = None;
    for step in [
        "rm -r usr/share/doc; mv usr/share/locale usr/share/moved; echo x > etc/new; chmod 4755 usr/bin/env; rm var/lib/dpkg/status",
        "mkdir usr/share/doc; echo y > usr/share/doc/y; ln usr/bin/env usr/bin/env2; rm etc/new; mkdir etc/new; rm -r usr/share/moved",
        "setcap cap_net_raw+ep usr/bin/env2; ln -sfn usr opt; setfattr -n user.a -v b etc/hostname || setfattr -n user.a -v b etc/passwd",
    ] {
        let bundle = ground.text("work");
        run("umoci", &["unpack", "--image", &image, &bundle]);
        sh(&ground.path("work/rootfs"), step);
        run("umoci", &["repack", "--image", &image, &bundle]);
        theirs = Some(tree(&ground.path("work/rootfs")));
        fs::remove_dir_all(&bundle).unwrap();
    }
    // Times of what was not repacked are the same in all of them.
    let theirs_again = umoci(ground.dir.path(), "base");
    let image = ground.pull(&format!("oci:{image}")).unwrap();
    assert!(image.layers.len() >= 4);
    let (_rootfs, _mount, ours) = ground.tree("test/x", &image, Backend::Overlay);
    same("a changed debian", &ours, &theirs_again);
    assert_eq!(ours.len(), theirs.unwrap().len());
}

#[test]
fn archives_of_other_tars_are_as_these_tars_unpack_them() {
    if lacks(&["bsdtar", "tar", "setcap", "setfattr"]) {
        return;
    }
    let ground = Ground::new();
    layers(ground.dir.path());
    let archives = [
        ("gnu", "tar --format=gnu --sparse --numeric-owner -C 1 -cf gnu.tar ."),
        (
            "ustar",
            "tar --format=ustar --numeric-owner -C 1 --exclude='n*' --exclude=longlink --exclude='*deep*' -cf ustar.tar .",
        ),
        ("pax", "tar --format=pax --sparse --xattrs --xattrs-include='*' --numeric-owner -C 1 -cf pax.tar ."),
        ("bsd", "bsdtar --format=pax --xattrs --numeric-owner -C 1 -cf bsd.tar ."),
        ("bsdgnu", "bsdtar --format=gnutar --numeric-owner -C 1 -cf bsdgnu.tar ."),
        ("gz", "tar --format=pax --xattrs --xattrs-include='*' --numeric-owner -C 1 -czf gz.tar ."),
        ("zstd", "tar --format=pax --numeric-owner -C 1 -c . | zstd -q -o zstd.tar"),
        ("xz", "tar --format=pax --numeric-owner -C 1 -c . | xz -0 > xz.tar"),
    ];
    for (name, make) in archives {
        sh(ground.dir.path(), make);
        let unpack = match name.starts_with("bsd") {
            true => {
                format!("mkdir out-{name}; bsdtar --numeric-owner --xattrs -C out-{name} -xpf {name}.tar")
            }
            false => {
                format!(
                    "mkdir out-{name}; tar --numeric-owner --same-owner --xattrs --xattrs-include='*' -C out-{name} -xpf {name}.tar"
                )
            }
        };
        sh(ground.dir.path(), &unpack);
        let theirs = tree(&ground.path(&format!("out-{name}")));
        let image = ground.pull(&format!("tar:{}", ground.text(&format!("{name}.tar")))).unwrap();
        let (_rootfs, _mount, ours) = ground.tree(&format!("test/{name}"), &image, Backend::Overlay);
        same(name, &ours, &theirs);
    }
}
