// SPDX-License-Identifier: Apache-2.0
//! What a program in `berth run --memory 64m --cpus 0.5 --pids-limit 50 --rootfs DIR` finds.

use berth_test_kernel::{Ground, ground};
use std::collections::BTreeMap;

/// The options of the promise that these tests check.
const OPTIONS: [&str; 6] = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"];

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// `Name: value` of /proc/self/status, by name.
pub(crate) fn status(ground: &Ground, options: &[&str]) -> BTreeMap<String, String> {
    let exit = ground.run(options, &["cat", "/proc/self/status"]);
    let pairs = exit.good().lines().filter_map(|line| line.split_once(":\t"));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn sets(status: &BTreeMap<String, String>) -> [&str; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| status[name].as_str())
}

#[test]
fn the_program_is_process_1_and_sees_only_itself() {
    let ground = ground!();
    let script =
        "echo $$; for p in /proc/[0-9]*; do echo ${p#/proc/}; done; cat /proc/loadavg | cut -d' ' -f5";
    let seen = ground.sh(&OPTIONS, script);
    let seen = lines(seen.good());
    assert_eq!(seen[..2], ["1", "1"], "{seen:?}");
    // What the shell starts for the question itself is all that there is beside it.
    assert!(seen.len() <= 4, "{seen:?}");
    assert!(seen.last().unwrap().parse::<u32>().unwrap() < 10, "{seen:?}");
}

#[test]
fn the_host_name_is_its_own_and_the_hosts_stays() {
    let ground = ground!();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = ground.name("a");
    let seen = ground.run(&["--name", &name], &["hostname"]);
    assert_eq!(seen.good().trim(), &name[..12]);
    assert_ne!(seen.good().trim(), host.trim());
    let seen = ground.run(&["--hostname", "ship.example"], &["hostname"]);
    assert_eq!(seen.good(), "ship.example\n");
    // With what it takes to change it, too.
    let changed = ground.sh(&["--cap-add", "SYS_ADMIN"], "hostname changed && hostname");
    assert_eq!(changed.good(), "changed\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host);
}

#[test]
fn each_namespace_is_another_than_the_hosts() {
    let ground = ground!();
    let names = ["pid", "mnt", "ipc", "uts", "cgroup", "net"];
    let script = names.map(|n| format!("readlink /proc/self/ns/{n};")).concat();
    let seen = ground.sh(&OPTIONS, &script);
    let seen = lines(seen.good());
    assert_eq!(seen.len(), names.len(), "{seen:?}");
    for (name, inside) in names.iter().zip(seen) {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(host.to_string_lossy(), inside);
    }
}

#[test]
fn only_known_mounts_are_inside_and_none_of_the_hosts() {
    let ground = ground!();
    let seen = ground.sh(&OPTIONS, "cut -d' ' -f2,3 /proc/self/mounts");
    let mut mounts: Vec<&str> = lines(seen.good());
    // Masks and read-only binds of /proc depend on what the kernel has.
    mounts.retain(|m| !m.starts_with("/proc/") && !m.starts_with("/sys/"));
    let sandbox = mounts.iter().position(|m| m.starts_with("/mnt/mesos/sandbox "));
    mounts.remove(sandbox.unwrap_or_else(|| panic!("no sandbox in {mounts:?}")));
    let expected = [
        "/ overlay",
        "/proc proc",
        "/dev tmpfs",
        "/dev/pts devpts",
        "/dev/shm tmpfs",
        "/dev/mqueue mqueue",
        "/sys sysfs",
    ];
    assert_eq!(mounts, expected);
    let below = ground.sh(&OPTIONS, "cut -d' ' -f2 /proc/self/mounts | grep -E '^/(proc|sys)/'");
    for point in below.good().lines() {
        let known = ["/proc/", "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/fs/cgroup"];
        assert!(known.iter().any(|k| point.starts_with(k)), "{point}");
    }
}

#[test]
fn mounts_do_not_pass_between_container_and_host() {
    let ground = ground!();
    let volume = ground.directory("volume");
    let option = format!("{}:/volume", volume.display());
    let options = ["--cap-add", "SYS_ADMIN", "-v", &option];
    let mut inside = ground.start(
        &options,
        "mount -t tmpfs none /volume && touch /volume/inside && mount -t tmpfs none /tmp && echo mounted; sleep 60",
    );
    inside.says("mounted");
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains(volume.to_str().unwrap()), "{host}");
    assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 0);
    inside.signal(rustix::process::Signal::KILL);
    inside.end();
}

