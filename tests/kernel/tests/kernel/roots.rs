// SPDX-License-Identifier: Apache-2.0
//! Root file systems from archives.

use berth_test_kernel::{Ground, ground, skip, this_test};
use std::path::PathBuf;
use std::process::Command;

/// An archive of the ground's root file system.
pub(crate) fn archive(ground: &Ground, name: &str, option: &[&str]) -> Option<PathBuf> {
    let path = ground.path(name);
    let mut tar = Command::new("tar");
    tar.args(option).arg("-cf").arg(&path).arg("-C").arg(ground.root()).arg(".");
    tar.output().ok().filter(|o| o.status.success()).map(|_| path)
}

#[test]
fn an_archive_is_a_root_file_system_plain_or_compressed() {
    let ground = ground!();
    for (name, option) in
        [("a.tar", &[][..]), ("a.tar.gz", &["-z"]), ("a.tar.xz", &["-J"]), ("a.tar.zst", &["--zstd"])]
    {
        let Some(path) = archive(&ground, name, option) else {
            return skip(this_test!(), &format!("tar {option:?}"));
        };
        let rootfs = path.to_str().unwrap();
        let seen = ground.unchanged(|| {
            ground.sh(&["--rootfs", rootfs], "id -u; cat /etc/passwd | wc -l; touch /a && echo made")
        });
        assert_eq!(seen.good(), "0\n2\nmade\n", "{name}");
        assert_eq!(ground.run(&["--rootfs", rootfs, "-u", "bob"], &["id", "-u"]).good(), "1000\n");
        assert_eq!(
            ground.sh(&["--rootfs", rootfs, "--read-only"], "(touch /a) 2>/dev/null || echo sealed").good(),
            "sealed\n"
        );
    }
}

#[test]
fn the_name_of_an_archive_does_not_decide_its_format() {
    let ground = ground!();
    let Some(path) = archive(&ground, "misnamed.tar.xz", &["-z"]) else {
        return skip(this_test!(), "tar -z");
    };
    assert_eq!(ground.run(&["--rootfs", path.to_str().unwrap()], &["echo", "ok"]).good(), "ok\n");
}
