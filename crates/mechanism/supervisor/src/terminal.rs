// SPDX-License-Identifier: Apache-2.0
//! The terminal, as the child takes it. Its slave is asked of the master (`TIOCGPTPEER`), never opened by a
//! path, and /dev/console is a file that we made in a /dev that we mounted (CVE-2025-52565).

use crate::protocol::{self, Kind, Message};
use berth_sys::Result;
use berth_sys::rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use berth_sys::rustix::fs::{self, CWD, Mode, OFlags, ResolveFlags};
use berth_sys::rustix::mount::{self, MoveMountFlags, OpenTreeFlags};
use berth_sys::rustix::process::{Gid, Uid};
use berth_sys::rustix::{pty, termios};
use core::ffi::CStr;

/// Takes a new terminal of that size, gives its slave to the user and its master to the supervisor.
pub(crate) fn take(
    ptmx: &CStr,
    (uid, gid): (u32, u32),
    (rows, cols): (u16, u16),
    resolve: ResolveFlags,
    supervisor: BorrowedFd<'_>,
) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = fs::openat2(CWD, ptmx, flags, Mode::empty(), resolve)?;
    pty::unlockpt(&master)?;
    let slave = pty::ioctl_tiocgptpeer(
        &master,
        pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY | pty::OpenptFlags::CLOEXEC,
    )?;
    if rows != 0 && cols != 0 {
        let size = termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        termios::tcsetwinsize(&master, size)?;
    }
    fs::fchown(&slave, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fs::fchmod(&slave, Mode::from_bits_truncate(0o620))?;
    protocol::send(supervisor, Message::new(Kind::Terminal, 0, 0), &[], &[master.as_fd()])?;
    Ok(slave)
}

/// Binds the slave at /dev/console, on a new file below a `dev` that no link leads to.
pub(crate) fn bind_console(slave: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<()> {
    let dev = fs::openat2(
        root,
        c"dev",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
    )?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(fs::openat(&dev, c"console", flags, Mode::from_bits_truncate(0o620))?);
    let clone =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = mount::open_tree(slave, c"", clone)?;
    mount::move_mount(&tree, c"", &dev, c"console", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
