// SPDX-License-Identifier: Apache-2.0
//! Attacks that others fell for, replayed. docs/security.md says which test stands for which. Each also shows that a
//! harmless neighbour of the attack works.

use crate::inside::status;
use berth_test_kernel::{Ground, Running, Terminal, ground, skip, this_test};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const PROBE: &str = env!("CARGO_BIN_EXE_berth-probe");

/// What a program prints and where it ends, both of which tell that it never ran.
fn never_ran(ground: &Ground, options: &[&str], command: &[&str]) -> String {
    let exit = ground.unchanged(|| ground.run(options, command));
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(125), ""), "{exit:?}");
    exit.stderr
}

fn sum(path: &Path) -> Vec<u8> {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// A directory of the host that nothing may touch, holding a file and one named `ptmx`.
struct Canary {
    path: std::path::PathBuf,
    before: Vec<(String, u32, u32, Vec<u8>)>,
}

impl Canary {
    fn new(ground: &Ground) -> Canary {
        let path = ground.directory("canary");
        for name in ["ptmx", "null", "console"] {
            fs::write(path.join(name), "canary").unwrap();
        }
        fs::create_dir(path.join("pts")).unwrap();
        let before = Canary::look(&path);
        Canary { path, before }
    }

    fn look(path: &Path) -> Vec<(String, u32, u32, Vec<u8>)> {
        let mut all: Vec<_> = fs::read_dir(path)
            .unwrap()
            .flatten()
            .map(|e| {
                let meta = e.path().symlink_metadata().unwrap();
                let content = fs::read(e.path()).unwrap_or_default();
                (e.file_name().into_string().unwrap(), meta.mode(), meta.uid(), content)
            })
            .collect();
        all.sort();
        all
    }

    #[track_caller]
    fn untouched(&self) {
        assert_eq!(Canary::look(&self.path), self.before);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.path.to_str().unwrap()), "{mounts}");
    }
}

#[test]
fn cve_2016_9962_nothing_of_the_runtime_can_be_traced_or_read() {
    let ground = ground!();
    // The only process of ours inside is the init; it gives its descriptors to nobody, root inside included.
    let script = "for f in /proc/1/fd/* /proc/1/cwd /proc/1/root /proc/1/exe; do readlink $f; done; \
                  cat /proc/1/environ 2>/dev/null; \
                  cat /proc/1/mem >/dev/null 2>&1 && echo read; (ls /proc/1/root/) >/dev/null 2>&1 && echo entered; echo done";
    assert_eq!(ground.sh(&["--init"], script).good(), "done\n");
    // Who may trace finds no directory, no file but the output, and nothing of the host's.
    let script = "for f in /proc/1/fd/*; do readlink $f; done; tr '\\0' '\\n' < /proc/1/environ";
    let seen = ground.sh(&["--init", "--cap-add", "SYS_PTRACE"], script);
    for line in seen.good().lines() {
        let known = line == "/dev/null"
            || line.ends_with("/stdout")
            || line.ends_with("/stderr")
            || line.starts_with("anon_inode:");
        assert!(known, "{seen:?}");
    }
}

#[test]
fn cve_2019_5736_an_entrypoint_that_is_proc_self_exe_runs_nothing_of_the_hosts() {
    let ground = ground!();
    let before = sum(ground.program());
    let script = ground.root().join("bin/again");
    berth_testing::script(&script, "#!/proc/self/exe\n");
    symlink("/proc/self/exe", ground.root().join("bin/link")).unwrap();
    for program in ["/bin/again", "/bin/link", "/proc/self/exe", "/proc/1/exe"] {
        let exit = ground.run(&["--cap-add", "SYS_PTRACE"], &[program, "run", "x"]);
        // Only berth-init is there to be executed, and without its socket it ends at once.
        assert!(matches!(exit.code, Some(125..=127)) && exit.stdout.is_empty(), "{program}: {exit:?}");
    }
    assert_eq!(sum(ground.program()), before);
    // Who mounts it there may execute it, from a process that is not it.
    let volume = format!("{}:/mnt/berth", ground.program().display());
    let seen = ground.sh(&["--volume", &volume], "/mnt/berth --version; exec /mnt/berth --version");
    assert_eq!(seen.good().lines().filter(|line| line.starts_with("berth ")).count(), 2);
    let exit = ground.run(&["--volume", &volume], &["/mnt/berth", "--version"]);
    assert!(exit.good().starts_with("berth "), "{exit:?}");
    let neighbour = "#!/bin/sh\necho fine\n";
    fs::write(&script, neighbour).unwrap();
    assert_eq!(ground.run(&[], &["/bin/again"]).good(), "fine\n");
}

