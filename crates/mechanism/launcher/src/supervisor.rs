// SPDX-License-Identifier: Apache-2.0
//! The owner's end of a supervisor.

use crate::{Encoded, Error, INIT, Part, Result};
use crate::{early, home};
use berth_supervisor::protocol::{self, DATA, INLINE, Kind, Message};
use berth_supervisor::wire::STREAMS;
use berth_supervisor::{sealed, sealed_program};
use berth_sys::process::Namespaces;
use berth_sys::rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use berth_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use berth_sys::rustix::io::{fcntl_dupfd_cloexec, write};
use berth_sys::rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use berth_sys::rustix::process::Pid;
use berth_sys::rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use berth_sys::spawn::{Spawn, Spawned};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The longest name of a spare one, in bytes: that of a container's id.
const TITLE: usize = 255;

/// A supervisor that this process started. Dropping it before [`Supervisor::go`] ends the container; after it the
/// container goes on.
#[derive(Debug)]
pub struct Supervisor {
    socket: OwnedFd,
    /// Where the child takes its plan.
    plan: OwnedFd,
    process: Process,
    /// It has made its child already, with these namespaces.
    made: Option<Namespaces>,
    /// What it is still to be called.
    title: Option<CString>,
    /// A spare one's.
    spare: Option<Spare>,
}

#[derive(Debug)]
struct Spare {
    /// Wakes its child, which waits for a container (eventfd(2)).
    bell: OwnedFd,
    /// What it said of that.
    forked: Mutex<Option<(i32, OwnedFd)>>,
}

#[derive(Debug)]
enum Process {
    /// `berth-init`, executed.
    Executed(Spawned<2, 5>),
    /// One that shares our memory, with its child made already.
    Early(Early),
}

#[derive(Debug)]
struct Early {
    pid: i32,
    pidfd: OwnedFd,
    title: CString,
    /// The container goes on without us.
    committed: AtomicBool,
}

impl Drop for Early {
    /// Our sockets are closed by now: unless the container was let go, its supervisor ends it and itself. What shares our
    /// memory must not be there any more when we are not.
    fn drop(&mut self) {
        if !self.committed.load(Ordering::SeqCst) {
            reap(self.pidfd.as_fd());
        }
    }
}

impl Process {
    fn pid(&self) -> i32 {
        match self {
            Process::Executed(process) => process.pid(),
            Process::Early(early) => early.pid,
        }
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        match self {
            Process::Executed(process) => process.pidfd(),
            Process::Early(early) => early.pidfd.as_fd(),
        }
    }
}

/// What a supervisor tells.
#[derive(Debug)]
pub enum Event {
    /// The container's first process exists and sets itself up.
    Forked {
        /// Its pid here.
        pid: i32,
        /// It.
        pidfd: OwnedFd,
    },
    /// The program was executed.
    Running,
    /// A step failed.
    Failed {
        /// Which.
        step: u32,
        /// Why.
        errno: i32,
    },
    /// Data from the terminal.
    Output(Vec<u8>),
    /// The container ended.
    Exited {
        /// The wait status word.
        status: i32,
        /// Why the exit record could not be written, or 0.
        record_error: i32,
    },
    /// The plan was not taken.
    Refused(String),
    /// The supervisor is gone.
    Gone,
}

impl Supervisor {
    /// Starts one, which waits. `title` is its name in process lists. It ends by itself when this is dropped, so it needs
    /// no record.
    ///
    /// # Errors
    /// No memory, processes or descriptors left.
    pub fn begin(title: &CStr) -> Result<Supervisor> {
        match early::take(title) {
            Some(begun) => {
                let process = Process::Early(Early {
                    pid: begun.pid,
                    pidfd: begun.pidfd,
                    title: title.to_owned(),
                    committed: AtomicBool::new(false),
                });
                Ok(Supervisor {
                    socket: begun.socket,
                    plan: begun.plan,
                    process,
                    made: None,
                    title: None,
                    spare: None,
                })
            }
            None => Supervisor::execute(title),
        }
    }

