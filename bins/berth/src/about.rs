// SPDX-License-Identifier: Apache-2.0
//! `version`, `resources`, `completion`.

use crate::cli::{Cli, Completion, Format, Global, Output};
use crate::exit::{Failure, say};
use crate::find;
use crate::text::{self, Look, escaped, show, show_json};
use berth_client::block_on;
use berth_proto::v1::{Resource, value};
use clap::CommandFactory;
use serde_json::{Value, json};

/// This program's version, and the agent's if one answers.
pub(crate) fn version(global: &Global, args: &Output) -> Result<u8, Failure> {
    let agent = find::agent(global);
    let asked = block_on(async { agent.connect().await?.version().await }).and_then(|version| version);
    let ours = env!("CARGO_PKG_VERSION");
    if args.output == Format::Json {
        let theirs = asked.as_ref().map_or(Value::Null, text::json_of);
        show_json(&json!({"client": {"version": ours}, "agent": theirs}));
    } else {
        let mut words = format!("Client:\n Version:    {ours}\n");
        if let Ok(theirs) = &asked {
            words.push_str(&format!("\nAgent:\n Version:    {}\n", escaped(&theirs.version)));
            if let Some(commit) = &theirs.git_sha {
                words.push_str(&format!(" Git commit: {}\n", escaped(commit)));
            }
            if let Some(built) = &theirs.build_date {
                words.push_str(&format!(" Built:      {}\n", escaped(built)));
            }
        }
        show(&words);
    }
    match asked {
        Ok(_) => Ok(0),
        // That there is none is no failure of who asks for the version; that it does not answer is.
        Err(error) if error.is_no_agent() => {
            say(format_args!("berth: {}", crate::exit::chain(&error)));
            Ok(0)
        }
        Err(error) => Err(Failure::client(&error).code(1)),
    }
}

/// What the agent has to give.
pub(crate) fn resources(global: &Global, args: &Output) -> Result<u8, Failure> {
    let agent = find::agent(global);
    let asked = block_on(async { agent.connect().await?.agent().await }).and_then(|agent| agent);
    let info = asked.map_err(|e| Failure::client(&e).code(1))?.agent_info.unwrap_or_default();
    if args.output == Format::Json {
        show_json(&info.resources.iter().map(text::json_of).collect());
        return Ok(0);
    }
    let row = |resource: &Resource| {
        let unit = match resource.name.as_str() {
            "mem" | "disk" => " MiB",
            _ => "",
        };
        let cells =
            vec![escaped(&resource.name), format!("{}{unit}", amount(resource)), escaped(role(resource))];
        (Look::Plain, cells)
    };
    let rows = info.resources.iter().map(row).collect();
    show(&text::table(&["RESOURCE", "AMOUNT", "ROLE"], rows, text::colours()));
    Ok(0)
}

fn role(resource: &Resource) -> &str {
    let reserved = resource.reservations.last().and_then(|reservation| reservation.role.as_deref());
    reserved.unwrap_or_else(|| resource.role())
}

/// As Mesos writes it.
fn amount(resource: &Resource) -> String {
    let range = |range: &value::Range| format!("{}-{}", range.begin, range.end);
    match (&resource.scalar, &resource.ranges, &resource.set) {
        (Some(scalar), ..) => scalar.value.to_string(),
        (_, Some(ranges), _) => {
            format!("[{}]", ranges.range.iter().map(range).collect::<Vec<_>>().join(", "))
        }
        (_, _, Some(set)) => format!("{{{}}}", escaped(&set.item.join(", "))),
        _ => String::new(),
    }
}

/// The completions for a shell.
pub(crate) fn completion(args: &Completion) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "berth", &mut script);
    show(&String::from_utf8_lossy(&script));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_mesos_writes_them() {
        let scalar = Resource { scalar: Some(value::Scalar { value: 1.5 }), ..Default::default() };
        assert_eq!(amount(&scalar), "1.5");
        let range = vec![value::Range { begin: 1, end: 2 }, value::Range { begin: 4, end: 4 }];
        let ranges = Resource { ranges: Some(value::Ranges { range }), ..Default::default() };
        assert_eq!(amount(&ranges), "[1-2, 4-4]");
        let item = vec!["a\x1b".to_owned(), "b".to_owned()];
        let set = Resource { set: Some(value::Set { item }), ..Default::default() };
        assert_eq!(amount(&set), "{a\\u{1b}, b}");
    }
}
