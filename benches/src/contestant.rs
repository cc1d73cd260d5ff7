// SPDX-License-Identifier: Apache-2.0
//! Who is measured, and the command line that each is started with.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::site::{Site, Stage, find_program};
use crate::{oci, plan};

/// A way to run one contained command and clean up after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// floor.c with glibc: the yardstick.
    Floor,
    /// floor.c without a libc: what the yardstick itself loses at its start.
    FloorNoLibc,
    Berth,
    Crun,
    Runc,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] = [Kind::Floor, Kind::FloorNoLibc, Kind::Berth, Kind::Crun, Kind::Runc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Floor => "floor",
            Kind::FloorNoLibc => "floor, no libc",
            Kind::Berth => "berth run",
            Kind::Crun => "crun run",
            Kind::Runc => "runc run",
        }
    }
}

/// Where the programs are that the bench does not make itself.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) berth: PathBuf,
    crun: Option<PathBuf>,
    runc: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn find(berth: PathBuf) -> Programs {
        Programs { berth, crun: find_program("crun"), runc: find_program("runc") }
    }

    /// The peer that the agent is paired with.
    pub(crate) fn crun(&self) -> Option<&Path> {
        self.crun.as_deref()
    }

    /// Why this contestant can not take part, if so.
    pub(crate) fn missing(&self, kind: Kind) -> Option<String> {
        match kind {
            Kind::Floor | Kind::FloorNoLibc => None,
            Kind::Berth if self.berth.is_file() => None,
            Kind::Berth => Some(format!("not built, skipped ({} does not exist)", self.berth.display())),
            Kind::Crun if self.crun.is_some() => None,
            Kind::Runc if self.runc.is_some() => None,
            Kind::Crun | Kind::Runc => Some("not installed, skipped".to_owned()),
        }
    }

    /// What the contestant says about its version, first line.
    pub(crate) fn version(&self, kind: Kind) -> Option<String> {
        let program = match kind {
            Kind::Floor | Kind::FloorNoLibc => return None,
            Kind::Berth => &self.berth,
            Kind::Crun => self.crun.as_ref()?,
            Kind::Runc => self.runc.as_ref()?,
        };
        let output = Command::new(program).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
    }
}

/// The command that runs `inside` in a container on this stage.
pub(crate) fn command(
    kind: Kind,
    programs: &Programs,
    site: &Site,
    stage: &Stage,
    inside: &[&str],
) -> Result<Command, Error> {
    match kind {
        Kind::Floor => Ok(floor("floor", site, stage, &[], inside)),
        Kind::FloorNoLibc => Ok(floor("floor-nolibc", site, stage, &[], inside)),
        Kind::Berth => Ok(berth(programs, stage, inside)),
        Kind::Crun => peer("crun", programs.crun.as_ref(), site, stage, inside),
        Kind::Runc => peer("runc", programs.runc.as_ref(), site, stage, inside),
    }
}

/// The floor program on the host's root file system, where the program is.
pub(crate) fn kept_floor(site: &Site, stage: &Stage, program: &Path) -> Command {
    let mut command = quiet(Command::new(site.bin().join("floor-nolibc")));
    command
        .arg("-k")
        .arg("/")
        .args([stage.folder.join("floor"), site.filter()])
        .arg(site.group())
        .arg(program);
    command
}

/// The floor program; `options` go before those of the stage.
pub(crate) fn floor(program: &str, site: &Site, stage: &Stage, options: &[&str], inside: &[&str]) -> Command {
    let mut command = Command::new(site.bin().join(program));
    command.args(options);
    if stage.volatile {
        command.arg("-v");
    }
    command.args([stage.rootfs(), stage.folder.join("floor"), site.filter()]).arg(site.group()).args(inside);
    command
}

/// `berth run` as an operator would type it for the same container.
fn berth(programs: &Programs, stage: &Stage, inside: &[&str]) -> Command {
    let mut command = Command::new(&programs.berth);
    command.arg("--runtime-dir").arg(stage.state("run"));
    command.arg("--work-dir").arg(stage.folder.join("work"));
    command.args([
        "run",
        "--rm",
        "--network",
        "none",
        "--cpus",
        "0.5",
        "--memory",
        "64m",
        "--pids-limit",
        "50",
    ]);
    command.args(["--hostname", plan::HOSTNAME]).arg("--rootfs").arg(stage.rootfs()).arg("--").args(inside);
    command
}

/// `crun run` or `runc run`, state on the same storage, on the plain root filesystem: they mount no overlay.
fn peer(
    name: &'static str,
    program: Option<&PathBuf>,
    site: &Site,
    stage: &Stage,
    inside: &[&str],
) -> Result<Command, Error> {
    let what = if inside == plan::COMMAND { "timed" } else { "other" };
    let config = oci::config(&stage.rootfs(), &format!("/{}/{name}", site.group()), inside);
    let bundle = stage.bundle(&format!("{name}-{what}"), &config)?;
    let mut command = Command::new(program.map_or(name.as_ref(), |path| path.as_os_str()));
    command.arg("--root").arg(stage.state(name)).args(["run", "--bundle"]).arg(bundle);
    command.arg(format!("{}-{name}", site.group()));
    Ok(command)
}

/// Prepares a command for timing: no standard streams, and a process group of its own, so that ^C reaches the
/// bench alone and what runs ends by itself. Both keep `posix_spawn` in use.
pub(crate) fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command
}

/// From before the spawn until after the wait.
pub(crate) fn time(command: &mut Command) -> Result<(Duration, ExitStatus), Error> {
    let failed = |source, command: &Command| Error::Start { program: show(command), source };
    let start = Instant::now();
    let mut child = command.spawn().map_err(|source| failed(source, command))?;
    let status = child.wait().map_err(|source| failed(source, command))?;
    Ok((start.elapsed(), status))
}

/// Runs it once with its stderr kept. It must succeed.
pub(crate) fn prove(mut command: Command, when: &str) -> Result<String, Error> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    let output = command.output().map_err(|source| Error::Start { program: show(&command), source })?;
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(Error::Failed {
        program: show(&command),
        when: when.to_owned(),
        status: output.status.to_string(),
        output: text,
    })
}

pub(crate) fn show(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
