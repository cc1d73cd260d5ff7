// SPDX-License-Identifier: Apache-2.0
//! `berth-init`: the process that stands beside each container. It has no command line: everything comes over
//! the socket that it inherits (crate `berth-supervisor`). It runs from a sealed memfd, so nothing in a
//! container can change it (CVE-2019-5736).
#![no_std]
#![no_main]

/// The entry, called by `berth-sys`'s `_start`.
// The one line of unsafe outside berth-sys: a symbol of a fixed name has no safe spelling.
#[unsafe(no_mangle)]
pub extern "C" fn berth_start() -> ! {
    berth_supervisor::supervise::main(berth_sys::start::rename)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    berth_sys::process::exit(125)
}
