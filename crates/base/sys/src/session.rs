// SPDX-License-Identifier: Apache-2.0
//! Sessions for programs of others: std's `Command` can give a child a process group of its own, but no session.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::signal;

/// Lets no signal be blocked in the command's process: the agent blocks those that it reads, and a program would be deaf to
/// them, with all that it starts.
pub fn unblock(command: &mut Command) -> &mut Command {
    let unblock = || signal::set_mask(signal::Set::NONE).map(drop).map_err(Into::into);
    // SAFETY: between fork and exec the child calls only rt_sigprocmask(2), which is async-signal-safe, and turns its error
    // number into an `io::Error`, which allocates nothing. No handler runs when a signal is let in: there are none in berth.
    unsafe { command.pre_exec(unblock) }
}

/// Lets the command's process lead a session of its own (setsid(2)), so that it and all that stay with it can be found and
/// ended together. When `spawn` returns, it does. No signal is blocked in it.
pub fn lead(command: &mut Command) -> &mut Command {
    let lead = || rustix::process::setsid().map(drop).map_err(Into::into);
    // SAFETY: between fork and exec the child calls only setsid(2), which is async-signal-safe, and turns its error number
    // into an `io::Error`, which allocates nothing.
    unsafe { unblock(command).pre_exec(lead) }
}

/// The same, and the terminal that is its standard input becomes that of the session (TIOCSCTTY).
pub fn lead_on_terminal(command: &mut Command) -> &mut Command {
    let terminal = || {
        // SAFETY: std has put the child's standard input in place before it calls this, and nothing closes it until exec.
        let stdin = unsafe { rustix::fd::BorrowedFd::borrow_raw(0) };
        rustix::process::ioctl_tiocsctty(stdin).map_err(Into::into)
    };
    // SAFETY: between fork and exec the child calls only ioctl(2), which is async-signal-safe, and turns its error number
    // into an `io::Error`, which allocates nothing. std calls what it is given in order, so the session is there.
    unsafe { lead(command).pre_exec(terminal) }
}

/// Lets the command's process have its three standard streams and no other descriptor, whatever its ancestors have left open.
pub fn close_others(command: &mut Command) -> &mut Command {
    let close = || crate::fd::close_from(3, crate::fd::Fate::CloseOnExec).map_err(Into::into);
    // SAFETY: between fork and exec the child calls only close_range(2) or fcntl(2), which are async-signal-safe, allocates
    // nothing, and closes nothing that is still in use: descriptors go when the program is executed.
    unsafe { command.pre_exec(close) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_hears_signals_that_are_blocked_here() {
        let before = signal::set_mask(signal::Set::of(&[15])).unwrap();
        let mut command = Command::new("/bin/grep");
        let ran = unblock(command.args(["SigBlk", "/proc/self/status"])).output();
        signal::set_mask(before).unwrap();
        assert_eq!(ran.unwrap().stdout, b"SigBlk:\t0000000000000000\n");
    }

    #[test]
    fn the_process_leads_its_session() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read -r stat < /proc/$$/stat; set -- ${stat##*)}; test $$ = $4"]);
        assert!(lead(&mut command).status().unwrap().success());
    }

    #[test]
    fn no_signal_is_blocked_in_it() {
        let mut command = Command::new("/bin/grep");
        command.args(["-q", "^SigBlk:.0000000000000000$", "/proc/self/status"]);
        let before = signal::set_mask(signal::Set::of(&[10, 15])).unwrap();
        let (plain, led) = (command.status(), lead(&mut command).status());
        signal::set_mask(before).unwrap();
        assert!(!plain.unwrap().success(), "a child has the mask of its maker");
        assert!(led.unwrap().success());
    }

    #[test]
    fn a_session_on_a_terminal_has_it_for_its_own() {
        use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
        let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ": </dev/tty"]).stdin(terminal);
        assert!(lead_on_terminal(&mut command).status().unwrap().success());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "exec </dev/tty"])
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        assert!(!lead(&mut command).status().unwrap().success(), "one without has none");
        let mut command = Command::new("/bin/true");
        command.stdin(std::process::Stdio::null());
        assert!(lead_on_terminal(&mut command).status().is_err(), "what is no terminal");
    }

    #[test]
    fn nothing_but_its_streams_is_left_open() {
        let file = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let mut command = Command::new("/bin/sh");
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        command.args(["-c", &format!("test ! -e /proc/self/fd/{number}")]);
        assert!(!command.status().unwrap().success(), "it is inherited");
        assert!(close_others(&mut command).status().unwrap().success());
    }
}
