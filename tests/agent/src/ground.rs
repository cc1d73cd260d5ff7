// SPDX-License-Identifier: Apache-2.0
//! Directories of one test, an agent on them, and the ledger of what was there before.

use crate::process::Process;
use crate::{Api, Exit, Groups, PATIENCE, berth, shell, until};
use berth_conformance::{Ledger, Scope, Site};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The ground of one test: directories, and at most one agent on them. What is left of it when it is dropped is removed
/// by force, so that a test which fails leaves nothing either.
#[derive(Debug)]
pub struct Ground {
    site: Site,
    berth: PathBuf,
    cgroup: PathBuf,
    scope: Scope,
    before: Ledger,
    agent: Option<Process>,
}

impl Ground {
    /// Directories on which an agent ran a container already, so that what stays for all is there. No agent runs.
    ///
    /// # Errors
    /// What this machine lacks.
    ///
    /// # Panics
    /// When `berth` can not be built, or the agent not run a container.
    pub fn new(name: &str) -> Result<Ground, String> {
        if !geteuid().is_root() {
            return Err("root".to_owned());
        }
        let groups = ["cgroup.procs", "memory/cgroup.procs"];
        if !groups.iter().any(|file| Path::new("/sys/fs/cgroup").join(file).exists()) {
            return Err("control groups".to_owned());
        }
        let berth = berth().unwrap_or_else(|e| panic!("{e}")).to_owned();
        let site = Site::new(name).unwrap_or_else(|e| panic!("make directories: {e}"));
        fs::create_dir(site.work_dir().with_file_name("etc")).unwrap_or_else(|e| panic!("{e}"));
        let scope = Scope::new(site.marker(), [site.work_dir(), site.runtime_dir()]);
        let before = Ledger::take(&scope);
        let mut ground = Ground { site, berth, cgroup: PathBuf::new(), scope, before, agent: None };
        ground.settle();
        Ok(ground)
    }

    /// An agent on new directories.
    ///
    /// # Errors
    /// As [`Ground::new`].
    pub fn with_agent(name: &str) -> Result<Ground, String> {
        let mut ground = Ground::new(name)?;
        ground.start();
        Ok(ground)
    }

    /// Runs an agent with a container and a session. What is there then is what is to be there afterwards.
    fn settle(&mut self) {
        self.start();
        let instance = fs::read_to_string(self.runtime_dir().join("instance")).unwrap_or_default();
        let word = instance.split(|c: char| !c.is_ascii_hexdigit()).find(|w| w.len() >= 8);
        let word = word.unwrap_or_else(|| panic!("no instance id in {instance:?}"));
        self.cgroup = Path::new("berth").join(word);
        self.scope = self.scope.clone().with_cgroup(&self.cgroup);
        let (api, name) = (self.api(), self.name("warm"));
        let run = || {
            api.launch(&name, &shell("exec sleep 1000"))?;
            api.session(&format!("{name}.s"), &shell("echo up"), async |session| session.rest().await)?;
            api.destroy(&name)
        };
        run().unwrap_or_else(|e| panic!("the agent can not run a container: {e}\n{}", self.log()));
        // Where a command line looks for containers without an agent.
        self.berth(["ps", "-aq"]).good();
        self.stop();
        self.before = Ledger::take(&self.scope);
    }

    /// `--runtime_dir`.
    pub fn runtime_dir(&self) -> PathBuf {
        self.site.runtime_dir()
    }

    /// `--work_dir`.
    pub fn work_dir(&self) -> PathBuf {
        self.site.work_dir()
    }

