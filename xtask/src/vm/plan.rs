// SPDX-License-Identifier: Apache-2.0
//! What runs in the VM, and for how long.
//!
//! An emulated processor is about ten times slower, so what only tries something many times (races, sweeps, soaks), and
//! what looks at a moment of which it assumes when it comes, stays outside; what asks a kernel for something is here.

/// One test program, by the folder of its crate and its target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) folder: &'static str,
    pub(super) target: &'static str,
    /// How long it may take, three times of what it does: the machine may have more to do.
    pub(super) seconds: u64,
    /// Tests left out, by a part of their names.
    pub(super) without: &'static [&'static str],
    /// Only these tests, by a part of their names; none: all.
    pub(super) only: &'static [&'static str],
}

const fn run(folder: &'static str, target: &'static str, seconds: u64) -> Run {
    Run { folder, target, seconds, without: &[], only: &[] }
}

/// With systemd as init: one test program after the other, and of the first one test after the other, since there is one
/// unit.
pub(super) const SYSTEMD: &[Run] = &[
    run("tests/agent", "systemd", 720),
    Run { only: &["journald_gets"], ..run("tests/agent", "logs", 90) },
    run("crates/containerizers/mesos", "conformance", 360),
    run("crates/containerizers/mesos", "killed_agent", 270),
];

/// With a clock that counts instructions: how processor time is shared out.
pub(super) const TIMED: &[Run] =
    &[Run { only: &["processor_time", "a_processor_by_weight"], ..run("tests/kernel", "kernel", 180) }];

/// With a plain host, in this order.
pub(super) const RUNS: &[Run] = &[
    run("crates/mechanism/cgroup", "host", 180),
    run("crates/mechanism/cgroup", "limits", 270),
    // Ways around what this kernel does not have: many layers, births in a group.
    Run { only: &["overlay::"], ..run("crates/mechanism/image", "image", 180) },
    Run { only: &["a_hundred_and_thirty_layers"], ..run("crates/mechanism/store", "store", 90) },
    Run { only: &["a_hundred_and_thirty_layers"], ..run("tests/images", "images", 180) },
    run("crates/mechanism/launcher", "berth_launcher", 90),
    run("tests/kernel", "kernel", 900),
    run("crates/containerizers/mesos", "containers", 360),
    run("crates/containerizers/mesos", "conformance", 360),
    run("crates/containerizers/mesos", "pause", 180),
    // Without a loop that only tries it again and again.
    Run { without: &["attaching_again_and_again"], ..run("crates/containerizers/mesos", "attach", 270) },
    run("crates/containerizers/mesos", "killed_agent", 180),
    run("crates/containerizers/mesos", "sessions", 180),
    run("tests/faults", "fault_points", 180),
    run("tests/faults", "running", 180),
    // LXC with nothing but cgroup v2, where it puts further commands into a group below the container's.
    run("crates/containerizers/lxc", "conformance", 240),
    run("crates/containerizers/lxc", "session", 120),
    Run {
        only: &["limits_are_in_force", "an_init_that_is"],
        ..run("crates/containerizers/lxc", "life", 120)
    },
    Run {
        // A kill at each of hundreds of system calls, and a loop of them; a program that needs a Python.
        without: &["sweep::", "is_killed_anywhere", "cycles_of_attach", "containers_of_two_containerizers"],
        ..run("tests/agent", "agent", 600)
    },
    // A dockerd with nothing but cgroup v2.
    run("crates/containerizers/docker", "conformance", 480),
    Run {
        // What asks the kernel for something: there is no registry, and this kernel tells no exact status.
        only: &[
            "limits_that_were_asked_for",
            "who_runs_out_of_memory",
            "a_volume_of_each_kind",
            "networks_are",
        ],
        ..run("crates/containerizers/docker", "engine", 180)
    },
    run("crates/containerizers/docker", "persistent", 135),
];

impl Run {
    /// What it is called in the VM's list.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.folder, self.target)
    }

    /// Whether somebody means it by this name: `kernel`, or `mesos/conformance` where there are several.
    pub(super) fn is_called(&self, name: &str) -> bool {
        name == self.target || format!("/{}/{}", self.folder, self.target).ends_with(&format!("/{name}"))
    }
}
