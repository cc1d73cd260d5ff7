// SPDX-License-Identifier: Apache-2.0
//! A dockerd of the test's own: its roots, its socket and its bridge bear the pid, and it ends with the test's process,
//! however that ends. Images are made here; nothing is fetched.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The image that all tests have: busybox, and nothing else.
pub(crate) const IMAGE: &str = "berth-busybox:test";
/// No start of an engine takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// What an engine is started with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct How {
    /// Containers go on when it ends.
    pub(crate) live_restore: bool,
    /// It has a bridge of its own; without, there is none.
    pub(crate) bridge: bool,
}

/// An engine.
#[derive(Debug)]
pub(crate) struct Daemon {
    root: PathBuf,
    how: How,
    bridge: String,
    child: Mutex<Option<Child>>,
    /// Takes the engine away when this process ends; closing its input tells it.
    guard: Mutex<Child>,
}

/// How many times slower than usual this machine is, which an emulated one says by `BERTH_TEST_SLOW`.
pub(crate) fn slow() -> u32 {
    std::env::var("BERTH_TEST_SLOW").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// What this host lacks for it, if anything.
pub(crate) fn lacked() -> Option<String> {
    lacked_of(&["dockerd", "docker", "containerd", "runc", "busybox"])
}

/// What of root and these programs this host lacks.
pub(crate) fn lacked_of(programs: &[&str]) -> Option<String> {
    if fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).ok() != Some(0) {
        return Some("root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let absent = |program: &&&str| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    programs.iter().find(absent).map(|program| format!("the program {program}"))
}

/// One for all tests of this process that need nothing special.
pub(crate) fn shared() -> &'static Daemon {
    static SHARED: OnceLock<Daemon> = OnceLock::new();
    SHARED.get_or_init(|| Daemon::start(How::default()))
}

/// The guard: waits for the end of its input, then ends the engine, and what is left of it.
const GUARD: &str = r#"
    cat >/dev/null
    d=$1; b=$2
    for f in "$d/pid" "$d/exec/containerd/containerd.pid"; do
        p=$(cat "$f" 2>/dev/null) || continue
        kill -CONT "$p" 2>/dev/null; kill -TERM "$p" 2>/dev/null
        n=0; while [ $n -lt 150 ] && kill -0 "$p" 2>/dev/null; do n=$((n+1)); sleep 0.1; done
        kill -KILL "$p" 2>/dev/null
    done
    for p in $(pgrep -f "^[^ ]*containerd-shim.* $d/" 2>/dev/null); do kill -KILL "$p"; done
    grep " $d/" /proc/self/mountinfo | cut -d' ' -f5 | sort -r | while read -r m; do umount -l "$m"; done
    [ -n "$b" ] && ip link del "$b" 2>/dev/null
    rm -rf "$d"
"#;

impl Daemon {
    /// Starts one, with the image in it.
    pub(crate) fn start(how: How) -> Daemon {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Short: a path for a socket has room for 108 bytes.
        let root = PathBuf::from(format!("/tmp/berth-dockerd-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).expect("a directory");
        let bridge = if how.bridge { format!("bd{}n{number}", std::process::id()) } else { String::new() };
        let guard = Command::new("setsid")
            .args(["sh", "-c", GUARD, "guard"])
            .arg(&root)
            .arg(&bridge)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a guard");
        let daemon = Daemon { root, how, bridge, child: Mutex::new(None), guard: Mutex::new(guard) };
        if how.bridge {
            let net = format!(
                "10.{}.{}.1/24",
                64 + std::process::id() % 64,
                (std::process::id() / 64 + number) % 256
            );
            run(Command::new("ip").args(["link", "add", &daemon.bridge, "type", "bridge"]));
            run(Command::new("ip").args(["addr", "add", &net, "dev", &daemon.bridge]));
            run(Command::new("ip").args(["link", "set", &daemon.bridge, "up"]));
        }
        daemon.run();
        daemon.import(IMAGE, &[], &[]);
        daemon
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("sock")
    }

    /// A place that goes with it.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Starts the engine (again), and waits until it answers.
    pub(crate) fn run(&self) {
        let log = fs::File::options().create(true).append(true).open(self.root.join("log")).expect("a log");
        let mut command = Command::new("dockerd");
        let path = |name: &str| self.root.join(name);
        let _ = fs::remove_file(path("pid"));
        command
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"])
            .arg(format!("--bridge={}", if self.how.bridge { &self.bridge } else { "none" }))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        if self.how.live_restore {
            command.arg("--live-restore");
        }
        let child = command.spawn().expect("dockerd");
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let until = Instant::now() + PATIENCE * slow();
        while !self
            .docker()
            .arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
        {
            let log = || fs::read_to_string(path("log")).unwrap_or_default();
            let tail = || log().lines().rev().take(20).collect::<Vec<_>>().join("\n");
            assert!(
                Instant::now() < until,
                "dockerd does not answer; its last words, backwards:\n{}",
                tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The engine's own pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("it runs").id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        run(Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()));
    }

    /// Kills it with no chance to tidy up, and waits for its end.
    pub(crate) fn kill(&self) {
        self.signal("KILL");
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take().expect("it runs");
        child.wait().expect("its end");
        // Its containerd goes with it. The next one takes it for alive as long as nobody has reaped it.
        let file = self.root.join("exec/containerd/containerd.pid");
        let Some(pid) = fs::read_to_string(&file).ok() else { return };
        let until = Instant::now() + PATIENCE * slow();
        let lives = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
        };
        while lives() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = fs::remove_file(file);
    }

    /// Its command line client.
    pub(crate) fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).stdin(Stdio::null());
        command.env("HOME", &self.root);
        command
    }

    /// What the client says.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let done = self.docker().args(arguments).output().expect("docker");
        let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        assert!(done.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        text
    }

    /// Makes an image of busybox with these changes, and these files.
    pub(crate) fn import(&self, name: &str, changes: &[&str], files: &[(&str, &[u8])]) {
        import_into(self.docker(), name, changes, files);
    }

    /// Everything that the engine has: containers, volumes, and what is mounted for it.
    pub(crate) fn ledger(&self) -> Vec<String> {
        let mut all: Vec<String> = [["ps", "-aq"], ["volume", "ls"]]
            .iter()
            .flat_map(|arguments| self.says(arguments).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let root = format!("{}/", self.root.display());
        // The engine's own, made once.
        let is_own = |line: &str| line.contains("/exec/netns/default ");
        all.extend(mounts.lines().filter(|line| line.contains(&root) && !is_own(line)).map(|line| {
            // Without the numbers, which are new for each mount.
            line.split(' ').skip(3).take(2).collect::<Vec<_>>().join(" ")
        }));
        all.sort();
        all
    }

    /// Waits until it has what it had `before`.
    #[track_caller]
    pub(crate) fn settles(&self, before: &[String], what: &str) {
        let until = Instant::now() + PATIENCE * slow();
        while self.ledger() != before && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.ledger(), before, "{what} has left something");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guard.stdin.take());
        // dockerd is our child, and is there for the guard until it is reaped.
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.wait();
        }
        let _ = guard.wait();
    }
}

