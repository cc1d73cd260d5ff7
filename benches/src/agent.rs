// SPDX-License-Identifier: Apache-2.0
//! The same commands through the API of an agent, paired with crun where it has something to compare.
//!
//! The API has no root file system for standalone containers yet, so theirs is the host's, and crun's bundle leaves away
//! what such a container lacks ([`peer`]).

pub(crate) mod daemon;
pub(crate) mod fleet;
mod peer;
mod rate;
mod single;

use serde::Serialize;

use crate::contestant::Programs;
use crate::error::Error;
use crate::report::{Table, line};
use crate::rounds::Stop;
use crate::site::{Site, Stage};

use daemon::Daemon;
use fleet::Fleet;
use peer::{Crun, Floor};
use rate::Rates;

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Launches a second
    Rate,
    /// One launch until it runs
    Launch,
    /// A further process in a container
    Exec,
    /// Many running containers: lists, recovery, memory
    Fleet,
}

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    /// Only these parts; all when empty.
    pub(crate) only: Vec<Part>,
    /// How often each single thing is timed.
    pub(crate) times: usize,
    /// How many are launched at once.
    pub(crate) in_flight: usize,
    /// How many are to run at once.
    pub(crate) containers: usize,
}

/// Everything that is measured through the agent.
#[derive(Debug, Default, Serialize)]
pub(crate) struct AgentReport {
    rates: Vec<Rates>,
    /// From the request to the answer: it runs.
    launch: Vec<Table>,
    /// From the request to the exit status.
    exec: Vec<Table>,
    fleet: Option<Fleet>,
    /// How often each single thing was timed.
    times: usize,
    /// Why crun took no part, if so.
    skipped: Option<String>,
}

/// Measures on every stage; the many containers on the first, because the storage does not matter to them.
pub(crate) fn measure(
    programs: &Programs,
    site: &Site,
    scale: &Scale,
    stop: &Stop,
) -> Result<AgentReport, Error> {
    let Scale { times, in_flight, containers, .. } = *scale;
    let wanted = |part| scale.only.is_empty() || scale.only.contains(&part);
    let mut report = AgentReport { times, ..AgentReport::default() };
    for stage in &site.stages {
        let crun = match paired(programs, site, stage) {
            Ok(crun) => Some(crun),
            Err(reason) => {
                report.skipped = Some(reason);
                None
            }
        };
        let (crun, storage) = (crun.as_ref(), &stage.name);
        let daemon = Daemon::start(programs, site, stage)?;
        if wanted(Part::Rate) {
            let turns = times.div_ceil(10).max(3);
            report.rates.push(rate::measure(
                &daemon,
                crun,
                Floor { site, stage },
                storage,
                in_flight,
                turns,
                stop,
            )?);
        }
        if wanted(Part::Launch) {
            report.launch.push(single::launches(&daemon, crun, storage, times, stop)?);
        }
        if wanted(Part::Exec) {
            report.exec.push(single::sessions(&daemon, crun, storage, times, stop)?);
        }
    }
    if let Some(stage) = site.stages.first().filter(|_| wanted(Part::Fleet)) {
        let mut daemon = Daemon::start(programs, site, stage)?;
        let fleet = fleet::measure(&mut daemon, &stage.name, containers, in_flight, times, stop)?;
        report.fleet = Some(fleet);
    }
    Ok(report)
}

/// crun, or why it takes no part.
fn paired<'a>(programs: &'a Programs, site: &'a Site, stage: &'a Stage) -> Result<Crun<'a>, String> {
    let program = programs.crun().ok_or_else(|| "not installed, skipped".to_owned())?;
    let crun = Crun::new(program, site, stage);
    peer::prove(&crun).map_err(|error| crate::chain(&error))?;
    Ok(crun)
}

impl AgentReport {
    /// Tables for a terminal.
    pub(crate) fn text(&self, text: &mut String) {
        line(text, "\nthrough the API of an agent, containers on the host's root file system");
        if let Some(reason) = &self.skipped {
            line(text, &format!("crun: {reason}"));
        }
        self.rates.iter().for_each(|rates| rates.text(text));
        let titled = [("request to running", &self.launch), ("exec, request to exit status", &self.exec)];
        for (title, tables) in titled {
            for table in tables {
                let (storage, pace, times) = (&table.storage, table.pace, self.times);
                line(text, &format!("\n{title} on {storage}, {pace}, {times} times"));
                table.text(text);
            }
        }
        if let Some(fleet) = &self.fleet {
            fleet.text(text);
        }
    }
}
