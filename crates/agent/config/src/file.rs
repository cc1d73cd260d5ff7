// SPDX-License-Identifier: Apache-2.0
//! `config.toml` and the drop-ins: TOML with flags as keys, nothing else. What is not a flag is refused with
//! its file and line, because a setting that is silently ignored is the one that was needed.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_factory::FlagKind;
use berth_sys::rustix;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::problem::{Origin, Problem, What};
use crate::table::{Row, find, nearest};

/// A configuration of more bytes is none.
const CAP: u64 = 1 << 20;

/// One flag in a file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) row: &'static Row,
    /// As a command line would have it.
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// The files below `config_dir` that there are, the one that wins first.
pub(crate) fn files(config_dir: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let folder = config_dir.join("config.d");
    let mut found = Vec::new();
    match fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => found.push(entry.path()),
                    Err(error) => problems.push(unreadable(&folder, &error.to_string())),
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => problems.push(unreadable(&folder, &error.to_string())),
    }
    // What editors and package managers leave beside a file has other endings.
    found.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    found.sort();
    found.reverse();
    let main = config_dir.join("config.toml");
    if !matches!(fs::symlink_metadata(&main), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
        found.push(main);
    }
    found
}

/// The flags of one file. What is wrong with it is added to `problems`.
pub(crate) fn read(path: &Path, problems: &mut Vec<Problem>) -> Vec<Entry> {
    match text(path) {
        Ok(text) => parse(path, &text, problems),
        Err(why) => {
            problems.push(unreadable(path, &why));
            Vec::new()
        }
    }
}

fn unreadable(path: &Path, why: &str) -> Problem {
    let what = What::File { path: path.to_owned(), why: why.to_owned() };
    Problem::new(what, None, "correct it, or move it away")
}

/// The text of a regular file that only its owner can change: who writes it chooses programs that root runs.
fn text(path: &Path) -> Result<String, String> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(|error| error.to_string())?;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| e.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!(
            "its mode {:04o} lets others change it; use chmod go-w",
            metadata.mode() & 0o7777
        ));
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != me {
        return Err(format!("it belongs to uid {}, neither root nor this user; use chown", metadata.uid()));
    }
    let mut text = String::new();
    file.take(CAP + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > CAP {
        return Err(format!("it is larger than {CAP} bytes"));
    }
    Ok(text)
}

fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let at = |offset: usize| Origin::File { path: path.to_owned(), line: line(text, offset) };
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let origin = error.span().map(|span| at(span.start));
            let what = What::File { path: path.to_owned(), why: error.message().to_owned() };
            problems.push(Problem::new(what, origin, "correct that line"));
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    // As they stand in the file: the parser has sorted them by name.
    let mut keys: Vec<_> = table.into_iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in keys {
        let origin = at(key.span().start);
        let name = key.get_ref().as_ref();
        match entry(name, &value, origin.clone()) {
            Ok(entry) => entries.push(entry),
            Err(problem) => problems.push(*problem),
        }
    }
    entries
}

/// The line that holds the byte at `offset`, from 1.
fn line(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count()
}

fn entry(name: &str, value: &Spanned<DeValue<'_>>, origin: Origin) -> Result<Entry, Box<Problem>> {
    let Some(row) = find(name) else {
        let advice = match nearest(name) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "see the --help of the agent for all flags".to_owned(),
        };
        let unknown = berth_factory::LoadError::Unknown(name.to_owned());
        return Err(Box::new(Problem::new(unknown, Some(origin), advice)));
    };
    match written(row.kind(), value.get_ref()) {
        Ok(text) => Ok(Entry { row, text, origin }),
        Err(why) => {
            let what = What::NotAllowed { name: row.name, value: describe(value.get_ref()), why };
            let advice = format!("{} is {}", row.name, row.kind_name());
            Err(Box::new(Problem::new(what, Some(origin), advice).about(row.name)))
        }
    }
}

/// The value as a command line would have it.
fn written(kind: FlagKind, value: &DeValue<'_>) -> Result<String, String> {
    match (kind, value) {
        // A text is what the flag's own grammar makes of it, whatever the type.
        (_, DeValue::String(text)) => Ok(text.to_string()),
        (FlagKind::Bool, DeValue::Boolean(value)) => Ok(value.to_string()),
        (FlagKind::Integer | FlagKind::Number, DeValue::Integer(value)) => {
            integer(value).map(|n| n.to_string())
        }
        (FlagKind::Number, DeValue::Float(value)) => Ok(value.to_string()),
        (FlagKind::Indices | FlagKind::Text, DeValue::Array(values)) => {
            let texts = values.iter().map(|value| match value.get_ref() {
                DeValue::String(text) if !text.contains(',') => Ok(text.to_string()),
                DeValue::Integer(value) if kind == FlagKind::Indices => integer(value).map(|n| n.to_string()),
                _ => Err("a list may hold texts without commas only".to_owned()),
            });
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        (FlagKind::Json, value) => json(value).map(|json| json.to_string()),
        _ => Err("write it as a text in quotes".to_owned()),
    }
}

fn integer(value: &DeInteger<'_>) -> Result<i64, String> {
    i64::from_str_radix(value.as_str(), value.radix()).map_err(|error| error.to_string())
}

/// A table or list as JSON. The TOML parser bounds how deep they go.
fn json(value: &DeValue<'_>) -> Result<serde_json::Value, String> {
    Ok(match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(value) => integer(value)?.into(),
        DeValue::Float(value) => value.as_str().parse::<f64>().map_err(|error| error.to_string())?.into(),
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(_) => return Err("JSON has no dates: write it as a text in quotes".to_owned()),
        DeValue::Array(values) => {
            values.iter().map(|value| json(value.get_ref())).collect::<Result<Vec<_>, _>>()?.into()
        }
        DeValue::Table(table) => {
            let fields = table
                .iter()
                .map(|(key, value)| json(value.get_ref()).map(|value| (key.get_ref().to_string(), value)));
            serde_json::Value::Object(fields.collect::<Result<_, _>>()?)
        }
    })
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
    .to_owned()
}
