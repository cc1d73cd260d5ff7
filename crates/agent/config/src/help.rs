// SPDX-License-Identifier: Apache-2.0
//! `--help`: every flag, by subject, with its default; wrapped to the width of a page.

use std::fmt::Write;

use berth_factory::FlagKind;

use crate::table::{GROUPS, Row, State};

const WIDTH: usize = 100;
const INDENT: &str = "        ";

/// The text of `--help` for a program that is called like this.
pub fn help(program: &str) -> String {
    let mut text = format!("Usage: {program} [--FLAG=VALUE | --FLAG | --no-FLAG]...\n\n");
    let intro = "Each flag may be given on the command line, as BERTH_FLAG or MESOS_FLAG in the environment, or in \
                 /etc/berth/config.toml and /etc/berth/config.d/*.toml, in this order of strength. Hyphens may be \
                 written for underscores. A value file:///PATH is the text of that file, save for flags that are \
                 paths themselves; one that is JSON may also be just a path.";
    wrap(&mut text, intro, "");
    let note = "Flags marked [not built] are known from Mesos and refused unless their value is the default.";
    wrap(&mut text, note, "");
    for group in GROUPS {
        let _ = write!(text, "\n{}:\n", group.title);
        for row in group.rows {
            let _ = writeln!(text, "  {}", usage(row));
            wrap(&mut text, &describe(row), INDENT);
        }
    }
    text
}

fn usage(row: &Row) -> String {
    let name = row.name;
    match row.kind() {
        FlagKind::Bool => format!("--[no-]{name}"),
        FlagKind::Text => format!("--{name}=TEXT"),
        FlagKind::Path => format!("--{name}=PATH"),
        FlagKind::Duration => format!("--{name}=DURATION"),
        FlagKind::Bytes => format!("--{name}=SIZE"),
        FlagKind::Integer | FlagKind::Number => format!("--{name}=NUMBER"),
        FlagKind::Indices => format!("--{name}=NUMBERS"),
        FlagKind::Json => format!("--{name}=JSON"),
    }
}

fn describe(row: &Row) -> String {
    let mut text = row.help.to_owned();
    let lower: Vec<&str> =
        row.choices.iter().copied().filter(|choice| !choice.starts_with(char::is_uppercase)).collect();
    if !lower.is_empty() {
        let _ = write!(text, ": {}", lower.join(", "));
    }
    match row.default {
        Some("") => text.push_str(" [default: empty]"),
        Some(default) => {
            let _ = write!(text, " [default: {default}]");
        }
        None => {}
    }
    if let Some(mesos) = row.mesos.filter(|mesos| Some(*mesos) != row.default && !mesos.is_empty()) {
        let _ = write!(text, " [Mesos: {mesos}]");
    }
    if let Some(alias) = row.alias() {
        let _ = write!(text, " [older name: {alias}]");
    }
    match row.state {
        State::Built => {}
        State::NotBuilt => text.push_str(" [not built]"),
        State::Deprecated(instead) => {
            let _ = write!(text, " [not built; deprecated: use {instead}]");
        }
    }
    text
}

/// Adds `words` in lines of at most [`WIDTH`] letters. A word that is longer is broken after a comma, if it has one.
fn wrap(to: &mut String, words: &str, indent: &str) {
    let mut line = String::new();
    let mut flush = |line: &mut String| {
        if !line.is_empty() {
            let _ = writeln!(to, "{indent}{}", line.trim_end());
            line.clear();
        }
    };
    let room = WIDTH - indent.len();
    for word in words.split(' ') {
        let pieces: Vec<&str> =
            if word.len() > room / 2 { word.split_inclusive(',').collect() } else { vec![word] };
        let last = pieces.len() - 1;
        for (index, piece) in pieces.into_iter().enumerate() {
            if line.len() + piece.len() > room {
                flush(&mut line);
            }
            line.push_str(piece);
            if index == last {
                line.push(' ');
            }
        }
    }
    flush(&mut line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_text_is_the_golden_one() {
        let golden = include_str!("../tests/golden/help.txt");
        let now = help("berth agent");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/help.txt");
        if std::env::var_os("BERTH_GOLDEN_WRITE").is_some() {
            std::fs::write(path, &now).unwrap();
        } else {
            assert_eq!(now, golden, "rewrite {path} with BERTH_GOLDEN_WRITE=1 if the change is meant");
        }
    }

    #[test]
    fn no_line_is_wider_than_a_page() {
        for line in help("berth agent").lines() {
            assert!(line.len() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn every_flag_stands_in_it_once() {
        let text = help("berth agent");
        for row in crate::table::rows() {
            let usage = format!("\n  {}\n", usage(row));
            assert_eq!(text.matches(&usage).count(), 1, "{}", row.name);
        }
    }
}
