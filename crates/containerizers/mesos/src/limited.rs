// SPDX-License-Identifier: Apache-2.0
//! Limits of one-shot containers, whose owner is the command itself: what they met, and the group kill of cgroup v1, which
//! no file asks the kernel for.

use crate::live::{Ending, Live};
use crate::measure::Groups;
use berth_cgroup::{Group, Hierarchies, Rings};
use berth_model::ContainerTermination;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;

impl Live {
    /// What is readable when all of the container is to end for lack of memory: only where that was asked for, and where
    /// the kernel does not do it by itself.
    pub fn group_kill(&self) -> Option<OwnedFd> {
        let group = self.group()?;
        if group.limits_applied().oom_group != Some(true) {
            return None;
        }
        let bells = group.bells().ok()?;
        bells.into_iter().find(|bell| bell.rings == Rings::OutOfMemory).map(|bell| bell.fd)
    }

    /// Kills all of it, for [`Live::group_kill`] said so.
    pub fn kill_together(&self) {
        self.together.store(true, Ordering::SeqCst);
        self.kill();
    }

    /// The limit for which it ended, in words, if that was it. To be asked before it is finished.
    pub fn limit_met(&self, ending: &Ending) -> Option<String> {
        let killed = matches!(ending, Ending::Status(status) if status.0 & 0x7f == 9 || status.0 == 137 << 8);
        if !killed {
            return None;
        }
        let groups = Groups(hierarchies(), berth_isolator::GroupSettings::default());
        let Ending::Status(status) = ending else { return None };
        let path = &self.places().cgroup;
        let met = groups.termination(path, ending).message;
        // The kernel tells of its lack before it kills, and has nobody left to kill when we were faster.
        let ours = || {
            let ended = ContainerTermination { status: Some(status.0), ..ContainerTermination::default() };
            let together = self.together.load(Ordering::SeqCst);
            if !together {
                return None;
            }
            groups.short_of_memory(&self.group()?, ended).message
        };
        let message = met.or_else(ours)?;
        // The first line; the statistics are for records.
        message.lines().next().map(str::to_owned)
    }

    fn group(&self) -> Option<Group> {
        Group::open(&hierarchies()?, &self.places().cgroup).ok()
    }
}

fn hierarchies() -> Option<Hierarchies> {
    Hierarchies::probe(Path::new(Hierarchies::ROOT)).ok()
}
