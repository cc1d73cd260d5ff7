// SPDX-License-Identifier: Apache-2.0
//! What the child gives up before it looks at the first URI.
//!
//! | given up | by |
//! |---|---|
//! | being somebody else than the container's user, all capabilities | setresuid, capset, no_new_privs |
//! | outliving the agent | PR_SET_PDEATHSIG |
//! | files, but for the sandbox, the host's name service and certificates, and the local files that were asked for | Landlock |
//! | listening on TCP, abstract sockets and signals of others | Landlock |
//! | new processes and programs, unix sockets, tracing, namespaces, mounts, keys, … | seccomp: an allow list |
//!
//! Where outside programs do the fetching (Hadoop's client), they need to be executed and to read what they are made of:
//! the child may then read and execute all that its user may, write to its sandbox and to /tmp, and has the filter that
//! containers have.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use berth_model::Class;
use berth_seccomp::Profile;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Context, Failure};
use crate::wire::User;

/// Read by whoever resolves names and checks certificates.
const READ: &[&str] = &[
    "/etc",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/lib",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/proc/self",
    "/proc/sys",
];

/// Bytes of address space: a decoder may keep 128 MiB of history, and nothing here needs much more.
const ADDRESS_SPACE: u64 = 2 << 30;

pub(super) fn confine(context: &Context) -> Result<String, Failure> {
    let clients = context.setup.clients.is_some();
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    limit(Resource::Core, 0);
    if !clients {
        limit(Resource::As, ADDRESS_SPACE);
    }
    if let Some(user) = &context.setup.user {
        become_user(user)?;
    }
    drop_capabilities()?;
    end_with_the_agent(context)?;
    // Nobody of the same user may trace it or take its descriptors.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::io("keep others of the same user out", error))?;
    if let Some(sandbox) = &context.sandbox {
        rustix::process::fchdir(sandbox)
            .map_err(|error| Failure::io("enter the sandbox as the container's user", error))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(|error| Failure::io("set no_new_privs", error))?;
    let landlock = restrict(context)?;
    filter(clients)?;
    Ok(format!(
        "landlock {landlock}, seccomp {}",
        if clients { "as containers have it" } else { "allow list" }
    ))
}

fn limit(resource: Resource, most: u64) {
    // A lower limit that is there already stays.
    let now = rustix::process::getrlimit(resource);
    let most = now.maximum.map_or(most, |now| now.min(most));
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    let _ = rustix::process::setrlimit(resource, limit);
}

fn become_user(user: &User) -> Result<(), Failure> {
    use rustix::process::{Gid, Uid};
    let text = |error: rustix::io::Errno| {
        let text = format!("Fetcher could not execute `os::su()` for user '{}': {error}", user.uid);
        Failure::new(Class::Denied, text)
    };
    // `-1` means "leave as it is" to setresuid(2).
    if user.uid == u32::MAX || user.gid == u32::MAX {
        return Err(text(rustix::io::Errno::INVAL));
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if rustix::process::geteuid().is_root() {
        let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        rustix::thread::set_thread_groups(&groups).map_err(text)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(text)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(text)?;
    }
    match (rustix::process::geteuid() == uid, rustix::process::getegid() == gid) {
        (true, true) => Ok(()),
        _ => Err(text(rustix::io::Errno::PERM)),
    }
}

fn drop_capabilities() -> Result<(), Failure> {
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    let _ = rustix::thread::clear_ambient_capability_set();
    rustix::thread::set_capabilities(None, none)
        .map_err(|error| Failure::io("give up all capabilities", error))
}

/// After the change of user, which forgets it.
fn end_with_the_agent(context: &Context) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::io("ask to end with the agent", error))?;
    // It may have ended before that.
    let mut slot = [PollFd::new(&context.control, PollFlags::empty())];
    match poll(&mut slot, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(1..) => Err(Failure::new(Class::Gone, "the agent has ended")),
        _ => Ok(()),
    }
}

