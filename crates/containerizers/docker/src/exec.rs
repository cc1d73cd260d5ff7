// SPDX-License-Identifier: Apache-2.0
//! The facet Exec: further commands in a running container, by the engine. Each is known by the nested id that it was started
//! under, until it is removed, or its container is. Sessions end with the agent: the engine tells their streams to nobody else.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_contract::{Attached, Error, ExecRequest, ExecSession, Phase, Settled, What};
use berth_model::{Class, ContainerId, ContainerTermination, VariableType, WaitStatus};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::engine::{Demultiplexed, ExecCreate, ExecStarted, Source};
use crate::error::{of_io, unsupported, warn};
use crate::kept::{Entry, Shared, key};
use crate::process::Process;

/// How often the engine is asked for the pid of what it has just started; it tells of that to nobody.
const ROUND: Duration = Duration::from_millis(5);
/// What the engine's runtime has for a command that can not be run, as shells do.
const NOT_RUN: [i64; 2] = [126, 127];

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: ContainerId,
    pub(crate) ended: Settled<ContainerTermination>,
    process: Mutex<Option<Arc<Process>>>,
    /// The engine's id of it, once it has begun.
    exec: Mutex<Option<String>>,
    /// The last signal that was sent to it here; 0: none.
    sent: AtomicI32,
}

impl Session {
    fn process(&self) -> Option<Arc<Process>> {
        lock(&self.process).clone()
    }

    /// The engine's id of it.
    pub(crate) fn exec(&self) -> Option<String> {
        lock(&self.exec).clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ended.get().is_some()
    }

    /// False when there is no process any more.
    pub(crate) fn signal(&self, signal: i32) -> Result<bool, Error> {
        let sent = self.process().map(|process| process.signal(signal));
        if signal != 0 && matches!(sent, Some(Ok(()))) {
            self.sent.store(signal, Ordering::Relaxed);
        }
        match sent {
            None | Some(Err(rustix::io::Errno::SRCH)) => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(errno)) => Err(Error::signal(&errno.into())),
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process().map(|process| process.pid)
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<ContainerId, Arc<Session>>>);

impl Sessions {
    pub(crate) fn get(&self, id: &ContainerId) -> Option<Arc<Session>> {
        lock(&self.0).get(id).cloned()
    }

    /// The ids of those that live.
    pub(crate) fn living(&self) -> Vec<ContainerId> {
        lock(&self.0)
            .values()
            .filter(|session| !session.is_over())
            .map(|session| session.id.clone())
            .collect()
    }

    pub(crate) fn remove(&self, id: &ContainerId) {
        lock(&self.0).remove(id);
    }

    /// Forgets those of a container that is removed.
    pub(crate) fn remove_below(&self, parent: &ContainerId) {
        lock(&self.0).retain(|id, _| id.parent() != Some(parent));
    }

