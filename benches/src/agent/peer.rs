// SPDX-License-Identifier: Apache-2.0
//! crun, asked for what the agent is asked for: a container that is left running, a further process in it, and many
//! at once.
//!
//! Its bundle has what an agent's container on the host's root file system has: the namespaces, the limits, the filter,
//! the masks, and of the mounts /proc. What it has more is a root to change to, the plain directory, and a tmpfs on
//! /dev: crun makes devices whatever the bundle says, and without it all would make them in the same directory.

use std::ffi::OsStr;
use std::fs::File;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::json;

use super::daemon::reap_one;
use crate::error::Error;
use crate::site::{Site, Stage};
use crate::{contestant, oci, plan, procfs};

/// crun on one stage.
pub(crate) struct Crun<'a> {
    program: &'a Path,
    site: &'a Site,
    stage: &'a Stage,
}

impl<'a> Crun<'a> {
    pub(crate) fn new(program: &'a Path, site: &'a Site, stage: &'a Stage) -> Crun<'a> {
        Crun { program, site, stage }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--root").arg(self.stage.state("crun")).arg(verb);
        contestant::quiet(command)
    }

    /// Where it says why it failed, to be read when it has.
    fn errors(&self, name: &str) -> Result<(PathBuf, File), Error> {
        let path = self.stage.state(&format!("{name}.stderr"));
        let file = File::create(&path).map_err(Error::file("make", path.clone()))?;
        Ok((path, file))
    }

    fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.site.group())
    }

    /// `crun run` of the container of that name. Each has a bundle of its own: its control group is in it.
    fn run(&self, name: &str, inside: &[&str], options: &[&OsStr]) -> Result<Command, Error> {
        let group = format!("/{}/{name}", self.site.group());
        let mut config = oci::config(&self.stage.rootfs(), &group, inside);
        config["mounts"] = json!([oci::proc(), oci::dev()]);
        let bundle = self.stage.bundle(name, &config)?;
        let mut command = self.command("run");
        command.arg("--bundle").arg(bundle).args(options).arg(self.id(name));
        Ok(command)
    }

    /// One that goes on when the command has ended, which is when its program was started.
    pub(crate) fn detached(&self, name: &str, inside: &[&str]) -> Result<Detached, Error> {
        let pid_file = self.stage.state(name);
        let options = ["--detach".as_ref(), "--pid-file".as_ref(), pid_file.as_os_str()];
        let run = self.run(name, inside, &options)?;
        let mut delete = self.command("delete");
        delete.arg("--force").arg(self.id(name));
        Ok(Detached { run, delete, pid_file, pid: None })
    }

    /// A further process in the container of that name.
    pub(crate) fn exec(&self, name: &str, inside: &[&str]) -> Command {
        let mut command = self.command("exec");
        command.arg(self.id(name)).args(inside);
        command
    }

    /// Runs that many, so many at once, each in a loop of its own. From the first start to the last end.
    pub(crate) fn in_flight(&self, launches: usize, at_once: usize) -> Result<Duration, Error> {
        let worker = |number: usize| {
            let name = format!("crun-{number}");
            let mut command = self.run(&name, plan::COMMAND, &[])?;
            let (path, file) = self.errors(&name)?;
            command.stderr(file);
            Ok((command, path))
        };
        let commands: Result<Vec<(Command, PathBuf)>, Error> = (0..at_once).map(worker).collect();
        loops(commands?, launches)
    }
}

/// What the kernel does for such a container, and nothing else: the floor program on the host's root file system, its groups
/// and its log made and removed by itself. A loop of it has no agent, no record and no API.
#[derive(Clone, Copy)]
pub(crate) struct Floor<'a> {
    pub(crate) site: &'a Site,
    pub(crate) stage: &'a Stage,
}

impl Floor<'_> {
    /// As [`Crun::in_flight`].
    pub(crate) fn in_flight(&self, launches: usize, at_once: usize) -> Result<Duration, Error> {
        let program = self.stage.rootfs().join("bin/true");
        let worker = |number: usize| {
            let path = self.stage.state(&format!("floor-{number}.stderr"));
            let file = File::create(&path).map_err(Error::file("make", path.clone()))?;
            let mut command = contestant::kept_floor(self.site, self.stage, &program);
            command.stderr(file);
            Ok((command, path))
        };
        let commands: Result<Vec<(Command, PathBuf)>, Error> = (0..at_once).map(worker).collect();
        loops(commands?, launches)
    }
}

/// Runs the commands that many times in all, each in a loop of its own. From the first start to the last end.
fn loops(commands: Vec<(Command, PathBuf)>, launches: usize) -> Result<Duration, Error> {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let results: Vec<Result<(), Error>> = thread::scope(|scope| {
        let workers: Vec<_> = commands
            .into_iter()
            .map(|(mut command, path)| {
                let next = &next;
                scope.spawn(move || {
                    while next.fetch_add(1, Ordering::Relaxed) < launches {
                        must(&mut command).map_err(|error| saying(error, &path))?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let elapsed = start.elapsed();
    results.into_iter().collect::<Result<(), Error>>()?;
    Ok(elapsed)
}

/// A container of crun's that is left running. Dropped, it is ended.
pub(crate) struct Detached {
    run: Command,
    delete: Command,
    pid_file: PathBuf,
    pid: Option<i32>,
}

impl Detached {
    /// Until it runs.
    pub(crate) fn start(&mut self) -> Result<Duration, Error> {
        let start = Instant::now();
        must(&mut self.run)?;
        let elapsed = start.elapsed();
        let text = fs::read_to_string(&self.pid_file).map_err(Error::file("read", self.pid_file.clone()))?;
        self.pid = text.trim().parse().ok();
        Ok(elapsed)
    }

    /// Waits for its own end, and removes it.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if let Some(pid) = self.pid.take() {
            reap_one(pid);
        }
        must(&mut self.delete)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            procfs::kill(pid);
            // The site's control groups end what is left.
            let _ = self.finish();
        }
    }
}

fn must(command: &mut Command) -> Result<(), Error> {
    let (_, status) = contestant::time(command)?;
    if status.success() {
        return Ok(());
    }
    // Once more would be another container: what it says is lost, but not which command it was.
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    Err(Error::Failed {
        program: contestant::show(command),
        when: words.join(" "),
        status: status.to_string(),
        output: "its output was discarded".to_owned(),
    })
}

/// With what the program wrote.
fn saying(error: Error, path: &Path) -> Error {
    match error {
        Error::Failed { program, when, status, .. } => {
            let output = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
            Error::Failed { program, when, status, output }
        }
        other => other,
    }
}

/// That this crun can run the bundle at all.
pub(crate) fn prove(crun: &Crun<'_>) -> Result<(), Error> {
    let command = crun.run("crun-tried", plan::COMMAND, &[])?;
    contestant::prove(command, "tried once before the rounds").map(|_| ())
}
