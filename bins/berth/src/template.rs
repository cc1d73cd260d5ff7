// SPDX-License-Identifier: Apache-2.0
//! `--format`: the part of Go's templates that docker's users write on a command line. `{{.Field}}`, also of what is
//! within (`{{.state.name}}`), `{{json .Field}}`, `{{json .}}`, `upper` and `lower`, with text between. What else the
//! language has is refused by name, not left out in silence.

use crate::exit::Failure;
use crate::text::{Look, colours, escaped, plain, table};
use serde_json::Value;

/// A template that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Field { function: Function, path: Vec<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Print,
    Json,
    Upper,
    Lower,
}

impl Template {
    /// Reads it.
    pub(crate) fn parse(text: &str) -> Result<Template, Failure> {
        // As docker: these two are typed in single quotes.
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut rest = text.as_str();
        let mut parts = Vec::new();
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some((inside, after)) = after.split_once("}}") else {
                return Err(wrong(&text, "a {{ has no }}"));
            };
            parts.push(part(inside.trim()).map_err(|why| wrong(&text, &why))?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    /// The line of a value.
    pub(crate) fn render(&self, value: &Value) -> Result<String, Failure> {
        let mut line = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Field { function, path } => {
                    let found = path.iter().try_fold(value, |value, name| member(value, name));
                    line.push_str(&written(*function, found?));
                }
            }
        }
        Ok(line)
    }

    /// The same template over the titles of its fields, for the head of a table.
    pub(crate) fn head(&self, title: impl Fn(&str) -> Option<&'static str>) -> Result<String, Failure> {
        let mut line = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Field { path, .. } => {
                    let name = path.first().map_or(".", String::as_str);
                    line.push_str(
                        title(name)
                            .ok_or_else(|| Failure::text(format!("--format: no column is named {name}")))?,
                    );
                }
            }
        }
        Ok(line)
    }
}

/// What a list is put as: a line for each, a table of some columns, or JSON, an object a line.
#[derive(Debug)]
pub(crate) enum Lines {
    Json,
    Each(Template),
    Table(Template),
}

impl Lines {
    /// Reads `json`, `table TEMPLATE` or a template.
    pub(crate) fn parse(text: &str) -> Result<Lines, Failure> {
        Ok(match text.strip_prefix("table ") {
            _ if text == "json" => Lines::Json,
            Some(columns) => Lines::Table(Template::parse(columns)?),
            None => Lines::Each(Template::parse(text)?),
        })
    }

    /// The lines of some values; `title` has the heads of a table by the names of its fields.
    pub(crate) fn put(
        &self,
        values: Vec<(Look, Value)>,
        title: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<String, Failure> {
        let values = values.into_iter();
        match self {
            Lines::Json => Ok(values.map(|(_, value)| format!("{}\n", plain(&value.to_string()))).collect()),
            Lines::Each(template) => {
                values.map(|(_, value)| template.render(&value).map(|line| line + "\n")).collect()
            }
            Lines::Table(template) => {
                let head = template.head(title)?;
                let cells = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
                let rows = values.map(|(look, value)| Ok((look, cells(&template.render(&value)?))));
                let rows = rows.collect::<Result<_, Failure>>()?;
                Ok(table(&head.split('\t').collect::<Vec<_>>(), rows, colours()))
            }
        }
    }
}

fn wrong(text: &str, why: &str) -> Failure {
    Failure::text(format!(
        "--format {text}: {why}; write {{{{.Field}}}}, {{{{json .Field}}}} or {{{{json .}}}}"
    ))
}

fn part(inside: &str) -> Result<Part, String> {
    let (function, field) = match inside.split_whitespace().collect::<Vec<_>>()[..] {
        [field] => (Function::Print, field),
        ["json", field] => (Function::Json, field),
        ["upper", field] => (Function::Upper, field),
        ["lower", field] => (Function::Lower, field),
        [function, ..] => return Err(format!("{function:?} is not known here")),
        [] => return Err("there is nothing between {{ and }}".to_owned()),
    };
    let path = field.strip_prefix('.').ok_or_else(|| format!("{field:?} is no field"))?;
    let path: Vec<String> = match path {
        "" => Vec::new(),
        path => path.split('.').map(str::to_owned).collect(),
    };
    match path
        .iter()
        .all(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
    {
        true => Ok(Part::Field { function, path }),
        false => Err(format!("{field:?} is no field")),
    }
}

/// A member of an object by its name; however its letters are, if only one is spelt so: `.ContainerID` is
/// `container_id`.
fn member<'a>(value: &'a Value, name: &str) -> Result<&'a Value, Failure> {
    let Value::Object(members) = value else {
        return Err(Failure::text(format!("--format: {name} is asked of what has no fields")));
    };
    if let Some(found) = members.get(name) {
        return Ok(found);
    }
    let bare = |text: &str| text.replace('_', "").to_ascii_lowercase();
    let mut alike = members.iter().filter(|(known, _)| bare(known) == bare(name));
    match (alike.next(), alike.next()) {
        (Some((_, found)), None) => Ok(found),
        _ => {
            let known: Vec<&str> = members.keys().map(String::as_str).collect();
            Err(Failure::text(format!("--format: there is no {name} among {}", known.join(", "))))
        }
    }
}

fn written(function: Function, value: &Value) -> String {
    let text = match value {
        Value::String(text) => escaped(text),
        Value::Null => String::new(),
        other => plain(&other.to_string()),
    };
    match function {
        Function::Print => text,
        Function::Json => plain(&value.to_string()),
        Function::Upper => text.to_uppercase(),
        Function::Lower => text.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(template: &str, value: Value) -> Result<String, String> {
        let template = Template::parse(template).map_err(|failure| format!("{failure:?}"))?;
        template.render(&value).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn fields_text_and_json_are_put_together() {
        let value = || json!({"ID": "web", "state": {"name": "RUNNING", "exit_code": 3}, "list": [1, "a"]});
        for (template, line) in [
            ("{{.ID}}\\t{{ .state.name }}!", "web\tRUNNING!"),
            ("{{json .state}}", r#"{"exit_code":3,"name":"RUNNING"}"#),
            ("{{lower .State.Name}} {{.State.ExitCode}} {{upper .ID}}", "running 3 WEB"),
            ("{{.list}}", r#"[1,"a"]"#),
            ("plain }} text", "plain }} text"),
            ("", ""),
        ] {
            assert_eq!(rendered(template, value()).unwrap(), line, "{template}");
        }
        assert_eq!(rendered("{{json .}}", json!({"a": 1})).unwrap(), r#"{"a":1}"#);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (template, why) in [
            ("{{range .Names}}{{.}}{{end}}", "range"),
            ("{{.ID", "has no }}"),
            ("{{}}", "nothing between"),
            ("{{ID}}", "is no field"),
            ("{{.a..b}}", "is no field"),
            ("{{.Nope}}", "there is no Nope among ID"),
            ("{{.ID.x}}", "has no fields"),
        ] {
            let error = rendered(template, json!({"ID": "web"})).unwrap_err();
            assert!(error.contains(why), "{template}: {error}");
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped_in_values() {
        let line = rendered("{{.a}} {{json .a}}", json!({"a": "\u{1b}[2J\u{9b}x\n"})).unwrap();
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
