// SPDX-License-Identifier: Apache-2.0
//! Directories of one test, a root file system, and the ledger of what was there before.

use crate::{Exit, PATIENCE, State, berth, soon};
use berth_conformance::{Ledger, Scope, Site};
use berth_sys::rustix::process::{Pid, Signal, geteuid, kill_process};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

/// The ground of one test. What is left of it when it is dropped is removed by force, so that a test which fails
/// leaves nothing either.
#[derive(Debug)]
pub struct Ground {
    site: Site,
    berth: PathBuf,
    cgroup: PathBuf,
    scope: Scope,
    before: Ledger,
    mounts: Vec<PathBuf>,
}

impl Ground {
    /// Directories where one container ran already, so that what stays for all of them is there.
    ///
    /// # Errors
    /// What this machine lacks.
    ///
    /// # Panics
    /// When `berth` can not be built, or can not run a container.
    pub fn new(name: &str) -> Result<Ground, String> {
        Ok(Ground::bare(name)?.settled())
    }

    /// Directories in which nothing was done yet. The ledger knows no control groups until [`Ground::settled`].
    ///
    /// # Errors
    /// What this machine lacks.
    ///
    /// # Panics
    /// When `berth` can not be built, or no directory be made.
    pub fn bare(name: &str) -> Result<Ground, String> {
        if !geteuid().is_root() {
            return Err("root".to_owned());
        }
        if !Path::new("/bin/busybox").exists() {
            return Err("/bin/busybox".to_owned());
        }
        let berth = berth().unwrap_or_else(|e| panic!("{e}")).to_owned();
        let site = Site::new(name).unwrap_or_else(|e| panic!("make directories: {e}"));
        let scope = Scope::new(site.marker(), [site.work_dir(), site.runtime_dir()]);
        let before = Ledger::take(&scope);
        let ground = Ground { site, berth, cgroup: PathBuf::new(), scope, before, mounts: Vec::new() };
        ground.fill_root().unwrap_or_else(|e| panic!("make a root file system: {e}"));
        Ok(ground)
    }

