// SPDX-License-Identifier: Apache-2.0
//! A mount namespace for the bench alone.
//!
//! The bench mounts a tmpfs, and Debian's crun refuses a host with both cgroup versions, so `unified` has to go
//! for it. An empty tmpfs takes its place: crun makes a directory there all the same, and without the tmpfs that
//! would stay on the host, hidden below the mount point. Both happen in a private mount namespace that ends with the bench, however it ends. The bench gets
//! there by executing itself through unshare(1): one process, the same pid, no thread.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::Error;

/// The namespace of the caller, for the second execution to know that it is in another one.
const OUTER: &str = "BERTH_BENCH_OUTER_NAMESPACE";
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// Returns in the private namespace: at once if this is the second execution, else never, or with an error.
pub(crate) fn enter() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let here = current()?;
    if let Some(outer) = env::var_os(OUTER) {
        if outer == *here {
            return Err(Error::NotPrivate);
        }
        return hide_unified();
    }
    let program = env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
    let source = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(program)
        .args(env::args_os().skip(1))
        .env(OUTER, here)
        .exec();
    Err(Error::Start { program: "unshare (of util-linux)".to_owned(), source })
}

fn current() -> Result<std::ffi::OsString, Error> {
    let link = "/proc/self/ns/mnt";
    Ok(fs::read_link(link).map_err(Error::file("read", link))?.into_os_string())
}

fn hide_unified() -> Result<(), Error> {
    if !mount_points().iter().any(|point| point == UNIFIED) {
        return Ok(());
    }
    rustix::mount::unmount(UNIFIED, UnmountFlags::empty())
        .map_err(|errno| Error::file("unmount in the private namespace", UNIFIED)(errno.into()))?;
    mount_tmpfs(Path::new(UNIFIED))
}

/// Mounts a fresh tmpfs.
pub(crate) fn mount_tmpfs(target: &Path) -> Result<(), Error> {
    let options = CString::new("mode=755").unwrap_or_default();
    rustix::mount::mount("berth-bench", target, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
        .map_err(|errno| Error::file("mount a tmpfs on", target)(errno.into()))
}

/// Detaches every mount below `folder`, or on it. All of them are in our namespace only.
pub(crate) fn unmount_below(folder: &Path) -> io::Result<()> {
    let mut points: Vec<String> =
        mount_points().into_iter().filter(|point| Path::new(point).starts_with(folder)).collect();
    points.reverse();
    for point in points {
        rustix::mount::unmount(point.as_str(), UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// The mount points of this namespace in the order of mounting (proc_pid_mountinfo(5), fifth field).
fn mount_points() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}
