// SPDX-License-Identifier: Apache-2.0
//! JSON compared by its shape: the same names, and values of the same type; what the values are differs from one agent
//! to the next.

use serde_json::Value;

/// Where two documents differ in shape, each difference in words that begin with the path: what is not there, what is
/// there beside, what is of another type. Objects at `maps` have names that are values themselves, of which only the
/// type is compared.
pub fn differences(ours: &Value, theirs: &Value, maps: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    compare(ours, theirs, "", maps, &mut found);
    found.sort();
    found.dedup();
    found
}

fn compare(ours: &Value, theirs: &Value, path: &str, maps: &[&str], found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) if maps.contains(&path) => {
            let Some(any) = theirs.values().next() else { return };
            ours.values().for_each(|value| compare(value, any, &format!("{path}.*"), maps, found));
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            for (name, value) in theirs {
                match ours.get(name) {
                    Some(own) => compare(own, value, &format!("{path}.{name}"), maps, found),
                    None => found.push(format!("{path}.{name} is not there")),
                }
            }
            let beside = ours.keys().filter(|name| !theirs.contains_key(*name));
            found.extend(beside.map(|name| format!("{path}.{name} is there beside")));
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            // Each of ours is like one of theirs: the one that it differs from least.
            for own in ours {
                let of = |value: &Value| {
                    let mut differences = Vec::new();
                    compare(own, value, &format!("{path}[]"), maps, &mut differences);
                    differences
                };
                let nearest = theirs.iter().map(of).min_by_key(Vec::len);
                found.extend(nearest.unwrap_or_default());
            }
            if ours.is_empty() != theirs.is_empty() {
                let which = if ours.is_empty() { "no element is" } else { "elements are" };
                found.push(format!("{path}: {which} there"));
            }
        }
        (ours, theirs) if kind(ours) == kind(theirs) => {}
        (ours, theirs) => found.push(format!("{path} is {}, not {}", kind(ours), kind(theirs))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Where a document differs from a pattern. In a pattern `"@number"`, `"@text"`, `"@list"` and `"@object"` stand for any
/// value of the type, `"@any"` for any at all, and `"@more"` as a name allows more names than the pattern has.
pub fn unlike(value: &Value, pattern: &Value) -> Vec<String> {
    let mut found = Vec::new();
    matches(value, pattern, "", &mut found);
    found
}

fn matches(value: &Value, pattern: &Value, path: &str, found: &mut Vec<String>) {
    let mut wrong = || found.push(format!("{path} is {value}, not {pattern}"));
    match (value, pattern) {
        (_, Value::String(word)) if word == "@any" => {}
        (Value::Number(_), Value::String(word)) if word == "@number" => {}
        (Value::String(_), Value::String(word)) if word == "@text" => {}
        (Value::Array(_), Value::String(word)) if word == "@list" => {}
        (Value::Object(_), Value::String(word)) if word == "@object" => {}
        (Value::Object(value), Value::Object(pattern)) => {
            for (name, part) in pattern.iter().filter(|(name, _)| *name != "@more") {
                match value.get(name) {
                    Some(own) => matches(own, part, &format!("{path}.{name}"), found),
                    None => found.push(format!("{path}.{name} is not there")),
                }
            }
            if !pattern.contains_key("@more") {
                let beside = value.keys().filter(|name| !pattern.contains_key(*name));
                found.extend(beside.map(|name| format!("{path}.{name} is there beside")));
            }
        }
        (Value::Array(value), Value::Array(pattern)) => {
            if value.len() != pattern.len() {
                return wrong();
            }
            for (at, (value, pattern)) in value.iter().zip(pattern).enumerate() {
                matches(value, pattern, &format!("{path}[{at}]"), found);
            }
        }
        (value, pattern) if value == pattern => {}
        _ => wrong(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_types_are_compared_and_values_are_not() {
        let theirs = json!({"a": 1, "b": [{"c": "x"}, {"d": 1}], "m": {"k": "v"}});
        assert_eq!(
            differences(&json!({"a": 7, "b": [{"d": 0}], "m": {"z": "y"}}), &theirs, &[".m"]),
            [""; 0]
        );
        let ours = json!({"a": "1", "b": [{"d": 1, "e": 2}], "n": 0, "m": {"k": 1}});
        assert_eq!(
            differences(&ours, &theirs, &[".m"]),
            [
                ".a is text, not a number",
                ".b[].e is there beside",
                ".m.* is a number, not text",
                ".n is there beside"
            ]
        );
        assert_eq!(
            differences(&json!({"b": []}), &json!({"a": 1, "b": [1]}), &[]),
            [".a is not there", ".b: no element is there"]
        );
    }

    #[test]
    fn a_pattern_stands_for_what_is_not_the_same_each_time() {
        let pattern = json!({"a": "@number", "b": ["@text"], "@more": true});
        assert_eq!(unlike(&json!({"a": 1, "b": ["x"], "c": 3}), &pattern), [""; 0]);
        assert_eq!(unlike(&json!({"a": "1", "b": []}), &pattern).len(), 2);
    }
}
