// SPDX-License-Identifier: Apache-2.0
//! What the options of `berth run` do.

use crate::inside::status;
use berth_test_kernel::{Running, ground, until};
use rustix::process::Signal;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_user_is_a_name_a_number_or_either_with_a_group() {
    let ground = ground!();
    for (user, expected) in [
        ("bob", "uid=1000(bob) gid=1000(bob) groups=50(staff)"),
        ("1000", "uid=1000(bob) gid=1000(bob) groups=50(staff)"),
        ("bob:staff", "uid=1000(bob) gid=50(staff)"),
        ("bob:7", "uid=1000(bob) gid=7"),
        ("12:34", "uid=12 gid=34"),
        ("12", "uid=12 gid=0(root)"),
        ("root", "uid=0(root) gid=0(root)"),
    ] {
        let seen = ground.run(&["-u", user], &["id"]);
        // busybox repeats the primary group in some versions.
        let seen = seen.good().trim().replace(" groups=0(root)", "");
        assert_eq!(seen, expected, "{user}");
    }
    assert_eq!(ground.sh(&["-u", "bob"], "echo $HOME").good(), "/home/bob\n");
    // What it writes on the host is its own.
    let volume = ground.directory("volume");
    let option = format!("{}:/volume", volume.display());
    ground.sh(&["-u", "bob:50", "-v", &option], "touch /volume/a").good();
    let made = volume.join("a").metadata().unwrap();
    assert_eq!((made.uid(), made.gid()), (1000, 50));
}

#[test]
fn the_sandbox_is_the_users_to_write() {
    let ground = ground!();
    let seen = ground.sh(&["-u", "bob"], "cd $MESOS_SANDBOX && pwd && echo x > a && cat a");
    assert_eq!(seen.good(), "/mnt/mesos/sandbox\nx\n");
}

#[test]
fn a_working_directory_is_entered_and_made_when_missing() {
    let ground = ground!();
    assert_eq!(ground.run(&[], &["pwd"]).good(), "/\n");
    assert_eq!(ground.run(&["-w", "/etc"], &["pwd"]).good(), "/etc\n");
    assert_eq!(ground.run(&["-w", "/not/yet"], &["pwd"]).good(), "/not/yet\n");
    assert!(!ground.root().join("not").exists());
    std::os::unix::fs::symlink("/etc", ground.root().join("link")).unwrap();
    assert_eq!(ground.run(&["-w", "/link"], &["/bin/busybox", "pwd", "-P"]).good(), "/etc\n");
}

#[test]
fn variables_are_set_or_taken_from_here() {
    let ground = ground!();
    let mut command = ground.run_command(
        &["-e", "A=1", "-e", "B=x=y z", "-e", "TAKEN", "-e", "UNSET_HERE", "-e", "EMPTY=", "-e", "A=2"],
        &["sh", "-c", "echo \"$A|$B|$TAKEN|$EMPTY|${UNSET_HERE-unset}\""],
    );
    command.env("TAKEN", "from here").env_remove("UNSET_HERE");
    assert_eq!(Running::start(&mut command).end().good(), "2|x=y z|from here||unset\n");
    assert_eq!(
        ground.run(&["-e", "PATH=/nowhere", "-e", "HOME=/h"], &["/bin/sh", "-c", "echo $PATH $HOME"]).good(),
        "/nowhere /h\n"
    );
}

