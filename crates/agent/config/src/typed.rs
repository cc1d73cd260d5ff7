// SPDX-License-Identifier: Apache-2.0
//! What was written, and where: the command line, then `BERTH_NAME`, then `MESOS_NAME`, then the drop-ins, the
//! last by name first, then `config.toml`. The first place that gives a flag wins; the others are remembered,
//! for people who wonder why theirs did not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use berth_factory::{FlagKind, LoadError};

use crate::file;
use crate::problem::{Origin, Problem, What};
use crate::table::{Row, find, nearest};
use crate::value::Value;

/// A file behind `file://` of more bytes is no value of a flag.
const CAP: u64 = 16 << 20;

/// What the agent was started with.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The command line without the program's name.
    pub arguments: Vec<OsString>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What relative paths are relative to.
    pub working_directory: PathBuf,
}

impl Sources {
    /// Those of this process, with these arguments.
    pub fn of_this_process(arguments: impl IntoIterator<Item = OsString>) -> Sources {
        Sources {
            arguments: arguments.into_iter().collect(),
            environment: std::env::vars_os().collect(),
            working_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        }
    }

    /// Whether the command line asks for a text instead of an agent.
    pub fn asks(&self) -> Option<Ask> {
        let before = self.arguments.iter().take_while(|argument| *argument != "--");
        before.filter_map(|argument| argument.to_str()).find_map(|argument| match argument {
            "--help" | "-h" | "--help=true" => Some(Ask::Help),
            "--version" | "-V" | "--version=true" => Some(Ask::Version),
            _ => None,
        })
    }
}

/// What a command line may ask for instead of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// All flags.
    Help,
    /// Which release this is.
    Version,
}

/// One flag that was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// As it was written.
    pub written: String,
    /// The same, or what stood in the file that it names.
    pub text: String,
    /// The text as a value.
    pub value: Value,
    /// Where it was given.
    pub origin: Origin,
    /// Where else it was given, without effect.
    pub shadowed: Vec<Origin>,
}

/// Everything that was written. Flags that are wrong are not in it, but among the problems.
#[derive(Debug, Clone, PartialEq)]
pub struct Typed {
    given: BTreeMap<&'static str, Given>,
    /// What the operator should be told.
    pub warnings: Vec<String>,
    /// What relative paths are relative to.
    pub working_directory: PathBuf,
}

impl Typed {
    /// Reads all sources to their end, so that everything that is wrong is said at once.
    pub fn read(sources: &Sources) -> (Typed, Vec<Problem>) {
        let mut reader = Reader::default();
        reader.arguments(&sources.arguments);
        reader.environment(&sources.environment);
        reader.files(sources);
        let Reader { given, warnings, problems, .. } = reader;
        (Typed { given, warnings, working_directory: sources.working_directory.clone() }, problems)
    }

    /// A flag, if it was given.
    pub fn get(&self, name: &str) -> Option<&Given> {
        self.given.get(name)
    }

    /// All that were given.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Given)> {
        self.given.iter().map(|(name, given)| (*name, given))
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Given> {
        self.given.remove(name)
    }
}

/// A flag as one source has it.
struct Candidate<'a> {
    row: &'static Row,
    /// The name that was written, perhaps an older one.
    via: String,
    text: &'a str,
    origin: Origin,
}

#[derive(Default)]
struct Reader {
    given: BTreeMap<&'static str, Given>,
    /// Flags that were given wrongly: what a weaker source says about them does not count either.
    wrong: BTreeMap<&'static str, String>,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader {
    fn arguments(&mut self, arguments: &[OsString]) {
        let mut seen: BTreeMap<&'static str, String> = BTreeMap::new();
        let mut before: Option<&'static str> = None;
        for argument in arguments {
            let Some(text) = argument.to_str() else {
                let shown = clip(&argument.to_string_lossy());
                let what = What::NotText(format!("The argument '{shown}'"));
                self.problem(Problem::new(what, None, "flags are text; write paths in ASCII or UTF-8"));
                continue;
            };
            if matches!(text, "--help" | "-h" | "--help=true" | "--version" | "-V" | "--version=true") {
                continue;
            }
            let Some(flag) = text.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
                self.stray(text, before.take());
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            before = find(name).filter(|_| value.is_none()).map(|row| row.name);
            let (row, value) = match argument_of(name, value) {
                Ok(found) => found,
                Err(problem) => {
                    self.problem(*problem);
                    continue;
                }
            };
            if let Some(via) = seen.get(row.name) {
                let error = LoadError::Twice { name: row.name.to_owned(), via: via.clone() };
                let origin = Origin::CommandLine(name.to_owned());
                self.problem(Problem::new(error, Some(origin), "give it once").about(row.name));
                continue;
            }
            seen.insert(row.name, name.to_owned());
            let origin = Origin::CommandLine(name.to_owned());
            self.take(Candidate { row, via: name.to_owned(), text: value, origin });
        }
    }