    fn execute(title: &CStr) -> Result<Supervisor> {
        let failed = |what: &str| {
            let what = format!("{what} for the supervisor");
            move |e: berth_sys::Errno| Error::io(what, e)
        };
        let program = program().map_err(failed("make a sealed copy of berth-init"))?;
        let pair = || {
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(failed("make a socket"))
        };
        let ((socket, theirs), (plan, childs)) = (pair()?, pair()?);
        let null = || null().map_err(failed("open /dev/null"));
        let spawn = Spawn {
            program,
            argv: [c"berth-init".to_owned(), title.to_owned()],
            descriptors: [null()?, null()?, null()?, theirs, childs],
        };
        let process = home::start(spawn).map_err(failed("start a process"))?;
        Ok(Supervisor {
            socket,
            plan,
            process: Process::Executed(process),
            made: None,
            title: None,
            spare: None,
        })
    }

    /// One that has its child already, in these namespaces, and is nobody's yet: who takes it is spared the time that takes.
    /// Until then neither holds a mount of the host.
    ///
    /// # Errors
    /// No memory, processes or descriptors left.
    pub fn spare(namespaces: Namespaces) -> Result<Supervisor> {
        // There is as much room for its name as this one takes.
        let title = CString::new(format!("{:TITLE$}", "spare")).unwrap_or_default();
        let mut spare = Supervisor::execute(&title)?;
        let bell =
            eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| Error::io("make a bell for a supervisor", e))?;
        let message = Message::new(Kind::Prepare, namespaces.bits() as u32, 2);
        protocol::send(&spare.socket, message, &[], &[bell.as_fd()]).map_err(|_| Error::Gone("a request"))?;
        let forked = match spare.next() {
            Event::Forked { pid, pidfd } => Mutex::new(Some((pid, pidfd))),
            Event::Refused(why) => return Err(Error::Refused(why)),
            _ => return Err(Error::Gone("the making of a child")),
        };
        (spare.made, spare.spare) = (Some(namespaces), Some(Spare { bell, forked }));
        spare.executed()?;
        Ok(spare)
    }

    /// There is a container of that name for a spare one, and its plan follows.
    pub fn name(&mut self, title: &CStr) {
        self.title = Some(title.to_owned());
        let Some(Spare { bell, forked }) = &self.spare else { return };
        if let Some((pid, _)) = &*forked.lock().unwrap_or_else(PoisonError::into_inner) {
            keep_away(*pid);
        }
        // Its plan wakes it too, if later.
        let _ = write(bell, &1u64.to_ne_bytes());
    }

    /// Whether it, and its child, are still there.
    pub fn is_there(&self) -> bool {
        let pidfd = self.pidfd();
        let mut slot = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut slot, Some(&none)), Ok(0))
    }

    /// Has it make its child, with these namespaces. The child waits for its plan, and ends when this is dropped.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn prepare(&mut self, namespaces: Namespaces) -> Result<()> {
        match self.made {
            Some(made) if made == namespaces => return Ok(()),
            Some(_) => {
                let other = Supervisor::execute(self.title.as_deref().unwrap_or_default())?;
                std::mem::replace(self, other).abort();
            }
            None => {}
        }
        if let Process::Early(early) = &self.process
            && namespaces != early::NAMESPACES
        {
            // It was guessed what this container wants, and the guess was wrong.
            let other = Supervisor::execute(&early.title)?;
            std::mem::replace(self, other).abort();
        }
        self.tell(Message::new(Kind::Prepare, namespaces.bits() as u32, 0), &[])
    }

    /// Makes sure that it shares no memory with this process: one that does has no room for a container's output.
    ///
    /// # Errors
    /// No memory, processes or descriptors left.
    pub fn apart(&mut self) -> Result<()> {
        if let Process::Early(early) = &self.process {
            let other = Supervisor::execute(&early.title)?;
            std::mem::replace(self, other).abort();
        }
        Ok(())
    }

    /// Has it make its child in the pid namespace of the process behind a pidfd, or in a new one below that, with these
    /// namespaces.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn prepare_within(&mut self, process: BorrowedFd<'_>, namespaces: Namespaces) -> Result<()> {
        self.apart()?;
        let message = Message::new(Kind::Prepare, namespaces.bits() as u32, 1);
        protocol::send(&self.socket, message, &[], &[process]).map_err(|_| Error::Gone("a request"))
    }

    /// Gives up before `go`: the supervisor ends its child and itself; waits for that.
    pub fn abort(self) {
        drop((self.socket, self.plan));
        reap(self.process.pidfd());
    }

    /// Waits for the end of a supervisor whose container ended, and reaps it.
    pub fn reap(self) {
        drop((self.socket, self.plan));
        reap(self.process.pidfd());
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// It, as a descriptor that is readable once it ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }

    /// The socket, for poll.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Lets the child begin with the first part of its plan.
    ///
    /// # Errors
    /// It is gone, or no memory for the message.
    pub fn begin_with(&self, part: &Part<'_>) -> Result<()> {
        self.part(0, &part.bytes, part.descriptors.iter().map(AsFd::as_fd).collect())
    }

    /// Hands over the container: to the supervisor what it keeps (`attend`, with what the plan's flags say comes with it), to
    /// its child the (rest of the) plan, with the
    /// program's streams.
    ///
    /// # Errors
    /// One of them is gone, or no memory for the message.
    pub fn send(
        &self,
        plan: &Encoded,
        attend: &[BorrowedFd<'_>],
        streams: [BorrowedFd<'_>; STREAMS],
    ) -> Result<()> {
        let title = self.title.as_ref().map_or(&[][..], |title| title.to_bytes());
        // Rather no name than settings that are cut off.
        let title = if title.len() + plan.logging.len() > DATA { &[] } else { title };
        let message = Message::new(Kind::Attend, plan.flags, title.len() as u32);
        protocol::send(&self.socket, message, &[title, &plan.logging].concat(), attend).map_err(hand_over)?;
        self.part(1, &plan.bytes, plan.borrowed().chain(streams).collect())
    }

    fn part(&self, number: u32, bytes: &[u8], fds: Vec<BorrowedFd<'_>>) -> Result<()> {
        match &self.process {
            Process::Early(_) => {
                berth_sys::early::publish(number as usize, bytes.to_vec());
                let message = Message::new(Kind::Published, number, fds.len() as u32);
                return protocol::send(&self.plan, message, &[], &fds).map_err(hand_over);
            }
            Process::Executed(_) => self.executed()?,
        }
        if bytes.len() <= INLINE {
            let message = Message::new(Kind::Part, bytes.len() as u32, fds.len() as u32);
            return protocol::send(&self.plan, message, bytes, &fds).map_err(hand_over);
        }
        let file =
            sealed(c"berth-plan", bytes).map_err(|e| Error::io("make a memory file for the plan", e))?;
        let mut fds: Vec<BorrowedFd<'_>> = fds;
        fds.push(file.as_fd());
        let message = Message::new(Kind::Plan, bytes.len() as u32, fds.len() as u32);
        protocol::send(&self.plan, message, &[], &fds).map_err(hand_over)
    }

    fn executed(&self) -> Result<()> {
        match &self.process {
            Process::Executed(process) => process.executed().map_err(|e| Error::io("execute berth-init", e)),
            Process::Early(_) => Ok(()),
        }
    }

    /// What it says next; waits for it.
    pub fn next(&self) -> Event {
        let spare = self.spare.as_ref();
        let said = |spare: &Spare| spare.forked.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((pid, pidfd)) = spare.and_then(said) {
            return Event::Forked { pid, pidfd };
        }
        let mut data = [0u8; DATA];
        let mut fds = [None];
        loop {
            return match protocol::receive(&self.socket, &mut data, &mut fds) {
                Ok(Some((message, n))) => event(message, &data[..n.min(DATA)], fds).unwrap_or(Event::Gone),
                // It ended with something of ours unread, which is told first; what it said last is still there.
                Err(berth_sys::Errno::CONNRESET) => continue,
                Ok(None) | Err(_) => Event::Gone,
            };
        }
    }

    /// Lets the program start. From here on the container outlives this process.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn go(&self) -> Result<()> {
        if let Process::Early(early) = &self.process {
            early.committed.store(true, Ordering::SeqCst);
        }
        self.tell(Message::new(Kind::Go, 0, 0), &[])
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.tell(Message::new(Kind::Signal, signal as u32, 0), &[])
    }

    /// The terminal's new size.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn resize(&self, rows: u16, cols: u16) -> Result<()> {
        self.tell(Message::new(Kind::Resize, rows.into(), cols.into()), &[])
    }

    /// Data for the terminal, at most [`DATA`] bytes.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn input(&self, data: &[u8]) -> Result<()> {
        self.tell(Message::new(Kind::Input, 0, 0), data)
    }

    fn tell(&self, message: Message, data: &[u8]) -> Result<()> {
        protocol::send(&self.socket, message, data, &[]).map_err(|_| Error::Gone("a request"))
    }
}

