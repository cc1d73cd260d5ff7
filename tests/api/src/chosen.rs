// SPDX-License-Identifier: Apache-2.0
//! Differences from a recording that we chose, each with its reason.

use std::collections::BTreeMap;

/// Lines of the form `name | difference | reason`; one that begins with `? ` is not seen on every host.
#[derive(Debug)]
pub struct Chosen {
    left: BTreeMap<(String, String), Always>,
}

#[derive(Debug, PartialEq)]
enum Always {
    Yes,
    No,
}

impl Chosen {
    /// The differences of a list, those of lines of the recording that are replayed.
    ///
    /// # Panics
    /// A line has another form.
    pub fn read(list: &str, is_replayed: impl Fn(&str) -> bool) -> Chosen {
        let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parts = lines.map(|line| {
            let (always, line) = match line.strip_prefix("? ") {
                Some(line) => (Always::No, line),
                None => (Always::Yes, line),
            };
            match line.split(" | ").collect::<Vec<_>>()[..] {
                [name, difference, reason] if !reason.is_empty() => {
                    ((name.to_owned(), difference.to_owned()), always)
                }
                _ => panic!("not 'name | difference | reason': {line}"),
            }
        });
        Chosen { left: parts.filter(|((name, _), _)| is_replayed(name)).collect() }
    }

    /// Whether this difference was chosen; it is seen by that. One that need not be seen may be seen again.
    pub fn has(&mut self, name: &str, difference: &str) -> bool {
        let key = (name.to_owned(), difference.to_owned());
        match self.left.get(&key) {
            Some(Always::Yes) => self.left.remove(&key).is_some(),
            Some(Always::No) => true,
            None => false,
        }
    }

    /// Whether this difference was chosen and not seen yet.
    pub fn is_listed(&self, name: &str, difference: &str) -> bool {
        self.left.contains_key(&(name.to_owned(), difference.to_owned()))
    }

    /// What should have been seen, and was not.
    pub fn unseen(&self) -> Vec<String> {
        let left = self.left.iter().filter(|(_, always)| **always == Always::Yes);
        left.map(|((name, what), _)| format!("{name} | {what}")).collect()
    }
}
