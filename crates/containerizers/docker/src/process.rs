// SPDX-License-Identifier: Apache-2.0
//! The first process of a container, by a descriptor that stays its own when its pid is somebody else's. It hears the end,
//! sends signals and tells the exact status whatever the engine does: the engine's own word makes a death by signal 9 and an
//! exit with 137 the same.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use berth_model::WaitStatus;
use berth_sys::rustix::io::Errno;
use berth_sys::rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long the kernel may take to have reaped what has ended: who does it is the engine's shim, which may be stopped.
const REAPED: Duration = Duration::from_secs(1);
/// How often it is asked meanwhile; it tells nobody.
const ROUND: Duration = Duration::from_millis(2);

/// The first process of a container.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    fd: OwnedFd,
    /// The control group that it began in.
    group: Option<String>,
}

impl Process {
    /// The process with this pid, if it is one of this container: its control groups bear the engine's id of it.
    pub(crate) fn of(pid: u32, engine_id: &str) -> Option<Process> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let fd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        // Looked at after it was opened: so it is about the process that the descriptor is of, or about one that has ended.
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        groups.contains(engine_id).then(|| Process { pid, fd, group: group_of(&groups) })
    }

    /// Stays its own.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Sends a signal; an error without a process is [`Errno::SRCH`].
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Errno> {
        berth_sys::signal::send(&self.fd, signal)
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "its safe form is deprecated for descriptors that may be closed; this one is borrowed"
        )]
        let readable = AsyncFd::with_interest(self.fd.as_fd(), Interest::READABLE)?;
        let _ = readable.readable().await?;
        Ok(())
    }

    /// How it ended, when it has; none where the kernel can not tell (before Linux 6.15).
    pub(crate) async fn status(&self) -> Option<WaitStatus> {
        let until = tokio::time::Instant::now() + REAPED;
        loop {
            match berth_sys::pidfd::exit_status(&self.fd) {
                Ok(Some(status)) => return Some(WaitStatus(status)),
                Ok(None) if tokio::time::Instant::now() < until => tokio::time::sleep(ROUND).await,
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Its control group, relative to the hierarchies.
    pub(crate) fn cgroup(&self) -> Option<String> {
        group_of(&fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?)
    }

    /// The one that it began in: what has ended is in none that tells of it.
    pub(crate) fn first_cgroup(&self) -> Option<&str> {
        self.group.as_deref()
    }
}

/// The group that a process is in, by what `/proc/PID/cgroup` says: of the hierarchies that the engine uses, the first.
fn group_of(text: &str) -> Option<String> {
    let of = |wanted: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_it = controllers.split(',').any(|controller| controller == wanted);
            // A zombie is in the root (MESOS-8480).
            (is_it && path != "/").then(|| path.trim_start_matches('/').to_owned())
        })
    };
    of("memory").or_else(|| of("cpu")).or_else(|| of(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_in_every_version() {
        let v1 =
            "9:name=systemd:/docker/a\n8:pids:/docker/a\n6:memory:/docker/a\n2:cpu,cpuacct:/docker/a\n0::/\n";
        assert_eq!(group_of(v1).as_deref(), Some("docker/a"));
        assert_eq!(
            group_of("0::/system.slice/docker-a.scope\n").as_deref(),
            Some("system.slice/docker-a.scope")
        );
        assert_eq!(group_of("6:memory:/\n0::/\n"), None);
    }

    #[test]
    fn a_process_of_somebody_else_is_not_a_containers() {
        assert!(Process::of(std::process::id(), "no-such-engine-id").is_none());
        assert!(Process::of(0, "").is_none());
        assert!(Process::of(u32::MAX, "").is_none());
    }
}
