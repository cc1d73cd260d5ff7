// SPDX-License-Identifier: Apache-2.0
//! Tasks through the master of one node: from ACCEPT to TASK_RUNNING, how many end in a second, and what many that run cost
//! the agent.
//!
//! One scheduler, as a framework has it: it reads its stream, accepts offers and acknowledges reports. Commands are run by
//! the agent's own executor.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use berth_client::{Events, MasterClient, MasterError};
use berth_proto::scheduler::{Call, Event, call, event};
use berth_proto::{Encoding, v1};
use serde::Serialize;
use v1::TaskState;

use crate::agent::daemon::Daemon;
use crate::agent::fleet::resident_kib;
use crate::contestant::Programs;
use crate::error::Error;
use crate::report::line;
use crate::rounds::{Stop, check};
use crate::site::Site;
use crate::stats::Summary;

/// Tasks under way at once when many are run.
const IN_FLIGHT: usize = 32;
/// How many are run then.
const MANY: usize = 1000;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct TasksReport {
    storage: String,
    /// One task at a time.
    accept_to_running: Option<Summary>,
    accept_to_finished: Option<Summary>,
    /// With [`IN_FLIGHT`] under way.
    finished_per_second: f64,
    /// How many ran then.
    many: usize,
    running: usize,
    /// The agent's resident memory: with nothing, and while that many run.
    idle_kib: f64,
    full_kib: f64,
}

