// SPDX-License-Identifier: Apache-2.0
//! What a profile says, in our own words: a default action and rules over system calls.
//!
//! A rule holds for some calls, perhaps only with or without some capabilities, perhaps only for some values of
//! the arguments. Every test of a rule must be true for the rule to match. What happens to a call:
//!
//! 1. Of the rules without tests for it, only the first counts. Those whose action is the default action say
//!    nothing and are not counted at all: they do not hide the rules with tests beside them.
//! 2. Of this one and the rules with tests that match, **the strictest action wins**, in the kernel's own order
//!    (kill the process, kill the thread, trap, errno, trace, log, allow). Between two of the same strictness the
//!    first in the profile wins.
//! 3. If none matches, the default action.
//! 4. Beyond the highest call that the profile names at all, a profile that answers with an error number by
//!    default answers ENOSYS instead: the author can not have known these calls, and programs take ENOSYS as
//!    "fall back", EPERM as "fail" (runc does the same).
//!
//! Libseccomp, behind runc, crun and Mesos, has the same answers except where rules contradict each other. There
//! an allowing rule without tests silently wipes out all rules with tests for the same call, so "allow `ioctl`,
//! but not TIOCSTI" can not be said, and of two rules with tests mostly the wider one wins; here it is the
//! stricter one. Step 2 is therefore never more permissive (`docs/seccomp.md` has the comparison).

use std::borrow::Cow;

use crate::compile;
use crate::default;
use crate::json;
use crate::kernel::Kernel;
use crate::{Error, Program};

/// A profile for x86-64. Conditions on architecture and kernel version are decided when it is read; those on
/// capabilities when it is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub(crate) default: Action,
    pub(crate) rules: Cow<'static, [Rule]>,
    /// The highest call that the profile names, whether or not the rule applies here.
    pub(crate) highest: Option<u16>,
    pub(crate) unknown: Vec<String>,
}

impl Profile {
    /// The profile of containers that ask for none: equal in effect to Docker's, and stricter where
    /// `docs/seccomp.md` says so. Costs nothing: it is constant data.
    pub fn default_profile() -> Profile {
        default::PROFILE
    }

    /// The filter of the default profile, as [`Profile::compile`] makes it. For the capabilities that a container usually
    /// has it was compiled beforehand (`default.bpf`; a test makes it anew and compares).
    pub fn default_program(caps: u64) -> Result<Program, Error> {
        match caps {
            USUAL => Ok(Program::of_static(include_bytes!("default.bpf"))),
            _ => Profile::default_profile().compile(caps),
        }
    }

    /// Reads a profile in Docker's JSON format, for the running kernel (`minKernel`).
    ///
    /// Calls that x86-64 does not have are left out, as Docker does; [`Profile::unknown_names`] lists them.
    /// Everything else that is not understood is an error that names the rule.
    pub fn from_json(text: &[u8]) -> Result<Profile, Error> {
        Self::from_json_for(text, Kernel::running())
    }

    /// As [`Profile::from_json`], for a given kernel.
    pub fn from_json_for(text: &[u8], kernel: Kernel) -> Result<Profile, Error> {
        json::read(text, kernel)
    }

    /// The filter for a process whose bounding set is `caps` (bit *n* is capability number *n*).
    ///
    /// Fails only when the filter would be longer than the kernel takes (4,096 instructions).
    pub fn compile(&self, caps: u64) -> Result<Program, Error> {
        compile::compile(self, caps)
    }

    /// What happens to a call that no rule matches.
    pub fn default_action(&self) -> Action {
        self.default
    }

    /// The rules, in the order of the profile.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The names in the profile that x86-64 has no call for, sorted, each once: calls of other architectures,
    /// calls newer than Linux 6.18, and typing errors.
    pub fn unknown_names(&self) -> &[String] {
        &self.unknown
    }

    /// The highest call number that the profile names. Calls beyond it get [`Profile::beyond`].
    pub fn highest(&self) -> Option<u16> {
        self.highest
    }