/// Keeps a child to other processors than this thread's, if there are any, until it begins its program (which it does by
/// itself). It would be woken on this one, and wait for it, for as long as this thread has something to do.
fn keep_away(pid: i32) {
    let Ok(mut others) = sched_getaffinity(None) else { return };
    others.unset(sched_getcpu());
    if others.count() > 0 {
        // It is slower without.
        let _ = sched_setaffinity(Pid::from_raw(pid), &others);
    }
}

/// The supervisors' program: one copy for all of them, where it can be sealed whole. A container with `--init` has it as its
/// first process, and while nobody can write to it, its mode could be changed without that seal, so that no other supervisor
/// could be executed: then each has a copy of its own.
fn program() -> berth_sys::Result<OwnedFd> {
    static SHARED: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let shared = match SHARED.get() {
        Some(shared) => shared,
        None => {
            let made = sealed_program(c"berth-init", INIT)?;
            SHARED.get_or_init(|| made)
        }
    };
    match shared {
        Some(program) => fcntl_dupfd_cloexec(program, 0),
        None => sealed(c"berth-init", INIT),
    }
}

/// The null device for a supervisor, opened once for all: none of them passes it on to its container.
fn null() -> berth_sys::Result<OwnedFd> {
    static NULL: OnceLock<OwnedFd> = OnceLock::new();
    let null = match NULL.get() {
        Some(null) => null,
        None => {
            let opened = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            NULL.get_or_init(|| opened)
        }
    };
    fcntl_dupfd_cloexec(null, 0)
}

