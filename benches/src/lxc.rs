// SPDX-License-Identifier: Apache-2.0
//! Containers of LXC: a launch from a template whose result is kept, against `lxc-start` of a container that is there.
//!
//! Each is a whole process, from before its spawn until it says that the container runs; what is started is ended and removed
//! outside of what is timed. The first launch, which runs the template, and the nine after it are not timed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;

use crate::agent::daemon::{Daemon, reap};
use crate::contestant::{self, Programs};
use crate::error::Error;
use crate::report::{disturbances, line};
use crate::rounds::{Contestant, Pace, Stop, check, take_turns};
use crate::site::{Site, find_program};
use crate::stats::Summary;

/// Launches before those that are timed.
const BEFORE: usize = 9;
const NAMES: [&str; 5] = [
    "lxc-start",
    "lxc-copy -s, lxc-start",
    "berth run -d, a command",
    "berth run -d --system",
    "berth lxc start",
];
const TEMPLATE: &str = "/usr/share/lxc/templates/lxc-busybox";

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct LxcReport {
    storage: String,
    version: String,
    rows: Vec<Row>,
    repeated: usize,
    disturbed: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    #[serde(flatten)]
    summary: Summary,
    /// Its median over the median of `lxc-start`.
    to_lxc_start: f64,
}

/// Why it can not be measured here, if so.
pub(crate) fn missing(programs: &Programs) -> Option<String> {
    if !programs.berth.is_file() {
        return Some(format!("{} does not exist", programs.berth.display()));
    }
    let tools = ["lxc-start", "lxc-create", "lxc-copy", "lxc-stop", "lxc-destroy"];
    match tools.into_iter().find(|tool| find_program(tool).is_none()) {
        Some(tool) => Some(format!("there is no {tool}: install lxc")),
        None if !Path::new(TEMPLATE).exists() => {
            Some("there is no template busybox: install lxc-templates".into())
        }
        None => None,
    }
}

/// Measures on the last storage: where containers of LXC are is a disk.
pub(crate) fn measure(
    programs: &Programs,
    site: &Site,
    times: usize,
    stop: &Stop,
) -> Result<LxcReport, Error> {
    let stage = site.stages.last().expect("a site has a stage");
    let own = Own::create(site, &stage.folder)?;
    let daemon = Daemon::start_with(programs, site, stage, vec!["--containerizers=lxc".to_owned()])?;
    let mut contestants: Vec<Contestant<'_>> = vec![
        Box::new(|| {
            let duration = timed(own.tool("lxc-start", &own.name))?;
            done(own.stop(&own.name))?;
            Ok(duration)
        }),
        Box::new(|| {
            let copy = format!("{}-copy", own.name);
            let mut made = own.tool("lxc-copy", &own.name);
            made.args(["--snapshot", "--newname", &copy]);
            let duration = timed(made)? + timed(own.tool("lxc-start", &copy))?;
            done(own.stop(&copy))?;
            done(own.tool("lxc-destroy", &copy))?;
            Ok(duration)
        }),
        Box::new(|| launch(&daemon, &[])),
        Box::new(|| launch(&daemon, &["--system"])),
        Box::new(|| {
            let mut command = Command::new(&programs.berth);
            command.args(["lxc", "start", "-n", &own.name, "-P"]).arg(&own.path);
            let duration = timed(command)?;
            done(own.stop(&own.name))?;
            Ok(duration)
        }),
    ];
    for _ in 0..BEFORE {
        for contestant in &mut contestants {
            check(stop)?;
            contestant()?;
        }
    }
    let measured = take_turns(contestants, times, Pace::ONE_BY_ONE, stop)?;
    let lxc = measured.summaries.first().map_or(f64::NAN, |summary| summary.median_ms);
    let row = |(name, summary): (&&'static str, &Summary)| Row {
        name,
        summary: *summary,
        to_lxc_start: summary.median_ms / lxc,
    };
    Ok(LxcReport {
        storage: stage.name.clone(),
        version: own.version(),
        rows: NAMES.iter().zip(&measured.summaries).map(row).collect(),
        repeated: measured.repeated,
        disturbed: measured.disturbed,
    })
}

/// From the template, until it runs; removed outside of what is timed.
fn launch(daemon: &Daemon, more: &[&str]) -> Result<Duration, Error> {
    let name = daemon.id().to_string();
    let mut command = daemon.berth();
    command.args(["run", "-d", "--name", &name, "--containerizer", "lxc", "--template", "busybox"]);
    command.args(more).args(["--", "/bin/sleep", "10000"]);
    let duration = timed(command)?;
    let mut remove = daemon.berth();
    remove.args(["rm", "--force", &name]);
    done(remove)?;
    reap();
    Ok(duration)
}

fn timed(command: Command) -> Result<Duration, Error> {
    let mut command = contestant::quiet(command);
    let (duration, status) = contestant::time(&mut command)?;
    if status.success() {
        Ok(duration)
    } else {
        Err(failed(&command, "timed", status.to_string(), String::new()))
    }
}

fn done(mut command: Command) -> Result<(), Error> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Start { program: contestant::show(&command), source })?;
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&command, "between two that are timed", output.status.to_string(), words)),
    }
}

fn failed(command: &Command, when: &str, status: String, output: String) -> Error {
    Error::Failed { program: contestant::show(command), when: when.to_owned(), status, output }
}

/// A container of LXC's own, in a directory of its own. Both go when this is dropped.
struct Own {
    path: PathBuf,
    name: String,
}

impl Own {
    fn create(site: &Site, folder: &Path) -> Result<Own, Error> {
        let path = folder.join("lxc");
        fs::create_dir_all(&path).map_err(Error::file("make", path.clone()))?;
        let own = Own { path, name: site.group().to_owned() };
        let config = own.path.join("empty.conf");
        fs::write(&config, "lxc.net.0.type = empty\n").map_err(Error::file("write", config.clone()))?;
        let mut create = own.tool("lxc-create", &own.name);
        create.args(["--template", "busybox", "--config"]).arg(&config);
        done(create)?;
        Ok(own)
    }

    fn tool(&self, program: &str, name: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--lxcpath").arg(&self.path).args(["--name", name]);
        command
    }

    fn stop(&self, name: &str) -> Command {
        let mut command = self.tool("lxc-stop", name);
        command.arg("--kill");
        command
    }

    fn version(&self) -> String {
        let output = Command::new("lxc-start").arg("--version").output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for name in [format!("{}-copy", self.name), self.name.clone()] {
            if self.path.join(&name).exists() {
                let mut destroy = self.tool("lxc-destroy", &name);
                if let Err(error) = done({
                    destroy.arg("--force");
                    destroy
                }) {
                    eprintln!("berth-bench: {error}");
                }
            }
        }
    }
}

impl LxcReport {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        line(&mut text, &format!("containers of LXC {} until they run, on {}", self.version, self.storage));
        let header = ["min ms", "median ms", "p90 ms", "/ lxc-start"].map(|title| format!("{title:>13}"));
        line(&mut text, &format!("  {:<24}{}", "", header.concat()));
        for Row { name, summary, to_lxc_start } in &self.rows {
            let numbers = [summary.min_ms, summary.median_ms, summary.p90_ms].map(|ms| format!("{ms:>13.2}"));
            line(&mut text, &format!("  {name:<24}{}{to_lxc_start:>13.2}", numbers.concat()));
        }
        disturbances(&mut text, self.repeated, self.disturbed);
        text
    }
}
