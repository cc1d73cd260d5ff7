// SPDX-License-Identifier: Apache-2.0
//! One thing at a time: a launch until it runs, and a further process in a container until its exit status.

use std::time::{Duration, Instant};

use berth_client::Connection;
use berth_model::ContainerId;
use berth_proto::agent::response::WaitContainer;

use super::daemon::{Daemon, Line, Network};
use super::peer::Crun;
use crate::error::Error;
use crate::report::Table;
use crate::rounds::{Contestant, Pace, Stop, take_turns, whole_process};
use crate::{contestant, plan};

/// Launches `true`, one at a time. Each is removed before the next, outside of what is timed.
pub(crate) fn launches(
    daemon: &Daemon,
    crun: Option<&Crun<'_>>,
    storage: &str,
    times: usize,
    stop: &Stop,
) -> Result<Table, Error> {
    let mut names = vec!["agent", "agent, host's network"];
    let mut contestants: Vec<Contestant<'_>> = Vec::new();
    for network in [Network::None, Network::Host] {
        let (launch, mut line) = (daemon.launch(plan::COMMAND, network), Line::new());
        contestants.push(Box::new(move || {
            let (id, connection) = (daemon.id(), line.get(daemon)?);
            let (duration, ended) = daemon.ask("launch with", async {
                let start = Instant::now();
                connection.launch(&id, &launch).await?;
                let duration = start.elapsed();
                let ended = connection.wait(&id).await?;
                connection.remove(&id).await?;
                Ok((duration, ended))
            })?;
            well(&id, ended)?;
            Ok(duration)
        }));
    }
    if let Some(crun) = crun {
        names.push("crun run --detach");
        let mut detached = crun.detached("crun-detached", plan::COMMAND)?;
        contestants.push(Box::new(move || {
            let duration = detached.start()?;
            detached.finish()?;
            Ok(duration)
        }));
    }
    let timed = take_turns(contestants, times, Pace::PAUSES, stop)?;
    Ok(Table::new(storage.to_owned(), Pace::PAUSES.name, &names, &timed))
}

/// Runs `true` in a container that runs.
pub(crate) fn sessions(
    daemon: &Daemon,
    crun: Option<&Crun<'_>>,
    storage: &str,
    times: usize,
    stop: &Stop,
) -> Result<Table, Error> {
    let sleeper = daemon.id();
    let (mut connection, mut line) = (daemon.connect()?, Line::new());
    let launch = daemon.launch(plan::SLEEP, Network::None);
    daemon.ask("launch with", connection.launch(&sleeper, &launch))?;
    let exec = || {
        let mut command = daemon.berth();
        command.args(["exec".to_owned(), sleeper.to_string(), daemon.path_of("true")]);
        command
    };
    contestant::prove(exec(), "tried once before the rounds")?;
    let mut names = vec!["agent", "berth exec"];
    let mut contestants: Vec<Contestant<'_>> =
        vec![Box::new(|| session(daemon, line.get(daemon)?, &sleeper)), whole_process(exec())];
    let mut beside = None;
    if let Some(crun) = crun {
        names.push("crun exec");
        beside.insert(crun.detached("crun-sleeper", plan::SLEEP)?).start()?;
        contestants.push(whole_process(crun.exec("crun-sleeper", plan::COMMAND)));
    }
    let timed = take_turns(contestants, times, Pace::ONE_BY_ONE, stop)?;
    drop(beside);
    let mut connection = daemon.connect()?;
    daemon.ask("end a container with", async {
        connection.kill(&sleeper, 9).await?;
        connection.wait(&sleeper).await?;
        connection.remove(&sleeper).await
    })?;
    Ok(Table::new(storage.to_owned(), Pace::ONE_BY_ONE.name, &names, &timed))
}

/// From the request to the exit status; the end of the stream and the removal of its record are not in it.
fn session(daemon: &Daemon, connection: &mut Connection, inside: &ContainerId) -> Result<Duration, Error> {
    let leaf = daemon.id();
    let id = ContainerId::nested(inside.clone(), leaf.value()).expect("two levels are not too many");
    let command = daemon.inside(plan::COMMAND);
    let (duration, ended) = daemon.ask("run a session with", async {
        let start = Instant::now();
        let mut output = daemon.agent().session(&id, &command, None).await?;
        let ended = connection.wait(&id).await?;
        let duration = start.elapsed();
        if let Some(output) = &mut output {
            while output.next().await?.is_some() {}
        }
        connection.remove(&id).await?;
        Ok((duration, ended))
    })?;
    well(&id, ended)?;
    Ok(duration)
}

/// Only what succeeded is a measurement.
pub(crate) fn well(id: &ContainerId, ended: WaitContainer) -> Result<(), Error> {
    if ended.exit_status == Some(0) {
        return Ok(());
    }
    let message = ended.message.unwrap_or_default();
    Err(Error::Ended { id: id.to_string(), status: ended.exit_status, message })
}
