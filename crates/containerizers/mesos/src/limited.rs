// SPDX-License-Identifier: Apache-2.0
//! Limits of one-shot containers, whose owner is the command itself: what they met, and the group kill of cgroup v1, which
//! no file asks the kernel for.

use crate::live::{Ending, Live};
use crate::measure::Groups;
use berth_cgroup::{Group, Hierarchies, Rings};
use std::os::fd::OwnedFd;
use std::path::Path;

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

    /// The limit for which it ended, in words, if that was it. To be asked before it is finished.
    pub fn limit_met(&self, ending: &Ending) -> Option<String> {
        let killed = matches!(ending, Ending::Status(status) if status.0 & 0x7f == 9 || status.0 == 137 << 8);
        if !killed {
            return None;
        }
        let groups = Groups(hierarchies(), berth_isolator::GroupSettings::default());
        let message = groups.termination(&self.places().cgroup, ending).message?;
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