#[test]
fn cve_2019_5736_the_init_inside_can_not_be_written() {
    let ground = ground!();
    let before = sum(ground.program());
    // Once while it runs, once after all who run it: the copy is sealed, and each container has its own.
    let script = "cat /proc/1/comm; sha256sum < /proc/1/exe; \
                  for n in 1 2 3; do (echo x > /proc/1/exe) 2>/dev/null && echo written; \
                  (echo x >> /proc/1/exe) 2>/dev/null && echo appended; done; sha256sum < /proc/1/exe";
    let seen = ground.sh(&["--init", "--cap-add", "SYS_PTRACE"], script);
    let lines: Vec<&str> = seen.good().lines().collect();
    assert_eq!((lines.len(), lines[1]), (3, *lines.last().unwrap()), "{lines:?}");
    // Through a descriptor that was opened for reading before.
    let script = "exec 5< /proc/1/exe; (echo x > /proc/self/fd/5) 2>/dev/null && echo written; chmod 777 /proc/self/fd/5 2>/dev/null; \
                  (echo x > /proc/self/fd/5) 2>/dev/null && echo written; echo done";
    assert_eq!(ground.sh(&["--init", "--cap-add", "SYS_PTRACE"], script).good(), "done\n");
    assert_eq!(sum(ground.program()), before);
    assert_eq!(ground.run(&["--init"], &["echo", "fine"]).good(), "fine\n");
}

#[test]
fn cve_2019_16884_proc_sys_and_dev_as_links_are_refused() {
    let ground = ground!();
    let canary = Canary::new(&ground);
    let root = ground.another_root("linked");
    let absolute = canary.path.to_str().unwrap().to_owned();
    for name in ["proc", "sys", "dev"] {
        let at = root.join(name);
        for to in [absolute.as_str(), "../canary", "tmp", "/tmp", "/proc/self/cwd", "missing", name] {
            symlink(to, &at).unwrap();
            let why = never_ran(&ground, &["--rootfs", root.to_str().unwrap()], &["true"]);
            assert!(why.contains(&format!("/{name}")), "{name} -> {to}: {why}");
            canary.untouched();
            fs::remove_file(&at).unwrap();
        }
        fs::write(&at, "").unwrap();
        never_ran(&ground, &["--rootfs", root.to_str().unwrap()], &["true"]);
        fs::remove_file(&at).unwrap();
    }
    // A root with a directory, and one without any of them, work: what is mounted is the kernel's.
    fs::create_dir(root.join("proc")).unwrap();
    fs::write(root.join("proc/version"), "forged").unwrap();
    let seen = ground.sh(&["--rootfs", root.to_str().unwrap()], "cat /proc/version");
    assert!(seen.good().starts_with("Linux version"), "{seen:?}");
    canary.untouched();
}

