// SPDX-License-Identifier: Apache-2.0
//! Sessions: commands that run in a container for as long as a client listens, and the streams of containers.
//!
//! The client that launched a session has its output. When that stream ends or is dropped, the session's container is
//! destroyed, as Mesos does. Its input is kept here until then, for who attaches to it. How the last sessions ended
//! stays to be asked for; there is no end to sessions, so there is one to that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_api::{Launched, Refusal, Session, StatusCode, Stream, stream_of};
use berth_contract::{Attached, ExecRequest, Settled, Streams, WindowSize, require};
use berth_model::{Class, ContainerConfig, ContainerId};
use berth_proto::agent::{ProcessIo, process_io};
use tokio::sync::mpsc;

use crate::agent::Inner;
use crate::counters::Counters;
use crate::error::{failure, refusal};
use crate::lifecycle::finished;
use crate::pump::{self, Pipe};
use crate::table::lock;
use crate::watch::hear;

/// How many ended sessions can still be asked for their ends.
const KEPT: usize = 64;
/// How long an input goes on after the output has ended.
const AFTER_OUTPUT: Duration = Duration::from_secs(1);

/// The sessions of one agent.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: Mutex<BTreeMap<ContainerId, Arc<Live>>>,
    /// Containers whose input somebody sends.
    inputs: Mutex<BTreeSet<ContainerId>>,
    ended: Mutex<VecDeque<ContainerId>>,
}

/// A session that runs.
#[derive(Debug)]
struct Live {
    input: tokio::sync::Mutex<Option<Pipe>>,
    terminal: bool,
    /// Settled when it writes nothing any more.
    silent: Settled<()>,
}

/// Somebody sends a container's input.
struct Claim<'a> {
    sessions: &'a Sessions,
    id: ContainerId,
}

impl Sessions {
    fn get(&self, id: &ContainerId) -> Option<Arc<Live>> {
        lock(&self.live).get(id).cloned()
    }

    fn claim(&self, id: &ContainerId) -> Result<Claim<'_>, Refusal> {
        match lock(&self.inputs).insert(id.clone()) {
            true => Ok(Claim { sessions: self, id: id.clone() }),
            false => Err(Refusal::second_input()),
        }
    }

    /// One has ended; the one that is to be forgotten for it.
    fn ended(&self, id: &ContainerId) -> Option<ContainerId> {
        lock(&self.live).remove(id);
        let mut ended = lock(&self.ended);
        ended.push_back(id.clone());
        if ended.len() > KEPT { ended.pop_front() } else { None }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.sessions.inputs).remove(&self.id);
    }
}

/// Launches a command in the container around it.
pub(crate) async fn launch(
    agent: &Arc<Inner>,
    id: ContainerId,
    config: ContainerConfig,
) -> Result<Session, Refusal> {
    let (own, id) = (Arc::clone(agent), agent.table.resolve(&id));
    finished(agent.tasks.spawn(async move {
        let _operation = own.operations.begin("exec", Some(&id));
        start(&own, id, config).await
    }))
    .await
}

