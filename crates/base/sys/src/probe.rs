// SPDX-License-Identifier: Apache-2.0
//! A process that does nothing, for finding out what the kernel can do: namespaces, control groups, pidfds.

use crate::process::Namespaces;
use crate::{Result, pidfd, raw, signal};
use linux_raw_sys::general as k;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::process::{Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};

/// A child that only waits for its end. It ends with this value, and at the latest with the thread that made it.
#[derive(Debug)]
pub struct Sleeper {
    pid: i32,
    pidfd: OwnedFd,
    over: bool,
}

/// Whether a [`Sleeper`] has a user namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNamespace {
    /// Its own, in which no id is mapped yet.
    Own,
    /// That of its maker.
    Shared,
}

impl Sleeper {
    /// Makes one, in these namespaces and, if a directory of a v2 hierarchy is given, in that control group
    /// (clone3(2), `CLONE_INTO_CGROUP`). Safe in a program with threads: the child makes only system calls.
    pub fn start(
        namespaces: Namespaces,
        user: UserNamespace,
        group: Option<BorrowedFd<'_>>,
    ) -> Result<Sleeper> {
        let mut pidfd: RawFd = -1;
        let mut flags = namespaces.bits() | u64::from(k::CLONE_PIDFD);
        if user == UserNamespace::Own {
            flags |= u64::from(k::CLONE_NEWUSER);
        }
        if group.is_some() {
            flags |= k::CLONE_INTO_CGROUP;
        }
        let args = k::clone_args {
            flags,
            pidfd: &raw mut pidfd as u64,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: u64::from(k::SIGCHLD),
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: group.map_or(0, |group| group.as_raw_fd() as u64),
        };
        // SAFETY: without CLONE_VM the child has a copy of the memory and of this stack. Other threads may have held
        // locks at that moment, and are not there: so the child takes none, allocates nothing, drops nothing, and
        // stays in `sleep`. The kernel reads `size_of(args)` bytes and writes one int to `pidfd`.
        let pid = unsafe {
            let size = core::mem::size_of::<k::clone_args>();
            raw::call(k::__NR_clone3, [&raw const args as usize, size, 0, 0, 0, 0])?
        };
        if pid == 0 {
            sleep();
        }
        // SAFETY: the kernel wrote a new descriptor, which is ours alone.
        Ok(Sleeper { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, over: false })
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Ends it, reaps it, and says what the pidfd still tells then (see [`pidfd::exit_status`]).
    pub fn end(mut self) -> Result<Option<i32>> {
        self.finish()?;
        pidfd::exit_status(&self.pidfd)
    }

    fn finish(&mut self) -> Result<()> {
        self.over = true;
        signal::send(&self.pidfd, Signal::KILL.as_raw())?;
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED))
            .map(drop)
    }
}

impl AsFd for Sleeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if !self.over {
            // Fails only if somebody else has reaped it, and then it is over.
            let _ = self.finish();
        }
    }
}

fn sleep() -> ! {
    // One system call; a failure leaves the child to its maker.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    loop {
        // SAFETY: no pointers.
        let _ = unsafe { raw::call(k::__NR_pause, [0; 6]) };
    }
}