#[test]
fn cve_2019_16884_no_volume_lies_over_proc_or_sys() {
    let ground = ground!();
    let volume = ground.directory("fake");
    fs::create_dir_all(volume.join("self/attr")).unwrap();
    let v = |to: &str| format!("{}:{to}", volume.display());
    for to in ["/proc", "/proc/self/attr", "/sys", "/sys/fs/cgroup", "//proc//", "/./proc/."] {
        let why = never_ran(&ground, &["-v", &v(to)], &["true"]);
        assert!(why.contains("/proc or /sys"), "{why}");
    }
    // By way of a link of the root file system, too.
    for (name, to) in [("p", "/proc"), ("q", "proc/self"), ("r", "../../sys"), ("s", "/proc/1/root")] {
        symlink(to, ground.root().join(name)).unwrap();
        never_ran(&ground, &["-v", &v(&format!("/{name}"))], &["true"]);
        never_ran(&ground, &["-v", &v(&format!("/{name}/attr"))], &["true"]);
    }
    // Nor over what we put there ourselves.
    for (name, to) in [("u", "/sys/fs/cgroup"), ("w", "/proc/acpi"), ("x", "sys/firmware")] {
        if Path::new("/").join(to).exists() {
            symlink(to, ground.root().join(name)).unwrap();
            never_ran(&ground, &["-v", &v(&format!("/{name}"))], &["true"]);
        }
    }
    let file = ground.file("fake-file", "x");
    symlink("/proc/keys", ground.root().join("y")).unwrap();
    never_ran(&ground, &["-v", &format!("{}:/y", file.display())], &["true"]);
    symlink("/tmp", ground.root().join("t")).unwrap();
    let seen = ground.sh(&["-v", &v("/t/in")], "ls /tmp/in; cat /proc/self/comm");
    assert_eq!(seen.good(), "self\ncat\n");
}

#[test]
fn cve_2022_29162_inheritable_capabilities_are_empty() {
    let ground = ground!();
    let none = "0000000000000000";
    for options in [
        &[][..],
        &["--cap-add", "NET_ADMIN"],
        &["--cap-add", "ALL"],
        &["-u", "bob"],
        &["-u", "bob", "--cap-add", "NET_ADMIN"],
        &["--init"],
    ] {
        let status = status(&ground, options);
        assert_eq!((status["CapInh"].as_str(), status["CapAmb"].as_str()), (none, none), "{options:?}");
    }
    let status = status(&ground, &["-u", "bob", "--cap-add", "NET_ADMIN"]);
    assert_eq!((status["CapEff"].as_str(), status["CapBnd"].as_str()), (none, "00000000a00435fb"));
}

#[test]
fn cve_2023_25809_control_groups_can_not_be_written_inside() {
    let ground = ground!();
    let script = "cd /sys/fs/cgroup; for f in $(find . -type f); do (echo 1 > $f) 2>/dev/null && echo wrote $f; done; \
                  for d in $(find . -type d); do mkdir $d/new 2>/dev/null && echo made $d/new; done; \
                  mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo remounted; \
                  find . -name '*.max' -o -name '*limit_in_bytes' | grep -q . && echo readable";
    assert_eq!(ground.sh(&["--memory", "64m"], script).good(), "readable\n");
}

#[test]
fn cve_2024_21626_no_working_directory_leads_out() {
    let ground = ground!();
    for n in 0..64 {
        let path = format!("/proc/self/fd/{n}");
        never_ran(&ground, &["-w", &path], &["ls", "-id", "."]);
    }
    for path in ["/proc/self/cwd", "/proc/1/root", "/proc/1/cwd", "/dev/fd/5", "/proc/thread-self/root"] {
        never_ran(&ground, &["-w", path], &["ls", "-id", "."]);
    }
    symlink("/proc/self/fd/7", ground.root().join("leak")).unwrap();
    never_ran(&ground, &["-w", "/leak"], &["pwd"]);
    never_ran(&ground, &["-w", "/leak/deeper"], &["pwd"]);
    let seen = ground.sh(&["-w", "/etc/../etc/."], "[ . -ef /etc ] && pwd");
    assert_eq!(seen.good(), "/etc\n");
    // From inside, no descriptor leads anywhere either.
    let script =
        "for n in $(seq 0 99); do cd /proc/self/fd/$n 2>/dev/null && echo entered $n; done; echo done";
    assert_eq!(ground.sh(&[], script).good(), "done\n");
}