    /// What happens to calls that are newer than the profile: ENOSYS where the default action is an error
    /// number, else the default action.
    pub fn beyond(&self) -> Action {
        match (self.default, self.highest) {
            (Action::Errno(_), Some(_)) => Action::Errno(ENOSYS),
            _ => self.default,
        }
    }
}

/// The capabilities for which `default.bpf` was compiled: Docker's default ones without MKNOD.
pub const USUAL: u64 = 0xa004_25fb;

pub(crate) const EPERM: u16 = 1;
pub(crate) const ENOSYS: u16 = 38;

/// What the kernel does with a call (seccomp(2), `SECCOMP_RET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let it through.
    Allow,
    /// Let it through and write it to the audit log.
    Log,
    /// Ask a tracer, with this number as message; without a tracer the call fails with ENOSYS.
    Trace(u16),
    /// Fail with this error number; 0 makes the call look successful.
    Errno(u16),
    /// Send SIGSYS.
    Trap,
    /// End the calling thread as if by SIGSYS.
    KillThread,
    /// End the whole process as if by SIGSYS.
    KillProcess,
}

impl Action {
    /// The value that a filter returns for it (`linux/seccomp.h`).
    pub const fn value(self) -> u32 {
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Log => 0x7ffc_0000,
            Action::Trace(message) => 0x7ff0_0000 | message as u32,
            Action::Errno(number) => 0x0005_0000 | number as u32,
            Action::Trap => 0x0003_0000,
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
        }
    }

    /// The kernel's order of precedence between filters, and ours between rules: lower is stricter. It is the
    /// action part of the value, taken as signed (seccomp(2)).
    pub(crate) const fn rank(self) -> i32 {
        (self.value() & 0xffff_0000).cast_signed()
    }
}

/// One rule: what to do with some calls, under some conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The numbers of the calls that it is for.
    pub calls: Cow<'static, [u16]>,
    /// What happens to them.
    pub action: Action,
    /// All of these must be true of the arguments.
    pub tests: Cow<'static, [Test]>,
    /// It holds only if the bounding set has all of these capabilities.
    pub with: u64,
    /// It holds only if the bounding set has none of these capabilities.
    pub without: u64,
}

impl Rule {
    /// Whether it holds for a process with the bounding set `caps`.
    pub fn applies(&self, caps: u64) -> bool {
        self.with & !caps == 0 && self.without & caps == 0
    }
}

/// One comparison of an argument, all 64 bits of it, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Test {
    /// Which argument, 0 to 5.
    pub arg: u8,
    /// What must be true of it.
    pub is: Comparison,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// It is not this value.
    NotEqual(u64),
    /// It is less.
    Less(u64),
    /// It is less or equal.
    LessOrEqual(u64),
    /// It is this value.
    Equal(u64),
    /// It is greater or equal.
    GreaterOrEqual(u64),
    /// It is greater.
    Greater(u64),
    /// The bits of it that are in the mask are these.
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strictness_is_the_order_of_the_kernel() {
        let order = [
            Action::KillProcess,
            Action::KillThread,
            Action::Trap,
            Action::Errno(1),
            Action::Trace(1),
            Action::Log,
            Action::Allow,
        ];
        assert!(order.windows(2).all(|pair| pair[0].rank() < pair[1].rank()));
        assert_eq!(Action::Errno(1).rank(), Action::Errno(38).rank());
    }

    #[test]
    fn a_rule_applies_with_all_it_includes_and_nothing_it_excludes() {
        let rule = |with, without| Rule {
            calls: Cow::Borrowed(&[]),
            action: Action::Allow,
            tests: Cow::Borrowed(&[]),
            with,
            without,
        };
        assert!(rule(0, 0).applies(0));
        assert!(rule(0b11, 0).applies(0b111));
        assert!(!rule(0b11, 0).applies(0b101));
        assert!(rule(0, 0b1000).applies(0b111));
        assert!(!rule(0, 0b1100).applies(0b100));
    }
}
