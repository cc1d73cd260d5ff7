// SPDX-License-Identifier: Apache-2.0
//! Reading flags: `--name=value`, `--name`, `--no-name`, and the environment; each checked against its type
//! while it is read, with Mesos's words for what is wrong.

use std::collections::BTreeMap;
use std::fs;

use berth_model::{Bytes, Class, parse_duration};

use crate::known::{Kind, Known, find};

/// What is wrong with the flags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// No such flag.
    #[error("Failed to load unknown flag '{0}'")]
    Unknown(String),
    /// No such flag, with `no-` before its name.
    #[error("Failed to load unknown flag '{name}' via '{via}'")]
    UnknownVia {
        /// The name.
        name: String,
        /// What was written.
        via: String,
    },
    /// The value is not of the flag's type.
    #[error("Failed to load flag '{name}': Failed to load value '{value}': {why}")]
    Value {
        /// The flag.
        name: String,
        /// What was given.
        value: String,
        /// What was expected.
        why: String,
    },
    /// `--name` of a flag that is not a boolean.
    #[error("Failed to load non-boolean flag '{0}': Missing value")]
    MissingValue(String),
    /// `--no-name` of a flag that is not a boolean.
    #[error("Failed to load non-boolean flag '{name}' via '{via}'")]
    NotBoolean {
        /// The flag.
        name: String,
        /// What was written.
        via: String,
    },
    /// `--no-name=value`.
    #[error("Failed to load boolean flag '{name}' via '{via}' with value '{value}'")]
    NegatedWithValue {
        /// The flag.
        name: String,
        /// What was written.
        via: String,
        /// What was given.
        value: String,
    },
    /// The same flag twice.
    #[error("Flag '{name}' is already loaded via name '{via}'")]
    Twice {
        /// The flag.
        name: String,
        /// The name it was given under first.
        via: String,
    },
    /// A flag whose purpose this version does not have.
    #[error("Failed to load flag '{0}': not built into this version of berth; leave it out")]
    NotBuilt(String),
}

impl LoadError {
    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match self {
            LoadError::NotBuilt(_) => Class::Unsupported,
            _ => Class::Invalid,
        }
    }
}

/// The line that goes with every [`LoadError`], for the program of this name.
pub fn hint(program: &str) -> String {
    format!("See `{program} --help` for a list of supported flags.")
}

/// The flags that were given: name (never an alias) and text, files already read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    values: BTreeMap<&'static str, Given>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    text: String,
    via: String,
}

impl Loaded {
    /// Reads a command line (without the program's name) and the environment. A flag of the command line wins
    /// over `BERTH_NAME`, and that over `MESOS_NAME`; other variables with these prefixes are left alone,
    /// because an agent's environment holds more than flags. Arguments after `--`, and those that are no
    /// flags, are ignored.
    pub fn read<A, E>(arguments: A, environment: E) -> Result<Loaded, LoadError>
    where
        A: IntoIterator<Item = String>,
        E: IntoIterator<Item = (String, String)>,
    {
        let mut loaded = Loaded::default();
        for argument in arguments {
            if argument == "--" {
                break;
            }
            if let Some(flag) = argument.strip_prefix("--") {
                let (name, value) = match flag.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (flag, None),
                };
                loaded.argument(name, value)?;
            }
        }
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        for prefix in ["BERTH_", "MESOS_"] {
            for (variable, value) in &environment {
                let Some(rest) = variable.strip_prefix(prefix) else { continue };
                let name = rest.to_ascii_lowercase();
                let Some(known) = find(&name) else { continue };
                if !loaded.values.contains_key(known.name) {
                    loaded.insert(known, &name, value)?;
                }
            }
        }
        Ok(loaded)
    }

    /// The text of a flag, if it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|given| given.text.as_str())
    }

    /// A boolean flag, or its default.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).and_then(parse_bool).unwrap_or(default)
    }

    fn argument(&mut self, name: &str, value: Option<&str>) -> Result<(), LoadError> {
        if let Some(known) = find(name) {
            return match (value, known.kind) {
                (Some(value), _) => self.insert(known, name, value),
                (None, Kind::Bool) => self.insert(known, name, "true"),
                (None, _) => Err(LoadError::MissingValue(name.to_owned())),
            };
        }
        let Some(positive) = name.strip_prefix("no-") else {
            return Err(LoadError::Unknown(name.to_owned()));
        };
        let via = name.to_owned();
        let Some(known) = find(positive) else {
            return Err(LoadError::UnknownVia { name: positive.to_owned(), via });
        };
        let name = positive.to_owned();
        match (known.kind, value) {
            (Kind::Bool, None) => self.insert(known, &via, "false"),
            (Kind::Bool, Some(value)) => {
                Err(LoadError::NegatedWithValue { name, via, value: value.to_owned() })
            }
            _ => Err(LoadError::NotBoolean { name, via }),
        }
    }

    fn insert(&mut self, known: &'static Known, via: &str, value: &str) -> Result<(), LoadError> {
        if let Some(given) = self.values.get(known.name) {
            return Err(LoadError::Twice { name: known.name.to_owned(), via: given.via.clone() });
        }
        if !known.built {
            return Err(LoadError::NotBuilt(known.name.to_owned()));
        }
        let text = fetch(known.kind, value)
            .and_then(|text| check(known.kind, &text).map(|()| text))
            .map_err(|why| LoadError::Value { name: via.to_owned(), value: value.to_owned(), why })?;
        self.values.insert(known.name, Given { text, via: via.to_owned() });
        Ok(())
    }
}