#[test]
fn descriptors_that_berth_inherited_are_not_inherited_further() {
    let ground = ground!();
    // Many, without close-on-exec, of a directory of the host: as a careless parent has them.
    let open: String = (3..=9).map(|n| format!("exec {n}</; ")).collect();
    let more = "for n in $(seq 20 120); do eval \"exec $n</\"; done; ";
    if !Path::new("/bin/bash").exists() {
        return skip(this_test!(), "/bin/bash");
    }
    for options in [&[][..], &["--init"], &["-i"]] {
        let inner = ground.run_command(options, &["sh", "-c", "ls /proc/1/fd; ls /proc/self/fd"]);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let words: Vec<String> = words.map(|w| format!("'{}'", w.to_str().unwrap())).collect();
        let mut command = Command::new("/bin/bash");
        command.args(["-c", &format!("{open}{more}exec {}", words.join(" "))]);
        command.stdin(std::process::Stdio::null());
        let seen = Running::start(&mut command).end();
        let numbers: Vec<u32> = seen.good().lines().map(|l| l.parse().unwrap()).collect();
        // The init's own two, and the directory that is being listed.
        let expected =
            if options == ["--init"] { vec![0, 1, 2, 3, 4, 0, 1, 2, 3] } else { vec![0, 1, 2, 0, 1, 2, 3] };
        assert_eq!(numbers, expected, "{options:?}");
    }
}

#[test]
fn cve_2025_31133_links_in_place_of_dev_null_mask_nothing_else() {
    let ground = ground!();
    let canary = Canary::new(&ground);
    let root = ground.another_root("linked");
    fs::create_dir(root.join("dev")).unwrap();
    let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    for to in ["/proc/sys/kernel/core_pattern", "../canary/null", canary.path.join("null").to_str().unwrap()]
    {
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            symlink(to, root.join("dev").join(name)).unwrap();
        }
        let script = "stat -c '%F %t:%T' /dev/null; for f in keys timer_list kcore; do \
                      [ -e /proc/$f ] && { [ \"$(head -c 1 /proc/$f | wc -c)\" = 0 ] || echo shown $f; }; done; \
                      stat -c %t:%T /proc/keys; ls -ld /dev/null | cut -c1-10";
        let seen = ground.sh(&["--rootfs", root.to_str().unwrap()], script);
        assert_eq!(seen.good(), "character special file 1:3\n1:3\ncrw-rw-rw-\n");
        canary.untouched();
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            fs::remove_file(root.join("dev").join(name)).unwrap();
        }
    }
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}

#[test]
fn cve_2025_52565_links_in_place_of_the_console_and_pts_are_not_followed() {
    let ground = ground!();
    let canary = Canary::new(&ground);
    let root = ground.another_root("linked");
    fs::create_dir(root.join("dev")).unwrap();
    let run = |ground: &Ground| {
        let options = ["-it", "--rootfs", root.to_str().unwrap()];
        let script = "stat -c '%F %t:%T' /dev/console $(tty); ls /dev/pts";
        Terminal::start(&mut ground.run_command(&options, &["sh", "-c", script]), 24, 80).end()
    };
    for to in [canary.path.to_str().unwrap(), "/proc/sys/kernel", "../canary"] {
        for name in ["console", "pts", "ptmx"] {
            symlink(to, root.join("dev").join(name)).unwrap();
        }
        let shown = run(&ground);
        assert!(
            shown.code == Some(0) && shown.stdout.matches("character special file 88:0").count() == 2,
            "{to}: {shown:?}"
        );
        canary.untouched();
        for name in ["console", "pts", "ptmx"] {
            fs::remove_file(root.join("dev").join(name)).unwrap();
        }
    }
    assert_eq!(run(&ground).code, Some(0));
}

#[test]
fn cve_2026_41579_a_dev_that_is_a_link_deletes_nothing_on_the_host() {
    let ground = ground!();
    let canary = Canary::new(&ground);
    let root = ground.another_root("linked");
    for to in [canary.path.to_str().unwrap(), "../canary", "/../../../canary"] {
        symlink(to, root.join("dev")).unwrap();
        for tty in [&["--init"][..], &["-t"], &["--read-only"]] {
            let mut options = tty.to_vec();
            options.extend(["--rootfs", root.to_str().unwrap()]);
            never_ran(&ground, &options, &["true"]);
            canary.untouched();
        }
        fs::remove_file(root.join("dev")).unwrap();
    }
    fs::create_dir(root.join("dev")).unwrap();
    fs::write(root.join("dev/ptmx"), "mine").unwrap();
    ground.run(&["--rootfs", root.to_str().unwrap()], &["true"]).good();
    assert_eq!(fs::read_to_string(root.join("dev/ptmx")).unwrap(), "mine");
}

