// SPDX-License-Identifier: Apache-2.0
//! Memory for a program without an allocator.

use crate::Result;
use core::ptr::NonNull;
use rustix::fd::AsFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// A read-only private mapping of the first `len` bytes of a file, unmapped on drop.
///
/// The file must not shrink while it is mapped (a sealed memfd can not).
#[derive(Debug)]
pub struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of `file`, which must carry the seals `SHRINK` and `WRITE`, so that neither its
    /// length nor its content can change under the reader; `EPERM` otherwise.
    pub fn of_sealed(file: impl AsFd, len: usize) -> Result<Mapping> {
        use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
        let need = SealFlags::SHRINK | SealFlags::WRITE;
        if !fcntl_get_seals(&file)?.contains(need) || (fstat(&file)?.st_size as usize) < len || len == 0 {
            return Err(rustix::io::Errno::PERM);
        }
        // SAFETY: a new private mapping at an address of the kernel's choice overlaps nothing of ours.
        let at = unsafe { mmap(core::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, file, 0)? };
        Ok(Mapping { at: NonNull::new(at.cast()).ok_or(rustix::io::Errno::NOMEM)?, len })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `at` is the start of a readable mapping of `len` bytes that lives as long as `self`; the
        // seals checked in `of_sealed` keep anyone from writing or shrinking it.
        unsafe { core::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `of_sealed` with this address and length, and no slice of it
        // outlives `self`. A failure leaves the mapping, which is harmless.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// At most so many arenas for the allocations of this program's threads (mallopt(3), `M_ARENA_MAX`); to be called before
/// there are threads. glibc's own limit is eight for each processor: each thread gets one of its own, and what is left in it is
/// kept when the thread has ended.
#[cfg(feature = "std")]
pub fn at_most_arenas(count: i32) {
    /// malloc.h
    const M_ARENA_MAX: i32 = -8;
    unsafe extern "C" {
        fn mallopt(param: i32, value: i32) -> i32;
    }
    // SAFETY: glibc's own function; it takes two numbers and may be called at any time.
    let _ = unsafe { mallopt(M_ARENA_MAX, count) };
}

/// Gives memory that was freed back to the kernel (malloc_trim(3)), from all arenas: what a burst of work has used is
/// otherwise kept for the next one. Takes a millisecond for some megabytes.
#[cfg(feature = "std")]
pub fn give_back() {
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> i32;
    }
    // SAFETY: glibc's own function; it takes a number, locks what it looks at, and may be called at any time.
    let _ = unsafe { malloc_trim(0) };
}

/// Chunks that a thread had freed.
#[cfg(feature = "std")]
#[derive(Debug)]
pub struct Cached {
    _chunks: std::vec::Vec<std::vec::Vec<u8>>,
}

/// Takes what glibc keeps for this thread of what it has freed: seven chunks of each of 64 sizes up to 1,032 bytes (tcache;
/// glibc.malloc.tcache_count in the manual, "Memory Allocation Tunables"). What another thread frees is kept for that one, until
/// it ends.
#[cfg(feature = "std")]
pub fn take_cached() -> Cached {
    const SIZES: usize = 64;
    const OF_A_SIZE: usize = 7;
    let mut chunks = std::vec::Vec::with_capacity(SIZES * OF_A_SIZE);
    for n in 0..SIZES {
        chunks.extend((0..OF_A_SIZE).map(|_| std::vec::Vec::with_capacity(24 + 16 * n)));
    }
    Cached { _chunks: chunks }
}

/// A zeroed array of `len` words from fresh pages, kept until the process ends. For the pointer arrays of
/// execve in a process that has no heap.
pub fn words(len: usize) -> Result<&'static mut [usize]> {
    let bytes = len.max(1).checked_mul(core::mem::size_of::<usize>()).ok_or(rustix::io::Errno::NOMEM)?;
    let at = fresh(bytes)?;
    // SAFETY: `fresh` gave pages for so many words, aligned to a page, zero, never unmapped, and known to nobody else.
    Ok(unsafe { core::slice::from_raw_parts_mut(at.as_ptr().cast(), len) })
}

/// `N` zero bytes from fresh pages, kept until the process ends; a page takes memory when it is first written to.
pub fn bytes<const N: usize>() -> Result<&'static mut [u8; N]> {
    let at = fresh(N.max(1))?;
    // SAFETY: as for `words`; a byte has no alignment.
    Ok(unsafe { &mut *at.as_ptr().cast() })
}

/// New pages of zeros for at least so many bytes.
fn fresh(bytes: usize) -> Result<NonNull<u8>> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing of ours.
    let at = unsafe { mmap_anonymous(core::ptr::null_mut(), bytes, access, MapFlags::PRIVATE)? };
    NonNull::new(at.cast()).ok_or(rustix::io::Errno::NOMEM)
}
