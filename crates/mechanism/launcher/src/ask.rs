// SPDX-License-Identifier: Apache-2.0
//! Short requests to the supervisor of a container that runs, over its control socket: whoever started it, and however many
//! agents ago. One connection for each, so that nobody holds a place at the supervisor.

use crate::connection::control;
use crate::{Error, Result};
use berth_model::Class;
use berth_supervisor::protocol::{self, Kind, Message, refusal};
use berth_sys::Errno;
use berth_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The first version whose supervisors know these requests.
const SINCE: u32 = 4;
/// Between two attempts to find room at a supervisor.
const PAUSE: Duration = Duration::from_millis(1);

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    /// Write the terminal's output to this descriptor, too.
    Output(BorrowedFd<'a>),
    /// Read what the program is to read from this descriptor.
    Input(BorrowedFd<'a>),
    /// The program is to find the end of its input, after what was written so far.
    EndInput,
    /// The terminal has this many rows and columns.
    Resize(u16, u16),
}

impl<'a> Ask<'a> {
    fn message(self) -> (Message, Option<BorrowedFd<'a>>) {
        match self {
            Ask::Output(fd) => (Message::new(Kind::AttachOutput, 0, 0), Some(fd)),
            Ask::Input(fd) => (Message::new(Kind::AttachInput, 0, 0), Some(fd)),
            Ask::EndInput => (Message::new(Kind::EndInput, 0, 0), None),
            Ask::Resize(rows, cols) => (Message::new(Kind::Resize, rows.into(), cols.into()), None),
        }
    }

    fn what(self) -> &'static str {
        match self {
            Ask::Output(_) => "attach to the container's output",
            Ask::Input(_) => "attach to the container's input",
            Ask::EndInput => "end the container's input",
            Ask::Resize(..) => "Unable to set the window size",
        }
    }
}

/// Asks the supervisor of the container whose runtime directory is `dir`.
///
/// # Errors
/// [`Class::Gone`] when it has ended (or what was asked for has), [`Class::Conflict`] when another writes already,
/// [`Class::Exhausted`] when it has no room until `deadline`, [`Class::Unsupported`] by one of an older version.
pub fn ask(dir: BorrowedFd<'_>, request: Ask<'_>, deadline: Instant) -> Result<()> {
    let refused = |why, class| Error::Asked { what: request.what(), why, class };
    let (message, descriptor) = request.message();
    loop {
        let Some(socket) = control(dir)? else {
            return Err(refused("the container has ended, or its supervisor does not listen", Class::Gone));
        };
        // One without room for another client hangs up at once.
        if let Some(hello) = hear(&socket, deadline)? {
            if hello.kind != Kind::Hello || hello.a < SINCE {
                let why = "its supervisor is of an older version, which can not; start the container anew";
                return Err(refused(why, Class::Unsupported));
            }
            let sent = protocol::send(&socket, message, &[], descriptor.as_slice());
            if sent.is_ok()
                && let Some(answer) = hear(&socket, deadline)?
            {
                return match (answer.kind, answer.a) {
                    (Kind::Done, _) => Ok(()),
                    (Kind::Refused, refusal::ANOTHER_WRITES) => {
                        Err(refused("Multiple input connections are not allowed", Class::Conflict))
                    }
                    (Kind::Refused, refusal::NOT_READ) => {
                        Err(refused("the container reads nothing any more", Class::Gone))
                    }
                    (Kind::Refused, refusal::NO_TERMINAL) => {
                        Err(refused("the container has no terminal", Class::Unsupported))
                    }
                    (Kind::Refused, refusal::FULL) => Err(refused(
                        "as many are attached as can be: try again when one of them is gone",
                        Class::Exhausted,
                    )),
                    _ => Err(refused("the container has ended", Class::Gone)),
                };
            }
        }
        if Instant::now() >= deadline {
            return Err(refused("its supervisor has no time for it: try again", Class::Exhausted));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The next message; `None` when it hung up, or says nothing until the deadline.
fn hear(socket: &OwnedFd, deadline: Instant) -> Result<Option<Message>> {
    loop {
        match protocol::receive(socket, &mut [], &mut []) {
            Ok(heard) => return Ok(heard.map(|(message, _)| message)),
            Err(Errno::AGAIN) => {}
            Err(_) => return Ok(None),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&time)) {
            Ok(0) => return Ok(None),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("wait for the supervisor", e)),
        }
    }
}
