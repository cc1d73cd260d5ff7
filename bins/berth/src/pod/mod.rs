// SPDX-License-Identifier: Apache-2.0
//! `berth pod`: containers of the agent that share a network, a host name and directories (docs/pods.md).
//!
//! A pod is a container that holds the network and does nothing else, with the pod's containers in it. The agent knows
//! nothing of pods: what is one is told by what it runs. Who restarts is the command that runs the pod ([`keep`]), as long
//! as it is there.

mod keep;
mod spec;

use crate::cli::{Format, Global, PodCommand, PodPs, PodRm, PodStop};
use crate::exit::Failure;
use crate::find;
use crate::text::{self, Look, ago, escaped, show};
use berth_client::{Agent, Connection, Error, List, block_on};
use berth_model::{ContainerId, WaitStatus};
use berth_proto::agent::response::get_containers;
use berth_proto::convert::container_id;
use berth_proto::own::Summary;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// The last word of the command that holds a pod, by which it is known.
const MARK: &str = "berth-pod";

/// What holds a pod: it waits, ends when it is asked to, and reaps whom nobody else does.
const HOLD: &str = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done";

/// Carries out a command about pods.
pub(crate) fn pod(global: &Global, command: PodCommand) -> Result<u8, Failure> {
    match command {
        PodCommand::Run(args) => keep::run(global, &args),
        PodCommand::Ps(args) => ps(global, &args).map_err(|e| e.code(1)),
        PodCommand::Stop(args) => stop(global, &args),
        PodCommand::Rm(args) => rm(global, &args),
    }
}

/// A pod, as the agent has it.
#[derive(Debug)]
struct Found {
    id: ContainerId,
    summary: Summary,
    members: Vec<(ContainerId, Summary)>,
}

/// All pods.
async fn all(agent: &Agent) -> Result<Vec<Found>, Error> {
    let list = List { ended: true, usage: false };
    let containers = agent.connect().await?.list(list).await?;
    let parts = |container: get_containers::Container| {
        let summary = container.summary?;
        Some((container_id(&summary.container_id).ok()?, summary))
    };
    let (tops, inner): (Vec<_>, Vec<_>) =
        containers.into_iter().filter_map(parts).partition(|(id, _)| !id.is_nested());
    let mut pods: Vec<Found> = tops
        .into_iter()
        .filter(|(_, summary)| is_pod(&summary.command))
        .map(|(id, summary)| Found { id, summary, members: Vec::new() })
        .collect();
    for (id, summary) in inner {
        // Nobody remembers when a session began.
        let found = pods.iter_mut().find(|pod| Some(&pod.id) == id.parent() && summary.created.is_some());
        if let Some(pod) = found {
            pod.members.push((id, summary));
        }
    }
    Ok(pods)
}

fn is_pod(command: &[String]) -> bool {
    command.last().is_some_and(|last| last == MARK)
}

fn is_over(summary: &Summary) -> bool {
    summary.termination.is_some()
}

/// One pod by its name.
async fn one(agent: &Agent, name: &str) -> Result<Found, Failure> {
    let pods = all(agent).await.map_err(|e| Failure::client(&e))?;
    let is_meant = |pod: &Found| pod.id.value() == name || pod.summary.name.as_deref() == Some(name);
    let missing = || Failure::text(format!("no pod is named {name}: `berth pod ps` lists them"));
    pods.into_iter().find(is_meant).ok_or_else(missing)
}

fn ps(global: &Global, args: &PodPs) -> Result<u8, Failure> {
    let agent = find::agent(global);
    let pods = block_on(all(&agent)).and_then(|pods| pods).map_err(|e| Failure::client(&e))?;
    if args.output == Format::Json {
        text::show_json(&pods.iter().map(Found::json).collect());
        return Ok(0);
    }
    let mut rows = Vec::new();
    for pod in &pods {
        let over = is_over(&pod.summary);
        let running = pod.members.iter().filter(|(_, summary)| !is_over(summary)).count();
        let cells = vec![
            escaped(pod.id.value()),
            state(&pod.summary),
            format!("{running}/{}", pod.members.len()),
            created(&pod.summary),
        ];
        rows.push((if over { Look::Dim } else { Look::Plain }, cells));
        for (id, summary) in &pod.members {
            let cells =
                vec![format!("  {}", escaped(id.value())), state(summary), String::new(), created(summary)];
            rows.push((if is_over(summary) { Look::Dim } else { Look::Plain }, cells));
        }
    }
    show(&text::table(&["POD", "STATUS", "CONTAINERS", "CREATED"], rows, text::colours()));
    Ok(0)
}

