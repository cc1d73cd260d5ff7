// SPDX-License-Identifier: Apache-2.0
//! The supervisor itself: one thread, one loop.
//!
//! ```text
//!          prepare             attend, go / gate passed         end of the child
//! WAITING ─────────> FORKED ───────────────────────> RUNNING ───────────────────> record written, reaped, told
//!                       └── owner gone, or a step failed: the child is killed ──────┘
//! ```
//! Until the owner said `go` its end ends the container: nothing was promised yet, and a pid that is on record already is
//! taken back, so that it is known that nothing ran. After that the supervisor survives whoever started it. The exit record is written before the child is reaped; its file was made
//! beforehand, so a full disk can not lose a status.
//!
//! The child is made before its plan exists: making the namespaces is the longest part of a launch, and goes on while
//! the owner makes the rest. The plan comes to the child on a socket of its own.
//!
//! A supervisor begins in one of two ways: executed as `berth-init` ([`main`]), or as a process that shares the memory of
//! its owner ([`attend()`], see `berth_sys::early`). One of the second kind costs its launch no exec; when its container
//! turns out to run for longer than [`SHORT`], it executes `berth-init` too, and hands over to it what it holds: so a
//! supervisor that stays is a small one, and does not depend on its owner's program.

use crate::child::{self, Spare};
use crate::chunk::Chunk;
use crate::input::Input;
use crate::logs::Logs;
use crate::look::{Look, sooner, timespec};
use crate::output::{READERS, Sinks};
use crate::protocol::{self, DATA, Kind, Message};
use crate::state::{self, Role};
use crate::wire::{self, attend};
use crate::within;
use berth_sys::process::{Namespaces, Side, SingleThreaded, enter, exit, fork};
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use berth_sys::rustix::fd::{AsFd, OwnedFd};
use berth_sys::rustix::fs;
use berth_sys::rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use berth_sys::rustix::pipe::{PipeFlags, pipe_with};
use berth_sys::rustix::process::{WaitId, WaitIdOptions, waitid};
use berth_sys::rustix::thread::sched_getaffinity;
use berth_sys::rustix::time::{ClockId, clock_gettime};
use berth_sys::{Errno, Result, fd, signal};
use core::ffi::CStr;

mod clients;

/// The number at which the owner's socket is inherited.
pub const OWNER: i32 = 3;
/// The number at which the child's socket for its plan is inherited.
pub const PLAN: i32 = 4;
/// The exit record before it is one.
pub const RECORD_BEFORE: &CStr = c".status";
/// The exit record: the wait status word in decimal (as Mesos's `status`).
pub const RECORD: &CStr = c"status";
/// The owner writes the child's pid here before it says go.
pub const PID: &CStr = c"pid";
/// The control socket.
pub const CONTROL: &CStr = c"ctl";

const CLIENTS: usize = 8;

/// How long a supervisor goes on in its owner's memory after the program was executed.
pub const SHORT: Timespec = Timespec { tv_sec: 0, tv_nsec: 30_000_000 };

/// Gives this process another name in process lists.
pub type Rename = fn(&[u8], &SingleThreaded);

/// What a supervisor that has left its owner's memory is called in process lists.
pub type Leave = fn() -> &'static CStr;

/// What `berth-init` does.
pub fn main(rename: Rename) -> ! {
    let proof = SingleThreaded::at_start_of_program();
    if let Ok(state) = state::inherited() {
        let result = match state::Saved::read(&state) {
            Ok((Role::Supervisor, saved)) => resume(saved, proof),
            Ok((Role::Child, saved)) => child::resume(saved),
            Err(e) => Err(e),
        };
        exit(if result.is_ok() { 0 } else { 125 });
    }
    let sockets = fd::inherited(OWNER).and_then(|owner| Ok((owner, fd::inherited(PLAN)?)));
    match sockets.and_then(|(owner, plan)| supervise(proof, rename, owner, plan)) {
        Ok(()) => exit(0),
        Err(_) => exit(125),
    }
}

