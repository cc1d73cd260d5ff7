// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a configuration: the words of Mesos first, then where it stands and what to do.

use std::fmt;
use std::path::PathBuf;

use berth_factory::LoadError;
use berth_model::Class;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// The command line; the name as it was written there.
    CommandLine(String),
    /// A variable of the environment.
    Environment(String),
    /// A line of a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::CommandLine(name) => write!(f, "command line --{name}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}{}{}", from(.origin), then(.advice))]
pub struct Problem {
    /// The flag, if it is about one.
    pub flag: Option<&'static str>,
    /// What.
    pub what: What,
    /// Where the value stands.
    pub origin: Option<Origin>,
    /// What to do about it.
    pub advice: String,
}

fn from(origin: &Option<Origin>) -> String {
    origin.as_ref().map_or_else(String::new, |origin| format!(" ({origin})"))
}

fn then(advice: &str) -> String {
    if advice.is_empty() { String::new() } else { format!("; {advice}") }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// A name or a value, in Mesos's words.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An argument that is no flag.
    #[error("Unexpected argument '{0}'")]
    Argument(String),
    /// Bytes that are no text.
    #[error("{0} is not UTF-8")]
    NotText(String),
    /// A flag that may only have its default.
    #[error("{name} is known from Mesos but not built into this version of berth (value '{value}')")]
    NotBuilt {
        /// The flag.
        name: &'static str,
        /// What was given; `***` for a secret.
        value: String,
    },
    /// A value that the flag can not have, though it is of its type.
    #[error("Failed to load flag '{name}': '{value}' is not allowed: {why}")]
    NotAllowed {
        /// The flag.
        name: &'static str,
        /// What was given; `***` for a secret.
        value: String,
        /// What would be.
        why: String,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// A configuration file that can not be taken.
    #[error("Failed to read the configuration file {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Problem {
    pub(crate) fn new(what: impl Into<What>, origin: Option<Origin>, advice: impl Into<String>) -> Problem {
        Problem { flag: None, what: what.into(), origin, advice: advice.into() }
    }

    pub(crate) fn about(mut self, flag: &'static str) -> Problem {
        self.flag = Some(flag);
        self
    }

    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match &self.what {
            What::Load(error) => error.class(),
            What::NotBuilt { .. } => Class::Unsupported,
            What::Argument(_)
            | What::NotText(_)
            | What::NotAllowed { .. }
            | What::Conflict(_)
            | What::File { .. } => Class::Invalid,
        }
    }
}

/// Everything that is wrong, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The class of the first.
    pub fn class(&self) -> Class {
        self.0.first().map_or(Class::Invalid, Problem::class)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
