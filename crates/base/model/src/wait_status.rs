// SPDX-License-Identifier: Apache-2.0
//! How a process ended: the status word of `wait(2)`, as Mesos keeps it in its messages.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The status word of `wait(2)` on Linux. Any number is one; those that the kernel never makes print as such.
///
/// Bits 0 to 6 are the signal that ended the process (0: it exited, 0x7f: it stopped), bit 7 says that core was
/// dumped, bits 8 to 15 are the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitStatus(pub i32);

const CORE_DUMPED: i32 = 0x80;
const STOPPED: i32 = 0x7f;
const SIGKILL: i32 = 9;

impl WaitStatus {
    /// The end of a process of which nothing but its end is known: Mesos calls it killed.
    pub const KILLED: WaitStatus = WaitStatus(SIGKILL);

    /// The process exited with this status.
    pub const fn of_exit(status: u8) -> WaitStatus {
        WaitStatus((status as i32) << 8)
    }

    /// The process was ended by this signal (1 to 126; higher bits are cut off).
    pub const fn of_signal(signal: u8) -> WaitStatus {
        WaitStatus((signal & 0x7f) as i32)
    }

    /// As [`WaitStatus::of_signal`], and core was dumped.
    pub const fn of_core_dump(signal: u8) -> WaitStatus {
        WaitStatus(Self::of_signal(signal).0 | CORE_DUMPED)
    }

    /// The status word itself.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// The exit status, if it exited.
    pub const fn exit_code(self) -> Option<u8> {
        if self.0 & 0x7f == 0 { Some((self.0 >> 8) as u8) } else { None }
    }

    /// The signal that ended it, if one did.
    pub const fn signal(self) -> Option<i32> {
        let signal = self.0 & 0x7f;
        if signal != 0 && signal != STOPPED { Some(signal) } else { None }
    }

    /// The signal that stopped it, if it only stopped.
    pub const fn stop_signal(self) -> Option<i32> {
        if self.0 & 0xff == STOPPED { Some((self.0 >> 8) & 0xff) } else { None }
    }

    /// Whether it left a core file.
    pub const fn core_dumped(self) -> bool {
        self.signal().is_some() && self.0 & CORE_DUMPED != 0
    }

    /// Whether it exited with status 0.
    pub const fn is_success(self) -> bool {
        matches!(self.exit_code(), Some(0))
    }

    /// What a shell would exit with: the exit status, or 128 and the signal. 255 for words that are neither.
    pub const fn shell_code(self) -> u8 {
        match (self.exit_code(), self.signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal as u8,
            (None, None) => 255,
        }
    }
}

/// In Mesos's words: `exited with status 1`, `terminated with signal Killed`.
impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.exit_code() {
            write!(f, "exited with status {code}")
        } else if let Some(signal) = self.signal() {
            write!(f, "terminated with signal {}", SignalName(signal))?;
            f.write_str(if self.core_dumped() { " (core dumped)" } else { "" })
        } else if let Some(signal) = self.stop_signal() {
            write!(f, "stopped on signal {}", SignalName(signal))
        } else {
            write!(f, "wait status {}", self.0)
        }
    }
}

/// A signal's description as `strsignal(3)` of glibc gives it.
struct SignalName(i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Descriptions of signals 1 to 31 on x86-64 and arm64.
        const NAMES: [&str; 31] = [
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
        /// glibc keeps 32 and 33 for itself.
        const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
        let name = usize::try_from(self.0 - 1).ok().and_then(|index| NAMES.get(index));
        match name {
            Some(name) => f.write_str(name),
            None if REAL_TIME.contains(&self.0) => write!(f, "Real-time signal {}", self.0 - REAL_TIME.start()),
            None => write!(f, "Unknown signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_mesos() {
        for (status, text) in [
            (WaitStatus(0), "exited with status 0"),
            (WaitStatus::of_exit(255), "exited with status 255"),
            (WaitStatus::KILLED, "terminated with signal Killed"),
            (WaitStatus::of_core_dump(11), "terminated with signal Segmentation fault (core dumped)"),
            (WaitStatus::of_signal(34), "terminated with signal Real-time signal 0"),
            (WaitStatus::of_signal(33), "terminated with signal Unknown signal 33"),
            (WaitStatus(0x137f), "stopped on signal Stopped (signal)"),
            (WaitStatus(0xffff), "wait status 65535"),
        ] {
            assert_eq!(status.to_string(), text);
        }
    }

    #[test]
    fn a_shell_adds_128_to_a_signal() {
        assert_eq!(WaitStatus::of_exit(3).shell_code(), 3);
        assert_eq!(WaitStatus::of_signal(15).shell_code(), 143);
        assert_eq!(WaitStatus(0xffff).shell_code(), 255);
        assert!(WaitStatus(0).is_success() && !WaitStatus(9).is_success());
    }

    #[test]
    fn every_word_is_one_thing_only_and_prints() {
        for raw in (0..=0xffff).chain([i32::MIN, -1, i32::MAX]) {
            let status = WaitStatus(raw);
            let kinds = usize::from(status.exit_code().is_some())
                + usize::from(status.signal().is_some())
                + usize::from(status.stop_signal().is_some());
            assert!(kinds <= 1, "{raw:#x}");
            assert!(!status.to_string().is_empty());
            assert_eq!(status.shell_code() == 0, status.is_success(), "{raw:#x}");
        }
    }
}