fn supervise(proof: SingleThreaded, rename: Rename, owner: OwnedFd, plan: OwnedFd) -> Result<()> {
    let mut within = [None];
    let Some((message, _)) = protocol::receive(&owner, &mut [], &mut within)? else { return Ok(()) };
    if message.kind != Kind::Prepare {
        return Err(Errno::PROTO);
    }
    if let (1, [Some(process)]) = (message.b, &within) {
        // The child is in the container's pid namespace from its first moment, where others may look at it: it must be
        // closed to them from then on (CVE-2016-9962), so it gets that from here.
        let closed = berth_sys::rustix::process::set_dumpable_behavior(
            berth_sys::rustix::process::DumpableBehavior::NotDumpable,
        );
        if let Err(e) = closed.and_then(|()| enter(process.as_fd(), Namespaces::PID)) {
            let refused = Message::new(Kind::Refused, 3, e.raw_os_error() as u32);
            return protocol::send(&owner, refused, &[], &[]);
        }
    }
    // The child closes its end by its exec, before that of the socket. A message's, or a socket's, end has who hears it wait
    // for the processor on which the program begins, though another be free: for as long as the program runs.
    let (executes, held) = pipe_with(PipeFlags::CLOEXEC)?;
    let (ours, childs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut namespaces = Namespaces::from_bits(message.a.into());
    let mut spare = None;
    if let (2, [bell]) = (message.b, &mut within)
        && let Some(bell) = bell.take()
    {
        rename(b"spare", &proof);
        // Until it is known what for, it is to hold none of the host's mounts, and to miss none.
        let later = if namespaces.has(Namespaces::MOUNT) { Namespaces::MOUNT } else { Namespaces::default() };
        namespaces = namespaces.without(later);
        spare = Some(Spare { bell, later, processors: sched_getaffinity(None).ok() });
    }
    drop(within);
    let made = match message.b == 1 && namespaces.has(Namespaces::PID) {
        true => within::fork_below(&proof, namespaces),
        false => fork(&proof, namespaces),
    };
    let (pid, pidfd) = match made {
        Ok(Side::Child) => {
            // The owner's end must close with the supervisor's copy, not with ours.
            drop((owner, ours, executes));
            child::main(plan.as_fd(), childs.as_fd(), spare)
        }
        Ok(Side::Parent(pid, pidfd)) => (pid, pidfd),
        Err(e) => {
            let refused = Message::new(Kind::Refused, 3, e.raw_os_error() as u32);
            return protocol::send(&owner, refused, &[], &[]);
        }
    };
    drop((childs, plan, spare, held));
    watch_over(owner, (ours, Some(executes)), (pid, pidfd), None, Some((proof, rename)))
}

/// What a supervisor does that was made with its child before its owner's `main`, and shares its owner's memory.
#[cfg(feature = "early")]
pub fn attend(begun: berth_sys::early::Supervising, leave: Leave) -> ! {
    let berth_sys::early::Supervising { owner, child, made } = begun;
    let supervise = || -> Result<()> {
        let Some((message, _)) = protocol::receive(&owner, &mut [], &mut [])? else {
            // Nobody knows the child.
            if let Ok((_, pidfd)) = &made {
                let _ = signal::send(pidfd, 9);
                let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            }
            return Ok(());
        };
        if message.kind != Kind::Prepare {
            return Err(Errno::PROTO);
        }
        match made {
            Ok((pid, pidfd)) => watch_over(owner, (child, None), (pid, pidfd), Some(leave), None),
            Err(e) => {
                let refused = Message::new(Kind::Refused, 3, e.raw_os_error() as u32);
                protocol::send(&owner, refused, &[], &[])
            }
        }
    };
    match supervise() {
        Ok(()) => exit(0),
        Err(_) => exit(125),
    }
}

/// From the making of the child to its end.
fn watch_over(
    owner: OwnedFd,
    (child, executes): (OwnedFd, Option<OwnedFd>),
    (pid, pidfd): (i32, OwnedFd),
    leave: Option<Leave>,
    alone: Option<(SingleThreaded, Rename)>,
) -> Result<()> {
    let (proof, rename) = alone.unzip();
    let mut state = Supervisor {
        phase: Phase::Forked,
        pid,
        pidfd,
        child: Some(child),
        executes,
        files: [const { None }; attend::COUNT],
        flags: 0,
        master: None,
        control: None,
        clients: [const { None }; CLIENTS],
        input: Input::NONE,
        sinks: Sinks::NONE,
        pending: Chunk::EMPTY,
        leave,
        proof,
        rename,
        look: Look::OFF,
        suspect: false,
        since: Timespec { tv_sec: 0, tv_nsec: 0 },
    };
    let forked = Message::new(Kind::Forked, pid as u32, wire::VERSION);
    // An owner that is gone already is noticed by the loop.
    let _ = protocol::send(&owner, forked, &[], &[state.pidfd.as_fd()]);
    state.clients[0] = Some(Client { socket: owner, attached: false });
    state.watch()
}

/// Goes on with what another supervisor held, in the order of [`Supervisor::leave`].
fn resume(mut saved: state::Saved, proof: SingleThreaded) -> Result<()> {
    let (pid, flags) = (saved.take()?, saved.take()? as u32);
    let mut state = Supervisor {
        phase: Phase::Running,
        pid,
        pidfd: saved.take_descriptor()?.ok_or(Errno::BADF)?,
        child: None,
        executes: None,
        files: [const { None }; attend::COUNT],
        flags,
        master: None,
        control: None,
        clients: [const { None }; CLIENTS],
        input: Input::NONE,
        sinks: Sinks::NONE,
        pending: Chunk::EMPTY,
        leave: None,
        proof: Some(proof),
        rename: None,
        look: Look::OFF,
        suspect: false,
        since: Timespec { tv_sec: 0, tv_nsec: 0 },
    };
    for file in &mut state.files {
        *file = saved.take_descriptor()?;
    }
    state.master = saved.take_descriptor()?;
    state.control = saved.take_descriptor()?;
    for client in &mut state.clients {
        let attached = saved.take()? != 0;
        *client = saved.take_descriptor()?.map(|socket| Client { socket, attached });
    }
    if state.control.is_none() {
        // It turned out not to be a container of a moment.
        state.listen();
    }
    state.watch()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The child is being set up; nothing was promised.
    Forked,
    /// The owner said go.
    Committed,
    /// The child said that it executes.
    Executing,
    /// It did.
    Running,
}

struct Client {
    socket: OwnedFd,
    attached: bool,
}

struct Supervisor {
    phase: Phase,
    pid: i32,
    pidfd: OwnedFd,
    child: Option<OwnedFd>,
    /// A pipe whose other end the child has until it executes or ends.
    executes: Option<OwnedFd>,
    /// By the places of [`attend`].
    files: [Option<OwnedFd>; attend::COUNT],
    /// Of the plan.
    flags: u32,
    master: Option<OwnedFd>,
    control: Option<OwnedFd>,
    clients: [Option<Client>; CLIENTS],
    /// What the program reads.
    input: Input,
    /// Where a terminal's output goes beside the log and the clients.
    sinks: Sinks,
    /// Output that the owner, or the session's own sink, had no room for; it holds the terminal back. Another's is dropped.
    pending: Chunk,
    /// It shares its owner's memory, and leaves it by this.
    leave: Option<Leave>,
    /// It does not, and has one thread.
    proof: Option<SingleThreaded>,
    /// How it gets its name, if it was made before there was one.
    rename: Option<Rename>,
    /// When the container writes what it writes itself.
    look: Look,
    /// The child executed the program from our memory.
    suspect: bool,
    /// When the program was executed (by the monotonic clock).
    since: Timespec,
}

/// What a poll slot stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Pidfd,
    Child,
    Executes,
    Master,
    Control,
    /// Where the pipe goes that the program reads.
    Pipe,
    /// From where input comes.
    Writer,
    /// The session's own sink.
    Sink,
    Reader(usize),
    Client(usize),
    /// What the container writes to.
    Log(usize),
    /// Who gets that and is slow.
    Slow(usize),
    /// A file of its own was written to.
    Look,
}

