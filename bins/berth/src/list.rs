// SPDX-License-Identifier: Apache-2.0
//! `berth ps` and `inspect`: containers of `berth run` and of the agent, side by side.

use crate::cli::{Format, Global, Inspect, Ps};
use crate::exit::{Failure, say};
use crate::find::{self, Places};
use crate::text::{self, Look, ago, cut, duration, escaped, now_ms, plain, show};
use berth_client::{Agent, Connection, Error};
use berth_factory::oneshot::{Listed, Native, Standing};
use berth_model::{ContainerId, WaitStatus};
use berth_proto::own;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// Connections that inspect at once.
const AT_ONCE: usize = 8;

/// A container, as lists have it.
#[derive(Debug)]
struct Row {
    id: ContainerId,
    /// What it is called, if not by its id.
    name: Option<String>,
    /// Whether the agent has it.
    agent: bool,
    root: String,
    command: Vec<String>,
    created_ms: Option<u64>,
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    /// Not running yet, or not any more: its phase, in small letters.
    Passing(String),
    Running {
        pid: Option<u32>,
        since_ms: Option<u64>,
        paused: bool,
    },
    Exited {
        status: WaitStatus,
        at_ms: Option<u64>,
    },
    Unknown {
        why: String,
    },
}

/// Lists containers, the newest first.
pub(crate) fn ps(global: &Global, args: &Ps) -> Result<u8, Failure> {
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let mut rows = Vec::new();
    if let Some(native) = &places.native {
        rows.extend(native.list().map_err(|e| Failure::of(&e).code(1))?.iter().map(of_run));
    }
    match berth_client::block_on(of_agent(&places.agent, args.all)).and_then(|rows| rows) {
        Ok(more) => rows.extend(more),
        Err(error) if error.is_no_agent() && !places.expected && places.native.is_some() => {}
        Err(error) => return Err(Failure::client(&error).code(1)),
    }
    rows.retain(|row| args.all || matches!(row.state, State::Running { .. } | State::Passing(_)));
    rows.sort_by_key(|row| std::cmp::Reverse(row.created_ms));
    if args.quiet {
        rows.iter().for_each(|row| show(&format!("{}\n", escaped(&row.id.to_string()))));
    } else if args.output == Format::Json {
        text::show_json(&rows.iter().map(Row::json).collect());
    } else {
        show(&table(&rows, args.no_trunc, text::colours()));
    }
    Ok(0)
}

fn table(rows: &[Row], no_trunc: bool, colours: bool) -> String {
    let cells = |row: &Row| {
        let cut = |text: String| if no_trunc { text } else { cut(text, 30) };
        let id = if no_trunc { escaped(&row.id.to_string()) } else { text::short(&row.id) };
        // A random id says nothing a second time.
        let value = row.id.value();
        let name = row.name.clone().or_else(|| (!text::is_random(value)).then(|| value.to_owned()));
        vec![
            id,
            cut(escaped(&row.root)),
            cut(escaped(&row.command.join(" "))),
            row.created_ms.map(ago).unwrap_or_default(),
            row.state.words(),
            escaped(&name.unwrap_or_default()),
        ]
    };
    let header = ["CONTAINER ID", "ROOTFS", "COMMAND", "CREATED", "STATUS", "NAMES"];
    text::table(&header, rows.iter().map(|row| (row.state.look(), cells(row))).collect(), colours)
}

/// The containers of the agent; with `all` those that have ended too.
async fn of_agent(agent: &Agent, all: bool) -> Result<Vec<Row>, Error> {
    let mut connection = agent.connect().await?;
    let ids = match all {
        true => find::ids(&mut connection).await?,
        false => find::living(&mut connection).await?,
    };
    let left = Arc::new(Mutex::new(ids));
    let mut tasks = tokio::task::JoinSet::new();
    let mut first = Some(connection);
    for _ in 0..AT_ONCE {
        if left.lock().map_or(0, |left| left.len()) == 0 {
            break;
        }
        let (left, agent, connection) = (Arc::clone(&left), agent.clone(), first.take());
        tasks.spawn(async move {
            let mut connection = match connection {
                Some(connection) => connection,
                None => agent.connect().await?,
            };
            look_at(&mut connection, &left).await
        });
    }
    let mut rows = Vec::new();
    while let Some(looked) = tasks.join_next().await {
        rows.extend(looked.unwrap_or(Ok(Vec::new()))?);
    }
    Ok(rows)
}

