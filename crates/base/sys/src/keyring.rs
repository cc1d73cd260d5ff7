// SPDX-License-Identifier: Apache-2.0
//! The session keyring (keyctl(2)).

use crate::{Result, raw};
use core::ffi::CStr;
use linux_raw_sys::general as k;

const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;

/// Joins a new session keyring named `name`, so that the caller no longer shares its creator's keys
/// (`KEYCTL_JOIN_SESSION_KEYRING`). `ENOSYS` where the kernel has no keyrings.
pub fn join_session(name: &CStr) -> Result<()> {
    // SAFETY: `name` is NUL-terminated and lives through the call, which only reads it.
    unsafe {
        raw::call(k::__NR_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
    }
}
