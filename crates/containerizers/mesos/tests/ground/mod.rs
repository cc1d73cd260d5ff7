// SPDX-License-Identifier: Apache-2.0
//! What tests of the native containerizer stand on.
#![allow(dead_code, reason = "each test program uses its part")]

use berth_cgroup::Hierarchies;
use berth_conformance::Site;
use berth_mesos::{Directories, MesosContainerizer, Settings};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// What this host lacks for containers, if anything.
pub(crate) fn lacked() -> Option<String> {
    if !berth_sys::rustix::process::geteuid().is_root() {
        return Some("root: containers are made by root".to_owned());
    }
    Hierarchies::probe(Path::new(Hierarchies::ROOT)).err().map(|e| format!("control groups: {e}"))
}

/// Says that this test was skipped, and why.
pub(crate) fn skip(lacked: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    berth_testing::skip(&test, lacked);
}

/// A containerizer on the site, without these isolators.
pub(crate) fn containerizer(site: &Site, without: &[&str]) -> MesosContainerizer {
    let cgroup = site.cgroup().display().to_string();
    site.keep::<Base>().0.lock().unwrap_or_else(PoisonError::into_inner).replace(cgroup.clone());
    let directories =
        Directories { runtime: site.runtime_dir(), work: site.work_dir(), cgroup: Some(cgroup) };
    let settings = Settings {
        hierarchies: Some(Hierarchies::probe(Path::new(Hierarchies::ROOT)).expect("control groups")),
        seccomp_config_dir: None,
        seccomp_cache: None,
        seccomp_paths: false,
        without: without.iter().map(|name| (*name).to_owned()).collect(),
        groups: Default::default(),
        disk: None,
    };
    MesosContainerizer::new(&directories, &settings).expect("a containerizer")
}

/// A busybox that needs no libraries, if there is one.
pub(crate) fn busybox() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join("busybox")).find(|path| path.is_file())?;
    // A program that needs none has no interpreter.
    let bytes = fs::read(&found).ok()?;
    (!bytes.windows(8).any(|window| window == b"/lib/ld-" || window == b"/lib64/l")).then_some(found)
}

/// A root file system, which goes with its site.
#[derive(Default)]
struct Root(Mutex<Option<std::path::PathBuf>>);

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(path) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// A root file system of busybox, with a user `bob` (1000:1000, also in `staff`, 50).
pub(crate) fn rootfs(site: &Site) -> std::path::PathBuf {
    let kept = site.keep::<Root>();
    let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(root) = &*kept {
        return root.clone();
    }
    // Not in one of the site's directories, which are to be empty in the end.
    let root = std::env::temp_dir().join(format!("{}-root", site.marker()));
    *kept = Some(root.clone());
    for dir in ["bin", "etc", "tmp", "home/bob"] {
        fs::create_dir_all(root.join(dir)).expect("a root file system");
    }
    fs::copy(busybox().expect("busybox, which was there a moment ago"), root.join("bin/busybox"))
        .expect("a root file system");
    for name in [
        "sh", "cat", "echo", "env", "head", "hostname", "id", "kill", "ls", "mkdir", "mv", "printf", "ps",
        "pwd", "readlink", "rm", "seq", "sleep", "stat", "stty", "touch", "tr", "true", "tty", "wc", "yes",
        "ln", "test", "grep",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a root file system");
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\n",
    )
    .expect("a root file system");
    fs::write(root.join("etc/group"), "root:x:0:\nbob:x:1000:\nstaff:x:50:bob\n")
        .expect("a root file system");
    root
}

/// The control group of a site, which a containerizer makes and does not remove: it goes with the site.
#[derive(Default)]
struct Base(Mutex<Option<String>>);

impl Drop for Base {
    fn drop(&mut self) {
        let path = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(path), Ok(hierarchies)) = (path, Hierarchies::probe(Path::new(Hierarchies::ROOT))) {
            let _ = hierarchies.prune(&path);
        }
    }
}

/// Holds leases on files: whoever opens one of them, to execute it for example, waits until the lease is given up,
/// which it never is (or for /proc/sys/fs/lease-break-time, 45 s), and can be killed while it waits; fcntl(2), F_SETLEASE.
struct Leases {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    made: u32,
}

/// The holder of a lease is told of the break by a signal: 28 is SIGWINCH, which nobody minds. It ends, and its files go,
/// with this process's end of the pipe.
const HOLDER: &str = r#"$| = 1; my (@names, @held);
while (<STDIN>) { chomp; open(my $file, '<', $_) or die $!; push @names, $_; push @held, $file;
  fcntl($file, 10, 28) or die $!; fcntl($file, 1024, 1) or die $!; print "held\n" }
unlink @names;"#;

static LEASES: Mutex<Option<Leases>> = Mutex::new(None);

/// Whether [`program_that_can_not_be_opened`] can be made here.
pub(crate) fn stalls() -> bool {
    let perl = Command::new("perl").arg("-e").arg("1").stdin(Stdio::null()).status();
    perl.is_ok_and(|status| status.success())
}

/// The path of a program whose execution goes on until it is killed, without ever having begun.
pub(crate) fn program_that_can_not_be_opened() -> String {
    let mut leases = LEASES.lock().unwrap_or_else(PoisonError::into_inner);
    let leases = leases.get_or_insert_with(|| {
        let mut child = Command::new("perl")
            .arg("-e")
            .arg(HOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl, which was there a moment ago");
        let (stdin, stdout) = child.stdin.take().zip(child.stdout.take()).expect("two pipes");
        Leases { _child: child, stdin, stdout: BufReader::new(stdout), made: 0 }
    });
    leases.made += 1;
    let name = format!("leased-program-{}-{}", std::process::id(), leases.made);
    let path = std::env::temp_dir().join(name);
    fs::write(&path, "#!/bin/sh\nexit 0\n").expect("a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    let path = path.display().to_string();
    writeln!(leases.stdin, "{path}").expect("the holder of leases");
    let mut answer = String::new();
    leases.stdout.read_line(&mut answer).expect("the holder of leases");
    assert_eq!(answer, "held\n");
    path
}
