// SPDX-License-Identifier: Apache-2.0
//! The containers of executors and their tasks, as the engine of tasks asks for them. They are containers of the
//! agent's like all others: in its table, with its records, listed and inspected, collected when they have ended.
//!
//! Nothing here keeps the agent: whoever waits for a container is let go when the agent stops.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use berth_api::{Launched, StatusCode};
use berth_cgroup::{Group, Hierarchies};
use berth_contract::ExecRequest;
use berth_model::{
    CommandInfo, ContainerConfig, ContainerId, ContainerInfo, ContainerStatus, ContainerTermination,
    ContainerType, ExecutorType, NetworkInfo,
};
use berth_proto::{convert, v1};
use berth_tasks::built_in::{Containers, Description, Later, Ran};
use berth_tasks::contain::{Containing, Launch};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::agent::Inner;
use crate::inspect::group_in;
use crate::lifecycle::{self, blocking};
use crate::pump::{self, Pipe};
use crate::watch::hear;

const SIGTERM: i32 = 15;
/// Processes that come while others are being told are told too, so often.
const ROUNDS: usize = 3;

/// The agent's containers.
#[derive(Clone)]
pub(crate) struct Contained(pub(crate) Weak<Inner>);

/// What is said when the agent stops.
const STOPPING: &str = "the agent stops";

impl Containing for Contained {
    fn launch(&self, launch: Launch) -> Later<'_, Result<bool, String>> {
        Box::pin(async move {
            let agent = self.0.upgrade().ok_or(STOPPING)?;
            match lifecycle::launch_executor(&agent, launch).await {
                Ok(Launched::Started) => Ok(true),
                Ok(Launched::NotSupported) => Ok(false),
                Ok(Launched::AlreadyLaunched) => Err("a container of this id is there already".to_owned()),
                Err(refusal) => Err(refusal.to_string()),
            }
        })
    }

    fn exists(&self, id: &ContainerId) -> bool {
        self.0.upgrade().is_some_and(|agent| agent.table.get(id).is_some_and(|container| container.id == *id))
    }

    fn wait(&self, id: ContainerId) -> Later<'_, Option<ContainerTermination>> {
        Box::pin(async move {
            let agent = self.0.upgrade()?;
            lifecycle::wait(&agent, &id).await.unwrap_or_else(|refusal| {
                let message = Some(refusal.to_string());
                Some(ContainerTermination { message, ..ContainerTermination::default() })
            })
        })
    }

    fn limit(
        &self,
        id: ContainerId,
        resources: Vec<v1::Resource>,
        limits: BTreeMap<String, v1::value::Scalar>,
    ) -> Later<'_, Result<(), String>> {
        Box::pin(async move {
            let agent = self.0.upgrade().ok_or(STOPPING)?;
            let resources = convert::resources(&resources).map_err(|error| error.to_string())?;
            let limits = convert::limits(&limits).map_err(|error| error.to_string())?;
            match lifecycle::update(&agent, &id, resources, limits).await {
                Err(refusal) if refusal.status() != StatusCode::NOT_FOUND => Err(refusal.to_string()),
                _ => Ok(()),
            }
        })
    }

    fn destroy(&self, id: ContainerId) -> Later<'_, ()> {
        Containers::destroy(self, id)
    }

    fn status(&self, id: ContainerId) -> Later<'_, v1::ContainerStatus> {
        Box::pin(async move {
            let agent = self.0.upgrade();
            let told = match &agent {
                Some(agent) => agent.containerizer.status(&id).await.ok(),
                None => None,
            };
            let mut status = told.as_ref().map(convert::status_of).unwrap_or_default();
            status.container_id = Some(convert::container_id_of(&id));
            // As in Mesos, of one within another that does not run nothing is known but its id.
            let is_there = id.parent().is_none() || status.executor_pid.is_some();
            if !is_there {
                status.network_infos.clear();
            }
            if let (Some(agent), true) = (agent, is_there && status.network_infos.is_empty()) {
                status.network_infos.push(own_network(&agent));
            }
            status
        })
    }

    fn sandbox(&self, id: &ContainerId) -> PathBuf {
        self.0.upgrade().map(|agent| agent.places.sandbox(id)).unwrap_or_default()
    }

    fn over(&self, framework: v1::FrameworkInfo, executor: v1::ExecutorInfo, id: ContainerId) {
        if let Some(agent) = self.0.upgrade() {
            crate::hooks::removed(&agent, &framework, &executor, &id);
        }
    }

    fn containers(&self) -> Arc<dyn Containers> {
        Arc::new(self.clone())
    }
}

/// The agent's own address: what runs on the host's network has no other.
fn own_network(agent: &Inner) -> v1::NetworkInfo {
    let address = agent.tcp.get().map(std::net::SocketAddr::ip).filter(|ip| !ip.is_unspecified());
    let address = address.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    let protocol = match address.is_ipv4() {
        true => v1::network_info::Protocol::IPv4,
        false => v1::network_info::Protocol::IPv6,
    };
    let address = v1::network_info::IpAddress {
        protocol: Some(protocol.into()),
        ip_address: Some(address.to_string()),
    };
    v1::NetworkInfo { ip_addresses: vec![address], ..v1::NetworkInfo::default() }
}

