// SPDX-License-Identifier: Apache-2.0
//! seccomp(2).

use crate::{Result, raw};
use linux_raw_sys::general as k;

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    len: u16,
    filter: *const u8,
}

const SECCOMP_SET_MODE_FILTER: usize = 1;

/// Loads a filter on the calling thread. `program` is an array of `struct sock_filter` as bytes: its length
/// is a multiple of 8, from 1 to 4096 instructions, else `EINVAL`. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn load(program: &[u8]) -> Result<()> {
    let count = program.len() / 8;
    if !program.len().is_multiple_of(8) || count == 0 || count > 4096 {
        return Err(rustix::io::Errno::INVAL);
    }
    let program = Program { len: count as u16, filter: program.as_ptr() };
    // SAFETY: the kernel reads `struct sock_fprog` and then `len` instructions of 8 bytes at `filter`, which
    // the slice has (checked above); copy_from_user needs no alignment. It copies and keeps no pointer.
    unsafe {
        let args = [SECCOMP_SET_MODE_FILTER, 0, &raw const program as usize, 0, 0, 0];
        raw::call(k::__NR_seccomp, args).map(drop)
    }
}