/// Measures on the first storage.
pub(crate) fn measure(
    programs: &Programs,
    site: &Site,
    times: usize,
    running: usize,
    stop: &Stop,
) -> Result<TasksReport, Error> {
    let stage = site.stages.first().expect("a site has a stage");
    // Whoever takes it in between makes the agent's start fail, which is told.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address = port.map_err(Error::file("find a free port at", "127.0.0.1"))?.to_string();
    let more = vec![format!("--local_master={address}"), "--no-authenticate_http_readwrite".to_owned()];
    let daemon = Daemon::start_with(programs, site, stage, more)?;
    let failed = |source: MasterError| Error::Master { source: Box::new(source) };
    let mut report = TasksReport {
        storage: stage.name.clone(),
        accept_to_running: None,
        accept_to_finished: None,
        finished_per_second: 0.0,
        many: MANY,
        running,
        idle_kib: resident_kib(daemon.pid()),
        full_kib: 0.0,
    };
    let well = daemon.path_of("true");
    let long = format!("exec {} 10000", daemon.path_of("sleep"));
    daemon.wait_for(async {
        // The agent answers before its master listens, which comes after its recovery.
        let mut scheduler = loop {
            match Scheduler::subscribe(&address).await {
                Err(MasterError::Connect { .. }) => check(stop)?,
                other => break other.map_err(failed)?,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        for at in (0..running).step_by(IN_FLIGHT) {
            check(stop)?;
            let more = (running - at).min(IN_FLIGHT);
            scheduler.launch(&long, more).await.map_err(failed)?;
            scheduler.until(TaskState::TaskRunning, more).await?;
        }
        report.full_kib = resident_kib(daemon.pid());
        scheduler.call(call::Type::Teardown, Call::default()).await.map_err(failed)?;

        let mut scheduler = Scheduler::subscribe(&address).await.map_err(failed)?;
        let (mut run, mut end) = (Vec::new(), Vec::new());
        for _ in 0..times {
            check(stop)?;
            let begun = scheduler.launch(&well, 1).await.map_err(failed)?;
            scheduler.until(TaskState::TaskRunning, 1).await?;
            run.push(begun.elapsed());
            scheduler.until(TaskState::TaskFinished, 1).await?;
            end.push(begun.elapsed());
        }
        report.accept_to_running = Summary::of(&run);
        report.accept_to_finished = Summary::of(&end);

        let begun = Instant::now();
        let (mut left, mut open) = (MANY, 0);
        while left > 0 || open > 0 {
            check(stop)?;
            // As many as there is room for when an offer is there.
            scheduler.offered().await.map_err(failed)?;
            open -= scheduler.take(TaskState::TaskFinished);
            let more = left.min(IN_FLIGHT - open);
            if more > 0 {
                scheduler.launch(&well, more).await.map_err(failed)?;
                (left, open) = (left - more, open + more);
            } else if open > 0 {
                scheduler.until(TaskState::TaskFinished, 1).await?;
                open -= 1;
            }
        }
        report.finished_per_second = MANY as f64 / begun.elapsed().as_secs_f64();
        scheduler.call(call::Type::Teardown, Call::default()).await.map_err(failed)
    })?;
    Ok(report)
}

/// A framework.
struct Scheduler {
    client: MasterClient,
    events: Events,
    framework: Option<v1::FrameworkId>,
    offers: Vec<v1::Offer>,
    /// States that were reported and nobody has asked for yet.
    seen: BTreeMap<i32, usize>,
    named: u64,
}

impl Scheduler {
    async fn subscribe(address: &str) -> Result<Scheduler, MasterError> {
        let client = MasterClient::new(address, Encoding::Protobuf, None);
        let framework_info =
            v1::FrameworkInfo { user: "root".to_owned(), name: "bench".to_owned(), ..Default::default() };
        let subscribe = call::Subscribe { framework_info, ..Default::default() };
        let kind = Some(call::Type::Subscribe.into());
        let events =
            client.subscribe(&Call { r#type: kind, subscribe: Some(subscribe), ..Call::default() }).await?;
        let (offers, seen) = (Vec::new(), BTreeMap::new());
        Ok(Scheduler { client, events, framework: None, offers, seen, named: 0 })
    }

    async fn call(&self, kind: call::Type, call: Call) -> Result<(), MasterError> {
        let call = Call { framework_id: self.framework.clone(), r#type: Some(kind.into()), ..call };
        self.client.call(self.events.stream_id(), &call).await
    }

    /// Waits for an offer.
    async fn offered(&mut self) -> Result<(), MasterError> {
        while self.offers.is_empty() {
            self.hear().await?;
        }
        Ok(())
    }

    /// How often a state was reported since somebody asked last.
    fn take(&mut self, state: TaskState) -> usize {
        self.seen.remove(&i32::from(state)).unwrap_or(0)
    }

    /// Accepts an offer for so many tasks. When that was.
    async fn launch(&mut self, command: &str, count: usize) -> Result<Instant, MasterError> {
        self.offered().await?;
        let offers = std::mem::take(&mut self.offers);
        let agent = offers[0].agent_id.clone();
        let task_infos = (0..count).map(|_| {
            self.named += 1;
            let name = format!("bench-{}", self.named);
            v1::TaskInfo {
                task_id: v1::TaskId { value: name.clone() },
                name,
                agent_id: agent.clone(),
                resources: vec![scalar("cpus", 0.001), scalar("mem", 1.0)],
                command: Some(v1::CommandInfo { value: Some(command.to_owned()), ..Default::default() }),
                ..Default::default()
            }
        });
        let launch = v1::offer::operation::Launch { task_infos: task_infos.collect() };
        let operation = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(launch),
            ..Default::default()
        };
        let accept = call::Accept {
            offer_ids: offers.into_iter().map(|offer| offer.id).collect(),
            operations: vec![operation],
            filters: Some(v1::Filters { refuse_seconds: Some(0.0) }),
        };
        let begun = Instant::now();
        self.call(call::Type::Accept, Call { accept: Some(accept), ..Call::default() }).await?;
        Ok(begun)
    }

    /// Waits until a state was reported so often. Any other end is none of a measurement.
    async fn until(&mut self, state: TaskState, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            loop {
                if let Some(seen) = self.seen.get_mut(&i32::from(state)).filter(|seen| **seen > 0) {
                    *seen -= 1;
                    break;
                }
                self.hear().await.map_err(|source| Error::Master { source: Box::new(source) })?;
                let bad = [TaskState::TaskFailed, TaskState::TaskError, TaskState::TaskLost];
                if let Some(bad) = bad.into_iter().find(|bad| self.seen.contains_key(&i32::from(*bad))) {
                    return Err(Error::Task { state: bad.as_str_name() });
                }
            }
        }
        Ok(())
    }

    /// The next event.
    async fn hear(&mut self) -> Result<(), MasterError> {
        let Some(Event { r#type, subscribed, offers, update, .. }) = self.events.next().await? else {
            return Err(MasterError::Lost {
                address: "the bench".to_owned(),
                why: "its stream ended".to_owned(),
            });
        };
        match r#type.and_then(|kind| event::Type::try_from(kind).ok()) {
            Some(event::Type::Subscribed) => self.framework = subscribed.map(|told| told.framework_id),
            Some(event::Type::Offers) => self.offers.extend(offers.into_iter().flat_map(|told| told.offers)),
            Some(event::Type::Update) => {
                let Some(status) = update.map(|update| update.status) else { return Ok(()) };
                *self.seen.entry(status.state).or_default() += 1;
                let (Some(agent_id), Some(uuid)) = (status.agent_id, status.uuid) else { return Ok(()) };
                let acknowledge = Some(call::Acknowledge { agent_id, task_id: status.task_id, uuid });
                self.call(call::Type::Acknowledge, Call { acknowledge, ..Call::default() }).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn scalar(name: &str, value: f64) -> v1::Resource {
    let scalar = Some(v1::value::Scalar { value });
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar,
        ..Default::default()
    }
}

impl TasksReport {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        line(&mut text, &format!("tasks of one scheduler over the master of this node, on {}", self.storage));
        let both = [
            ("ACCEPT to TASK_RUNNING", self.accept_to_running),
            ("ACCEPT to TASK_FINISHED", self.accept_to_finished),
        ];
        for (name, summary) in both {
            if let Some(Summary { count, min_ms, median_ms, p90_ms }) = summary {
                let numbers = format!("{median_ms:.2} ms (least {min_ms:.2}, 90 % {p90_ms:.2}, of {count})");
                line(&mut text, &format!("  {name:<24} {numbers}"));
            }
        }
        let TasksReport { finished_per_second, many, running, idle_kib, full_kib, .. } = self;
        line(
            &mut text,
            &format!(
                "  finished in a second     {finished_per_second:.0} (of {many}, {IN_FLIGHT} under way)"
            ),
        );
        let (idle, full) = (idle_kib / 1024.0, full_kib / 1024.0);
        line(
            &mut text,
            &format!(
                "  the agent's memory       {idle:.1} MiB with none, {full:.1} MiB with {running} running"
            ),
        );
        text
    }
}