#[test]
fn cve_2026_47766_entries_of_dev_that_are_links_are_covered_not_followed() {
    let ground = ground!();
    let canary = Canary::new(&ground);
    let root = ground.another_root("linked");
    fs::create_dir(root.join("dev")).unwrap();
    for name in ["fd", "stdin", "stdout", "stderr", "core", "ptmx", "shm", "mqueue", "pts", "null", "console"]
    {
        symlink(canary.path.join(name), root.join("dev").join(name)).unwrap();
    }
    let seen = ground.sh(
        &["--rootfs", root.to_str().unwrap()],
        "readlink /dev/fd; ls -d /dev/shm/. /dev/pts/.; echo x > /dev/shm/a; echo out >> /dev/stdout",
    );
    assert_eq!(seen.good(), "/proc/self/fd\n/dev/pts/.\n/dev/shm/.\nout\n");
    canary.untouched();
    // The same in the places of ours that are no file system of the kernel's.
    let root = ground.another_root("sandbox-linked");
    for (at, to) in [("mnt", canary.path.to_str().unwrap()), ("mnt", "../canary")] {
        symlink(to, root.join(at)).unwrap();
        let exit = ground.run(&["--rootfs", root.to_str().unwrap()], &["true"]);
        assert!(matches!(exit.code, Some(0 | 125)), "{exit:?}");
        canary.untouched();
        fs::remove_file(root.join(at)).unwrap();
    }
}

/// What containers/crun#2249 did to a file of the host, done to the device that is our stdin.
#[test]
fn the_hosts_dev_null_can_not_be_changed_through_standard_input() {
    let ground = ground!();
    let look = || {
        let null = fs::metadata("/dev/null").unwrap();
        assert!(null.file_type().is_char_device());
        (null.mode(), null.uid(), null.gid())
    };
    let before = look();
    for options in [&[][..], &["--init"], &["-u", "bob"], &["--read-only"]] {
        // A null that a neighbour can not use any more would be a change, too; so it is the container's own.
        let script = "for f in /proc/self/fd/0 /proc/1/fd/0 /dev/stdin; do \
                      chown 5:5 $f; chmod 600 $f; touch -d 2001-01-01 $f; done 2>/dev/null; echo done";
        let seen = ground.sh(options, script);
        let after = look();
        if after != before {
            // Put right what the attack did, so that the machine can be used on.
            let _ = fs::set_permissions("/dev/null", fs::Permissions::from_mode(before.0 & 0o7777));
            let _ = std::os::unix::fs::chown("/dev/null", Some(before.1), Some(before.2));
        }
        assert_eq!(after, before, "{options:?}");
        assert_eq!(seen.good(), "done\n");
    }
    assert_eq!(
        ground.sh(&[], "cat; readlink /proc/self/fd/0; echo x >&0; echo fine").good(),
        "/dev/null\nfine\n"
    );
}

#[test]
fn cve_2022_0492_no_control_group_can_be_mounted_and_no_release_agent_written() {
    let ground = ground!();
    let script = "unshare -Urm true 2>/dev/null && echo user; unshare -m true 2>/dev/null && echo mount; \
                  mkdir /c; mount -t cgroup -o memory none /c 2>/dev/null && echo mounted; \
                  mount -t cgroup2 none /c 2>/dev/null && echo mounted2; \
                  find / -name release_agent 2>/dev/null; echo done";
    assert_eq!(ground.sh(&[], script).good(), "done\n");
    // Who may mount still has a control group namespace of its own, in which there is no release_agent.
    let script = "mkdir /c; mount -t cgroup -o memory none /c 2>/dev/null; find /c -name release_agent; \
                  find /c -maxdepth 1 -name 'berth*'; echo done";
    assert_eq!(ground.sh(&["--cap-add", "SYS_ADMIN"], script).good(), "done\n");
}