const SLOTS: usize = 13 + READERS + CLIENTS;

impl Supervisor {
    fn watch(&mut self) -> Result<()> {
        let mut logs = Logs::new();
        loop {
            let mut ready = [(Source::Pidfd, PollFlags::empty()); SLOTS];
            let count = self.poll(&mut ready, &logs)?;
            let ready = &ready[..count];
            let flags_of =
                |s: Source| ready.iter().find(|(r, _)| *r == s).map_or(PollFlags::empty(), |r| r.1);
            // What the child said comes before its end, and its end before what clients ask.
            if !flags_of(Source::Child).is_empty() {
                self.child_speaks()?;
            }
            if !flags_of(Source::Executes).is_empty() {
                self.executes = None;
                while self.has_child_spoken() {
                    self.child_speaks()?;
                }
                self.child_left();
            }
            let master = flags_of(Source::Master);
            if !master.is_empty() {
                self.terminal(master, &mut logs);
            }
            if !flags_of(Source::Pidfd).is_empty() {
                return self.ended(&mut logs);
            }
            for (source, flags) in ready {
                if flags.is_empty() {
                    continue;
                }
                match source {
                    Source::Control => self.greet(),
                    Source::Pipe if flags.contains(PollFlags::OUT) => self.input.feed(self.master.as_ref()),
                    Source::Pipe => self.input.lost(),
                    Source::Writer => self.input.draw(self.master.as_ref()),
                    Source::Sink => self.sinks.send_pending(&mut self.pending, *flags),
                    Source::Reader(i) => self.sinks.gone(*i),
                    Source::Client(i) => self.client(*i, *flags, &mut logs),
                    Source::Log(i) => drop(logs.draw(*i, self.proof.as_ref())),
                    Source::Slow(i) => logs.drain(*i),
                    Source::Look => self.look.told(self.files[attend::WORK].as_ref()),
                    Source::Pidfd | Source::Child | Source::Executes | Source::Master => {}
                }
            }
            if logs.is_on() {
                logs.tend(self.files[attend::DIRECTORY].as_ref());
            }
            self.look_at_files(&logs);
            if self.leave.is_some() && self.is_quiet() && self.is_long() {
                self.leave();
            }
        }
    }

