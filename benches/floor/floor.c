// SPDX-License-Identifier: Apache-2.0
/*
 * The floor: the system calls that one contained command and its clean-up need on a host with cgroup v1, one
 * after the other, and nothing else. It is the yardstick of `make bench`, not a runtime: no checks beyond "did
 * the call succeed", paths are trusted, one command, no signals, no records. docs/performance.md lists the calls.
 *
 *     floor [-p] [-v] [-k] ROOTFS STORAGE FILTER GROUP [COMMAND [ARGUMENT...]]
 *
 *   -p       print the duration of each phase on stderr when done, as one line of JSON, in microseconds
 *   -v       mount the overlay `volatile`: the kernel then does not sync the file system of STORAGE when the overlay
 *            goes, which is worth its three more removals on a disk, and is not on tmpfs
 *   -k       keep the root file system that is there, ROOTFS: no overlay, no /dev, no change of the root
 *   ROOTFS   lower directory; holds proc, dev and sys
 *   STORAGE  where the upper and work directories and the log are made (and removed)
 *   FILTER   file of raw struct sock_filter
 *   GROUP    parent group, which exists in the cpu, memory and pids hierarchies, for example "bench-12"
 *   COMMAND  absolute path inside; /bin/true when absent
 *
 * It exits as the command did (128 + signal), 125 when a step failed. Calls are made without a libc, so the same
 * source also compiles with `-nostdlib -DFREESTANDING`: what libc's start-up costs is then not in the figure.
 *
 * The child shares the parent's memory until it executes (CLONE_VM|CLONE_VFORK, on a stack of its own): no page
 * tables are copied, no page of ours is charged to the container.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define AT_CWD (-100L)
#define SIGCHLD_ 17
#define AF_INET_ 2
#define SOCK_DGRAM_ 2
#define SIOCSIFFLAGS_ 0x8914
#define P_PID_ 1
#define WEXITED_ 4
#define CLD_EXITED_ 1
#define ENOENT_ 2

/* ------------------------------------------------------------------ calls */

static inline long call6(long n, long a, long b, long c, long d, long e, long f) {
    long r;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return r;
}
#define PICK(_1, _2, _3, _4, _5, _6, _7, NAME, ...) NAME
#define C0(n) call6(n, 0, 0, 0, 0, 0, 0)
#define C1(n, a) call6(n, (long)(a), 0, 0, 0, 0, 0)
#define C2(n, a, b) call6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define C3(n, a, b, c) call6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define C4(n, a, b, c, d) call6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define C5(n, a, b, c, d, e) call6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define C6(n, a, b, c, d, e, f) call6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYS(...) PICK(__VA_ARGS__, C6, C5, C4, C3, C2, C1, C0)(__VA_ARGS__)

/* ------------------------------------------------------------------- text */

static size_t length(const char *s) {
    size_t n = 0;
    while (s[n]) n++;
    return n;
}
/* Appends and terminates; the arena is sized for the longest arguments that `run` lets pass. */
static char *add(char *at, const char *s) {
    while (*s) *at++ = *s++;
    *at = 0;
    return at;
}
static char *add_number(char *at, unsigned long v) {
    char digits[24];
    int n = 0;
    do digits[n++] = (char)('0' + v % 10); while (v /= 10);
    while (n) *at++ = digits[--n];
    *at = 0;
    return at;
}
static void die(const char *step, long error) {
    char line[256], *at = add(line, "floor: ");
    at = add(at, step);
    at = add(at, ": errno ");
    at = add_number(at, (unsigned long)-error);
    at = add(at, "\n");
    SYS(SYS_write, 2, line, at - line);
    SYS(SYS_exit_group, 125);
    __builtin_unreachable();
}
static inline long need(const char *step, long r) {
    if (r < 0) die(step, r);
    return r;
}

/* ----------------------------------------------------------------- phases */

static const char *const PHASES[] = {
    "storage", "cgroups", "clone", "attach", "overlay", "proc_dev_sys", "masks", "net_hostname", "pivot",
    "credentials", "seccomp", "exec", "run", "rmdir_cgroups", "rmdir_storage",
};
enum { PHASE_COUNT = sizeof PHASES / sizeof *PHASES };
static struct { int64_t seconds, nanoseconds; } stamps[PHASE_COUNT + 1];
static int timed, stamped, is_volatile, keeps_root;

