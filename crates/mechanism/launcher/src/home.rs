// SPDX-License-Identifier: Apache-2.0
//! Where the supervisors of this process are in the tree of cgroup v2. Without a word, with whoever starts them: on a host
//! with systemd they would count as the agent's own processes then, and could end with its unit.
//!
//! One place for a whole process, as there is one agent in it. `berth run` has none: who starts it decides.

use berth_sys::rustix::fs::{Mode, OFlags, openat};
use berth_sys::rustix::io::write;
use berth_sys::spawn::{Spawn, Spawned, spawn_in};
use berth_sys::{Errno, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

static HOME: RwLock<Option<Arc<OwnedFd>>> = RwLock::new(None);

/// From now on supervisors live in this group of cgroup v2: the descriptor of its directory, for reading. It must be one
/// that may hold processes: no controllers are handed down in it.
pub fn place_supervisors(group: OwnedFd) {
    *HOME.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(group));
}

/// Starts a supervisor in its place. Not to reach that is no reason not to start: it is in ours then.
pub(crate) fn start<const ARGS: usize, const FDS: usize>(
    spawn: Spawn<ARGS, FDS>,
) -> Result<Spawned<ARGS, FDS>> {
    let home = HOME.read().unwrap_or_else(PoisonError::into_inner).clone();
    let born = spawn_in(spawn, home.as_deref().map(AsFd::as_fd))?;
    if let Some(home) = home.filter(|_| !born.is_in_group()) {
        let _ = move_to(&home, born.pid());
    }
    Ok(born)
}

/// For kernels before 5.7.
fn move_to(group: &OwnedFd, pid: i32) -> Result<()> {
    let procs = openat(group, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let text = pid.to_string();
    match write(procs, text.as_bytes())? {
        written if written == text.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_sys::rustix::fs::CWD;
    use berth_sys::rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
    use std::path::{Path, PathBuf};

    /// A new group of cgroup v2, removed when it is dropped.
    struct Group(PathBuf);

    impl Group {
        fn new() -> Option<Group> {
            let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
            let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists())?;
            let path = root.join(format!("berth-home-{}", std::process::id()));
            std::fs::create_dir(&path).ok().map(|()| Group(path))
        }

        fn members(&self) -> String {
            std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    fn open(path: &Path, flags: OFlags) -> OwnedFd {
        openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn sleep() -> Spawn<2, 3> {
        let null = || open(Path::new("/dev/null"), OFlags::RDWR);
        Spawn {
            program: open(Path::new("/bin/sleep"), OFlags::RDONLY),
            argv: [c"sleep".to_owned(), c"1000".to_owned()],
            descriptors: [null(), null(), null()],
        }
    }

    fn end(process: &Spawned<2, 3>) {
        process.executed().unwrap();
        pidfd_send_signal(process.pidfd(), Signal::KILL).unwrap();
        waitid(WaitId::PidFd(process.pidfd()), WaitIdOptions::EXITED).unwrap();
    }

    #[test]
    fn a_supervisor_is_born_in_its_place_and_otherwise_moved_there() {
        let Some(group) = Group::new() else {
            println!("skipped: no cgroup v2 in which this user may make a group");
            return;
        };
        let home = open(&group.0, OFlags::RDONLY | OFlags::DIRECTORY);
        let born = spawn_in(sleep(), Some(home.as_fd())).unwrap();
        assert!(born.is_in_group());
        assert_eq!(group.members(), format!("{}\n", born.pid()));
        end(&born);
        // No group at all: the kernel refuses that as it would the flag.
        let elsewhere = spawn_in(sleep(), Some(open(Path::new("/"), OFlags::RDONLY).as_fd())).unwrap();
        assert!(!elsewhere.is_in_group());
        assert_eq!(group.members(), "");
        move_to(&home, elsewhere.pid()).unwrap();
        assert_eq!(group.members(), format!("{}\n", elsewhere.pid()));
        end(&elsewhere);
    }
}
