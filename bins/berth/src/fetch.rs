// SPDX-License-Identifier: Apache-2.0
//! `run --uri`: what is fetched into the sandbox before the command begins, how far that is, and what ends it.

use crate::attach::Signals;
use crate::cli::Run;
use crate::exit::{Failure, say};
use berth_client::{Agent, Connection, Error, Launch, Launched};
use berth_factory::oneshot::{Native, Request};
use berth_fetcher::{Config, Proxies};
use berth_images::Cancel;
use berth_model::{ContainerId, Uri};
use berth_proto::convert::container_id;
use berth_proto::own::event;
use berth_sys::rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is over sooner shows no bar.
const NOTICED: Duration = Duration::from_millis(200);

/// The URIs of `--uri`.
pub(crate) fn uris(args: &Run) -> Result<Vec<Uri>, Failure> {
    args.uri.iter().map(|text| uri(text)).collect()
}

/// `URI[,executable][,extract=false][,cache][,output_file=NAME]`. A URI may have commas of its own: options are what stands
/// at the end, as far as it reads as one.
fn uri(text: &str) -> Result<Uri, Failure> {
    let mut uri = Uri { extract: true, ..Uri::default() };
    let mut rest = text;
    while let Some((before, option)) = rest.rsplit_once(',') {
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let truth = || match value {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(Failure::text(format!("--uri: {name}={other}: must be true or false"))),
        };
        match name {
            "executable" => uri.executable = Some(truth()?),
            "extract" => uri.extract = truth()?,
            "cache" => uri.cache = Some(truth()?),
            "output_file" => match value {
                Some(value) => uri.output_file = Some(value.to_owned()),
                None => return Err(Failure::text("--uri: output_file needs a name, as in output_file=app")),
            },
            _ => break,
        }
        rest = before;
    }
    rest.clone_into(&mut uri.value);
    Ok(uri)
}

/// With what a `berth run` without an agent fetches.
pub(crate) fn prepared(native: Native, uris: &[Uri]) -> Result<Native, Failure> {
    if uris.is_empty() {
        return Ok(native);
    }
    if uris.iter().any(|uri| uri.cache == Some(true)) {
        let text =
            "--uri: only an agent keeps a cache: leave cache away, or run it with --detach or --socket PATH";
        return Err(Failure::text(text));
    }
    let mut config = Config::new(std::path::PathBuf::new());
    // There is no operator who says what relative paths are relative to.
    config.frameworks_home = std::env::current_dir().ok();
    config.proxies = Proxies::from_environment();
    Ok(native.with_fetching(berth_factory::oneshot::Fetching::without_cache(config)))
}

/// Shows how far it is, where stderr is a terminal.
#[derive(Clone)]
pub(crate) struct Bar {
    terminal: bool,
    since: Instant,
    now: Arc<Mutex<Option<(u32, ProgressBar)>>>,
}

/// How far it is.
pub(crate) struct Step<'a> {
    pub(crate) what: &'a str,
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) bytes: u64,
    pub(crate) total: Option<u64>,
    pub(crate) unpacking: bool,
}

impl Bar {
    pub(crate) fn new() -> Bar {
        let terminal = std::io::stderr().is_terminal();
        Bar { terminal, since: Instant::now(), now: Arc::default() }
    }

