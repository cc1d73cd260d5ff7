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
    let flags = (k::CLONE_VM | k::CLONE_CHILD_CLEARTID | k::CLONE_PIDFD | k::SIGCHLD) as usize;
    let mask = signal::set_mask(signal::Set::ALL)?;
    let mut rax = k::__NR_clone as usize;
    // SAFETY: clone(flags, stack, parent_tid = where the pidfd goes, child_tid, tls). The child runs `in_child` on
    // `pad.stack`, whose end is aligned to 16; the pad is on the heap, is not moved or changed any more, and is freed
    // only after the kernel cleared `running`, which it does when the child has left this memory, by exec or exit.
    // r12 and r13 survive the syscall in both. The child never returns from `in_child`.
    unsafe {
        let top = pad.stack.as_mut_ptr().add(pad.stack.len());
        let pad: *const Pad<ARGS, FDS> = &raw const *pad;
        let running = (*pad).running.as_ptr();
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
            in("rdi") flags,
            in("rsi") top,
            in("rdx") &raw mut pidfd,
            in("r10") running,
            in("r8") 0,
            in("r12") in_child::<ARGS, FDS> as unsafe extern "C" fn(*const Pad<ARGS, FDS>) -> !,
            in("r13") pad,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    let _ = signal::set_mask(mask);
    if rax > usize::MAX - 4095 {
        pad.running.store(0, Ordering::SeqCst);
        return Err(Errno::from_raw_os_error(-(rax as isize) as i32));
    }
    // SAFETY: the kernel wrote a new descriptor, which is ours alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Spawned { pad: Mutex::new(Some(pad)), pid: rax as i32, pidfd })
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