#[test]
fn the_devices_are_the_harmless_ones_and_work() {
    let ground = ground!();
    let seen = ground.sh(&OPTIONS, "find /dev -type c -o -type b | sort");
    let expected = "/dev/full\n/dev/null\n/dev/pts/ptmx\n/dev/random\n/dev/tty\n/dev/urandom\n/dev/zero\n";
    assert_eq!(seen.good(), expected);
    let works = ground.sh(
        &OPTIONS,
        "head -c 8 /dev/urandom | wc -c; head -c 3 /dev/zero | od -An -tx1; echo x > /dev/null; \
         (echo x > /dev/full) 2>/dev/null || echo full; echo x > /dev/shm/a && cat /dev/shm/a",
    );
    assert_eq!(works.good(), "8\n 00 00 00\nfull\nx\n");
}

#[test]
fn no_device_can_be_made_or_used() {
    let ground = ground!();
    // On the root, in the sandbox, on tmpfs; with the capability too the control group and nodev stop it.
    for (options, name) in [(vec![], "without"), (vec!["--cap-add", "MKNOD"], "with")] {
        let script = "for d in / /mnt/mesos/sandbox /dev /dev/shm; do \
             mknod $d/disk b 254 0 2>/dev/null; mknod $d/mem c 1 1 2>/dev/null; \
             for f in disk mem; do head -c 1 $d/$f >/dev/null 2>&1 && echo read $d/$f; done; done; echo done";
        let seen = ground.sh(&options, script);
        assert_eq!(seen.good(), "done\n", "{name} MKNOD");
    }
}

#[test]
fn only_the_three_standard_descriptors_are_open() {
    let ground = ground!();
    let seen = ground.sh(&OPTIONS, "ls /proc/1/fd; echo");
    assert_eq!(seen.good(), "0\n1\n2\n\n");
}

#[test]
fn capabilities_filter_and_no_new_privileges_are_as_the_profile_says() {
    let ground = ground!();
    let status = status(&ground, &OPTIONS);
    // Docker's without MKNOD.
    let set = "00000000a00425fb";
    let none = "0000000000000000";
    assert_eq!(sets(&status), [none, set, set, set, none]);
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Seccomp"], "2");
    assert_eq!(status["Seccomp_filters"], "1");
    assert_eq!((status["Uid"].as_str(), status["Gid"].as_str()), ("0\t0\t0\t0", "0\t0\t0\t0"));
    assert_eq!(status.get("Groups").map(String::as_str), Some(""));
    assert_eq!((status["SigBlk"].as_str(), status["SigIgn"].as_str()), (none, none));
}

#[test]
fn a_user_other_than_root_has_no_capabilities() {
    let ground = ground!();
    let status = status(&ground, &["-u", "bob"]);
    let [inherited, permitted, effective, _, ambient] = sets(&status);
    let none = "0000000000000000";
    assert_eq!([inherited, permitted, effective, ambient], [none; 4]);
    assert_eq!(status["Groups"], "50");
}

/// A limit as the container reads it: under the file's name of cgroup v1, else of v2.
fn limit(ground: &Ground, options: &[&str], old: &str, new: &str) -> String {
    let script = format!("cd /sys/fs/cgroup; if [ -e {old} ]; then cat {old}; else cat {new}; fi");
    ground.sh(options, &script).good().trim().to_owned()
}

