// SPDX-License-Identifier: Apache-2.0
//! Linux capabilities (`capabilities(7)`): their numbers, their names, and sets of them.

use crate::Class;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Mesos numbers a capability in its messages by this plus the kernel's number.
const MESOS_OFFSET: u32 = 1000;

/// Why a text is not a capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability '{name}'; use a name of capabilities(7) such as CAP_NET_ADMIN or NET_ADMIN")]
pub struct UnknownCapability {
    /// What was given.
    pub name: String,
}

impl UnknownCapability {
    /// An unknown name is always a wrong request.
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

macro_rules! capabilities {
    ($($Variant:ident = $number:literal => $name:literal,)+) => {
        /// A capability; its discriminant is the kernel's number (`linux/capability.h`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        #[repr(u8)]
        pub enum Capability {
            $(
                #[doc = concat!("`CAP_", $name, "`")]
                #[serde(rename = $name)]
                $Variant = $number,
            )+
        }

        impl Capability {
            /// Every capability, in the order of the kernel's numbers.
            pub const ALL: &[Capability] = &[$(Capability::$Variant),+];

            /// The name without `CAP_`, as Mesos's JSON has it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Capability::$Variant => $name,)+
                }
            }
        }
    };
}

capabilities! {
    Chown = 0 => "CHOWN",
    DacOverride = 1 => "DAC_OVERRIDE",
    DacReadSearch = 2 => "DAC_READ_SEARCH",
    Fowner = 3 => "FOWNER",
    Fsetid = 4 => "FSETID",
    Kill = 5 => "KILL",
    Setgid = 6 => "SETGID",
    Setuid = 7 => "SETUID",
    Setpcap = 8 => "SETPCAP",
    LinuxImmutable = 9 => "LINUX_IMMUTABLE",
    NetBindService = 10 => "NET_BIND_SERVICE",
    NetBroadcast = 11 => "NET_BROADCAST",
    NetAdmin = 12 => "NET_ADMIN",
    NetRaw = 13 => "NET_RAW",
    IpcLock = 14 => "IPC_LOCK",
    IpcOwner = 15 => "IPC_OWNER",
    SysModule = 16 => "SYS_MODULE",
    SysRawio = 17 => "SYS_RAWIO",
    SysChroot = 18 => "SYS_CHROOT",
    SysPtrace = 19 => "SYS_PTRACE",
    SysPacct = 20 => "SYS_PACCT",
    SysAdmin = 21 => "SYS_ADMIN",
    SysBoot = 22 => "SYS_BOOT",
    SysNice = 23 => "SYS_NICE",
    SysResource = 24 => "SYS_RESOURCE",
    SysTime = 25 => "SYS_TIME",
    SysTtyConfig = 26 => "SYS_TTY_CONFIG",
    Mknod = 27 => "MKNOD",
    Lease = 28 => "LEASE",
    AuditWrite = 29 => "AUDIT_WRITE",
    AuditControl = 30 => "AUDIT_CONTROL",
    Setfcap = 31 => "SETFCAP",
    MacOverride = 32 => "MAC_OVERRIDE",
    MacAdmin = 33 => "MAC_ADMIN",
    Syslog = 34 => "SYSLOG",
    WakeAlarm = 35 => "WAKE_ALARM",
    BlockSuspend = 36 => "BLOCK_SUSPEND",
    AuditRead = 37 => "AUDIT_READ",
    Perfmon = 38 => "PERFMON",
    Bpf = 39 => "BPF",
    CheckpointRestore = 40 => "CHECKPOINT_RESTORE",
}

impl Capability {
    /// The kernel's number, 0 to 40.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The capability with this number of the kernel.
    pub fn from_number(number: u8) -> Option<Capability> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number in Mesos's messages, 1000 to 1040.
    pub const fn mesos_number(self) -> u32 {
        MESOS_OFFSET + self as u32
    }

