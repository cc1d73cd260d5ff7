// SPDX-License-Identifier: Apache-2.0
//! A real Debian that boots to systemd: its task, its journal in the sandbox, its clean stop, and the hard one. And one that boots
//! to sysvinit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use berth_testing::{lacks, script, until};

use crate::{Ground, ground_of, left};

/// An init, and what is installed for it beside what Debian calls essential.
const SYSTEMD: (&str, &str) = ("systemd", "systemd-sysv");
const SYSVINIT: (&str, &str) = ("sysvinit", "sysvinit-core");
/// Not needed to boot, and most of the time that unpacking takes.
const WITHOUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];

/// Debian's root file system as a tar, made once on a machine and kept as the ones of other tests are.
fn debian((init, packages): (&str, &str)) -> Result<PathBuf, String> {
    if let Some(lacked) = lacks(&["mmdebstrap", "tar"]) {
        return Err(lacked);
    }
    let cache =
        std::env::var_os("BERTH_TEST_CACHE").map_or_else(|| "/var/tmp/berth-test".into(), PathBuf::from);
    let failed = |error: std::io::Error| format!("{}: {error}", cache.display());
    fs::create_dir_all(&cache).map_err(failed)?;
    let tar = cache.join(format!("debian-{init}.tar"));
    let lock = fs::File::create(cache.join(format!("debian-{init}.lock"))).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if !tar.exists() {
        let new = cache.join(format!("debian-{init}.new.tar"));
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=essential", "--include", packages, "--dpkgopt=force-unsafe-io"]);
        // Mirrors are not always fresh; what is in it does not matter here.
        command
            .args(["--aptopt=Acquire::Check-Valid-Until \"false\"", "--aptopt=Acquire::Languages \"none\""]);
        command.args(WITHOUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
        let made = command.arg("bookworm").arg(&new).stdin(Stdio::null()).output().map_err(failed)?;
        if !made.status.success() {
            return Err(format!("a Debian mirror: {}", String::from_utf8_lossy(&made.stderr)));
        }
        fs::rename(new, &tar).map_err(failed)?;
    }
    Ok(tar)
}

/// A template that unpacks it, with a unit that says when it is stopped in good order.
fn template(ground: &Ground, tar: &Path) -> String {
    let path = ground.work_dir().with_file_name("debian");
    let text = format!(
        r#"#!/bin/sh
set -e
for word in "$@"; do
    case $word in --path=*) path=${{word#*=}};; --rootfs=*) rootfs=${{word#*=}};; esac
done
tar -xpf '{}' -C "$rootfs"
echo 'lxc.include = /usr/share/lxc/config/debian.common.conf' >>"$path/config"
units=$rootfs/etc/systemd/system
printf '%s\n' '[Service]' Type=oneshot RemainAfterExit=yes ExecStart=/bin/true \
    'ExecStop=/bin/sh -c "echo in good order >/mnt/mesos/sandbox/stopped"' >"$units/stopped.service"
mkdir -p "$units/multi-user.target.wants"
ln -s ../stopped.service "$units/multi-user.target.wants/stopped.service"
"#,
        tar.display()
    );
    script(&path, &text);
    path.display().to_string()
}

/// Waits for the end of the boot, tells how it went, and has words put into the journal.
const BOOTED: &str = r#"until [ -S /run/systemd/private ]; do sleep 0.1; done
systemctl is-system-running --wait >state
cat /proc/1/comm >init
echo "words for the journal" | systemd-cat -t a-task
journalctl --sync
: >ready
"#;

/// One that does not stop when it is asked to, and has to be stopped before the one that says so.
const STUBBORN: &str = r#"printf '%s\n' '[Unit]' After=stopped.service '[Service]' Type=oneshot RemainAfterExit=yes \
    ExecStart=/bin/true 'ExecStop=/bin/sleep 1000' TimeoutStopSec=infinity >/run/systemd/system/stubborn.service
systemctl start stubborn
"#;

fn run<'a>(template: &'a str, options: &[&'a str], text: &'a str) -> Vec<&'a str> {
    let mut words = vec!["run", "--containerizer", "lxc", "--template", template, "--system"];
    words.extend(options);
    words.extend(["--", "sh", "-c", text]);
    words
}

/// Whether the words are in a journal below the sandbox.
fn in_journal(sandbox: &Path, words: &str) -> bool {
    let journals = fs::read_dir(sandbox.join("log/journal")).into_iter().flatten().flatten();
    let files = journals.flat_map(|entry| fs::read_dir(entry.path()).into_iter().flatten().flatten());
    files.into_iter().any(|file| {
        let bytes = fs::read(file.path()).unwrap_or_default();
        bytes.windows(words.len()).any(|window| window == words.as_bytes())
    })
}

#[test]
fn a_debian_boots_runs_its_task_and_stops_in_good_order_and_hard_where_it_does_not() {
    const TEST: &str = "a_debian_boots_runs_its_task_and_stops_in_good_order_and_hard_where_it_does_not";
    let tar = match debian(SYSTEMD) {
        Ok(tar) => tar,
        Err(lacked) => return berth_test_agent::skip(TEST, &lacked),
    };
    let Some(mut ground) = ground_of(TEST) else { return };
    let template = template(&ground, &tar);
    let api = ground.api();

    // Its task ends, and with it the system.
    let name = ground.name("task");
    let task = format!("{BOOTED}exit 6");
    let done = ground.berth(run(&template, &["--name", &name], &task));
    assert_eq!(done.code, Some(6), "{done:?}");
    let sandbox = ground.sandbox(&name);
    let read = |file: &str| fs::read_to_string(sandbox.join(file)).unwrap_or_default();
    assert_eq!((read("state").as_str(), read("init").as_str()), ("running\n", "systemd\n"));
    assert!(in_journal(&sandbox, "words for the journal"), "the journal is not in the sandbox");
    assert_eq!(read("stopped"), "in good order\n");

    // It is entered, and asked to stop.
    let name = ground.name("stop");
    let task = format!("{BOOTED}exec sleep 1000");
    ground.berth(run(&template, &["-d", "--name", &name], &task)).good();
    let sandbox = ground.sandbox(&name);
    until("the system has booted", || sandbox.join("ready").exists());
    let place = ground.work_dir().join("lxc/containers").display().to_string();
    let own = format!("berth-{name}");
    let inside = ["lxc", "attach", "-P", &place, "-n", &own, "--", "systemctl", "is-active", "stopped"];
    assert_eq!(ground.berth(inside).good(), "active\n");
    ground.berth(["stop", "--time", "60", &name]).good();
    assert_eq!(fs::read_to_string(sandbox.join("stopped")).unwrap_or_default(), "in good order\n");
    assert!(in_journal(&sandbox, "words for the journal"));

    // It is asked to stop and does not, so that it is stopped hard.
    let name = ground.name("hard");
    let task = format!("{BOOTED}{STUBBORN}: >stubborn; exec sleep 1000");
    ground.berth(run(&template, &["-d", "--name", &name], &task)).good();
    let sandbox = ground.sandbox(&name);
    until("the system has booted", || sandbox.join("stubborn").exists());
    ground.berth(["stop", "--time", "1", &name]).good();
    assert!(!sandbox.join("stopped").exists(), "it stopped in good order");
    assert_eq!(left(&ground), Vec::<String>::new());
    for last in ["task", "stop", "hard"] {
        api.remove(&ground.name(last)).unwrap();
    }
    ground.stop();
    fs::remove_dir_all(ground.work_dir().join("lxc")).unwrap();
}

#[test]
fn a_debian_with_sysvinit_boots_runs_its_task_and_stops_in_good_order() {
    const TEST: &str = "a_debian_with_sysvinit_boots_runs_its_task_and_stops_in_good_order";
    const BOOTED: &str =
        "until runlevel | grep -q '[2-5]$'; do sleep 0.1; done; cat /proc/1/comm >init; : >ready";
    let tar = match debian(SYSVINIT) {
        Ok(tar) => tar,
        Err(lacked) => return berth_test_agent::skip(TEST, &lacked),
    };
    let Some(mut ground) = ground_of(TEST) else { return };
    // LXC's wish is that of a failing power supply; what its init does then is said as LXC's own template for Debian says it.
    let path = ground.work_dir().with_file_name("sysvinit");
    let text = format!(
        r#"#!/bin/sh
set -e
for word in "$@"; do
    case $word in --path=*) path=${{word#*=}};; --rootfs=*) rootfs=${{word#*=}};; esac
done
tar -xpf '{}' -C "$rootfs"
echo 'lxc.include = /usr/share/lxc/config/debian.common.conf' >>"$path/config"
sed -i 's/^p[fno]:/#&/' "$rootfs/etc/inittab"
echo 'p0::powerfail:/sbin/init 0' >>"$rootfs/etc/inittab"
sed -i 's|log_action_msg "Will now halt"|&; echo halts >/mnt/mesos/sandbox/stopped|' "$rootfs/etc/init.d/halt"
grep -q sandbox/stopped "$rootfs/etc/init.d/halt"
"#,
        tar.display()
    );
    script(&path, &text);
    let template = path.display().to_string();
    let read =
        |name: &str, file: &str| fs::read_to_string(ground.sandbox(name).join(file)).unwrap_or_default();
    // The last words on the console may be lost to lxc-start, which ends with its container: what counts is written down.
    let halts = |name: &str| assert_eq!(read(name, "stopped"), "halts\n", "{}", read(name, "stdout"));

    // Its task ends, and with it the system.
    let name = ground.name("task");
    let task = format!("{BOOTED}; exit 6");
    let done = ground.berth(run(&template, &["--name", &name], &task));
    assert_eq!(done.code, Some(6), "{done:?}");
    assert_eq!(read(&name, "init"), "init\n");
    halts(&name);

    // It is entered, and asked to stop.
    let name = ground.name("stop");
    let task = format!("{BOOTED}; exec sleep 1000");
    ground.berth(run(&template, &["-d", "--name", &name], &task)).good();
    let ready = ground.sandbox(&name).join("ready");
    until("the system has booted", || ready.exists());
    assert_eq!(ground.berth(["exec", &name, "sh", "-c", "runlevel"]).good(), "N 2\n");
    ground.berth(["stop", "--time", "60", &name]).good();
    halts(&name);
    assert_eq!(left(&ground), Vec::<String>::new());
    for last in ["task", "stop"] {
        ground.api().remove(&ground.name(last)).unwrap();
    }
    ground.stop();
    fs::remove_dir_all(ground.work_dir().join("lxc")).unwrap();
}