async fn look_at(connection: &mut Connection, left: &Mutex<Vec<ContainerId>>) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    while let Some(id) = left.lock().ok().and_then(|mut left| left.pop()) {
        match connection.inspect(&id).await {
            Ok(inspection) => rows.push(inspected(id, inspection)),
            // It went away since it was listed.
            Err(error) if error.is_unknown() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(rows)
}

fn of_run(listed: &Listed) -> Row {
    let command = &listed.record.config.command_info;
    let command = match command.arguments.is_empty() {
        true => command.value.clone().into_iter().collect(),
        false => command.arguments.clone(),
    };
    let state = match &listed.standing {
        Standing::Launching => State::Passing("created".to_owned()),
        Standing::Running { pid } => State::Running {
            pid: u32::try_from(*pid).ok(),
            since_ms: Some(listed.record.created_ms),
            paused: false,
        },
        Standing::Exited { status, at_ms } => State::Exited { status: *status, at_ms: Some(*at_ms) },
        Standing::Unknown { why } => State::Unknown { why: why.clone() },
    };
    Row {
        id: listed.record.id.clone(),
        name: None,
        agent: false,
        root: listed.record.root.clone(),
        command,
        created_ms: Some(listed.record.created_ms),
        state,
    }
}

fn inspected(id: ContainerId, inspection: own::Inspection) -> Row {
    let millis = |time: berth_proto::v1::TimeInfo| u64::try_from(time.nanoseconds / 1_000_000).ok();
    let command = inspection.command.unwrap_or_default();
    let command = match command.arguments.is_empty() {
        true => command.value.into_iter().collect(),
        false => command.arguments,
    };
    let state = inspection.state.unwrap_or_default();
    let state = match inspection.termination {
        Some(end) => match end.exit_status {
            Some(status) => State::Exited { status: WaitStatus(status), at_ms: end.ended.and_then(millis) },
            None => State::Unknown { why: end.message.unwrap_or_else(|| "nobody saw its end".to_owned()) },
        },
        None if state.paused == Some(true) || state.name == "RUNNING" => State::Running {
            pid: inspection.status.and_then(|status| status.executor_pid),
            since_ms: state.since.and_then(millis),
            paused: state.paused == Some(true),
        },
        None => State::Passing(state.name.to_lowercase()),
    };
    let image = inspection.container.as_ref().and_then(image);
    Row {
        name: inspection.underlying_name.filter(|name| name != id.value()),
        id,
        agent: true,
        root: inspection.rootfs.or(image).unwrap_or_else(|| "host".to_owned()),
        command,
        created_ms: inspection.created.and_then(millis),
        state,
    }
}

fn image(container: &berth_proto::v1::ContainerInfo) -> Option<String> {
    let docker = container.docker.as_ref().map(|docker| docker.image.clone());
    let mesos = || {
        let image = container.mesos.as_ref()?.image.as_ref()?;
        let docker = image.docker.as_ref().map(|docker| docker.name.clone());
        docker.or_else(|| image.oci.as_ref().map(|oci| oci.reference.clone()))
    };
    docker.or_else(mesos)
}

impl State {
    fn words(&self) -> String {
        match self {
            State::Passing(phase) => {
                let mut letters = phase.chars();
                let first = letters.next().map(|c| c.to_ascii_uppercase());
                escaped(&first.into_iter().chain(letters).collect::<String>())
            }
            State::Running { since_ms, paused, .. } => {
                let up = since_ms.map_or(0, |since| now_ms().saturating_sub(since) / 1000);
                format!("Up {}{}", duration(up), if *paused { " (Paused)" } else { "" })
            }
            State::Exited { status, at_ms } => {
                let at = at_ms.map(|at| format!(" {}", ago(at))).unwrap_or_default();
                format!("Exited ({}){at}", status.shell_code())
            }
            State::Unknown { why } => format!("Unknown: {}", escaped(why)),
        }
    }

    fn look(&self) -> Look {
        match self {
            State::Running { paused: false, .. } => Look::Plain,
            State::Exited { .. } => Look::Dim,
            _ => Look::Marked,
        }
    }

    fn json(&self) -> Value {
        match self {
            State::Passing(phase) if phase == "created" => json!({"status": "launching"}),
            State::Passing(phase) => json!({"status": phase}),
            State::Running { pid, paused, .. } => {
                json!({"status": if *paused { "paused" } else { "running" }, "pid": pid})
            }
            State::Exited { status, at_ms } => json!({
                "status": "exited", "exit_code": status.shell_code(), "wait_status": status.0,
                "message": status.to_string(), "finished_ms": at_ms,
            }),
            State::Unknown { why } => json!({"status": "unknown", "message": why}),
        }
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "id": self.id.to_string(), "name": self.name, "agent": self.agent, "rootfs": self.root,
            "command": self.command, "created_ms": self.created_ms, "state": self.state.json(),
        })
    }
}

