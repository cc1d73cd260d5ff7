// SPDX-License-Identifier: Apache-2.0
//! What newer kernels do better, each with another way for those that can not. Which one is taken is found by trying,
//! never by a version number; here it can be switched off, so that the other way is tested on any kernel.

/// A better way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// `cgroup.kill` (5.14): else forks are stopped and processes signalled in rounds.
    Kill,
    /// `memory.reclaim` (5.19): else `memory.high` alone makes room before a limit is lowered.
    Reclaim,
    /// `BPF_F_REPLACE` (5.6): else attach, then detach.
    BpfReplace,
    /// Birth in a group of v2 (`CLONE_INTO_CGROUP`, 5.7): else the child moves itself.
    CloneInto,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 4] = [Way::Kill, Way::Reclaim, Way::BpfReplace, Way::CloneInto];

    /// Its name, for switching it off.
    pub const fn name(self) -> &'static str {
        match self {
            Way::Kill => "cgroup.kill",
            Way::Reclaim => "memory.reclaim",
            Way::BpfReplace => "bpf-replace",
            Way::CloneInto => "clone-into-cgroup",
        }
    }
}

/// Which better ways are taken where the kernel has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ways {
    off: u8,
}

impl Ways {
    /// All but one.
    #[must_use]
    pub fn without(self, way: Way) -> Ways {
        Ways { off: self.off | 1 << way as u8 }
    }

    pub(crate) fn has(self, way: Way) -> bool {
        self.off & 1 << way as u8 == 0
    }
}