async fn start(agent: &Arc<Inner>, id: ContainerId, config: ContainerConfig) -> Result<Session, Refusal> {
    let parent = id.parent().filter(|parent| agent.table.get(parent).is_some());
    if parent.is_none() {
        let parent = id.parent().map(ToString::to_string).unwrap_or_default();
        return Err(Refusal::bad_request(format!("Parent container {parent} does not exist")));
    }
    if !config.command_info.uris.is_empty() {
        let text =
            "a session gets no URIs: what its container has fetched is there, and more can be copied in";
        return Err(Refusal::of(Class::Unsupported, text));
    }
    let exec = require(agent.containerizer.exec()).map_err(|error| refusal(&error))?;
    if agent.table.get(&id).is_some() {
        return Ok(Session::Other(Launched::AlreadyLaunched));
    }
    let terminal = config.container_info.as_ref().and_then(|info| info.tty_info.as_ref()).map(|tty| {
        let size = tty.window_size.as_ref();
        let number =
            |number: Option<u32>, default| number.and_then(|n| u16::try_from(n).ok()).unwrap_or(default);
        WindowSize {
            rows: number(size.map(|size| size.rows), 24),
            columns: number(size.map(|size| size.columns), 80),
        }
    });
    let request = ExecRequest { command: config.command_info, environment: Default::default(), terminal };
    let session = match exec.run(&id, request).await {
        Ok(session) => session,
        Err(error) => {
            // One of this name that runs is not ours to end.
            if error.class() != Class::Conflict {
                let _ = agent.containerizer.destroy(&id).await;
            }
            return Err(Refusal::bad_request(error.chain()));
        }
    };
    Counters::add(&agent.counters.sessions);
    hear(agent);
    let Attached { stdin, stdout, stderr } = session.streams;
    let pipes = [stdin, stdout, stderr].map(|fd| fd.map(Pipe::new).transpose());
    let [Ok(stdin), Ok(stdout), Ok(stderr)] = pipes else {
        let _ = agent.containerizer.destroy(&id).await;
        return Err(Refusal::failed("no descriptors are left to watch the session's streams with"));
    };
    let silent = Settled::new();
    let live =
        Live { input: tokio::sync::Mutex::new(stdin), terminal: terminal.is_some(), silent: silent.clone() };
    lock(&agent.sessions.live).insert(id.clone(), Arc::new(live));
    let (sender, receiver) = mpsc::channel(2);
    let own = Arc::clone(agent);
    agent.tasks.spawn(async move {
        let client = sender.clone();
        both(stdout, stderr, sender).await;
        silent.settle(());
        // A command closes its output a moment before it ends, and may go on for long without: as long as the client is
        // there, its end is waited for.
        tokio::select! {
            _ = own.containerizer.wait(&id) => {}
            () = client.closed() => {}
        }
        end(&own, &id).await;
    });
    Ok(Session::Started(stream_of(receiver)))
}

/// Passes on what a container writes, until it ends or nobody listens.
async fn both(stdout: Option<Pipe>, stderr: Option<Pipe>, to: mpsc::Sender<Result<ProcessIo, Refusal>>) {
    let other = to.clone();
    tokio::join!(
        pump::output(stdout, process_io::data::Type::Stdout, to),
        pump::output(stderr, process_io::data::Type::Stderr, other),
    );
}

/// The session is over: its container goes, and of many that ended the oldest is forgotten.
async fn end(agent: &Arc<Inner>, id: &ContainerId) {
    if let Err(error) = agent.containerizer.destroy(id).await {
        Counters::add(&agent.counters.destroy_errors);
        tracing::warn!(container = %id, error = error.chain(), "the container of a session is not destroyed");
    }
    hear(agent);
    if let Some(oldest) = agent.sessions.ended(id) {
        // Gone with its parent, or by somebody else's wish, is as good.
        let _ = agent.containerizer.remove(&oldest).await;
        hear(agent);
    }
}

/// What a container writes from now on.
pub(crate) async fn attach_output(
    agent: &Arc<Inner>,
    id: &ContainerId,
) -> Result<Stream<ProcessIo>, Refusal> {
    let id = agent.table.resolve(id);
    let attach = require(agent.containerizer.attach()).map_err(|error| refusal(&error))?;
    let attached =
        attach.connect(&id, Streams::Output).await.map_err(|error| unattached(agent, &id, &error))?;
    let pipe = |fd: Option<std::os::fd::OwnedFd>| {
        let text = |error| Refusal::failed(format!("watch the output of container {id}: {error}"));
        fd.map(Pipe::new).transpose().map_err(text)
    };
    let (stdout, stderr) = (pipe(attached.stdout)?, pipe(attached.stderr)?);
    let (sender, receiver) = mpsc::channel(2);
    agent.tasks.spawn(both(stdout, stderr, sender));
    Ok(stream_of(receiver))
}

/// The words of Mesos for what can not be attached to.
fn unattached(agent: &Inner, id: &ContainerId, error: &berth_contract::Error) -> Refusal {
    let root = agent.table.get(id.root()).and_then(|root| root.record());
    let is_of_executor = root.is_some_and(|root| root.config.executor_info.is_some());
    match error {
        // Below an executor it is the containerizer that is asked, and its failure that is told.
        berth_contract::Error::UnknownContainer(_) if is_of_executor && id.parent().is_some() => {
            Refusal::failed(format!("Unknown container {id}"))
        }
        berth_contract::Error::UnknownContainer(_) => Refusal::no_container(id),
        // Somebody else has the input, or it does not run yet.
        error if error.class() == Class::Conflict => refusal(error),
        error => failure(error),
    }
}

