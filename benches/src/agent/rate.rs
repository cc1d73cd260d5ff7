// SPDX-License-Identifier: Apache-2.0
//! Many at a time: how many containers are launched, waited for and removed in a second.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_client::{Connection, Launch};
use berth_model::ContainerId;
use serde::Serialize;
use tokio::task::JoinSet;

use super::daemon::{Daemon, Network};
use super::peer::{Crun, Floor};
use super::single::well;
use crate::error::Error;
use crate::plan;
use crate::report::line;
use crate::rounds::{Contestant, Pace, Stop, Timed, take_turns};

/// Launches in one turn.
const LAUNCHES: usize = 160;

/// How many a second, on one storage.
#[derive(Debug, Serialize)]
pub(crate) struct Rates {
    storage: String,
    /// How many are under way at once.
    in_flight: usize,
    /// How many there are in one turn.
    launches: usize,
    rows: Vec<Rate>,
    repeated: usize,
    disturbed: usize,
}

/// One contestant.
#[derive(Debug, Serialize)]
struct Rate {
    name: &'static str,
    turns: usize,
    /// In the fastest turn.
    best: f64,
    /// In the median turn.
    median: f64,
    /// Nine tenths of the turns were not slower.
    slow: f64,
    /// Its median over that of crun.
    to_crun: Option<f64>,
}

/// What is done with a container once it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is waited for and removed.
    Remove,
    /// It is left alone.
    Leave,
}

/// All contestants in turn.
pub(crate) fn measure(
    daemon: &Daemon,
    crun: Option<&Crun<'_>>,
    floor: Floor<'_>,
    storage: &str,
    in_flight: usize,
    turns: usize,
    stop: &Stop,
) -> Result<Rates, Error> {
    let mut names = vec!["agent", "agent, host's network"];
    let mut contestants: Vec<Contestant<'_>> = Vec::new();
    for network in [Network::None, Network::Host] {
        let launch = daemon.launch(plan::COMMAND, network);
        contestants.push(Box::new(move || launches(daemon, &launch, LAUNCHES, in_flight, Then::Remove)));
    }
    if let Some(crun) = crun {
        names.push("crun run");
        contestants.push(Box::new(move || crun.in_flight(LAUNCHES, in_flight)));
    }
    names.push("floor");
    contestants.push(Box::new(move || floor.in_flight(LAUNCHES, in_flight)));
    let timed = take_turns(contestants, turns, Pace::ONE_BY_ONE, stop)?;
    Ok(Rates::new(storage, in_flight, &names, &timed))
}

/// Launches that many, so many at once, each of these on a connection of its own. From the first request to the last
/// answer.
pub(crate) fn launches(
    daemon: &Daemon,
    launch: &Launch,
    count: usize,
    in_flight: usize,
    then: Then,
) -> Result<Duration, Error> {
    let ids: VecDeque<ContainerId> = (0..count).map(|_| daemon.id()).collect();
    let left = Arc::new(Mutex::new(ids));
    let connections: Result<Vec<Connection>, Error> = (0..in_flight).map(|_| daemon.connect()).collect();
    let connections = connections?;
    let (elapsed, ended) = daemon.ask("launch with", async {
        let mut workers = JoinSet::new();
        let start = Instant::now();
        for mut connection in connections {
            let (left, launch) = (Arc::clone(&left), launch.clone());
            workers.spawn(async move {
                let mut ended = Vec::new();
                while let Some(id) = next(&left) {
                    connection.launch(&id, &launch).await?;
                    if then == Then::Remove {
                        let end = connection.wait(&id).await?;
                        connection.remove(&id).await?;
                        ended.push((id, end));
                    }
                }
                Ok::<_, berth_client::Error>(ended)
            });
        }
        let mut ended = Vec::new();
        while let Some(worker) = workers.join_next().await {
            // It is not cancelled, and does not panic.
            ended.extend(worker.unwrap_or_else(|_| Ok(Vec::new()))?);
        }
        Ok((start.elapsed(), ended))
    })?;
    for (id, end) in ended {
        well(&id, end)?;
    }
    Ok(elapsed)
}

fn next(left: &Mutex<VecDeque<ContainerId>>) -> Option<ContainerId> {
    left.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

impl Rates {
    fn new(storage: &str, in_flight: usize, names: &[&'static str], timed: &Timed) -> Rates {
        let rate = |ms: f64| LAUNCHES as f64 / (ms / 1e3);
        let crun = names.iter().position(|name| name.starts_with("crun "));
        let crun = crun.and_then(|at| timed.summaries.get(at)).map(|summary| rate(summary.median_ms));
        let rows = names.iter().zip(&timed.summaries).map(|(name, summary)| Rate {
            name,
            turns: summary.count,
            best: rate(summary.min_ms),
            median: rate(summary.median_ms),
            slow: rate(summary.p90_ms),
            to_crun: crun.map(|crun| rate(summary.median_ms) / crun),
        });
        Rates {
            storage: storage.to_owned(),
            in_flight,
            launches: LAUNCHES,
            rows: rows.collect(),
            repeated: timed.repeated,
            disturbed: timed.disturbed,
        }
    }

    pub(crate) fn text(&self, text: &mut String) {
        let (count, at_once, storage) = (self.launches, self.in_flight, &self.storage);
        line(text, &format!("\nlaunches a second on {storage}, {at_once} in flight, turns of {count}"));
        let header = ["best", "median", "slow", "x crun", "turns"];
        line(text, &format!("  {:<24}{}", "", header.map(|title| format!("{title:>11}")).concat()));
        for row in &self.rows {
            let numbers = [row.best, row.median, row.slow].map(|rate| format!("{rate:>11.0}")).concat();
            let ratio = row.to_crun.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            line(text, &format!("  {:<24}{numbers}{ratio:>11}{:>11}", row.name, row.turns));
        }
        crate::report::disturbances(text, self.repeated, self.disturbed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Summary;

    #[test]
    fn rates_are_of_whole_turns_and_compared_with_crun() {
        let summary = |ms: f64| Summary { count: 3, min_ms: ms / 2.0, median_ms: ms, p90_ms: ms * 2.0 };
        let timed = Timed { summaries: vec![summary(320.0), summary(1280.0)], repeated: 0, disturbed: 0 };
        let rates = Rates::new("tmpfs", 16, &["agent", "crun run"], &timed);
        let agent = &rates.rows[0];
        assert_eq!((agent.best, agent.median, agent.slow), (1000.0, 500.0, 250.0));
        assert_eq!((agent.to_crun, rates.rows[1].to_crun), (Some(4.0), Some(1.0)));
        let mut text = String::new();
        rates.text(&mut text);
        assert!(text.contains("16 in flight, turns of 160"), "{text}");
    }
}
