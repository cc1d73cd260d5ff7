// SPDX-License-Identifier: Apache-2.0
//! The default profile, as constant data: nothing is parsed at run time, and a name that does not exist does not
//! compile.
//!
//! It is equal in effect, on x86-64, to the profile that Docker uses ([`BASIS`] says which state of it), and
//! stricter where a rule below is marked "ours". `docs/seccomp.md` explains the differences. Names that x86-64
//! does not have (`socketcall`, `stat64`, …) and rules for other architectures are left out, and so is Docker's
//! condition on Linux 4.8 for `ptrace` and its like: Berth runs on no older kernel.

use std::borrow::Cow;

use crate::caps::bit;
use crate::profile::{Action, Comparison, ENOSYS, EPERM, Profile, Rule, Test};
use crate::syscalls;

/// Raised with every change of the default profile.
pub const VERSION: u32 = 1;

/// The state of Docker's profile that ours equals.
pub const BASIS: &str = "github.com/moby/profiles/seccomp at 02e898b137ae";

pub(crate) const PROFILE: Profile = Profile {
    default: Action::Errno(EPERM),
    rules: Cow::Borrowed(RULES),
    highest: Some(HIGHEST),
    unknown: Vec::new(),
};

/// The numbers of calls that must exist.
const fn numbers<const N: usize>(names: [&str; N]) -> [u16; N] {
    let mut numbers = [0; N];
    let mut at = 0;
    while at < N {
        numbers[at] = match syscalls::number(names[at]) {
            Some(number) => number,
            None => panic!("no such system call"),
        };
        at += 1;
    }
    numbers
}

macro_rules! calls {
    ($($name:literal),+ $(,)?) => {
        const { &numbers([$($name),+]) }
    };
}

