// SPDX-License-Identifier: Apache-2.0
//! System calls, and namespaces.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use berth_sys::probe::{Sleeper, UserNamespace};
use berth_sys::process::Namespaces;
use berth_sys::{Errno, rustix};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags, SealFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::process::{PidfdFlags, pidfd_open};

use super::{Found, Probe, Site, Subject, said};

const fn kernel(name: &'static str, cost: &'static str, look: fn(&Site) -> Found) -> Probe {
    Probe { subject: Subject::Kernel, name, needed: false, cost, look }
}

const fn namespace(name: &'static str, cost: &'static str, look: fn(&Site) -> Found) -> Probe {
    Probe { subject: Subject::Namespaces, name, needed: false, cost, look }
}

const fn needed(mut probe: Probe) -> Probe {
    probe.needed = true;
    probe
}

pub(super) const PROBES: &[Probe] = &[
    needed(kernel("root", "no container: rootless mode is not built yet", |_| root())),
    needed(kernel("clone3", "no container", |_| clone3().into())),
    needed(kernel("pidfd", "no container: a process could be taken for another", |_| pidfd().into())),
    kernel(
        "PIDFD_INFO_EXIT",
        "the exit status of a container whose supervisor was killed is unknown",
        |_| pidfd_info_exit(),
    ),
    needed(kernel("openat2", "no container: paths in hostile trees could not be kept inside", |_| {
        openat2().into()
    })),
    needed(kernel("close_range", "no container: descriptors could leak into it", |_| {
        let marked = berth_sys::fd::close_from(i32::MAX, berth_sys::fd::Fate::CloseOnExec);
        marked.map(|()| "descriptors are closed in one call".to_owned()).into()
    })),
    needed(kernel("new mount API", "no container with a root of its own", |_| mount_api().into())),
    needed(kernel("sealed memory files", "no container: berth's helper is executed from one", |_| {
        memory_file().into()
    })),
    needed(kernel("seccomp filters", "no container with the isolator linux/seccomp", |_| seccomp().into())),
    kernel("Landlock", "programs that fetch and unpack are confined by less", |_| {
        let abi = berth_sys::landlock::abi();
        abi.map(|abi| format!("version {abi} of the interface")).into()
    }),
    kernel("session keyrings", "containers share the keys of the agent", |_| keyring().into()),
];

pub(super) const NAMESPACES: &[Probe] = &[
    needed(namespace("mount namespace", "no container with a root of its own", |_| enter(Namespaces::MOUNT))),
    needed(namespace("pid namespace", "a container's processes see, and may outlive, each other", |_| {
        enter(Namespaces::PID)
    })),
    namespace("network namespace", "containers share the host's network", |_| enter(Namespaces::NET)),
    needed(namespace("ipc namespace", "containers share System V IPC and message queues", |_| {
        enter(Namespaces::IPC)
    })),
    needed(namespace("uts namespace", "containers share the host's name", |_| enter(Namespaces::UTS))),
    namespace("cgroup namespace", "containers see where they are in the host's control groups", |_| {
        enter(Namespaces::CGROUP)
    }),
    namespace("user namespace", "no container with a user namespace (--userns)", |_| user_namespace().into()),
];

/// The kernel's release and version.
pub(super) fn release() -> String {
    let name = rustix::system::uname();
    format!("{} ({})", name.release().to_string_lossy(), name.machine().to_string_lossy())
}

fn root() -> Found {
    match rustix::process::geteuid() {
        uid if uid.is_root() => Found::there("this is root"),
        uid => Found::Missing(format!("this is uid {}", uid.as_raw())),
    }
}

fn sleeper(namespaces: Namespaces) -> Result<Sleeper, Errno> {
    Sleeper::start(namespaces, UserNamespace::Shared, None)
}

fn clone3() -> Result<String, Errno> {
    sleeper(Namespaces::default())?.end()?;
    Ok("a process was made".to_owned())
}

