// SPDX-License-Identifier: Apache-2.0
//! What a command did.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;

/// How a command ended, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to stdout. What is no UTF-8 is replaced.
    pub stdout: String,
    /// What it wrote to stderr.
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
    /// What it wrote to stdout, when it succeeded without a word on stderr.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn good(&self) -> &str {
        assert!(self.code == Some(0) && self.stderr.is_empty(), "{self:#?}");
        &self.stdout
    }

    /// Asserts that it failed with this code and nothing on stdout, and said so with these words, in any case.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:#?}");
        let said = self.stderr.to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "no word of {word:?}: {self:#?}");
        }
        assert!(!said.contains("panicked"), "{self:#?}");
    }
}
