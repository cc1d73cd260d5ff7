// SPDX-License-Identifier: Apache-2.0
//! Landlock (landlock(7)): which version of it the kernel has.

use crate::{Result, raw};
use linux_raw_sys::general as k;

const LANDLOCK_CREATE_RULESET_VERSION: usize = 1;

/// The version of the interface, from 1. `ENOSYS` where the kernel has none, `EOPNOTSUPP` where it is switched off.
pub fn abi() -> Result<usize> {
    // SAFETY: with this flag the attribute must be NULL and its size 0; nothing is made.
    unsafe { raw::call(k::__NR_landlock_create_ruleset, [0, 0, LANDLOCK_CREATE_RULESET_VERSION, 0, 0, 0]) }
}