/* Ends a phase. The child stamps too: it runs in our memory. */
static inline void stamp(void) {
    if (timed) SYS(SYS_clock_gettime, 1 /* CLOCK_MONOTONIC */, &stamps[stamped++]);
}
static void print_phases(void) {
    char line[1024], *at = add(line, "{");
    for (int i = 0; i < PHASE_COUNT; i++) {
        int64_t ns = (stamps[i + 1].seconds - stamps[i].seconds) * 1000000000 + stamps[i + 1].nanoseconds -
                     stamps[i].nanoseconds;
        at = add(at, i ? ",\"" : "\"");
        at = add(at, PHASES[i]);
        at = add(at, "\":");
        at = add_number(at, (unsigned long)ns / 1000);
        at = add(at, ".");
        at = add_number(at, (unsigned long)ns / 100 % 10);
    }
    at = add(at, "}\n");
    SYS(SYS_write, 2, line, at - line);
}

/* ------------------------------------------------------------------- plan */

static const char *rootfs, *default_command[] = {"/bin/true", NULL}, **command = default_command;
static const char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
static char *upper, *work, *work_work, *dirty[3], *log_path, *overlay, *group[3], *tasks[3];
static char arena[32 * 1024], *arena_end = arena; /* one place for all names: one page is touched, not twelve */
static struct sock_filter filter[4096];
static struct sock_fprog program = {.filter = filter};
static char child_stack[16384] __attribute__((aligned(16)));

/* Docker's default capabilities. */
#define BIT(c) (1ull << (c))
static const uint64_t KEEP = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) |
                             BIT(CAP_KILL) | BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETPCAP) |
                             BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_NET_RAW) | BIT(CAP_SYS_CHROOT) | BIT(CAP_MKNOD) |
                             BIT(CAP_AUDIT_WRITE) | BIT(CAP_SETFCAP);
