// SPDX-License-Identifier: Apache-2.0
//! The start of a program without libc: the entry point, and the memory functions that compiled code calls.
//! glibc's own start costs half a millisecond on a virtual machine (each of its 68 CPUIDs traps).
//!
//! The program defines `extern "C" fn berth_start() -> !` with that symbol.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicUsize, Ordering};

global_asm!(
    ".globl _start",
    ".type _start,@function",
    "_start:",
    "xor ebp, ebp",
    "mov qword ptr [rip + {began}], rsp",
    "and rsp, -16",
    "call berth_start",
    "ud2",
    began = sym BEGAN,
);

/// Where the stack began: the number of arguments, and pointers to them (System V ABI, "Process initialization").
static BEGAN: AtomicUsize = AtomicUsize::new(0);
/// How long the second argument was when the program began, once that was looked at.
static ROOM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Has the program's second argument be another one in process lists (`/proc/PID/cmdline` reads it where the kernel put it).
/// What is longer than it was at first is cut off there. Only for a program of one thread that does not read its arguments.
pub fn rename(title: &[u8], _proof: &crate::process::SingleThreaded) {
    let began = BEGAN.load(Ordering::Relaxed) as *const usize;
    if began.is_null() {
        return;
    }
    // SAFETY: the kernel put a count there, and that many pointers to strings that end with NUL, on the stack of this
    // program, which is writable and lives as long as it does. Nothing else refers to the strings: there is one thread,
    // and this module is the only one that knows them.
    unsafe {
        if *began < 2 {
            return;
        }
        let at = *began.add(2) as *mut u8;
        let mut room = ROOM.load(Ordering::Relaxed);
        if room == usize::MAX {
            room = strlen(at);
            ROOM.store(room, Ordering::Relaxed);
        }
        memset(at, 0, room);
        memcpy(at, title.as_ptr(), title.len().min(room));
    }
}

/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: by the caller's contract both areas are valid for `n` bytes and do not overlap; the direction
    // flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= n {
        // SAFETY: the areas do not overlap forwards, so copying upwards is right.
        return unsafe { memcpy(to, from, n) };
    }
    // SAFETY: valid areas by contract; copied downwards from the last byte, and the direction flag is put
    // back as the ABI wants it.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") n => _,
            inout("rdi") to.wrapping_add(n).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(n).wrapping_sub(1) => _, options(nostack));
    }
    to
}

/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    // SAFETY: by the caller's contract the area is valid for `n` bytes.
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    let mut i = 0;
    while i < n {
        // SAFETY: `i < n`, and both areas are valid for `n` bytes. Volatile keeps the compiler from turning
        // the loop into a call of this very function.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        i += 1;
    }
    0
}

/// # Safety
/// As bcmp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, n) }
}

/// # Safety
/// As strlen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(s: *const u8) -> usize {
    let mut n = 0;
    // SAFETY: the string is NUL-terminated by contract, so every byte up to that one may be read.
    while unsafe { s.add(n).read_volatile() } != 0 {
        n += 1;
    }
    n
}
