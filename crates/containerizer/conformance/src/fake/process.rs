// SPDX-License-Identifier: Apache-2.0
//! A process of the fake: a state machine that a script drives.

use std::path::Path;

use berth_contract::Variables;

use crate::script::Script;

/// What a command of the fake says, as text: the scripts of the suite, and two ways for a launch not to
/// succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// `exit N`, `sleep`, `trap SIGNAL N`, `report VARIABLE`, `copy`.
    Run(Script),
    /// `fail`: the launch fails while the container is being isolated.
    Fail,
    /// `stall`: the launch stays in FETCHING.
    Stall,
}

impl Told {
    /// Reads a command. The error says what it should have been.
    pub(super) fn parse(text: &str) -> Result<Told, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let number =
            |word: &str| word.parse::<u8>().map_err(|error| format!("'{word}' in '{text}': {error}"));
        match words.as_slice() {
            ["exit", status] => Ok(Told::Run(Script::Exit(number(status)?))),
            ["sleep"] => Ok(Told::Run(Script::Sleep)),
            ["trap", signal, status] => {
                let (signal, status) = (i32::from(number(signal)?), number(status)?);
                Ok(Told::Run(Script::Trap { signal, status }))
            }
            ["report", variable] => Ok(Told::Run(Script::Report((*variable).to_owned()))),
            ["copy"] => Ok(Told::Run(Script::Copy)),
            ["fail"] => Ok(Told::Fail),
            ["stall"] => Ok(Told::Stall),
            _ => Err(format!(
                "'{text}' is no script: use 'exit N', 'sleep', 'trap SIGNAL N', 'report VARIABLE', 'copy', 'fail' or 'stall'"
            )),
        }
    }

    /// A script as the text that [`parse`](Told::parse) reads.
    pub(super) fn text(script: &Script) -> String {
        match script {
            Script::Exit(status) => format!("exit {status}"),
            Script::Sleep => "sleep".to_owned(),
            Script::Trap { signal, status } => format!("trap {signal} {status}"),
            Script::Report(variable) => format!("report {variable}"),
            Script::Copy => "copy".to_owned(),
        }
    }
}

/// A process that only this fake's host knows.
///
/// ```text
///            ┌── stop ──▶ stopped ── resume ──┐
/// started ──▶│                                │──▶ ended(wait status)
///            └◀────────────────────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Process {
    /// Larger than any that the kernel gives, so that nobody signals a real one.
    pub(super) pid: u32,
    /// The wait status word, once it has ended.
    pub(super) status: Option<i32>,
    script: Script,
    stopped: bool,
    pending: Vec<i32>,
}

impl Process {
    /// Starts it, with what it does at once: reports, gets ready, or ends. Writing that fails ends it with
    /// status 1, as a shell's redirection would.
    pub(super) fn start(pid: u32, script: Script, environment: &Variables, directory: &Path) -> Process {
        let mut process = Process { pid, status: None, script, stopped: false, pending: Vec::new() };
        let written = match &process.script {
            Script::Exit(status) => {
                process.status = Some(i32::from(*status) << 8);
                Ok(())
            }
            // Nothing is ever written to it.
            Script::Sleep | Script::Copy => Ok(()),
            Script::Trap { .. } => std::fs::write(directory.join("ready"), ""),
            Script::Report(variable) => {
                process.status = Some(0);
                let value = environment.get(variable).map_or("", String::as_str);
                std::fs::write(directory.join("report"), value)
            }
        };
        if written.is_err() {
            process.status = Some(1 << 8);
        }
        process
    }

    /// Gets a signal, now or (stopped) later. SIGKILL is always now.
    pub(super) fn deliver(&mut self, signal: i32) {
        if self.status.is_some() {
            return;
        }
        if self.stopped && signal != 9 {
            self.pending.push(signal);
            return;
        }
        self.status = match (&self.script, signal) {
            (_, 9) => Some(9),
            (Script::Trap { signal: trapped, status }, _) if *trapped == signal => {
                Some(i32::from(*status) << 8)
            }
            // The null signal, and those that end nobody who does not care: CHLD CONT STOP TSTP TTIN TTOU URG
            // WINCH.
            (_, 0 | 17..=23 | 28) => None,
            (_, deadly) => Some(deadly),
        };
    }

    /// Stops it.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Lets it go on, with the signals that came meanwhile.
    pub(super) fn resume(&mut self) {
        self.stopped = false;
        for signal in std::mem::take(&mut self.pending) {
            self.deliver(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: Script) -> Process {
        Process::start(1, script, &Variables::new(), Path::new("/nowhere"))
    }

    #[test]
    fn every_script_is_read_back_from_its_text() {
        let scripts = [
            Script::Exit(255),
            Script::Sleep,
            Script::Trap { signal: 15, status: 7 },
            Script::Report("A".to_owned()),
            Script::Copy,
        ];
        for script in scripts {
            assert_eq!(Told::parse(&Told::text(&script)), Ok(Told::Run(script)));
        }
        assert!(Told::parse("exit 256").unwrap_err().contains("'256'"));
        assert!(Told::parse("rm -rf").unwrap_err().contains("is no script"));
    }

    #[test]
    fn signals_end_a_sleeper_unless_they_end_nobody() {
        let mut process = start(Script::Sleep);
        for signal in [0, 17, 18, 28] {
            process.deliver(signal);
        }
        assert_eq!(process.status, None);
        process.deliver(15);
        assert_eq!(process.status, Some(15));
        process.deliver(9);
        assert_eq!(process.status, Some(15), "the dead die once");
    }

    #[test]
    fn a_stopped_process_gets_its_signals_when_it_goes_on_but_dies_at_once() {
        let mut process = start(Script::Sleep);
        process.stop();
        process.deliver(15);
        assert_eq!(process.status, None);
        process.resume();
        assert_eq!(process.status, Some(15));
        let mut process = start(Script::Sleep);
        process.stop();
        process.deliver(9);
        assert_eq!(process.status, Some(9));
    }

    #[test]
    fn a_report_that_can_not_be_written_is_a_failure_of_the_process() {
        assert_eq!(start(Script::Report("A".to_owned())).status, Some(256));
    }
}