fn hand_over(e: berth_sys::Errno) -> Error {
    match e {
        berth_sys::Errno::PIPE | berth_sys::Errno::CONNRESET => Error::Gone("the hand-over of the plan"),
        e => Error::io("send the plan to the supervisor", e),
    }
}

/// Reaps a child that ended or will; returns at once for what is no child of this process.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) {
    use berth_sys::rustix::process::{WaitId, WaitIdOptions, waitid};
    while let Err(berth_sys::Errno::INTR) = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {}
}

pub(crate) fn event(message: Message, data: &[u8], [fd]: [Option<OwnedFd>; 1]) -> Option<Event> {
    Some(match message.kind {
        Kind::Forked => Event::Forked { pid: message.a as i32, pidfd: fd? },
        Kind::Running => Event::Running,
        Kind::Failed => Event::Failed { step: message.a, errno: message.b as i32 },
        Kind::Output => Event::Output(data.to_vec()),
        Kind::Exited => Event::Exited { status: message.a as i32, record_error: message.b as i32 },
        Kind::Refused => Event::Refused(match message.a {
            1 => format!("it speaks version {}", message.b),
            2 => "it is malformed".to_owned(),
            4 => "the program is berth itself, reached through /proc: nothing in a container may execute it"
                .to_owned(),
            _ => format!("no process could be made: {}", std::io::Error::from_raw_os_error(message.b as i32)),
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sys::rustix::fs::{fchmod, ftruncate};
    use berth_sys::rustix::io::write;

    #[test]
    fn what_all_supervisors_execute_can_be_spoilt_by_none() {
        let Some(program) = sealed_program(c"berth-init", INIT).unwrap() else {
            // Before Linux 6.3 each has its own.
            return;
        };
        assert_eq!(fchmod(&program, Mode::RUSR).unwrap_err(), berth_sys::Errno::PERM);
        assert_eq!(write(&program, b"x").unwrap_err(), berth_sys::Errno::PERM);
        assert_eq!(ftruncate(&program, 0).unwrap_err(), berth_sys::Errno::PERM);
    }
}
