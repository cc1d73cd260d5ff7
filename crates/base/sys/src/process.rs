// SPDX-License-Identifier: Apache-2.0
//! Processes: clone3(2) for a single-threaded program, execve, exit. Starting a helper from a program with threads
//! is in `spawn`.

use crate::{Errno, Result, raw};
use core::ffi::CStr;
use linux_raw_sys::general as k;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Namespaces that a new process gets (`CLONE_NEW*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(u64);

impl Namespaces {
    /// Mounts.
    pub const MOUNT: Namespaces = Namespaces(k::CLONE_NEWNS as u64);
    /// Process ids.
    pub const PID: Namespaces = Namespaces(k::CLONE_NEWPID as u64);
    /// Network.
    pub const NET: Namespaces = Namespaces(k::CLONE_NEWNET as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Namespaces = Namespaces(k::CLONE_NEWIPC as u64);
    /// Host name.
    pub const UTS: Namespaces = Namespaces(k::CLONE_NEWUTS as u64);
    /// Control groups.
    pub const CGROUP: Namespaces = Namespaces(k::CLONE_NEWCGROUP as u64);

    /// Both.
    pub const fn and(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 | other.0)
    }
    /// All but those of `other`.
    pub const fn without(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 & !other.0)
    }
    /// Whether all of `other` are in it.
    pub const fn has(self, other: Namespaces) -> bool {
        self.0 & other.0 == other.0
    }
    /// The flags as the wire carries them.
    pub const fn bits(self) -> u64 {
        self.0
    }
    /// From the wire; anything but a namespace flag is dropped.
    pub const fn from_bits(bits: u64) -> Namespaces {
        let known = Self::MOUNT.0 | Self::PID.0 | Self::NET.0 | Self::IPC.0 | Self::UTS.0 | Self::CGROUP.0;
        Namespaces(bits & known)
    }
}

/// Proof that the process has one thread, so that a child made by clone has a consistent memory.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// For the entry point of a program that has no threads and no library that could start one.
    pub fn at_start_of_program() -> SingleThreaded {
        SingleThreaded(())
    }
}

/// Where [`fork`] returned.
#[derive(Debug)]
pub enum Side {
    /// In the new process.
    Child,
    /// In the caller: the child's pid in the caller's pid namespace, and a pidfd (close-on-exec).
    Parent(i32, OwnedFd),
}

/// A new process with the namespaces named, as fork(2) else (clone3(2), kernel 5.3).
pub fn fork(proof: &SingleThreaded, namespaces: Namespaces) -> Result<Side> {
    clone3(proof, namespaces.0, k::SIGCHLD)
}

/// The same, but the new process is a child of the caller's parent, as the caller is (`CLONE_PARENT`).
pub fn fork_sibling(proof: &SingleThreaded, namespaces: Namespaces) -> Result<Side> {
    // The signal at its end is the one at the caller's, and may not be named.
    clone3(proof, namespaces.0 | u64::from(k::CLONE_PARENT), 0)
}

fn clone3(_proof: &SingleThreaded, flags: u64, signal: u32) -> Result<Side> {
    let mut pidfd: RawFd = -1;
    let args = k::clone_args {
        flags: flags | u64::from(k::CLONE_PIDFD),
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(signal),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: without CLONE_VM the child has a copy of the memory, with one thread (`_proof`), so that no
    // lock is held by a thread that is not there. The kernel reads `size_of(args)` bytes and writes one int
    // to `pidfd`.
    let pid = unsafe {
        let size = core::mem::size_of::<k::clone_args>();
        raw::call(k::__NR_clone3, [&raw const args as usize, size, 0, 0, 0, 0])?
    };
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: the kernel wrote a new descriptor, which is ours alone.
    Ok(Side::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// A new process in the caller's namespaces (clone(2)): for a process whose filter refuses clone3, as Docker's does.
pub fn fork_here(_proof: &SingleThreaded) -> Result<Side> {
    let mut pidfd: RawFd = -1;
    let flags = (k::CLONE_PIDFD | k::SIGCHLD) as usize;
    // SAFETY: as in `fork`; clone(flags, stack = the same, parent_tid = where the pidfd goes, child_tid, tls).
    let pid = unsafe { raw::call(k::__NR_clone, [flags, 0, &raw mut pidfd as usize, 0, 0, 0])? };
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: the kernel wrote a new descriptor, which is ours alone.
    Ok(Side::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Moves the caller into new namespaces (unshare(2)).
pub fn unshare(namespaces: Namespaces) -> Result<()> {
    // SAFETY: no pointers. Namespace flags, unlike CLONE_FILES, change nothing that Rust values rely on.
    unsafe { raw::call(k::__NR_unshare, [namespaces.0 as usize, 0, 0, 0, 0, 0]).map(drop) }
}

/// Gives the calling thread a umask, working directory and root of its own: changing them stays in it.
pub fn unshare_file_attributes() -> Result<()> {
    // SAFETY: no pointers. Nothing that Rust values rely on is shared less by it.
    unsafe { raw::call(k::__NR_unshare, [k::CLONE_FS as usize, 0, 0, 0, 0, 0]).map(drop) }
}

/// Moves the caller into namespaces of the process behind a pidfd (setns(2), kernel 5.8 for a pidfd): its own at once, a
/// pid namespace for its children only. With a mount namespace, root and working directory are that namespace's root.
pub fn enter(pidfd: BorrowedFd<'_>, namespaces: Namespaces) -> Result<()> {
    let args = [pidfd.as_raw_fd() as usize, namespaces.0 as usize, 0, 0, 0, 0];
    // SAFETY: no pointers; the descriptor is open for the call. Nothing that Rust values rely on changes.
    unsafe { raw::call(k::__NR_setns, args).map(drop) }
}

/// Ends the process at once (exit_group(2)).
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: no pointers; it does not return.
        let _ = unsafe { raw::call(k::__NR_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Replaces the program. `argv` and `envp` are arrays of pointers into NUL-terminated strings, themselves
/// ended by a null, as [`Pointers`] makes them. Returns only to say why it failed.
pub fn execve(path: &CStr, argv: Pointers<'_>, envp: Pointers<'_>) -> Errno {
    // SAFETY: `path` is NUL-terminated; `Pointers` guarantees null-terminated arrays of valid strings.
    let rc = unsafe {
        let args = [path.as_ptr() as usize, argv.0.as_ptr() as usize, envp.0.as_ptr() as usize, 0, 0, 0];
        raw::call(k::__NR_execve, args)
    };
    rc.err().unwrap_or(Errno::INVAL)
}

/// Replaces the program by the one behind a descriptor (execveat(2) with `AT_EMPTY_PATH`), as [`execve`] else.
pub fn execute(program: BorrowedFd<'_>, argv: Pointers<'_>, envp: Pointers<'_>) -> Errno {
    let (argv, envp) = (argv.0.as_ptr() as usize, envp.0.as_ptr() as usize);
    // SAFETY: the empty path is NUL-terminated; `Pointers` guarantees null-terminated arrays of valid strings.
    let rc = unsafe {
        let program = program.as_raw_fd() as usize;
        let args = [program, c"".as_ptr() as usize, argv, envp, k::AT_EMPTY_PATH as usize, 0];
        raw::call(k::__NR_execveat, args)
    };
    rc.err().unwrap_or(Errno::INVAL)
}

/// A null-terminated array of pointers to NUL-terminated strings that live as long as `'a`.
#[derive(Debug, Clone, Copy)]
pub struct Pointers<'a>(&'a [usize]);

impl<'a> Pointers<'a> {
    /// Fills `room` with the strings and a null. `E2BIG` when there is not room for all and the null.
    pub fn fill(room: &'a mut [usize], strings: impl Iterator<Item = &'a CStr>) -> Result<Pointers<'a>> {
        let mut n = 0;
        for s in strings {
            *room.get_mut(n).ok_or(Errno::TOOBIG)? = s.as_ptr() as usize;
            n += 1;
        }
        *room.get_mut(n).ok_or(Errno::TOOBIG)? = 0;
        Ok(Pointers(&room[..=n]))
    }
}

/// The working directory as the kernel names it, without the NUL (getcwd(2)). A place outside the root reads
/// `(unreachable)…`, which rustix would hide from a program without an allocator.
pub fn working_directory(room: &mut [u8]) -> Result<&[u8]> {
    // SAFETY: the kernel writes at most `room.len()` bytes at the pointer and returns how many it did.
    let n = unsafe { raw::call(k::__NR_getcwd, [room.as_mut_ptr() as usize, room.len(), 0, 0, 0, 0])? };
    Ok(&room[..n.saturating_sub(1).min(room.len())])
}