#[test]
fn terminal_injection_is_refused() {
    if !Path::new("/usr/bin/perl").exists() {
        return skip(this_test!(), "/usr/bin/perl");
    }
    let ground = ground!();
    // TIOCSTI, TIOCLINUX, each plain and with bits above the 32 that the kernel looks at; TCGETS works.
    let script = "for (0x5412, 0x541c, 0x5401) { my $r = syscall(16, 0, $_ + 0, my $b = 'x' x 64); print $r < 0 ? $!+0 : 'ok', ' ' } \
                  my $r = syscall(16, 0, 0x5412 + (1<<32), my $b = 'x' x 64); print $r < 0 ? $!+0 : 'ok', ' end ';";
    let mut command = ground.command();
    command.args(["run", "--rm", "-it", "--name", &ground.name("host"), "--", "/usr/bin/perl", "-e", script]);
    let shown = Terminal::start(&mut command, 24, 80).end();
    assert!(shown.stdout.contains("1 1 ok 1 end"), "{shown:?}");
}

#[test]
fn cve_2026_31431_sockets_of_dangerous_families_are_refused() {
    let ground = ground!();
    ground.install_probe(PROBE);
    // AF_ALG, AF_VSOCK; with all capabilities, too. AF_UNIX, AF_INET work.
    for options in [&[][..], &["--cap-add", "ALL"]] {
        let seen = ground.run(options, &["probe", "socket", "38", "40", "1", "2"]);
        assert_eq!(seen.good(), "38: 1\n40: 1\n1: ok\n2: ok\n", "{options:?}");
    }
}

#[test]
fn keys_of_the_host_and_of_others_are_out_of_reach() {
    let ground = ground!();
    let seen = ground.sh(&[], "wc -c < /proc/keys; wc -c < /proc/key-users");
    assert_eq!(seen.good(), "0\n0\n");
    // As a session keyring, seen from the host while it runs: one for each container, by its name.
    let name = ground.name("keys");
    let mut running = ground.start(&["--name", &name], "echo up; while :; do sleep 0.1; done");
    running.says("up");
    let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
    // A kernel without keyrings has no such file.
    let known = keys.is_empty() || keys.contains(&format!("berth-{name}: "));
    ground.berth(&["rm", "-f", &name]).good();
    assert_eq!(running.end().code, Some(137));
    assert!(known, "{keys}");
}

#[test]
fn masked_and_read_only_paths_of_proc_and_sys_are_in_effect() {
    let ground = ground!();
    let script = "for f in kcore keys key-users timer_list latency_stats sched_debug interrupts; do \
                  [ -e /proc/$f ] && [ \"$(head -c 1 /proc/$f 2>/dev/null | wc -c)\" != 0 ] && echo shown $f; done; \
                  for d in /proc/acpi /proc/asound /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do \
                  [ -d $d ] && ls -A $d; done; \
                  for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sysrq-trigger \
                  /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /sys/power/state /sys/kernel/mm/ksm/run; do \
                  [ -e $f ] && (echo 1 > $f) 2>/dev/null && echo wrote $f; done; \
                  for m in /proc/sys /proc/irq /proc/bus /proc/fs /sys; do \
                  mount -o remount,rw,bind $m 2>/dev/null && echo remounted $m; umount $m 2>/dev/null && echo unmounted $m; done; \
                  head -c 5 /proc/version; cat /proc/sys/kernel/ostype";
    for options in [&[][..], &["-u", "bob"]] {
        assert_eq!(ground.sh(options, script).good(), "LinuxLinux\n", "{options:?}");
    }
    // On the host's root file system too.
    let mut command = ground.command();
    let script = "head -c 1 /proc/keys | wc -c; (echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo wrote; ls -A /sys/firmware | wc -l; echo done";
    command.args(["run", "--rm", "--name", &ground.name("host"), "--", "sh", "-c", script]);
    assert_eq!(Running::start(&mut command).end().good(), "0\n0\ndone\n");
}

