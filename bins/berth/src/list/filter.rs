// SPDX-License-Identifier: Apache-2.0
//! `ps --filter`: as with docker, a container is listed when it meets every key that is given, by any of its values.

use super::{Row, State};
use crate::exit::Failure;
use crate::text::begins;

/// What is asked of every container of a list.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    all: Vec<(Key, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    Name,
    Status,
    Exited,
    Ancestor,
    Before,
    Since,
}

const KEYS: [(&str, Key); 7] = [
    ("id", Key::Id),
    ("name", Key::Name),
    ("status", Key::Status),
    ("exited", Key::Exited),
    ("ancestor", Key::Ancestor),
    ("before", Key::Before),
    ("since", Key::Since),
];

impl Filters {
    /// Reads `KEY=VALUE`s.
    pub(crate) fn parse(given: &[String]) -> Result<Filters, Failure> {
        let one = |text: &String| {
            let wrong = |why: String| Failure::text(format!("--filter {text}: {why}"));
            let (key, value) = text.split_once('=').ok_or_else(|| wrong("write KEY=VALUE".to_owned()))?;
            let known = KEYS.iter().find(|(name, _)| *name == key);
            let known = known.map(|(_, key)| *key).ok_or_else(|| {
                let names: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
                wrong(format!("containers can be chosen by {}", names.join(", ")))
            })?;
            if known == Key::Exited && value.parse::<i32>().is_err() {
                return Err(wrong(format!("{value:?} is not an exit code")));
            }
            Ok((known, value.to_owned()))
        };
        Ok(Filters { all: given.iter().map(one).collect::<Result<_, _>>()? })
    }

    /// Whether those that have ended are asked for too.
    pub(crate) fn ask_for_all(&self) -> bool {
        let over = |(key, value): &(Key, String)| {
            matches!(key, Key::Status) && value != "running" && value != "paused" || *key == Key::Exited
        };
        self.all.iter().any(over)
    }

    /// Leaves those that meet them.
    pub(crate) fn apply(&self, rows: &mut Vec<Row>) -> Result<(), Failure> {
        let mut borders = Vec::new();
        for (key, value) in self.all.iter().filter(|(key, _)| matches!(key, Key::Before | Key::Since)) {
            let named = rows.iter().find(|row| row.is_named(value));
            let named = named.or_else(|| rows.iter().find(|row| begins(&row.id, value)));
            let created = named.map(|row| row.created_ms.unwrap_or(0)).ok_or_else(|| {
                Failure::text(format!("--filter: no container of the list is named {value}; try with -a"))
            })?;
            borders.push((*key, created));
        }
        rows.retain(|row| {
            let within = borders.iter().all(|(key, border)| {
                let created = row.created_ms.unwrap_or(0);
                if *key == Key::Before { created < *border } else { created > *border }
            });
            within && KEYS.iter().all(|(_, key)| self.met(*key, row))
        });
        Ok(())
    }

    fn met(&self, key: Key, row: &Row) -> bool {
        let mut values =
            self.all.iter().filter(|(given, _)| *given == key).map(|(_, value)| value).peekable();
        if values.peek().is_none() {
            return true;
        }
        values.any(|value| match key {
            Key::Id => begins(&row.id, value),
            Key::Name => like(row.called(), value),
            Key::Status => row.state.word() == value,
            Key::Exited => {
                matches!(&row.state, State::Exited { status, .. } if Ok(status.shell_code()) == value.parse())
            }
            Key::Ancestor => row.root == *value || row.root.split([':', '@']).next() == Some(value),
            Key::Before | Key::Since => true,
        })
    }
}

/// A part of a name; `^` and `$` bind it to its ends.
fn like(name: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('^'), pattern.strip_suffix('$')) {
        (None, None) => name.contains(pattern),
        (Some(begin), None) => name.starts_with(begin),
        (None, Some(end)) => name.ends_with(end),
        (Some(begin), Some(_)) => begin.strip_suffix('$') == Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::WaitStatus;

    fn rows() -> Vec<Row> {
        let row = |id: &str, created, state| Row {
            id: id.parse().unwrap(),
            name: None,
            agent: true,
            root: if id == "db" { "postgres:16".to_owned() } else { "host".to_owned() },
            command: Vec::new(),
            created_ms: Some(created),
            state,
            usage: None,
        };
        let up = |paused| State::Running { pid: None, since_ms: None, paused };
        vec![
            row("web", 3, up(false)),
            row("web2", 2, up(true)),
            row("db", 1, State::Exited { status: WaitStatus(7 << 8), at_ms: None }),
        ]
    }

    fn left(given: &[&str]) -> Vec<String> {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        let mut rows = rows();
        Filters::parse(&given).unwrap().apply(&mut rows).unwrap();
        rows.iter().map(|row| row.id.to_string()).collect()
    }

    #[test]
    fn values_of_one_key_are_alternatives_and_keys_are_conditions() {
        assert_eq!(left(&[]), ["web", "web2", "db"]);
        assert_eq!(left(&["name=web"]), ["web", "web2"]);
        assert_eq!(left(&["name=^web$"]), ["web"]);
        assert_eq!(left(&["name=2$", "name=db"]), ["web2", "db"]);
        assert_eq!(left(&["name=web", "status=paused"]), ["web2"]);
        assert_eq!(left(&["status=exited", "status=running"]), ["web", "db"]);
        assert_eq!(left(&["exited=7"]), ["db"]);
        assert_eq!(left(&["exited=0"]), Vec::<String>::new());
        assert_eq!(left(&["ancestor=postgres"]), ["db"]);
        assert_eq!(left(&["before=web"]), ["web2", "db"]);
        assert_eq!(left(&["since=db", "id=w"]), ["web", "web2"]);
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_those_that_are() {
        let refused = |text: &str| format!("{:?}", Filters::parse(&[text.to_owned()]).unwrap_err());
        assert!(refused("label=x").contains("id, name, status, exited"), "{}", refused("label=x"));
        assert!(refused("name").contains("KEY=VALUE"));
        assert!(refused("exited=x").contains("not an exit code"));
        assert!(Filters::parse(&["before=nobody".to_owned()]).unwrap().apply(&mut rows()).is_err());
    }

    #[test]
    fn only_what_is_over_needs_a_look_at_all() {
        let asks = |text: &str| Filters::parse(&[text.to_owned()]).unwrap().ask_for_all();
        assert!(asks("status=exited") && asks("exited=0") && asks("status=unknown"));
        assert!(!asks("status=running") && !asks("name=x"));
    }
}