/// The text itself, or that of the file it names.
///
/// # Errors
/// The file can not be read, in the words that follow a flag's name.
pub fn fetch(kind: Kind, value: &str) -> Result<String, String> {
    let path = match (kind, value.strip_prefix("file://")) {
        (Kind::Path, _) => None,
        (_, Some(path)) => Some(path),
        (Kind::Json, None) if value.starts_with('/') => Some(value),
        _ => None,
    };
    match path {
        None => Ok(value.to_owned()),
        Some(path) => {
            let text = fs::read_to_string(path);
            // An editor ends the last line; that is not part of the value.
            text.map(|text| text.trim_end_matches('\n').to_owned())
                .map_err(|error| format!("Error reading file '{path}': {error}"))
        }
    }
}

/// Whether a text is of a flag's type.
///
/// # Errors
/// What was expected, in the words that follow a flag's name.
pub fn check(kind: Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Text | Kind::Path => Ok(()),
        Kind::Bool => match parse_bool(text) {
            Some(_) => Ok(()),
            None => Err("Expecting a boolean (e.g., true or false)".to_owned()),
        },
        Kind::Duration => parse_duration(text).map(drop).map_err(|error| error.to_string()),
        Kind::Bytes => text.parse::<Bytes>().map(drop).map_err(|error| error.to_string()),
        Kind::Integer => parse_integer(text).map(drop),
        Kind::Indices => parse_indices(text).map(drop),
        Kind::Number => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(()),
            _ => Err("Failed to convert into required type".to_owned()),
        },
        Kind::Json => match serde_json::from_str::<serde_json::Value>(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("Failed to parse JSON: {error}")),
        },
    }
}

/// A boolean as flags write it.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// An unsigned whole number as flags write it: decimal, or `0x` hexadecimal.
///
/// # Errors
/// It is none, in Mesos's words.
pub fn parse_integer(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "Failed to convert into required type".to_owned())
}

