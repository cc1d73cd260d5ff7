// SPDX-License-Identifier: Apache-2.0
//! The status word of `wait(2)`: how a process ended.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The bit that says that the kernel wrote a core file.
const CORE_DUMPED: i32 = 0x80;

/// A raw status of `wait(2)`, as Mesos stores and sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// Mesos's answer when no status is known: killed by SIGKILL.
    pub const KILLED: WaitStatus = WaitStatus(9);

    /// The status of a process that exited with `code`; only its low 8 bits exist.
    pub const fn of_exit(code: u8) -> WaitStatus {
        WaitStatus((code as i32) << 8)
    }

    /// The status of a process that `signal` (1 to 64) killed.
    pub const fn of_signal(signal: u8) -> WaitStatus {
        WaitStatus((signal & 0x7f) as i32)
    }

    /// The exit code, when the process exited by itself.
    pub const fn exited(self) -> Option<i32> {
        if self.0 & 0x7f == 0 { Some((self.0 >> 8) & 0xff) } else { None }
    }

    /// The signal, when one killed the process.
    pub const fn signal(self) -> Option<i32> {
        match self.0 & 0x7f {
            0 | 0x7f => None,
            signal => Some(signal),
        }
    }

    /// The signal, when the process only stopped.
    pub const fn stopped(self) -> Option<i32> {
        if self.0 & 0xff == 0x7f { Some((self.0 >> 8) & 0xff) } else { None }
    }

    /// Whether the process left a core file.
    pub const fn core_dumped(self) -> bool {
        self.signal().is_some() && self.0 & CORE_DUMPED != 0
    }

    /// Whether the process exited with 0.
    pub const fn success(self) -> bool {
        matches!(self.exited(), Some(0))
    }

    /// What a shell has in `$?`: the code, or 128 plus the signal; 255 for a status that is neither.
    pub const fn shell_code(self) -> i32 {
        match (self.exited(), self.signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 255,
        }
    }
}

impl fmt::Display for WaitStatus {
    /// Mesos's words, signals as in `strsignal(3)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.exited() {
            return write!(f, "exited with status {code}");
        }
        if let Some(signal) = self.signal() {
            let core = if self.core_dumped() { " (core dumped)" } else { "" };
            return write!(f, "terminated with signal {}{core}", SignalText(signal));
        }
        match self.stopped() {
            Some(signal) => write!(f, "stopped on signal {}", SignalText(signal)),
            None => write!(f, "wait status {}", self.0),
        }
    }
}

/// A signal in the words of glibc's `strsignal(3)`.
struct SignalText(i32);

impl fmt::Display for SignalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// glibc keeps the first two real-time signals for itself, so names count from 34.
        const FIRST_REAL_TIME: i32 = 34;
        const LAST: i32 = 64;
        let known = usize::try_from(self.0 - 1).ok().and_then(|index| SIGNAL_TEXTS.get(index));
        match (known, self.0) {
            (Some(text), _) => f.write_str(text),
            (None, FIRST_REAL_TIME..=LAST) => write!(f, "Real-time signal {}", self.0 - FIRST_REAL_TIME),
            (None, other) => write!(f, "Unknown signal {other}"),
        }
    }
}

/// Texts of signals 1 to 31 on x86 and ARM (`signal(7)`, glibc).
const SIGNAL_TEXTS: [&str; 31] = [
    "Hangup",
    "Interrupt",
    "Quit",
    "Illegal instruction",
    "Trace/breakpoint trap",
    "Aborted",
    "Bus error",
    "Floating point exception",
    "Killed",
    "User defined signal 1",
    "Segmentation fault",
    "User defined signal 2",
    "Broken pipe",
    "Alarm clock",
    "Terminated",
    "Stack fault",
    "Child exited",
    "Continued",
    "Stopped (signal)",
    "Stopped",
    "Stopped (tty input)",
    "Stopped (tty output)",
    "Urgent I/O condition",
    "CPU time limit exceeded",
    "File size limit exceeded",
    "Virtual timer expired",
    "Profiling timer expired",
    "Window changed",
    "I/O possible",
    "Power failure",
    "Bad system call",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_those_of_mesos() {
        let text = |status: i32| WaitStatus(status).to_string();
        assert_eq!(text(0), "exited with status 0");
        assert_eq!(text(0x2a00), "exited with status 42");
        assert_eq!(text(9), "terminated with signal Killed");
        assert_eq!(text(11 | 0x80), "terminated with signal Segmentation fault (core dumped)");
        assert_eq!(text(36), "terminated with signal Real-time signal 2");
        assert_eq!(text(32), "terminated with signal Unknown signal 32");
        assert_eq!(text(0x137f), "stopped on signal Stopped (signal)");
        assert_eq!(text(0xff), "wait status 255");
    }

    #[test]
    fn shells_see_the_code_or_128_and_the_signal() {
        assert_eq!(WaitStatus::of_exit(3).shell_code(), 3);
        assert_eq!(WaitStatus::of_signal(15).shell_code(), 143);
        assert_eq!(WaitStatus(11 | 0x80).shell_code(), 139);
        assert_eq!(WaitStatus(0x137f).shell_code(), 255);
    }

    #[test]
    fn the_texts_agree_with_the_standard_library() {
        use std::os::unix::process::ExitStatusExt;
        for raw in 0..=0xffff {
            let (ours, std) = (WaitStatus(raw), std::process::ExitStatus::from_raw(raw));
            assert_eq!(ours.exited(), std.code(), "{raw:#x}");
            assert_eq!(ours.stopped(), std.stopped_signal(), "{raw:#x}");
            assert_eq!(ours.signal().is_some(), std.signal().is_some(), "{raw:#x}");
            assert_eq!(
                ours.signal().is_some() && ours.core_dumped(),
                std.core_dumped() && std.signal().is_some()
            );
        }
    }

    proptest! {
        #[test]
        fn any_word_has_a_text_and_a_code(raw: i32) {
            let status = WaitStatus(raw);
            prop_assert!(!status.to_string().is_empty());
            prop_assert!((0..=255).contains(&status.shell_code()));
        }
    }
}
