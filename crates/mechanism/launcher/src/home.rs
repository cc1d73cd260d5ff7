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