/// Indices as flags write them: `0,2`.
pub fn parse_indices(text: &str) -> Result<Vec<u64>, String> {
    let indices = text.split(',').map(|part| part.trim().parse::<u64>());
    indices.collect::<Result<_, _>>().map_err(|_| "Failed to convert into required type".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Loaded, LoadError> {
        Loaded::read(arguments.iter().map(|text| (*text).to_owned()), [])
    }

    fn refused(arguments: &[&str]) -> String {
        read(arguments).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_mesos() {
        assert_eq!(refused(&["--nope=1"]), "Failed to load unknown flag 'nope'");
        assert_eq!(refused(&["--no-nope"]), "Failed to load unknown flag 'nope' via 'no-nope'");
        assert_eq!(
            refused(&["--switch_user=maybe"]),
            "Failed to load flag 'switch_user': Failed to load value 'maybe': \
             Expecting a boolean (e.g., true or false)"
        );
        assert_eq!(refused(&["--work_dir"]), "Failed to load non-boolean flag 'work_dir': Missing value");
        assert_eq!(
            refused(&["--no-work_dir"]),
            "Failed to load non-boolean flag 'work_dir' via 'no-work_dir'"
        );
        assert_eq!(
            refused(&["--no-strict=true"]),
            "Failed to load boolean flag 'strict' via 'no-strict' with value 'true'"
        );
        assert_eq!(
            refused(&["--gc_delay=1weeks", "--gc_delay=2weeks"]),
            "Flag 'gc_delay' is already loaded via name 'gc_delay'"
        );
        assert_eq!(
            refused(&["--slave_subsystems=cpu", "--agent_subsystems=cpu"]),
            "Flag 'agent_subsystems' is already loaded via name 'slave_subsystems'"
        );
    }

    #[test]
    fn values_are_checked_by_type() {
        let gone = "Failed to load flag 'gc_delay': Failed to load value";
        let text = refused(&["--gc_delay=1week"]);
        assert!(text.starts_with(&format!("{gone} '1week': unknown unit 'week'")), "{text}");
        assert!(refused(&["--gc_delay=weeks"]).contains("does not start with a number"));
        assert!(refused(&["--fetcher_cache_size=2G"]).contains("unknown unit 'G'"));
        assert!(refused(&["--fetcher_cache_size=99999999999TB"]).contains("is too large"));
        assert!(refused(&["--nvidia_gpu_devices=0,x"]).ends_with("Failed to convert into required type"));
        read(&["--gc_delay=1.5weeks", "--fetcher_cache_size=2GB", "--nvidia_gpu_devices=0,1"]).unwrap();
        assert!(refused(&["--gc_disk_headroom=NaN"]).ends_with("Failed to convert into required type"));
        assert!(refused(&["--allowed_devices={"]).contains("Failed to parse JSON"));
        assert!(refused(&["--allowed_devices=/nowhere/x"]).contains("Error reading file '/nowhere/x'"));
    }

    #[test]
    fn a_known_flag_that_is_not_built_is_refused_by_name() {
        assert_eq!(
            refused(&["--hooks=x"]),
            "Failed to load flag 'hooks': not built into this version of berth; leave it out"
        );
        assert_eq!(read(&["--hooks=x"]).unwrap_err().class(), Class::Unsupported);
    }

    #[test]
    fn booleans_may_stand_alone_and_be_negated() {
        let loaded = read(&["--strict", "--no-switch_user", "--cgroups_limit_swap=0"]).unwrap();
        assert!(loaded.flag("strict", false));
        assert!(!loaded.flag("switch_user", true));
        assert!(!loaded.flag("cgroups_limit_swap", true));
        assert!(loaded.flag("cgroups_enable_cfs", true));
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_ours_over_that_of_mesos() {
        let environment = [
            ("MESOS_WORK_DIR", "/m"),
            ("BERTH_WORK_DIR", "/b"),
            ("MESOS_LAUNCHER", "posix"),
            ("BERTH_ISOLATION", "posix/cpu"),
            ("MESOS_SANDBOX", "/not/a/flag"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let loaded = Loaded::read(["--isolation=posix/mem".to_owned()], environment).unwrap();
        assert_eq!(loaded.get("work_dir"), Some("/b"));
        assert_eq!(loaded.get("launcher"), Some("posix"));
        assert_eq!(loaded.get("isolation"), Some("posix/mem"));
    }

    #[test]
    fn a_value_may_stand_in_a_file_but_a_path_is_a_path() {
        let site = berth_conformance::Site::new("flags").unwrap();
        let file = site.work_dir().join("resources");
        fs::write(&file, "cpus:2\n").unwrap();
        let url = format!("file://{}", file.display());
        let loaded = read(&[&format!("--resources={url}"), &format!("--work_dir={url}")]).unwrap();
        assert_eq!(loaded.get("resources"), Some("cpus:2"));
        assert_eq!(loaded.get("work_dir"), Some(url.as_str()));
    }
}
