// SPDX-License-Identifier: Apache-2.0
//! The facet Attach: the engine's own connections to what a container reads and writes, one for each direction, so that an
//! end of the one is none of the other.
//!
//! Input is there with a terminal only. Without one the engine gives a container nothing to read, as `docker run` does; and
//! where it would, it has no word for an end of input that does not come with the end of the connection, and so with that of
//! an agent that is killed.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_contract::{Answer, Attach, Attached, Error, Phase, Streams, WindowSize, ready};
use berth_model::{Class, ContainerId};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::containerizer::Docker;
use crate::error::of_io;
use crate::exec::{self, Output};
use crate::kept::{Entry, Shared, key};

impl Attach for Docker {
    fn connect(&self, id: &ContainerId, streams: Streams) -> Answer<'_, Attached> {
        if self.shared().own.sessions.get(id).is_some() {
            // Its streams lead straight to who started it.
            return ready(Err(Error::AttachDisabled));
        }
        let entry = match running(self.shared(), id) {
            Ok(entry) => entry,
            Err(error) => return ready(Err(error)),
        };
        let (place, answer) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(self.shared());
        self.spawn(async move { _ = place.send(connect(&shared, &entry, streams).await) });
        Box::pin(async move { answer.await.unwrap_or(Err(Error::AttachEnded)) })
    }

    fn resize(&self, id: &ContainerId, size: WindowSize) -> Answer<'_, ()> {
        let session = self.shared().own.sessions.get(id);
        if let Some(exec) = session.as_ref().and_then(|session| session.exec()) {
            return self.answer(|shared| async move {
                let (size, limit) = ((size.rows, size.columns), shared.own.settings.deadlines.ask);
                let resized = shared.own.engine.exec_resize(&exec, size, limit).await;
                resized.map_err(|error| error.because("Failed to resize the terminal of a command"))
            });
        }
        let entry = match running(self.shared(), id) {
            Ok(entry) if has_terminal(&entry) => entry,
            Ok(_) => return ready(Err(no_terminal(id))),
            Err(error) => return ready(Err(error)),
        };
        self.answer(|shared| async move {
            let (size, limit) = ((size.rows, size.columns), shared.own.settings.deadlines.ask);
            let resized = shared.own.engine.resize(&key(&entry), size, limit).await;
            let tried = format!("Failed to resize the terminal of container {}", entry.record.own.name);
            resized.map_err(|error| error.because(&tried))
        })
    }

    fn end_input(&self, id: &ContainerId) -> Answer<'_, ()> {
        // On a terminal there is nothing to do, and elsewhere no input.
        ready(running(self.shared(), id).map(drop))
    }
}

/// One that runs.
fn running(shared: &Shared, id: &ContainerId) -> Result<Arc<Entry>, Error> {
    let entry = shared.get(id).ok_or_else(|| Error::UnknownContainer(id.clone()))?;
    match entry.phase() {
        Phase::Running | Phase::Paused => Ok(entry),
        Phase::Destroying | Phase::Terminated => Err(Error::AttachEnded),
        _ => {
            let text = format!("container {id} does not run yet: wait for its launch");
            Err(Error::other(Class::Conflict, text))
        }
    }
}

pub(crate) fn has_terminal(entry: &Entry) -> bool {
    entry.record.config.container_info.as_ref().is_some_and(|info| info.tty_info.is_some())
}

fn no_terminal(id: &ContainerId) -> Error {
    Error::other(Class::Conflict, format!("container {id} has no terminal"))
}

/// Says that somebody has the input, until it is dropped.
struct Claim(Arc<Entry>);

impl Claim {
    fn of(entry: &Arc<Entry>) -> Result<Claim, Error> {
        let mut taken = false;
        entry.own.change(|facts| taken = std::mem::replace(&mut facts.input, true));
        match taken {
            // The words of Mesos.
            true => Err(Error::other(Class::Conflict, "Multiple input connections are not allowed")),
            false => Ok(Claim(Arc::clone(entry))),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.own.change(|facts| facts.input = false);
    }
}

async fn connect(shared: &Arc<Shared>, entry: &Arc<Entry>, streams: Streams) -> Result<Attached, Error> {
    let tty = has_terminal(entry);
    let mut attached = Attached { stdin: None, stdout: None, stderr: None };
    // First what somebody else may have.
    if matches!(streams, Streams::Input | Streams::Both) {
        if !tty {
            return Err(Error::AttachDisabled);
        }
        attached.stdin = Some(input(shared, entry).await?);
    }
    if matches!(streams, Streams::Output | Streams::Both) {
        let (stdout, stderr) = output(shared, entry, tty).await?;
        (attached.stdout, attached.stderr) = (Some(stdout), stderr);
    }
    Ok(attached)
}

fn failed(entry: &Entry) -> String {
    format!("Failed to attach to container {}", entry.record.own.name)
}

async fn input(shared: &Arc<Shared>, entry: &Arc<Entry>) -> Result<OwnedFd, Error> {
    let claim = Claim::of(entry)?;
    let limit = shared.own.settings.deadlines.ask;
    let started = shared.own.engine.attach(&key(entry), "stdin=1", limit).await;
    let started = started.map_err(|error| error.because(&failed(entry)))?;
    let (from, ours) = exec::new_pipe()?;
    let from = exec::receiver(from)?;
    // The reading half tells nothing, but has to be there as long as the other.
    let (held, to) = started.stream.into_split();
    let entry = Arc::clone(entry);
    tokio::spawn(async move {
        let ended = entry.ended.wait();
        tokio::select! {
            () = exec::send(from, to) => {}
            _ = ended => {}
        }
        drop((held, claim));
    });
    Ok(ours)
}

async fn output(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    tty: bool,
) -> Result<(OwnedFd, Option<OwnedFd>), Error> {
    let limit = shared.own.settings.deadlines.ask;
    let started = shared.own.engine.attach(&key(entry), "stdout=1&stderr=1", limit).await;
    let started = started.map_err(|error| error.because(&failed(entry)))?;
    let (stdout, to_stdout) = exec::new_pipe()?;
    let (stderr, to_stderr) =
        if tty { (None, None) } else { exec::new_pipe().map(|(ours, theirs)| (Some(ours), Some(theirs)))? };
    let watched = to_stdout.try_clone().map_err(|error| of_io("copy a descriptor".to_owned(), error))?;
    let out = Output::of(to_stdout, to_stderr)?;
    let (from, held) = started.stream.into_split();
    let early = started.early;
    tokio::spawn(async move {
        tokio::select! {
            () = exec::receive(out, from, &early, tty) => {}
            () = left(watched) => {}
        }
        drop(held);
    });
    Ok((stdout, stderr))
}

/// Waits until nobody reads a pipe any more.
async fn left(writer: OwnedFd) {
    #[expect(
        deprecated,
        reason = "its safe form is for descriptors that stay open, and this one does: it is owned"
    )]
    let Ok(writer) = AsyncFd::with_interest(writer, Interest::ERROR) else {
        return std::future::pending().await;
    };
    let _ = writer.ready(Interest::ERROR).await;
}
