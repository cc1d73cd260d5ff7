// SPDX-License-Identifier: Apache-2.0
//! The `syscall` instruction on x86-64 (kernel `Documentation/arch/x86/entry_64.rst`): number in rax,
//! arguments in rdi, rsi, rdx, r10, r8, r9; rcx and r11 are lost; errors are -4095..=-1 in rax.

use core::arch::asm;
use rustix::io::Errno;

/// A system call with six arguments; unused ones are zero.
///
/// # Safety
/// The arguments must be what the call `nr` expects, and pointers among them must be valid for as long and
/// as far as the kernel uses them.
pub(crate) unsafe fn call(nr: u32, args: [usize; 6]) -> Result<usize, Errno> {
    let mut rax = nr as usize;
    // SAFETY: the instruction itself touches only the registers named; what the kernel does with the
    // arguments is the caller's obligation, as stated above.
    unsafe {
        asm!("syscall", inlateout("rax") rax, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5], lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    if rax > usize::MAX - 4095 { Err(Errno::from_raw_os_error(-(rax as isize) as i32)) } else { Ok(rax) }
}
