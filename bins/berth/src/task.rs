// SPDX-License-Identifier: Apache-2.0
//! `berth tasks` and `berth task`: what a master knows of tasks, and the containers that they run in, which the agent's
//! own commands reach.

use clap::Parser as _;
use comfy_table::Table;
use serde_json::Value;

use crate::cli::{Cli, Command, Format, Global, Master, TaskCommand, Tasks};
use crate::exit::Failure;
use crate::{logs, remote};
use berth_client::{MasterClient, MasterError, block_on};
use berth_proto::master::call::KillTask;
use berth_proto::{Encoding, v1};

const ENDED: &[&str] = &[
    "TASK_FINISHED",
    "TASK_FAILED",
    "TASK_KILLED",
    "TASK_LOST",
    "TASK_ERROR",
    "TASK_DROPPED",
    "TASK_GONE",
    "TASK_GONE_BY_OPERATOR",
];

fn failed(error: &MasterError) -> Failure {
    Failure::new(error.class(), error).code(1)
}

fn client(master: &Master) -> MasterClient {
    let credentials = master.principal.as_deref().zip(master.secret.as_deref());
    MasterClient::new(&*master.master, Encoding::Json, credentials)
}

/// The tasks that a master knows, the oldest first.
fn all(master: &Master) -> Result<Vec<Value>, Failure> {
    let client = client(master);
    let asked = block_on(client.get("/tasks?order=asc&limit=-1")).map_err(|error| Failure::client(&error))?;
    let bytes = asked.map_err(|error| failed(&error))?;
    let document: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::text(format!("the master's answer is no JSON: {error}")).code(1))?;
    Ok(document["tasks"].as_array().cloned().unwrap_or_default())
}

fn text<'a>(task: &'a Value, field: &str) -> &'a str {
    task[field].as_str().unwrap_or_default()
}

/// The container of a task: what its latest report names.
fn container(task: &Value) -> Option<String> {
    let statuses = task["statuses"].as_array()?;
    let id = statuses.iter().rev().find_map(|status| {
        let id = &status["container_status"]["container_id"];
        id.is_object().then_some(id)
    })?;
    let mut levels = vec![id["value"].as_str()?.to_owned()];
    let mut outer = &id["parent"];
    while let Some(value) = outer["value"].as_str() {
        levels.push(value.to_owned());
        outer = &outer["parent"];
    }
    levels.reverse();
    Some(levels.join("."))
}

pub(crate) fn tasks(args: &Tasks) -> Result<u8, Failure> {
    let is_wanted = |task: &Value| args.all || !ENDED.contains(&text(task, "state"));
    let tasks: Vec<Value> = all(&args.master)?.into_iter().filter(is_wanted).collect();
    if args.output == Format::Json {
        println!("{:#}", Value::Array(tasks));
        return Ok(0);
    }
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["TASK", "STATE", "FRAMEWORK", "EXECUTOR", "CONTAINER"]);
    for task in &tasks {
        let safe = |text: &str| crate::exit::printable_lines(text).replace('\n', " ");
        table.add_row([
            safe(text(task, "id")),
            safe(text(task, "state")),
            safe(text(task, "framework_id")),
            safe(text(task, "executor_id")),
            container(task).unwrap_or_default(),
        ]);
    }
    println!("{}", table.trim_fmt());
    Ok(0)
}

/// A task by its id: the latest of that name.
fn find(master: &Master, id: &str) -> Result<Value, Failure> {
    let mut tasks = all(master)?;
    tasks.retain(|task| text(task, "id") == id);
    let is_live = |task: &&Value| !ENDED.contains(&text(task, "state"));
    let live = tasks.iter().rfind(is_live).cloned();
    live.or_else(|| tasks.pop()).ok_or_else(|| Failure::text(format!("there is no task '{id}'")).code(1))
}

fn container_of(master: &Master, id: &str) -> Result<String, Failure> {
    let task = find(master, id)?;
    container(&task).ok_or_else(|| Failure::text(format!("task '{id}' has not reached a container")).code(1))
}

pub(crate) fn task(global: &Global, command: TaskCommand) -> Result<u8, Failure> {
    match command {
        TaskCommand::Inspect { master, id } => {
            println!("{:#}", find(&master, &id)?);
            Ok(0)
        }
        TaskCommand::Logs { master, id, options } => {
            let container = container_of(&master, &id)?;
            let mut words = vec!["berth".to_owned(), "logs".to_owned()];
            words.extend(options);
            words.push(container);
            match as_typed(words)? {
                Command::Logs(args) => logs::logs(global, &args),
                _ => Err(Failure::text("no logs")),
            }
        }
        TaskCommand::Kill { master, timeout, id } => {
            let task = find(&master, &id)?;
            let grace = |seconds: u32| v1::KillPolicy {
                grace_period: Some(v1::DurationInfo { nanoseconds: i64::from(seconds) * 1_000_000_000 }),
            };
            let kill = KillTask {
                framework_id: v1::FrameworkId { value: text(&task, "framework_id").to_owned() },
                task_id: v1::TaskId { value: id.clone() },
                kill_policy: timeout.map(grace),
            };
            let client = client(&master);
            let killed = block_on(client.kill_task(kill)).map_err(|error| Failure::client(&error))?;
            killed.map_err(|error| failed(&error))?;
            println!("{id}");
            Ok(0)
        }
        TaskCommand::Exec { master, interactive, tty, id, command } => {
            let container = container_of(&master, &id)?;
            let mut words = vec!["berth".to_owned(), "exec".to_owned()];
            words.extend(interactive.then(|| "-i".to_owned()));
            words.extend(tty.then(|| "-t".to_owned()));
            words.push(container);
            words.extend(command);
            match as_typed(words)? {
                Command::Exec(args) => remote::exec(global, &args),
                _ => Err(Failure::text("no exec")),
            }
        }
    }
}

/// A command line of the agent's own commands.
fn as_typed(words: Vec<String>) -> Result<Command, Failure> {
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| Failure::text(error.to_string()))
}
