// SPDX-License-Identifier: Apache-2.0
//! Who speaks with a supervisor: its owner on an inherited socket, and whoever comes through `ctl`.

use super::{CLIENTS, Client, Phase, Supervisor, unblocked};
use crate::logging::Logging;
use crate::logs::{Given, Logs};
use crate::protocol::{self, DATA, Kind, Message, refusal};
use crate::wire::{self, attend};
use berth_sys::rustix::event::PollFlags;
use berth_sys::rustix::fd::OwnedFd;
use berth_sys::rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use berth_sys::rustix::termios::{Winsize, tcsetwinsize};
use berth_sys::{Errno, Result, signal};
use core::ffi::CStr;

impl Supervisor {
    /// Opens `ctl`. A container without it can still be killed; so a failure is not the container's end.
    pub(super) fn listen(&mut self) {
        let open = || -> Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            // Reached through the directory's descriptor: its path may be longer than sun_path.
            let mut path = *b"/proc/self/fd/00/ctl\0";
            let directory = self.files[attend::DIRECTORY].as_ref().ok_or(Errno::BADF)?;
            let number = berth_sys::rustix::fd::AsRawFd::as_raw_fd(directory);
            if number > 99 {
                return Err(Errno::BADF);
            }
            (path[14], path[15]) = (b'0' + (number / 10) as u8, b'0' + (number % 10) as u8);
            let from = if number < 10 {
                path.copy_within(15.., 14);
                &path[..20]
            } else {
                &path[..]
            };
            let path = CStr::from_bytes_until_nul(from).map_err(|_| Errno::INVAL)?;
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            listen(&socket, CLIENTS as i32)?;
            Ok(socket)
        };
        self.control = open().ok();
    }

    pub(super) fn greet(&mut self) {
        let Some(control) = &self.control else { return };
        let Ok(socket) = accept_with(control, SocketFlags::CLOEXEC) else { return };
        // The directory is 0700; whoever came through it and is not root or our own user is refused anyway.
        let ours = berth_sys::rustix::process::geteuid();
        match berth_sys::rustix::net::sockopt::socket_peercred(&socket) {
            Ok(peer) if peer.uid.is_root() || peer.uid == ours => {}
            _ => return,
        }
        let Some(free) = self.clients[1..].iter_mut().find(|c| c.is_none()) else { return };
        let hello = Message::new(Kind::Hello, wire::VERSION, self.pid as u32);
        if protocol::send(&socket, hello, &[], &[]).is_ok() {
            *free = Some(Client { socket, attached: false });
        }
    }

    /// Not a part of `watch`: the pages of its buffer would be touched at each container's start.
    #[inline(never)]
    pub(super) fn client(&mut self, index: usize, flags: PollFlags, logs: &mut Logs) {
        let Some(client) = &mut self.clients[index] else { return };
        if index == 0 && flags.contains(PollFlags::OUT) && !self.pending.is_empty() {
            let output = Message::new(Kind::Output, 0, 0);
            match protocol::try_send(&client.socket, output, self.pending.bytes()) {
                Ok(()) => self.pending.clear(),
                Err(Errno::AGAIN) => {}
                Err(_) => return self.gone(index),
            }
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let mut data = [0u8; DATA];
        let mut fds = [const { None }; attend::MOST];
        let Some(client) = &mut self.clients[index] else { return };
        match protocol::receive(&client.socket, &mut data, &mut fds) {
            Ok(Some((Message { kind: Kind::Attend, a: flags, b: named }, n))) => {
                let data = &data[..n.min(DATA)];
                let Some((title, logging)) = data.split_at_checked(named as usize) else { return };
                if let (Some(rename), Some(proof), false) = (self.rename, &self.proof, title.is_empty()) {
                    rename(title, proof);
                }
                self.attend(index, flags, fds, logging, logs)
            }
            Ok(Some((Message { kind: Kind::AttachOutput, .. }, _))) => {
                let [descriptor, ..] = fds;
                let done = self.attach_output(descriptor);
                self.answer(index, done);
            }
            Ok(Some((Message { kind: Kind::AttachInput, .. }, _))) => {
                let [descriptor, ..] = fds;
                let done = match descriptor.map(unblocked) {
                    Some(Ok(source)) => self.input.attach(source, self.master.as_ref()),
                    _ => Err(refusal::DESCRIPTOR),
                };
                self.answer(index, done);
            }
            Ok(Some((message, n))) => self.asked(index, message, &data[..n.min(DATA)]),
            Ok(None) => self.gone(index),
            Err(Errno::AGAIN | Errno::PROTO) => {}
            Err(_) => self.gone(index),
        }
    }

    fn attend(
        &mut self,
        index: usize,
        flags: u32,
        mut fds: [Option<OwnedFd>; attend::MOST],
        data: &[u8],
        logs: &mut Logs,
    ) {
        let always = fds[..attend::COUNT].iter().all(Option::is_some);
        if index != 0 || self.phase != Phase::Forked || !always {
            return;
        }
        let mut all = fds.iter_mut();
        for (file, came) in self.files.iter_mut().zip(&mut all) {
            *file = came.take();
        }
        let mut next = |flag: u32| match flags & flag {
            0 => None,
            _ => all.next().and_then(Option::take).and_then(|fd| unblocked(fd).ok()),
        };
        self.input.set_pipe(next(wire::FLAG_INPUT));
        self.sinks.hold(next(wire::FLAG_SINK));
        self.input.begin(next(wire::FLAG_SOURCE));
        let piped = if flags & wire::FLAG_TTY == 0 { wire::FLAG_LOGGED } else { 0 };
        let sources = [next(piped), next(piped)];
        let links = all.next().and_then(Option::take).filter(|_| flags & wire::FLAG_LINKS != 0);
        if let (true, Some(work)) = (flags & wire::FLAG_LOGGED != 0, &self.files[attend::WORK])
            && let Some(logging) = Logging::read(data)
        {
            logs.begin(&logging, Given { sources, links }, work, self.proof.as_ref());
        }
        self.flags = flags;
        if let Some(owner) = &mut self.clients[0] {
            owner.attached = flags & wire::FLAG_TTY != 0 && flags & wire::FLAG_DETACHED == 0;
        }
    }

    fn attach_output(&mut self, descriptor: Option<OwnedFd>) -> core::result::Result<(), u32> {
        if self.master.is_none() {
            return Err(refusal::NO_TERMINAL);
        }
        match descriptor.map(unblocked) {
            Some(Ok(reader)) => self.sinks.add(reader),
            _ => Err(refusal::DESCRIPTOR),
        }
    }

    /// Tells a client of `ctl` what came of its request. The owner asks for nothing that could be refused, or knows.
    fn answer(&mut self, index: usize, done: core::result::Result<(), u32>) {
        let Some(client) = self.clients[index].as_ref().filter(|_| index != 0) else { return };
        let message = match done {
            Ok(()) => Message::new(Kind::Done, 0, 0),
            Err(why) => Message::new(Kind::Refused, why, 0),
        };
        let _ = protocol::try_send(&client.socket, message, &[]);
    }

    fn asked(&mut self, index: usize, message: Message, data: &[u8]) {
        match message.kind {
            Kind::Go if index == 0 && self.phase == Phase::Forked && self.files[0].is_some() => {
                self.phase = Phase::Committed;
                if let Some(child) = &self.child {
                    let _ = protocol::send(child, Message::new(Kind::Go, 0, 0), &[], &[]);
                }
            }
            Kind::Signal => {
                let _ = signal::send(&self.pidfd, message.a as i32);
            }
            Kind::Resize => {
                let (ws_row, ws_col) = (message.a as u16, message.b as u16);
                let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
                let set = self.master.as_ref().map(|master| tcsetwinsize(master, size));
                let done = if matches!(set, Some(Ok(()))) { Ok(()) } else { Err(refusal::NO_TERMINAL) };
                self.answer(index, done);
            }
            Kind::Input => {
                if let Err(why) = self.input.hear(index, data, self.master.as_ref()) {
                    self.answer(index, Err(why));
                }
            }
            Kind::EndInput => {
                self.input.end(self.master.as_ref());
                self.answer(index, Ok(()));
            }
            Kind::Attach => {
                if let Some(client) = &mut self.clients[index] {
                    client.attached = true;
                }
            }
            _ => {}
        }
    }

    pub(super) fn gone(&mut self, index: usize) {
        self.clients[index] = None;
        self.input.gone(index);
        if index == 0 && self.sinks.sink().is_none() {
            self.pending.clear();
        }
        if index == 0 && self.phase == Phase::Forked {
            // Nobody committed to this container: it ends here.
            let _ = signal::send(&self.pidfd, 9);
        }
    }
}
