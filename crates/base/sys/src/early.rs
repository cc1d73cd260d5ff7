// SPDX-License-Identifier: Apache-2.0
//! Making a supervisor and a container's first process before the C library has started.
//!
//! The start of a static program with glibc takes 0.4 ms of CPUID instructions (each leaves a virtual machine), and making
//! a container's namespaces takes 0.6 ms of kernel time. Neither needs the other, so a program whose entry point is
//! `berth_entry` (linker option `-e berth_entry`) and whose command line is `… run … --rootfs …` does both at once:
//!
//! ```text
//! owner:       berth_entry ── clone ──> _start of glibc, main, [`roles`], [`take`] ── first message ──┐
//! supervisor:                   └─ setsid, null streams, clone3 with namespaces, waits for a message <┤
//! child:                                                     └─ dies with the supervisor, waits too <─┘
//! ```
//! The two share the owner's memory (`CLONE_VM`; so nothing is copied, and nothing that the owner has is charged to the
//! container) on stacks of their own, with a block of their own where libc keeps what belongs to a thread. Until the first
//! message they run nothing but the assembly below: libc's own functions (memcpy among them) can not be called before its
//! start has bound them. The first message comes from `main`, when all is there; an end of file, when there is no owner
//! any more, ends them from the assembly too. Whoever does not take what was begun loses it with its sockets.
//!
//! The supervisor is sent to another processor than the owner's, if it may use one: left to itself the kernel often queues
//! it behind the owner, and then nothing is done at once. It takes its former mask back once its child is there, and the
//! child before it executes ([`free`]): a message on a socket else pulls it over to the owner's processor, because the
//! kernel expects who sends one to wait next.
//!
//! Only when it is root, and only for the options that make it likely that all namespaces of [`NAMESPACES`] are
//! wanted; a guess that was wrong costs a millisecond, and the guess is compared with what is wanted before it is used.

use crate::process::Namespaces;
use crate::{Errno, Result, raw};
use core::arch::global_asm;
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use linux_raw_sys::general as k;
use rustix::fd::{FromRawFd, OwnedFd};

/// The namespaces that the child has.
pub const NAMESPACES: Namespaces =
    Namespaces::MOUNT.and(Namespaces::PID).and(Namespaces::IPC).and(Namespaces::UTS).and(Namespaces::NET);

/// What the entry began: the owner's ends.
#[derive(Debug)]
pub struct Begun {
    /// The supervisor's pid.
    pub pid: i32,
    /// The supervisor.
    pub pidfd: OwnedFd,
    /// To the supervisor.
    pub socket: OwnedFd,
    /// To the child.
    pub plan: OwnedFd,
}

/// What the supervisor begins with.
#[derive(Debug)]
pub struct Supervising {
    /// To the owner.
    pub owner: OwnedFd,
    /// To the child.
    pub child: OwnedFd,
    /// The child's pid and pidfd, or why there is none.
    pub made: Result<(i32, OwnedFd)>,
}

/// What the supervisor does once its owner has spoken.
pub type Supervisor = fn(Supervising) -> !;
/// What the child does then: its ends of the sockets to the owner and to the supervisor.
pub type Child = fn(OwnedFd, OwnedFd) -> !;

const STACK: usize = 256 * 1024;
/// Bytes of a mask of processors: for 8192, the kernel's most.
const CPUS: usize = 1024;
/// Below the thread's block: the program's thread-local data (all of it zero at first, which is what nobody here uses).
const LOCALS: usize = 4096;
/// From the thread's block on: glibc's `struct pthread`, of which only the first words are looked at.
const BLOCK: usize = 4096;
/// How much of a stack is used for sure.
const USED: usize = 16 * 1024;

unsafe extern "C" {
    static berth_early_pid: AtomicI32;
    static berth_early_pidfd: AtomicI32;
    static berth_early_sockets: [AtomicI32; 4];
    static berth_early_roles: [AtomicUsize; 2];
    static berth_early_away: AtomicI32;
    static berth_early_cpus: [u8; CPUS];
}

