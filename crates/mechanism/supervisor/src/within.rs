// SPDX-License-Identifier: Apache-2.0
//! Making the first process of a container that is in another one, in a pid namespace below that one's.
//!
//! The kernel makes a pid namespace only below the one in which the maker is (`copy_pid_ns`), and entering one moves only
//! the children of who enters (setns(2)). So there is a process in between, in the outer container's namespace, which makes
//! the first process as its sibling, a child of the supervisor, and ends.

use crate::child::decimal;
use crate::protocol::{self, Kind, Message};
use berth_sys::process::{Namespaces, Side, SingleThreaded, exit, fork, fork_sibling};
use berth_sys::rustix::fd::{AsFd, AsRawFd, OwnedFd};
use berth_sys::rustix::fs::{CWD, Mode, OFlags, openat};
use berth_sys::rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use berth_sys::rustix::process::{WaitId, WaitIdOptions, waitid};
use berth_sys::{Errno, Result};
use core::ffi::CStr;

/// As [`fork`], with a pid namespace below the one that was entered for children.
pub(crate) fn fork_below(proof: &SingleThreaded, namespaces: Namespaces) -> Result<Side> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let between = match fork(proof, Namespaces::default())? {
        Side::Child => {
            drop(ours);
            let said = match fork_sibling(proof, namespaces) {
                Ok(Side::Child) => {
                    drop(theirs);
                    return Ok(Side::Child);
                }
                Ok(Side::Parent(_, pidfd)) => {
                    let made = Message::new(Kind::Forked, 0, 0);
                    protocol::send(&theirs, made, &[], &[pidfd.as_fd()])
                }
                Err(e) => {
                    let refused = Message::new(Kind::Refused, 3, e.raw_os_error() as u32);
                    protocol::send(&theirs, refused, &[], &[])
                }
            };
            exit(if said.is_ok() { 0 } else { 125 })
        }
        Side::Parent(_, pidfd) => pidfd,
    };
    drop(theirs);
    let mut fds = [None];
    let heard = protocol::receive(&ours, &mut [], &mut fds);
    while let Err(Errno::INTR) = waitid(WaitId::PidFd(between.as_fd()), WaitIdOptions::EXITED) {}
    match (heard?, fds) {
        (Some((Message { kind: Kind::Forked, .. }, _)), [Some(pidfd)]) => {
            Ok(Side::Parent(pid_of(&pidfd)?, pidfd))
        }
        (Some((Message { kind: Kind::Refused, b, .. }, _)), _) => Err(Errno::from_raw_os_error(b as i32)),
        // It was killed; with its sibling, if that was made, which nobody knows: it waits for a plan from us.
        _ => Err(Errno::CHILD),
    }
}

/// The number of a process here, which the process in between knows by another one (proc_pid_fdinfo(5)).
fn pid_of(pidfd: &OwnedFd) -> Result<i32> {
    const PLACE: &[u8] = b"/proc/self/fdinfo/";
    const FIELD: &[u8] = b"Pid:";
    let mut path = [0u8; 32];
    let mut digits = [0u8; 10];
    let digits = decimal(pidfd.as_raw_fd().unsigned_abs(), &mut digits);
    path[..PLACE.len()].copy_from_slice(PLACE);
    path[PLACE.len()..PLACE.len() + digits.len()].copy_from_slice(digits);
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::INVAL)?;
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = [0u8; 512];
    let length = berth_sys::rustix::io::read(&file, &mut text)?;
    let mut lines = text[..length].split(|byte| *byte == b'\n');
    let number = lines.find_map(|line| line.strip_prefix(FIELD)).ok_or(Errno::SRCH)?;
    let mut pid = 0i32;
    for byte in number.iter().skip_while(|byte| byte.is_ascii_whitespace()) {
        let digit = match byte {
            b'0'..=b'9' => i32::from(byte - b'0'),
            // Zero and less: it is not to be seen here.
            _ => return Err(Errno::SRCH),
        };
        pid = pid.checked_mul(10).and_then(|pid| pid.checked_add(digit)).ok_or(Errno::SRCH)?;
    }
    if pid > 0 { Ok(pid) } else { Err(Errno::SRCH) }
}
