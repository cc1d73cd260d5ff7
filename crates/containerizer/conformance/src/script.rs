// SPDX-License-Identifier: Apache-2.0
//! What the suite asks containers to do, independent of how a containerizer is told.

/// A program for a container, in words. The working directory is the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// Ends at once with this status.
    Exit(u8),
    /// Goes on until it is stopped, and does nothing against that.
    Sleep,
    /// Makes the file `ready` in the sandbox, then goes on until this signal comes, and then ends with this
    /// status.
    Trap {
        /// The signal.
        signal: i32,
        /// The status.
        status: u8,
    },
    /// Writes the value of a variable to the file `report` in the sandbox, and ends with status 0.
    Report(String),
    /// Writes what it reads, and ends with status 0 when that has ended.
    Copy,
}

impl Script {
    /// The script as text for `sh -c`. Needs a POSIX shell and `sleep` (of busybox, too).
    pub fn shell(&self) -> String {
        match self {
            Script::Exit(status) => format!("exit {status}"),
            Script::Sleep => "exec sleep 1000".to_owned(),
            // `sleep &` and `wait`: a shell runs traps when its foreground command has ended, and `wait` ends
            // at once.
            Script::Trap { signal, status } => format!(
                "trap 'kill -9 $!; exit {status}' {signal}; sleep 1000 & : > ready; while :; do wait; done"
            ),
            Script::Copy => "exec cat".to_owned(),
            Script::Report(variable) => {
                format!("printf %s \"${variable}\" > report.tmp && mv report.tmp report")
            }
        }
    }
}