static const struct { const char *name; unsigned minor; } MEMORY_DEVICES[] = {
    {"dev/null", 3}, {"dev/zero", 5}, {"dev/full", 7}, {"dev/random", 8}, {"dev/urandom", 9},
};
static const char *const LINKS[][2] = {
    {"/proc/self/fd", "dev/fd"},         {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
    {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"},
};
static const char *const MASKED_FILES[] = {
    "proc/interrupts", "proc/kcore",       "proc/keys",       "proc/latency_stats",
    "proc/timer_list", "proc/timer_stats", "proc/sched_debug",
};
static const char *const MASKED_DIRECTORIES[] = {
    "proc/acpi", "proc/asound", "proc/scsi", "sys/firmware", "sys/devices/virtual/powercap",
};
static const char *const READ_ONLY[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
#define EACH(item, table) for (__typeof__(&(table)[0]) item = (table); item < (table) + sizeof(table) / sizeof *(table); item++)

/* ------------------------------------------------------------------ child */

static inline void mount_(const char *source, const char *target, const char *type, long flags, const char *data) {
    need(target, SYS(SYS_mount, source, target, type, flags, data));
}
static inline void write_to(const char *path, const char *text) {
    long fd = need(path, SYS(SYS_open, path, O_WRONLY, 0));
    need(path, SYS(SYS_write, fd, text, length(text)));
    SYS(SYS_close, fd);
}
/* Binds `source` over `target`; false when there is no such path on this kernel. */
static inline int covered(const char *source, const char *target, long flags) {
    long r = SYS(SYS_mount, source, target, NULL, MS_BIND | flags, NULL);
    if (r == -ENOENT_) return 0;
    need(target, r);
    return 1;
}

static void join_groups(void) {
    /* "0" to the own `tasks` takes no global lock, so it does not wait for an RCU grace period. */
    for (int i = 0; i < 3; i++) write_to(tasks[i], "0");
    need("unshare cgroup", SYS(SYS_unshare, CLONE_NEWCGROUP));
}
static void mount_root(void) {
    mount_(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (!keeps_root) mount_("overlay", rootfs, "overlay", 0, overlay);
    need("chdir rootfs", SYS(SYS_chdir, rootfs));
}
static void mount_dev(long plain) {
    mount_("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k");
    SYS(SYS_umask, 0);
    EACH(d, MEMORY_DEVICES) need(d->name, SYS(SYS_mknod, d->name, 0020666, 1 << 8 | d->minor));
    need("dev/tty", SYS(SYS_mknod, "dev/tty", 0020666, 5 << 8 | 0));
    EACH(l, LINKS) need((*l)[1], SYS(SYS_symlink, (*l)[0], (*l)[1]));
    need("dev/pts", SYS(SYS_mkdir, "dev/pts", 0755));
    need("dev/shm", SYS(SYS_mkdir, "dev/shm", 01777));
    need("dev/mqueue", SYS(SYS_mkdir, "dev/mqueue", 0755));
    mount_("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount_("shm", "dev/shm", "tmpfs", plain, "mode=1777,size=65536k");
    mount_("mqueue", "dev/mqueue", "mqueue", plain, NULL);
    SYS(SYS_umask, 022);
}
static void mount_proc_dev_sys(void) {
    const long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    mount_("proc", "proc", "proc", plain, NULL);
    if (!keeps_root) mount_dev(plain);
    mount_("sysfs", "sys", "sysfs", plain | MS_RDONLY, NULL);
    mount_("tmpfs", "sys/fs/cgroup", "tmpfs", plain | MS_RDONLY, "mode=755");
}
static void mask(void) {
    EACH(f, MASKED_FILES) covered("dev/null", *f, 0);
    /* One empty read-only tmpfs serves for all: a bind costs a third of a new file system. */
    EACH(d, MASKED_DIRECTORIES) covered("sys/fs/cgroup", *d, 0);
    EACH(p, READ_ONLY)
        if (covered(*p, *p, MS_REC))
            mount_(NULL, *p, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}
static void raise_loopback(void) {
    struct ifreq lo = {.ifr_name = "lo"};
    lo.ifr_flags = IFF_UP | IFF_RUNNING;
    long fd = need("socket", SYS(SYS_socket, AF_INET_, SOCK_DGRAM_, 0));
    need("loopback up", SYS(SYS_ioctl, fd, SIOCSIFFLAGS_, &lo));
}
static void enter_root(void) {
    /* The old root lands on top of the new one and goes at once: pivot_root(2), "pivot_root(".", ".")". */
    if (keeps_root) return;
    need("pivot_root", SYS(SYS_pivot_root, ".", "."));
    need("umount old root", SYS(SYS_umount2, ".", MNT_DETACH));
    need("chdir /", SYS(SYS_chdir, "/"));
}
static void drop_privileges(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {
        {.effective = (uint32_t)KEEP, .permitted = (uint32_t)KEEP},
        {.effective = (uint32_t)(KEEP >> 32), .permitted = (uint32_t)(KEEP >> 32)},
    };
    need("setgroups", SYS(SYS_setgroups, 0, NULL));
    need("setresgid", SYS(SYS_setresgid, 0, 0, 0));
    need("setresuid", SYS(SYS_setresuid, 0, 0, 0));
    for (int c = 0; c <= CAP_LAST_CAP; c++)
        if (!(KEEP & BIT(c))) need("drop capability", SYS(SYS_prctl, PR_CAPBSET_DROP, c, 0, 0, 0));
    need("capset", SYS(SYS_capset, &header, sets));
    need("setsid", SYS(SYS_setsid));
    need("no_new_privs", SYS(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}
static void open_stdio(long null, long log) {
    need("stdin", SYS(SYS_dup2, null, 0));
    need("stdout", SYS(SYS_dup2, log, 1));
    if (!timed) need("stderr", SYS(SYS_dup2, log, 2));
    need("close_range", SYS(SYS_close_range, 3, ~0u, 0));
}

static long null_fd, log_fd;

static void child(void) {
    stamp();
    join_groups();
    stamp();
    mount_root();
    stamp();
    mount_proc_dev_sys();
    stamp();
    mask();
    stamp();
    raise_loopback();
    need("sethostname", SYS(SYS_sethostname, "bench", 5));
    stamp();
    enter_root();
    stamp();
    drop_privileges();
    open_stdio(null_fd, log_fd);
    stamp();
    need("seccomp", SYS(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
    stamp();
    need(command[0], SYS(SYS_execve, command[0], command, environment));
}

/* Returns in the parent once the child has executed or ended; the child runs `child` on its own stack. */
static long spawn(void) {
    struct clone_args how = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET,
        .exit_signal = SIGCHLD_,
        .stack = (uint64_t)(uintptr_t)child_stack,
        .stack_size = sizeof child_stack,
    };
    long r;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%%rbx\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(r)
                     : "0"(SYS_clone3), "D"(&how), "S"(sizeof how), "b"(child)
                     : "rcx", "r11", "memory");
    return need("clone3", r);
}

/* ----------------------------------------------------------------- parent */

static char *join(const char *a, const char *b, const char *c, long number) {
    char *start = arena_end, *at = add(add(add(start, a), b), c);
    if (number) at = add_number(at, (unsigned long)number);
    arena_end = at + 1;
    return start;
}
static void make_names(const char *storage, const char *parent) {
    static const char *const hierarchies[] = {"/sys/fs/cgroup/cpu/", "/sys/fs/cgroup/memory/", "/sys/fs/cgroup/pids/"};
    long me = SYS(SYS_getpid);
    upper = join(storage, "/u", "", me);
    work = join(storage, "/w", "", me);
    work_work = join(work, "/work", "", 0);
    log_path = join(storage, "/log", "", me);
    overlay = join("lowerdir=", rootfs, ",upperdir=", 0);
    arena_end--;
    join(upper, ",workdir=", work, 0);
    if (is_volatile) {
        arena_end--;
        join(",volatile", "", "", 0);
        dirty[0] = join(work_work, "/incompat/volatile", "/dirty", 0);
        dirty[1] = join(work_work, "/incompat/volatile", "", 0);
        dirty[2] = join(work_work, "/incompat", "", 0);
    }
    for (int i = 0; i < 3; i++) {
        group[i] = join(hierarchies[i], parent, "/", me);
        tasks[i] = join(group[i], "/tasks", "", 0);
    }
}
static void limit(int i, const char *file, const char *value) {
    char path[2048];
    add(add(path, group[i]), file);
    write_to(path, value);
}
static int run(int argc, const char **argv) {
    int info[32] = {0}; /* siginfo_t: signal, errno, code, padding, pid, uid, status */
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (argv[at][1] == 'p') timed = 1;
        if (argv[at][1] == 'v') is_volatile = 1;
        if (argv[at][1] == 'k') keeps_root = 1;
    }
    if (argc < at + 4) die("usage: floor [-p] [-v] [-k] ROOTFS STORAGE FILTER GROUP [COMMAND [ARGUMENT...]]", -22);
    for (int i = at; i < at + 4; i++)
        if (length(argv[i]) > 1000) die("an argument is longer than 1000 bytes", -36);
    argv += at;
    rootfs = argv[0];
    if (argc > at + 4) command = argv + 4;
    stamp();

    make_names(argv[1], argv[3]);
    long fd = need("open filter", SYS(SYS_open, argv[2], O_RDONLY | O_CLOEXEC, 0));
    long bytes = need("read filter", SYS(SYS_read, fd, filter, sizeof filter));
    program.len = (unsigned short)(bytes / (long)sizeof *filter);
    null_fd = need("open /dev/null", SYS(SYS_open, "/dev/null", O_RDONLY | O_CLOEXEC, 0));
    log_fd = need("open log", SYS(SYS_open, log_path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644));
    if (!keeps_root) need("mkdir upper", SYS(SYS_mkdir, upper, 0755));
    if (!keeps_root) need("mkdir work", SYS(SYS_mkdir, work, 0755));
    stamp();
    for (int i = 0; i < 3; i++) need("mkdir group", SYS(SYS_mkdir, group[i], 0755));
    limit(0, "/cpu.cfs_quota_us", "50000"); /* the period is 100 ms by default */
    limit(0, "/cpu.shares", "512");
    limit(1, "/memory.limit_in_bytes", "67108864");
    limit(2, "/pids.max", "50");
    stamp();
    long pid = spawn();
    stamp();
    need("waitid", SYS(SYS_waitid, P_PID_, pid, info, WEXITED_, NULL));
    stamp();
    for (int i = 0; i < 3; i++) need("rmdir group", SYS(SYS_rmdir, group[i]));
    stamp();
    if (is_volatile && !keeps_root) {
        need("unlink dirty", SYS(SYS_unlink, dirty[0]));
        need("rmdir volatile", SYS(SYS_rmdir, dirty[1]));
        need("rmdir incompat", SYS(SYS_rmdir, dirty[2]));
    }
    if (!keeps_root) {
        need("rmdir work/work", SYS(SYS_rmdir, work_work));
        need("rmdir work", SYS(SYS_rmdir, work));
        need("rmdir upper", SYS(SYS_rmdir, upper));
    }
    need("unlink log", SYS(SYS_unlink, log_path));
    stamp();
    if (timed) print_phases();
    return info[2] == CLD_EXITED_ ? info[6] : 128 + info[6];
}

#ifdef FREESTANDING
/* gcc may call these for structures, libc or not. */
void *memset(void *to, int byte, size_t n) {
    char *volatile at = to;
    for (size_t i = 0; i < n; i++) at[i] = (char)byte;
    return to;
}
void *memcpy(void *to, const void *from, size_t n) {
    char *volatile at = to;
    for (size_t i = 0; i < n; i++) at[i] = ((const char *)from)[i];
    return to;
}
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt");
__attribute__((used, noreturn)) void begin(long *stack) {
    SYS(SYS_exit_group, run((int)stack[0], (const char **)(stack + 1)));
    __builtin_unreachable();
}
#else
int main(int argc, const char **argv) { return run(argc, argv); }
#endif
