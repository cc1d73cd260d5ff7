// SPDX-License-Identifier: Apache-2.0
//! The fetching child: a process of its own that speaks with servers and unpacks what they sent.
//!
//! It is the agent's own program, started anew, so it shares no memory with it. It has one thread, one message socket,
//! the container's standard streams for its words, and, for what goes into a sandbox, the sandbox's directory. Before
//! it looks at the first URI it has become the container's user and confined itself ([`confine`]); a file for the
//! cache it gets as an open descriptor, so it never reaches the cache itself.

mod confine;
mod external;
mod extract;
mod ftp;
mod http;
mod local;
mod metered;
mod sink;
mod zip;

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};

use berth_model::Class;

use crate::egress::{Egress, Hop};
use crate::uri::Source;
use crate::wire::{self, FromChild, Job, Setup, ToChild};
pub(crate) use external::STAGED;
use sink::Sink;

/// The descriptor at which a child finds its socket.
pub(crate) const CONTROL: i32 = 3;

/// Why an item failed.
#[derive(Debug)]
pub(crate) struct Failure {
    class: Class,
    text: String,
}

impl Failure {
    fn new(class: Class, text: impl Into<String>) -> Failure {
        Failure { class, text: text.into() }
    }

    fn io(what: &str, error: impl Into<std::io::Error>) -> Failure {
        let error = error.into();
        let class = match error.raw_os_error() {
            Some(libc_edquot) if libc_edquot == rustix::io::Errno::DQUOT.raw_os_error() => Class::Exhausted,
            _ => Class::of_io(&error),
        };
        Failure::new(class, format!("{what}: {error}"))
    }
}

/// What all kinds of sources need.
pub(crate) struct Context {
    setup: Setup,
    control: OwnedFd,
    sandbox: Option<OwnedFd>,
}

/// The fetching child's `main`: for the hidden command that [`crate::Program`] names. Its arguments carry nothing.
///
/// Answers the exit status.
pub fn role() -> i32 {
    match serve() {
        Ok(()) => 0,
        Err(failure) => {
            say(&format!("fetch: {}", failure.text));
            1
        }
    }
}

fn serve() -> Result<(), Failure> {
    let _ = berth_sys::signal::set_mask(berth_sys::signal::Set::NONE);
    let control = berth_sys::fd::inherited(CONTROL).map_err(|error| {
        Failure::io("take the socket of the agent; this command is not for people", error)
    })?;
    let (setup, sandbox) = match wire::receive::<Setup>(&control) {
        Ok(Some(first)) => first,
        Ok(None) => return Ok(()),
        Err(error) => return Err(Failure::io("hear from the agent", error)),
    };
    if setup.sandbox != sandbox.is_some() {
        return Err(Failure::new(Class::Internal, "the sandbox did not come with the agent's words"));
    }
    let context = Context { setup, control, sandbox };
    match confine::confine(&context) {
        Ok(confined) => context.tell(&FromChild::Ready { confined })?,
        Err(failure) => {
            context.tell(&FromChild::Failed { class: failure.class.into(), text: failure.text.clone() })?;
            return Err(failure);
        }
    }
    loop {
        let (message, file) = match wire::receive::<ToChild>(&context.control) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(error) => return Err(Failure::io("hear from the agent", error)),
        };
        let done = match (message, file) {
            (ToChild::Fetch(job), None) => context.fetch(&job),
            (ToChild::Extract(job), Some(file)) => context.unpack(&job, File::from(file)),
            _ => Err(Failure::new(Class::Internal, "the agent's words make no sense here")),
        };
        match done {
            Ok(bytes) => context.tell(&FromChild::Done { bytes })?,
            Err(failure) => {
                say(&format!("Failed: {}", failure.text));
                context.tell(&FromChild::Failed { class: failure.class.into(), text: failure.text })?;
            }
        }
    }
}

impl Context {
    fn tell(&self, message: &FromChild) -> Result<(), Failure> {
        let shortened;
        let message = match message {
            FromChild::Failed { class, text } if text.len() > 4096 => {
                let text = text.chars().take(2048).collect::<String>() + " …";
                shortened = FromChild::Failed { class: *class, text };
                &shortened
            }
            message => message,
        };
        wire::send(&self.control, message, None).map_err(|error| Failure::io("answer the agent", error))
    }

    /// Brings one resource to its place.
    fn fetch(&self, job: &Job) -> Result<u64, Failure> {
        say(&format!("Fetching URI '{}'", job.shown));
        let mut sink = Sink::new(self, job);
        match &job.source {
            Source::Local(path) => local::copy(path, &mut sink)?,
            Source::Http(url) => http::download(self, url, &mut sink)?,
            Source::Ftp(url) => ftp::download(self, url, &mut sink)?,
            Source::External(uri) => return external::fetch(self, job, uri, sink),
        }
        let (bytes, file) = sink.finish(job.executable)?;
        self.arrived(job, bytes, file)
    }

    /// Unpacks what has arrived in the sandbox, if it is to be.
    fn arrived(&self, job: &Job, bytes: u64, file: Option<File>) -> Result<u64, Failure> {
        let Some(file) = file else { return Ok(bytes) };
        say(&format!("Fetched '{}' to '{}'", job.shown, shown(&job.output)));
        if job.archive.is_some() {
            self.unpack(job, file)?;
        }
        Ok(bytes)
    }

    fn unpack(&self, job: &Job, archive: File) -> Result<u64, Failure> {
        let Some(sandbox) = &self.sandbox else {
            return Err(Failure::new(Class::Internal, "there is no sandbox to unpack into"));
        };
        let bytes = extract::extract(self, job, sandbox.as_fd(), archive)?;
        say(&format!("Extracted '{}' into the sandbox", shown(&job.output)));
        Ok(bytes)
    }

    /// The addresses of a host that may be spoken to.
    fn resolve(&self, host: &str, port: u16, hop: Hop<'_>) -> Result<Vec<SocketAddr>, Failure> {
        allowed(&self.setup.egress, host, port, hop)
    }
}

/// The addresses of a host that may be spoken to: those go to connect(2) with no other look-up in between.
fn allowed(egress: &Egress, host: &str, port: u16, hop: Hop<'_>) -> Result<Vec<SocketAddr>, Failure> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, port).to_socket_addrs().map_err(|error| {
        let text = format!("Error downloading resource: the name {bare:?} can not be resolved: {error}");
        Failure::new(Class::NotFound, text)
    })?;
    let mut good = Vec::new();
    let mut refused = None;
    for address in found.take(64) {
        match egress.check(address, hop) {
            Ok(()) if !good.contains(&address) => good.push(address),
            Ok(()) => {}
            Err(refusal) => refused = Some(refusal),
        }
    }
    match (good.is_empty(), refused) {
        (false, _) => Ok(good),
        (true, Some(refusal)) => {
            let text = format!("Error downloading resource: {bare:?} is not contacted: {refusal}");
            Err(Failure::new(Class::Denied, text))
        }
        (true, None) => {
            let text = format!("Error downloading resource: the name {bare:?} has no address");
            Err(Failure::new(Class::NotFound, text))
        }
    }
}

/// A line for the container's stderr, where Mesos's fetcher has its log. Nobody can forge a second one.
fn say(line: &str) {
    let plain: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).take(4096).collect();
    let _ = writeln!(std::io::stderr(), "{plain}");
}

fn shown(path: &std::path::Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}
