// SPDX-License-Identifier: Apache-2.0
//! The loopback interface (netdevice(7)).

use crate::{Result, raw};
use linux_raw_sys::general as k;
use rustix::fd::AsRawFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const SIOCSIFFLAGS: usize = 0x8914;
const IFF_UP: u16 = 0x1;
const IFF_RUNNING: u16 = 0x40;

/// `struct ifreq` with the `ifr_flags` arm: 16 bytes of name and a union of 24.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Brings `lo` of the caller's network namespace up. The kernel gives it 127.0.0.1/8 and ::1 by itself.
pub fn loopback_up() -> Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut request = IfReq { name: [0; 16], flags: IFF_UP | IFF_RUNNING, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: `socket` is open; SIOCSIFFLAGS reads one `struct ifreq` (40 bytes) at the pointer, which
    // `IfReq` has the layout of, with a NUL-terminated name.
    unsafe {
        let args = [socket.as_raw_fd() as usize, SIOCSIFFLAGS, &raw const request as usize, 0, 0, 0];
        raw::call(k::__NR_ioctl, args).map(drop)
    }
}
