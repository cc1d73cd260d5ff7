// SPDX-License-Identifier: Apache-2.0
//! The task that owns a container that runs, until its end.
//!
//! The end is heard from the kernel where the process is known, and from the engine where not. An engine that says nothing
//! of a container whose process has ended is waited for some seconds; then the kernel's word is taken for the whole truth.
//! A destroy kills without the engine, so that one that is stopped holds up nobody: only where there is time for SIGTERM, or
//! where no process is known, is the engine asked.

use std::sync::Arc;
use std::time::Duration;

use berth_contract::Phase;
use berth_keeper::seconds;
use berth_model::{ContainerTermination, Reason, Resource, Resources, Scalar, TaskState, WaitStatus};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::Inspected;
use crate::error::warn;
use crate::kept::{Entry, Shared, key};
use crate::{launch, measure, output, reaper};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
const MIB: u64 = 1 << 20;
/// How often a process is killed that does not go.
const ROUND: Duration = Duration::from_secs(1);
/// When to tell that it does not.
const LONG: u32 = 10;

/// How a container was found to have ended.
enum End {
    /// The engine says so.
    Told(Box<Inspected>, Option<WaitStatus>),
    /// The engine has nothing of it, or says nothing.
    Untold(Option<WaitStatus>, &'static str),
    /// Somebody has started it anew.
    Not(Box<Inspected>),
}

/// Watches a container until its end, and makes that known.
pub(crate) async fn own(shared: &Arc<Shared>, entry: &Arc<Entry>) {
    let (own, copied) = (Arc::clone(shared), Arc::clone(entry));
    let copies = tokio::spawn(async move { output::copy(&own, &copied).await });
    let end = loop {
        tokio::select! {
            biased;
            () = entry.destroyed() => kill(shared, entry).await,
            () = ended(shared, entry) => {}
        }
        match end_of(shared, entry).await {
            End::Not(inspected) => launch::note(entry, &inspected),
            end => break end,
        }
    };
    let mut copies = copies;
    // What it wrote last is in the sandbox before anybody hears of its end. An engine that says nothing of that end sends
    // nothing more.
    let deadlines = &shared.own.settings.deadlines;
    let patience = if matches!(end, End::Told(..)) { deadlines.output } else { deadlines.again };
    if timeout(patience, &mut copies).await.is_err() {
        copies.abort();
        let _ = copies.await;
        warn(&format!("the last output of container {} may be missing: the engine did not end it", entry.id));
    }
    finish(shared, entry, &termination(entry, &end), matches!(end, End::Told(..)));
}

/// Waits until it does not run.
async fn ended(shared: &Shared, entry: &Entry) {
    let again = shared.own.settings.deadlines.again;
    loop {
        if let Some(process) = entry.own.process() {
            match process.ended().await {
                Ok(()) => return,
                // No descriptor left, for one: the engine is asked.
                Err(error) => warn(&format!("wait for container {}: {error}", entry.id)),
            }
        }
        let (key, limit) = (key(entry), shared.own.settings.deadlines.ask);
        // podman waits 20 s for the status of one that has ended before it was asked.
        let found = shared.own.engine.inspect(&key, limit).await;
        if let Ok(Inspected { state, .. }) = found
            && state.has_started()
            && state.pid().is_none()
            && !state.restarting
        {
            return;
        }
        match shared.own.engine.wait(&key, limit).await {
            Ok(()) => return,
            Err(error) if error.is_missing() => return,
            // It is there again sooner or later, or somebody destroys it.
            Err(_) => sleep(again).await,
        }
    }
}

/// Ends all its processes, and returns when the first has ended.
async fn kill(shared: &Arc<Shared>, entry: &Arc<Entry>) {
    shared.noted(entry, shared.records.destroying(&entry.id));
    let paused = entry.phase() == Phase::Paused;
    shared.step(entry, Phase::Destroying);
    let deadlines = &shared.own.settings.deadlines;
    let key = key(entry);
    let stop_timeout = shared.own.settings.stop_timeout;
    if !stop_timeout.is_zero() && !paused {
        entry.own.change(|facts| facts.signal = Some(SIGTERM));
        let seconds = stop_timeout.as_secs_f64().ceil() as u64;
        let stop = shared.own.engine.stop(&key, seconds, stop_timeout + deadlines.kill);
        tokio::select! {
            biased;
            () = ended(shared, entry) => return,
            result = stop => if let Err(error) = result && !error.is_conflict() && !error.is_missing() {
                warn(&format!("the engine does not stop container {}, which is killed: {error}", entry.id));
            },
        }
    }
    entry.own.change(|facts| facts.signal = Some(SIGKILL));
    for round in 0u32.. {
        match entry.own.process() {
            Some(process) => {
                let _ = process.signal(SIGKILL);
            }
            None => match shared.own.engine.kill(&key, SIGKILL, deadlines.kill).await {
                Err(error) if error.is_missing() || error.is_conflict() => return,
                Err(error) if round == 0 => {
                    warn(&format!("container {} is killed when the engine answers: {error}", entry.id));
                }
                _ => {}
            },
        }
        if paused {
            // What is stopped does not end before it goes on.
            let resumed = shared.own.engine.unpause(&key, deadlines.kill).await;
            if resumed.is_err_and(|error| error.is_absence()) {
                measure::thaw(shared, entry);
            }
        }
        if timeout(ROUND, ended(shared, entry)).await.is_ok() {
            return;
        }
        measure::kill_group(shared, entry);
        if round == LONG {
            warn(&format!(
                "container {} was killed and does not end: see what its processes wait for",
                entry.id
            ));
        }
    }
}

/// What is known of the end.
async fn end_of(shared: &Shared, entry: &Entry) -> End {
    let process = entry.own.process();
    // The engine may hear of that too late to say so: it hears of the end by another way.
    let ran_out = process.as_ref().is_some_and(|process| measure::ran_out(shared, process));
    let status = match &process {
        Some(process) => process.status().await,
        None => None,
    };
    let deadlines = &shared.own.settings.deadlines;
    let until = Instant::now() + deadlines.late;
    loop {
        match shared.own.engine.inspect(&key(entry), deadlines.late).await {
            Ok(mut found) if !found.state.running && !found.state.restarting => {
                found.state.oom_killed |= ran_out;
                return End::Told(Box::new(found), status);
            }
            Ok(found) => {
                let same = process.as_ref().map(|process| process.pid) == found.state.pid();
                if process.is_none() || !same {
                    return End::Not(Box::new(found));
                }
            }
            Err(error) if error.is_missing() => {
                return End::Untold(status, "somebody removed the container at the engine");
            }
            Err(_) => {}
        }
        if Instant::now() >= until && process.is_some() {
            return End::Untold(status, "the engine says nothing of its end");
        }
        // The engine learns of an end a moment after the kernel.
        let pause = if process.is_some() && shared.own.engine.is_up() {
            deadlines.again / 100
        } else {
            deadlines.again
        };
        sleep(pause).await;
    }
}

/// How it ended, in one.
fn termination(entry: &Entry, end: &End) -> ContainerTermination {
    let signal = entry.own.facts().signal;
    let destroyed = entry.is_destroyed();
    let mut termination = ContainerTermination::default();
    let (found, status, why) = match end {
        End::Told(found, status) => (Some(&**found), *status, None),
        End::Untold(status, why) => (None, *status, Some(*why)),
        End::Not(_) => (None, None, None),
    };
    let oom = found.is_some_and(|found| found.state.oom_killed);
    let told = found.filter(|found| found.state.has_started()).map(|found| told(found, oom, signal));
    termination.status = status.or(told).map(|status| status.0);
    termination.message =
        Some(if destroyed { "Container killed" } else { "Container terminated" }.to_owned());
    if let (None, Some(why)) = (termination.status, why) {
        termination.message = Some(format!("the exit status is unknown: {why}"));
    }
    if oom
        && !destroyed
        && termination.status.is_some_and(|status| status & 0x7f == SIGKILL || status == 137 << 8)
    {
        of_memory(found, &mut termination);
    }
    if let Some(error) = found.map(|found| found.state.error.trim()).filter(|error| !error.is_empty()) {
        let message = termination.message.take().unwrap_or_default();
        termination.message = Some(format!("{message}: {error}"));
    }
    termination
}

/// The engine's number as a status. It says 128 and the signal of what a signal ended, which may be an exit as well: it is
/// taken for a signal where one was sent, or memory ran out.
fn told(found: &Inspected, oom: bool, sent: Option<i32>) -> WaitStatus {
    let code = (found.state.exit_code & 0xff) as u8;
    match (code, sent) {
        (137, _) if oom => WaitStatus::KILLED,
        (128.., Some(sent)) if i32::from(code) == 128 + sent => WaitStatus::of_signal(code - 128),
        (137, Some(_)) => WaitStatus::KILLED,
        (code, _) => WaitStatus::of_exit(code),
    }
}

fn of_memory(found: Option<&Inspected>, termination: &mut ContainerTermination) {
    let limit = found.map_or(0, |found| u64::try_from(found.host_config.memory).unwrap_or(0));
    let requested = if limit == 0 { "no limit".to_owned() } else { berth_model::Bytes(limit).to_string() };
    termination.message =
        Some(format!("Memory limit exceeded: Requested: {requested} Maximum Used: {requested}"));
    termination.state = Some(TaskState::Failed);
    termination.reason = Some(Reason::ContainerLimitationMemory);
    let mut limited = Resources::new();
    // Only a zero is refused, and then there is nothing to name.
    let _ = limited.try_add(Resource::scalar("mem", Scalar::from_whole(limit / MIB)));
    termination.limited_resources = limited;
}

/// Writes down how it ended, and tells everyone. What the engine keeps of it goes when its time has come.
pub(crate) fn finish(shared: &Arc<Shared>, entry: &Arc<Entry>, ended: &ContainerTermination, told: bool) {
    let now = seconds();
    shared.noted(entry, shared.records.ended(&entry.id, ended));
    entry.own.change(|facts| facts.process = None);
    shared.terminated(entry, ended.clone());
    if !told {
        // It may still be there; whatever the engine thinks of it is of no use to anybody.
        return reaper::remove_later(shared, entry, 0.0);
    }
    reaper::remove_later(shared, entry, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: i64) -> Inspected {
        let mut found = Inspected::default();
        found.state.exit_code = code;
        found
    }

    #[test]
    fn the_engines_number_is_a_signal_only_where_one_is_known_of() {
        assert_eq!(told(&found(0), false, None), WaitStatus(0));
        assert_eq!(told(&found(137), false, None), WaitStatus::of_exit(137));
        assert_eq!(told(&found(137), true, None), WaitStatus::KILLED);
        assert_eq!(told(&found(143), false, Some(15)), WaitStatus::of_signal(15));
        assert_eq!(told(&found(137), false, Some(15)), WaitStatus::KILLED, "it did not heed SIGTERM");
        assert_eq!(told(&found(139), false, Some(15)), WaitStatus::of_exit(139));
    }
}
