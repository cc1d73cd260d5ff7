// SPDX-License-Identifier: Apache-2.0
//! What is particular to a container that boots: what its init needs of this host, and the signal that it takes for a wish to
//! end.

use std::path::Path;

use berth_contract::Error;
use berth_image::Root;
use berth_model::Class;
use berth_sys::rustix::fs::{OFlags, fstat};

use crate::tools::Config;

/// The first of the real-time signals, as programs count them.
const REAL_TIME: i32 = 34;
/// What LXC sends unless it is told or sees otherwise.
const POWER: i32 = 30;
/// systemd's own signal for a halt; systemd alone blocks it.
const SYSTEMD_HALT: i32 = REAL_TIME + 3;
/// Those that templates name.
const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("TERM", 15),
    ("PWR", POWER),
    ("RTMIN", REAL_TIME),
];

/// Says so if the init of this root file system can not work on this host.
pub(crate) fn check(rootfs: &Path) -> Result<(), Error> {
    let cgroups = Path::new(berth_cgroup::Hierarchies::ROOT);
    let has_its_own = ["systemd/cgroup.procs", "unified/cgroup.procs", "cgroup.controllers"]
        .iter()
        .any(|file| cgroups.join(file).exists());
    if has_its_own || !is_systemd(rootfs) {
        return Ok(());
    }
    let why = "its init is systemd, which needs a hierarchy of control groups for itself, and this host has none: mount one \
               (mkdir /sys/fs/cgroup/systemd; mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd), boot the \
               host with cgroup v2, or use a root file system with sysvinit";
    Err(Error::other(Class::Unsupported, why))
}

/// Whether /sbin/init is systemd.
fn is_systemd(rootfs: &Path) -> bool {
    let Ok(root) = Root::at(rootfs) else { return false };
    let file = |path: &str| {
        let fd = root.open(path, OFlags::PATH).ok()?;
        fstat(&fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
    };
    let init = file("sbin/init");
    init.is_some()
        && ["lib/systemd/systemd", "usr/lib/systemd/systemd"].into_iter().any(|path| file(path) == init)
}

/// The signal that asks the init `pid` to stop the system, as `lxc-stop` finds it.
pub(crate) fn halt(config: &Config, pid: u32) -> i32 {
    halt_of(config, &std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
}

/// The same, by the `status` in /proc of the init.
fn halt_of(config: &Config, status: &str) -> i32 {
    if let Some(named) = config.get("lxc.signal.halt").and_then(number) {
        return named;
    }
    if blocks(status, SYSTEMD_HALT) { SYSTEMD_HALT } else { POWER }
}

/// Whether a process blocks a signal, by its `status` in /proc.
fn blocks(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A signal as LXC writes it: a number, `SIGPWR`, `SIGRTMIN+4`.
fn number(text: &str) -> Option<i32> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let (name, more) = match text.split_once('+') {
        Some((name, more)) => (name, more.parse::<i32>().ok().filter(|more| (0..=30).contains(more))?),
        None => (text, 0),
    };
    let name = name.strip_prefix("SIG")?;
    let found = NAMES.iter().find(|(known, _)| *known == name)?.1;
    (more == 0 || found == REAL_TIME).then_some(found + more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_signal_is_known_as_lxc_writes_it() {
        let told = ["SIGPWR", "SIGUSR1", "SIGRTMIN+3", "37", " SIGTERM "].map(number);
        assert_eq!(told, [Some(30), Some(10), Some(37), Some(37), Some(15)]);
        assert_eq!(["", "0", "65", "PWR", "SIGPWR+1", "SIGRTMIN+99", "SIG"].map(number), [None; 7]);
    }

    #[test]
    fn the_signal_for_a_halt_is_the_configured_one_or_what_the_init_takes() {
        let (named, unnamed) =
            (Config::parse("lxc.signal.halt = SIGUSR1"), Config::parse("lxc.uts.name = a"));
        let systemd = "Name:\tsystemd\nSigBlk:\t7fe3c0fe28014a03\n";
        assert_eq!(halt_of(&unnamed, systemd), SYSTEMD_HALT);
        assert_eq!(halt_of(&named, systemd), 10);
        for other in ["Name:\tinit\nSigBlk:\t0000000000000000\n", "Name:\tinit\n", ""] {
            assert_eq!(halt_of(&unnamed, other), POWER);
            assert_eq!(halt_of(&named, other), 10);
        }
    }

    #[test]
    fn an_init_that_is_systemd_is_found_within_its_root() {
        let place = std::env::temp_dir().join(format!("berth-lxc-system-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        for folder in ["a/usr/lib/systemd", "a/usr/sbin", "b/sbin"] {
            fs::create_dir_all(place.join(folder)).unwrap();
        }
        let (a, b) = (place.join("a"), place.join("b"));
        fs::write(a.join("usr/lib/systemd/systemd"), "").unwrap();
        symlink("usr/lib", a.join("lib")).unwrap();
        symlink("usr/sbin", a.join("sbin")).unwrap();
        symlink("/lib/systemd/systemd", a.join("usr/sbin/init")).unwrap();
        fs::write(b.join("sbin/init"), "").unwrap();
        assert!(is_systemd(&a));
        assert!(!is_systemd(&b));
        fs::remove_dir_all(place).unwrap();
    }
}