/// Passes input on to a container.
pub(crate) async fn attach_input(
    agent: &Arc<Inner>,
    id: &ContainerId,
    input: Stream<ProcessIo>,
) -> Result<(), Refusal> {
    let id = agent.table.resolve(id);
    let _claim = agent.sessions.claim(&id)?;
    if let Some(session) = agent.sessions.get(&id) {
        let mut stdin = session.input.lock().await;
        let silent = session.silent.clone();
        let to = if session.terminal { Input::Terminal } else { Input::Own };
        return until(silent.wait(), feed(agent, &id, &mut stdin, to, input)).await;
    }
    let attach = require(agent.containerizer.attach()).map_err(|error| refusal(&error))?;
    let attached =
        attach.connect(&id, Streams::Input).await.map_err(|error| unattached(agent, &id, &error))?;
    let text = |error| Refusal::failed(format!("watch the input of container {id}: {error}"));
    let mut stdin = attached.stdin.map(Pipe::new).transpose().map_err(text)?;
    let record = agent.table.get(&id).and_then(|container| container.record());
    let terminal = record.is_some_and(|record| {
        record.config.container_info.as_ref().is_some_and(|info| info.tty_info.is_some())
    });
    let to = if terminal { Input::Terminal } else { Input::Attached };
    let ended = async {
        let _ = agent.containerizer.wait(&id).await;
    };
    until(ended, feed(agent, &id, &mut stdin, to, input)).await
}

/// Whose input is fed, and so what its end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// A session's pipe, which ends when it is closed.
    Own,
    /// A container's, which outlives us.
    Attached,
    /// A terminal, where the client sends the letter that ends its input.
    Terminal,
}

/// Feeds, but not for long after the output has ended.
async fn until(
    ended: impl Future<Output = ()>,
    feeding: impl Future<Output = Result<(), Refusal>>,
) -> Result<(), Refusal> {
    tokio::select! {
        result = feeding => result,
        () = async { ended.await; tokio::time::sleep(AFTER_OUTPUT).await } => Ok(()),
    }
}

async fn feed(
    agent: &Inner,
    id: &ContainerId,
    stdin: &mut Option<Pipe>,
    to: Input,
    mut input: Stream<ProcessIo>,
) -> Result<(), Refusal> {
    while let Some(piece) = std::future::poll_fn(|context| input.as_mut().poll_next(context)).await {
        let ProcessIo { data, control, .. } = piece?;
        if let Some(size) = control.and_then(|control| control.tty_info).and_then(|tty| tty.window_size) {
            resize(agent, id, size.rows, size.columns).await?;
        }
        let Some(bytes) = data.and_then(|data| data.data) else { continue };
        if bytes.is_empty() {
            match to {
                Input::Own => drop(stdin.take()),
                Input::Attached => {
                    let attach = require(agent.containerizer.attach()).map_err(|error| refusal(&error))?;
                    attach.end_input(id).await.map_err(|error| unattached(agent, id, &error))?;
                }
                Input::Terminal => {}
            }
            continue;
        }
        let failed = |why: String| Refusal::failed(format!("Failed writing to stdin: {why}"));
        let pipe = stdin.as_ref().ok_or_else(|| failed("it is closed".to_owned()))?;
        pipe.write(&bytes).await.map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

async fn resize(agent: &Inner, id: &ContainerId, rows: u32, columns: u32) -> Result<(), Refusal> {
    let failed =
        |why: String| Refusal::new(StatusCode::BAD_REQUEST, format!("Unable to set the window size: {why}"));
    let size = u16::try_from(rows).ok().zip(u16::try_from(columns).ok());
    let (rows, columns) = size.ok_or_else(|| failed("no terminal is so large".to_owned()))?;
    let attach = require(agent.containerizer.attach()).map_err(|error| failed(error.to_string()))?;
    attach.resize(id, WindowSize { rows, columns }).await.map_err(|error| failed(error.chain()))
}
