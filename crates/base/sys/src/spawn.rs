// SPDX-License-Identifier: Apache-2.0
//! Starting a helper program from a program with threads, without copying its memory and without waiting.

use crate::process::exit;
use crate::{Errno, Result, raw, signal};
use core::arch::asm;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use linux_raw_sys::general as k;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};

/// What [`spawn`] starts.
#[derive(Debug)]
pub struct Spawn<const ARGS: usize, const FDS: usize> {
    /// The program (executed by descriptor, so no path can be swapped).
    pub program: OwnedFd,
    /// Its arguments.
    pub argv: [CString; ARGS],
    /// Descriptors it inherits as 0, 1, 2, …: nothing else is inherited. Its environment is empty.
    pub descriptors: [OwnedFd; FDS],
}

/// Everything that the child of [`spawn`] touches until its exec.
struct Pad<const ARGS: usize, const FDS: usize> {
    stack: [u128; STACK / 16],
    spawn: Spawn<ARGS, FDS>,
    argv: [usize; ARGS],
    environment: [usize; 1],
    error: AtomicI32,
    /// The kernel writes 0 here, and wakes, when the child has left this memory (CLONE_CHILD_CLEARTID).
    running: AtomicU32,
}

const STACK: usize = 16 * 1024;

/// A program on its way: it shares this process's memory until it has executed, so what it uses is kept here.
#[derive(Debug)]
pub struct Spawned<const ARGS: usize, const FDS: usize> {
    /// None once it has executed, so that this process does not hold what is the program's alone: a copy of its end of
    /// a socket would hide that it died.
    pad: Mutex<Option<Box<Pad<ARGS, FDS>>>>,
    pid: i32,
    pidfd: OwnedFd,
    in_group: bool,
}

impl<const ARGS: usize, const FDS: usize> core::fmt::Debug for Pad<ARGS, FDS> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pad").field("running", &self.running).finish_non_exhaustive()
    }
}

impl<const ARGS: usize, const FDS: usize> Spawned<ARGS, FDS> {
    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// It, as a descriptor.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether it was born in the group that was asked for.
    pub fn is_in_group(&self) -> bool {
        self.in_group
    }

    /// Waits until it has executed, and lets go of what it needed for that.
    pub fn executed(&self) -> Result<()> {
        let Some(pad) = self.pad.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        pad.wait();
        match pad.error.load(Ordering::SeqCst) {
            0 => Ok(()),
            error => Err(Errno::from_raw_os_error(error)),
        }
    }
}

impl<const ARGS: usize, const FDS: usize> Pad<ARGS, FDS> {
    fn wait(&self) {
        use rustix::thread::futex;
        loop {
            let now = self.running.load(Ordering::SeqCst);
            if now == 0 {
                return;
            }
            // Wakes by itself when the word has changed meanwhile.
            let _ = futex::wait(&self.running, futex::Flags::empty(), now, None);
        }
    }
}

impl<const ARGS: usize, const FDS: usize> Drop for Pad<ARGS, FDS> {
    fn drop(&mut self) {
        // The child stands on `stack`: it must be gone from here before that is freed.
        self.wait();
    }
}

/// Starts a program in its own session, with all signals blocked (it is to unblock what it wants), without waiting
/// for its exec.
///
/// Safe in a program with threads: the child shares the memory (`CLONE_VM`), stands on a stack of its own, and makes
/// only system calls on data that nobody else changes, until its exec; with signals blocked no handler runs in it.
/// It touches no thread-local data, of which it shares the caller's.
pub fn spawn<const ARGS: usize, const FDS: usize>(spawn: Spawn<ARGS, FDS>) -> Result<Spawned<ARGS, FDS>> {
    spawn_in(spawn, None)
}

/// As [`spawn`], born in this group of cgroup v2 (`CLONE_INTO_CGROUP`, Linux 5.7). Where that can not be it is born in
/// ours, and [`Spawned::is_in_group`] says so.
pub fn spawn_in<const ARGS: usize, const FDS: usize>(
    spawn: Spawn<ARGS, FDS>,
    group: Option<BorrowedFd<'_>>,
) -> Result<Spawned<ARGS, FDS>> {
    let mut pad = Box::new(Pad {
        stack: [0; STACK / 16],
        spawn,
        argv: [0; ARGS],
        environment: [0],
        error: AtomicI32::new(0),
        running: AtomicU32::new(1),
    });
    for (slot, text) in pad.argv.iter_mut().zip(&pad.spawn.argv) {
        *slot = text.as_ptr() as usize;
    }
    let mut pidfd: RawFd = -1;
    let flags = u64::from(k::CLONE_VM | k::CLONE_CHILD_CLEARTID | k::CLONE_PIDFD);
    let running = pad.running.as_ptr() as usize;
    let stack = pad.stack.as_mut_ptr() as usize;
    let mask = signal::set_mask(signal::Set::ALL)?;
    let mut born = Err(Errno::NOSYS);
    if let Some(group) = group {
        let args = k::clone_args {
            flags: flags | k::CLONE_INTO_CGROUP,
            pidfd: &raw mut pidfd as u64,
            child_tid: running as u64,
            parent_tid: 0,
            exit_signal: u64::from(k::SIGCHLD),
            stack: stack as u64,
            stack_size: STACK as u64,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: group.as_raw_fd() as u64,
        };
        let call = [k::__NR_clone3 as usize, &raw const args as usize, size_of::<k::clone_args>(), 0, 0, 0];
        // SAFETY: clone3(args, size); `args` is valid for the call, and what `enter` asks for holds as below.
        born = unsafe { enter(call, &raw const *pad) };
    }
    let in_group = born.is_ok();
    if !in_group {
        let flags = flags as usize | k::SIGCHLD as usize;
        let call = [k::__NR_clone as usize, flags, stack + STACK, &raw mut pidfd as usize, running, 0];
        // SAFETY: clone(flags, stack, parent_tid = where the pidfd goes, child_tid, tls), for which the stack is named by
        // its end. The pad is on the heap, is not moved or changed any more, and is freed only after the kernel cleared
        // `running`, which it does when the child has left this memory, by exec or exit.
        born = unsafe { enter(call, &raw const *pad) };
    }
    let _ = signal::set_mask(mask);
    let pid = match born {
        Ok(pid) => pid,
        Err(errno) => {
            pad.running.store(0, Ordering::SeqCst);
            return Err(errno);
        }
    };
    // SAFETY: the kernel wrote a new descriptor, which is ours alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Spawned { pad: Mutex::new(Some(pad)), pid, pidfd, in_group })
}

