// SPDX-License-Identifier: Apache-2.0
//! v2's way to limit devices: a program that the kernel asks for each use, attached to the group.
//!
//! ```text
//! r2 = type, r3 = access, r4 = major, r5 = minor
//! for each rule:  unless type, major, minor are the rule's, go to the next;
//!                 unless access is within the rule's, go to the next;  return 1
//! return 0
//! ```
//! Programs are attached beside those of others (systemd attaches its own): all have to agree. Another list goes in by one
//! step (`BPF_F_REPLACE`, kernel 5.6); without that the new one is attached first and the old one taken off after, so that
//! in between less is allowed, never more. The kernel keeps the program as long as the group; nobody has to hold it.
//! Sources: bpf(2), linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst in the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_sys::bpf;
use rustix::io::Errno;

use crate::ways::{Way, Ways};
use crate::{Access, DeviceKind, DeviceRule, Error, Result};

const LIMIT: &str = "device list";
/// Our programs' name, to tell them from others' on the same group.
const NAME: &str = "berth_devices";

/// Opcodes: class, source and operation of the instruction set.
const LOAD_WORD: u8 = 0x61;
const MOVE_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const MOVE_64: u8 = 0xb7;
const JUMP_NOT_EQUAL_32: u8 = 0x56;
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_ACC_*` and `BPF_DEVCG_DEV_*`.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const BLOCK: u32 = 1;
const CHAR: u32 = 2;

/// One instruction.
const fn instruction(opcode: u8, to: u8, from: u8, offset: i16, immediate: u32) -> u64 {
    opcode as u64 | ((from << 4 | to) as u64) << 8 | (offset as u16 as u64) << 16 | (immediate as u64) << 32
}

/// The program for a list of rules.
pub(crate) fn compile(rules: &[DeviceRule]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_32, 3, 2, 0, 0),
        instruction(AND_32, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in merged(rules) {
        let start = program.len();
        let kind = match rule.kind {
            DeviceKind::Block => BLOCK,
            DeviceKind::Char => CHAR,
        };
        let mut unless = vec![(2, kind)];
        unless.extend(rule.major.map(|major| (4, major)));
        unless.extend(rule.minor.map(|minor| (5, minor)));
        for (register, value) in unless {
            program.push(instruction(JUMP_NOT_EQUAL_32, register, 0, 0, value));
        }
        let denied = (MKNOD | READ | WRITE) & !bits(rule.access);
        if denied != 0 {
            program.push(instruction(MOVE_32, 1, 3, 0, 0));
            program.push(instruction(AND_32, 1, 0, 0, denied));
            program.push(instruction(JUMP_NOT_EQUAL_32, 1, 0, 0, 0));
        }
        program.push(instruction(MOVE_64, 0, 0, 0, 1));
        program.push(instruction(EXIT, 0, 0, 0, 0));
        // What is not this rule's goes on behind it.
        let end = program.len();
        for (at, word) in program.iter_mut().enumerate().skip(start) {
            if *word as u8 == JUMP_NOT_EQUAL_32 {
                *word |= ((end - at - 1) as u64 & 0xffff) << 16;
            }
        }
    }
    program.push(instruction(MOVE_64, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

/// Rules for the same device as one: what is asked for at once (to read and write) is looked for in one rule.
fn merged(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let mut all: Vec<DeviceRule> = Vec::with_capacity(rules.len());
    for rule in rules {
        let same = |other: &&mut DeviceRule| {
            (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor)
        };
        match all.iter_mut().find(same) {
            Some(other) => {
                other.access.read |= rule.access.read;
                other.access.write |= rule.access.write;
                other.access.mknod |= rule.access.mknod;
            }
            None => all.push(*rule),
        }
    }
    all
}

fn bits(access: Access) -> u32 {
    let Access { read, write, mknod } = access;
    let bit = |given, bit| if given { bit } else { 0 };
    bit(mknod, MKNOD) | bit(read, READ) | bit(write, WRITE)
}

/// Puts the list in force for a group, in the place of the one that was.
pub(crate) fn apply(group: BorrowedFd<'_>, rules: &[DeviceRule], ways: Ways) -> Result<()> {
    let program = bpf::load_device_program(&compile(rules), NAME).map_err(|errno| refused(errno, "load"))?;
    let old = ours(group).map_err(|errno| refused(errno, "look for"))?;
    match old.split_first() {
        None => bpf::attach(group, program.as_fd()).map_err(|errno| refused(errno, "attach"))?,
        Some((first, others)) => {
            let replaced = match ways.has(Way::BpfReplace) {
                true => bpf::replace(group, program.as_fd(), first.as_fd()),
                false => Err(Errno::INVAL),
            };
            let rest = match replaced {
                Ok(()) => others,
                // Before 5.6 the flag is not known.
                Err(Errno::INVAL) => {
                    bpf::attach(group, program.as_fd()).map_err(|errno| refused(errno, "attach"))?;
                    &old[..]
                }
                Err(errno) => return Err(refused(errno, "replace")),
            };
            for program in rest {
                bpf::detach(group, program.as_fd()).map_err(|errno| refused(errno, "take off"))?;
            }
        }
    }
    // Asked back: the kernel has it where it was put.
    let wanted = bpf::look(&program).map_err(|errno| refused(errno, "look at"))?;
    let (ids, count) = bpf::attached(group).map_err(|errno| refused(errno, "look for"))?;
    if !ids[..count].contains(&wanted.id) {
        return Err(refused(Errno::NOENT, "find the attached"));
    }
    Ok(())
}

/// Our programs on the group.
fn ours(group: BorrowedFd<'_>) -> rustix::io::Result<Vec<OwnedFd>> {
    let (ids, count) = bpf::attached(group)?;
    let mut programs = Vec::new();
    for id in &ids[..count] {
        let program = match bpf::by_id(*id) {
            Ok(program) => program,
            // Taken off this moment.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        if bpf::look(&program)?.name.starts_with(NAME.as_bytes()) {
            programs.push(program);
        }
    }
    Ok(programs)
}

/// What stands there for people: nothing when no program of ours is attached.
pub(crate) fn describe(group: BorrowedFd<'_>) -> Option<Vec<String>> {
    let programs = ours(group).ok()?;
    let line = |program: &OwnedFd| -> Option<String> {
        let found = bpf::look(program).ok()?;
        let tag: String = found.tag.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("bpf program {} tag {tag}", found.id))
    };
    let lines: Vec<String> = programs.iter().filter_map(line).collect();
    (!lines.is_empty()).then_some(lines)
}

/// Whether the kernel can: a program that allows everything is loaded and dropped.
///
/// # Errors
/// What the kernel says.
pub fn probe() -> Result<()> {
    bpf::load_device_program(&compile(&[]), NAME).map(drop).map_err(|errno| refused(errno, "load"))
}

fn refused(errno: Errno, what: &'static str) -> Error {
    Error::Filter {
        limit: LIMIT,
        what,
        hint: match errno {
            Errno::NOSYS | Errno::INVAL => {
                "this kernel was built without CONFIG_CGROUP_BPF, or a group above allows no further program"
            }
            Errno::PERM | Errno::ACCESS => "run as root with CAP_BPF and CAP_SYS_ADMIN",
            Errno::TOOBIG | Errno::NOMEM => "the list is too long for the kernel: name fewer devices",
            _ => "the kernel refused",
        },
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::devices::DEFAULT;
    use proptest::prelude::*;

    /// What the kernel would do, for the instructions that are used here; none when it would refuse the program.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> Option<u64> {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        // No loops: each instruction is met once at most.
        for _ in 0..=program.len() {
            let word = *program.get(at)?;
            let (to, from) = ((word >> 8 & 0xf) as usize, (word >> 12 & 0xf) as usize);
            let (offset, immediate) = ((word >> 16) as i16, (word >> 32) as u32);
            at += 1;
            match word as u8 {
                LOAD_WORD => registers[to] = u64::from(*context.get(offset as usize / 4)?),
                MOVE_32 => registers[to] = registers[from] & 0xffff_ffff,
                AND_32 => registers[to] = u64::from(registers[to] as u32 & immediate),
                SHIFT_RIGHT_32 => registers[to] = u64::from((registers[to] as u32) >> immediate),
                MOVE_64 => registers[to] = u64::from(immediate),
                JUMP_NOT_EQUAL_32 if registers[to] as u32 != immediate => {
                    at = at.checked_add_signed(offset.into())?;
                }
                JUMP_NOT_EQUAL_32 => {}
                EXIT => return Some(registers[0]),
                _ => return None,
            }
        }
        None
    }

    fn allows(rules: &[DeviceRule], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let of = |rule: &DeviceRule| match rule.kind {
            DeviceKind::Block => BLOCK,
            DeviceKind::Char => CHAR,
        };
        merged(rules).iter().any(|rule| {
            of(rule) == kind
                && rule.major.is_none_or(|own| own == major)
                && rule.minor.is_none_or(|own| own == minor)
                && access & !bits(rule.access) == 0
        })
    }

    #[test]
    fn the_default_list_allows_null_and_refuses_disks() {
        let program = compile(&DEFAULT);
        assert_eq!(run(&program, CHAR, READ | WRITE, 1, 3), Some(1));
        assert_eq!(run(&program, CHAR, READ, 1, 1), Some(0), "/dev/mem");
        assert_eq!(run(&program, BLOCK, READ, 254, 0), Some(0));
        assert_eq!(run(&program, BLOCK, MKNOD, 254, 0), Some(1));
        assert_eq!(run(&program, BLOCK, MKNOD | READ, 254, 0), Some(0));
    }

    #[test]
    fn reading_and_writing_allowed_by_two_rules_is_allowed_at_once() {
        let one = |access| DeviceRule { kind: DeviceKind::Char, major: Some(10), minor: Some(229), access };
        let read = Access { read: true, write: false, mknod: false };
        let write = Access { read: false, write: true, mknod: false };
        assert_eq!(run(&compile(&[one(read), one(write)]), CHAR, READ | WRITE, 10, 229), Some(1));
    }

    fn rule() -> impl Strategy<Value = DeviceRule> {
        let number = || prop::option::of(prop_oneof![0u32..4, Just(u32::MAX), Just(1 << 31)]);
        let kind = prop_oneof![Just(DeviceKind::Char), Just(DeviceKind::Block)];
        (kind, number(), number(), any::<(bool, bool, bool)>()).prop_map(
            |(kind, major, minor, (read, write, mknod))| DeviceRule {
                kind,
                major,
                minor,
                access: Access { read, write, mknod },
            },
        )
    }

    proptest! {
        #[test]
        fn the_program_says_what_the_rules_say(
            rules in prop::collection::vec(rule(), 0..8),
            kind in 1u32..=2,
            access in 1u32..8,
            major in prop_oneof![0u32..4, Just(u32::MAX), Just(1 << 31)],
            minor in prop_oneof![0u32..4, Just(u32::MAX), Just(1 << 31)],
        ) {
            let said = run(&compile(&rules), kind, access, major, minor);
            prop_assert_eq!(said, Some(u64::from(allows(&rules, kind, access, major, minor))));
        }
    }
}