#[test]
fn volumes_are_directories_or_files_for_writing_or_not() {
    let ground = ground!();
    let directory = ground.directory("directory");
    let file = ground.file("file", "before\n");
    let [d, f] = [directory.to_str().unwrap(), file.to_str().unwrap()];
    let options = |mode: &str| [format!("{d}:/deep/in/side{mode}"), format!("{f}:/etc/file{mode}")];
    let [one, other] = options("");
    let written = ground
        .sh(&["-v", &one, "-v", &other], "cat /etc/file; echo new > /etc/file; echo x > /deep/in/side/a");
    assert_eq!(written.good(), "before\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "new\n");
    assert_eq!(std::fs::read_to_string(directory.join("a")).unwrap(), "x\n");
    let [one, other] = options(":ro");
    let script = "cat /etc/file /deep/in/side/a; (echo y > /etc/file) 2>/dev/null && echo wrote; \
                  (echo y > /deep/in/side/b) 2>/dev/null && echo wrote; rm /deep/in/side/a 2>/dev/null && echo removed; \
                  mount -o remount,rw,bind /etc/file 2>/dev/null && echo remounted; true";
    assert_eq!(ground.sh(&["-v", &one, "-v", &other], script).good(), "new\nx\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "new\n");
    // Nothing was made in the root file system given.
    assert!(!ground.root().join("deep").exists() && !ground.root().join("etc/file").exists());
}

#[test]
fn set_user_id_bits_on_a_volume_give_nothing() {
    let ground = ground!();
    let volume = ground.directory("volume");
    std::fs::copy(env!("CARGO_BIN_EXE_berth-probe"), volume.join("probe")).unwrap();
    let option = format!("{}:/volume", volume.display());
    let options = ["-v", &option, "-u", "bob", "--security-opt", "no-new-privileges=false"];
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(volume.join("probe"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(ground.run(&options, &["/volume/probe", "user"]).good(), "1000 1000\n");
}

#[test]
fn a_read_only_root_can_not_be_written_and_the_sandbox_can() {
    let ground = ground!();
    let script = "(echo x > /a) 2>/dev/null && echo wrote; (echo x > /etc/passwd) 2>/dev/null && echo wrote; \
                  mount -o remount,rw / 2>/dev/null && echo remounted; \
                  echo y > /mnt/mesos/sandbox/a && cat /mnt/mesos/sandbox/a; echo z > /dev/shm/a && cat /dev/shm/a";
    assert_eq!(ground.sh(&["--read-only"], script).good(), "y\nz\n");
}

#[test]
fn the_hosts_network_is_shared_only_when_asked() {
    let ground = ground!();
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    let shared = ground.run(&["--network", "host"], &["readlink", "/proc/self/ns/net"]);
    assert_eq!(shared.good().trim(), host.to_string_lossy());
    let own = ground.run(&["--network", "none"], &["readlink", "/proc/self/ns/net"]);
    assert_ne!(own.good().trim(), host.to_string_lossy());
}

#[test]
fn capabilities_are_added_and_dropped_by_name() {
    let ground = ground!();
    let bounding = |options: &[&str]| status(&ground, options)["CapBnd"].clone();
    assert_eq!(bounding(&["--cap-drop", "ALL"]), "0000000000000000");
    assert_eq!(bounding(&["--cap-drop", "all", "--cap-add", "chown"]), "0000000000000001");
    assert_eq!(bounding(&["--cap-add", "CAP_NET_ADMIN"]), "00000000a00435fb");
    assert_eq!(bounding(&["--cap-drop", "NET_RAW", "--cap-drop", "MKNOD"]), "00000000a00405fb");
    // All that we have to give, which may be less than all that there is.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|l| l.strip_prefix("CapPrm:\t")).unwrap().to_owned();
    assert_eq!(bounding(&["--cap-add", "ALL"]), own);
    // And it is what the kernel goes by.
    assert_ne!(ground.run(&["--cap-drop", "CHOWN"], &["chown", "5", "/etc/passwd"]).code, Some(0));
    ground.run(&[], &["chown", "5", "/etc/passwd"]).good();
}

#[test]
fn privileges_come_back_by_set_user_id_only_when_allowed() {
    use std::os::unix::fs::PermissionsExt;
    let ground = ground!();
    ground.install_probe(env!("CARGO_BIN_EXE_berth-probe"));
    let file = ground.root().join("bin/probe");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(ground.run(&["-u", "bob"], &["probe", "user"]).good(), "1000 1000\n");
    let allowed = ["--security-opt", "no-new-privileges=false"];
    assert_eq!(ground.run(&[&["-u", "bob"], &allowed[..]].concat(), &["probe", "user"]).good(), "1000 0\n");
    let status = status(&ground, &allowed);
    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("0", "2"));
}

#[test]
fn limits_of_setrlimit_are_set_soft_and_hard() {
    let ground = ground!();
    let seen = ground.sh(
        &["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "stack=unlimited"],
        "ulimit -S -n; ulimit -H -n; ulimit -c; ulimit -s",
    );
    assert_eq!(seen.good(), "100\n200\n0\nunlimited\n");
}

/// What we need ourselves is done before the limits of the program hold: descriptors, and files that are written.
#[test]
fn limits_that_leave_nothing_do_not_keep_a_program_from_starting() {
    let ground = ground!();
    let script = ground.root().join("bin/script");
    berth_testing::script(&script, "#!/bin/sh\nexit 7\n");
    for limit in ["nofile=4:4", "fsize=0:0"] {
        let exit = ground.run(&["--ulimit", limit], &["sh", "-c", "exit 6"]);
        assert_eq!(exit.code, Some(6), "{limit}: {exit:?}");
    }
    // The shell opens it at a number of its own choice, above nine.
    for limit in ["nofile=16:16", "fsize=0:0"] {
        let exit = ground.run(&["--ulimit", limit], &["script"]);
        assert_eq!(exit.code, Some(7), "{limit}: {exit:?}");
    }
}

/// The init holds two descriptors and the container's streams: that is what it needs, at whatever numbers there are.
#[test]
fn an_init_needs_few_descriptors() {
    let ground = ground!();
    for most in [32, 64, 900] {
        let limit = format!("nofile={most}:{most}");
        let exit = ground.run(&["--init", "--ulimit", &limit], &["sh", "-c", "ulimit -n; exit 6"]);
        assert_eq!((exit.code, exit.stdout), (Some(6), format!("{most}\n")), "{limit}: {}", exit.stderr);
    }
    // Orphans are reaped and signals passed on as with any other.
    let exit =
        ground.run(&["--init", "--ulimit", "nofile=32:32"], &["sh", "-c", "(sleep 0.01 &); kill -9 $$"]);
    assert_eq!(exit.code, Some(137), "{exit:?}");
}

/// What is begun before `main` must not take the number of a stream that is closed: what the container writes here would be
/// a message to its supervisor, to send signal 9.
#[test]
fn a_closed_standard_stream_takes_nothing_else_in() {
    let ground = ground!();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("exec \"$@\" {closed}"), "sh"]);
        let evil = r#"m='\003\000\000\000\011\000\000\000\000\000\000\000\000\000\000\000'
            echo out; printf "$m"; printf "$m" >&2; sleep 0.1; exit 5"#;
        let run = ground.run_command(&[], &["sh", "-c", evil]);
        command.arg(run.get_program()).args(run.get_args());
        command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{closed}: {output:?}");
        let out = if closed.contains(" >&-") || closed == ">&-" { "" } else { "out\n" };
        assert!(output.stdout.starts_with(out.as_bytes()), "{closed}: {output:?}");
    }
}

#[test]
fn the_filter_is_the_profile_that_is_named_or_none() {
    let ground = ground!();
    assert_eq!(status(&ground, &["--security-opt", "seccomp=unconfined"])["Seccomp"], "0");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    let profile = ground.file("profile.json", profile);
    let option = format!("seccomp={}", profile.display());
    // Twice: the second time it may come from the cache.
    for _ in 0..2 {
        let seen = ground.run(&["--security-opt", &option], &["mkdir", "/a"]);
        assert!(seen.stderr.contains("No space left"), "{seen:?}");
        ground.run(&["--security-opt", &option], &["touch", "/a"]).good();
    }
    ground.run(&[], &["mkdir", "/a"]).good();
    // Compiled profiles are kept until the next boot.
    std::fs::remove_dir_all(ground.runtime_dir().join("seccomp")).unwrap();
}

#[test]
fn an_init_reaps_orphans_passes_signals_and_the_exit_code_on() {
    let ground = ground!();
    let seen = ground.sh(&["--init"], "echo $$; exit 7");
    assert_eq!((seen.code, seen.stdout.as_str()), (Some(7), "2\n"), "{seen:?}");
    let script = "(sh -c 'true & exec sleep 0.05' &); \
                  n=0; while [ $n -lt 200 ] && [ $(grep -l '^PPid:.1$' /proc/[0-9]*/status 2>/dev/null | wc -l) -gt 1 ]; \
                  do n=$((n+1)); sleep 0.05; done; grep -c '(zombie)' /proc/[0-9]*/status | grep -v ':0' ; echo n";
    assert_eq!(ground.sh(&["--init"], script).good(), "n\n");
    let mut running =
        ground.start(&["--init"], "trap 'echo told; exit 9' TERM; echo ready; while :; do sleep 0.1; done");
    running.says("ready");
    running.signal(Signal::TERM);
    let ended = running.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(9), "ready\ntold\n"), "{ended:?}");
    let mut running = ground.start(&["--init"], "kill -9 $$");
    running.stdin();
    assert_eq!(running.end().code, Some(137));
}

