// SPDX-License-Identifier: Apache-2.0
//! A podman of the test's own that serves Docker's API: its places and its socket bear the pid, and it ends with the test's
//! process, however that ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::daemon::{self, IMAGE};

/// No start of a service takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// podman, serving.
#[derive(Debug)]
pub(crate) struct Podman {
    root: PathBuf,
    child: Mutex<Child>,
    /// Takes all of it away when this process ends; closing its input tells it.
    guard: Mutex<Child>,
}

/// What this host lacks for it, if anything.
pub(crate) fn lacked() -> Option<String> {
    daemon::lacked_of(&["podman", "conmon", "runc", "busybox"])
}

/// One for all tests of this process.
pub(crate) fn shared() -> &'static Podman {
    static SHARED: OnceLock<Podman> = OnceLock::new();
    SHARED.get_or_init(Podman::start)
}

/// The guard: waits for the end of its input, then takes the containers away, ends the service, and what is left of it.
const GUARD: &str = r#"
    cat >/dev/null
    d=$1
    export CONTAINERS_CONF=$d/containers.conf CONTAINERS_STORAGE_CONF=$d/storage.conf HOME=$d
    timeout 60 podman rm -f -a -t 0
    p=$(cat "$d/pid") && kill -KILL "$p"
    for p in $(pgrep -f "^[^ ]*conmon .* $d/"); do kill -KILL "$p"; done
    grep " $d/" /proc/self/mountinfo | cut -d' ' -f5 | sort -r | while read -r m; do umount -l "$m"; done
    rm -rf "$d"
"#;

/// runc, as Debian's crun refuses a host whose hierarchies are of both versions; and limits that a host with low ones of its
/// own can give. Everything that podman would share with another one is its own.
const CONTAINERS: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
exit_command_delay = 1
lock_type = "file"
runtime = "runc"
static_dir = "ROOT/libpod"
tmp_dir = "ROOT/tmp"
volume_path = "ROOT/volumes"
[network]
network_config_dir = "ROOT/net"
"#;

const STORAGE: &str = r#"
[storage]
driver = "overlay"
runroot = "ROOT/run"
graphroot = "ROOT/graph"
"#;

impl Podman {
    /// Starts one, with the image in it.
    fn start() -> Podman {
        let root = PathBuf::from(format!("/tmp/berth-podman-{}", std::process::id()));
        fs::create_dir_all(&root).expect("a directory");
        let put = |name: &str, text: &str| {
            let text = text.replace("ROOT", &root.display().to_string());
            fs::write(root.join(name), text).expect("a file");
        };
        put("containers.conf", CONTAINERS);
        put("storage.conf", STORAGE);
        let guard = Command::new("setsid")
            .args(["sh", "-c", GUARD, "guard"])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a guard");
        let log = fs::File::create(root.join("log")).expect("a log");
        let child = command(&root)
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", root.join("sock").display()))
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("podman");
        fs::write(root.join("pid"), child.id().to_string()).expect("a file");
        let podman = Podman { root, child: Mutex::new(child), guard: Mutex::new(guard) };
        let until = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(podman.socket()).is_err() {
            let log = || fs::read_to_string(podman.root.join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "podman does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon::import_into(command(&podman.root), IMAGE, &[], &[]);
        podman
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("sock")
    }

    /// What its own command says.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let done = command(&self.root).args(arguments).output().expect("podman");
        assert!(done.status.success(), "podman {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }
}

fn command(root: &Path) -> Command {
    let mut command = Command::new("podman");
    command
        .env("CONTAINERS_CONF", root.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", root.join("storage.conf"))
        .env("HOME", root)
        .stdin(Stdio::null());
    command
}

impl Drop for Podman {
    fn drop(&mut self) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guard.stdin.take());
        let _ = guard.wait();
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    }
}
