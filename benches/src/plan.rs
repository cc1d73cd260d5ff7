// SPDX-License-Identifier: Apache-2.0
//! What every contestant is asked for. `floor/floor.c` has the same facts in its own tables.

/// The command whose whole life is timed.
pub(crate) const COMMAND: &[&str] = &["/bin/true"];
/// One that goes on.
pub(crate) const SLEEP: &[&str] = &["/bin/sleep", "10000"];
/// The host name inside.
pub(crate) const HOSTNAME: &str = "bench";
/// The same limits by the names that the agent has for them: processors, MiB and processes.
pub(crate) const LIMITS: [(&str, f64); 3] = [("cpus", 0.5), ("mem", 64.0), ("pids", 50.0)];
/// The only variable.
pub(crate) const ENVIRONMENT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Hierarchies that the floor program uses.
pub(crate) const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Docker's default set.
pub(crate) const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
];

/// Nothing can be read from these; those that the kernel does not have are passed over.
pub(crate) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Nothing can be written to these.
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[cfg(test)]
mod tests {
    use super::*;

    /// The floor program and the peers must do the same work, or the figures compare nothing.
    #[test]
    fn the_floor_program_names_every_capability_and_path_of_the_plan() {
        let source = include_str!("../floor/floor.c");
        for capability in CAPABILITIES {
            assert!(source.contains(&format!("BIT({capability})")), "{capability}");
        }
        for path in MASKED.iter().chain(&READ_ONLY) {
            assert!(source.contains(&format!("\"{}\"", &path[1..])), "{path}");
        }
        assert!(source.contains(ENVIRONMENT));
        assert!(source.contains(&format!("\"{HOSTNAME}\", {}", HOSTNAME.len())));
    }
}