macro_rules! tests {
    ($($test:expr),+ $(,)?) => {
        const { &[$($test),+] }
    };
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    // Files: opening, reading, writing, watching.
    allow(calls![
        "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup",
        "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fanotify_mark", "fchdir",
        "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "flock", "fstat",
        "fstatfs", "fsync", "ftruncate", "futimesat", "getcwd", "getdents", "getdents64",
        "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "ioctl", "lchown",
        "link", "linkat", "listmount", "lseek", "lstat", "mkdir", "mkdirat", "mknod", "mknodat",
        "name_to_handle_at", "newfstatat", "open", "openat", "openat2", "pread64", "preadv", "preadv2",
        "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
        "rename", "renameat", "renameat2", "rmdir", "sendfile", "splice", "stat", "statfs", "statmount",
        "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "tee", "truncate", "umask",
        "unlink", "unlinkat", "utime", "utimensat", "utimes", "vmsplice", "write", "writev",
    ]),
    // Extended attributes.
    allow(calls![
        "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr",
        "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr",
        "removexattrat", "setxattr", "setxattrat",
    ]),
    // Waiting, and input and output in the background (not io_uring).
    allow(calls![
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
        "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "io_cancel", "io_destroy", "io_getevents",
        "io_pgetevents", "io_setup", "io_submit", "pause", "poll", "ppoll", "pselect6", "select",
        "signalfd", "signalfd4",
    ]),
    // Memory.
    allow(calls![
        "brk", "cachestat", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret",
        "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync",
        "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_mrelease",
        "remap_file_pages",
    ]),
    // Processes and threads; clone and clone3 have rules of their own.
    allow(calls![
        "arch_prctl", "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_requeue",
        "futex_wait", "futex_waitv", "futex_wake", "get_robust_list", "get_thread_area", "getcpu",
        "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrlimit", "getrusage", "getsid",
        "gettid", "ioprio_get", "ioprio_set", "kill", "modify_ldt", "pidfd_open", "pidfd_send_signal",
        "prctl", "prlimit64", "restart_syscall", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
        "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo",
        "set_robust_list", "set_thread_area", "set_tid_address", "setpgid", "setpriority", "setrlimit",
        "setsid", "sigaltstack", "tgkill", "tkill", "uretprobe", "vfork", "wait4", "waitid",
    ]),
    // Tracing of one's own processes (the kernel asks for the same user, or CAP_SYS_PTRACE).
    allow(calls![
        "process_vm_readv", "process_vm_writev", "ptrace",
    ]),
    // Scheduling.
    allow(calls![
        "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
        "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity",
        "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
    ]),
    // Users, groups, capabilities and further confinement.
    allow(calls![
        "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid",
        "getuid", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp",
        "setfsgid", "setfsuid", "setgid", "setgroups", "setregid", "setresgid", "setresuid", "setreuid",
        "setuid",
    ]),
    // Clocks and timers; setting a clock is refused by the kernel without CAP_SYS_TIME.
    allow(calls![
        "adjtimex", "alarm", "clock_adjtime", "clock_getres", "clock_gettime", "clock_nanosleep",
        "getitimer", "gettimeofday", "nanosleep", "setitimer", "time", "timer_create", "timer_delete",
        "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime",
        "timerfd_settime", "times",
    ]),
    // Pipes, sockets and System V and POSIX messages; socket has rules of its own.
    allow(calls![
        "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
        "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl",
        "msgget", "msgrcv", "msgsnd", "pipe", "pipe2", "recvfrom", "recvmmsg", "recvmsg", "semctl",
        "semget", "semop", "semtimedop", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shmat", "shmctl",
        "shmdt", "shmget", "shutdown", "socketpair",
    ]),
    // What the machine is, and random numbers.
    allow(calls![
        "getrandom", "sysinfo", "uname",
    ]),
    // Address families: those that Linux still has, except ALG (38) and VSOCK (40). ALG opens the kernel's
    // ciphers to every program, and through them other containers' page cache (CVE-2026-31431); VSOCK reaches
    // virtual machines past every network namespace. All 64 bits are compared, so a family with high bits set,
    // which the kernel would cut off, is refused too.
    allow_if(SOCKET, tests![Test { arg: 0, is: Comparison::Less(12) }]), // UNSPEC to ROSE
    allow_if(SOCKET, tests![is(0, 13)]), // NETBEUI
    allow_if(SOCKET, tests![is(0, 14)]), // SECURITY
    allow_if(SOCKET, tests![is(0, 15)]), // KEY
    allow_if(SOCKET, tests![is(0, 16)]), // NETLINK
    allow_if(SOCKET, tests![is(0, 17)]), // PACKET
    allow_if(SOCKET, tests![is(0, 18)]), // ASH
    allow_if(SOCKET, tests![is(0, 21)]), // RDS
    allow_if(SOCKET, tests![is(0, 22)]), // SNA
    allow_if(SOCKET, tests![is(0, 24)]), // PPPOX
    allow_if(SOCKET, tests![is(0, 26)]), // LLC
    allow_if(SOCKET, tests![is(0, 27)]), // IB
    allow_if(SOCKET, tests![is(0, 28)]), // MPLS
    allow_if(SOCKET, tests![is(0, 29)]), // CAN
    allow_if(SOCKET, tests![is(0, 30)]), // TIPC
    allow_if(SOCKET, tests![is(0, 31)]), // BLUETOOTH
    allow_if(SOCKET, tests![is(0, 32)]), // IUCV
    allow_if(SOCKET, tests![is(0, 33)]), // RXRPC
    allow_if(SOCKET, tests![is(0, 35)]), // PHONET
    allow_if(SOCKET, tests![is(0, 36)]), // IEEE802154
    allow_if(SOCKET, tests![is(0, 39)]), // NFC
    allow_if(SOCKET, tests![is(0, 41)]), // KCM
    allow_if(SOCKET, tests![is(0, 42)]), // QIPCRTR
    allow_if(SOCKET, tests![is(0, 43)]), // SMC
    allow_if(SOCKET, tests![is(0, 44)]), // XDP
    allow_if(SOCKET, tests![is(0, 45)]), // MCTP
    // Execution domains: PER_LINUX and PER_LINUX32, each also with UNAME26, and "tell me".
    allow_if(PERSONALITY, tests![is(0, 0)]),
    allow_if(PERSONALITY, tests![is(0, 0x8)]),
    allow_if(PERSONALITY, tests![is(0, 0x2_0000)]),
    allow_if(PERSONALITY, tests![is(0, 0x2_0008)]),
    allow_if(PERSONALITY, tests![is(0, 0xffff_ffff)]),
    // New namespaces only with CAP_SYS_ADMIN. The flags of clone3 are in memory, where no filter sees them: it
    // looks absent, so that libraries fall back to clone.
    rule(calls!["clone"], Action::Allow, tests![no_bits(0, NEW_NAMESPACES)], 0, bit("CAP_SYS_ADMIN")),
    rule(calls!["clone3"], Action::Errno(ENOSYS), &[], 0, bit("CAP_SYS_ADMIN")),
    allow_with("CAP_DAC_READ_SEARCH", calls!["open_by_handle_at"]),
    allow_with("CAP_SYS_ADMIN", calls![
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
        "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount",
        "mount_setattr", "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd",
        "setdomainname", "sethostname", "setns", "syslog", "umount2", "unshare",
    ]),
    allow_with("CAP_SYS_BOOT", calls!["reboot"]),
    allow_with("CAP_SYS_CHROOT", calls!["chroot"]),
    allow_with("CAP_SYS_MODULE", calls!["delete_module", "finit_module", "init_module"]),
    allow_with("CAP_SYS_PACCT", calls!["acct"]),
    allow_with("CAP_SYS_PTRACE", calls![
        "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    ]),
    allow_with("CAP_SYS_RAWIO", calls!["ioperm", "iopl"]),
    allow_with("CAP_SYS_TIME", calls!["clock_settime", "settimeofday"]),
    allow_with("CAP_SYS_TTY_CONFIG", calls!["vhangup"]),
    allow_with("CAP_SYS_NICE", calls!["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    allow_with("CAP_SYSLOG", calls!["syslog"]),
    allow_with("CAP_BPF", calls!["bpf"]),
    allow_with("CAP_PERFMON", calls!["perf_event_open"]),
    // Ours: a process can push input into its terminal, or paste from it, and so type commands into the shell
    // that attached to the container (CVE-2016-10124, CVE-2017-5226). The kernel looks at 32 bits of the request.
    rule(calls!["ioctl"], Action::Errno(EPERM), tests![low_is(1, TIOCSTI)], 0, 0),
    rule(calls!["ioctl"], Action::Errno(EPERM), tests![low_is(1, TIOCLINUX)], 0, 0),
];

const SOCKET: &[u16] = calls!["socket"];
const PERSONALITY: &[u16] = calls!["personality"];

/// clone(2): NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// ioctl_tty(2): put a byte into the terminal's input.
const TIOCSTI: u64 = 0x5412;
/// ioctl_console(2): selection, paste and more on a virtual console.
const TIOCLINUX: u64 = 0x541c;

const fn highest() -> u16 {
    let (mut highest, mut rule) = (0, 0);
    while rule < RULES.len() {
        let Cow::Borrowed(calls) = RULES[rule].calls else { panic!("constant data is borrowed") };
        let mut at = 0;
        while at < calls.len() {
            if calls[at] > highest {
                highest = calls[at];
            }
            at += 1;
        }
        rule += 1;
    }
    highest
}
const HIGHEST: u16 = highest();

const fn allow(calls: &'static [u16]) -> Rule {
    rule(calls, Action::Allow, &[], 0, 0)
}

const fn allow_if(calls: &'static [u16], tests: &'static [Test]) -> Rule {
    rule(calls, Action::Allow, tests, 0, 0)
}

const fn allow_with(capability: &str, calls: &'static [u16]) -> Rule {
    rule(calls, Action::Allow, &[], bit(capability), 0)
}

const fn rule(
    calls: &'static [u16],
    action: Action,
    tests: &'static [Test],
    with: u64,
    without: u64,
) -> Rule {
    Rule { calls: Cow::Borrowed(calls), action, tests: Cow::Borrowed(tests), with, without }
}

/// All of argument `arg` is `value`.
const fn is(arg: u8, value: u64) -> Test {
    Test { arg, is: Comparison::Equal(value) }
}

/// The low 32 bits of argument `arg` are `value`.
const fn low_is(arg: u8, value: u64) -> Test {
    Test { arg, is: Comparison::Masked { mask: 0xffff_ffff, value } }
}

/// Argument `arg` has none of these bits.
const fn no_bits(arg: u8, mask: u64) -> Test {
    Test { arg, is: Comparison::Masked { mask, value: 0 } }
}
