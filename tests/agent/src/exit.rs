// SPDX-License-Identifier: Apache-2.0
//! How a command ended.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;

/// How a command of berth ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl From<Output> for Exit {
    fn from(output: Output) -> Exit {
        Exit {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Exit {
    /// What it wrote; it succeeded and had nothing to complain about.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn good(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        &self.stdout
    }

    /// It failed with this code, and said so with these words.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {:?}", self.stderr);
        }
    }
}
