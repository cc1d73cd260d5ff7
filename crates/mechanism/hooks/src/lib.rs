// SPDX-License-Identifier: Apache-2.0
//! Hooks: programs of the operator's that are run at points in the life of a task (docs/hooks.md).
//!
//! ```text
//! <hooks_dir>/<point>/<name>   <── {"hook": point, ...}, closed
//!                              ──> nothing, or {"environment": {"NAME": "value"}}
//! ```
//!
//! They run as root and say what containers run with, so each of them, its directory and all those above are root's and
//! no one else's to write; that is looked at again each time. What they say is bounded, and so is their time. This crate
//! starts processes and owns nothing else; it blocks for as long as its hooks take.

mod file;
mod run;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_model::Class;
use serde_json::Value;

/// No point has more hooks: all of them stand in the way of each task.
const MOST: usize = 32;

/// Where in the life of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Variables for an executor, before its container is made.
    ExecutorEnvironment,
    /// Variables for a task.
    TaskEnvironment,
    /// The last word before a container of a task or an executor is launched.
    PreLaunch,
    /// What its URIs name is in the sandbox, and nothing of the container has run.
    PostFetch,
    /// An executor is over, and all that its tasks had to say is told.
    Removal,
}

impl Point {
    /// All of them.
    pub const ALL: [Point; 5] = [
        Point::ExecutorEnvironment,
        Point::TaskEnvironment,
        Point::PreLaunch,
        Point::PostFetch,
        Point::Removal,
    ];

    /// The name of its directory, which the hook is told too.
    pub const fn name(self) -> &'static str {
        match self {
            Point::ExecutorEnvironment => "executor-environment",
            Point::TaskEnvironment => "task-environment",
            Point::PreLaunch => "pre-launch",
            Point::PostFetch => "post-fetch",
            Point::Removal => "removal",
        }
    }

    /// Whether what it answers has an effect.
    const fn takes_variables(self) -> bool {
        matches!(self, Point::ExecutorEnvironment | Point::TaskEnvironment | Point::PreLaunch)
    }
}

/// Why a hook did not do what it is for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory is none that may be run.
    #[error("{} can not be a hook: {why}", path.display())]
    NotOne {
        /// Which.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// It can not be looked at.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It was run, and did not do well.
    #[error("the hook {} {why}", path.display())]
    Failed {
        /// Which.
        path: PathBuf,
        /// What it did.
        why: String,
    },
}

impl Error {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            Error::NotOne { .. } => Class::Invalid,
            Error::Read { .. } | Error::Failed { .. } => Class::Internal,
        }
    }

    /// With its cause, in one line.
    pub fn chain(&self) -> String {
        match self {
            Error::Read { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// The hooks of an agent.
#[derive(Clone)]
pub struct Hooks {
    directory: PathBuf,
    deadline: Duration,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Hooks {
    /// Looks at everything in the directory. Each hook has so long.
    ///
    /// # Errors
    /// Something in it can not be a hook, or could be written by others.
    pub fn open(directory: &Path, deadline: Duration) -> Result<Hooks, Error> {
        let read = |source| Error::Read { path: directory.to_owned(), source };
        let directory = directory.canonicalize().map_err(read)?;
        file::check_above(&directory)?;
        let hooks = Hooks { directory: directory.clone(), deadline };
        for entry in file::names(&directory)? {
            if !Point::ALL.iter().any(|point| point.name() == entry) {
                let points = Point::ALL.map(Point::name).join(", ");
                let why = format!("there is no such point; hooks are in directories below: {points}");
                return Err(Error::NotOne { path: directory.join(entry), why });
            }
        }
        for point in Point::ALL {
            hooks.at(point)?;
        }
        Ok(hooks)
    }

    /// The hooks of a point, in the order of their names.
    fn at(&self, point: Point) -> Result<Vec<PathBuf>, Error> {
        let directory = self.directory.join(point.name());
        if !directory.try_exists().unwrap_or(true) {
            return Ok(Vec::new());
        }
        file::check_directory(&directory)?;
        let mut names = file::names(&directory)?;
        names.sort();
        if names.len() > MOST {
            let why = format!("it has {} hooks, and at most {MOST} are run", names.len());
            return Err(Error::NotOne { path: directory, why });
        }
        let all = names.into_iter().map(|name| directory.join(name));
        all.map(|path| file::check(&path).map(|()| path)).collect()
    }

    /// Whether anything would be run there.
    pub fn has(&self, point: Point) -> bool {
        !matches!(self.at(point).as_deref(), Ok([]))
    }

    /// Runs all of a point; the variables that they give, later ones over earlier ones. One that fails ends it.
    ///
    /// # Errors
    /// What the first one that failed did. Those after it were not run.
    pub fn ask(&self, point: Point, about: &Value) -> Result<BTreeMap<String, String>, Error> {
        let mut all = BTreeMap::new();
        for hook in self.at(point)? {
            all.extend(self.one(point, &hook, about)?);
        }
        Ok(all)
    }

    /// Runs all of a point, whatever some of them do; the variables of those that did well, and what the others did.
    pub fn ask_all(&self, point: Point, about: &Value) -> (BTreeMap<String, String>, Vec<Error>) {
        let (mut all, mut failed) = (BTreeMap::new(), Vec::new());
        match self.at(point) {
            Ok(hooks) => {
                for hook in hooks {
                    match self.one(point, &hook, about) {
                        Ok(variables) => all.extend(variables),
                        Err(error) => failed.push(error),
                    }
                }
            }
            Err(error) => failed.push(error),
        }
        (all, failed)
    }

    fn one(&self, point: Point, hook: &Path, about: &Value) -> Result<BTreeMap<String, String>, Error> {
        let mut question = about.clone();
        if let Some(question) = question.as_object_mut() {
            question.insert("hook".to_owned(), point.name().into());
        }
        let failed = |why: String| Error::Failed { path: hook.to_owned(), why };
        let output =
            run::run(hook, point.name(), question.to_string().as_bytes(), self.deadline).map_err(failed)?;
        let variables = variables(&output).map_err(failed)?;
        if !variables.is_empty() && !point.takes_variables() {
            return Err(failed(format!("gave variables, which nobody takes at {}", point.name())));
        }
        Ok(variables)
    }
}

/// What a hook said.
fn variables(output: &[u8]) -> Result<BTreeMap<String, String>, String> {
    if output.trim_ascii().is_empty() {
        return Ok(BTreeMap::new());
    }
    let form = "say nothing, or {\"environment\":{\"NAME\":\"value\"}}";
    let wrong = |what: &str| format!("answered {what}; it is to {form}");
    // What it said may be a secret: no word of it is repeated.
    let answer: Value = serde_json::from_slice(output).map_err(|_| wrong("what is no JSON"))?;
    let answer = answer.as_object().ok_or_else(|| wrong("with no object"))?;
    if answer.keys().any(|key| key != "environment") {
        return Err(wrong("with more than 'environment'"));
    }
    let Some(environment) = answer.get("environment") else { return Ok(BTreeMap::new()) };
    let environment =
        environment.as_object().ok_or_else(|| wrong("with an 'environment' that is no object"))?;
    let one = |(name, value): (&String, &Value)| {
        let value = value.as_str().ok_or_else(|| wrong("with a value that is no string"))?;
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(wrong("with what can be no variable"));
        }
        Ok((name.clone(), value.to_owned()))
    };
    environment.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