fn restrict(context: &Context) -> Result<&'static str, Failure> {
    let failed = |error: landlock::RulesetError| {
        Failure::new(Class::Internal, format!("confine the fetching process by Landlock: {error}"))
    };
    let abi = ABI::V7;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(failed)?
        .handle_access(AccessNet::BindTcp)
        .map_err(failed)?
        .scope(Scope::from_all(abi))
        .map_err(failed)?
        .create()
        .map_err(failed)?;
    for path in READ {
        rules = add(rules, Path::new(path), read).map_err(failed)?;
    }
    if let Some(path) = &context.setup.certificates {
        rules = add(rules, path, read).map_err(failed)?;
    }
    for path in &context.setup.local {
        rules = add(rules, path, AccessFs::ReadFile.into()).map_err(failed)?;
    }
    let sandbox = AccessFs::from_all(abi)
        & !(AccessFs::Execute
            | AccessFs::MakeChar
            | AccessFs::MakeBlock
            | AccessFs::MakeSock
            | AccessFs::IoctlDev);
    if let Some(fd) = &context.sandbox {
        rules = add_fd(rules, fd.as_fd(), sandbox).map_err(failed)?;
    }
    if let Some(clients) = &context.setup.clients {
        rules = add(rules, Path::new("/"), AccessFs::from_read(abi)).map_err(failed)?;
        for path in
            ["/tmp", "/var/tmp", "/dev/null"].map(Path::new).into_iter().chain(clients.staging.as_deref())
        {
            rules = add(rules, path, sandbox).map_err(failed)?;
        }
    }
    let status = rules.restrict_self().map_err(failed)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "as far as the kernel has it",
        RulesetStatus::NotEnforced => "missing in the kernel",
    })
}

fn add(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    // What is not there needs no rule, and what is no directory takes only the rights of files.
    match PathFd::new(path) {
        Ok(fd) => add_fd(rules, fd.as_fd(), access),
        Err(_) => Ok(rules),
    }
}

fn add_fd(
    rules: RulesetCreated,
    fd: BorrowedFd<'_>,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    let is_dir = rustix::fs::fstat(fd).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
    });
    let access = if is_dir { access } else { access & AccessFs::from_file(ABI::V7) };
    match access.is_empty() {
        true => Ok(rules),
        false => rules.add_rule(PathBeneath::new(fd, access)),
    }
}

/// What the child calls: reading and writing, files by descriptor, the internet's sockets, memory, threads (decoders
/// may use them; a new process it may not have), time.
const FILTER: &str = r#"{
  "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
  "architectures": ["SCMP_ARCH_X86_64"],
  "syscalls": [
    {"action": "SCMP_ACT_ALLOW", "names": [
      "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "close", "close_range", "fstat", "newfstatat",
      "stat", "lstat", "statx", "statfs", "fstatfs", "lseek", "access", "faccessat", "faccessat2", "openat", "openat2", "open",
      "readlink", "readlinkat", "getdents64", "getcwd", "fchdir", "mkdirat", "unlinkat", "linkat", "symlinkat", "renameat",
      "renameat2", "mknodat", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "utimensat", "ftruncate", "fallocate",
      "fsync", "fdatasync", "syncfs", "fadvise64", "copy_file_range", "sendfile", "splice", "ioctl", "fcntl", "flock", "dup",
      "fsetxattr", "fgetxattr", "flistxattr", "lsetxattr", "umask",
      "poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2", "pipe2",
      "connect", "bind", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown", "getsockname",
      "getpeername", "setsockopt", "getsockopt",
      "mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "membarrier",
      "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "getpid", "gettid", "getppid", "getuid", "geteuid",
      "getgid", "getegid", "getgroups", "getrandom", "clock_gettime", "clock_getres", "clock_nanosleep", "gettimeofday",
      "time", "nanosleep", "futex", "set_robust_list", "rseq", "sched_yield", "sched_getaffinity", "getcpu", "set_tid_address",
      "tgkill", "restart_syscall", "prlimit64", "getrlimit", "uname", "sysinfo", "exit", "exit_group", "arch_prctl", "prctl"]},
    {"action": "SCMP_ACT_ALLOW", "names": ["socket"], "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
    {"action": "SCMP_ACT_ALLOW", "names": ["socket"], "args": [{"index": 0, "value": 10, "op": "SCMP_CMP_EQ"}]},
    {"action": "SCMP_ACT_ALLOW", "names": ["socket"], "args": [
      {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 0, "op": "SCMP_CMP_EQ"}]},
    {"action": "SCMP_ACT_ALLOW", "names": ["clone"], "args": [
      {"index": 0, "value": 65536, "valueTwo": 65536, "op": "SCMP_CMP_MASKED_EQ"}]},
    {"action": "SCMP_ACT_ERRNO", "errnoRet": 38, "names": ["clone3"]}
  ]
}"#;

fn filter(clients: bool) -> Result<(), Failure> {
    let failed = |error: berth_seccomp::Error| {
        Failure::new(Class::Internal, format!("make the filter of the fetching process: {error}"))
    };
    let program = match clients {
        true => Profile::default_program(0).map_err(failed)?,
        false => {
            Profile::from_json(FILTER.as_bytes()).and_then(|profile| profile.compile(0)).map_err(failed)?
        }
    };
    berth_sys::seccomp::load(program.as_bytes())
        .map_err(|error| Failure::io("load the filter of the fetching process", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_understood_whole() {
        let profile = Profile::from_json(FILTER.as_bytes()).unwrap();
        assert_eq!(profile.unknown_names(), [""; 0]);
        profile.compile(0).unwrap();
    }
}
