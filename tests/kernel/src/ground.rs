// SPDX-License-Identifier: Apache-2.0
//! Directories of one test, a root file system, and the ledger of what was there before.

use crate::{Exit, Running, berth};
use berth_conformance::{Ledger, Scope, Site};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the root file system has of busybox.
const APPLETS: [&str; 55] = [
    "sh",
    "sleep",
    "cat",
    "true",
    "false",
    "kill",
    "dd",
    "yes",
    "head",
    "tail",
    "ls",
    "id",
    "echo",
    "grep",
    "ps",
    "hostname",
    "mount",
    "umount",
    "mkdir",
    "rmdir",
    "rm",
    "ln",
    "touch",
    "chmod",
    "chown",
    "stat",
    "env",
    "pwd",
    "wc",
    "sha256sum",
    "readlink",
    "sed",
    "tr",
    "cut",
    "sort",
    "test",
    "seq",
    "tty",
    "stty",
    "ifconfig",
    "unshare",
    "mknod",
    "df",
    "mkfifo",
    "printf",
    "od",
    "find",
    "sync",
    "cp",
    "mv",
    "nice",
    "pidof",
    "setsid",
    "su",
    "chroot",
];

/// The ground of one test. Dropped, it ends and removes all that is left, and fails the test if a container that was
/// removed left something on the host.
#[derive(Debug)]
pub struct Ground {
    site: Site,
    berth: PathBuf,
    cgroup: PathBuf,
    scope: Scope,
    before: Ledger,
}

