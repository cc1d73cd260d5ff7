// SPDX-License-Identifier: Apache-2.0
//! This terminal joined to a container of the agent: its output to ours, our input and signals to it, until it ends or
//! somebody detaches. The agent is between; that it goes away ends the session, not the container.

use crate::attach::{
    SIGCHLD, SIGCONT, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, Signals, write_all,
};
use crate::exit::{Failure, OURS, code_of, say};
use crate::keys::Keys;
use crate::terminal;
use berth_client::{Agent, Error, Input, InputAnswer, Records};
use berth_model::{Class, ContainerId};
use berth_proto::agent::response::WaitContainer;
use berth_proto::agent::{ProcessIo, process_io};
use berth_proto::own::{self, LogChunk, log_chunk};
use berth_sys::Errno;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::io::read;
use berth_sys::rustix::process::{Signal, getpid, kill_process};
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// So many interrupts end us, whatever the container does: docker's number.
const INTERRUPTS: u32 = 3;
/// How long after input was not taken the container may end, before that is said.
const COMPLAINT: Duration = Duration::from_secs(1);
/// How long output may be silent after the end, before it is given up: something else holds it open.
const SILENCE: Duration = Duration::from_secs(5);

/// Where what a container writes comes from.
pub(crate) enum Output {
    /// From a session, or from now on.
    Live(Records<ProcessIo>),
    /// From what is kept, from the beginning.
    Kept(Records<LogChunk>),
}

/// How the terminal is joined.
pub(crate) struct Terms {
    pub(crate) interactive: bool,
    /// The container has a terminal.
    pub(crate) tty: bool,
    /// Keys that detach.
    pub(crate) keys: Keys,
    /// Pass signals on.
    pub(crate) proxy: bool,
    /// Without `interactive`: end the container's input, instead of leaving it alone.
    pub(crate) end_input: bool,
}

/// How it was left.
pub(crate) enum Parting {
    /// The container ended, with this code.
    Ended(u8),
    /// By its keys.
    Detached,
}

/// Stays until the container ended or somebody detached. All signals are blocked.
pub(crate) async fn stay(
    agent: &Agent,
    id: &ContainerId,
    output: Output,
    terms: Terms,
    signals: &Signals,
) -> Result<Parting, Failure> {
    let waiting = {
        let (agent, id) = (agent.clone(), id.clone());
        tokio::spawn(async move { agent.connect().await?.wait(&id).await })
    };
    let joined = if terms.interactive || terms.tty || terms.end_input {
        Some(agent.attach_input(id).await.map_err(|e| Failure::client(&e))?)
    } else {
        None
    };
    let (input, answer) = joined.unzip();
    let ours = terms.tty && terms.interactive && std::io::stdin().is_terminal();
    let raw = ours.then(terminal::Raw::enter);
    if let (true, Some(input), Some((rows, columns))) = (terms.tty, &input, terminal::size()) {
        input.resize(rows, columns).await;
    }
    let feeding = feeder(&terms, ours, input.as_ref());
    let signals = watch(signals.as_fd()).map_err(|e| Failure::text(format!("watch for signals: {e}")))?;
    let input = input.filter(|_| terms.tty);
    let (interactive, proxy) = (terms.interactive, terms.proxy);
    let (interrupts, ended, complaint) = (0, None, None);
    let mut session =
        Session { agent, id, input, answer, raw, ours, interactive, proxy, interrupts, ended, complaint };
    session.run(output, waiting, feeding, &signals).await
}

type Waiting = tokio::task::JoinHandle<Result<WaitContainer, Error>>;
/// True when the keys came.
type Feeding = tokio::task::JoinHandle<bool>;

struct Session<'a> {
    agent: &'a Agent,
    id: &'a ContainerId,
    /// For the size of the terminal.
    input: Option<Input>,
    answer: Option<InputAnswer>,
    raw: Option<terminal::Raw>,
    /// Our terminal is the container's.
    ours: bool,
    interactive: bool,
    proxy: bool,
    interrupts: u32,
    ended: Option<Result<WaitContainer, Error>>,
    /// Why input is not taken: most often because the container ends.
    complaint: Option<(Instant, String)>,
}