/// Makes the call (its number and five arguments), whose child runs [`in_child`] on the stack that the call names.
///
/// # Safety
/// The call is a clone with CLONE_VM, with a stack of its own whose end is aligned to 16, and all its pointers are good;
/// `pad` stays where it is, unchanged, until the child has left this memory.
unsafe fn enter<const ARGS: usize, const FDS: usize>(
    call: [usize; 6],
    pad: *const Pad<ARGS, FDS>,
) -> Result<i32> {
    let mut rax = call[0];
    // SAFETY: as the caller promises. r12 and r13 survive the syscall in both; the child never returns from `in_child`.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") rax,
            in("rdi") call[1],
            in("rsi") call[2],
            in("rdx") call[3],
            in("r10") call[4],
            in("r8") call[5],
            in("r12") in_child::<ARGS, FDS> as unsafe extern "C" fn(*const Pad<ARGS, FDS>) -> !,
            in("r13") pad,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    if rax > usize::MAX - 4095 {
        Err(Errno::from_raw_os_error(-(rax as isize) as i32))
    } else {
        Ok(rax as i32)
    }
}

/// The child of [`spawn`]: arranges its descriptors and executes. Only system calls.
unsafe extern "C" fn in_child<const ARGS: usize, const FDS: usize>(pad: *const Pad<ARGS, FDS>) -> ! {
    // SAFETY: `spawn` passes a pointer to a value that lives until after the exec, and of which only atomics change.
    let pad = unsafe { &*pad };
    let error = arrange_and_execute(pad);
    pad.error.store(error.raw_os_error(), Ordering::SeqCst);
    exit(127)
}

fn arrange_and_execute<const ARGS: usize, const FDS: usize>(pad: &Pad<ARGS, FDS>) -> Errno {
    /// Above every number that is inherited, so that placing one never overwrites another.
    const HIGH: usize = 64;
    let dup_high = |fd: &OwnedFd| {
        // SAFETY: F_DUPFD_CLOEXEC takes no pointer.
        unsafe {
            let args = [fd.as_raw_fd() as usize, k::F_DUPFD_CLOEXEC as usize, HIGH, 0, 0, 0];
            raw::call(k::__NR_fcntl, args)
        }
    };
    let program = match dup_high(&pad.spawn.program) {
        Ok(fd) => fd,
        Err(e) => return e,
    };
    let mut high = [0usize; FDS];
    for (slot, fd) in high.iter_mut().zip(&pad.spawn.descriptors) {
        match dup_high(fd) {
            Ok(fd) => *slot = fd,
            Err(e) => return e,
        }
    }
    for (number, from) in high.iter().enumerate() {
        // SAFETY: no pointers; this table of descriptors is the child's own copy (no CLONE_FILES).
        if let Err(e) = unsafe { raw::call(k::__NR_dup3, [*from, number, 0, 0, 0, 0]) } {
            return e;
        }
    }
    if let Err(e) = crate::fd::close_from(FDS as RawFd, crate::fd::Fate::CloseOnExec) {
        return e;
    }
    if let Err(e) = rustix::process::setsid() {
        return e;
    }
    const { assert!(ARGS < 16 && FDS < HIGH) };
    // SAFETY: `argv` has room for a null after ARGS pointers (asserted above); its strings are owned by the pad. The
    // environment is one null. The empty path with AT_EMPTY_PATH means the descriptor itself.
    let rc = unsafe {
        let mut argv = [0usize; 16];
        argv[..ARGS].copy_from_slice(&pad.argv);
        let args = [
            program,
            c"".as_ptr() as usize,
            argv.as_ptr() as usize,
            pad.environment.as_ptr() as usize,
            k::AT_EMPTY_PATH as usize,
            0,
        ];
        raw::call(k::__NR_execveat, args)
    };
    rc.err().unwrap_or(Errno::INVAL)
}