impl Containers for Contained {
    fn launch(
        &self,
        id: ContainerId,
        config: ContainerConfig,
        environment: BTreeMap<String, String>,
    ) -> Later<'_, Result<(), String>> {
        Box::pin(async move {
            let agent = self.0.upgrade().ok_or(STOPPING)?;
            match lifecycle::launch_task(&agent, id, config, environment).await {
                Ok(Launched::Started) => Ok(()),
                Ok(Launched::AlreadyLaunched) => Err("a container of this id is there already".to_owned()),
                Ok(Launched::NotSupported) => Err("no containerizer takes such a container".to_owned()),
                Err(refusal) => Err(refusal.to_string()),
            }
        })
    }

    fn wait(&self, id: ContainerId) -> Later<'_, Option<ContainerTermination>> {
        Containing::wait(self, id)
    }

    fn kill(&self, id: ContainerId, signal: i32) -> Later<'_, bool> {
        Box::pin(async move {
            let Some(agent) = self.0.upgrade() else { return false };
            hear(&agent);
            let Some(container) = agent.table.get(&id).filter(|container| !container.has_ended()) else {
                return false;
            };
            let record = container.record();
            let of_another = |info: &ContainerInfo| info.r#type != ContainerType::Mesos;
            if record.as_ref().is_some_and(|r| r.config.container_info.as_ref().is_some_and(of_another)) {
                // Another technology's container: its own first process is who is told, as by its own tools.
                // Asked to end, it is told so as its image wants it.
                let own = (signal == SIGTERM).then(|| agent.containerizer.stop_signal(&id)).flatten();
                return lifecycle::kill(&agent, &id, own.unwrap_or(signal)).await.unwrap_or(false);
            }
            // The first process of a task passes signals on: it would tell its child twice.
            let of_task = record.is_some_and(|record| record.config.task_info.is_some());
            let around = id.parent().and_then(|parent| agent.table.get(parent)?.record());
            let executor = around.and_then(|record| record.config.executor_info.clone());
            let of_group = executor.is_some_and(|executor| executor.r#type == Some(ExecutorType::Default));
            let passes_on = of_task || of_group;
            let first = agent.containerizer.status(&id).await.ok().and_then(|status| status.executor_pid);
            if let (Some(first), Some(hierarchies)) = (first, agent.hierarchies.clone()) {
                let told = blocking(move || tell_all(first, passes_on, &hierarchies, signal)).await;
                if told.unwrap_or(false) {
                    return true;
                }
            }
            lifecycle::kill(&agent, &id, signal).await.unwrap_or(false)
        })
    }

    fn destroy(&self, id: ContainerId) -> Later<'_, ()> {
        Box::pin(async move {
            let Some(agent) = self.0.upgrade() else { return };
            if let Err(refusal) = lifecycle::destroy(&agent, &id).await {
                tracing::warn!(container = %id, %refusal, "not destroyed");
            }
        })
    }

    fn remove(&self, id: ContainerId) -> Later<'_, ()> {
        Box::pin(async move {
            let Some(agent) = self.0.upgrade() else { return };
            if let Err(refusal) = lifecycle::remove(&agent, &id).await {
                tracing::warn!(container = %id, %refusal, "not removed");
            }
        })
    }

    fn exec(
        &self,
        id: ContainerId,
        command: CommandInfo,
        environment: BTreeMap<String, String>,
        limit: Option<Duration>,
    ) -> Later<'_, Ran> {
        Box::pin(async move {
            let Some(agent) = self.0.upgrade() else { return Ran::Failed(STOPPING.to_owned()) };
            run_beside(&agent, &id, command, environment, limit).await
        })
    }

    fn pid(&self, id: ContainerId) -> Later<'_, Option<u32>> {
        Box::pin(async move { self.0.upgrade()?.containerizer.status(&id).await.ok()?.executor_pid })
    }

    fn status(&self, id: ContainerId) -> Later<'_, v1::ContainerStatus> {
        Containing::status(self, id)
    }

    fn sandbox(&self, id: &ContainerId) -> Option<PathBuf> {
        Some(self.0.upgrade()?.places.sandbox(id))
    }

    fn describe(&self, id: ContainerId) -> Later<'_, Option<Description>> {
        Box::pin(async move {
            let agent = self.0.upgrade()?;
            let data = match agent.containerizer.describe(&id).await {
                Ok(data) => Some(data?),
                Err(error) => {
                    tracing::warn!(container = %id, error = error.chain(), "reported to run without what its engine says of it");
                    None
                }
            };
            let networks = agent.containerizer.status(&id).await.map(|status| status.network_infos);
            let record = agent.table.get(&id).and_then(|container| container.record());
            let asked = record.as_ref().and_then(|record| record.config.container_info.as_ref());
            let asked = asked.and_then(|info| info.network_infos.first().cloned());
            let networks = where_reached(networks.unwrap_or_default(), asked);
            let status = ContainerStatus { network_infos: networks, ..ContainerStatus::default() };
            Some(Description { data, networks: convert::status_of(&status).network_infos })
        })
    }
}