    /// Puts a tmpfs with these mount options at one of its directories, until it is dropped.
    ///
    /// # Panics
    /// When it can not be mounted.
    pub fn mount(mut self, at: PathBuf, options: &str) -> Ground {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&at).output();
        let mounted = mounted.unwrap_or_else(|e| panic!("start mount: {e}"));
        assert!(mounted.status.success(), "mount a tmpfs: {mounted:?}");
        self.mounts.push(at);
        self
    }

    /// Runs a container. What is there then is what is to be there afterwards.
    ///
    /// # Panics
    /// When no container can be run.
    pub fn settled(mut self) -> Ground {
        let warm = self.run(&["--rm", "--name", "warm"], &["true"]);
        let instance = fs::read_to_string(self.runtime_dir().join("instance")).unwrap_or_default();
        let word = instance.split(|c: char| !c.is_ascii_hexdigit()).find(|w| w.len() >= 8);
        if let Some(id) = word {
            self.cgroup = Path::new("berth").join(id);
            self.scope = self.scope.clone().with_cgroup(&self.cgroup);
        }
        assert_eq!((warm.code, warm.stderr.as_str()), (Some(0), ""), "berth can not run a container");
        self.before = Ledger::take(&self.scope);
        self
    }

    fn fill_root(&self) -> io::Result<()> {
        let bin = self.root().join("bin");
        fs::create_dir_all(&bin)?;
        fs::copy("/bin/busybox", bin.join("busybox"))?;
        for name in ["sh", "sleep", "cat", "true", "kill", "dd", "yes", "head"] {
            symlink("busybox", bin.join(name))?;
        }
        Ok(())
    }

    /// The root file system.
    pub fn root(&self) -> PathBuf {
        self.site.work_dir().with_file_name("root")
    }

    /// `--runtime-dir`.
    pub fn runtime_dir(&self) -> PathBuf {
        self.site.runtime_dir()
    }

    /// `--work-dir`.
    pub fn work_dir(&self) -> PathBuf {
        self.site.work_dir()
    }

    /// A name that only this ground's containers have. A supervisor bears its container's name, and so the ledger
    /// finds it.
    pub fn name(&self, last: impl std::fmt::Display) -> String {
        format!("{}-{last}", self.site.marker())
    }

    /// `berth` with this ground's directories.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.berth);
        command.args(self.directories()).stdin(Stdio::null());
        command
    }

    fn directories(&self) -> [std::ffi::OsString; 4] {
        ["--runtime-dir".into(), self.runtime_dir().into(), "--work-dir".into(), self.work_dir().into()]
    }

    /// `berth` with these arguments, to its end.
    ///
    /// # Panics
    /// When it can not be started.
    pub fn berth(&self, args: &[&str]) -> Exit {
        self.finish(self.command().args(args))
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it can not be started, or hangs.
    pub fn finish(&self, command: &mut Command) -> Exit {
        self.ends(command).unwrap_or_else(|e| panic!("{command:?}: {e}")).into()
    }

    /// What `berth run` gets for a container of this ground: the options, limits, the root file system, the command.
    pub fn run_arguments(&self, options: &[&str], command: &[&str]) -> Vec<std::ffi::OsString> {
        let limits =
            ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "--hostname", "faults", "--rootfs"];
        let mut all: Vec<std::ffi::OsString> = vec!["run".into()];
        all.extend(options.iter().chain(&limits).map(Into::into));
        all.push(self.root().into());
        all.extend(command.iter().map(Into::into));
        all
    }

    /// `berth run`, to its end.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Exit {
        self.finish(self.command().args(self.run_arguments(options, command)))
    }

    /// The tracer, about to start `berth` with these arguments. `program` is its path.
    pub fn traced(&self, program: &str, target: &str, at: u64, args: &[std::ffi::OsString]) -> Command {
        let mut command = Command::new(program);
        command.arg(target).arg(at.to_string()).arg(&self.berth).args(self.directories()).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// The state of a container, by a `berth ps` that collects, and has nothing to complain about.
    ///
    /// # Errors
    /// It failed or complained.
    pub fn state(&self, name: &str) -> Result<State, String> {
        let ps = self.berth(&["ps", "-a", "-o", "json"]);
        if ps.code != Some(0) || !ps.stderr.is_empty() {
            return Err(format!("berth ps: {ps:?}"));
        }
        State::read(&ps.stdout, name)
    }

    /// Removes a container by force.
    ///
    /// # Errors
    /// It failed or complained.
    pub fn remove(&self, name: &str) -> Result<(), String> {
        let rm = self.berth(&["rm", "-f", name]);
        if rm.code == Some(0) && rm.stderr.is_empty() { Ok(()) } else { Err(format!("berth rm -f: {rm:?}")) }
    }

    /// A file of a container's record; none when it is not there.
    pub fn record(&self, name: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.runtime_dir().join("oneshot").join(name).join(file)).ok()
    }

    /// What a container wrote to stdout; none when there is no such file.
    pub fn written(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.work_dir().join("oneshot").join(name).join("stdout")).ok()
    }

    /// Waits until no process of this ground is left: no supervisor, nothing in its control groups.
    ///
    /// # Errors
    /// Which were left when patience ended. They are killed.
    pub fn quiet(&self) -> Result<(), String> {
        let limit = soon();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > limit {
                self.kill_processes();
                return Err(format!("still there: {left:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Those in the control groups, and those whose command line has the marker of this ground in it.
    fn processes(&self) -> Vec<String> {
        let mut scope = self.scope.clone();
        scope.directories.clear();
        let ledger = Ledger::take(&scope);
        ledger.entries().filter(|e| e.starts_with("process ")).map(str::to_owned).collect()
    }

    fn kill_processes(&self) {
        for process in self.processes() {
            let pid = process.split(' ').nth(1).and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Runs a command to its end; one that does not end is killed, with all processes of this ground.
    ///
    /// # Errors
    /// It did not end.
    pub fn ends(&self, command: &mut Command) -> Result<Output, String> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.output(command.spawn().map_err(|e| format!("start it: {e}"))?)
    }

    fn output(&self, program: Child) -> Result<Output, String> {
        let (sender, ended) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || sender.send(program.wait_with_output()));
        let output = ended.recv_timeout(PATIENCE);
        if output.is_err() {
            let left = self.processes();
            self.kill_processes();
            let _ = waiter.join();
            return Err(format!("it hangs; there are {left:?}"));
        }
        let _ = waiter.join();
        output.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// Starts `berth run`, with all three of its streams as pipes.
    ///
    /// # Panics
    /// When it can not be started.
    pub fn start(&self, options: &[&str], command: &[&str]) -> Child {
        let mut berth = self.command();
        berth.args(self.run_arguments(options, command));
        berth.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        berth.spawn().unwrap_or_else(|e| panic!("start {berth:?}: {e}"))
    }

    /// Waits for the end of what was started.
    ///
    /// # Panics
    /// When it does not end; its processes are killed.
    pub fn end(&self, berth: Child) -> Exit {
        self.output(berth).unwrap_or_else(|e| panic!("{e}")).into()
    }

    /// Waits for a fact.
    ///
    /// # Panics
    /// When it does not come to be.
    pub fn wait_for(&self, what: &str, fact: impl Fn() -> bool) {
        let limit = soon();
        while !fact() {
            assert!(Instant::now() < limit, "{what}: not within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Compares the host with what it held at the beginning.
    ///
    /// # Errors
    /// The differences.
    pub fn same(&self) -> Result<(), String> {
        // What a process leaves behind is gone a moment after it.
        let limit = Instant::now() + Duration::from_secs(30);
        self.before.settle(&self.scope, limit).map_err(|difference| difference.join("; "))
    }

    /// Ends and removes everything that is left here.
    pub fn clear(&self) {
        self.kill_processes();
        let ps = self.berth(&["ps", "-a", "-q"]);
        for name in ps.stdout.lines() {
            let _ = self.remove(name);
        }
    }

    fn groups(&self) -> Vec<PathBuf> {
        if self.cgroup.as_os_str().is_empty() {
            return Vec::new();
        }
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path());
        let roots = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
        roots.map(|root| root.join(&self.cgroup)).filter(|group| group.is_dir()).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !self.cgroup.as_os_str().is_empty() {
            self.clear();
        }
        for group in self.groups() {
            for child in fs::read_dir(&group).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(child.path());
            }
            let _ = fs::remove_dir(&group);
            // Shared with whoever else tests; it goes with the last of them.
            let _ = group.parent().map(fs::remove_dir);
        }
        for mount in &self.mounts {
            let _ = Command::new("umount").arg("-l").arg(mount).output();
        }
    }
}