#[test]
fn cve_2026_47262_huge_and_endless_user_files_hold_nothing_up() {
    let ground = ground!();
    let root = ground.another_root("huge");
    let canary = ground.file("canary", "root:x:0:0::/:/bin/sh\nmallory:x:0:0::/:/bin/sh\n");
    let etc = root.join("etc");
    let rootfs = root.to_str().unwrap();
    // 2 GB of holes.
    fs::File::create(etc.join("group")).unwrap().set_len(2 << 30).unwrap();
    never_ran(&ground, &["--rootfs", rootfs, "-u", "bob"], &["true"]);
    never_ran(&ground, &["--rootfs", rootfs, "-u", "0:staff"], &["true"]);
    assert_eq!(ground.run(&["--rootfs", rootfs, "-u", "5:5"], &["id", "-u"]).good(), "5\n");
    fs::write(etc.join("group"), "root:x:0:\n").unwrap();
    assert_eq!(ground.run(&["--rootfs", rootfs, "-u", "bob"], &["id", "-u"]).good(), "1000\n");
    // A FIFO that nobody writes to, a device, a directory, a link out of the root.
    let passwd = etc.join("passwd");
    let fifo = |at: &Path| assert!(Command::new("mkfifo").arg(at).status().unwrap().success());
    for kind in ["fifo", "link to fifo", "zero", "directory", "absolute", "relative"] {
        let _ = fs::remove_file(&passwd).or_else(|_| fs::remove_dir(&passwd));
        let _ = fs::remove_file(ground.path("fifo"));
        match kind {
            "fifo" => fifo(&passwd),
            "link to fifo" => {
                fifo(&ground.path("fifo"));
                symlink(ground.path("fifo"), &passwd).unwrap();
            }
            "zero" => symlink("/dev/zero", &passwd).unwrap(),
            "directory" => fs::create_dir(&passwd).unwrap(),
            "absolute" => symlink(&canary, &passwd).unwrap(),
            _ => symlink("../../canary", &passwd).unwrap(),
        }
        never_ran(&ground, &["--rootfs", rootfs, "-u", "mallory"], &["true"]);
        assert_eq!(ground.run(&["--rootfs", rootfs], &["echo", "fine"]).good(), "fine\n", "{kind}");
    }
}

#[test]
fn cve_2020_15257_no_abstract_socket_of_ours_is_in_the_hosts_network() {
    let ground = ground!();
    ground.install_probe(PROBE);
    let seen = ground.run(&["--network", "host"], &["probe", "abstract"]);
    assert!(!seen.good().contains("berth"), "{seen:?}");
}

#[test]
fn cve_2025_52881_writes_of_ours_to_proc_reach_the_containers_own() {
    let ground = ground!();
    // A volume over what is written to is refused, by any spelling (cve_2019_16884); what a neighbour mounts in its
    // own namespace is not seen in another's.
    let volume = ground.directory("shared");
    let option = format!("{}:/shared", volume.display());
    let mut neighbour = ground.start(
        &["--cap-add", "SYS_ADMIN", "-v", &option],
        "mount -t tmpfs none /shared && mkdir -p /shared/proc/self/attr && mount --bind /proc/sys /shared/proc && echo mounted; \
         while :; do sleep 0.1; done",
    );
    neighbour.says("mounted");
    let pattern = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let seen = ground.sh(&["-v", &option, "--memory", "64m"], "ls -A /shared; cat /proc/self/oom_score_adj");
    assert_eq!(seen.good(), "0\n");
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), pattern);
    neighbour.signal(rustix::process::Signal::KILL);
    neighbour.end();
}

#[test]
fn the_sandbox_and_the_log_can_not_be_turned_against_the_host() {
    let ground = ground!();
    let canary = Canary::new(&ground);
    let name = ground.name("a");
    // The container replaces its own output's name by a link and a FIFO; what berth shows is what it wrote.
    let target = canary.path.join("null");
    let script = format!(
        "cd /mnt/mesos/sandbox; rm -f stdout stderr; ln -s {} stdout; mkfifo stderr; echo said",
        target.display()
    );
    ground.sh(&["--name", &name], &script).good();
    let log = ground.berth(&["logs", &name]);
    assert_eq!(log.good(), "said\n");
    ground.berth(&["rm", &name]).good();
    canary.untouched();
    // A set-user-id program left in the sandbox is behind a directory that only root enters.
    ground
        .sh(&["--name", &name], "cp /bin/busybox /mnt/mesos/sandbox/s && chmod 4777 /mnt/mesos/sandbox/s")
        .good();
    let left = ground.work_dir().join("oneshot").join(&name).join("sandbox/s");
    assert!(left.exists());
    let closed = left.ancestors().skip(1).any(|d| fs::metadata(d).is_ok_and(|m| m.mode() & 0o077 == 0));
    assert!(closed, "{}", left.display());
}