/// A container's networks; what was asked of the first is said of it beside its addresses.
fn where_reached(mut networks: Vec<NetworkInfo>, asked: Option<NetworkInfo>) -> Vec<NetworkInfo> {
    if let (Some(first), Some(asked)) = (networks.first_mut(), asked) {
        let addresses = std::mem::take(&mut first.ip_addresses);
        let name = asked.name.clone().or_else(|| first.name.take());
        *first = NetworkInfo { ip_addresses: addresses, name, ..asked };
    }
    networks
}

/// Runs a command in a container to its end, and writes what it says into the container's log.
async fn run_beside(
    agent: &Arc<Inner>,
    id: &ContainerId,
    command: CommandInfo,
    environment: BTreeMap<String, String>,
    limit: Option<Duration>,
) -> Ran {
    let Some(exec) = agent.containerizer.exec() else {
        return Ran::Failed("its containerizer runs no commands in containers".to_owned());
    };
    let name = format!("check-{}", berth_tasks::random_uuid());
    let session = match ContainerId::nested(id.clone(), &name) {
        Ok(session) => session,
        Err(error) => return Ran::Failed(error.to_string()),
    };
    let request = ExecRequest { command, environment, terminal: None };
    let streams = match exec.run(&session, request).await {
        Ok(started) => started.streams,
        Err(error) => {
            let _ = agent.containerizer.destroy(&session).await;
            return Ran::Failed(error.chain());
        }
    };
    let log = agent.places.output(id);
    // Some containerizers know no better place than the sandbox.
    let log = if log.is_dir() { log } else { agent.places.sandbox(id) }.join("stderr");
    for stream in [streams.stdout, streams.stderr].into_iter().flatten() {
        let Ok(pipe) = Pipe::new(stream) else { continue };
        let (sender, mut pieces) = mpsc::channel(2);
        agent.tasks.spawn(pump::output(Some(pipe), Default::default(), sender));
        let log = log.clone();
        agent.tasks.spawn(async move {
            while let Some(Ok(piece)) = pieces.recv().await {
                let (log, bytes) = (log.clone(), piece.data.and_then(|data| data.data).unwrap_or_default());
                let _ = blocking(move || append(&log, &bytes)).await;
            }
        });
    }
    let ended = agent.containerizer.wait(&session);
    let ended = match limit {
        Some(limit) => timeout(limit, ended).await.ok(),
        None => Some(ended.await),
    };
    let ran = match ended {
        None => {
            let _ = agent.containerizer.destroy(&session).await;
            Ran::TimedOut
        }
        Some(Ok(Some(termination))) => match termination.wait_status() {
            Some(status) => Ran::Exited(status.shell_code()),
            None => {
                Ran::Failed(termination.message.unwrap_or_else(|| "how it ended is not known".to_owned()))
            }
        },
        Some(Ok(None)) => Ran::Failed("it is gone".to_owned()),
        Some(Err(error)) => Ran::Failed(error.chain()),
    };
    let _ = agent.containerizer.remove(&session).await;
    hear(agent);
    ran
}

/// One that is not there is not made, and what the container may have put in its place is neither followed nor waited for.
fn append(path: &Path, bytes: &[u8]) {
    let flags = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().append(true).custom_flags(flags).open(path);
    let is_file = |file: &std::fs::File| file.metadata().is_ok_and(|it| it.is_file());
    if let Ok(mut file) = file
        && is_file(&file)
    {
        let _ = file.write_all(bytes);
    }
}

/// The group in `/proc/PID/cgroup` that is a container's alone. Of one that shares its limits with those around it that is
/// the freezer's, where there are hierarchies of several controllers.
fn own_group_in(text: &str) -> Option<&str> {
    let freezer = text.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|controller| controller == "freezer").then_some(path)
    });
    let path = freezer.map(|path| path.trim_start_matches('/')).filter(|path| !path.is_empty());
    path.or_else(|| group_in(text))
}

/// Sends a signal to all processes in the group of the first one; whether any got it.
fn tell_all(first: u32, passes_on: bool, hierarchies: &Hierarchies, signal: i32) -> bool {
    let of = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Some(Group::path_of_member(own_group_in(&text)?).to_owned())
    };
    let Some(path) = of(first) else { return false };
    let Ok(group) = Group::open(hierarchies, &path) else { return false };
    let mut told = Vec::new();
    for _ in 0..ROUNDS {
        let all = group.processes().unwrap_or_default();
        let alone = all.len() == 1;
        let fresh: Vec<u32> = all
            .into_iter()
            .filter(|pid| !told.contains(pid) && (alone || !passes_on || *pid != first))
            .collect();
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            told.push(pid);
            let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { continue };
            // Another process may have the number by now.
            if of(pid).as_deref() == Some(path.as_str()) {
                let _ = berth_sys::signal::send(&process, signal);
            }
        }
    }
    !told.is_empty()
}