#[test]
fn the_hosts_root_file_system_is_there_without_a_root_of_its_own() {
    let ground = ground!();
    let name = ground.name("host");
    let run = |command: &[&str]| {
        let mut all = ground.command();
        all.args(["run", "--rm", "--pids-limit", "50", "--name", &name, "--"]).args(command);
        Running::start(&mut all).end()
    };
    let seen = run(&[
        "sh",
        "-c",
        "echo $$; pwd; readlink /proc/self/ns/net; hostname >/dev/null; ls -d /proc/[0-9]* | wc -l",
    ]);
    let lines: Vec<&str> = seen.good().lines().collect();
    assert_eq!(lines[0], "1");
    assert!(lines[1].ends_with("/sandbox"), "{lines:?}");
    assert_eq!(lines[2], std::fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy());
    assert!(lines[3].parse::<u32>().unwrap() <= 3, "{lines:?}");
    let marker = ground.file("marker", "seen\n");
    assert_eq!(run(&["cat", marker.to_str().unwrap()]).good(), "seen\n");
    let seen = run(&["grep", "-E", "^(CapEff|Seccomp|NoNewPrivs):", "/proc/self/status"]);
    assert_eq!(seen.good(), "CapEff:\t00000000a00425fb\nNoNewPrivs:\t1\nSeccomp:\t2\n");
}

#[test]
fn killing_berth_run_leaves_the_container_to_the_next_command() {
    let ground = ground!();
    let name = ground.name("left");
    let mut running = ground.start(&["--name", &name], "echo up; while :; do sleep 1; done");
    running.says("up");
    running.signal(Signal::KILL);
    assert_eq!(running.end().signal, Some(9));
    until("it still runs", || ground.berth(&["ps", "-q"]).stdout.contains(&name));
    ground.berth(&["rm", "-f", &name]).good();
    assert!(!ground.berth(&["ps", "-aq"]).stdout.contains(&name));
}
