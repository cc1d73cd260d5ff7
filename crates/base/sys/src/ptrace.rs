// SPDX-License-Identifier: Apache-2.0
//! ptrace(2), as far as the fault sweep needs it: stop a process tree at each system call and kill one
//! process of it there.

use crate::{Result, raw};
use linux_raw_sys::general as k;
use rustix::process::Pid;

const TRACEME: usize = 0;
const CONT: usize = 7;
const SYSCALL: usize = 24;
const DETACH: usize = 17;
const SEIZE: usize = 0x4206;
const SETOPTIONS: usize = 0x4200;
const GETEVENTMSG: usize = 0x4201;
const GET_SYSCALL_INFO: usize = 0x420e;
/// TRACESYSGOOD | TRACEFORK | TRACEVFORK | TRACECLONE | TRACEEXEC | EXITKILL.
const OPTIONS: usize = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x10_0000;

fn request(request: usize, pid: Pid, data: usize) -> Result<()> {
    // SAFETY: the requests used here take no address; `data` is a signal number or option bits.
    unsafe {
        let args = [request, pid.as_raw_nonzero().get() as usize, 0, data, 0, 0];
        raw::call(k::__NR_ptrace, args).map(drop)
    }
}

/// Lets the parent trace the caller from its next exec on.
pub fn trace_me() -> Result<()> {
    // SAFETY: no pointers.
    unsafe { raw::call(k::__NR_ptrace, [TRACEME, 0, 0, 0, 0, 0]).map(drop) }
}

/// Attaches without stopping it, with [`set_options`]'s options, children traced as well.
pub fn seize(pid: Pid) -> Result<()> {
    request(SEIZE, pid, OPTIONS)
}

/// Follows children and marks system-call stops (signal 0x85).
pub fn set_options(pid: Pid) -> Result<()> {
    request(SETOPTIONS, pid, OPTIONS)
}

/// Runs on until the next entry to or exit from a system call, delivering `signal` (0 for none).
pub fn to_next_call(pid: Pid, signal: i32) -> Result<()> {
    request(SYSCALL, pid, signal as usize)
}

/// Runs on, delivering `signal` (0 for none).
pub fn go_on(pid: Pid, signal: i32) -> Result<()> {
    request(CONT, pid, signal as usize)
}

/// Stops tracing it and lets it run.
pub fn detach(pid: Pid) -> Result<()> {
    request(DETACH, pid, 0)
}

/// Which half of a system call a stop is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Before it, with its number: a process that is killed here has not made it.
    Entry(u64),
    /// After it.
    Exit,
    /// Neither: the stop has another reason.
    None,
}

/// What the stop of a process is about (PTRACE_GET_SYSCALL_INFO, kernel 5.3).
pub fn at_call(pid: Pid) -> Result<Call> {
    // struct ptrace_syscall_info (include/uapi/linux/ptrace.h): op, arch, two addresses, the number, arguments.
    let mut info = [0u64; 11];
    // SAFETY: the kernel writes at most the size given, in bytes, at the pointer.
    unsafe {
        let size = core::mem::size_of_val(&info);
        let pid = pid.as_raw_nonzero().get() as usize;
        raw::call(k::__NR_ptrace, [GET_SYSCALL_INFO, pid, size, &raw mut info as usize, 0, 0])?;
    }
    Ok(match info[0] as u8 {
        1 => Call::Entry(info[3]),
        2 => Call::Exit,
        _ => Call::None,
    })
}

/// The pid of the child that the event stop is about.
pub fn event_message(pid: Pid) -> Result<i32> {
    let mut message = 0usize;
    // SAFETY: GETEVENTMSG writes one unsigned long at the pointer.
    unsafe {
        let args = [GETEVENTMSG, pid.as_raw_nonzero().get() as usize, 0, &raw mut message as usize, 0, 0];
        raw::call(k::__NR_ptrace, args)?;
    }
    Ok(message as i32)
}