/// Shows all that is known, one array of all that were named.
pub(crate) fn inspect(global: &Global, args: &Inspect) -> Result<u8, Failure> {
    if args.output == Format::Table {
        return Err(Failure::text("--output table: inspect knows json only; `berth ps` has a table").code(1));
    }
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let all = berth_client::block_on(async {
        let mut all = Vec::new();
        for name in &args.names {
            let there = async |connection: &mut Connection, id: &ContainerId| {
                Ok(text::json_of(&connection.inspect(id).await?))
            };
            all.push(places.at(name, async |native, name| here(native, name), there).await);
        }
        all
    });
    let mut shown = Vec::new();
    let mut code = 0;
    for one in all.map_err(|e| Failure::client(&e).code(1))? {
        match one {
            Ok(value) => shown.push(value),
            Err(failure) => {
                code = 1;
                let _ = failure.report();
            }
        }
    }
    match serde_json::to_string_pretty(&shown) {
        Ok(text) => show(&format!("{}\n", plain(&text))),
        Err(e) => say(format_args!("berth: {e}")),
    }
    Ok(code)
}

fn here(native: &Native, name: &str) -> Result<Value, Failure> {
    let mut value = native.inspect(name).map_err(|e| Failure::of(&e))?;
    let state = match native.look(name).ok().flatten() {
        Some(listed) => of_run(&listed).state,
        None => State::Unknown { why: "it went away while it was looked at".to_owned() },
    };
    value["state"] = state.json();
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::v1;

    fn inspection(state: &str, paused: Option<bool>) -> own::Inspection {
        own::Inspection {
            state: Some(own::inspection::State { name: state.into(), paused, ..Default::default() }),
            command: Some(v1::CommandInfo {
                value: Some("sh".into()),
                arguments: vec!["sh".into(), "\x1b[2Jx".into()],
                ..Default::default()
            }),
            created: Some(v1::TimeInfo { nanoseconds: 5_000_000 }),
            ..Default::default()
        }
    }

    fn row(inspection: own::Inspection) -> Row {
        inspected("web".parse().unwrap(), inspection)
    }

    #[test]
    fn an_inspection_tells_the_state_as_docker_would() {
        assert!(row(inspection("RUNNING", None)).state.words().starts_with("Up "));
        assert!(row(inspection("PAUSED", Some(true))).state.words().ends_with("(Paused)"));
        assert_eq!(row(inspection("PREPARING", None)).state.words(), "Preparing");
        let ended = |exit_status, message: Option<&str>| {
            let message = message.map(str::to_owned);
            let termination =
                Some(own::inspection::Termination { exit_status, message, ..Default::default() });
            row(own::Inspection { termination, ..inspection("TERMINATED", None) }).state
        };
        assert_eq!(ended(Some(9), None).words(), "Exited (137)");
        assert_eq!(
            ended(None, Some("the host\x1b[2J was rebooted")).words(),
            "Unknown: the host\\u{1b}[2J was rebooted"
        );
        assert_eq!(ended(Some(256), None).json()["exit_code"], 1);
    }

    #[test]
    fn a_table_shows_nothing_that_a_terminal_obeys() {
        let mut evil = row(inspection("RU\x1bNNING", None));
        evil.root = "/r\x1b]0;x\x07".into();
        evil.name = Some("n\nforged".into());
        let shown = table(&[evil], true, false);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.starts_with("CONTAINER ID  ROOTFS"), "{shown}");
    }

    #[test]
    fn the_row_of_a_container_has_its_image_and_its_name() {
        let mut named = inspection("RUNNING", None);
        named.underlying_name = Some("front".into());
        named.container = Some(v1::ContainerInfo {
            docker: Some(v1::container_info::DockerInfo { image: "busybox".into(), ..Default::default() }),
            ..Default::default()
        });
        let json = row(named).json();
        assert_eq!((json["name"].as_str(), json["rootfs"].as_str()), (Some("front"), Some("busybox")));
        assert_eq!((&json["created_ms"], &json["agent"]), (&5.into(), &true.into()));
        assert_eq!(row(inspection("RUNNING", None)).root, "host");
    }
}
