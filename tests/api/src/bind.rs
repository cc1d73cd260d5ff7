// SPDX-License-Identifier: Apache-2.0
//! A recorded conversation beside one of ours: what is an id, a moment or an address there is another one here, but
//! everywhere the same other one. All else is compared as it is.

use std::collections::BTreeMap;

use serde_json::Value;

/// How values are looked at, by the name that they stand under.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// What is another value in each run: the first that is seen is the one that is expected from then on.
    pub binds: &'a [&'a str],
    /// Texts that are ids of one run wherever they stand.
    pub is_id: fn(&str) -> bool,
    /// What is measured, or belongs to a build: only the type is compared.
    pub measured: &'a [&'a str],
    /// Lists in no order.
    pub unordered: &'a [&'a str],
}

/// Which value of ours stands for which recorded one.
#[derive(Debug, Clone)]
pub struct Bindings<'a> {
    rules: Rules<'a>,
    texts: Vec<(String, String)>,
    values: BTreeMap<String, Value>,
}

impl<'a> Bindings<'a> {
    /// None yet.
    pub fn new(rules: Rules<'a>) -> Bindings<'a> {
        Bindings { rules, texts: Vec::new(), values: BTreeMap::new() }
    }

    /// A recorded text is this one of ours from now on, also within longer ones.
    pub fn bind(&mut self, theirs: &str, ours: &str) {
        self.texts.retain(|(known, _)| known != theirs);
        self.texts.push((theirs.to_owned(), ours.to_owned()));
        // One that is part of another is looked for after it.
        self.texts.sort_by_key(|(known, _)| std::cmp::Reverse(known.len()));
    }

    /// A recorded text stands for itself again.
    pub fn unbind(&mut self, theirs: &str) {
        self.texts.retain(|(known, _)| known != theirs);
    }

    /// A recorded value is this one of ours from now on, as a whole.
    pub fn bind_value(&mut self, theirs: &Value, ours: &Value) {
        self.values.insert(theirs.to_string(), ours.clone());
    }

    /// What a recorded value is here, if that was seen.
    pub fn value(&self, theirs: &Value) -> Option<&Value> {
        self.values.get(&theirs.to_string())
    }

    /// A recorded text, as it is in our run.
    pub fn ours(&self, theirs: &str) -> String {
        self.texts.iter().fold(theirs.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    }

    /// A text of ours as it would have been recorded, so that differences are told in the same words in each run.
    pub fn theirs(&self, ours: &str) -> String {
        self.texts.iter().fold(ours.to_owned(), |text, (theirs, ours)| text.replace(ours, theirs))
    }

    /// Where our document is not the recorded one.
    pub fn differences(&mut self, ours: &Value, theirs: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(ours, theirs, "", "", &mut found);
        found.sort();
        found.dedup();
        found
    }

    fn compare(&mut self, ours: &Value, theirs: &Value, path: &str, name: &str, found: &mut Vec<String>) {
        if self.rules.measured.contains(&name) {
            if std::mem::discriminant(ours) != std::mem::discriminant(theirs) {
                found.push(format!("{path} is {ours}, not {theirs}"));
            }
            return;
        }
        match (ours, theirs) {
            (Value::Object(ours), Value::Object(theirs)) => {
                let mut seen = Vec::new();
                for (recorded, value) in theirs {
                    let name = self.ours(recorded);
                    match ours.get(&name) {
                        Some(own) => self.compare(own, value, &format!("{path}.{recorded}"), recorded, found),
                        None => found.push(format!("{path}.{recorded} is not there")),
                    }
                    seen.push(name);
                }
                for name in ours.keys().filter(|name| !seen.contains(name)) {
                    found.push(format!("{path}.{} is there beside", self.theirs(name)));
                }
            }
            (Value::Array(ours), Value::Array(theirs)) => self.lists(ours, theirs, path, name, found),
            _ => self.leaves(ours, theirs, path, name, found),
        }
    }

    fn lists(&mut self, ours: &[Value], theirs: &[Value], path: &str, name: &str, found: &mut Vec<String>) {
        if ours.len() != theirs.len() {
            found.push(format!("{path} has {} elements, not {}", ours.len(), theirs.len()));
        }
        let below = format!("{path}[]");
        let mut left: Vec<&Value> = ours.iter().collect();
        for recorded in theirs {
            if left.is_empty() {
                break;
            }
            let at = if self.rules.unordered.contains(&name) { self.nearest(&left, recorded) } else { 0 };
            // An element of a list has no name of its own.
            self.compare(left.remove(at), recorded, &below, name, found);
        }
    }

    /// Which of them differs from the recorded one the least.
    fn nearest(&self, ours: &[&Value], recorded: &Value) -> usize {
        let differ = |own: &Value| self.clone().differences(own, recorded).len();
        let all = ours.iter().map(|own| differ(own)).enumerate();
        all.min_by_key(|(_, differ)| *differ).map_or(0, |(at, _)| at)
    }

    fn leaves(&mut self, ours: &Value, theirs: &Value, path: &str, name: &str, found: &mut Vec<String>) {
        let is_id = theirs.as_str().is_some_and(self.rules.is_id) || self.rules.binds.contains(&name);
        let is_same = match (ours, theirs) {
            (Value::String(_), Value::String(_)) | (Value::Number(_), Value::Number(_)) if is_id => {
                match self.value(theirs) {
                    Some(known) => known == ours,
                    // A moment that never was.
                    None if ours.as_f64() == Some(0.0) || theirs.as_f64() == Some(0.0) => ours == theirs,
                    // Nor does one of ours stand for two of theirs; moments may be the same.
                    None if ours.is_string() && self.values.values().any(|known| known == ours) => false,
                    None => {
                        self.bind_value(theirs, ours);
                        true
                    }
                }
            }
            (Value::String(ours), Value::String(theirs)) => self.ours(theirs) == *ours,
            _ => ours == theirs,
        };
        if !is_same {
            found.push(format!("{path} is {}, not {theirs}", self.theirs(&ours.to_string())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RULES: Rules<'static> = Rules {
        binds: &["id", "pid"],
        is_id: |text| text.ends_with("-O1"),
        measured: &["used"],
        unordered: &["tasks"],
    };

    #[test]
    fn an_id_is_another_one_and_everywhere_the_same() {
        let mut bindings = Bindings::new(RULES);
        bindings.bind("their-master", "own-master");
        let theirs =
            json!({"id": "their-id", "pid": 7, "used": 1, "words": "no such their-master", "any": "x-O1"});
        let ours = json!({"id": "own-id", "pid": 8, "used": 2, "words": "no such own-master", "any": "y-O1"});
        assert_eq!(bindings.differences(&ours, &theirs), [""; 0]);
        let other = json!({"id": "third", "pid": 9, "used": "2", "words": "no such own-master", "any": "z"});
        assert_eq!(
            bindings.differences(&other, &theirs),
            [
                ".any is \"z\", not \"x-O1\"",
                ".id is \"third\", not \"their-id\"",
                ".pid is 9, not 7",
                ".used is \"2\", not 1"
            ]
        );
        let second = bindings.differences(&json!({"id": "own-id"}), &json!({"id": "another-id"}));
        assert_eq!(second, [".id is \"own-id\", not \"another-id\""]);
    }

    #[test]
    fn lists_are_compared_in_order_unless_they_have_none() {
        let mut bindings = Bindings::new(RULES);
        let theirs = json!({"tasks": ["a", "b"], "statuses": ["a", "b"]});
        let ours = json!({"tasks": ["b", "a"], "statuses": ["b", "a"], "more": 1});
        assert_eq!(
            bindings.differences(&ours, &theirs),
            [".more is there beside", ".statuses[] is \"a\", not \"b\"", ".statuses[] is \"b\", not \"a\""]
        );
        assert_eq!(
            bindings.differences(&json!({"tasks": ["b"]}), &json!({"tasks": ["a", "b"]})),
            [".tasks has 1 elements, not 2", ".tasks[] is \"b\", not \"a\""]
        );
    }
}