fn created(summary: &Summary) -> String {
    let millis = summary.created.as_ref().and_then(|time| u64::try_from(time.nanoseconds / 1_000_000).ok());
    millis.map(ago).unwrap_or_default()
}

/// In words.
fn state(summary: &Summary) -> String {
    match &summary.termination {
        Some(end) => match end.exit_status {
            Some(status) => format!("exited ({})", WaitStatus(status).shell_code()),
            None => "ended, nobody knows how".to_owned(),
        },
        None => summary.state.as_ref().map_or("unknown", |state| &state.name).to_lowercase(),
    }
}

impl Found {
    fn json(&self) -> Value {
        let of = |id: &ContainerId, summary: &Summary| {
            let status = summary.termination.as_ref().map(|end| {
                let code = end.exit_status.map(|status| WaitStatus(status).shell_code());
                json!({ "exit_code": code, "message": end.message })
            });
            json!({
                "id": id.to_string(), "name": id.value(), "ended": status,
                "state": summary.state.as_ref().map(|state| state.name.to_lowercase()),
            })
        };
        let mut pod = of(&self.id, &self.summary);
        pod["containers"] = self.members.iter().map(|(id, summary)| of(id, summary)).collect();
        pod
    }
}

fn stop(global: &Global, args: &PodStop) -> Result<u8, Failure> {
    let agent = find::agent(global);
    each(&args.names, async |name| {
        let pod = one(&agent, name).await?;
        end(&agent, &pod.id, Duration::from_secs(args.time)).await.map_err(|e| Failure::client(&e))
    })
}

fn rm(global: &Global, args: &PodRm) -> Result<u8, Failure> {
    let agent = find::agent(global);
    each(&args.names, async |name| {
        let pod = one(&agent, name).await?;
        if !is_over(&pod.summary) && !args.force {
            return Err(Failure::text(format!("pod {name} runs: stop it first, or remove it with --force")));
        }
        let removed = async {
            let mut connection = agent.connect().await?;
            destroy(&mut connection, &pod.id).await?;
            connection.remove(&pod.id).await
        };
        removed.await.map_err(|e| Failure::client(&e))
    })
}

/// Does something to each, and goes on after one for which it did not succeed.
fn each(names: &[String], act: impl AsyncFn(&str) -> Result<(), Failure>) -> Result<u8, Failure> {
    let done = block_on(async {
        let mut code = 0;
        for name in names {
            match act(name).await {
                Ok(()) => show(&format!("{name}\n")),
                Err(failure) => code = failure.code(1).report(),
            }
        }
        code
    });
    done.map_err(|e| Failure::client(&e).code(1))
}

/// Ends a pod with all in it, the containers first, and waits for that.
async fn destroy(connection: &mut Connection, pod: &ContainerId) -> Result<(), Error> {
    match connection.kill(pod, SIGKILL).await {
        Err(error) if !error.is_unknown() => return Err(error),
        _ => {}
    }
    match connection.wait(pod).await {
        Err(error) if !error.is_unknown() => Err(error),
        _ => Ok(()),
    }
}

/// Asks the containers to end, gives them that time, and ends the pod.
async fn end(agent: &Agent, id: &ContainerId, patience: Duration) -> Result<(), Error> {
    let until = Instant::now() + patience;
    let pods = all(agent).await?;
    let members = pods.iter().filter(|pod| pod.id == *id).flat_map(|pod| &pod.members);
    let running: Vec<_> = members.filter(|(_, summary)| !is_over(summary)).map(|(id, _)| id).collect();
    let mut connection = agent.connect().await?;
    for id in &running {
        match connection.kill(id, SIGTERM).await {
            Err(error) if !error.is_unknown() => return Err(error),
            _ => {}
        }
    }
    for id in running {
        let mut waiting = agent.connect().await?;
        match timeout_at(until, waiting.wait(id)).await {
            Ok(Err(error)) if !error.is_unknown() => return Err(error),
            _ => {}
        }
    }
    destroy(&mut connection, id).await
}