/// Makes an image of busybox, by the command line client that is given.
pub(crate) fn import_into(mut client: Command, name: &str, changes: &[&str], files: &[(&str, &[u8])]) {
    client.arg("import");
    changes.iter().for_each(|change| _ = client.arg("--change").arg(change));
    let mut child = client
        .args(["-", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a client that imports");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&busybox(files)).expect("the image");
    drop(stdin);
    assert!(child.wait().expect("its end").success(), "the import of {name}");
}

fn run(command: &mut Command) {
    let done = command.output();
    assert!(done.as_ref().is_ok_and(|done| done.status.success()), "{command:?}: {done:?}");
}

/// A root file system with busybox and its names.
fn busybox(files: &[(&str, &[u8])]) -> Vec<u8> {
    static PROGRAM: OnceLock<(Vec<u8>, Vec<String>)> = OnceLock::new();
    let (program, names) = PROGRAM.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::split_paths(&path).map(|dir| dir.join("busybox")).find(|path| path.is_file());
        let path = path.expect("busybox");
        let names = Command::new(&path).arg("--list").output().expect("busybox --list").stdout;
        let names = String::from_utf8_lossy(&names).lines().map(str::to_owned).collect();
        (fs::read(path).expect("busybox"), names)
    });
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, path, bytes).expect("memory");
    };
    put("bin/busybox", 0o755, program);
    put("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\napp:x:1234:1234::/:/bin/sh\n");
    files.iter().for_each(|(path, bytes)| put(path, 0o755, bytes));
    for name in names.iter().filter(|name| *name != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").expect("memory");
    }
    tar.into_inner().expect("memory")
}