    fn poll(&self, ready: &mut [(Source, PollFlags); SLOTS], logs: &Logs) -> Result<usize> {
        let mut sources = [Source::Pidfd; SLOTS];
        let mut polled: [PollFd<'_>; SLOTS] =
            core::array::from_fn(|_| PollFd::new(&self.pidfd, PollFlags::empty()));
        let mut n = 0;
        let mut add = |source, fd, flags| {
            sources[n] = source;
            polled[n] = PollFd::from_borrowed_fd(fd, flags);
            n += 1;
        };
        add(Source::Pidfd, self.pidfd.as_fd(), PollFlags::IN);
        if let Some(child) = &self.child {
            add(Source::Child, child.as_fd(), PollFlags::IN);
        }
        if let Some(executes) = &self.executes {
            add(Source::Executes, executes.as_fd(), PollFlags::IN);
        }
        if let Some(master) = &self.master {
            let mut flags = PollFlags::empty();
            if !self.held_back() && !logs.holds() {
                flags |= PollFlags::IN;
            }
            if self.input.waits() {
                flags |= PollFlags::OUT;
            }
            if !flags.is_empty() {
                add(Source::Master, master.as_fd(), flags);
            }
        }
        if let Some(control) = &self.control {
            add(Source::Control, control.as_fd(), PollFlags::IN);
        }
        if let Some(pipe) = self.input.pipe() {
            // Even without a wish poll(2) tells when nobody reads any more.
            add(Source::Pipe, pipe, if self.input.waits() { PollFlags::OUT } else { PollFlags::empty() });
        }
        if let Some(source) = self.input.source() {
            add(Source::Writer, source, PollFlags::IN);
        }
        if let Some(sink) = self.sinks.sink() {
            let waits = !self.pending.is_empty();
            add(Source::Sink, sink, if waits { PollFlags::OUT } else { PollFlags::empty() });
        }
        for (i, reader) in self.sinks.readers() {
            add(Source::Reader(i), reader, PollFlags::empty());
        }
        for (i, client) in self.clients.iter().enumerate() {
            let Some(client) = client else { continue };
            let mut flags = PollFlags::empty();
            if !self.input.holds(i) {
                flags |= PollFlags::IN;
            }
            if i == 0 && !self.pending.is_empty() && self.sinks.sink().is_none() {
                flags |= PollFlags::OUT;
            }
            add(Source::Client(i), client.socket.as_fd(), flags);
        }
        for (i, source) in logs.sources() {
            add(Source::Log(i), source, PollFlags::IN);
        }
        for (i, slow) in logs.slow() {
            add(Source::Slow(i), slow, PollFlags::OUT);
        }
        if let Some(look) = self.look.source() {
            add(Source::Look, look, PollFlags::IN);
        }
        let polled = &mut polled[..n];
        let stays = self.phase == Phase::Running && (self.leave.is_some() || self.is_to_look(logs));
        let short = stays.then_some(SHORT.tv_nsec as u64);
        let patience = sooner(short, sooner(logs.patience(), self.look.patience())).map(timespec);
        match poll(polled, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
        for ((slot, source), polled) in ready.iter_mut().zip(sources).zip(polled) {
            *slot = (source, polled.revents());
        }
        Ok(n)
    }

    /// The program runs, and no data is on its way: all there is are descriptors.
    fn is_quiet(&self) -> bool {
        let still = self.input.is_quiet() && self.sinks.is_empty() && self.pending.is_empty();
        self.phase == Phase::Running && self.child.is_none() && still
    }

    /// The program was executed [`SHORT`] ago.
    fn is_long(&self) -> bool {
        let now = clock_gettime(ClockId::Monotonic);
        let since = (now.tv_sec - self.since.tv_sec) * 1_000_000_000 + now.tv_nsec - self.since.tv_nsec;
        since >= SHORT.tv_nsec
    }

    /// The container's files are to be looked at, from some moments after its start.
    fn is_to_look(&self, logs: &Logs) -> bool {
        self.leave.is_none() && self.flags & wire::FLAG_FILES != 0 && self.look.is_off() && !logs.is_on()
    }

    fn look_at_files(&mut self, logs: &Logs) {
        let work = self.files[attend::WORK].as_ref();
        if !self.look.is_off() {
            self.look.look_due(work);
        } else if self.phase == Phase::Running && self.is_to_look(logs) && self.is_long() {
            self.look.begin(work);
        }
    }

    /// Executes the supervisor's own program, which goes on with what this one holds. When that can not be done, this one
    /// goes on as it is.
    fn leave(&mut self) {
        let Some(leave) = self.leave.take() else { return };
        self.listen();
        let mut saved = state::Saved::new(Role::Supervisor);
        saved.put(self.pid);
        saved.put(self.flags as i32);
        saved.descriptor(Some(&self.pidfd));
        self.files.iter().for_each(|file| saved.descriptor(file.as_ref()));
        saved.descriptor(self.master.as_ref());
        saved.descriptor(self.control.as_ref());
        for client in &self.clients {
            saved.put(client.as_ref().is_some_and(|c| c.attached).into());
            saved.descriptor(client.as_ref().map(|c| &c.socket));
        }
        #[cfg(feature = "early")]
        let _ = saved.execute(berth_sys::early::program(), leave());
        #[cfg(not(feature = "early"))]
        let _ = (saved, leave);
    }

    /// The owner's output waits: the terminal is not read, and so the program is held back, as by a pipe.
    fn held_back(&self) -> bool {
        (self.clients[0].is_some() || self.sinks.sink().is_some()) && !self.pending.is_empty()
    }

    fn child_speaks(&mut self) -> Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        let mut fds = [None];
        match protocol::receive(child, &mut [], &mut fds) {
            Ok(Some((Message { kind: Kind::Running, a, .. }, _))) => {
                self.phase = Phase::Executing;
                self.suspect = self.leave.is_some() && a == 0;
                // For a container of a moment nobody comes.
                if self.leave.is_none() {
                    self.listen();
                }
            }
            Ok(Some((Message { kind: Kind::Terminal, .. }, _))) => {
                let [master] = fds;
                if let Some(master) = &master {
                    fs::fcntl_setfl(master, fs::OFlags::RDWR | fs::OFlags::NONBLOCK)?;
                }
                self.master = master;
            }
            Ok(Some((failed @ Message { kind: Kind::Failed | Kind::Refused, .. }, _))) => {
                self.tell_owner(failed)
            }
            // It ended with something of ours unread; what it said last is still to come (unix(7), once per socket).
            Ok(Some(_)) | Err(Errno::AGAIN | Errno::CONNRESET) => {}
            // Its end of the socket closed: by exec if it said so before, else by its death.
            Ok(None) | Err(_) => self.child_left(),
        }
        Ok(())
    }

    /// The child executed its program, if it said so before, or ended.
    fn child_left(&mut self) {
        if self.child.take().is_none() || self.phase != Phase::Executing {
            return;
        }
        if self.suspect && is_our_program(self.pid) {
            // See `child`: it should not come so far. Nobody but it is in its pid namespace.
            let _ = signal::send(&self.pidfd, 9);
            return self.tell_owner(Message::new(Kind::Refused, 4, 0));
        }
        self.phase = Phase::Running;
        self.since = clock_gettime(ClockId::Monotonic);
        if self.flags & wire::FLAG_NOTIFY != 0 {
            self.tell_owner(Message::new(Kind::Running, 0, 0));
        }
    }

    fn has_child_spoken(&self) -> bool {
        self.child.as_ref().is_some_and(has_something)
    }

    fn tell_owner(&mut self, message: Message) {
        if let Some(owner) = &self.clients[0] {
            let _ = protocol::send(&owner.socket, message, &[], &[]);
        }
    }

    fn terminal(&mut self, flags: PollFlags, logs: &mut Logs) {
        if flags.contains(PollFlags::OUT) {
            self.input.feed(self.master.as_ref());
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !self.held_back() {
            self.copy_output(logs);
        }
    }

    /// Copies what the terminal has into the log and to who is attached. `false` at its end.
    fn copy_output(&mut self, logs: &mut Logs) -> bool {
        let Some(master) = &self.master else { return false };
        let mut data = [0u8; DATA];
        let n = match berth_sys::rustix::io::read(master, &mut data) {
            Ok(0) => return self.hang_up(),
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return true,
            // EIO: the last slave was closed. A program may open /dev/tty again, so the master is kept
            // until the container ends; but it is not polled, or the loop would spin.
            Err(_) => return self.hang_up(),
        };
        if !logs.take(&data[..n], self.proof.as_ref())
            && let (true, Some(output)) = (self.flags & wire::FLAG_TTY != 0, &self.files[attend::OUTPUT])
        {
            let mut rest = &data[..n];
            while let Ok(written @ 1..) = berth_sys::rustix::io::write(output, rest) {
                rest = &rest[written..];
            }
        }
        self.sinks.write(&data[..n], &mut self.pending);
        for index in 0..CLIENTS {
            let Some(client) = &mut self.clients[index] else { continue };
            if !client.attached {
                continue;
            }
            match protocol::try_send(&client.socket, Message::new(Kind::Output, 0, 0), &data[..n]) {
                Ok(()) => {}
                Err(Errno::AGAIN) if index == 0 => self.pending.fill(&data[..n]),
                Err(Errno::AGAIN) => {}
                Err(_) => self.gone(index),
            }
        }
        true
    }

    fn hang_up(&mut self) -> bool {
        self.master = None;
        // Nothing more is to come, and who reads is to know.
        self.sinks.end(&self.pending);
        false
    }

    /// The container's first process ended: record, reap, drain, tell.
    fn ended(&mut self, logs: &mut Logs) -> Result<()> {
        let status = loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Err(Errno::INTR) => {}
                other => break word(other?.ok_or(Errno::CHILD)?),
            }
        };
        let recorded = match self.phase {
            Phase::Forked => {
                self.retract();
                Ok(())
            }
            Phase::Committed | Phase::Executing | Phase::Running => self.write_record(status),
        };
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        // What the child said last (a failed step) is still to be passed on.
        while self.child.is_some() {
            self.child_speaks()?;
        }
        while self.master.is_some() {
            self.flush_owner();
            if !self.copy_output(logs) || !self.has_output() {
                break;
            }
        }
        self.flush_owner();
        if logs.is_on() {
            logs.end(self.files[attend::DIRECTORY].as_ref(), self.proof.as_ref());
        }
        self.look.end(self.files[attend::WORK].as_ref());
        let error = recorded.err().map_or(0, |e| e.raw_os_error() as u32);
        let exited = Message::new(Kind::Exited, status as u32, error);
        self.tell_owner(exited);
        // A client that does not read keeps nobody from going.
        for client in self.clients[1..].iter().flatten() {
            let _ = protocol::try_send(&client.socket, exited, &[]);
        }
        if let (Some(_), Some(work)) = (self.leave, &self.files[attend::WORK]) {
            sweep(work);
        }
        if let (Some(_), Some(directory)) = (&self.control, &self.files[attend::DIRECTORY]) {
            let _ = fs::unlinkat(directory, CONTROL, fs::AtFlags::empty());
        }
        Ok(())
    }

