// SPDX-License-Identifier: Apache-2.0
//! Our own terminal: its size, raw mode, progress.

use berth_sys::rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Rows and columns of the terminal that stdin or stdout is, if one is.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdin()).or_else(|_| tcgetwinsize(std::io::stdout())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Raw mode of stdin, until it is dropped.
pub(crate) struct Raw(Option<Termios>);

impl Raw {
    /// Switches to it, if stdin is a terminal.
    pub(crate) fn enter() -> Raw {
        let stdin = std::io::stdin();
        if !isatty(&stdin) {
            return Raw(None);
        }
        let Ok(before) = tcgetattr(&stdin) else { return Raw(None) };
        let mut raw = before.clone();
        raw.make_raw();
        match tcsetattr(&stdin, OptionalActions::Drain, &raw) {
            Ok(()) => Raw(Some(before)),
            Err(_) => Raw(None),
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, before);
        }
    }
}

/// A line of progress on stderr, when that is a terminal and the work takes long enough to notice.
pub(crate) struct Progress {
    what: &'static str,
    terminal: bool,
    started: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Of some work.
    pub(crate) fn new(what: &'static str) -> Progress {
        Progress { what, terminal: std::io::stderr().is_terminal(), started: Instant::now(), shown: None }
    }

    /// Shows how far it came, ten times a second at most.
    pub(crate) fn show(&mut self, entries: u64, bytes: u64) {
        let now = Instant::now();
        let soon =
            self.shown.map_or(self.started + Duration::from_millis(200), |s| s + Duration::from_millis(100));
        if !self.terminal || now < soon {
            return;
        }
        self.shown = Some(now);
        let _ = write!(std::io::stderr(), "\r\x1b[K{}: {entries} files, {} MB", self.what, bytes / 1_000_000);
    }

    /// Takes the line away.
    pub(crate) fn done(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