#[test]
fn the_limits_can_be_read_in_the_control_group_files() {
    let ground = ground!();
    assert_eq!(limit(&ground, &OPTIONS, "memory/memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(limit(&ground, &OPTIONS, "pids/pids.max", "pids.max"), "50");
    let script = "cd /sys/fs/cgroup; if [ -e cpu ]; then cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us; \
                  else tr ' ' '\\n' < cpu.max; fi";
    let seen = ground.sh(&OPTIONS, script);
    assert_eq!(seen.good(), "50000\n100000\n");
    // Its own group is the top of what it sees; on cgroup v2 its processes are in a leaf of that.
    let seen = ground.sh(&OPTIONS, "grep -v '^0::/berth.leaf$' /proc/self/cgroup | cut -d: -f3 | sort -u");
    let top = if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "" } else { "/\n" };
    assert_eq!(seen.stdout, top, "{seen:?}");
}

#[test]
fn without_limits_only_processes_are_limited() {
    let ground = ground!();
    assert_eq!(limit(&ground, &[], "pids/pids.max", "pids.max"), "4096");
    assert_eq!(limit(&ground, &["--pids-limit", "-1"], "pids/pids.max", "pids.max"), "max");
    let memory = limit(&ground, &[], "memory/memory.limit_in_bytes", "memory.max");
    assert!(memory == "max" || memory.parse::<u64>().unwrap() > 1 << 60, "{memory}");
}

#[test]
fn a_fork_bomb_stops_at_the_limit_and_the_host_goes_on() {
    let ground = ground!();
    let script = "(for i in $(seq 200); do sleep 60 & done) 2>/dev/null; while :; do read -t 1 _; done";
    let inside = ground.start(&["--pids-limit", "50"], script);
    // The groups on the host know how many there are, and how often more were refused.
    let read = |file: &str| {
        let groups =
            ground.groups().into_iter().flat_map(|g| std::fs::read_dir(g).into_iter().flatten().flatten());
        let texts = groups.filter_map(|g| std::fs::read_to_string(g.path().join(file)).ok());
        texts.filter_map(|text| text.split_whitespace().last()?.parse::<u32>().ok()).max().unwrap_or(0)
    };
    let mut most = 0;
    berth_test_kernel::until("the bomb fills its limit", || {
        most = most.max(read("pids.current"));
        read("pids.events") > 0
    });
    // The shell that was refused ends; those that it made stay.
    let now = read("pids.current");
    assert!((45..=50).contains(&now) && most <= 50, "{now} now, {most} at most");
    // A neighbour still starts.
    assert_eq!(ground.run(&[], &["echo", "alive"]).good(), "alive\n");
    inside.signal(rustix::process::Signal::KILL);
    inside.end();
}

#[test]
fn too_much_memory_is_killed_with_137_and_a_neighbour_lives() {
    let ground = ground!();
    let hog = ground.sh(&["--memory", "16m"], "head -c 64m /dev/zero | tail -c 60m | wc -c");
    assert_ne!(hog.stdout.trim(), "62914560");
    let hog = ground.run(&["--memory", "16m"], &["tail", "-c", "60m", "/dev/zero"]);
    assert_eq!(hog.code, Some(137), "{hog:?}");
    // In /dev/shm it counts too.
    let shm = ground.run(&["--memory", "16m"], &["dd", "if=/dev/zero", "of=/dev/shm/a", "bs=1M", "count=64"]);
    assert_ne!(shm.code, Some(0), "{shm:?}");
    assert_eq!(ground.run(&["--memory", "16m"], &["echo", "alive"]).good(), "alive\n");
}

#[test]
fn half_a_processor_is_half_a_processor() {
    let ground = ground!();
    // Spins for about a second of the clock and tells the processor time that it got.
    let script = "end=$(( $(cut -d. -f1 /proc/uptime) + 3 )); \
                  while [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do :; done; \
                  cd /sys/fs/cgroup; if [ -e cpu ]; then grep nr_throttled cpu/cpu.stat; \
                  else grep nr_throttled cpu.stat; fi";
    let seen = ground.sh(&["--cpus", "0.1"], script);
    let throttled: u64 = seen.good().trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(throttled >= 3, "{seen:?}");
}

#[test]
fn its_network_has_loopback_only_and_it_works() {
    let ground = ground!();
    let seen = ground.sh(
        &OPTIONS,
        "sed -n 's/^ *\\([a-z0-9]*\\):.*/\\1/p' /proc/net/dev; ifconfig lo | grep -c 127.0.0.1",
    );
    assert_eq!(seen.good(), "lo\n1\n");
}

#[test]
fn the_environment_is_not_the_hosts() {
    let ground = ground!();
    let mut command = ground.run_command(&[], &["env"]);
    command.env("SECRET_OF_THE_HOST", "x");
    let seen = berth_test_kernel::Running::start(&mut command).end();
    let mut names: Vec<&str> =
        seen.good().lines().filter_map(|l| l.split_once('=')).map(|(n, _)| n).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "MESOS_SANDBOX", "PATH"]);
}

#[test]
fn the_root_file_system_given_is_not_written_to() {
    let ground = ground!();
    let seen = ground.sh(&[], "echo x > /new && rm /etc/passwd && chmod 0 /etc/group && ls /new");
    assert_eq!(seen.good(), "/new\n");
    assert!(!ground.root().join("new").exists());
    assert!(ground.root().join("etc/passwd").exists());
    assert_eq!(ground.sh(&[], "ls /new; cat /etc/passwd").stdout.lines().count(), 2);
}
