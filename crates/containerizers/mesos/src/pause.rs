// SPDX-License-Identifier: Apache-2.0
//! The facet Pause: all processes of a container stopped, sessions too, by the freezer of its control group.
//!
//! Who stops a container and who ends it never overlap: both hold [`Entry::gate`] while they are at it, and whoever ends it
//! has said so before. So nothing is stopped that somebody waits for to end. The kernel keeps the state, so an agent that
//! comes after finds it.

use crate::containerizer::MesosContainerizer;
use crate::entry::Entry;
use crate::shared::{Shared, warn};
use berth_contract::{Answer, Error, Pause, ready};
use berth_model::{Class, ContainerId, NativeState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long processes may take to stop. They do at once, but for those that wait for a device.
const STOPS: Duration = Duration::from_secs(10);

impl Pause for MesosContainerizer {
    fn freeze(&self, id: &ContainerId) -> Answer<'_, ()> {
        match pausable(self.shared(), id) {
            Ok(entry) => self.away(move |shared| freeze(shared, &entry)),
            Err(e) => ready(Err(e)),
        }
    }

    fn thaw(&self, id: &ContainerId) -> Answer<'_, ()> {
        match pausable(self.shared(), id) {
            Ok(entry) => self.away(move |shared| {
                let _gate = entry.gate();
                running(&entry)?;
                shared.groups.thaw(&group_of(shared, &entry.id))?;
                entry.paused(&shared.events, false);
                Ok(())
            }),
            Err(e) => ready(Err(e)),
        }
    }
}

fn pausable(shared: &Shared, id: &ContainerId) -> Result<Arc<Entry>, Error> {
    let entry = shared.get(id).ok_or_else(|| Error::UnknownContainer(id.clone()))?;
    if entry.session {
        let text = format!("session {id} is stopped with its container only: pause that");
        return Err(Error::other(Class::Unsupported, text));
    }
    Ok(entry)
}

fn running(entry: &Entry) -> Result<(), Error> {
    let now = entry.now();
    let what = match now.state {
        _ if now.terminated => "has ended",
        NativeState::Running => return Ok(()),
        NativeState::Destroying => "is being destroyed",
        _ => "does not run yet",
    };
    Err(Error::other(Class::Conflict, format!("container {} {what}", entry.id)))
}

fn freeze(shared: &Shared, entry: &Entry) -> Result<(), Error> {
    let _gate = entry.gate();
    running(entry)?;
    shared.groups.freeze(&group_of(shared, &entry.id), Instant::now() + STOPS)?;
    entry.paused(&shared.events, true);
    // Whoever kills it looks after that whether it is stopped; whoever stops it looks after that whether it was killed.
    if entry.now().process.is_some_and(|process| is_killed(process.pid)) {
        shared.groups.thaw(&group_of(shared, &entry.id))?;
        entry.paused(&shared.events, false);
        return Err(Error::other(Class::Conflict, format!("container {} was killed", entry.id)));
    }
    Ok(())
}

/// Whether SIGKILL waits for a process that is stopped (proc_pid_status(5)).
pub(crate) fn is_killed(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().filter_map(|line| {
        let set = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    });
    pending.fold(0, |all, set| all | set) >> 8 & 1 == 1
}

fn group_of(shared: &Shared, id: &ContainerId) -> String {
    shared.native.places(id).cgroup
}

/// Lets a container go on that was killed, so that it ends: what is stopped does not even die (cgroup v1).
pub(crate) fn let_end(shared: &Shared, entry: &Entry, cgroup: &str) {
    let _gate = entry.gate();
    if !entry.now().paused {
        return;
    }
    match shared.groups.thaw(cgroup) {
        Ok(()) => entry.paused(&shared.events, false),
        Err(e) => {
            warn(&format!("container {} is killed, and can not be resumed to end: {}", entry.id, e.chain()))
        }
    }
}

/// The same for a session that was killed in a container which is to stay as it is.
pub(crate) fn let_session_end(shared: &Shared, entry: &Entry) {
    let Some(parent) = entry.id.parent().and_then(|parent| shared.get(parent)) else { return };
    let Some(process) = entry.now().process else { return };
    let _gate = parent.gate();
    if parent.now().paused {
        shared.groups.take_killed(&shared.native.cgroup, process.pid);
    }
}
