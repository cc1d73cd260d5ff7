// SPDX-License-Identifier: Apache-2.0
//! mount_setattr(2), which rustix lacks.

use crate::{Result, raw};
use core::ffi::CStr;
use linux_raw_sys::general as k;
use rustix::fd::{AsRawFd, BorrowedFd};

/// Attributes of a mount (`MOUNT_ATTR_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u64);

impl Attributes {
    /// Nothing.
    pub const NONE: Attributes = Attributes(0);
    /// Read-only.
    pub const RDONLY: Attributes = Attributes(k::MOUNT_ATTR_RDONLY as u64);
    /// Set-user-id bits and file capabilities are ignored.
    pub const NOSUID: Attributes = Attributes(k::MOUNT_ATTR_NOSUID as u64);
    /// Device files can not be opened.
    pub const NODEV: Attributes = Attributes(k::MOUNT_ATTR_NODEV as u64);
    /// Programs can not be executed.
    pub const NOEXEC: Attributes = Attributes(k::MOUNT_ATTR_NOEXEC as u64);

    /// Both.
    pub const fn and(self, other: Attributes) -> Attributes {
        Attributes(self.0 | other.0)
    }
    /// As the number that fsmount(2) and the wire carry.
    pub const fn bits(self) -> u64 {
        self.0
    }
    /// From that number; unknown bits are for the kernel to refuse.
    pub const fn from_bits(bits: u64) -> Attributes {
        Attributes(bits)
    }
}

/// Whether a call reaches only the mount named or all below it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This mount.
    One,
    /// And every mount below it.
    Tree,
}

/// Sets attributes on the mount at `path` below `dir` (an empty path names `dir` itself), and makes it
/// private if `private` (kernel 5.12).
pub fn set_attributes(
    dir: BorrowedFd<'_>,
    path: &CStr,
    reach: Reach,
    set: Attributes,
    private: bool,
) -> Result<()> {
    let attr = k::mount_attr {
        attr_set: set.0,
        attr_clr: 0,
        propagation: if private { k::MS_PRIVATE as u64 } else { 0 },
        userns_fd: 0,
    };
    let mut flags = k::AT_EMPTY_PATH | k::AT_SYMLINK_NOFOLLOW;
    if reach == Reach::Tree {
        flags |= k::AT_RECURSIVE;
    }
    // SAFETY: `dir` is open for the call; `path` is NUL-terminated; the kernel reads `size_of(attr)` bytes at
    // `attr`, which is that type. It keeps no pointer.
    unsafe {
        raw::call(
            k::__NR_mount_setattr,
            [
                dir.as_raw_fd() as usize,
                path.as_ptr() as usize,
                flags as usize,
                &raw const attr as usize,
                core::mem::size_of::<k::mount_attr>(),
                0,
            ],
        )
        .map(drop)
    }
}

/// Lets the detached mount `mount` show the ids of the user namespace `users` (kernel 5.12; `EINVAL` where its file
/// system can not).
pub fn set_id_map(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> Result<()> {
    let attr = k::mount_attr {
        attr_set: u64::from(k::MOUNT_ATTR_IDMAP),
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd() as u64,
    };
    // SAFETY: as in `set_attributes`; both descriptors are open for the call.
    unsafe {
        raw::call(
            k::__NR_mount_setattr,
            [
                mount.as_raw_fd() as usize,
                c"".as_ptr() as usize,
                k::AT_EMPTY_PATH as usize,
                &raw const attr as usize,
                core::mem::size_of::<k::mount_attr>(),
                0,
            ],
        )
        .map(drop)
    }
}
