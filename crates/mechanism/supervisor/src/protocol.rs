// SPDX-License-Identifier: Apache-2.0
//! Messages between a supervisor and those who speak with it, on a `SOCK_SEQPACKET` socket: 16 bytes of
//! header, up to [`DATA`] bytes of data, at most one descriptor; those that hand over a container have more.
//!
//! ```text
//! owner → supervisor   prepare · attend (with descriptors) · go · signal · resize · input · attach
//! client → supervisor  attach output, attach input (with a descriptor) · end input · resize → done, refused
//! owner → child        plan (with descriptors), on a socket of its own
//! supervisor → owner   hello · forked (pid, with its pidfd) · running · failed (step, errno) · output · exited (status)
//! ```
//! Another process connects to `ctl` in the container's runtime directory; the supervisor greets it with
//! `hello` (its protocol version and the container's pid), so that an agent may meet supervisors of an
//! older version and knows what they understand.

use berth_sys::rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use berth_sys::rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use berth_sys::{Errno, Result};
use core::mem::MaybeUninit;

/// Most bytes of data in one message, but for those of a plan.
pub const DATA: usize = 4096;
/// Most bytes of a part of a plan that travels in its message. A longer one is in a memory file.
pub const INLINE: usize = 8192;
const HEADER: usize = 16;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// To the child: a part of the plan, `a` = its length, `b` = number of descriptors; the part's memfd is the last.
    Plan = 1,
    /// To the supervisor, and on to the child: pass the gate.
    Go = 2,
    /// To the supervisor: send signal `a` to the container's first process.
    Signal = 3,
    /// To the supervisor: the terminal has `a` rows and `b` columns.
    Resize = 4,
    /// To the supervisor: data for the terminal, or for the pipe that the program reads. Empty: the end of that pipe. Only
    /// one may write at a time.
    Input = 5,
    /// To the supervisor: send me the terminal's output from now on.
    Attach = 6,
    /// To the supervisor, first: make the child with the namespaces `a`; `b` = 1: and in the pid namespace of the process
    /// whose pidfd comes along, or in a new one below that; `b` = 2: and have it wait for what comes along
    /// to be readable, without a mount namespace until then.
    Prepare = 7,
    /// To the supervisor: look after the container; `a` = flags of the plan, with the descriptors of
    /// [`crate::wire::attend`]; the first `b` bytes of the data are its new name in process lists.
    Attend = 8,
    /// To the child of a supervisor that shares its owner's memory, first: all is there that it needs before its plan.
    Begin = 9,
    /// To such a child: part `a` of the plan was published, `b` = number of descriptors.
    Published = 10,
    /// To the supervisor: write the terminal's output to the descriptor that comes along, dropping what it has no room for.
    AttachOutput = 11,
    /// To the supervisor: read input from the descriptor that comes along; its end only detaches it.
    AttachInput = 12,
    /// To the supervisor: nothing more is to be read after what was written so far.
    EndInput = 13,
    /// To the child: a part of the plan, which is the message's data, at most [`INLINE`] bytes; `b` = number of descriptors.
    Part = 14,
    /// From the supervisor to a new client: protocol version `a`, the container's pid `b`.
    Hello = 64,
    /// From the supervisor: the child exists, with pid `a`; its pidfd comes along.
    Forked = 65,
    /// From the child to the supervisor: about to execute, `a` = 1: from a program of its own. From the supervisor: the
    /// program was executed.
    Running = 66,
    /// From the child, passed on: step `a` failed with errno `b`.
    Failed = 67,
    /// From the supervisor: data from the terminal.
    Output = 68,
    /// From the supervisor: ended, wait status word `a`; `b` = errno if the record could not be written.
    Exited = 69,
    /// From the child to the supervisor: the terminal's master comes along.
    Terminal = 70,
    /// From the supervisor: the plan was not understood (`a` = 1: of another version than `b`; 2: malformed; 3: no child,
    /// with errno `b`; 4: the program is the host's berth), or what a client asked (`a` of [`refusal`]).
    Refused = 71,
    /// From the supervisor: what a client of `ctl` asked for is done.
    Done = 72,
}

impl Kind {
    fn of(number: u32) -> Option<Kind> {
        use Kind::*;
        [
            Plan,
            Go,
            Signal,
            Resize,
            Input,
            Attach,
            Prepare,
            Attend,
            Begin,
            Published,
            AttachOutput,
            AttachInput,
            EndInput,
            Part,
            Hello,
            Forked,
            Running,
            Failed,
            Output,
            Exited,
            Terminal,
            Refused,
            Done,
        ]
        .into_iter()
        .find(|k| *k as u32 == number)
    }
}

/// Why a client of `ctl` is refused.
pub mod refusal {
    /// Somebody else writes already.
    pub const ANOTHER_WRITES: u32 = 16;
    /// The program reads nothing (any more) that could come from here.
    pub const NOT_READ: u32 = 17;
    /// There is no terminal (any more).
    pub const NO_TERMINAL: u32 = 18;
    /// As many as can be are attached.
    pub const FULL: u32 = 19;
    /// The descriptor is missing, or of no use.
    pub const DESCRIPTOR: u32 = 20;
}

/// A message without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its first number.
    pub a: u32,
    /// Its second number.
    pub b: u32,
}

impl Message {
    /// A message.
    pub fn new(kind: Kind, a: u32, b: u32) -> Message {
        Message { kind, a, b }
    }

    fn bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        for (i, word) in [self.kind as u32, self.a, self.b].into_iter().enumerate() {
            out[i * 4..i * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        out
    }
}

/// Sends a message with data and descriptors. Never raises SIGPIPE.
pub fn send(to: impl AsFd, message: Message, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    send_flags(to, message, data, fds, SendFlags::NOSIGNAL)
}

/// The same without waiting: `EAGAIN` when the peer does not read.
pub fn try_send(to: impl AsFd, message: Message, data: &[u8]) -> Result<()> {
    send_flags(to, message, data, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn send_flags(
    to: impl AsFd,
    message: Message,
    data: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<()> {
    use berth_sys::rustix::io::IoSlice;
    let header = message.bytes();
    let mut space = [MaybeUninit::uninit(); rustix_space(crate::wire::MAX_DESCRIPTORS)];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        match sendmsg(&to, &[IoSlice::new(&header), IoSlice::new(data)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

const fn rustix_space(fds: usize) -> usize {
    // struct cmsghdr is 16 bytes; each descriptor 4; aligned to 8; and room to align the buffer itself.
    16 + (fds * 4).next_multiple_of(8) + 8
}

/// Receives one message; its data goes to `data`, its descriptors to `fds` in order. `Ok(None)` at the end.
pub fn receive(
    from: impl AsFd,
    data: &mut [u8],
    fds: &mut [Option<OwnedFd>],
) -> Result<Option<(Message, usize)>> {
    use berth_sys::rustix::io::IoSliceMut;
    let mut header = [0u8; HEADER];
    let mut space = [MaybeUninit::uninit(); rustix_space(crate::wire::MAX_DESCRIPTORS)];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let n = loop {
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(data)];
        match recvmsg(&from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received.bytes,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    };
    let mut slots = fds.iter_mut();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            for fd in received {
                if let Some(slot) = slots.next() {
                    *slot = Some(fd);
                }
            }
        }
    }
    if n == 0 {
        return Ok(None);
    }
    let word = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    match Kind::of(word(0)) {
        Some(kind) if n >= HEADER => Ok(Some((Message::new(kind, word(4), word(8)), n - HEADER))),
        _ => Err(Errno::PROTO),
    }
}