/// Opened, signalled through, and readable when the process has ended.
fn pidfd() -> Result<String, String> {
    let child = sleeper(Namespaces::default()).map_err(said("clone3"))?;
    let pid = rustix::process::Pid::from_raw(child.pid()).ok_or("a process without a pid")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(said("pidfd_open"))?;
    berth_sys::signal::send(&pidfd, 0).map_err(said("pidfd_send_signal"))?;
    child
        .end()
        .or_else(|errno| if errno == Errno::NOTTY { Ok(None) } else { Err(errno) })
        .map_err(said("waitid"))?;
    let second = Timespec::try_from(Duration::from_secs(1)).map_err(|error| error.to_string())?;
    match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&second)).map_err(said("poll"))? {
        0 => Err("it does not become readable when its process ends".to_owned()),
        _ => Ok("opened, signalled, watched".to_owned()),
    }
}

fn pidfd_info_exit() -> Found {
    match sleeper(Namespaces::default()).and_then(Sleeper::end) {
        Ok(Some(_)) => Found::there("a pidfd tells the status of a process that is gone"),
        Ok(None) => Found::Missing("the kernel's PIDFD_GET_INFO has no exit status".to_owned()),
        Err(errno) => Found::Missing(format!("ioctl PIDFD_GET_INFO: {errno}")),
    }
}

fn openat2() -> Result<String, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, "/", flags, Mode::empty(), resolve)?;
    Ok("paths can be kept inside a tree".to_owned())
}

fn mount_api() -> Result<String, String> {
    let mount = detached_tmpfs().map_err(said("fsopen, fsconfig, fsmount"))?;
    let attributes = berth_sys::mounts::Attributes::RDONLY;
    berth_sys::mounts::set_attributes(mount.as_fd(), c"", berth_sys::mounts::Reach::Tree, attributes, true)
        .map_err(said("mount_setattr"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, "/proc/self", flags).map_err(said("open_tree"))?;
    Ok("detached mounts, with attributes".to_owned())
}

fn detached_tmpfs() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// Made executable and sealed, as the helper's is. The kernel may have been told to make none executable.
fn memory_file() -> Result<String, String> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("berth-probe", flags).map_err(|e| format!("memfd_create: {e}"))?;
    let mut file = File::from(file);
    file.write_all(b"probe").map_err(|error| format!("write to it: {error}"))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(|error| format!("seal it: {error}"))?;
    if file.write_all(b"more").is_ok() {
        return Err("a sealed one can be written".to_owned());
    }
    let mode = rustix::fs::fstat(&file).map_err(|error| format!("fstat: {error}"))?.st_mode;
    if mode & 0o111 == 0 {
        return Err("they can not be executed (sysctl vm.memfd_noexec)".to_owned());
    }
    Ok("executable and sealed".to_owned())
}

/// A filter that allows everything, on this probe's thread.
fn seccomp() -> Result<String, Errno> {
    const RET_ALLOW: [u8; 8] = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];
    rustix::thread::set_no_new_privs(true)?;
    berth_sys::seccomp::load(&RET_ALLOW)?;
    Ok("a filter was loaded".to_owned())
}

/// Joined by this probe's thread.
fn keyring() -> Result<String, Errno> {
    berth_sys::keyring::join_session(c"berth-probe")?;
    Ok("a session keyring was joined".to_owned())
}

fn enter(namespaces: Namespaces) -> Found {
    match sleeper(namespaces) {
        Ok(_) => Found::there("a process was made in one"),
        Err(errno) => Found::Missing(format!("clone3: {errno}")),
    }
}

/// A user namespace with ids mapped: the sleeper, which holds it, and its descriptor.
pub(super) fn mapped_users() -> Result<(Sleeper, OwnedFd), String> {
    let sleeper = Sleeper::start(Namespaces::default(), UserNamespace::Own, None);
    let sleeper = sleeper.map_err(|errno| format!("clone3: {errno}"))?;
    let folder = format!("/proc/{}", sleeper.pid());
    for map in ["uid_map", "gid_map"] {
        let path = format!("{folder}/{map}");
        fs::write(&path, "0 100000 65536").map_err(|error| format!("write {path}: {error}"))?;
    }
    let namespace = File::open(format!("{folder}/ns/user"));
    Ok((sleeper, namespace.map_err(|error| format!("open its user namespace: {error}"))?.into()))
}

fn user_namespace() -> Result<String, String> {
    mapped_users()?;
    let read = |path: &str| -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(64).read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    };
    let most = read("/proc/sys/user/max_user_namespaces").unwrap_or_else(|_| "any number of".to_owned());
    Ok(format!("65536 ids were mapped; at most {most} at a time"))
}
