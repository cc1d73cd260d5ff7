// SPDX-License-Identifier: Apache-2.0
//! A `berth agent` in directories of its own, as an operator would start it, and the ways to ask it.
//!
//! The bench adopts what its children leave behind, so that the supervisors of an agent that was killed still count as
//! its own, and end with it.

use std::cell::Cell;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use berth_client::{Agent, Connection, Launch};
use berth_model::{CommandInfo, ContainerId, ContainerInfo, ContainerType, NetworkInfo};
use rustix::process::{Pid, WaitOptions, set_child_subreaper, wait, waitpid};
use tokio::runtime::Runtime;

use crate::contestant::Programs;
use crate::error::Error;
use crate::plan;
use crate::site::{Site, Stage};

/// How long an agent may take to answer for the first time.
const STARTED: Duration = Duration::from_secs(30);
/// How often one that does not answer yet is asked again: what that adds to a recovery is at most this.
const AGAIN: Duration = Duration::from_micros(500);

/// Sooner than any agent ends a connection that nobody uses.
const IDLE: Duration = Duration::from_secs(2);
/// How long an agent rests after a new connection.
const RESTED: Duration = Duration::from_millis(20);

/// An agent. Dropped, its containers are ended and nothing of it runs.
pub(crate) struct Daemon {
    program: PathBuf,
    runtime_dir: PathBuf,
    work_dir: PathBuf,
    log: PathBuf,
    group: String,
    /// The folder with the programs that containers run.
    inside: PathBuf,
    process: Option<Child>,
    runtime: Runtime,
    agent: Agent,
    /// How many names were given.
    names: Cell<u64>,
    /// Flags that this one has beside those that all have.
    more: Vec<String>,
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Loopback in a namespace of its own.
    None,
    Host,
}

impl Daemon {
    /// Starts one on this stage.
    pub(crate) fn start(programs: &Programs, site: &Site, stage: &Stage) -> Result<Daemon, Error> {
        Daemon::start_with(programs, site, stage, Vec::new())
    }

