// SPDX-License-Identifier: Apache-2.0
//! The result, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::agent::AgentReport;
use crate::docker::DockerReport;
use crate::lxc::LxcReport;
use crate::machine::Machine;
use crate::phases::Phase;
use crate::rounds::Timed;
use crate::stats::Summary;

/// Everything that one run of the bench found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// How often each command was timed, at least.
    pub(crate) times: usize,
    pub(crate) versions: Vec<Version>,
    pub(crate) skipped: Vec<Skipped>,
    /// Launch to exit, one table for each storage and pace.
    pub(crate) runs: Vec<Table>,
    /// Programs that do nothing, as context.
    pub(crate) exec_to_exit: Table,
    pub(crate) phases: Vec<Phases>,
    /// The same through an agent; none when there is no berth to run one.
    pub(crate) agent: Option<AgentReport>,
    /// Containers of LXC; none where there is no LXC.
    pub(crate) lxc: Option<LxcReport>,
    /// Containers of a Docker engine; none where there is no Docker.
    pub(crate) docker: Option<DockerReport>,
}

/// What a peer says about itself.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    pub(crate) name: &'static str,
    pub(crate) version: String,
}

/// Who did not take part, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Skipped {
    pub(crate) name: &'static str,
    pub(crate) reason: String,
}

/// Contestants that ran in the same rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) storage: String,
    pub(crate) pace: &'static str,
    pub(crate) rows: Vec<Row>,
    /// Turns taken again because other programs ran meanwhile.
    pub(crate) repeated: usize,
    /// Turns that count although other programs ran meanwhile.
    pub(crate) disturbed: usize,
}

impl Table {
    /// The rows with their ratios, from what was timed in the order of the names.
    pub(crate) fn new(storage: String, pace: &'static str, names: &[&'static str], timed: &Timed) -> Table {
        let rows = rows(names, &timed.summaries);
        Table { storage, pace, rows, repeated: timed.repeated, disturbed: timed.disturbed }
    }

    pub(crate) fn text(&self, text: &mut String) {
        rows_text(text, &self.rows);
        disturbances(text, self.repeated, self.disturbed);
    }
}

/// What came between.
pub(crate) fn disturbances(text: &mut String, repeated: usize, disturbed: usize) {
    if repeated > 0 {
        line(text, &format!("  {repeated} turns taken again: other programs ran meanwhile"));
    }
    if disturbed > 0 {
        let warning = format!("other programs ran in {disturbed} turns that count: do not quote");
        line(text, &format!("  WARNING: {warning}"));
    }
}

/// One contestant.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Its median over the median of the floor program.
    pub(crate) to_floor: Option<f64>,
    /// Its median over the median of crun.
    pub(crate) to_crun: Option<f64>,
}

/// The phases of one contestant on one storage.
#[derive(Debug, Serialize)]
pub(crate) struct Phases {
    pub(crate) name: &'static str,
    pub(crate) storage: String,
    pub(crate) phases: Vec<Phase>,
}

fn rows(names: &[&'static str], summaries: &[Summary]) -> Vec<Row> {
    let median = |wanted: &str| {
        let at = names.iter().position(|name| *name == wanted)?;
        Some(summaries.get(at)?.median_ms)
    };
    // It has another command in each kind of table.
    let crun = names.iter().find(|name| name.starts_with("crun ")).and_then(|name| median(name));
    let floor = median("floor");
    let row = |(name, summary): (&&'static str, &Summary)| Row {
        name,
        summary: *summary,
        to_floor: floor.map(|floor| summary.median_ms / floor),
        to_crun: crun.map(|crun| summary.median_ms / crun),
    };
    names.iter().zip(summaries).map(row).collect()
}

impl Report {
    /// Tables for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.lines());
        for version in &self.versions {
            line(&mut text, &format!("{}: {}", version.name, version.version));
        }
        for skipped in &self.skipped {
            line(&mut text, &format!("{}: {}", skipped.name, skipped.reason));
        }
        for table in &self.runs {
            line(
                &mut text,
                &format!("\nlaunch to exit on {}, {}, {} times", table.storage, table.pace, self.times),
            );
            table.text(&mut text);
        }
        line(&mut text, &format!("\nexec to exit of programs that do nothing, {} times", self.times));
        self.exec_to_exit.text(&mut text);
        for phases in &self.phases {
            line(&mut text, &format!("\nphases of {} on {}, medians in us", phases.name, phases.storage));
            for phase in &phases.phases {
                line(&mut text, &format!("  {:<24}{:>10.1}", phase.name, phase.median));
            }
            let sum: f64 = phases.phases.iter().map(|phase| phase.median).sum();
            line(&mut text, &format!("  {:<24}{sum:>10.1}", "sum"));
        }
        if let Some(agent) = &self.agent {
            agent.text(&mut text);
        }
        if let Some(lxc) = &self.lxc {
            line(&mut text, "");
            text += &lxc.text();
        }
        if let Some(docker) = &self.docker {
            line(&mut text, "");
            text += &docker.text();
        }
        text
    }
}

fn rows_text(text: &mut String, rows: &[Row]) {
    let header = ["min ms", "median ms", "p90 ms", "/ floor", "/ crun"];
    let cells = header.map(|title| format!("{title:>11}")).concat();
    line(text, &format!("  {:<24}{cells}", ""));
    for row in rows {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let numbers =
            [row.summary.min_ms, row.summary.median_ms, row.summary.p90_ms].map(|ms| format!("{ms:>11.3}"));
        let ratios = [row.to_floor, row.to_crun].map(|value| format!("{:>11}", ratio(value)));
        line(text, &format!("  {:<24}{}{}", row.name, numbers.concat(), ratios.concat()));
    }
}

pub(crate) fn line(text: &mut String, content: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(median_ms: f64) -> Summary {
        Summary { count: 1, min_ms: median_ms, median_ms, p90_ms: median_ms }
    }

    #[test]
    fn ratios_are_of_medians_to_floor_and_crun() {
        let rows = rows(&["floor", "berth run", "crun run"], &[summary(2.0), summary(2.2), summary(10.0)]);
        let ratios: Vec<_> = rows.iter().map(|row| (row.to_floor.unwrap(), row.to_crun.unwrap())).collect();
        assert_eq!(ratios, [(1.0, 0.2), (1.1, 0.22000000000000003), (5.0, 1.0)]);
    }

    #[test]
    fn without_crun_there_is_no_ratio_to_it() {
        let rows = rows(&["floor"], &[summary(2.0)]);
        assert_eq!((rows[0].to_floor, rows[0].to_crun), (Some(1.0), None));
        let mut text = String::new();
        rows_text(&mut text, &rows);
        assert!(
            text.lines().nth(1).is_some_and(|line| line.trim_end().ends_with("1.000          -")),
            "{text}"
        );
    }
}