static ROLES: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Says what the two do when they hear from this process. To be called before [`take`].
pub fn roles(supervisor: Supervisor, child: Child) {
    ROLES[0].store(supervisor as usize, Ordering::SeqCst);
    ROLES[1].store(child as usize, Ordering::SeqCst);
    // SAFETY: two words of the program's own data, which the assembly reads only after a message of ours.
    unsafe {
        berth_early_roles[0].store(supervises as *const () as usize, Ordering::SeqCst);
        berth_early_roles[1].store(sets_up as *const () as usize, Ordering::SeqCst);
    }
}

static PROGRAM: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Says what program the two execute when they are to be a program of their own. To be called before [`take`].
pub fn own_program(program: &'static [u8]) {
    PROGRAM[1].store(program.len(), Ordering::SeqCst);
    PROGRAM[0].store(program.as_ptr() as usize, Ordering::SeqCst);
}

/// That program.
pub fn program() -> &'static [u8] {
    let (at, len) = (PROGRAM[0].load(Ordering::SeqCst), PROGRAM[1].load(Ordering::SeqCst));
    if at == 0 {
        return &[];
    }
    // SAFETY: the two words are of one slice that lives for good (`own_program`).
    unsafe { core::slice::from_raw_parts(at as *const u8, len) }
}

/// What the entry began, if it did: once.
pub fn take() -> Option<Begun> {
    // SAFETY: words of the program's own data, written by the entry before `main`, when there was one thread.
    let (pid, pidfd, socket, plan) = unsafe {
        (
            berth_early_pid.swap(0, Ordering::SeqCst),
            berth_early_pidfd.load(Ordering::SeqCst),
            berth_early_sockets[0].load(Ordering::SeqCst),
            berth_early_sockets[2].load(Ordering::SeqCst),
        )
    };
    if pid <= 0 {
        return None;
    }
    // SAFETY: the entry opened these three and uses them no more; the swap above hands them out once.
    unsafe {
        Some(Begun {
            pid,
            pidfd: OwnedFd::from_raw_fd(pidfd),
            socket: OwnedFd::from_raw_fd(socket),
            plan: OwnedFd::from_raw_fd(plan),
        })
    }
}

/// How many things can be published.
const PARTS: usize = 2;

static PUBLISHED: [[AtomicUsize; 2]; PARTS] = [const { [const { AtomicUsize::new(0) }; 2] }; PARTS];

/// Gives the child something to read, for good: the memory is never freed, so it is there as long as any of the three.
/// Each part once; what does not fit is not there for the child.
pub fn publish(part: usize, bytes: Vec<u8>) {
    let Some([at, len]) = PUBLISHED.get(part) else { return };
    let bytes: &'static [u8] = bytes.leak();
    len.store(bytes.len(), Ordering::SeqCst);
    at.store(bytes.as_ptr() as usize, Ordering::SeqCst);
}

/// What the owner published as `part` before the message that told of it; nothing when it did not.
pub fn published(part: usize) -> &'static [u8] {
    let Some([at, len]) = PUBLISHED.get(part) else { return &[] };
    let (at, len) = (at.load(Ordering::SeqCst), len.load(Ordering::SeqCst));
    if at == 0 {
        return &[];
    }
    // SAFETY: the two words are of one slice that lives for good and is never changed (`publish` is called once for a
    // part, by the owner, for the one child that there is; the message that tells of it comes after both stores).
    unsafe { core::slice::from_raw_parts(at as *const u8, len) }
}

/// Gives the child the processors that its program may use.
pub fn free() -> Result<()> {
    // SAFETY: `away` and the mask were written by the entry before the child was made. The kernel reads `CPUS` bytes.
    unsafe {
        if berth_early_away.load(Ordering::SeqCst) != 0 {
            let args = [0, CPUS, (&raw const berth_early_cpus) as usize, 0, 0, 0];
            raw::call(k::__NR_sched_setaffinity, args)?;
        }
    }
    Ok(())
}

/// Called by the assembly in the supervisor.
extern "C" fn supervises(owner: i32, child: i32, pid: i32, pidfd: i32) -> ! {
    // SAFETY: `roles` stored this function before the message that brought us here was sent.
    let supervisor: Supervisor = unsafe { core::mem::transmute(ROLES[0].load(Ordering::SeqCst)) };
    // SAFETY: the assembly made these for this process, whose table of descriptors is its own, and names them once.
    let (owner, child) = unsafe { (OwnedFd::from_raw_fd(owner), OwnedFd::from_raw_fd(child)) };
    let made = match pid {
        // SAFETY: as above; clone3 wrote it when it succeeded.
        1.. => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
        error => Err(Errno::from_raw_os_error(-error)),
    };
    supervisor(Supervising { owner, child, made })
}

