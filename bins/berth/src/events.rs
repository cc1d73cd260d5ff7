// SPDX-License-Identifier: Apache-2.0
//! `berth events`: what happens to containers of the agent, one line or one JSON object for each.

use crate::cli::{Events, Format, Global};
use crate::exit::Failure;
use crate::find;
use crate::text::{escaped, json_of, rfc3339, show, show_json};
use berth_client::block_on;
use berth_model::{ContainerId, WaitStatus};
use berth_proto::convert::container_id;
use berth_proto::own::{Event, event};

/// Shows them until the agent goes away.
pub(crate) fn events(global: &Global, args: &Events) -> Result<u8, Failure> {
    let agent = find::agent(global);
    let shown = block_on(async {
        let mut events = agent.events(args.after).await?;
        while let Some(event) = events.next().await? {
            if !is_wanted(&event, &args.names) {
                continue;
            }
            match args.output {
                Format::Json => show_json(&json_of(&event)),
                Format::Table => show(&format!("{}\n", line(&event))),
            }
        }
        Ok(0)
    });
    shown.and_then(|shown| shown).map_err(|e: berth_client::Error| Failure::client(&e).code(1))
}

/// What is of the connection only is not shown. That events are missing concerns everybody.
fn is_wanted(event: &Event, names: &[String]) -> bool {
    if matches!(event.r#type(), event::Type::Heartbeat | event::Type::Subscribed) {
        return false;
    }
    let Some(Ok(id)) = event.container_id.as_ref().map(container_id) else { return true };
    names.is_empty() || names.iter().any(|name| crate::text::begins(&id, name))
}

/// As docker has it: time, kind, what, of whom, and the rest in brackets.
fn line(event: &Event) -> String {
    let time = event.time.as_ref().map(|time| rfc3339(time.nanoseconds)).unwrap_or_else(|| "-".to_owned());
    let what = match event.r#type() {
        event::Type::State => event.state.as_ref().map_or("state", |state| &state.name).to_lowercase(),
        event::Type::Terminated => "die".to_owned(),
        event::Type::Updated => "update".to_owned(),
        event::Type::Limitation => "limitation".to_owned(),
        event::Type::Renamed => "rename".to_owned(),
        event::Type::Paused => "pause".to_owned(),
        event::Type::Resumed => "unpause".to_owned(),
        event::Type::Removed => "destroy".to_owned(),
        event::Type::Missed => "missed".to_owned(),
        event::Type::Advanced => "advance".to_owned(),
        other => other.as_str_name().to_lowercase(),
    };
    let id = event.container_id.as_ref().and_then(|id| container_id(id).ok());
    let mut more = Vec::new();
    let mut tell = |name: &str, value: Option<String>| {
        more.extend(value.map(|value| format!("{name}={}", escaped(&value))));
    };
    tell("number", event.sequence.map(|number| number.to_string()));
    if let Some(end) = &event.termination {
        let code = end.exit_status.map(|status| WaitStatus(status).shell_code().to_string());
        tell("exitCode", Some(code.unwrap_or_else(|| "unknown".to_owned())));
        tell("reason", end.reason.map(|_| end.reason().as_str_name().to_owned()));
        tell("message", end.message.clone().filter(|message| !message.is_empty()));
    }
    tell("oldName", event.renamed_from.as_ref().and_then(|id| container_id(id).ok()).map(text_of));
    tell("missed", event.missed.map(|missed| missed.to_string()));
    tell("waitingFor", event.state.as_ref().and_then(|state| state.waiting_for.clone()));
    if let Some(now) = &event.advance {
        tell("what", now.what.clone());
        tell("bytes", now.bytes.map(|bytes| bytes.to_string()));
        tell("of", now.total_bytes.map(|bytes| bytes.to_string()));
    }
    tell("message", event.message.clone());
    let id = id.map(|id| format!(" {}", escaped(&id.to_string()))).unwrap_or_default();
    let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
    format!("{time} container {}{id}{more}", escaped(&what))
}

fn text_of(id: ContainerId) -> String {
    id.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::{own, v1};

    fn event(kind: event::Type) -> Event {
        Event {
            r#type: Some(kind.into()),
            sequence: Some(7),
            time: Some(v1::TimeInfo { nanoseconds: 1_795_452_925_000_000_001 }),
            container_id: Some(v1::ContainerId { value: "web".into(), parent: None }),
            ..Event::default()
        }
    }

    #[test]
    fn an_event_is_a_line_as_with_docker() {
        let termination = own::inspection::Termination { exit_status: Some(9), ..Default::default() };
        let die = Event { termination: Some(termination), ..event(event::Type::Terminated) };
        assert_eq!(line(&die), "2026-11-23T16:55:25.000000001Z container die web (number=7, exitCode=137)");
        let state = own::inspection::State { name: "RUNNING".into(), ..Default::default() };
        let state = Event { state: Some(state), ..event(event::Type::State) };
        assert!(line(&state).ends_with("container running web (number=7)"), "{}", line(&state));
        assert!(line(&event(event::Type::Paused)).contains(" pause web"));
        let missed = Event { missed: Some(3), ..Event::default() };
        let missed = Event { r#type: Some(event::Type::Missed.into()), ..missed };
        assert_eq!(line(&missed), "- container missed (missed=3)");
    }

    #[test]
    fn an_event_is_one_line_whatever_a_container_said() {
        let message = Some("bad\n2026 container die other\x1b[2J".to_owned());
        let evil = line(&Event { message, ..event(event::Type::Updated) });
        assert!(!evil.chars().any(char::is_control), "{evil:?}");
    }

    #[test]
    fn only_what_was_asked_for_is_shown() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(is_wanted(&event(event::Type::State), &[]));
        assert!(is_wanted(&event(event::Type::State), &names(&["we"])));
        assert!(!is_wanted(&event(event::Type::State), &names(&["x"])));
        assert!(!is_wanted(&event(event::Type::Heartbeat), &[]));
    }
}