impl Session<'_> {
    async fn run(
        &mut self,
        output: Output,
        mut waiting: Waiting,
        mut feeding: Option<Feeding>,
        signals: &AsyncFd<BorrowedFd<'_>>,
    ) -> Result<Parting, Failure> {
        let mut output = Some(output);
        loop {
            if output.is_none() && self.ended.is_some() {
                break;
            }
            let silence = async {
                match self.ended {
                    Some(_) => tokio::time::sleep(SILENCE).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                piece = next(&mut output), if output.is_some() => match piece {
                    Ok(Some((stream, bytes))) => match stream {
                        own::Stream::Stdout => write_all(std::io::stdout().as_fd(), &bytes),
                        own::Stream::Stderr => write_all(std::io::stderr().as_fd(), &bytes),
                    },
                    Ok(None) => output = None,
                    Err(error) => return Err(self.lost(&error)),
                },
                end = &mut waiting, if self.ended.is_none() => {
                    let lost = || Failure::text("the wait for the container's end was given up");
                    match end.map_err(|_| lost())? {
                        Err(error) if !error.is_unknown() => return Err(self.lost(&error)),
                        end => self.ended = Some(end),
                    }
                }
                ready = signals.readable() => {
                    if let Ok(mut ready) = ready {
                        while let Some(number) = berth_sys::signal::next(signals.get_ref()) {
                            if let Some(code) = self.signal(number).await {
                                return Ok(Parting::Ended(code));
                            }
                        }
                        ready.clear_ready();
                    }
                }
                detached = fed(&mut feeding), if feeding.is_some() => {
                    feeding = None;
                    if detached {
                        return Ok(Parting::Detached);
                    }
                }
                answer = answered(&mut self.answer), if self.answer.is_some() => {
                    self.answer = None;
                    if let Err(error) = answer {
                        self.heed(&error)?;
                    }
                }
                () = due(&self.complaint), if self.complaint.is_some() => {
                    if let Some((_, why)) = self.complaint.take() {
                        say(format_args!("berth: input is not taken any more: {why}\r"));
                    }
                }
                () = silence => output = None,
            }
        }
        drop(self.raw.take());
        match self.ended.take() {
            Some(Ok(end)) => code_of(&end).map(Parting::Ended),
            Some(Err(error)) => Err(Failure::text(format!("the exit status is unknown: {error}"))),
            None => Err(Failure::text("the exit status is unknown")),
        }
    }

    fn lost(&mut self, error: &Error) -> Failure {
        drop(self.raw.take());
        Failure::text(format!("{error}; the container {} goes on without this terminal", self.id))
    }

    /// Input was refused, or is not taken any more.
    fn heed(&mut self, error: &Error) -> Result<(), Failure> {
        if !self.interactive || self.ended.is_some() {
            return Ok(());
        }
        if !matches!(error.class(), Class::Conflict | Class::Unsupported | Class::Denied | Class::Invalid) {
            self.complaint = Some((Instant::now() + COMPLAINT, error.to_string()));
            return Ok(());
        }
        drop(self.raw.take());
        Err(Failure::text(format!("can not send input to container {}: {error}", self.id)))
    }

    /// The code to end with at once, if so.
    async fn signal(&mut self, number: i32) -> Option<u8> {
        match number {
            SIGCHLD | SIGPIPE | SIGURG | SIGCONT => {}
            SIGWINCH => {
                if let (Some(input), Some((rows, columns))) = (&self.input, terminal::size()) {
                    input.resize(rows, columns).await;
                }
            }
            SIGTSTP | SIGTTIN | SIGTTOU => {
                drop(self.raw.take());
                let _ = kill_process(getpid(), Signal::STOP);
                self.raw = self.ours.then(terminal::Raw::enter);
            }
            number => {
                if matches!(number, SIGINT | SIGTERM) {
                    self.interrupts += 1;
                }
                if !self.proxy || self.interrupts >= INTERRUPTS {
                    drop(self.raw.take());
                    say(format_args!("berth: left container {} by signal {number}", self.id));
                    return Some(u8::try_from(128 + number).unwrap_or(OURS));
                }
                let (agent, id) = (self.agent.clone(), self.id.clone());
                drop(tokio::spawn(async move { agent.connect().await?.kill(&id, number).await }));
            }
        }
        None
    }
}

