// SPDX-License-Identifier: Apache-2.0
//! Capabilities as bits, for rules that hold only with or without some of them.
//!
//! A set is a plain `u64` whose bit *n* is capability number *n* (`linux/capability.h`), the form in which
//! `/proc/<pid>/status` and capset(2) have it.

/// The capabilities that Docker gives to a container by default, as a bounding set: CHOWN, DAC_OVERRIDE,
/// FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE and
/// SETFCAP.
pub const DOCKER_DEFAULT: u64 = bit("CAP_CHOWN")
    | bit("CAP_DAC_OVERRIDE")
    | bit("CAP_FOWNER")
    | bit("CAP_FSETID")
    | bit("CAP_KILL")
    | bit("CAP_SETGID")
    | bit("CAP_SETUID")
    | bit("CAP_SETPCAP")
    | bit("CAP_NET_BIND_SERVICE")
    | bit("CAP_NET_RAW")
    | bit("CAP_SYS_CHROOT")
    | bit("CAP_MKNOD")
    | bit("CAP_AUDIT_WRITE")
    | bit("CAP_SETFCAP");

/// Every capability up to CAP_CHECKPOINT_RESTORE (40), the last one of Linux 6.18.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// The number of the capability `name` (`CAP_CHOWN`), or none when it does not exist up to Linux 6.18.
pub fn number(name: &str) -> Option<u8> {
    (0..).zip(NAMES).find(|(_, entry)| *entry == name).map(|(number, _)| number)
}

/// The bit of a capability that is known when this is compiled; an unknown name does not compile.
pub(crate) const fn bit(name: &str) -> u64 {
    let mut number = 0;
    while number < NAMES.len() {
        if same(NAMES[number].as_bytes(), name.as_bytes()) {
            return 1 << number;
        }
        number += 1;
    }
    panic!("no such capability")
}

const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// In the order of their numbers.
static NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        // linux/capability.h
        let facts = [("CAP_CHOWN", 0), ("CAP_NET_RAW", 13), ("CAP_SYS_ADMIN", 21), ("CAP_MKNOD", 27)];
        for (name, expected) in facts.into_iter().chain([("CAP_SYSLOG", 34), ("CAP_CHECKPOINT_RESTORE", 40)])
        {
            assert_eq!(number(name), Some(expected), "{name}");
        }
        assert_eq!(number("SYS_ADMIN"), None);
        assert_eq!(number("CAP_sys_admin"), None);
    }

    #[test]
    fn docker_gives_the_set_that_proc_shows_in_its_containers() {
        assert_eq!(DOCKER_DEFAULT, 0xa804_25fb);
        assert_eq!(ALL, 0x1ff_ffff_ffff);
    }
}