    /// Those of a container that has ended have ended with it.
    pub(crate) fn end_below(&self, shared: &Shared, parent: &ContainerId) {
        let below: Vec<_> =
            lock(&self.0).values().filter(|session| session.id.parent() == Some(parent)).cloned().collect();
        for session in below {
            end(shared, &session, Some(WaitStatus::KILLED));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a command.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    id: &ContainerId,
    request: ExecRequest,
) -> Result<ExecSession, Error> {
    let parent = id.parent().ok_or(Error::UnknownRoot)?;
    let missing = || Error::ParentMissing(parent.clone());
    let entry = shared.get(parent).filter(|entry| !entry.is_over()).ok_or_else(missing)?;
    match entry.phase() {
        Phase::Running => {}
        Phase::Destroying => return Err(Error::ParentDestroying(parent.clone())),
        Phase::Paused => {
            let text =
                format!("container {parent} is paused, and so would be what is run in it: resume it first");
            return Err(Error::other(Class::Conflict, text));
        }
        _ => {
            let text = format!("container {parent} does not run yet: wait for its launch");
            return Err(Error::other(Class::Conflict, text));
        }
    }
    let what = wish(&request)?;
    let session = Arc::new(Session {
        id: id.clone(),
        ended: Settled::new(),
        process: Mutex::new(None),
        exec: Mutex::new(None),
        sent: AtomicI32::new(0),
    });
    {
        let mut sessions = lock(&shared.own.sessions.0);
        if sessions.contains_key(id) {
            let text = format!("container {id} exists already: choose another id");
            return Err(Error::other(Class::Conflict, text));
        }
        sessions.insert(id.clone(), Arc::clone(&session));
    }
    let started = start(shared, &entry, &session, &what, &request).await;
    if started.is_err() {
        shared.own.sessions.remove(id);
    }
    started
}

fn wish(request: &ExecRequest) -> Result<ExecCreate, Error> {
    let command = &request.command;
    let mut cmd = Vec::new();
    if command.shell {
        cmd.extend(["/bin/sh".to_owned(), "-c".to_owned()]);
        cmd.extend(command.value.clone());
    } else {
        cmd.extend(command.value.clone());
        // argv[0] is the first of the arguments in Mesos, and of no use to the engine.
        let own_name = command.arguments.first() == command.value.as_ref();
        cmd.extend(command.arguments.iter().skip(usize::from(own_name)).cloned());
    }
    let mut environment = request.environment.clone();
    for variable in &command.environment.variables {
        if variable.r#type == VariableType::Secret {
            return Err(unsupported(format!(
                "the secret in variable '{}' of a further command: give a value",
                variable.name
            )));
        }
        environment.insert(variable.name.clone(), variable.value.clone().unwrap_or_default());
    }
    Ok(ExecCreate {
        attach_stdin: true,
        attach_stdout: true,
        attach_stderr: true,
        tty: request.terminal.is_some(),
        env: environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        cmd,
        user: command.user.clone().unwrap_or_default(),
        working_dir: command.working_directory.clone().unwrap_or_default(),
    })
}

async fn start(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    session: &Arc<Session>,
    what: &ExecCreate,
    request: &ExecRequest,
) -> Result<ExecSession, Error> {
    let deadlines = shared.own.settings.deadlines;
    let tried = format!("Failed to run a command in container {}", entry.record.own.name);
    let exec = shared.own.engine.exec_create(&key(entry), what, deadlines.ask).await;
    let exec = exec.map_err(|error| error.because(&tried))?;
    let started = shared.own.engine.exec_start(&exec, what.tty, deadlines.start).await;
    let started = started.map_err(|error| error.because(&tried))?;
    let engine_id = key(entry);
    // The engine says yes before it has begun, and then tells through the streams why it could not.
    let until = Instant::now() + deadlines.start;
    let code = loop {
        let now = shared
            .own
            .engine
            .exec_inspect(&exec, deadlines.ask)
            .await
            .map_err(|error| error.because(&tried))?;
        if let Some(pid) = now.pid() {
            *lock(&session.process) = Process::of(pid, &engine_id).map(Arc::new);
        }
        match now.exit_code.filter(|_| !now.running) {
            Some(code) => break Some((code, now.pid().is_some())),
            None if now.pid().is_some() => break None,
            None if Instant::now() >= until => {
                return Err(Error::other(Class::Internal, format!("{tried}: it did not begin in time")));
            }
            None => sleep(ROUND).await,
        }
    };
    if let Some((code, false)) = code
        && NOT_RUN.contains(&code)
    {
        return Err(Error::other(Class::Invalid, format!("{tried}: {}", why(started, what.tty).await)));
    }
    if let Some(size) = request.terminal {
        let _ = shared.own.engine.exec_resize(&exec, (size.rows, size.columns), deadlines.ask).await;
    }
    *lock(&session.exec) = Some(exec.clone());
    let streams = connect(shared, session, started, what.tty, exec)?;
    shared.events.publish(&session.id, What::Created(Phase::Running));
    Ok(ExecSession { id: session.id.clone(), streams })
}

/// What the engine writes to the streams of what it could not run.
async fn why(started: ExecStarted, tty: bool) -> String {
    let mut bytes = started.early.to_vec();
    let mut more = Vec::new();
    let mut stream = started.stream.take(4096);
    let read = stream.read_to_end(&mut more);
    let _ = timeout(Duration::from_secs(1), read).await;
    bytes.extend(more);
    let mut text = Vec::new();
    if tty {
        text = bytes;
    } else {
        let mut frames = Demultiplexed::default();
        frames.feed(&bytes);
        while let Ok(Some((_, piece))) = frames.next() {
            text.extend_from_slice(piece);
        }
    }
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if text.is_empty() { "the command can not be run".to_owned() } else { text }
}

/// Gives the caller pipes, and copies between them and the connection until the command has ended.
fn connect(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    started: ExecStarted,
    tty: bool,
    exec: String,
) -> Result<Attached, Error> {
    let (read_half, write_half) = started.stream.into_split();
    let (stdin_from, stdin) = new_pipe()?;
    let (stdout, stdout_to) = new_pipe()?;
    let (stderr, stderr_to) =
        if tty { (None, None) } else { new_pipe().map(|(read, write)| (Some(read), Some(write)))? };
    let input = receiver(stdin_from)?;
    let out = Output::of(stdout_to, stderr_to)?;
    let input = tokio::spawn(send(input, write_half));
    let (own, session) = (Arc::clone(shared), Arc::clone(session));
    let early = started.early;
    tokio::spawn(async move {
        receive(out, read_half, &early, tty).await;
        input.abort();
        let status = status(&own, &session, &exec).await;
        end(&own, &session, status);
    });
    Ok(Attached { stdin: Some(stdin), stdout: Some(stdout), stderr })
}

pub(crate) fn new_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| of_io("make a pipe".to_owned(), errno.into()))
}

