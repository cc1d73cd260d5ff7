// SPDX-License-Identifier: Apache-2.0
//! Paired timing: in each round every command has its turn, in an order that changes from round to round.
//!
//! What disturbs one command (another tenant of the machine, writeback) then disturbs all alike. What a command
//! itself leaves behind matters too: the kernel takes down its network namespace in the background after it has
//! ended, and on cgroup v1 moving a process is cheap only while the last move is recent. So there are two ways to
//! take turns: in bursts, where each command runs in its own wake and none pays for another, and one by one.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::contestant::{self, show};
use crate::error::Error;
use crate::quiet::Others;
use crate::stats::{Shuffler, Summary};

/// Set by ^C, SIGTERM and SIGHUP; looked at between two commands.
pub(crate) type Stop = Arc<AtomicBool>;

/// Registers the flag.
pub(crate) fn stop_on_signals() -> Result<Stop, Error> {
    let stop = Stop::default();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|source| Error::Start { program: "the handler of signals".to_owned(), source })?;
    }
    Ok(stop)
}

/// An error once a signal has come.
pub(crate) fn check(stop: &Stop) -> Result<(), Error> {
    if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// How the commands take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) name: &'static str,
    /// How often a command runs in one turn. In bursts the first run is not timed: it has another's wake.
    burst: usize,
    /// How long to wait before each run.
    gap: Duration,
}

impl Pace {
    /// Ten in a row of the same command.
    pub(crate) const BURSTS: Pace = Pace { name: "back to back", burst: 10, gap: Duration::ZERO };
    /// One of each.
    pub(crate) const ONE_BY_ONE: Pace =
        Pace { name: "one by one with the others", burst: 1, gap: Duration::ZERO };
    /// One of each, the machine idle before.
    pub(crate) const PAUSES: Pace =
        Pace { name: "after a pause of 20 ms", burst: 1, gap: Duration::from_millis(20) };

    fn untimed(self) -> usize {
        usize::from(self.burst > 1)
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Timed {
    /// One for each command, in their order.
    pub(crate) summaries: Vec<Summary>,
    /// Turns that were taken again because other programs ran meanwhile.
    pub(crate) repeated: usize,
    /// Turns in which other programs ran and that count all the same: patience had ended.
    pub(crate) disturbed: usize,
}

/// How long one table may wait, in all, for other programs to rest. Tests ask how often, not how long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 60 });
const LOOK: Duration = Duration::from_millis(100);

/// Returns when other programs rest, or when patience has ended; takes the time from `patience`.
pub(crate) fn wait_for_quiet(patience: &mut Duration, stop: &Stop) -> Result<(), Error> {
    while !patience.is_zero() {
        check(stop)?;
        let others = Others::now();
        thread::sleep(LOOK);
        *patience = patience.saturating_sub(LOOK);
        if !others.disturbed() {
            break;
        }
    }
    Ok(())
}

/// Does once what is measured, and says how long that took; what it needs before and after is not in it.
pub(crate) type Contestant<'a> = Box<dyn FnMut() -> Result<Duration, Error> + 'a>;

/// Runs all commands for some rounds of warm-up and then until each has been timed at least that often.
pub(crate) fn run(commands: Vec<Command>, times: usize, pace: Pace, stop: &Stop) -> Result<Timed, Error> {
    take_turns(commands.into_iter().map(whole_process).collect(), times, pace, stop)
}

/// As [`run`], for anything that can be timed.
pub(crate) fn take_turns(
    mut contestants: Vec<Contestant<'_>>,
    times: usize,
    pace: Pace,
    stop: &Stop,
) -> Result<Timed, Error> {
    let mut series = vec![Vec::with_capacity(times); contestants.len()];
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    let mut shuffler = Shuffler::new();
    let rounds = times.div_ceil(pace.burst);
    let warm_up = rounds.div_ceil(20).min(10);
    // One by one, a turn is a whole round: the commands in it stay paired.
    let turn_length = if pace.burst > 1 { 1 } else { order.len().max(1) };
    let mut patience = PATIENCE;
    let (mut repeated, mut disturbed) = (0, 0);
    for round in 0..warm_up + rounds {
        shuffler.shuffle(&mut order);
        for turn in order.chunks(turn_length) {
            let mut others = Others::now();
            let mut durations = take_turn(turn, &mut contestants, pace, stop)?;
            if round < warm_up {
                continue;
            }
            let mut bad = others.disturbed();
            while bad && !patience.is_zero() {
                repeated += 1;
                wait_for_quiet(&mut patience, stop)?;
                others = Others::now();
                durations = take_turn(turn, &mut contestants, pace, stop)?;
                bad = others.disturbed();
            }
            disturbed += usize::from(bad);
            for (at, duration) in durations {
                series[at].push(duration);
            }
        }
    }
    let summaries = series.iter().filter_map(|durations| Summary::of(durations)).collect();
    Ok(Timed { summaries, repeated, disturbed })
}

/// Has each of these its turn, as often as the pace says. Which one took how long.
fn take_turn(
    turn: &[usize],
    contestants: &mut [Contestant<'_>],
    pace: Pace,
    stop: &Stop,
) -> Result<Vec<(usize, Duration)>, Error> {
    let mut durations = Vec::with_capacity(turn.len() * pace.burst);
    for &at in turn {
        for run in 0..pace.untimed() + pace.burst {
            check(stop)?;
            if !pace.gap.is_zero() {
                thread::sleep(pace.gap);
            }
            let duration = contestants[at]()?;
            if run >= pace.untimed() {
                durations.push((at, duration));
            }
        }
    }
    Ok(durations)
}

/// A command from before its spawn until after its wait. It must succeed.
pub(crate) fn whole_process<'a>(command: Command) -> Contestant<'a> {
    let mut command = contestant::quiet(command);
    Box::new(move || {
        let (duration, status) = contestant::time(&mut command)?;
        if status.success() {
            return Ok(duration);
        }
        Err(Error::Failed {
            program: show(&command),
            when: "timed".to_owned(),
            status: status.to_string(),
            output: "its output was discarded; `berth-bench check` shows it".to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_timed_as_often_as_asked_at_least() {
        let summaries = |times, pace| {
            let commands = vec![Command::new("true"), Command::new("true")];
            run(commands, times, pace, &Stop::default()).unwrap().summaries
        };
        let counts = |pace| summaries(12, pace).iter().map(|summary| summary.count).collect::<Vec<_>>();
        assert_eq!(counts(Pace::ONE_BY_ONE), [12, 12]);
        assert_eq!(counts(Pace::BURSTS), [20, 20]);
        let paused = summaries(1, Pace::PAUSES);
        assert!(paused.iter().all(|summary| summary.min_ms > 0.0 && summary.min_ms <= summary.p90_ms));
    }

    #[test]
    fn a_command_that_fails_ends_the_measurement() {
        let error = run(vec![Command::new("false")], 1, Pace::BURSTS, &Stop::default()).unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error}");
    }

    #[test]
    fn a_signal_ends_the_measurement_before_the_next_command() {
        let stop = Stop::default();
        stop.store(true, Ordering::Relaxed);
        let commands = vec![Command::new("/nonexistent")];
        let error = run(commands, 1, Pace::BURSTS, &stop).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
    }
}
