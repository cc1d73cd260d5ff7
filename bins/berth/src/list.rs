// SPDX-License-Identifier: Apache-2.0
//! `berth ps`: containers of `berth run` and of the agent, side by side. The agent is asked once, however many it has.

mod filter;

use crate::cli::{Format, Global, Ps};
use crate::exit::Failure;
use crate::find::Places;
use crate::template::Lines;
use crate::text::{self, Look, ago, binary, cut, duration, escaped, now_ms, show};
use berth_client::{Agent, Error, List};
use berth_factory::oneshot::{Listed, Standing};
use berth_model::{ContainerId, WaitStatus};
use berth_proto::agent::response::get_containers;
use berth_proto::convert;
use filter::Filters;
use serde_json::{Value, json};

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
    usage: Option<Usage>,
}

/// What it uses, as far as that is measured.
#[derive(Debug, Clone, PartialEq)]
struct Usage {
    memory: Option<u64>,
    limit: Option<u64>,
    processes: Option<u32>,
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
    let filters = Filters::parse(&args.filter).map_err(|e| e.code(1))?;
    let format = args.format.as_deref().map(Lines::parse).transpose().map_err(|e| e.code(1))?;
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || filters.ask_for_all();
    let places = Places::open(global).map_err(|e| e.code(1))?;
    let mut rows = Vec::new();
    if let Some(native) = &places.native {
        rows.extend(native.list().map_err(|e| Failure::of(&e).code(1))?.iter().map(of_run));
    }
    let list = List { ended: all, usage: args.usage };
    match berth_client::block_on(of_agent(&places.agent, list)).and_then(|rows| rows) {
        Ok(more) => rows.extend(more),
        Err(error) if error.is_no_agent() && !places.expected && places.native.is_some() => {}
        Err(error) => return Err(Failure::client(&error).code(1)),
    }
    rows.retain(|row| all || matches!(row.state, State::Running { .. } | State::Passing(_)));
    rows.sort_by_key(|row| std::cmp::Reverse(row.created_ms));
    filters.apply(&mut rows).map_err(|e| e.code(1))?;
    rows.truncate(last.unwrap_or(usize::MAX));
    if args.quiet {
        rows.iter().for_each(|row| show(&format!("{}\n", escaped(&row.id.to_string()))));
    } else if let Some(format) = format {
        let fields = rows.iter().map(|row| (row.state.look(), row.fields(args.no_trunc))).collect();
        show(&format.put(fields, title).map_err(|e| e.code(1))?);
    } else if args.output == Format::Json {
        text::show_json(&rows.iter().map(Row::json).collect());
    } else {
        show(&table(&rows, args, text::colours()));
    }
    Ok(0)
}

fn table(rows: &[Row], args: &Ps, colours: bool) -> String {
    let cells = |row: &Row| {
        let mut cells = vec![
            row.id(args.no_trunc),
            row.cut(&row.root, args.no_trunc),
            row.cut(&row.command.join(" "), args.no_trunc),
            row.created_ms.map(ago).unwrap_or_default(),
            row.state.words(),
        ];
        if args.usage {
            let usage = row.usage.as_ref();
            let or = |text: Option<String>| text.unwrap_or_else(|| "--".to_owned());
            let memory = usage.and_then(|usage| usage.memory).map(binary);
            let limit = usage.and_then(|usage| usage.limit).map(binary);
            cells.push(format!("{} / {}", or(memory), or(limit)));
            cells.push(or(usage.and_then(|usage| usage.processes).map(|n| n.to_string())));
        }
        cells.push(row.names());
        cells
    };
    let mut header = vec!["CONTAINER ID", "ROOTFS", "COMMAND", "CREATED", "STATUS"];
    if args.usage {
        header.extend(["MEM USAGE / LIMIT", "PIDS"]);
    }
    header.push("NAMES");
    text::table(&header, rows.iter().map(|row| (row.state.look(), cells(row))).collect(), colours)
}