/// The end of a pipe to read from.
pub(crate) fn receiver(from: OwnedFd) -> Result<pipe::Receiver, Error> {
    pipe::Receiver::from_owned_fd(from).map_err(unheard)
}

fn unheard(error: std::io::Error) -> Error {
    of_io("listen to a pipe".to_owned(), error)
}

/// From the caller to the command; its end is the command's end of input.
pub(crate) async fn send(mut input: pipe::Receiver, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        match input.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown().await;
}

/// Where what is written goes.
pub(crate) struct Output {
    stdout: Option<pipe::Sender>,
    stderr: Option<pipe::Sender>,
}

impl Output {
    pub(crate) fn of(stdout: OwnedFd, stderr: Option<OwnedFd>) -> Result<Output, Error> {
        Ok(Output {
            stdout: Some(pipe::Sender::from_owned_fd(stdout).map_err(unheard)?),
            stderr: stderr.map(pipe::Sender::from_owned_fd).transpose().map_err(unheard)?,
        })
    }

    /// A reader that is gone loses what comes, and holds up nobody.
    async fn write(&mut self, source: Source, bytes: &[u8]) {
        let place = match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        };
        if let Some(to) = place
            && to.write_all(bytes).await.is_err()
        {
            *place = None;
        }
    }
}

/// Copies what comes from the engine, until it ends.
pub(crate) async fn receive(mut out: Output, mut from: OwnedReadHalf, early: &[u8], tty: bool) {
    let mut frames = Demultiplexed::default();
    let mut buffer = vec![0; 32 << 10];
    buffer[..early.len().min(32 << 10)].copy_from_slice(&early[..early.len().min(32 << 10)]);
    let mut count = early.len().min(32 << 10);
    loop {
        let bytes = &buffer[..count];
        if tty {
            out.write(Source::Stdout, bytes).await;
        } else {
            frames.feed(bytes);
            loop {
                match frames.next() {
                    Ok(Some((source, piece))) => {
                        let piece = piece.to_vec();
                        out.write(source, &piece).await;
                    }
                    Ok(None) => break,
                    Err(why) => return warn(&format!("the streams of a command can not be read: {why}")),
                }
            }
        }
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => count = read,
        }
    }
}

/// How it ended: exactly, where the kernel tells; the engine makes 128 and the signal of it.
async fn status(shared: &Shared, session: &Session, exec: &str) -> Option<WaitStatus> {
    if let Some(process) = session.process() {
        let _ = process.ended().await;
        if let Some(status) = process.status().await {
            return Some(status);
        }
    }
    let deadlines = &shared.own.settings.deadlines;
    let until = Instant::now() + deadlines.late;
    loop {
        match shared.own.engine.exec_inspect(exec, deadlines.ask).await {
            Ok(now) if !now.running => {
                let parent = session.id.parent().and_then(|parent| shared.get(parent));
                let with_it = parent.is_none_or(|parent| parent.is_over() || parent.is_destroyed());
                let sent = session.sent.load(Ordering::Relaxed);
                return now.exit_code.map(|code| told((code & 0xff) as u8, sent, with_it));
            }
            Err(error) if error.is_missing() => return None,
            _ if Instant::now() >= until => return None,
            _ => sleep(ROUND * 10).await,
        }
    }
}

/// The engine's number as a status: 128 and more is a signal where one was sent, or where its container ended under it.
fn told(code: u8, sent: i32, with_its_container: bool) -> WaitStatus {
    match code {
        128.. if sent != 0 && i32::from(code) == 128 + sent => WaitStatus::of_signal(code - 128),
        137 if sent != 0 || with_its_container => WaitStatus::KILLED,
        code => WaitStatus::of_exit(code),
    }
}

/// Once: whoever comes first.
fn end(shared: &Shared, session: &Session, status: Option<WaitStatus>) {
    let message =
        status.is_none().then(|| "the exit status is unknown: the engine says nothing of it".to_owned());
    let termination = ContainerTermination {
        message,
        status: status.map(|status| status.0),
        ..ContainerTermination::default()
    };
    if session.ended.settle(termination.clone()) {
        shared.events.publish(&session.id, What::Moved { from: Phase::Running, to: Phase::Terminated });
        shared.events.publish(&session.id, What::Ended(termination));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_number_is_a_signal_only_where_one_is_known_of() {
        assert_eq!(told(3, 0, false), WaitStatus::of_exit(3));
        assert_eq!(told(137, 0, false), WaitStatus::of_exit(137));
        assert_eq!(told(137, 0, true), WaitStatus::KILLED);
        assert_eq!(told(143, 15, false), WaitStatus::of_signal(15));
        assert_eq!(told(137, 15, false), WaitStatus::KILLED);
        assert_eq!(told(128, 0, false), WaitStatus::of_exit(128));
        assert_eq!(told(143, 0, true), WaitStatus::of_exit(143));
    }
}
