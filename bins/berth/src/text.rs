// SPDX-License-Identifier: Apache-2.0
//! How things are put for eyes and for programs. What came from a container, an image or a client never reaches a
//! terminal as a command to it.

use berth_model::ContainerId;
use comfy_table::{Table, presets};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Text with its control characters escaped.
pub(crate) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// JSON, with the control characters escaped that JSON lets through: DEL, and those that a terminal takes for the
/// beginning of a command (U+0080 to U+009F, ECMA-48).
pub(crate) fn plain(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// A message of the agent's API, as it has it in JSON.
pub(crate) fn json_of<M: prost::Message + prost::Name>(message: &M) -> Value {
    serde_json::from_slice(&berth_proto::encode_json(message)).unwrap_or(Value::Null)
}

/// At most so many letters.
pub(crate) fn cut(text: String, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        false => text,
    }
}

/// An id for eyes. A random one is told by its beginning; a name that a person gave is not cut.
pub(crate) fn short(id: &ContainerId) -> String {
    let level = |level: &str| match is_random(level) {
        true => level[..13].to_owned(),
        false => escaped(level),
    };
    id.levels().into_iter().map(level).collect::<Vec<_>>().join(".")
}

/// Whether it is a UUID.
pub(crate) fn is_random(level: &str) -> bool {
    level.len() == 36
        && level.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Whether `text` is the beginning of an id, level by level: `5f2a.9c` of `5f2a….9c4d…`.
pub(crate) fn begins(id: &ContainerId, text: &str) -> bool {
    let (levels, parts) = (id.levels(), text.split('.').collect::<Vec<_>>());
    levels.len() == parts.len()
        && levels.iter().zip(parts).all(|(level, part)| !part.is_empty() && level.starts_with(part))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// As docker says it.
pub(crate) fn ago(at_ms: u64) -> String {
    format!("{} ago", duration(now_ms().saturating_sub(at_ms) / 1000))
}

/// Seconds, as docker says them.
pub(crate) fn duration(seconds: u64) -> String {
    let (n, unit) = match seconds {
        0 => return "Less than a second".to_owned(),
        s if s < 60 => (s, "second"),
        s if s < 3600 => (s / 60, "minute"),
        s if s < 48 * 3600 => (s / 3600, "hour"),
        s => (s / 86400, "day"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

/// A moment, by its nanoseconds since 1970, as RFC 3339 has it.
pub(crate) fn rfc3339(nanoseconds: i64) -> String {
    let since = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    humantime::format_rfc3339_nanos(UNIX_EPOCH + since).to_string()
}

/// A moment, by its milliseconds since 1970, as docker writes it: in UTC, whatever the time zone is here.
pub(crate) fn utc(milliseconds: u64) -> String {
    let text =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(milliseconds)).to_string();
    format!("{} +0000 UTC", text.trim_end_matches('Z').replace('T', " "))
}

/// Bytes, as docker's stats say them: 1024 of one unit are one of the next.
pub(crate) fn binary(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Bytes on the network, as docker's stats say them: by the thousand.
pub(crate) fn decimal(bytes: u64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Four digits, without zeros at the end.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut at = 0;
    while value >= step && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    let whole = if value >= 1000.0 {
        4
    } else if value >= 100.0 {
        3
    } else if value >= 10.0 {
        2
    } else {
        1
    };
    let text = format!("{value:.*}", 4 - whole);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[at])
}

/// How a line of a table looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    /// Of what is over.
    Dim,
    /// Of what wants attention.
    Marked,
}

/// The lines of a table without frames. `colours`: as far as a terminal can show it.
pub(crate) fn table(header: &[&str], rows: Vec<(Look, Vec<String>)>, colours: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    let looks: Vec<Look> = rows.iter().map(|(look, _)| *look).collect();
    for (_, row) in rows {
        table.add_row(row);
    }
    let mut out = String::new();
    for (at, line) in table.lines().enumerate() {
        let line = line.strip_prefix(' ').unwrap_or(&line).trim_end();
        let code = match at.checked_sub(1).map(|row| looks[row]) {
            _ if !colours => "",
            None => "\x1b[1m",
            Some(Look::Plain) => "",
            Some(Look::Dim) => "\x1b[2m",
            Some(Look::Marked) => "\x1b[33m",
        };
        let end = if code.is_empty() { "" } else { "\x1b[0m" };
        out.push_str(&format!("{code}{line}{end}\n"));
    }
    out
}

/// Whether stdout shows colours: a terminal, and nobody said NO_COLOR (no-color.org).
pub(crate) fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Writes to stdout. Who reads it may be gone: that is no reason to panic.
pub(crate) fn show(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

/// One JSON value on a line.
pub(crate) fn show_json(value: &Value) {
    show(&format!("{}\n", plain(&value.to_string())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_without_control_characters_means_the_same() {
        let evil = json!(["a\u{1b}[2J\u{7f}\u{9b}31m\n\\u009b é"]);
        let text = plain(&evil.to_string());
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), evil);
    }

    #[test]
    fn text_of_containers_is_shown_without_its_control_characters() {
        let evil = "a\u{1b}[2J\u{7f}\u{9b}31m\nb\r é";
        assert_eq!(escaped(evil), "a\\u{1b}[2J\\u{7f}\\u{9b}31m\\nb\\r é");
    }

    #[test]
    fn amounts_have_four_digits_as_with_docker() {
        let all = [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1000B", "1kB"),
            (1024, "1KiB", "1.024kB"),
            (67_108_864, "64MiB", "67.11MB"),
            (1_500_000, "1.431MiB", "1.5MB"),
            (u64::MAX, "16384PiB", "18447PB"),
        ];
        for (bytes, two, ten) in all {
            assert_eq!((binary(bytes).as_str(), decimal(bytes).as_str()), (two, ten));
        }
    }

    #[test]
    fn times_are_told_as_by_docker() {
        let told: Vec<String> = [0, 1, 59, 60, 3599, 3600, 172_799, 172_800].map(duration).into();
        let expected = [
            "Less than a second",
            "1 second",
            "59 seconds",
            "1 minute",
            "59 minutes",
            "1 hour",
            "47 hours",
            "2 days",
        ];
        assert_eq!(told, expected);
        assert_eq!(rfc3339(1_795_452_925_123_456_789), "2026-11-23T16:55:25.123456789Z");
    }

    #[test]
    fn random_ids_are_cut_and_names_are_not() {
        let uuid = "5f2a0c1e-9d3b-4a6f-8b2c-0123456789ab";
        let id: ContainerId = format!("{uuid}.web.{uuid}").parse().unwrap();
        assert_eq!(short(&id), "5f2a0c1e-9d3b.web.5f2a0c1e-9d3b");
        assert!(!is_random("5f2a0c1e-9d3b-4a6f-8b2c-0123456789xy"));
    }

    #[test]
    fn the_beginning_of_an_id_is_one_of_each_level() {
        let id: ContainerId = "abc.def".parse().unwrap();
        assert!(begins(&id, "a.d") && begins(&id, "abc.def"));
        for not in ["abc", "a", "", ".", "a.", "a.d.x", "abc.e", "abcd.def"] {
            assert!(!begins(&id, not), "{not:?}");
        }
    }

    #[test]
    fn tables_have_colours_only_where_asked() {
        let rows = || {
            vec![
                (Look::Plain, vec!["a".into(), "Up".into()]),
                (Look::Dim, vec!["bb".into(), "Exited".into()]),
            ]
        };
        assert_eq!(table(&["ID", "STATUS"], rows(), false), "ID  STATUS\na   Up\nbb  Exited\n");
        assert_eq!(
            table(&["ID", "STATUS"], rows(), true),
            "\x1b[1mID  STATUS\x1b[0m\na   Up\n\x1b[2mbb  Exited\x1b[0m\n"
        );
    }
}
