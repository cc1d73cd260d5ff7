// SPDX-License-Identifier: Apache-2.0
//! `check-config`: everything is read as an agent would read it, and nothing is made. Data first; what people
//! and programs see is made from that.

use std::fmt;

use berth_factory::{CreateError, HooksError, Host, check_flags, hooks, resources};
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::log::escape;
use crate::resolved::{Setting, examine};
use crate::table::State;
use crate::typed::Sources;

/// What an agent with this configuration would run with, and what it would refuse.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigReport {
    /// Whether an agent would start with it.
    pub ok: bool,
    /// What is wrong.
    pub problems: Vec<Finding>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Every flag.
    pub flags: Vec<FlagLine>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The flag, if it is about one.
    pub flag: Option<&'static str>,
    /// The class of the error.
    pub class: String,
    /// What it is, where, and what to do.
    pub message: String,
}

/// One flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlagLine {
    /// Its name.
    pub name: &'static str,
    /// Its value; `***` for a secret.
    pub value: Option<String>,
    /// Where that comes from.
    pub origin: String,
    /// Where else it was given, without effect.
    pub shadowed: Vec<String>,
    /// Whether anything is behind it.
    pub built: bool,
    /// Whether somebody gave it.
    #[serde(skip)]
    given: bool,
}

/// Checks what this configuration is made of.
pub fn check_config(sources: &Sources) -> ConfigReport {
    let (resolved, problems) = examine(sources);
    let mut problems: Vec<Finding> = problems
        .iter()
        .map(|problem| Finding {
            flag: problem.flag,
            class: problem.class().to_string(),
            message: escape(&problem.to_string()),
        })
        .collect();
    let mut warnings = Vec::new();
    let mut flags = Vec::new();
    if let Some(resolved) = &resolved {
        warnings.extend(resolved.warnings.iter().cloned());
        flags.extend(resolved.settings().iter().map(line));
        let host = Host::probe(&resolved.work_dir);
        match check_flags(&resolved.factory, &host) {
            Ok(plan) => warnings.extend(plan.warnings),
            Err(error) => problems.push(refusal(&error)),
        }
        if let Err(error) = hooks(&resolved.factory) {
            let mut message = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(below) = source {
                message = format!("{message}: {below}");
                source = below.source();
            }
            let flag = match error {
                HooksError::Timeout(_) => "hooks_timeout",
                HooksError::Directory(_) => "hooks_dir",
            };
            problems.push(Finding {
                flag: Some(flag),
                class: error.class().to_string(),
                message: escape(&message),
            });
        }
        match resources(&resolved.factory, &host) {
            Ok(determined) => warnings.extend(determined.warnings),
            Err(error) => problems.push(Finding {
                flag: Some("resources"),
                class: error.class().to_string(),
                message: escape(&error.fatal()),
            }),
        }
    }
    let warnings = warnings.iter().map(|warning| escape(warning)).collect();
    ConfigReport { ok: problems.is_empty(), problems, warnings, flags }
}

fn refusal(error: &CreateError) -> Finding {
    Finding { flag: None, class: error.class().to_string(), message: escape(&error.fatal()) }
}

fn line(setting: &Setting) -> FlagLine {
    FlagLine {
        name: setting.row.name,
        value: setting.text(),
        origin: setting.origin.to_string(),
        shadowed: setting.shadowed.iter().map(ToString::to_string).collect(),
        built: setting.row.state == State::Built,
        given: setting.origin != crate::problem::Origin::Default,
    }
}

impl ConfigReport {
    /// 0 when an agent would start with it, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }

    /// One JSON object, with every flag.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and booleans are JSON")
    }
}

impl fmt::Display for ConfigReport {
    /// For people: the flags that mean something here, then what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["FLAG", "VALUE", "FROM"]);
        let shown = |flag: &&FlagLine| flag.built || flag.given;
        for flag in self.flags.iter().filter(shown) {
            let value = flag.value.as_ref().map_or_else(|| "-".to_owned(), |value| escape(value));
            let mut from = escape(&flag.origin);
            if !flag.shadowed.is_empty() {
                from = format!("{from} (over {})", escape(&flag.shadowed.join(", ")));
            }
            table.add_row([flag.name.to_owned(), value, from]);
        }
        writeln!(f, "{}", table.trim_fmt())?;
        let others = self.flags.iter().filter(|flag| !shown(flag)).count();
        if others > 0 {
            writeln!(f, "\n{others} flags that are known but not built have their defaults (see --help)")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {}", problem.message)?;
        }
        match self.problems.len() {
            0 => writeln!(f, "the configuration is good"),
            1 => writeln!(f, "an agent would not start: 1 problem"),
            count => writeln!(f, "an agent would not start: {count} problems"),
        }
    }
}
