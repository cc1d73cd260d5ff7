// SPDX-License-Identifier: Apache-2.0
//! What a pidfd still tells after its process was reaped by another (`PIDFD_GET_INFO`, kernel 6.13;
//! `PIDFD_INFO_EXIT`, kernel 6.15; include/uapi/linux/pidfd.h).

use crate::{Result, raw};
use linux_raw_sys::general as k;
use rustix::fd::{AsFd, AsRawFd};

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)` with the 64-byte structure of version 0.
const PIDFD_GET_INFO: usize = (3 << 30) | (64 << 16) | (0xFF << 8) | 11;

#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// The wait status word of a process that has been reaped, by whomever. `Ok(None)` when it still runs or is
/// not yet reaped; an error (`ENOTTY`, `EINVAL`) where the kernel can not tell.
pub fn exit_status(pidfd: impl AsFd) -> Result<Option<i32>> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the pidfd is open for the call; the request's size field says 64 bytes, which is the size of
    // `PidfdInfo` (asserted in the tests), and the kernel writes no more than that.
    unsafe {
        let args = [pidfd.as_fd().as_raw_fd() as usize, PIDFD_GET_INFO, &raw mut info as usize, 0, 0, 0];
        match raw::call(k::__NR_ioctl, args) {
            Ok(_) => {}
            // Not reaped yet: there is no exit information and, seen from outside, nothing else either.
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_structure_has_the_size_that_the_request_number_says() {
        assert_eq!(core::mem::size_of::<super::PidfdInfo>(), 64);
    }
}