    /// An argument that is no flag: perhaps the value of the one before, which Mesos does not read so either.
    fn stray(&mut self, text: &str, before: Option<&'static str>) {
        let shown = clip(text);
        let advice = match before {
            Some(name) => format!("if it is the value of --{name}, write --{name}=VALUE"),
            None if text == "--" => "leave it away: the agent takes nothing but flags".to_owned(),
            None => "the agent takes nothing but flags: --name=value, --name, --no-name".to_owned(),
        };
        self.problem(Problem::new(What::Argument(shown), None, advice));
    }

    fn environment(&mut self, environment: &[(OsString, OsString)]) {
        for prefix in ["BERTH_", "MESOS_"] {
            let mut variables: Vec<(&str, &OsString)> = environment
                .iter()
                .filter_map(|(name, value)| name.to_str().map(|name| (name, value)))
                .filter(|(name, _)| name.starts_with(prefix))
                .collect();
            variables.sort();
            for (variable, value) in variables {
                let name = variable[prefix.len()..].to_ascii_lowercase();
                let Some(row) = find(&name).filter(|row| prefix == "BERTH_" || row.is_of_mesos()) else {
                    self.unknown_variable(prefix, variable, &name);
                    continue;
                };
                let origin = Origin::Environment(variable.to_owned());
                match value.to_str() {
                    Some(text) => self.take(Candidate { row, via: name, text, origin }),
                    None => {
                        let what = What::NotText(format!("The value of {variable}"));
                        let advice = "flags are text; write paths in ASCII or UTF-8";
                        self.problem(Problem::new(what, Some(origin), advice).about(row.name));
                    }
                }
            }
        }
    }

    /// An environment holds more than flags (MESOS_SANDBOX, BERTH_BIN), so this is no error; but a slip of the
    /// pen is worth a word.
    fn unknown_variable(&mut self, prefix: &str, variable: &str, name: &str) {
        if prefix == "BERTH_"
            && let Some(nearest) = nearest(name)
        {
            let meant = nearest.to_ascii_uppercase();
            self.warnings
                .push(format!("{variable} is no flag and has no effect; did you mean {prefix}{meant}?"));
        }
    }

    fn files(&mut self, sources: &Sources) {
        let config_dir = match self.given.get("config_dir") {
            Some(given) => sources.working_directory.join(&given.text),
            None => {
                let row = find("config_dir").and_then(|row| row.default);
                PathBuf::from(row.expect("config_dir has a default"))
            }
        };
        if self.given.contains_key("config_dir") && !config_dir.is_dir() {
            let what = What::File { path: config_dir.clone(), why: "there is no such directory".to_owned() };
            let origin = self.given.get("config_dir").map(|given| given.origin.clone());
            self.problem(
                Problem::new(what, origin, "make it, or leave --config_dir away").about("config_dir"),
            );
            return;
        }
        for path in file::files(&config_dir, &mut self.problems) {
            let mut seen: BTreeMap<&'static str, Origin> = BTreeMap::new();
            for entry in file::read(&path, &mut self.problems) {
                let Origin::File { .. } = &entry.origin else { continue };
                if entry.row.name == "config_dir" {
                    let what = What::Conflict("config_dir can not be set in a configuration file".to_owned());
                    let advice = "give it on the command line or as BERTH_CONFIG_DIR";
                    self.problem(Problem::new(what, Some(entry.origin), advice).about("config_dir"));
                    continue;
                }
                if let Some(first) = seen.insert(entry.row.name, entry.origin.clone()) {
                    let error = LoadError::Twice { name: entry.row.name.to_owned(), via: first.to_string() };
                    self.problem(
                        Problem::new(error, Some(entry.origin), "give it once").about(entry.row.name),
                    );
                    continue;
                }
                let via = entry.row.name.to_owned();
                self.take(Candidate { row: entry.row, via, text: &entry.text, origin: entry.origin });
            }
        }
    }