    /// The program never began. With its pid on record that could not be told from one of which nobody knows how it ended.
    fn retract(&self) {
        if let Some(directory) = &self.files[attend::DIRECTORY] {
            let _ = fs::unlinkat(directory, PID, fs::AtFlags::empty());
        }
    }

    fn has_output(&self) -> bool {
        self.master.as_ref().is_some_and(has_something)
    }

    /// Waits for the owner to take what is pending, as long as it lives.
    fn flush_owner(&mut self) {
        if self.sinks.sink().is_some() {
            return self.sinks.flush(&mut self.pending);
        }
        let Some(owner) = &self.clients[0] else { return };
        if !self.pending.is_empty() {
            let output = Message::new(Kind::Output, 0, 0);
            let _ = protocol::send(&owner.socket, output, self.pending.bytes(), &[]);
            self.pending.clear();
        }
    }

    fn write_record(&self, status: i32) -> Result<()> {
        let mut text = *b"           \n";
        let mut at = 11;
        let mut rest = status.unsigned_abs();
        loop {
            at -= 1;
            text[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let (Some(record), Some(directory)) = (&self.files[attend::RECORD], &self.files[attend::DIRECTORY])
        else {
            return Err(Errno::BADF);
        };
        berth_sys::rustix::io::pwrite(record, &text, 0)?;
        fs::renameat(directory, RECORD_BEFORE, directory, RECORD)
    }
}

/// Whether reading from it would not wait.
fn has_something(descriptor: &OwnedFd) -> bool {
    let mut slot = [PollFd::new(descriptor, PollFlags::IN)];
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut slot, Some(&none)), Ok(1..))
}

