// SPDX-License-Identifier: Apache-2.0
//! Programs of the kernel's own machine that say who may use a device (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`): loaded,
//! attached to a control group of v2, asked for.

use crate::{Result, raw};
use linux_raw_sys::general as k;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// uapi/linux/bpf.h: commands.
const PROG_LOAD: usize = 5;
const PROG_ATTACH: usize = 8;
const PROG_DETACH: usize = 9;
const PROG_GET_FD_BY_ID: usize = 13;
const OBJ_GET_INFO_BY_FD: usize = 15;
const PROG_QUERY: usize = 16;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const CGROUP_DEVICE_TYPE: u32 = 15;
/// `BPF_CGROUP_DEVICE`, the place where such a program is attached.
const CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: further programs may be attached there and below; all of them have to agree.
const ALLOW_MULTI: u32 = 1 << 1;
/// `BPF_F_REPLACE` (kernel 5.6).
const REPLACE: u32 = 1 << 2;

/// More programs than anybody attaches to one group (the kernel takes 64).
pub const MOST: usize = 64;

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    place: u32,
    flags: u32,
    replaced: u32,
    unused: u32,
}

#[repr(C)]
struct Query {
    target: u32,
    place: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    unused: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
struct InfoCall {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    created_by_uid: u32,
    maps_count: u32,
    maps: u64,
    name: [u8; 16],
}

/// What the kernel says of a program that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its number, unique as long as it is there.
    pub id: u32,
    /// A sum over its instructions.
    pub tag: [u8; 8],
    /// The name that it was loaded with, ended by a zero byte.
    pub name: [u8; 16],
}

/// # Safety
/// `attr` must be the part of `union bpf_attr` that `command` reads, and the pointers in it valid for the call.
unsafe fn bpf<T>(command: usize, attr: &mut T) -> Result<usize> {
    let size = core::mem::size_of::<T>();
    // SAFETY: the kernel reads and writes at most `size` bytes at `attr`; the rest is the caller's obligation.
    unsafe { raw::call(k::__NR_bpf, [command, core::ptr::from_mut(attr) as usize, size, 0, 0, 0]) }
}

fn fd_of(number: usize) -> OwnedFd {
    // SAFETY: only called with what a bpf command has returned as a new descriptor, which is ours alone.
    unsafe { OwnedFd::from_raw_fd(number as RawFd) }
}

fn raw_of(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

/// Loads a program that is called for each use of a device. The kernel proves that it ends and touches only its
/// argument; `name` is at most 15 letters, digits, dots and underscores.
pub fn load_device_program(instructions: &[u64], name: &str) -> Result<OwnedFd> {
    let mut text = [0; 16];
    for (to, from) in text[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let mut load = Load {
        kind: CGROUP_DEVICE_TYPE,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: text,
    };
    // SAFETY: PROG_LOAD reads `count` instructions of eight bytes each, and the licence up to its NUL; both outlive
    // the call, and the kernel keeps its own copies.
    unsafe { bpf(PROG_LOAD, &mut load) }.map(fd_of)
}

/// Attaches it to a group, given by its directory, beside what others have attached there.
pub fn attach(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attach = Attach {
        target: raw_of(group),
        program: raw_of(program),
        place: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        replaced: 0,
        unused: 0,
    };
    // SAFETY: PROG_ATTACH has no pointers.
    unsafe { bpf(PROG_ATTACH, &mut attach) }.map(drop)
}

/// Puts it in the place of another in one step.
pub fn replace(group: BorrowedFd<'_>, program: BorrowedFd<'_>, old: BorrowedFd<'_>) -> Result<()> {
    let mut attach = Attach {
        target: raw_of(group),
        program: raw_of(program),
        place: CGROUP_DEVICE,
        flags: ALLOW_MULTI | REPLACE,
        replaced: raw_of(old),
        unused: 0,
    };
    // SAFETY: PROG_ATTACH has no pointers.
    unsafe { bpf(PROG_ATTACH, &mut attach) }.map(drop)
}

/// Takes it off again.
pub fn detach(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attach = Attach {
        target: raw_of(group),
        program: raw_of(program),
        place: CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
        unused: 0,
    };
    // SAFETY: PROG_DETACH has no pointers.
    unsafe { bpf(PROG_DETACH, &mut attach) }.map(drop)
}

/// The numbers of the programs attached to this very group, and how many there are.
pub fn attached(group: BorrowedFd<'_>) -> Result<([u32; MOST], usize)> {
    let mut ids = [0u32; MOST];
    let mut query = Query {
        target: raw_of(group),
        place: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        unused: 0,
    };
    // SAFETY: PROG_QUERY writes at most `count` numbers to `ids`, which has room for so many.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    Ok((ids, (query.count as usize).min(MOST)))
}

/// A descriptor of a program by its number.
pub fn by_id(id: u32) -> Result<OwnedFd> {
    let mut call = ById { id, next: 0, flags: 0 };
    // SAFETY: PROG_GET_FD_BY_ID has no pointers.
    unsafe { bpf(PROG_GET_FD_BY_ID, &mut call) }.map(fd_of)
}

/// What the kernel says of a program.
pub fn look(program: impl AsFd) -> Result<Program> {
    let mut info = Info::default();
    let mut call = InfoCall {
        fd: raw_of(program.as_fd()),
        length: core::mem::size_of::<Info>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: OBJ_GET_INFO_BY_FD writes at most `length` bytes to `info`. The lengths and counts in it are zero, so no
    // further pointer is followed.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut call) }?;
    Ok(Program { id: info.id, tag: info.tag, name: info.name })
}
