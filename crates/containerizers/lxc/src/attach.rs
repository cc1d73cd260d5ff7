// SPDX-License-Identifier: Apache-2.0
//! The facet Attach: what a container writes from now on. It writes its files in the sandbox itself, and nobody is in
//! between, so these are followed, by a thread for each that somebody reads; who reads slowly is only late.
//!
//! A container reads nothing: lxc-start has no terminal, and its pipe would end with the agent.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use berth_contract::{Answer, Attach, Attached, Error, Phase, Streams, WindowSize, ready};
use berth_keeper::sandbox::open_directory;
use berth_model::{Class, ContainerId};
use berth_sys::Errno;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, inotify, openat};
use berth_sys::rustix::io::{read, write};
use berth_sys::rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::AsFd;

use crate::containerizer::Lxc;
use crate::error::of_io;
use crate::kept::{Entry, Shared};
use crate::process::is_readable;

/// How much is copied at once.
const ROOM: usize = 32 << 10;

impl Attach for Lxc {
    fn connect(&self, id: &ContainerId, streams: Streams) -> Answer<'_, Attached> {
        if self.shared().own.sessions.get(id).is_some() || streams != Streams::Output {
            // A session's streams lead straight to who started it, and a container reads nothing.
            let known = self.shared().own.sessions.get(id).is_some() || self.shared().knows(id);
            let error = if known { Error::AttachDisabled } else { Error::UnknownContainer(id.clone()) };
            return ready(Err(error));
        }
        let entry = match running(self.shared(), id) {
            Ok(entry) => entry,
            Err(error) => return ready(Err(error)),
        };
        ready(follow(self.shared(), &entry, "stdout").and_then(|stdout| {
            let stderr = Some(follow(self.shared(), &entry, "stderr")?);
            Ok(Attached { stdin: None, stdout: Some(stdout), stderr })
        }))
    }

    fn resize(&self, id: &ContainerId, size: WindowSize) -> Answer<'_, ()> {
        let session = self.shared().own.sessions.get(id);
        if let Some(resized) = session.and_then(|session| session.resize(size)) {
            return ready(resized);
        }
        let known = self.shared().own.sessions.get(id).is_some() || self.shared().knows(id);
        ready(Err(match known {
            true => Error::other(Class::Conflict, format!("container {id} has no terminal")),
            false => Error::UnknownContainer(id.clone()),
        }))
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

/// A pipe with what is written to a file of output from its present end on.
fn follow(shared: &Arc<Shared>, entry: &Entry, name: &str) -> Result<OwnedFd, Error> {
    let init = entry.own.init().ok_or(Error::AttachEnded)?;
    let what = || format!("attach to {name} of container {}", entry.id);
    let directory = open_directory(&entry.record.config.directory).map_err(of_io(what()))?;
    // What the container may have put in its place is neither followed nor waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let errno = |errno: Errno| of_io(what())(errno.into());
    let file = File::from(openat(&directory, name, flags, Mode::empty()).map_err(errno)?);
    let metadata = file.metadata().map_err(of_io(what()))?;
    if !metadata.is_file() {
        return Err(Error::other(Class::Conflict, format!("{}: it is no file any more", what())));
    }
    let watcher =
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(errno)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    inotify::add_watch(&watcher, path, inotify::WatchFlags::MODIFY).map_err(errno)?;
    let (ours, sink) = pipe_with(PipeFlags::CLOEXEC).map_err(errno)?;
    fcntl_getfl(&sink).and_then(|flags| fcntl_setfl(&sink, flags | OFlags::NONBLOCK)).map_err(errno)?;
    let at = metadata.len();
    shared.work(move |shared| copy(shared, &file, at, &watcher, &sink, &init.fd))?;
    Ok(ours)
}

/// Copies until the container has ended and all is copied, or nobody reads any more, or the agent goes.
fn copy(shared: &Shared, file: &File, mut at: u64, watcher: &OwnedFd, sink: &OwnedFd, init: &OwnedFd) {
    let mut room = vec![0; ROOM];
    let mut rest: Vec<u8> = Vec::new();
    while !shared.is_leaving() {
        // Before it is read: what was written until then is read.
        let over = is_readable(init);
        // One look is for so much: there may be more, and nothing says so again.
        let mut more = true;
        if rest.is_empty() {
            if file.metadata().is_ok_and(|metadata| metadata.len() < at) {
                // It was emptied.
                at = 0;
            }
            let Ok(count) = file.read_at(&mut room, at) else { return };
            more = count > 0;
            rest.extend_from_slice(&room[..count]);
            at += count as u64;
        }
        match write(sink, &rest) {
            Ok(count) => drop(rest.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return,
        }
        if rest.is_empty() && over && !more {
            return;
        }
        let full = !rest.is_empty();
        let mut fds = vec![
            PollFd::from_borrowed_fd(shared.leave_bell().as_fd(), PollFlags::IN),
            // Even without a wish poll(2) tells when nobody reads any more.
            PollFd::new(sink, if full { PollFlags::OUT } else { PollFlags::empty() }),
        ];
        if !full {
            fds.extend([PollFd::new(watcher, PollFlags::IN), PollFd::new(init, PollFlags::IN)]);
        }
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = poll(&mut fds, (more && !full).then_some(&at_once));
        if fds[1].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            return;
        }
        let _ = read(watcher, &mut [0u8; 4096]);
    }
}