    pub(crate) fn show(&self, step: &Step<'_>) {
        if !self.terminal || self.since.elapsed() < NOTICED {
            return;
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.as_ref().is_none_or(|(index, _)| *index != step.index) {
            if let Some((_, before)) = now.take() {
                before.finish_and_clear();
            }
            let style = ProgressStyle::with_template(
                "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {msg}",
            );
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
            let prefix = format!("{}/{}", step.index + 1, step.count);
            *now = Some((step.index, ProgressBar::new(0).with_style(style).with_prefix(prefix)));
        }
        if let Some((_, bar)) = &*now {
            bar.set_length(step.total.unwrap_or(step.bytes).max(step.bytes).max(1));
            bar.set_position(step.bytes);
            let doing = if step.unpacking { "unpacking" } else { "fetching" };
            bar.set_message(format!("{doing} {}", crate::text::escaped(step.what)));
        }
    }

    pub(crate) fn done(&self) {
        if let Some((_, bar)) = self.now.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

/// Hears signals while a launch fetches, when nobody else does: one that would end us ends the fetch.
pub(crate) struct Ears {
    over: Arc<OwnedFd>,
    heard: Arc<AtomicI32>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ears {
    /// None, where there is nothing to fetch.
    pub(crate) fn open(request: &mut Request, signals: &Signals) -> Result<Option<Ears>, Failure> {
        if request.config.command_info.uris.is_empty() {
            return Ok(None);
        }
        let failed = |what: &str, error: std::io::Error| Failure::text(format!("{what}: {error}"));
        let over = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let over = Arc::new(over.map_err(|error| failed("make an event descriptor", error.into()))?);
        let signals = signals.as_fd().try_clone_to_owned();
        let signals = signals.map_err(|error| failed("hold the descriptor of signals", error))?;
        let heard = Arc::new(AtomicI32::new(0));
        let cancel = Cancel::new();
        request.cancel = cancel.clone();
        let (until, word) = (Arc::clone(&over), Arc::clone(&heard));
        let listen = move || {
            loop {
                let mut slots = [PollFd::new(&*until, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
                let _ = poll(&mut slots, None);
                if !slots[0].revents().is_empty() {
                    return;
                }
                while let Some(number) = berth_sys::signal::next(&signals) {
                    if ends(number) {
                        word.store(number, Ordering::SeqCst);
                        cancel.cancel();
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(listen);
        let thread = thread.map_err(|error| failed("start a thread for signals", error))?;
        Ok(Some(Ears { over, heard, thread: Some(thread) }))
    }

    /// Hears no longer; the signal that came, if one did.
    pub(crate) fn close(mut self) -> Option<i32> {
        let _ = berth_sys::rustix::io::write(&*self.over, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        Some(self.heard.load(Ordering::SeqCst)).filter(|number| *number != 0)
    }
}

/// HUP, INT, QUIT, TERM.
fn ends(number: i32) -> bool {
    matches!(number, 1 | 2 | 3 | 15)
}

/// What a launch that a signal ended is told with.
pub(crate) fn interrupted(number: i32) -> Failure {
    let code = u8::try_from(128 + number).unwrap_or(crate::exit::OURS);
    Failure::text("the fetch was ended by a signal; nothing is left of the container").code(code)
}

/// Has the agent launch what fetches something: shows how far it is, and destroys it when we are to end.
pub(crate) async fn launch(
    agent: &Agent,
    connection: &mut Connection,
    id: &ContainerId,
    launch: &Launch,
    signals: &Signals,
) -> Result<Result<Launched, Error>, Failure> {
    let failed = |error: std::io::Error| Failure::text(format!("watch for signals: {error}"));
    let signals = crate::session::watch(signals.as_fd()).map_err(failed)?;
    let bar = Bar::new();
    // Events are for show: without them it is launched all the same.
    let mut events = agent.events(None).await.ok();
    let launching = connection.launch(id, launch);
    let mut launching = std::pin::pin!(launching);
    let mut ended = None;
    let launched = loop {
        let next = async {
            match &mut events {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            launched = &mut launching => break launched,
            told = next => match told {
                Ok(Some(event)) => show(&bar, id, &event),
                _ => events = None,
            },
            ready = signals.readable() => {
                let Ok(mut ready) = ready else { continue };
                let mut last = None;
                while let Some(number) = berth_sys::signal::next(signals.get_ref()) {
                    last = Some(number).filter(|number| ends(*number)).or(last);
                }
                ready.clear_ready();
                if let Some(number) = last {
                    ended = Some(number);
                    // While it is launched, any signal destroys it.
                    if let Ok(mut other) = agent.connect().await
                        && let Err(error) = other.kill(id, number).await
                    {
                        say(format_args!("berth: could not end {id}: {}", crate::exit::chain(&error)));
                    }
                }
            }
        }
    };
    bar.done();
    match (launched, ended) {
        (Err(_), Some(number)) => Err(interrupted(number)),
        (launched, _) => Ok(launched),
    }
}

fn show(bar: &Bar, id: &ContainerId, event: &berth_proto::own::Event) {
    let ours =
        event.container_id.as_ref().and_then(|told| container_id(told).ok()).is_some_and(|told| told == *id);
    let (true, event::Type::Advanced, Some(now)) = (ours, event.r#type(), &event.advance) else { return };
    bar.show(&Step {
        what: now.what(),
        index: now.index(),
        count: now.count(),
        bytes: now.bytes(),
        total: now.total_bytes,
        unpacking: now.unpacking(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_at_the_end_and_commas_before_them_are_the_uris() {
        let read = |text: &str| uri(text).unwrap();
        let plain = read("http://h/a,b?x=1,2");
        assert_eq!((plain.value.as_str(), plain.extract, plain.cache), ("http://h/a,b?x=1,2", true, None));
        let all = read("http://h/x,extract=false,cache,executable=true,output_file=bin/y");
        assert_eq!(all.value, "http://h/x");
        assert_eq!((all.extract, all.cache, all.executable), (false, Some(true), Some(true)));
        assert_eq!(all.output_file.as_deref(), Some("bin/y"));
        assert_eq!(read("http://h/x,cache,y").value, "http://h/x,cache,y");
        assert!(uri("http://h/x,cache=maybe").is_err());
        assert!(uri("http://h/x,output_file").is_err());
    }
}