    /// Takes a flag from a source, unless a stronger one had it.
    fn take(&mut self, candidate: Candidate<'_>) {
        let Candidate { row, via, text, origin } = candidate;
        if let Some(given) = self.given.get_mut(row.name) {
            given.shadowed.push(origin);
            return;
        }
        if self.wrong.contains_key(row.name) {
            return;
        }
        let shown = if row.secret { "***".to_owned() } else { clip(text) };
        match value_of(row, text) {
            Ok((text_read, value)) => {
                if row.alias().is_some_and(|alias| via.replace('-', "_") == alias) {
                    self.warnings
                        .push(format!("{origin}: '{via}' is an older name of '{}'; use that", row.name));
                }
                let given =
                    Given { written: text.to_owned(), text: text_read, value, origin, shadowed: Vec::new() };
                self.given.insert(row.name, given);
            }
            Err(why) => {
                let why = if row.secret { expected(row, "the value is not shown") } else { why };
                let error = LoadError::Value { name: via, value: shown, why };
                let advice = expected(row, "");
                self.problem(Problem::new(error, Some(origin), advice).about(row.name));
            }
        }
    }

    fn problem(&mut self, problem: Problem) {
        if let Some(flag) = problem.flag {
            self.wrong.insert(flag, problem.to_string());
        }
        self.problems.push(problem);
    }
}

/// What would have been a value, for advice.
fn expected(row: &Row, more: &str) -> String {
    let what = match row.choices {
        [] => row.kind_name().to_owned(),
        choices => format!("one of {}", choices.join(", ")),
    };
    if more.is_empty() { format!("{} is {what}", row.name) } else { format!("Expecting {what} ({more})") }
}

/// The flag and value that `--name=value`, `--name` or `--no-name` means.
fn argument_of<'a>(name: &str, value: Option<&'a str>) -> Result<(&'static Row, &'a str), Box<Problem>> {
    let origin = || Some(Origin::CommandLine(clip(name)));
    if let Some(row) = find(name) {
        return match (value, row.kind()) {
            (Some(value), _) => Ok((row, value)),
            (None, FlagKind::Bool) => Ok((row, "true")),
            (None, _) => {
                let error = LoadError::MissingValue(name.to_owned());
                let advice = format!("write --{}=VALUE; {}", row.name, expected(row, ""));
                Err(Box::new(Problem::new(error, origin(), advice).about(row.name)))
            }
        };
    }
    let advice = |name: &str| match nearest(name) {
        Some(nearest) => format!("did you mean --{nearest}?"),
        None => "see --help for all flags".to_owned(),
    };
    let Some(positive) = name.strip_prefix("no-") else {
        let error = LoadError::Unknown(clip(name));
        return Err(Box::new(Problem::new(error, origin(), advice(name))));
    };
    let Some(row) = find(positive) else {
        let error = LoadError::UnknownVia { name: clip(positive), via: clip(name) };
        return Err(Box::new(Problem::new(error, origin(), advice(positive))));
    };
    let (positive, via) = (positive.to_owned(), name.to_owned());
    match (row.kind(), value) {
        (FlagKind::Bool, None) => Ok((row, "false")),
        (FlagKind::Bool, Some(value)) => {
            let error = LoadError::NegatedWithValue { name: positive, via, value: clip(value) };
            let advice = format!("write --no-{0}, or --{0}=false", row.name);
            Err(Box::new(Problem::new(error, origin(), advice).about(row.name)))
        }
        _ => {
            let error = LoadError::NotBoolean { name: positive, via };
            let advice = "leave it away to have its default".to_owned();
            Err(Box::new(Problem::new(error, origin(), advice).about(row.name)))
        }
    }
}

/// The text behind what was written, and its value.
fn value_of(row: &Row, written: &str) -> Result<(String, Value), String> {
    let file = match (row.kind(), written.strip_prefix("file://")) {
        (FlagKind::Path, _) => None,
        (_, Some(path)) => Some(path),
        (FlagKind::Json, None) if written.starts_with('/') => Some(written),
        _ => None,
    };
    if let Some(path) = file {
        readable(path).map_err(|why| format!("Error reading file '{path}': {why}"))?;
    }
    let text = berth_factory::fetch(row.kind(), written)?;
    if file.is_some() && text.starts_with("file://") {
        return Err("Expecting a value in the file, not the name of another file".to_owned());
    }
    let value = Value::parse(row.kind(), &text)?;
    if !row.choices.is_empty() && !row.choices.contains(&text.as_str()) {
        return Err(format!("Expecting one of {}", row.choices.join(", ")));
    }
    Ok((text, value))
}

/// Whether a file can be read to its end at once.
fn readable(path: &str) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    let kind = metadata.file_type();
    if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.len() > CAP {
        return Err(format!("it is larger than {CAP} bytes"));
    }
    Ok(())
}

/// A text as messages show it: whole if it is short, and on one line.
pub(crate) fn clip(text: &str) -> String {
    const MOST: usize = 200;
    let escaped = crate::log::escape(text);
    if escaped.chars().count() <= MOST {
        return escaped;
    }
    escaped.chars().take(MOST).chain("...".chars()).collect()
}
