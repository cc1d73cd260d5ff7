// SPDX-License-Identifier: Apache-2.0
//! The facet Attach: the caller gets pipes, and whoever has the other end of a stream serves them.
//!
//! ```text
//! what it reads                     the supervisor, from our pipe into its own (or the terminal)
//! what it writes, on a terminal     the supervisor, which drops what a slow reader has no room for
//! what it writes, without           its files are followed ([`crate::follow`]); a slow reader is only late
//! ```
//! The supervisor is asked anew each time over its control socket, so it is all the same who started it.

use crate::containerizer::MesosContainerizer;
use crate::entry::Entry;
use crate::owner::Handed;
use crate::request::Output;
use crate::shared::Shared;
use berth_contract::{Answer, Attach, Attached, Error, Streams, WindowSize, ready};
use berth_launcher::{Ask, ask};
use berth_model::{Class, ContainerId, NativeState};
use berth_sys::rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use berth_sys::rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a supervisor may take to answer. It has little else to do.
const SUPERVISOR: Duration = Duration::from_secs(10);
/// How long programs that are being started may hold what somebody else has closed.
const COPIES: Duration = Duration::from_millis(50);
/// Between two attempts meanwhile.
const AGAIN: Duration = Duration::from_millis(2);

impl Attach for MesosContainerizer {
    fn connect(&self, id: &ContainerId, streams: Streams) -> Answer<'_, Attached> {
        let entry = match running(self.shared(), id) {
            Ok(entry) => entry,
            Err(e) => return ready(Err(e)),
        };
        let handed = Handed::default();
        let put = handed.clone();
        let done = self.away(move |shared| {
            put.put(connect(shared, &entry, streams)?);
            Ok(())
        });
        Box::pin(async move {
            done.await?;
            handed.take().ok_or(Error::AttachEnded)
        })
    }

    fn resize(&self, id: &ContainerId, size: WindowSize) -> Answer<'_, ()> {
        match running(self.shared(), id) {
            Ok(entry) => {
                self.away(move |shared| request(shared, &entry.id, Ask::Resize(size.rows, size.columns)))
            }
            Err(e) => ready(Err(e)),
        }
    }

    fn end_input(&self, id: &ContainerId) -> Answer<'_, ()> {
        match running(self.shared(), id) {
            Ok(entry) => self.away(move |shared| request(shared, &entry.id, Ask::EndInput)),
            Err(e) => ready(Err(e)),
        }
    }
}

/// The record of a container that runs.
fn running(shared: &Shared, id: &ContainerId) -> Result<Arc<Entry>, Error> {
    let entry = shared.get(id).ok_or_else(|| Error::UnknownContainer(id.clone()))?;
    let now = entry.now();
    match now.state {
        _ if now.terminated => Err(Error::AttachEnded),
        NativeState::Running => Ok(entry),
        NativeState::Destroying => Err(Error::AttachEnded),
        _ => {
            let text = format!("container {id} does not run yet: wait for its launch");
            Err(Error::other(Class::Conflict, text))
        }
    }
}

fn connect(shared: &Arc<Shared>, entry: &Entry, streams: Streams) -> Result<Attached, Error> {
    let id = &entry.id;
    let listed = shared.native.look(&id.to_string()).map_err(|e| failed(id, &e))?;
    let tty = listed.ok_or(Error::AttachEnded)?.record.tty;
    if entry.session && !tty {
        // Its pipes lead straight to who started it.
        return Err(Error::AttachDisabled);
    }
    let mut attached = Attached { stdin: None, stdout: None, stderr: None };
    // First what somebody else may have.
    if matches!(streams, Streams::Input | Streams::Both) {
        let (theirs, ours) = pipe()?;
        // Who has just left may seem to be there for a moment: a program that this process starts has copies of all its
        // descriptors until it executes.
        let patience = Instant::now() + COPIES;
        loop {
            match request(shared, id, Ask::Input(theirs.as_fd())) {
                Err(e) if e.class() == Class::Conflict && Instant::now() < patience => {
                    std::thread::sleep(AGAIN)
                }
                other => break other?,
            }
        }
        attached.stdin = Some(ours);
    }
    if matches!(streams, Streams::Output | Streams::Both) {
        if tty {
            let (ours, theirs) = pipe()?;
            request(shared, id, Ask::Output(theirs.as_fd()))?;
            attached.stdout = Some(ours);
        } else {
            attached.stdout = Some(follow(shared, id, Output::Stdout)?);
            attached.stderr = Some(follow(shared, id, Output::Stderr)?);
            if entry.now().terminated {
                // It ended meanwhile, and its followers were told before these were there.
                shared.followers.end(id);
            }
        }
    }
    Ok(attached)
}

/// A pipe with what is written to the file from its present end on.
fn follow(shared: &Arc<Shared>, id: &ContainerId, output: Output) -> Result<OwnedFd, Error> {
    let mut log = shared.native.log(&id.to_string(), output).map_err(|e| failed(id, &e))?;
    let io = |e: std::io::Error| Error::because(Class::of_io(&e), format!("attach to container {id}"), e);
    let end = log.end().map_err(io)?;
    log.seek(end);
    let (ours, theirs) = pipe()?;
    let flags = fcntl_getfl(&theirs).map_err(|e| io(e.into()))?;
    fcntl_setfl(&theirs, flags | OFlags::NONBLOCK).map_err(|e| io(e.into()))?;
    shared.followers.add(id, log, theirs, |work| shared.thread(work))?;
    Ok(ours)
}

/// Asks the container's supervisor.
fn request(shared: &Shared, id: &ContainerId, asked: Ask<'_>) -> Result<(), Error> {
    let dir = shared.native.existing(&id.to_string()).map_err(|e| failed(id, &e))?;
    let dir = dir.ok_or(Error::AttachEnded)?;
    match ask(dir.as_fd(), asked, Instant::now() + SUPERVISOR) {
        Ok(()) => Ok(()),
        Err(e) => Err(match (e.class(), &e) {
            (Class::Gone, _) => Error::AttachEnded,
            // The words of Mesos.
            (Class::Conflict, berth_launcher::Error::Asked { why, .. }) => {
                Error::other(Class::Conflict, *why)
            }
            (class, _) => Error::other(class, crate::collect::chain(&e)),
        }),
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|e| {
        let e = std::io::Error::from(e);
        Error::because(Class::of_io(&e), "make a pipe", e)
    })
}

fn failed(id: &ContainerId, e: &crate::Error) -> Error {
    Error::other(e.class(), format!("attach to container {id}: {}", crate::collect::chain(e)))
}