    /// `--socket`.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir().join("berth.sock")
    }

    /// The sandbox of a container.
    pub fn sandbox(&self, name: &str) -> PathBuf {
        self.work_dir().join("sandboxes").join(name)
    }

    /// The control groups of a container.
    pub fn groups(&self, name: &str) -> Groups {
        Groups::of(&self.cgroup.join(name))
    }

    /// A name that only this ground's containers have. A supervisor bears its container's name, and so the ledger
    /// finds it.
    pub fn name(&self, last: impl std::fmt::Display) -> String {
        format!("{}-{last}", self.site.marker())
    }

    /// What the agents wrote to their log, from the first on.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.work_dir().with_file_name("log")
    }

    /// An agent that is about to be started here.
    pub fn agent(&self) -> Command {
        self.agent_with(&[])
    }

    /// The same, with other values of some of its flags.
    pub fn agent_with(&self, others: &[(&str, &Path)]) -> Command {
        self.with_flags(Command::new(&self.berth), others)
    }

    /// The same below another program, which is given all of its command line.
    pub fn agent_below(&self, program: &str, arguments: &[String]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).arg(&self.berth);
        self.with_flags(command, &[])
    }

    fn with_flags(&self, mut command: Command, others: &[(&str, &Path)]) -> Command {
        let own = [
            ("work_dir", self.work_dir()),
            ("runtime_dir", self.runtime_dir()),
            ("config_dir", self.work_dir().with_file_name("etc")),
            ("socket", self.socket()),
        ];
        // On a host with systemd a scope would stay behind.
        command.args(["agent", "--no-systemd_enable_support"]);
        for (name, value) in &own {
            let other = others.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
            command.arg(format!("--{name}={}", other.unwrap_or(value).display()));
        }
        let log = fs::File::options().create(true).append(true).open(self.log_path());
        let log = log.unwrap_or_else(|e| panic!("open the agent's log: {e}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// Starts the agent, and waits until it answers.
    ///
    /// # Panics
    /// It does not.
    pub fn start(&mut self) {
        let mut command = self.agent();
        self.start_as(&mut command);
    }

    /// Starts the agent by this command, and waits until it answers.
    ///
    /// # Panics
    /// It does not.
    pub fn start_as(&mut self, command: &mut Command) {
        let child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let mut process = Process::new(child);
        let api = self.api();
        until("the agent answers", || {
            if let Some(status) = process.ended() {
                panic!("the agent ended with {status}:\n{}", self.log());
            }
            api.living().is_ok()
        });
        self.agent = Some(process);
    }

    /// The agent that runs.
    ///
    /// # Panics
    /// There is none.
    pub fn process(&self) -> &Process {
        self.agent.as_ref().unwrap_or_else(|| panic!("no agent runs"))
    }

    /// Its API.
    pub fn api(&self) -> Api {
        Api::at(&self.socket())
    }

    /// Kills the agent.
    ///
    /// # Panics
    /// There is none.
    pub fn kill(&mut self) {
        let agent = self.agent.take().unwrap_or_else(|| panic!("no agent runs"));
        agent.end_by(Signal::KILL);
    }

    /// Ends the agent as a service manager would.
    ///
    /// # Panics
    /// There is none, or it does not end well.
    pub fn stop(&mut self) {
        let agent = self.agent.take().unwrap_or_else(|| panic!("no agent runs"));
        let status = agent.end_by(Signal::TERM);
        assert_eq!(status.code(), Some(0), "the agent's end:\n{}", self.log());
    }

    /// Ends and removes all containers, stops the agent (a new one where none runs), and compares the host with what
    /// it held at the beginning.
    ///
    /// # Errors
    /// The differences.
    ///
    /// # Panics
    /// The agent does not start, or a container can not be removed.
    pub fn leave(&mut self) -> Result<(), String> {
        if self.agent.is_none() {
            self.start();
        }
        let api = self.api();
        let all = api.all().unwrap_or_else(|e| panic!("list all containers: {e}"));
        for name in all.iter().filter(|name| !name.contains('.')) {
            match api.destroy(name) {
                // An executor's goes by itself when it has ended.
                Err(error) if !error.is_unknown() => return Err(format!("remove {name}: {error}")),
                _ => {}
            }
        }
        self.stop();
        // What a process leaves behind is gone a moment after it.
        let limit = Instant::now() + Duration::from_secs(30);
        let settled = self.before.settle(&self.scope, limit);
        if settled.is_err() {
            // Told once: whoever goes on here asks what comes anew.
            self.before = Ledger::take(&self.scope);
        }
        settled.map_err(|difference| difference.join("\n"))
    }

    /// Opens the gate of a container whose script waits at the fifo `go` in its sandbox, and says a word through it.
    ///
    /// # Panics
    /// It does not come to its gate.
    pub fn let_go(&self, name: &str, word: &str) {
        use std::io::Write as _;
        let said = writeln!(self.gate(name), "{word}");
        assert!(said.is_ok(), "let {name} go: {said:?}");
    }

    /// The gate of a container that waits there, which goes on with the word that is written to it.
    ///
    /// # Panics
    /// It does not come there.
    #[track_caller]
    pub fn gate(&self, name: &str) -> fs::File {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.sandbox(name).join("go");
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut gate = None;
        until(&format!("{name} waits at its gate"), || {
            // Nobody reads yet: ENXIO.
            gate = fs::File::options().write(true).custom_flags(nonblock).open(&path).ok();
            gate.is_some()
        });
        gate.expect("it was opened")
    }

    /// `berth` as a user types it: with the socket of this agent, and no other directories than this ground's.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.berth);
        command
            .args(arguments)
            .env("BERTH_SOCKET", self.socket())
            .env("BERTH_RUNTIME_DIR", self.runtime_dir())
            .env("BERTH_WORK_DIR", self.work_dir())
            .stdin(Stdio::null());
        command
    }

    /// The same, to its end.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub fn berth<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Exit {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        self.output(child, &format!("{command:?}")).into()
    }

    /// What came of a command that was started with pipes.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub fn output(&self, child: Child, what: &str) -> Output {
        let pid = Pid::from_child(&child);
        let (sender, ended) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || sender.send(child.wait_with_output()));
        let output = ended.recv_timeout(PATIENCE);
        if output.is_err() {
            // It was not reaped: its waiter still waits.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = waiter.join();
        match output {
            Ok(Ok(output)) => output,
            other => panic!("{what} does not end ({other:?}); the agent's log:\n{}", self.log()),
        }
    }

    /// The processes of this ground, in the words of the ledger.
    pub fn processes(&self) -> Vec<String> {
        let mut scope = self.scope.clone();
        scope.directories.clear();
        let ledger = Ledger::take(&scope);
        ledger.entries().filter(|entry| entry.starts_with("process ")).map(str::to_owned).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of the agent's log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        if self.agent.is_some() {
            let api = self.api();
            for name in api.all().unwrap_or_default().iter().filter(|name| !name.contains('.')) {
                let _ = api.kill(name, 9);
            }
        }
        self.agent = None;
        // A supervisor that is killed takes its container along.
        for process in self.processes() {
            let pid = process.split(' ').nth(1).and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let limit = Instant::now() + Duration::from_secs(5);
        while !self.processes().is_empty() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.cgroup.as_os_str().is_empty() {
            return;
        }
        for group in Groups::of(&self.cgroup).paths() {
            for child in fs::read_dir(group).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(child.path());
            }
            let _ = fs::remove_dir(group);
            // Shared with whoever else tests; it goes with the last of them.
            let _ = group.parent().map(fs::remove_dir);
        }
    }
}