/// The heads of docker's columns.
fn title(field: &str) -> Option<&'static str> {
    Some(match field {
        "ID" => "CONTAINER ID",
        "Image" => "IMAGE",
        "Command" => "COMMAND",
        "CreatedAt" => "CREATED AT",
        "RunningFor" => "CREATED",
        "Ports" => "PORTS",
        "State" => "STATE",
        "Status" => "STATUS",
        "Names" => "NAMES",
        _ => return None,
    })
}

/// The containers of the agent, in one answer.
async fn of_agent(agent: &Agent, list: List) -> Result<Vec<Row>, Error> {
    let mut connection = agent.connect().await?;
    Ok(connection.list(list).await?.into_iter().filter_map(listed).collect())
}

/// The state of a container of a `berth run`, as JSON has it.
pub(crate) fn state_of(listed: Option<&Listed>) -> Value {
    let gone = || State::Unknown { why: "it went away while it was looked at".to_owned() };
    listed.map_or_else(gone, |listed| of_run(listed).state).json()
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
        usage: None,
    }
}

fn listed(container: get_containers::Container) -> Option<Row> {
    let millis = |time: berth_proto::v1::TimeInfo| u64::try_from(time.nanoseconds / 1_000_000).ok();
    let summary = container.summary?;
    let id = convert::container_id(&summary.container_id).ok()?;
    let state = summary.state.unwrap_or_default();
    let state = match summary.termination {
        Some(end) => match end.exit_status {
            Some(status) => State::Exited { status: WaitStatus(status), at_ms: end.ended.and_then(millis) },
            None => State::Unknown { why: end.message.unwrap_or_else(|| "nobody saw its end".to_owned()) },
        },
        None if state.paused == Some(true) || state.name == "RUNNING" => State::Running {
            pid: container.container_status.and_then(|status| status.executor_pid),
            since_ms: state.since.and_then(millis),
            paused: state.paused == Some(true),
        },
        None => State::Passing(state.name.to_lowercase()),
    };
    let usage = container.resource_statistics.map(|used| Usage {
        memory: used.mem_total_bytes.or(used.mem_rss_bytes),
        limit: used.mem_limit_bytes,
        processes: used.processes,
    });
    Some(Row {
        name: summary.name.filter(|name| name != id.value()),
        id,
        agent: true,
        root: summary.rootfs.or(summary.image).unwrap_or_else(|| "host".to_owned()),
        command: summary.command,
        created_ms: summary.created.and_then(millis),
        state,
        usage,
    })
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

    /// Its state in one word, docker's where docker has it.
    fn word(&self) -> &str {
        match self {
            State::Passing(phase) => phase,
            State::Running { paused: true, .. } => "paused",
            State::Running { .. } => "running",
            State::Exited { .. } => "exited",
            State::Unknown { .. } => "unknown",
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
    fn id(&self, whole: bool) -> String {
        if whole { escaped(&self.id.to_string()) } else { text::short(&self.id) }
    }

    fn cut(&self, text: &str, whole: bool) -> String {
        if whole { escaped(text) } else { cut(escaped(text), 30) }
    }

    /// What people call it.
    fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.value())
    }

    /// The same for tables, in which a random id says nothing a second time.
    fn names(&self) -> String {
        if self.name.is_none() && text::is_random(self.id.value()) {
            String::new()
        } else {
            escaped(self.called())
        }
    }

    fn is_named(&self, name: &str) -> bool {
        self.called() == name || self.id.to_string() == name
    }

    /// What `--format` can show, by docker's names. Ports can not be published yet.
    fn fields(&self, no_trunc: bool) -> Value {
        json!({
            "ID": self.id(no_trunc), "Image": self.root,
            "Command": format!("\"{}\"", self.cut(&self.command.join(" "), no_trunc)),
            "CreatedAt": self.created_ms.map(text::utc),
            "RunningFor": self.created_ms.map(ago), "Ports": "", "State": self.state.word(),
            "Status": self.state.words(), "Names": self.called(),
        })
    }

    fn json(&self) -> Value {
        let mut json = json!({
            "id": self.id.to_string(), "name": self.name, "agent": self.agent, "rootfs": self.root,
            "command": self.command, "created_ms": self.created_ms, "state": self.state.json(),
        });
        if let Some(usage) = &self.usage {
            json["usage"] = json!({
                "memory_bytes": usage.memory, "memory_limit_bytes": usage.limit, "pids": usage.processes,
            });
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::own::{self, inspection};
    use berth_proto::v1;
    use clap::Parser;

    fn summary(state: &str, paused: Option<bool>) -> own::Summary {
        own::Summary {
            container_id: v1::ContainerId { value: "web".into(), parent: None },
            state: Some(inspection::State { name: state.into(), paused, ..Default::default() }),
            command: vec!["sh".into(), "\x1b[2Jx".into()],
            created: Some(v1::TimeInfo { nanoseconds: 5_000_000 }),
            ..Default::default()
        }
    }

    fn row(summary: own::Summary) -> Row {
        listed(get_containers::Container { summary: Some(summary), ..Default::default() }).unwrap()
    }

    fn options(more: &[&str]) -> Ps {
        let line = ["berth", "ps"].into_iter().chain(more.iter().copied());
        match crate::cli::Cli::try_parse_from(line).unwrap().command {
            crate::cli::Command::Ps(ps) => ps,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_summary_tells_the_state_as_docker_would() {
        assert!(row(summary("RUNNING", None)).state.words().starts_with("Up "));
        assert!(row(summary("PAUSED", Some(true))).state.words().ends_with("(Paused)"));
        assert_eq!(row(summary("PREPARING", None)).state.words(), "Preparing");
        let ended = |exit_status, message: Option<&str>| {
            let message = message.map(str::to_owned);
            let termination = Some(inspection::Termination { exit_status, message, ..Default::default() });
            row(own::Summary { termination, ..summary("TERMINATED", None) }).state
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
        let mut evil = row(summary("RU\x1bNNING", None));
        evil.root = "/r\x1b]0;x\x07".into();
        evil.name = Some("n\nforged".into());
        let shown = table(&[evil], &options(&["--no-trunc"]), false);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.starts_with("CONTAINER ID  ROOTFS"), "{shown}");
    }

    #[test]
    fn the_row_of_a_container_has_its_image_and_its_name() {
        let named = own::Summary {
            name: Some("front".into()),
            image: Some("busybox".into()),
            ..summary("RUNNING", None)
        };
        let json = row(named).json();
        assert_eq!((json["name"].as_str(), json["rootfs"].as_str()), (Some("front"), Some("busybox")));
        assert_eq!((&json["created_ms"], &json["agent"]), (&5.into(), &true.into()));
        assert_eq!(row(summary("RUNNING", None)).root, "host");
    }

    #[test]
    fn use_is_shown_where_it_is_asked_for_and_known() {
        let mut used = row(summary("RUNNING", None));
        used.usage = Some(Usage { memory: Some(1 << 20), limit: None, processes: Some(2) });
        let shown = table(&[used], &options(&["--usage"]), false);
        assert!(shown.contains("MEM USAGE / LIMIT") && shown.contains("1MiB / --"), "{shown}");
        let unknown = table(&[row(summary("RUNNING", None))], &options(&["--usage"]), false);
        assert!(unknown.contains("-- / --"), "{unknown}");
    }

    #[test]
    fn formats_are_lines_tables_or_json() {
        let rows = [row(summary("RUNNING", None))];
        let fields = || rows.iter().map(|row| (Look::Plain, row.fields(false))).collect();
        let lines = |format: &str| Lines::parse(format).and_then(|lines| lines.put(fields(), title));
        assert_eq!(lines("{{.Names}}: {{.State}}").unwrap(), "web: running\n");
        assert_eq!(lines("table {{.ID}}\\t{{.Image}}").unwrap(), "CONTAINER ID  IMAGE\nweb           host\n");
        let json: Value = serde_json::from_str(&lines("json").unwrap()).unwrap();
        assert_eq!(
            (&json["ID"], &json["CreatedAt"]),
            (&"web".into(), &"1970-01-01 00:00:00 +0000 UTC".into())
        );
        assert!(lines("{{.Nope}}").is_err() && lines("table {{.Nope}}").is_err());
    }
}