    /// The same with more flags.
    pub(crate) fn start_with(
        programs: &Programs,
        site: &Site,
        stage: &Stage,
        more: Vec<String>,
    ) -> Result<Daemon, Error> {
        let (runtime_dir, work_dir) = (stage.state("agent"), stage.folder.join("agent"));
        for folder in [&runtime_dir, &work_dir] {
            std::fs::create_dir_all(folder).map_err(Error::file("make", folder.clone()))?;
        }
        set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| Error::Start { program: "an agent".to_owned(), source: errno.into() })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|source| Error::Start { program: "an event loop".to_owned(), source })?;
        let mut daemon = Daemon {
            program: programs.berth.clone(),
            agent: Agent::at(runtime_dir.join("berth.sock")),
            log: stage.state("agent.log"),
            group: format!("/{}/agent", site.group()),
            inside: stage.rootfs().join("bin"),
            runtime_dir,
            work_dir,
            process: None,
            runtime,
            names: Cell::new(0),
            more,
        };
        daemon.begin()?;
        Ok(daemon)
    }

    /// A `berth` that finds this agent.
    pub(crate) fn berth(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("BERTH_RUNTIME_DIR", &self.runtime_dir).env("BERTH_WORK_DIR", &self.work_dir);
        command
    }

    fn command(&self) -> Result<Command, Error> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(Error::file("open", self.log.clone()))?;
        let mut command = self.berth();
        command.arg("agent").arg(format!("--cgroups_root={}", self.group)).args(&self.more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Starts the process and asks it until it lists its containers. How long that took.
    fn begin(&mut self) -> Result<Duration, Error> {
        let mut command = self.command()?;
        let start = Instant::now();
        let process =
            command.spawn().map_err(|source| Error::Start { program: "an agent".to_owned(), source })?;
        self.process = Some(process);
        loop {
            let asked = self.runtime.block_on(async { self.agent.connect().await?.containers().await });
            match asked {
                Ok(_) => return Ok(start.elapsed()),
                Err(error) => {
                    let ended =
                        self.process.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
                    if ended || start.elapsed() > STARTED {
                        return Err(self.failed("start", error));
                    }
                    thread::sleep(AGAIN);
                }
            }
        }
    }

    /// Kills it and starts the next one. From exec until that one lists the containers.
    pub(crate) fn recover(&mut self) -> Result<Duration, Error> {
        self.kill();
        self.begin()
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only when it has ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.as_ref().and_then(|process| i32::try_from(process.id()).ok()).unwrap_or(0)
    }

    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Waits for an answer. What asks is the only thing that runs in this process.
    pub(crate) fn ask<T>(
        &self,
        what: &'static str,
        question: impl Future<Output = Result<T, berth_client::Error>>,
    ) -> Result<T, Error> {
        self.runtime.block_on(question).map_err(|error| self.failed(what, error))
    }

    /// Waits for what asks somebody else than the agent.
    pub(crate) fn wait_for<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.runtime.block_on(work)
    }

    pub(crate) fn connect(&self) -> Result<Connection, Error> {
        self.ask("connect to", self.agent.connect())
    }

    /// What an agent was asked, what it said, and the end of its log.
    pub(crate) fn failed(&self, what: &'static str, source: berth_client::Error) -> Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(5)..].join("\n  ");
        Error::Agent { what, log, source: Box::new(source) }
    }

    /// An id that was not given before.
    pub(crate) fn id(&self) -> ContainerId {
        let number = self.names.replace(self.names.get() + 1);
        ContainerId::new(format!("bench-{number}")).expect("letters, digits and a dash make an id")
    }

    /// Where containers on the host's root file system find a program of the stage.
    pub(crate) fn path_of(&self, program: &str) -> String {
        let name = program.rsplit('/').next().unwrap_or_default();
        self.inside.join(name).display().to_string()
    }

    /// A command of the stage's programs.
    pub(crate) fn inside(&self, command: &[&str]) -> CommandInfo {
        CommandInfo {
            shell: false,
            value: command.first().map(|program| self.path_of(program)),
            arguments: command.iter().map(|&word| word.to_owned()).collect(),
            ..CommandInfo::default()
        }
    }

    /// A container with the limits that all contestants have.
    pub(crate) fn launch(&self, command: &[&str], network: Network) -> Launch {
        let name = match network {
            Network::None => "none",
            Network::Host => "host",
        };
        Launch {
            command: self.inside(command),
            container: Some(ContainerInfo {
                r#type: ContainerType::Mesos,
                hostname: Some(plan::HOSTNAME.to_owned()),
                network_infos: vec![NetworkInfo { name: Some(name.to_owned()), ..NetworkInfo::default() }],
                ..ContainerInfo::default()
            }),
            limits: plan::LIMITS.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            ..Launch::default()
        }
    }
}

impl Drop for Daemon {
    /// An agent with `--recover=cleanup` destroys all containers and ends. What it does not get, ends with the site's
    /// control groups.
    fn drop(&mut self) {
        self.kill();
        let cleanup = self.command().and_then(|mut command| {
            let status = command.arg("--recover=cleanup").status();
            status.map_err(|source| Error::Start { program: "an agent".to_owned(), source })
        });
        match cleanup {
            Ok(status) if status.success() => {}
            Ok(status) => eprintln!("berth-bench: an agent that was to clean up ended with {status}"),
            Err(error) => eprintln!("berth-bench: {error}"),
        }
        reap();
    }
}

/// A connection that is kept, for as long as the agent keeps it too: one that was idle for long is made anew.
#[derive(Debug)]
pub(crate) struct Line {
    connection: Option<Connection>,
    used: Instant,
}

impl Line {
    pub(crate) fn new() -> Line {
        Line { connection: None, used: Instant::now() }
    }

    /// The connection; a new one has been used once, and the agent has rested since.
    pub(crate) fn get(&mut self, daemon: &Daemon) -> Result<&mut Connection, Error> {
        let idle = self.used.elapsed() > IDLE;
        self.used = Instant::now();
        if idle {
            self.connection = None;
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => {
                let mut connection = daemon.connect()?;
                daemon.ask("ask", connection.version())?;
                thread::sleep(RESTED);
                Ok(none.insert(connection))
            }
        }
    }
}

/// Reaps what was adopted and has ended.
pub(crate) fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// Waits for the end of an adopted process, and reaps it.
pub(crate) fn reap_one(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It is no child of ours when somebody else adopted it, and then not ours to reap.
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
}
