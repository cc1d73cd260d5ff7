// SPDX-License-Identifier: Apache-2.0
//! Containers on kernels that lack what newer ones do better: the same, by the other way.
//!
//! A filter below `berth` makes the kernel an older one (`berth-probe without`), so that the other way is tested on any.
//! What can not be switched off like this is tested where it is: `berth_cgroup::Ways`, `berth_image::overlay::Way`.

use crate::roots::archive;
use berth_test_kernel::{Exit, Ground, Running, ground, skip, this_test};
use std::path::Path;
use std::process::Command;

const PROBE: &str = env!("CARGO_BIN_EXE_berth-probe");

/// `berth run`, in a mount namespace where a further tmpfs is on `place`, on a kernel without these.
#[track_caller]
fn run(ground: &Ground, without: &[&str], place: &Path, options: &[&str], script: &str) -> Exit {
    let berth = ground.run_command(options, &["sh", "-c", script]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount -t tmpfs -o mode=777,noexec below \"$0\" && exec \"$@\"").arg(place);
    command.args([PROBE, "without"]).args(without).arg("--").arg(berth.get_program()).args(berth.get_args());
    Running::start(&mut command).end()
}

/// What is mounted inside with which attributes, what can be written and used, and which descriptors are open.
const LOOK: &str = "
    cut -d ' ' -f 5,6 /proc/self/mountinfo | sed 's/,relatime//' | sort
    for place in / /root /v /v/below /w /w/below /proc/sys/kernel/hostname /v/null /w/null; do
        test -d $place && place=$place/new
        (echo 1 > $place) 2>/dev/null && echo $place can be written
    done
    ls /proc/self/fd
    echo 'echo ran' > /w/below/script; chmod +x /w/below/script; /w/below/script 2>/dev/null
    echo end";

#[test]
fn a_container_is_the_same_on_a_kernel_without_what_newer_ones_do_better() {
    let ground = ground!();
    let volume = ground.directory("v");
    std::fs::create_dir(volume.join("below")).unwrap();
    let file = ground.file("file", "content");
    let mounts = [
        format!("{}:/v:ro", volume.display()),
        format!("{}:/w", volume.display()),
        format!("{}:/etc/given:ro", file.display()),
    ];
    let volumes: Vec<&str> = mounts.iter().flat_map(|mount| ["-v", mount]).collect();
    for more in [&[][..], &["--read-only"], &["--init"], &["-u", "bob"]] {
        let options = [&volumes[..], more].concat();
        let look = |without: &[&str]| {
            let seen = run(&ground, without, &volume.join("below"), &options, LOOK);
            seen.good().to_owned()
        };
        let newer = look(&[]);
        for wanted in ["/v ro", "/v/below ro", "/w/below/new can be written", "/etc/given ro", "end"] {
            assert!(newer.contains(wanted), "{more:?}: {wanted:?} is not in {newer}");
        }
        assert!(!newer.contains("/v/new can") && !newer.contains("/v/below/new can"), "{newer}");
        for without in ["mount_setattr", "CLOSE_RANGE_CLOEXEC", "keyctl"] {
            assert_eq!(look(&[without]), newer, "{more:?} without {without}");
        }
        assert_eq!(look(&["mount_setattr", "CLOSE_RANGE_CLOEXEC", "keyctl"]), newer, "{more:?} without all");
    }
}

#[test]
fn a_root_file_system_of_its_own_has_its_attributes_on_an_older_kernel() {
    let ground = ground!();
    let Some(tar) = archive(&ground, "root.tar", &[]) else { return skip(this_test!(), "tar") };
    let place = ground.directory("elsewhere");
    let options = ["--rootfs", tar.to_str().unwrap()];
    let script = "cut -d ' ' -f 5,6 /proc/self/mountinfo | grep '^/ '; touch /made && echo made";
    let newer = run(&ground, &[], &place, &options, script);
    let older = run(&ground, &["mount_setattr"], &place, &options, script);
    assert!(newer.good().contains("nodev") && newer.stdout.ends_with("made\n"), "{newer:?}");
    assert_eq!(older.good(), newer.good());
}