impl Ground {
    /// Directories where one container ran already, so that what stays for all of them is there.
    ///
    /// # Errors
    /// What this machine lacks.
    ///
    /// # Panics
    /// When `berth` can not be built, or can not run a container.
    pub fn new(test: &str) -> Result<Ground, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("root".to_owned());
        }
        if busybox().is_none() {
            return Err("a static busybox".to_owned());
        }
        let berth = berth().unwrap_or_else(|e| panic!("{e}")).to_owned();
        let last = test.rsplit("::").next().unwrap_or(test);
        let site = Site::new(&format!("k-{}", &last[..last.len().min(24)])).unwrap_or_else(|e| panic!("{e}"));
        let scope = Scope::new(site.marker(), [site.work_dir(), site.runtime_dir()]);
        let before = Ledger::take(&scope);
        let mut ground = Ground { site, berth, cgroup: PathBuf::new(), scope, before };
        ground.fill(&ground.root());
        // With this capability the devices controller is used, too.
        ground.run(&["--cap-add", "MKNOD"], &["true"]).good();
        ground.settle();
        Ok(ground)
    }

    /// The same, where a container with these options ran as well: what stays for all of them in further hierarchies is
    /// there.
    pub fn accustomed_to(mut self, options: &[&str]) -> Ground {
        self.run(options, &["true"]).good();
        self.before = Ledger::take(&self.scope);
        self
    }

    /// What is there now is what is to be there afterwards.
    fn settle(&mut self) {
        let instance = fs::read_to_string(self.site.runtime_dir().join("instance")).unwrap_or_default();
        let id = instance.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() >= 8);
        self.cgroup = Path::new("berth").join(id.unwrap_or_else(|| panic!("no instance id in {instance:?}")));
        self.scope = self.scope.clone().with_cgroup(&self.cgroup);
        self.before = Ledger::take(&self.scope);
    }

    /// Makes a root file system of busybox, with a user `bob` (1000:1000, also in `staff`, 50).
    ///
    /// # Panics
    /// When it can not be made.
    pub fn fill(&self, root: &Path) {
        let fill = || -> std::io::Result<()> {
            for directory in ["bin", "etc", "tmp", "root"] {
                fs::create_dir_all(root.join(directory))?;
            }
            fs::copy(busybox().unwrap_or_default(), root.join("bin/busybox"))?;
            for name in APPLETS {
                symlink("busybox", root.join("bin").join(name))?;
            }
            fs::write(
                root.join("etc/passwd"),
                "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n",
            )?;
            fs::write(root.join("etc/group"), "root:x:0:\nbob:x:1000:\nstaff:x:50:bob\n")
        };
        fill().unwrap_or_else(|e| panic!("make a root file system at {}: {e}", root.display()));
    }

    /// Another root file system like the first.
    pub fn another_root(&self, name: &str) -> PathBuf {
        let root = self.path(name);
        self.fill(&root);
        root
    }

    /// Copies a program into the root file system, as `/bin/probe`.
    ///
    /// # Panics
    /// When it can not be copied.
    pub fn install_probe(&self, program: &str) {
        let to = self.root().join("bin/probe");
        fs::copy(program, to).unwrap_or_else(|e| panic!("copy {program}: {e}"));
    }

    /// The root file system.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// A path of this ground on the host, outside of all that is berth's. Nothing is made there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.site.sandboxes().join(name)
    }

    /// A new directory there, which everybody may use.
    ///
    /// # Panics
    /// When it can not be made.
    pub fn directory(&self, name: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o777)))
            .unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
        path
    }

    /// A new file there.
    ///
    /// # Panics
    /// When it can not be made.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }

    /// `--runtime-dir`.
    pub fn runtime_dir(&self) -> PathBuf {
        self.site.runtime_dir()
    }

    /// `--work-dir`.
    pub fn work_dir(&self) -> PathBuf {
        self.site.work_dir()
    }

    /// A name that only this ground's containers have.
    pub fn name(&self, last: &str) -> String {
        format!("{}-{last}", self.site.marker())
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.berth
    }

    /// `berth` with this ground's directories.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.berth);
        command.arg("--runtime-dir").arg(self.runtime_dir()).arg("--work-dir").arg(self.work_dir());
        command.stdin(Stdio::null()).env_remove("BERTH_TIMINGS");
        command
    }

    /// `berth` with these arguments, to its end.
    #[track_caller]
    pub fn berth(&self, args: &[&str]) -> Exit {
        Running::start(self.command().args(args)).end()
    }

    /// `berth run --rm --rootfs ROOT` with these options and this command, not yet started. A `--name` keeps it.
    pub fn run_command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut all = self.command();
        all.arg("run");
        if !options.contains(&"--name") {
            all.arg("--rm");
        }
        all.args(options);
        if !options.contains(&"--rootfs") {
            all.arg("--rootfs").arg(self.root());
        }
        all.args(command);
        all
    }

    /// `berth run` on this ground's root file system, to its end.
    #[track_caller]
    pub fn run(&self, options: &[&str], command: &[&str]) -> Exit {
        Running::start(&mut self.run_command(options, command)).end()
    }

    /// The same, of a shell script.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> Exit {
        self.run(options, &["sh", "-c", script])
    }

    /// `berth run` of a shell script, left running.
    #[track_caller]
    pub fn start(&self, options: &[&str], script: &str) -> Running {
        Running::start(&mut self.run_command(options, &["sh", "-c", script]))
    }

    /// What `act` does leaves the host as it was, from the first moment after it.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn unchanged<T>(&self, act: impl FnOnce() -> T) -> T {
        let before = Ledger::take(&self.scope);
        let done = act();
        let difference = berth_conformance::diff(&before, &Ledger::take(&self.scope));
        assert!(difference.is_empty(), "{difference:#?}");
        done
    }

    /// The control groups of all of this ground's containers, in each hierarchy.
    pub fn groups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        // Links (cpu → cpu,cpuacct) would name a hierarchy twice.
        let hierarchies = hierarchies.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path());
        let roots = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
        roots.map(|root| root.join(&self.cgroup)).filter(|group| group.is_dir()).collect()
    }

    fn clear(&self) -> Result<(), String> {
        let ps = self.berth(&["ps", "-a", "-q"]);
        for name in ps.stdout.lines() {
            let rm = self.berth(&["rm", "-f", name]);
            if rm.code != Some(0) {
                return Err(format!("{rm:?}"));
            }
        }
        let limit = Instant::now() + Duration::from_secs(10);
        self.before.settle(&self.scope, limit).map_err(|difference| difference.join("\n"))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.cgroup.as_os_str().is_empty() {
            return;
        }
        // A panic is passed on; what else is wrong then is of less interest.
        let left = if std::thread::panicking() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.clear()));
            Ok(())
        } else {
            self.clear()
        };
        for group in self.groups() {
            for child in fs::read_dir(&group).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(child.path());
            }
            let _ = fs::remove_dir(&group);
            // Shared with whoever else tests; it goes with the last of them.
            let _ = group.parent().map(fs::remove_dir);
        }
        if let Err(left) = left {
            panic!("left behind:\n{left}");
        }
    }
}

/// A busybox that needs no libraries.
fn busybox() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|d| d.join("busybox")).find(|p| p.is_file())?;
    // A dynamic program names its loader in one of its first headers (elf(5), PT_INTERP).
    let bytes = fs::read(&found).ok()?;
    let head = &bytes[..bytes.len().min(4096)];
    (bytes.starts_with(b"\x7fELF") && !head.windows(4).any(|w| w == b"/ld-")).then_some(found)
}