    /// The capability with this number in Mesos's messages.
    pub fn from_mesos_number(number: u32) -> Option<Capability> {
        Self::from_number(u8::try_from(number.checked_sub(MESOS_OFFSET)?).ok()?)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.name())
    }
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Reads `CAP_CHOWN` and `CHOWN`, in any case.
    fn from_str(text: &str) -> Result<Capability, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let found = Self::ALL.iter().copied().find(|capability| capability.name() == name);
        found.ok_or_else(|| UnknownCapability { name: text.to_owned() })
    }
}

impl TryFrom<String> for Capability {
    type Error = UnknownCapability;

    fn try_from(text: String) -> Result<Capability, UnknownCapability> {
        text.parse()
    }
}

/// A set of capabilities: bit n is the capability with the kernel's number n, as in `/proc/pid/status`. Bits that
/// this build has no name for are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Every capability that has a name.
    pub const ALL: Capabilities = Capabilities((1 << Capability::ALL.len()) - 1);
    /// No capability.
    pub const NONE: Capabilities = Capabilities(0);

    /// What is in either set.
    pub const fn union(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// What is in both sets.
    pub const fn intersection(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }

    /// What is in this set and not in `other`.
    pub const fn difference(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Whether `capability` is in the set.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.number()) != 0
    }

    /// Whether all of this set is in `other`.
    pub const fn is_subset(self, other: Capabilities) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The capabilities of the set that have names, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Capabilities {
        Capabilities(capabilities.into_iter().fold(0, |bits, one| bits | 1 << one.number()))
    }
}

impl fmt::Display for Capabilities {
    /// The names, joined with commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, capability) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{capability}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_follow_the_order_of_the_table() {
        for (index, capability) in Capability::ALL.iter().enumerate() {
            assert_eq!(usize::from(capability.number()), index);
            assert_eq!(Capability::from_number(capability.number()), Some(*capability));
            assert_eq!(Capability::from_mesos_number(capability.mesos_number()), Some(*capability));
        }
        assert_eq!(Capability::ALL.len(), 41);
        assert_eq!(Capability::CheckpointRestore.mesos_number(), 1040);
        assert_eq!(Capability::from_number(41), None);
        assert_eq!([0, 999, 1041, 1256, u32::MAX].map(Capability::from_mesos_number), [None; 5]);
    }

    #[test]
    fn names_are_read_with_or_without_prefix_in_any_case() {
        for text in ["CAP_NET_ADMIN", "NET_ADMIN", "net_admin", "cap_Net_Admin"] {
            assert_eq!(text.parse(), Ok(Capability::NetAdmin), "{text}");
        }
        for text in ["", "CAP_", "ALL", "CAP_CAP_CHOWN", "CHOWN "] {
            assert!(text.parse::<Capability>().is_err(), "{text}");
        }
        assert_eq!(Capability::NetAdmin.to_string(), "CAP_NET_ADMIN");
        assert_eq!(serde_json::to_string(&Capability::NetAdmin).unwrap(), r#""NET_ADMIN""#);
        assert_eq!(serde_json::from_str::<Capability>(r#""CAP_CHOWN""#).unwrap(), Capability::Chown);
    }

    #[test]
    fn all_has_one_bit_for_each_name() {
        assert_eq!(Capabilities::ALL.0, 0x1ff_ffff_ffff);
        assert_eq!(Capabilities::ALL.iter().collect::<Capabilities>(), Capabilities::ALL);
    }

    proptest! {
        #[test]
        fn sets_behave_as_sets(a: u64, b: u64) {
            let (a, b) = (Capabilities(a), Capabilities(b));
            for one in Capability::ALL.iter().copied() {
                prop_assert_eq!(a.union(b).contains(one), a.contains(one) || b.contains(one));
                prop_assert_eq!(a.difference(b).contains(one), a.contains(one) && !b.contains(one));
                prop_assert_eq!(a.intersection(b).contains(one), a.contains(one) && b.contains(one));
            }
            prop_assert!(a.difference(b).is_subset(a) && a.is_subset(a.union(b)));
            prop_assert_eq!(a.iter().collect::<Capabilities>(), a.intersection(Capabilities::ALL));
        }
    }
}