/// The descriptor, which never waits any more.
fn unblocked(descriptor: OwnedFd) -> Result<OwnedFd> {
    let flags = fs::fcntl_getfl(&descriptor)?;
    fs::fcntl_setfl(&descriptor, flags | fs::OFlags::NONBLOCK)?;
    Ok(descriptor)
}

/// Whether a process executes the program that this one does.
fn is_our_program(pid: i32) -> bool {
    let mut room = [0u8; 32];
    let mut digits = [0u8; 10];
    let number = child::decimal(pid.unsigned_abs(), &mut digits);
    let mut at = 0;
    for part in [b"/proc/".as_slice(), number, b"/exe\0"] {
        room[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let its = CStr::from_bytes_until_nul(&room).ok().and_then(|path| fs::stat(path).ok());
    match (its, fs::stat(c"/proc/self/exe")) {
        (Some(its), Ok(ours)) => (its.st_dev, its.st_ino) == (ours.st_dev, ours.st_ino),
        // It ended already.
        _ => false,
    }
}

/// Removes the room that the writable layer worked in, with the marks that overlay makes in it. Where the owner waits for
/// this process anyhow, the two share the removals of a container; what is not removed here is removed there.
fn sweep(work: &OwnedFd) {
    for (name, flags) in [
        (c"scratch/work/incompat/volatile/dirty", fs::AtFlags::empty()),
        (c"scratch/work/incompat/volatile", fs::AtFlags::REMOVEDIR),
        (c"scratch/work/incompat", fs::AtFlags::REMOVEDIR),
        (c"scratch/work", fs::AtFlags::REMOVEDIR),
        (c"scratch", fs::AtFlags::REMOVEDIR),
    ] {
        let _ = fs::unlinkat(work, name, flags);
    }
}

/// The wait status word that wait(2) would have given.
fn word(status: berth_sys::rustix::process::WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) => signal | if status.dumped() { 0x80 } else { 0 },
        (None, None) => 0,
    }
}