/// Called by the assembly in the child.
extern "C" fn sets_up(owner: i32, supervisor: i32) -> ! {
    // SAFETY: as in `supervises`.
    let child: Child = unsafe { core::mem::transmute(ROLES[1].load(Ordering::SeqCst)) };
    // SAFETY: as in `supervises`.
    let (owner, supervisor) = unsafe { (OwnedFd::from_raw_fd(owner), OwnedFd::from_raw_fd(supervisor)) };
    child(owner, supervisor)
}

// What each register holds. Owner: rbx the stack as the kernel gave it, r15 what rdx was. Supervisor: ebx its socket to
// the owner, r12d the child's to the owner, r13d the child's pid, r15d whether it was sent away. A system call keeps all but rax, rcx and r11.
// The loads of eight bytes at the start of an argument can reach beyond its end, but not beyond the stack's: after all
// arguments come the environment, the program's name and a word of zero (fs/binfmt_elf.c).
global_asm!(
    ".bss",
    ".balign 64",
    "berth_early_stack_s: .zero {STACK}",
    "berth_early_stack_s_end: .zero {LOCALS}",
    "berth_early_tcb_s: .zero {BLOCK}",
    "berth_early_stack_c: .zero {STACK}",
    "berth_early_stack_c_end: .zero {LOCALS}",
    "berth_early_tcb_c: .zero {BLOCK}",
    ".globl berth_early_pid, berth_early_pidfd, berth_early_sockets, berth_early_roles, berth_early_away, berth_early_cpus",
    "berth_early_pid: .zero 4",
    "berth_early_pidfd: .zero 4",
    "berth_early_sockets: .zero 16",
    "berth_early_inner: .zero 8",
    "berth_early_child_pidfd: .zero 4",
    "berth_early_byte: .zero 4",
    "berth_early_away: .zero 4",
    ".balign 8",
    "berth_early_mask: .zero 8",
    "berth_early_roles: .zero 16",
    "berth_early_cpus: .zero {CPUS}",
    "berth_early_others: .zero {CPUS}",
    ".section .data.rel.ro, \"aw\"",
    "berth_early_null: .asciz \"/dev/null\"",
    ".balign 8",
    "berth_early_all: .quad -1",
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, its size, cgroup
    "berth_early_args: .quad {CHILD}, berth_early_child_pidfd, 0, 0, {SIGCHLD}, berth_early_stack_c, {STACK}, \
     berth_early_tcb_c, 0, 0, 0",
    ".text",
    ".globl berth_entry",
    ".type berth_entry,@function",
    "berth_entry:",
    "mov rbx, rsp",
    "mov r15, rdx",
    // berth … run … --rootfs …: r14d counts how much of it was seen.
    "lea r13, [rbx + 16]",
    "xor r14d, r14d",
    "cmp qword ptr [rbx], 4",
    "jb 9f",
    "2:",
    "mov rsi, [r13]",
    "test rsi, rsi",
    "jz 4f",
    "cmp word ptr [rsi], 0x2d2d",
    "jne 6f",
    "cmp byte ptr [rsi + 2], 0",
    "je 4f",
    // --init makes a further process from this memory: that is left to a supervisor with a memory of its own.
    "cmp dword ptr [rsi + 2], {INIT}",
    "jne 1f",
    "cmp byte ptr [rsi + 6], 0",
    "je 9f",
    "1:",
    // --network=host; the other form is the word alone, below.
    "mov rax, [rsi]",
    "movabs rcx, {NETWORK}",
    "cmp rax, rcx",
    "jne 1f",
    "cmp dword ptr [rsi + 10], {HOST}",
    "je 9f",
    "1:",
    "movabs rcx, {ROOTFS}",
    "cmp rax, rcx",
    "jne 3f",
    "cmp r14d, 1",
    "jne 3f",
    "mov r14d, 2",
    "jmp 3f",
    "6:",
    "cmp dword ptr [rsi], {HOST}",
    "je 9f",
    "cmp dword ptr [rsi], {RUN}",
    "jne 3f",
    "test r14d, r14d",
    "jnz 3f",
    "mov r14d, 1",
    "3:",
    "add r13, 8",
    "jmp 2b",
    "4:",
    "cmp r14d, 2",
    "jne 9f",
    "mov eax, {GETEUID}",
    "syscall",
    "test eax, eax",
    "jnz 9f",
    // A standard stream that is closed would be one of our sockets; `main` opens those first.
    "mov r14d, 2",
    "1:",
    "mov eax, {FCNTL}",
    "mov edi, r14d",
    "mov esi, {GETFD}",
    "syscall",
    "test eax, eax",
    "js 9f",
    "dec r14d",
    "jns 1b",
    // Pages that will be touched for sure, at once: a call for all costs less than a fault for each. Kernels before
    // 5.14 do not know how, which is no matter. The ends of the three stacks. (Of the program's text too little is used: to
    // have all of it mapped took 0.15 ms longer than the faults.)
    "mov eax, {MADVISE}",
    "lea rdi, [rip + berth_early_stack_s_end - {USED}]",
    "lea rsi, [rip + berth_early_tcb_s + {BLOCK}]",
    "mov edx, 23",
    "call berth_early_populate",
    "mov eax, {MADVISE}",
    "lea rdi, [rip + berth_early_stack_c_end - {USED}]",
    "lea rsi, [rip + berth_early_tcb_c + {BLOCK}]",
    "mov edx, 23",
    "call berth_early_populate",
    "mov eax, {MADVISE}",
    "lea rdi, [rsp - {OWNERS}]",
    "mov rsi, rsp",
    "mov edx, 23",
    "call berth_early_populate",
    // Two pairs of sockets: owner and supervisor, owner and child.
    "mov eax, {SOCKETPAIR}",
    "mov edi, 1",
    "mov esi, {SEQPACKET}",
    "xor edx, edx",
    "lea r10, [rip + berth_early_sockets]",
    "syscall",
    "test eax, eax",
    "jnz 9f",
    "mov eax, {SOCKETPAIR}",
    "mov edi, 1",
    "mov esi, {SEQPACKET}",
    "xor edx, edx",
    "lea r10, [rip + berth_early_sockets + 8]",
    "syscall",
    "test eax, eax",
    "jnz 9f",
    // The words that libc looks at in a thread's block: its own address, twice.
    "lea rax, [rip + berth_early_tcb_s]",
    "mov [rax], rax",
    "mov [rax + 16], rax",
    "mov r8, rax",
    "lea rax, [rip + berth_early_tcb_c]",
    "mov [rax], rax",
    "mov [rax + 16], rax",
    "mov r14, r8",
    // The processors that this process may use, and those but the one that it is on (r12d: whether there is any).
    "xor r12d, r12d",
    "mov eax, {GETAFFINITY}",
    "xor edi, edi",
    "mov esi, {CPUS}",
    "lea rdx, [rip + berth_early_cpus]",
    "syscall",
    "test eax, eax",
    "jle 8f",
    "mov r13d, eax",
    "mov eax, {GETCPU}",
    "lea rdi, [rip + berth_early_byte]",
    "xor esi, esi",
    "xor edx, edx",
    "syscall",
    "test eax, eax",
    "jnz 8f",
    "mov edx, [rip + berth_early_byte]",
    "xor ecx, ecx",
    "lea rsi, [rip + berth_early_cpus]",
    "lea rdi, [rip + berth_early_others]",
    "7:",
    "movzx eax, byte ptr [rsi + rcx]",
    "mov r9d, edx",
    "shr r9d, 3",
    "cmp r9d, ecx",
    "jne 6f",
    "mov r9d, edx",
    "and r9d, 7",
    "btr eax, r9d",
    "6:",
    "mov [rdi + rcx], al",
    "or r12d, eax",
    "inc ecx",
    "cmp ecx, r13d",
    "jb 7b",
    "8:",
    // No signal is for these two; the child unblocks them for its program.
    "mov eax, {SIGPROCMASK}",
    "mov edi, 2",
    "lea rsi, [rip + berth_early_all]",
    "lea rdx, [rip + berth_early_mask]",
    "mov r10d, 8",
    "syscall",
    "mov eax, {CLONE}",
    "mov edi, {SUPERVISOR}",
    "lea rsi, [rip + berth_early_stack_s_end]",
    "lea rdx, [rip + berth_early_pidfd]",
    "xor r10d, r10d",
    "mov r8, r14",
    "syscall",
    "test eax, eax",
    "jz berth_early_supervisor",
    "js 5f",
    "mov [rip + berth_early_pid], eax",
    // Away from this processor, if there is another.
    "test r12d, r12d",
    "jz 5f",
    "mov edi, eax",
    "mov eax, {SETAFFINITY}",
    "mov esi, {CPUS}",
    "lea rdx, [rip + berth_early_others]",
    "syscall",
    "5:",
    "mov eax, {SIGPROCMASK}",
    "mov edi, 2",
    "lea rsi, [rip + berth_early_mask]",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "mov eax, {CLOSE}",
    "mov edi, [rip + berth_early_sockets + 4]",
    "syscall",
    "mov eax, {CLOSE}",
    "mov edi, [rip + berth_early_sockets + 12]",
    "syscall",
    "9:",
    "mov rsp, rbx",
    "mov rdx, r15",
    "xor ebp, ebp",
    "jmp _start",
    //
    // madvise(2) of whole pages from rdi up to rsi.
    "berth_early_populate:",
    "and rdi, -4096",
    "and rsi, -4096",
    "sub rsi, rdi",
    "syscall",
    "ret",
    //
    "berth_early_supervisor:",
    "xor ebp, ebp",
    "mov r15d, r12d",
    "mov eax, {SETSID}",
    "syscall",
    // Its own streams and nothing else of the owner's: its two sockets go above 64, all others are closed.
    "mov eax, {FCNTL}",
    "mov edi, [rip + berth_early_sockets + 4]",
    "mov esi, {DUPFD}",
    "mov edx, 64",
    "syscall",
    "mov ebx, eax",
    "mov eax, {FCNTL}",
    "mov edi, [rip + berth_early_sockets + 12]",
    "mov esi, {DUPFD}",
    "mov edx, 64",
    "syscall",
    "mov r12d, eax",
    "test ebx, ebx",
    "js 8f",
    "test r12d, r12d",
    "js 8f",
    "mov eax, {CLOSE_RANGE}",
    "xor edi, edi",
    "lea esi, [rbx - 1]",
    "xor edx, edx",
    "syscall",
    "mov eax, {CLOSE_RANGE}",
    "lea edi, [rbx + 1]",
    "lea esi, [r12 - 1]",
    "xor edx, edx",
    "syscall",
    "mov eax, {CLOSE_RANGE}",
    "lea edi, [r12 + 1]",
    "mov esi, -1",
    "xor edx, edx",
    "syscall",
    // 0, 1, 2, and 3, which is kept free for a program that it may execute.
    "mov eax, {OPEN}",
    "lea rdi, [rip + berth_early_null]",
    "mov esi, 2",
    "xor edx, edx",
    "syscall",
    "test eax, eax",
    "jnz 8f",
    "mov r14d, 3",
    "6:",
    "mov eax, {DUP}",
    "xor edi, edi",
    "syscall",
    "dec r14d",
    "jnz 6b",
    "mov eax, {SOCKETPAIR}",
    "mov edi, 1",
    "mov esi, {SEQPACKET}",
    "xor edx, edx",
    "lea r10, [rip + berth_early_inner]",
    "syscall",
    "test eax, eax",
    "jnz 8f",
    "mov eax, {CLONE3}",
    "lea rdi, [rip + berth_early_args]",
    "mov esi, 88",
    "syscall",
    "test eax, eax",
    "jz berth_early_child",
    "mov r13d, eax",
    "call berth_early_free",
    "mov eax, {CLOSE}",
    "mov edi, [rip + berth_early_inner + 4]",
    "syscall",
    "mov eax, {CLOSE}",
    "mov edi, r12d",
    "syscall",
    // Until the owner speaks.
    "mov edi, ebx",
    "call berth_early_hear",
    "test eax, eax",
    "jle 7f",
    "mov edi, ebx",
    "mov esi, [rip + berth_early_inner]",
    "mov edx, r13d",
    "mov ecx, [rip + berth_early_child_pidfd]",
    "call qword ptr [rip + berth_early_roles]",
    "ud2",
    // No owner any more: nobody knows the child.
    "7:",
    "test r13d, r13d",
    "jle 8f",
    "mov eax, {KILL}",
    "mov edi, r13d",
    "mov esi, 9",
    "syscall",
    "mov eax, {WAIT4}",
    "mov edi, r13d",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "syscall",
    "8:",
    "mov eax, {EXIT}",
    "mov edi, 125",
    "syscall",
    "ud2",
    //
    "berth_early_child:",
    "xor ebp, ebp",
    "mov eax, {PRCTL}",
    "mov edi, 1",
    "mov esi, 9",
    "syscall",
    "mov eax, {CLOSE}",
    "mov edi, ebx",
    "syscall",
    "mov eax, {CLOSE}",
    "mov edi, [rip + berth_early_inner]",
    "syscall",
    "mov edi, r12d",
    "call berth_early_hear",
    "test eax, eax",
    "jle 8b",
    "mov edi, r12d",
    "mov esi, [rip + berth_early_inner + 4]",
    "call qword ptr [rip + berth_early_roles + 8]",
    "ud2",
    //
    // Goes where it may, if it was sent away (r15d).
    "berth_early_free:",
    "mov [rip + berth_early_away], r15d",
    "test r15d, r15d",
    "jz 1f",
    "mov eax, {SETAFFINITY}",
    "xor edi, edi",
    "mov esi, {CPUS}",
    "lea rdx, [rip + berth_early_cpus]",
    "syscall",
    "1:",
    "ret",
    //
    // Waits for a message on edi, and leaves it there: its length, 0 at the end, or an error.
    "berth_early_hear:",
    "mov r14d, edi",
    "1:",
    "mov eax, {RECVFROM}",
    "mov edi, r14d",
    "lea rsi, [rip + berth_early_byte]",
    "mov edx, 1",
    "mov r10d, {PEEK}",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "syscall",
    "cmp eax, {INTR}",
    "je 1b",
    "ret",
    STACK = const STACK,
    LOCALS = const LOCALS,
    BLOCK = const BLOCK,
    CHILD = const NAMESPACES.bits() | (k::CLONE_VM | k::CLONE_PIDFD | k::CLONE_SETTLS) as u64,
    SUPERVISOR = const k::CLONE_VM | k::CLONE_PIDFD | k::CLONE_SETTLS | k::SIGCHLD,
    SIGCHLD = const k::SIGCHLD,
    RUN = const u32::from_le_bytes(*b"run\0"),
    INIT = const u32::from_le_bytes(*b"init"),
    ROOTFS = const u64::from_le_bytes(*b"--rootfs"),
    HOST = const u32::from_le_bytes(*b"host"),
    NETWORK = const u64::from_le_bytes(*b"--networ"),
    // AF_UNIX's SOCK_SEQPACKET with SOCK_CLOEXEC (include/linux/net.h).
    SEQPACKET = const 5 | k::O_CLOEXEC,
    GETFD = const k::F_GETFD,
    DUPFD = const k::F_DUPFD_CLOEXEC,
    // MSG_PEEK (include/linux/socket.h).
    PEEK = const 2,
    INTR = const -4,
    USED = const USED,
    OWNERS = const 64 * 1024,
    MADVISE = const k::__NR_madvise,
    CPUS = const CPUS,
    GETAFFINITY = const k::__NR_sched_getaffinity,
    SETAFFINITY = const k::__NR_sched_setaffinity,
    GETCPU = const k::__NR_getcpu,
    GETEUID = const k::__NR_geteuid,
    SOCKETPAIR = const k::__NR_socketpair,
    SIGPROCMASK = const k::__NR_rt_sigprocmask,
    CLONE = const k::__NR_clone,
    CLONE3 = const k::__NR_clone3,
    CLOSE = const k::__NR_close,
    CLOSE_RANGE = const k::__NR_close_range,
    SETSID = const k::__NR_setsid,
    FCNTL = const k::__NR_fcntl,
    OPEN = const k::__NR_open,
    DUP = const k::__NR_dup,
    KILL = const k::__NR_kill,
    WAIT4 = const k::__NR_wait4,
    EXIT = const k::__NR_exit_group,
    PRCTL = const k::__NR_prctl,
    RECVFROM = const k::__NR_recvfrom,
);
