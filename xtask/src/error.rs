// SPDX-License-Identifier: Apache-2.0
//! Why a command could not do its work. What a check *finds* is not an error; it is printed and counted.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

/// A command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}; `cargo xtask help` lists what there is")]
    Usage(String),
    #[error("start {program}: is it installed and on PATH?")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("wait for {program}")]
    Wait {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} failed with {status}: {stderr}")]
    Failed { program: String, status: std::process::ExitStatus, stderr: String },
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cargo built not all of {what}: what it says of that stands above")]
    Build { what: &'static str },
    #[error("{what}")]
    Vm { what: String },
    #[error("understand the output of cargo metadata")]
    Metadata(#[source] serde_json::Error),
}

impl Error {
    /// The message with all its causes.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}