async fn next(output: &mut Option<Output>) -> Result<Option<(own::Stream, Vec<u8>)>, Error> {
    match output {
        None => Ok(None),
        Some(Output::Live(records)) => loop {
            let Some(io) = records.next().await? else { return Ok(None) };
            if let Some(piece) = written(io) {
                return Ok(Some(piece));
            }
        },
        Some(Output::Kept(records)) => loop {
            let Some(chunk) = records.next().await? else { return Ok(None) };
            if chunk.r#type() == log_chunk::Type::Data
                && let (stream, Some(data)) = (chunk.stream(), chunk.data)
            {
                return Ok(Some((stream, data)));
            }
        },
    }
}

fn written(io: ProcessIo) -> Option<(own::Stream, Vec<u8>)> {
    let data = io.data?;
    let stream = match data.r#type() {
        process_io::data::Type::Stderr => own::Stream::Stderr,
        process_io::data::Type::Stdout => own::Stream::Stdout,
        _ => return None,
    };
    Some((stream, data.data?))
}

async fn due(complaint: &Option<(Instant, String)>) {
    match complaint {
        Some((at, _)) => tokio::time::sleep_until(*at).await,
        None => std::future::pending().await,
    }
}

async fn fed(feeding: &mut Option<Feeding>) -> bool {
    match feeding {
        Some(feeding) => feeding.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

async fn answered(answer: &mut Option<InputAnswer>) -> Result<(), Error> {
    match answer {
        Some(answer) => answer.wait().await,
        None => std::future::pending().await,
    }
}

/// Passes our input on, beside everything else.
fn feeder(terms: &Terms, ours: bool, input: Option<&Input>) -> Option<Feeding> {
    let input = input?.clone();
    if !terms.interactive {
        let end = terms.end_input && !terms.tty;
        return Some(tokio::spawn(async move {
            if end {
                input.end().await;
            }
            false
        }));
    }
    let keys = ours.then(|| terms.keys.clone());
    Some(tokio::spawn(feed(input, keys, terms.tty)))
}

async fn feed(input: Input, mut keys: Option<Keys>, tty: bool) -> bool {
    // A regular file is always ready, and can not be watched.
    let stdin = watch(std::io::stdin()).ok();
    let mut room = vec![0u8; 32 << 10];
    loop {
        if let Some(stdin) = &stdin {
            let Ok(mut ready) = stdin.readable().await else { return false };
            if !is_ready() {
                ready.clear_ready();
                continue;
            }
        }
        let n = match read(std::io::stdin(), &mut room) {
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => {
                tokio::task::yield_now().await;
                continue;
            }
            Err(_) => 0,
        };
        let (passed, detached) = match &mut keys {
            Some(keys) => keys.filter(&room[..n]),
            None => (room[..n].to_vec(), false),
        };
        if !input.data(&passed).await || detached {
            return detached;
        }
        if n == 0 {
            // A terminal has no end: what its user would type means it.
            match tty {
                true => input.data(&[4]).await,
                false => input.end().await,
            };
            return false;
        }
    }
}

#[expect(
    deprecated,
    reason = "what takes its place is unsafe; a type that is AsFd keeps its descriptor open"
)]
pub(crate) fn watch<T: AsFd + AsRawFd>(what: T) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(what, Interest::READABLE)
}

/// Whether stdin can be read without waiting: it is not ours alone, so it stays blocking.
fn is_ready() -> bool {
    let stdin = std::io::stdin();
    let mut slot = [PollFd::new(&stdin, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut slot, Some(&at_once)).is_ok_and(|n| n > 0)
}
